//! Sealing a session, and telling the browser: set, replaced, cleared.

use std::fmt;
use std::sync::Arc;

use crate::claims::Claims;
use crate::cookie::{Cookies, MAX_CHUNKS, Source};
use crate::json;
use crate::jwe::MAX_TOKEN_BYTES;
use crate::keyring::Keyring;
use crate::keys::{Format, Keys};
use crate::names::{library_name, resembles};
use crate::session::{ClaimsError, Session};
use crate::set_cookie::{Scope, chunks};
use crate::time::UnixSeconds;
use crate::tokens::BadToken;

/// A session sealed again, or minted.
pub struct SealedSession {
    name: Arc<str>,
    format: Format,
    token: String,
    expires_at: UnixSeconds,
}

impl SealedSession {
    /// The name of its cookie, without the number of a chunk.
    #[must_use]
    pub fn cookie_name(&self) -> &str {
        &self.name
    }

    /// The sealed text, not yet cut into chunks.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The cookies that hold it.
    pub(crate) fn chunks(&self) -> Vec<(String, &str)> {
        chunks(&self.name, &self.token, self.format)
    }

    /// Its `exp`, and the `Expires` of its cookies.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }
}

/// Shows no token: it is as good as the visitor's password.
impl fmt::Debug for SealedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSession")
            .field("name", &self.name)
            .field("format", &self.format)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// A session to mint, of claims in JSON. Without a `format` it takes that of the settings, and
    /// v4's where they allow both.
    pub fn session_from_claims(
        &self,
        claims_json: &str,
        format: Option<Format>,
    ) -> Result<Session, ClaimsError> {
        if claims_json.len() > MAX_TOKEN_BYTES / 4 * 3 {
            return Err(ClaimsError::TooLong);
        }
        let format = format.or(self.settings.format).unwrap_or(Format::NextAuthV4);
        let name: Arc<str> = match &self.settings.cookie_name {
            Some(name) => name.as_str().into(),
            None => library_name(format, self.attributes.secure).into(),
        };
        let claims = Claims::parse(claims_json.to_owned())?;
        let tokens = Arc::clone(&self.tokens);
        Session::new(name, (format, 0), claims, Source::Nowhere, tokens)
            .map_err(|BadToken| ClaimsError::BadToken)
    }

    /// Seals a session with the first secret, in its own form and for its own cookie name. `iat`,
    /// `exp` and `jti` are written as the library writes them: `exp` is `max_age` away, or the
    /// known end of the refresh token if that comes first. `random` must be new for every call: 16
    /// bytes of it become the IV and 16 the `jti`.
    ///
    /// # Panics
    /// If the settings held no secret.
    #[must_use]
    pub fn seal(&self, session: &Session, now: UnixSeconds, random: [u8; 32]) -> SealedSession {
        let mut expires_at = now.saturating_add(self.settings.max_age);
        if let Some(end) = session.refresh_expires_at().filter(|end| *end > now) {
            expires_at = expires_at.min(end);
        }
        let mut iv = [0; 16];
        let mut jti = [0; 16];
        iv.copy_from_slice(&random[..16]);
        jti.copy_from_slice(&random[16..]);
        let claims = session
            .claims
            .with(&["iat".into()], &now.to_string())
            .with(&["exp".into()], &expires_at.to_string())
            .with(&["jti".into()], &json::quote(&uuid_v4(jti)));

        let Session { name, format, .. } = session;
        let ours = self.names.iter().find(|ours| ours.name == *name);
        let sealed = ours.and_then(|ours| ours.keys.seal(*format, iv, claims.text()));
        let token = sealed.unwrap_or_else(|| {
            let keys = Keys::derive(&[*format], &self.settings.secrets, name);
            keys.seal(*format, iv, claims.text()).expect("settings hold a secret")
        });
        SealedSession { name: Arc::clone(name), format: *format, token, expires_at }
    }

    /// The `Set-Cookie` values that give the browser a sealed session, in the library's order.
    /// Cookies of the request that its name or chunks leave over are cleared. None for a session
    /// so long that nobody would open it again: the visitor keeps what he has.
    #[must_use]
    pub fn set_cookies(&self, sealed: &SealedSession, request: &Cookies<'_>) -> Vec<String> {
        let carried = carried_names(request, |name| {
            name.starts_with(sealed.name.as_bytes()) && resembles(name, &sealed.name)
        });
        let SealedSession { name, format, token, expires_at } = sealed;
        if chunks(name, token, *format).len() > MAX_CHUNKS {
            return Vec::new();
        }
        self.attributes.write(name, token, *format, *expires_at, &carried)
    }

    /// The `Set-Cookie` values that clear what the request carried: every name that resembles a
    /// session cookie's, chunks included, for the host and for the domain.
    #[must_use]
    pub fn clear_cookies(&self, request: &Cookies<'_>) -> Vec<String> {
        let carried = carried_names(request, |name| self.resembles_session(name));
        self.cleared(carried)
    }

    /// The `Set-Cookie` values that sign out for good: as [`Keyring::clear_cookies`], and every
    /// name of ours, carried or not, since other hosts may hold what this one does not see.
    #[must_use]
    pub fn sign_out_cookies(&self, request: &Cookies<'_>) -> Vec<String> {
        let mut names: Vec<&str> = self.names.iter().map(|ours| &*ours.name).collect();
        let carried = carried_names(request, |name| self.resembles_session(name));
        names.extend(carried.iter().filter(|name| self.names.iter().all(|o| *o.name != ***name)));
        self.cleared(names)
    }

    /// The lines that clear `names`, wherever they may have been set.
    fn cleared(&self, names: Vec<&str>) -> Vec<String> {
        let mut lines = Vec::new();
        for name in names {
            lines.push(self.attributes.clear(name, Scope::Host));
            if self.attributes.domain.is_some() {
                lines.push(self.attributes.clear(name, Scope::Configured));
            }
        }
        lines
    }
}

/// The names of the request's cookies that `wanted` picks, each once, in order. A name that could
/// not stand in a `Set-Cookie` line is left out; so is what comes after many.
fn carried_names<'c>(request: &Cookies<'c>, wanted: impl Fn(&[u8]) -> bool) -> Vec<&'c str> {
    let mut names = Vec::new();
    for pair in request.pairs() {
        if let Ok(name) = str::from_utf8(pair.name)
            && is_token(name)
            && wanted(pair.name)
            && !names.contains(&name)
            && names.len() < MAX_CLEARED
        {
            names.push(name);
        }
    }
    names
}

/// Whether `text` is a token, as the names of cookies are (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Browsers keep some 180 cookies of a domain; nobody holds that many of a session.
const MAX_CLEARED: usize = 64;

/// A version 4 UUID (RFC 9562 §5.4).
fn uuid_v4(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(random));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::fixtures::{NOW, keyring, session, settings};
    use crate::keyring::KeyringSettings;

    #[test]
    fn the_claims_of_the_library_are_written_as_it_writes_them() {
        let ring = keyring();
        let seal = |claims: &str| {
            let sealed = ring.seal(&session(claims), NOW, [0xff; 32]);
            let opened = ring.open_token(sealed.cookie_name(), sealed.token(), NOW).unwrap();
            assert_eq!(opened.expires_at(), Some(sealed.expires_at()));
            opened.claims_json().to_owned()
        };
        let jti = r#""jti":"ffffffff-ffff-4fff-bfff-ffffffffffff""#;
        assert_eq!(
            seal(r#"{"sub":"a"}"#),
            format!(r#"{{"sub":"a","iat":1767225600,"exp":1767229200,{jti}}}"#),
        );
        assert_eq!(
            seal(r#"{"exp":1,"sub":"a","jti":{},"iat":null}"#),
            format!(r#"{{"exp":1767229200,"sub":"a",{jti},"iat":1767225600}}"#),
        );
    }

    #[test]
    fn a_session_does_not_outlive_its_refresh_token() {
        let check = |claims: &str, wanted: i64| {
            let sealed = keyring().seal(&session(claims), NOW, [0; 32]);
            assert_eq!(sealed.expires_at(), UnixSeconds(wanted), "{claims}");
        };
        let after_an_hour = NOW.0 + 3600;
        check(r#"{"refreshToken":"r","refreshTokenExpires":1767225700}"#, 1_767_225_700);
        check(r#"{"refreshToken":"r","refreshTokenExpires":1767312000}"#, after_an_hour);
        check(r#"{"refreshToken":"r","refreshTokenExpires":1767225600}"#, after_an_hour);
        check(r#"{"refreshTokenExpires":1767225700}"#, after_an_hour);
    }

    #[test]
    fn two_seals_of_one_session_have_nothing_in_common() {
        let session = session(r#"{"sub":"a"}"#);
        let seal = |random| keyring().seal(&session, NOW, [random; 32]).token().to_owned();
        let (one, two) = (seal(1), seal(2));
        let differ = one.split('.').zip(two.split('.')).filter(|(one, two)| one != two).count();
        assert_eq!(differ, 3);
    }

    #[test]
    fn what_cannot_be_sealed_is_refused() {
        let check = |claims: &str, why| {
            assert_eq!(keyring().session_from_claims(claims, None).err(), Some(why));
        };
        check("[]", ClaimsError::NotAnObject);
        check("{", ClaimsError::NotAnObject);
        check(&"{\"a\":".repeat(100), ClaimsError::TooDeep);
        check(&format!("{{\"a\":\"{}\"}}", "x".repeat(50_000)), ClaimsError::TooLong);
        check(r#"{"accessToken":"a b"}"#, ClaimsError::BadToken);
    }

    #[test]
    fn a_minted_session_takes_the_name_of_its_format() {
        let check = |settings: KeyringSettings, format, wanted| {
            let session = Keyring::new(settings).session_from_claims("{}", format).unwrap();
            assert_eq!((session.cookie_name(), session.format()), wanted);
        };
        let (v4, v5) = (Format::NextAuthV4, Format::AuthjsV5);
        let secure = || KeyringSettings { secure: true, ..settings() };
        check(settings(), None, ("next-auth.session-token", v4));
        check(secure(), Some(v5), ("__Secure-authjs.session-token", v5));
        check(
            KeyringSettings { format: Some(v5), ..settings() },
            None,
            ("authjs.session-token", v5),
        );
        let named = KeyringSettings { cookie_name: Some("acme.sso".to_owned()), ..secure() };
        check(named, Some(v5), ("acme.sso", v5));
    }

    #[test]
    fn new_cookies_clear_what_they_do_not_replace() {
        let domain = Some(".example.com".to_owned());
        let ring = Keyring::new(KeyringSettings { domain, ..settings() });
        let sealed = ring.seal(&session(r#"{"sub":"a"}"#), NOW, [0; 32]);
        let request =
            "next-auth.session-token.0=a; b=c; next-auth.session-token.1=d; authjs.session-token=e";
        let lines = ring.set_cookies(&sealed, &Cookies::parse([request.as_bytes()]));
        let rest = "Domain=.example.com; Path=/; HttpOnly; SameSite=Lax";
        let set = format!(
            "next-auth.session-token={}; Domain=.example.com; Path=/; \
             Expires=Thu, 01 Jan 2026 01:00:00 GMT; HttpOnly; SameSite=Lax",
            sealed.token(),
        );
        let cleared = |chunk| format!("next-auth.session-token.{chunk}=; Max-Age=0; {rest}");
        assert_eq!(lines, [cleared(0), cleared(1), set]);
    }

    #[test]
    fn clearing_names_what_was_carried_for_host_and_domain() {
        let domain = Some(".example.com".to_owned());
        let with_domain = Keyring::new(KeyringSettings { domain, ..settings() });
        let request = "a=b; next-auth.session-token=x; __Secure-authjs.session-token.0=y; next-auth.session-token=z";
        let request = Cookies::parse([request.as_bytes()]);
        let host = "Path=/; HttpOnly";
        assert_eq!(
            with_domain.clear_cookies(&request),
            [
                format!("next-auth.session-token=; Max-Age=0; {host}; SameSite=Lax"),
                format!(
                    "next-auth.session-token=; Max-Age=0; Domain=.example.com; {host}; SameSite=Lax"
                ),
                format!(
                    "__Secure-authjs.session-token.0=; Max-Age=0; {host}; Secure; SameSite=Lax"
                ),
                format!(
                    "__Secure-authjs.session-token.0=; Max-Age=0; Domain=.example.com; {host}; Secure; SameSite=Lax"
                ),
            ],
        );
        assert_eq!(keyring().clear_cookies(&request).len(), 2);
        assert_eq!(keyring().clear_cookies(&Cookies::parse([&b"a=b"[..]])), [""; 0]);
        // Five names: the libraries' four and the chunk that was carried.
        assert_eq!(keyring().sign_out_cookies(&request).len(), 5);
        assert_eq!(with_domain.sign_out_cookies(&request).len(), 10);
    }

    #[test]
    fn no_name_breaks_out_of_a_line_and_no_crowd_makes_many() {
        let odd = "next-auth.session-token\u{e9}=x; next-auth.session-token, b=x; next-auth.session-token\r\nX: y=z";
        assert_eq!(keyring().clear_cookies(&Cookies::parse([odd.as_bytes()])), [""; 0]);
        let crowd: String = (0..5000).map(|n| format!("next-auth.session-token.{n}=x;")).collect();
        assert_eq!(keyring().clear_cookies(&Cookies::parse([crowd.as_bytes()])).len(), MAX_CLEARED);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("\\PC{0,6}", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_with_all_its_claims(
            claims in prop::collection::hash_map("x\\PC{0,6}", json(), 0..6),
            pad in 0_usize..12_000,
            v5: bool,
        ) {
            let mut claims: Value = claims.into_iter().collect();
            claims["sub"] = "somebody".into();
            claims["pad"] = "p".repeat(pad).into();
            let format = if v5 { Format::AuthjsV5 } else { Format::NextAuthV4 };
            let ring = keyring();
            let session = ring.session_from_claims(&claims.to_string(), Some(format)).unwrap();
            let sealed = ring.seal(&session, NOW, [5; 32]);

            // As a browser brings the cookies back.
            let set = ring.set_cookies(&sealed, &Cookies::parse([]));
            let pairs: Vec<&str> = set.iter().rev().map(|line| line.split_once(';').unwrap().0).collect();
            let line = pairs.join("; ");
            let opened = ring.open(&Cookies::parse([line.as_bytes()]), NOW).unwrap();
            let mut told: Value = serde_json::from_str(opened.claims_json()).unwrap();
            for name in ["iat", "exp", "jti"] {
                told.as_object_mut().unwrap().remove(name);
            }
            prop_assert_eq!(told, claims);
        }
    }
}
