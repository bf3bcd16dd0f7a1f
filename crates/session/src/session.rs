//! A session: claims that were sealed by us, and what they say.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::claim_path::{ClaimPath, Root};
use crate::claims::{Claim, Claims};
use crate::cookie::Source;
use crate::freshness::Freshness;
use crate::json::Fault;
use crate::jwt;
use crate::keys::Format;
use crate::no_session::{InvalidReason, NoSession};
use crate::time::UnixSeconds;
use crate::tokens::{self, BadToken, NewTokens, TokenPaths, Tokens};

/// A session that [`Keyring::open`] found sealed with one of our secrets and valid at the time, or
/// one made of it by [`Session::renewed`], or one for [`Keyring::seal`] to mint. A function that
/// takes one has nothing left to check.
///
/// Its claims hold the backend's tokens; `Debug` shows none of them.
///
/// [`Keyring::open`]: crate::Keyring::open
/// [`Keyring::seal`]: crate::Keyring::seal
#[derive(Clone)]
pub struct Session {
    pub(crate) name: Arc<str>,
    pub(crate) format: Format,
    pub(crate) secret: usize,
    pub(crate) claims: Claims,
    pub(crate) source: Source,
    /// Found in `claims`.
    tokens: Tokens,
    paths: Arc<TokenPaths>,
    /// The payload of the access token, decoded at the first question for it.
    access_claims: OnceLock<Option<Box<Claims>>>,
}

impl Session {
    pub(crate) fn new(
        name: Arc<str>,
        (format, secret): (Format, usize),
        claims: Claims,
        source: Source,
        paths: Arc<TokenPaths>,
    ) -> Result<Self, BadToken> {
        let tokens = Tokens::find(&claims, &paths)?;
        let access_claims = OnceLock::new();
        Ok(Self { name, format, secret, claims, source, tokens, paths, access_claims })
    }

    /// The name of the cookie, without the number of a chunk.
    #[must_use]
    pub fn cookie_name(&self) -> &str {
        &self.name
    }

    /// The form it came in, and will be sealed in again.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Which of the configured secrets opened it, counted from 0.
    #[must_use]
    pub fn secret_index(&self) -> usize {
        self.secret
    }

    /// The whole payload as JSON, members in order and as they came.
    #[must_use]
    pub fn claims_json(&self) -> &str {
        self.claims.text()
    }

    /// One claim, of the session or of the access token in it. The latter is read whatever its
    /// `alg` is: we sealed the session that holds it.
    #[must_use]
    pub fn claim(&self, path: &ClaimPath) -> Option<Claim<'_>> {
        match path.root {
            Root::Session => self.claims.at(&path.steps),
            Root::AccessToken => self.access_claims()?.at(&path.steps),
        }
    }

    /// Whom the session stands for: `sub`, a text or a number.
    #[must_use]
    pub fn subject(&self) -> Option<Cow<'_, str>> {
        subject_of(&self.claims)
    }

    /// The cookie's own `exp`. `None`: it does not expire.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        let exp = self.claims.claim("exp")?.as_f64()?;
        Some(UnixSeconds(exp.floor() as i64))
    }

    /// The cookie's own `iat`: when it was sealed.
    #[must_use]
    pub fn sealed_at(&self) -> Option<UnixSeconds> {
        jwt::time(&self.claims, "iat")
    }

    /// Whether both sessions stand for the same person: the `sub` and the `iss` of their access
    /// tokens, their own `sub` and their `email`, as far as both name them, must all be equal, and
    /// one of the three persons' names must be there. `false` where nothing can be compared.
    #[must_use]
    pub fn is_same_person(&self, other: &Self) -> bool {
        let agree = |one: Option<Cow<'_, str>>, two: Option<Cow<'_, str>>| Some(one? == two?);
        let named = |text: &Cow<'_, str>| !text.is_empty();
        let email =
            |session: &Self| Some(session.claims.claim("email")?.as_str()?.into_owned().into());
        let issuer = |session: &Self| {
            let claim = session.access_claims()?.claim("iss")?;
            Some(claim.as_str()?.into_owned().into())
        };
        let names = [
            agree(self.access_subject().map(Cow::Owned), other.access_subject().map(Cow::Owned)),
            agree(self.subject().filter(named), other.subject().filter(named)),
            agree(email(self).filter(named), email(other).filter(named)),
        ];
        let says_yes = names.contains(&Some(true));
        let says_no =
            names.contains(&Some(false)) || agree(issuer(self), issuer(other)) == Some(false);
        says_yes && !says_no
    }

    /// The access token, visible ASCII and not empty.
    #[must_use]
    pub fn access_token(&self) -> Option<&str> {
        Some(self.tokens.access.as_ref()?.text(&self.claims))
    }

    /// The refresh token, visible ASCII and not empty.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&str> {
        Some(self.tokens.refresh.as_ref()?.text(&self.claims))
    }

    /// When the access token ends: the session's claim if there is a readable one, else the JWT's
    /// own `exp`. `None` if nothing tells, or there is no access token.
    #[must_use]
    pub fn access_expires_at(&self) -> Option<UnixSeconds> {
        self.tokens.access.as_ref()?;
        tokens::told_time(&self.claims, &self.paths.expires_at)
            .or_else(|| jwt::time(self.access_claims()?, "exp"))
    }

    /// When the refresh token ends, from the same two places. Zero and below tell nothing.
    #[must_use]
    pub fn refresh_expires_at(&self) -> Option<UnixSeconds> {
        let token = self.refresh_token()?;
        tokens::told_time(&self.claims, &self.paths.refresh_expires_at)
            .filter(|end| *end > UnixSeconds(0))
            .or_else(|| tokens::jwt_end(token))
    }

    /// The access token's own `iat`, if it is a JWT.
    #[must_use]
    pub fn access_issued_at(&self) -> Option<UnixSeconds> {
        jwt::time(self.access_claims()?, "iat")
    }

    /// The access token's own `sub`, if it is a JWT.
    #[must_use]
    pub fn access_subject(&self) -> Option<String> {
        subject_of(self.access_claims()?).map(Cow::into_owned)
    }

    /// How the access token stands. One whose end nothing tells is fresh until the app says 401,
    /// and so is a session without one: there is nothing to renew.
    #[must_use]
    pub fn freshness(&self, now: UnixSeconds, ahead: Duration) -> Freshness {
        match self.access_expires_at() {
            Some(end) => Freshness::judge(end, || self.access_issued_at(), now, ahead),
            None => Freshness::Fresh,
        }
    }

    /// From when on the access token counts as due; `None` where nothing tells its end.
    #[must_use]
    pub fn due_at(&self, ahead: Duration) -> Option<UnixSeconds> {
        let end = self.access_expires_at()?;
        Some(end.saturating_sub(Freshness::margin(end, self.access_issued_at(), ahead)))
    }

    /// The same session with new tokens: in the places of the old ones, their ends in the unit and
    /// JSON type found there. `error` is gone; all other claims are carried over byte for byte.
    ///
    /// Tokens outside visible ASCII make a session without tokens.
    #[must_use]
    pub fn renewed(&self, new: &NewTokens<'_>) -> Self {
        let claims = tokens::renewed(&self.claims, &self.paths, new);
        Self {
            tokens: Tokens::find(&claims, &self.paths).unwrap_or_default(),
            name: Arc::clone(&self.name),
            format: self.format,
            secret: self.secret,
            claims,
            source: Source::Nowhere,
            paths: Arc::clone(&self.paths),
            access_claims: OnceLock::new(),
        }
    }

    /// Whether the payload stands for somebody: it has one of `sub`, `email`, `user` and an access
    /// token. One that does not is no session.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        let told = |claim: Claim<'_>| !matches!(claim.text(), "null" | "\"\"" | "false");
        self.tokens.access.is_some()
            || ["sub", "email", "user"]
                .into_iter()
                .any(|name| self.claims.claim(name).is_some_and(told))
    }

    fn access_claims(&self) -> Option<&Claims> {
        let read = || self.access_token().and_then(jwt::payload).map(Box::new);
        self.access_claims.get_or_init(read).as_deref()
    }
}

fn subject_of(claims: &Claims) -> Option<Cow<'_, str>> {
    let claim = claims.claim("sub")?;
    match claim.as_f64() {
        Some(_) => Some(claim.text().into()),
        None => claim.as_str(),
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("name", &self.name)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// Reads an opened payload and checks its times as both libraries do: `iat`, then `nbf`, then
/// `exp`, numbers where they are there at all, with 15 s of tolerance.
pub(crate) fn valid_claims(payload: Vec<u8>, now: UnixSeconds) -> Result<Claims, NoSession> {
    let text = String::from_utf8(payload).map_err(|_| InvalidReason::NotAnObject)?;
    let claims = Claims::parse(text).map_err(|fault| match fault {
        Fault::NotJson => InvalidReason::NotAnObject,
        Fault::TooDeep => InvalidReason::TooDeep,
    })?;
    let time = |name| match claims.claim(name) {
        None => Ok(None),
        Some(claim) => claim.as_f64().map(Some).ok_or(InvalidReason::BadClaim(name)),
    };
    let now = now.0 as f64;
    let whole = |seconds: f64| UnixSeconds(seconds.floor() as i64);
    time("iat")?;
    if let Some(nbf) = time("nbf")?.filter(|nbf| *nbf > now + TOLERANCE_SECONDS) {
        return Err(NoSession::NotYetValid { valid_from: whole(nbf) });
    }
    if let Some(exp) = time("exp")?.filter(|exp| *exp <= now - TOLERANCE_SECONDS) {
        let sealed_at = jwt::time(&claims, "iat");
        return Err(NoSession::Expired { sealed_at, expires_at: whole(exp) });
    }
    Ok(claims)
}

/// `clockTolerance` in both libraries.
const TOLERANCE_SECONDS: f64 = 15.0;

/// Why claims make no session to mint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    #[error("not a JSON object")]
    NotAnObject,
    #[error("nested too deeply")]
    TooDeep,
    /// The cookies would be more than a request may carry.
    #[error("too long for a session cookie")]
    TooLong,
    #[error("a token in it has characters outside visible ASCII")]
    BadToken,
}

impl From<Fault> for ClaimsError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotJson => Self::NotAnObject,
            Fault::TooDeep => Self::TooDeep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NOW, session};

    /// A JWT with `sub` "jwt", issued at 1767225500, that ends at 1767225620.
    const JWT: &str = "e30.eyJzdWIiOiJqd3QiLCJpYXQiOjE3NjcyMjU1MDAsImV4cCI6MTc2NzIyNTYyMCwiciI6eyJhIjpbMV19fQ.c2ln";

    #[test]
    fn the_claim_tells_the_end_before_the_token_does() {
        let check = |claims: &str, wanted: Option<i64>| {
            let claims = claims.replace("JWT", JWT);
            assert_eq!(session(&claims).access_expires_at(), wanted.map(UnixSeconds), "{claims}");
        };
        check(r#"{"accessToken":"opaque","accessTokenExpiry":1767225700000}"#, Some(1_767_225_700));
        check(r#"{"accessToken":"JWT","accessTokenExpiry":1767225700000}"#, Some(1_767_225_700));
        check(r#"{"accessToken":"JWT","accessTokenExpiry":null}"#, Some(1_767_225_620));
        check(r#"{"token":"JWT"}"#, Some(1_767_225_620));
        check(r#"{"access_token":"opaque"}"#, None);
        check(r#"{"accessTokenExpiry":1767225700000}"#, None);
    }

    #[test]
    fn the_end_of_a_refresh_token_is_known_or_it_is_not() {
        let check = |claims: &str, wanted: Option<i64>| {
            let claims = claims.replace("JWT", JWT);
            assert_eq!(session(&claims).refresh_expires_at(), wanted.map(UnixSeconds), "{claims}");
        };
        check(r#"{"refreshToken":"r","refreshTokenExpires":1767312000}"#, Some(1_767_312_000));
        check(r#"{"refreshToken":"JWT","refreshTokenExpires":0}"#, Some(1_767_225_620));
        check(r#"{"refresh_token":"r"}"#, None);
        check(r#"{"refreshTokenExpires":1767312000}"#, None);
    }

    #[test]
    fn claims_are_read_in_the_session_and_in_its_access_token() {
        let session = session(&format!(r#"{{"sub":7,"user":{{"id":"u"}},"token":"{JWT}"}}"#));
        let text = |path: &str| session.claim(&ClaimPath::parse(path).unwrap()).map(Claim::text);
        assert_eq!(text("session.user.id"), Some("\"u\""));
        assert_eq!(text("access_token.r.a"), Some("[1]"));
        assert_eq!(text("access_token.user.id"), None);
        assert_eq!(session.subject().as_deref(), Some("7"));
        assert_eq!(session.access_subject().as_deref(), Some("jwt"));
        assert_eq!(session.access_issued_at(), Some(UnixSeconds(1_767_225_500)));
    }

    #[test]
    fn freshness_follows_the_token() {
        let check = |claims: &str, ahead: u64, wanted: Freshness| {
            let claims = claims.replace("JWT", JWT);
            let judged = session(&claims).freshness(NOW, Duration::from_secs(ahead));
            assert_eq!(judged, wanted, "{claims}");
        };
        check(r#"{"sub":"a"}"#, 60, Freshness::Fresh);
        check(r#"{"accessToken":"opaque","refreshToken":"r"}"#, 60, Freshness::Fresh);
        check(r#"{"accessToken":"a","accessTokenExpiry":1767225600000}"#, 60, Freshness::Ended);
        check(r#"{"accessToken":"a","accessTokenExpiry":"1767225659"}"#, 60, Freshness::Due);
        check(r#"{"accessToken":"a","accessTokenExpiry":1767225660999}"#, 60, Freshness::Fresh);
        // Twenty seconds are left of a life of 120.
        check(r#"{"accessToken":"JWT"}"#, 20, Freshness::Fresh);
        check(r#"{"accessToken":"JWT"}"#, 3600, Freshness::Due);
    }

    #[test]
    fn a_payload_needs_one_thing_that_names_somebody() {
        let check = |claims: &str, wanted: bool| {
            assert_eq!(session(claims).has_identity(), wanted, "{claims}");
        };
        check(r#"{"sub":"1"}"#, true);
        check(r#"{"sub":0}"#, true);
        check(r#"{"email":"a@b.c"}"#, true);
        check(r#"{"user":{"id":1}}"#, true);
        check(r#"{"accessToken":"a"}"#, true);
        check(r#"{"sub":null,"email":"","name":"Ada","refreshToken":"r"}"#, false);
        check(r#"{"state":"s","provider":"p"}"#, false);
        check("{}", false);
    }

    #[test]
    fn times_are_checked_in_the_libraries_order_and_with_their_tolerance() {
        let check = |claims: &str, wanted: Result<(), NoSession>| {
            let checked = valid_claims(claims.as_bytes().to_vec(), UnixSeconds(1000));
            assert_eq!(checked.map(|_| ()), wanted, "{claims}");
        };
        let bad = |name| Err(InvalidReason::BadClaim(name).into());
        check(r#"{"exp":986,"nbf":1015,"iat":5000}"#, Ok(()));
        let expired = |sealed_at: Option<i64>, expires_at| {
            let sealed_at = sealed_at.map(UnixSeconds);
            Err(NoSession::Expired { sealed_at, expires_at: UnixSeconds(expires_at) })
        };
        let ahead = || Err(NoSession::NotYetValid { valid_from: UnixSeconds(1016) });
        check(r#"{"exp":985}"#, expired(None, 985));
        check(r#"{"exp":984.5,"iat":900}"#, expired(Some(900), 984));
        check(r#"{"exp":985.5}"#, Ok(()));
        check(r#"{"nbf":1016}"#, ahead());
        check(r#"{"exp":1,"nbf":1016.5}"#, ahead());
        check(r#"{"exp":1,"nbf":"1"}"#, bad("nbf"));
        check(r#"{"exp":1,"iat":null}"#, bad("iat"));
        check(r#"{"exp":1e999}"#, Ok(()));
        check("[]", Err(InvalidReason::NotAnObject.into()));
        check("", Err(InvalidReason::NotAnObject.into()));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(70), "]".repeat(70));
        check(&deep, Err(InvalidReason::TooDeep.into()));
    }

    #[test]
    fn persons_are_told_apart_by_every_name_that_both_sessions_have() {
        let check = |one: &str, two: &str, same| {
            let [one, two] = [one, two].map(|claims| session(&claims.replace("JWT", JWT)));
            assert_eq!(
                one.is_same_person(&two),
                same,
                "{} {}",
                one.claims_json(),
                two.claims_json()
            );
            assert_eq!(two.is_same_person(&one), same);
        };
        // `{"sub":"ann"}`
        let ann = r#"{"sub":"1","accessToken":"e30.eyJzdWIiOiJhbm4ifQ.x"}"#;
        check(r#"{"sub":"1","accessToken":"JWT"}"#, r#"{"sub":"1","accessToken":"JWT"}"#, true);
        check(r#"{"sub":"1","accessToken":"JWT"}"#, r#"{"sub":"2","accessToken":"JWT"}"#, false);
        // `{"sub":"ann","iss":"b"}`, `{"sub":"ann","iss":"c"}`
        let b = r#"{"accessToken":"e30.eyJzdWIiOiJhbm4iLCJpc3MiOiJiIn0.x"}"#;
        let c = r#"{"accessToken":"e30.eyJzdWIiOiJhbm4iLCJpc3MiOiJjIn0.x"}"#;
        check(b, b, true);
        check(b, c, false);
        check(b, ann, true);
        let other_email = r#"{"sub":"1","email":"e","accessToken":"opaque"}"#;
        check(r#"{"sub":"1","email":"a","accessToken":"opaque"}"#, other_email, false);
        check(r#"{"sub":"1","accessToken":"JWT"}"#, ann, false);
        check(ann, r#"{"sub":"1","accessToken":"opaque"}"#, true);
        check(r#"{"sub":"1","email":"a"}"#, r#"{"sub":"2","email":"a"}"#, false);
        check(r#"{"sub":"1","email":"a"}"#, r#"{"email":"a"}"#, true);
        check(r#"{"email":"a"}"#, r#"{"email":"b"}"#, false);
        check(r#"{"sub":"","email":"a"}"#, r#"{"sub":"","email":"b"}"#, false);
        check(r#"{"sub":"1"}"#, r#"{"email":"a"}"#, false);
        check(r#"{"user":{"id":1}}"#, r#"{"user":{"id":1}}"#, false);
    }

    #[test]
    fn debug_shows_no_token() {
        let session = session(r#"{"sub":"ada","accessToken":"hidden"}"#);
        let shown = format!("{session:?}");
        assert!(!shown.contains("hidden") && !shown.contains("ada"), "{shown}");
    }

    #[test]
    fn new_tokens_that_could_not_stand_in_a_header_are_not_sent() {
        let new = NewTokens {
            access_token: "a\nb",
            access_expires_at: None,
            refresh_token: None,
            refresh_expires_at: None,
            id_token: None,
        };
        let renewed = session(r#"{"sub":"a","accessToken":"old"}"#).renewed(&new);
        assert_eq!((renewed.access_token(), renewed.subject().as_deref()), (None, Some("a")));
    }
}
