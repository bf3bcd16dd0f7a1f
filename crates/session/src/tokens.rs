//! The backend's tokens inside a payload: where they stand, and how new ones take their place in
//! the unit and the JSON type that the app's own code expects.

use std::ops::Range;

use crate::claim_path::ClaimPath;
use crate::claims::{Claim, Claims};
use crate::json;
use crate::jwt::Jwt;
use crate::secret::Secret;
use crate::time::{Stamp, Unit, UnixSeconds};

/// Where a payload may keep its tokens. Of each list the first path that leads to something counts:
/// a text that is not empty for a token, a readable time for an expiry. The paths are meant within
/// the session's payload.
#[derive(Clone, Debug)]
pub struct TokenPaths {
    /// What is sent as `Authorization: Bearer`.
    pub access_token: Vec<ClaimPath>,
    /// The n-th path is where a payload whose access token stands at the n-th keeps its expiry.
    pub expires_at: Vec<ClaimPath>,
    /// What buys a new pair.
    pub refresh_token: Vec<ClaimPath>,
    /// When the refresh token ends.
    pub refresh_expires_at: Vec<ClaimPath>,
}

/// The shapes of the two seeds, in this order, and of Keycloak examples and the Auth.js guide.
impl Default for TokenPaths {
    fn default() -> Self {
        let paths = |names: &[&str]| {
            names.iter().map(|name| ClaimPath::in_session(name).expect("a path of ours")).collect()
        };
        Self {
            access_token: paths(&["accessToken", "token", "access_token"]),
            expires_at: paths(&[MILLISECONDS_BY_CUSTOM, "accessTokenExpires", "expires_at"]),
            refresh_token: paths(&["refreshToken", "refresh_token"]),
            refresh_expires_at: paths(&["refreshTokenExpires"]),
        }
    }
}

/// Seed A's name for the access token's expiry, which it counts in milliseconds.
const MILLISECONDS_BY_CUSTOM: &str = "accessTokenExpiry";

/// Tokens that a backend has just given. All are visible ASCII.
#[derive(Clone, Copy)]
pub struct NewTokens<'a> {
    /// Takes the place of the old one.
    pub access_token: &'a str,
    /// `None`: the token itself may tell.
    pub access_expires_at: Option<UnixSeconds>,
    /// `None`: the old one stays.
    pub refresh_token: Option<&'a str>,
    /// `None`: the token itself may tell.
    pub refresh_expires_at: Option<UnixSeconds>,
    /// Kept only if the payload had one, since it makes the cookie big.
    pub id_token: Option<&'a str>,
}

/// A token has bytes outside visible ASCII, so it must not get into a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadToken;

/// The tokens found in a payload.
#[derive(Clone, Default)]
pub(crate) struct Tokens {
    pub(crate) access: Option<Token>,
    pub(crate) refresh: Option<Token>,
}

impl Tokens {
    pub(crate) fn find(claims: &Claims, paths: &TokenPaths) -> Result<Self, BadToken> {
        let find = |paths: &[ClaimPath]| match token_path(claims, paths) {
            Some(path) => Token::read(claims, path).map(Some),
            None => Ok(None),
        };
        Ok(Self { access: find(&paths.access_token)?, refresh: find(&paths.refresh_token)? })
    }
}

fn token_path<'p>(claims: &Claims, paths: &'p [ClaimPath]) -> Option<&'p ClaimPath> {
    let holds_text = |claim: Claim<'_>| claim.quoted().is_some_and(|text| !text.is_empty());
    paths.iter().find(|path| claims.at(&path.steps).is_some_and(holds_text))
}

/// One token, visible ASCII. Its text mostly stands in the payload as it is.
#[derive(Clone)]
pub(crate) enum Token {
    Within(Range<usize>),
    Unescaped(Secret),
}

impl Token {
    fn read(claims: &Claims, path: &ClaimPath) -> Result<Self, BadToken> {
        let span = claims.span(&path.steps).ok_or(BadToken)?;
        let within = span.start + 1..span.end - 1;
        let raw = &claims.text()[within.clone()];
        let told = json::unescape(raw).ok_or(BadToken)?;
        // One pass without a branch per byte.
        if !told.bytes().fold(true, |sound, byte| sound & byte.is_ascii_graphic()) {
            return Err(BadToken);
        }
        Ok(if told.len() == raw.len() {
            Self::Within(within)
        } else {
            Self::Unescaped(Secret::new(told))
        })
    }

    /// The token's text, out of the claims it was found in.
    pub(crate) fn text<'a>(&'a self, claims: &'a Claims) -> &'a str {
        match self {
            Self::Within(span) => &claims.text()[span.clone()],
            Self::Unescaped(text) => text.expose(),
        }
    }
}

/// The first time that one of `paths` tells.
pub(crate) fn told_time(claims: &Claims, paths: &[ClaimPath]) -> Option<UnixSeconds> {
    paths.iter().find_map(|path| Some(Expiry::read(claims, path)?.stamp.at))
}

/// An expiry as an app wrote it.
struct Expiry {
    stamp: Stamp,
    in_quotes: bool,
}

impl Expiry {
    fn read(claims: &Claims, path: &ClaimPath) -> Option<Self> {
        let claim = claims.at(&path.steps)?;
        let stamp = Stamp::read(claim.as_count()?)?;
        Some(Self { stamp, in_quotes: claim.quoted().is_some() })
    }

    /// `at` in JSON, in this expiry's unit and type. A time that is no time (0) tells no unit, so
    /// then the name does.
    fn rewritten(&self, at: UnixSeconds, path: &ClaimPath) -> String {
        let unit =
            if self.stamp.at > UnixSeconds(0) { self.stamp.unit } else { unit_by_custom(path) };
        let count = unit.count(at);
        if self.in_quotes { format!("\"{count}\"") } else { count.to_string() }
    }
}

fn unit_by_custom(path: &ClaimPath) -> Unit {
    match path.steps.last() {
        Some(name) if **name == *MILLISECONDS_BY_CUSTOM => Unit::Milliseconds,
        _ => Unit::Seconds,
    }
}

/// `claims` with new tokens in the place of the old ones and without `error`; everything else as
/// it was.
pub(crate) fn renewed(claims: &Claims, paths: &TokenPaths, new: &NewTokens<'_>) -> Claims {
    let mut claims = claims.without(&["error".into()]);

    let old = token_path(&claims, &paths.access_token);
    let shape = paths.access_token.iter().position(|path| Some(path) == old).unwrap_or(0);
    if let Some(path) = paths.access_token.get(shape) {
        claims = claims.with(&path.steps, &json::quote(new.access_token));
    }
    let told = jwt_end(new.access_token);
    let end = new.access_expires_at.or(told);
    match (replace_end(&mut claims, &paths.expires_at, end), end) {
        (Replaced::NoneFound, Some(end)) if told.is_none() => {
            let usual = paths.expires_at.get(shape).or_else(|| paths.expires_at.first());
            if let Some(path) = usual {
                let count = unit_by_custom(path).count(end).to_string();
                claims = claims.with(&path.steps, &count);
            }
        }
        _ => {}
    }

    if let Some(token) = new.refresh_token {
        let path =
            token_path(&claims, &paths.refresh_token).or_else(|| paths.refresh_token.first());
        if let Some(path) = path {
            claims = claims.with(&path.steps, &json::quote(token));
        }
    }
    let refresh_end = new.refresh_expires_at.or_else(|| jwt_end(new.refresh_token?));
    if new.refresh_token.is_some() || refresh_end.is_some() {
        replace_end(&mut claims, &paths.refresh_expires_at, refresh_end);
    }

    if let Some(token) = new.id_token {
        for name in ["id_token", "idToken"] {
            if claims.claim(name).is_some() {
                claims = claims.with(&[name.into()], &json::quote(token));
            }
        }
    }
    claims
}

/// Whether a payload had an expiry.
enum Replaced {
    Found,
    NoneFound,
}

/// Writes `end` where the payload keeps an expiry. An unknown end takes the old one out, for it
/// would be told of the wrong token.
fn replace_end(claims: &mut Claims, paths: &[ClaimPath], end: Option<UnixSeconds>) -> Replaced {
    let found = paths.iter().find_map(|path| Some((path, Expiry::read(claims, path)?)));
    let Some((path, old)) = found else { return Replaced::NoneFound };
    *claims = match end {
        Some(end) => claims.with(&path.steps, &old.rewritten(end, path)),
        None => claims.without(&path.steps),
    };
    Replaced::Found
}

/// When `token` ends by its own account. Zero is how Keycloak says "never" of offline tokens.
pub(crate) fn jwt_end(token: &str) -> Option<UnixSeconds> {
    Jwt::read(token)?.expires_at()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JWT that ends at 1767229200 and was issued at 1767225600.
    const JWT: &str = "e30.eyJpYXQiOjE3NjcyMjU2MDAsImV4cCI6MTc2NzIyOTIwMH0.c2ln";

    fn claims(text: &str) -> Claims {
        Claims::parse(text.to_owned()).unwrap()
    }

    fn opaque(end: i64) -> NewTokens<'static> {
        NewTokens {
            access_token: "new",
            access_expires_at: Some(UnixSeconds(end)),
            refresh_token: Some("next"),
            refresh_expires_at: None,
            id_token: Some("i2"),
        }
    }

    fn check(payload: &str, new: &NewTokens<'_>, wanted: &str) {
        let renewed = renewed(&claims(payload), &TokenPaths::default(), new);
        assert_eq!(renewed.text(), wanted);
    }

    #[test]
    fn each_known_shape_is_renewed_in_its_own_units() {
        let seed_a =
            r#"{"sub":"1","accessToken":"a","accessTokenExpiry":1767225600000,"refreshToken":"r"}"#;
        let renewed_a = r#"{"sub":"1","accessToken":"new","accessTokenExpiry":1767229200000,"refreshToken":"next"}"#;
        check(seed_a, &opaque(1_767_229_200), renewed_a);
        let seed_b = r#"{"token":"a","accessTokenExpires":1767225600,"refreshToken":"r","refreshTokenExpires":1767312000,"isAdmin":true}"#;
        let renewed_b = r#"{"token":"new","accessTokenExpires":1767229200,"refreshToken":"next","refreshTokenExpires":1767315600,"isAdmin":true}"#;
        let end = Some(UnixSeconds(1_767_315_600));
        check(seed_b, &NewTokens { refresh_expires_at: end, ..opaque(1_767_229_200) }, renewed_b);
        let keycloak = r#"{"access_token":"a","expires_at":1767225600,"refresh_token":"r","id_token":"i","provider":"keycloak"}"#;
        let renewed_keycloak = r#"{"access_token":"new","expires_at":1767229200,"refresh_token":"next","id_token":"i2","provider":"keycloak"}"#;
        check(keycloak, &opaque(1_767_229_200), renewed_keycloak);
        let guide = r#"{"access_token":"a","expires_at":1767225600,"refresh_token":"r","error":"RefreshTokenError"}"#;
        let renewed_guide =
            r#"{"access_token":"new","expires_at":1767229200,"refresh_token":"next"}"#;
        check(guide, &opaque(1_767_229_200), renewed_guide);
    }

    #[test]
    fn an_end_is_written_in_the_type_it_had() {
        let new = opaque(1_767_229_200);
        let check = |old: &str, wanted: &str| {
            let payload = format!(r#"{{"accessToken":"a","accessTokenExpiry":{old}}}"#);
            let renewed = renewed(&claims(&payload), &TokenPaths::default(), &new);
            let written = renewed.claim("accessTokenExpiry").map(Claim::text);
            assert_eq!(written, Some(wanted), "{old}");
        };
        check("1767225600", "1767229200");
        check("1767225600.25", "1767229200");
        check("1.7672256e9", "1767229200");
        check("\"1767225600\"", "\"1767229200\"");
        check("\"1767225600000\"", "\"1767229200000\"");
        // These tell no unit, so the member's name does.
        check("0", "1767229200000");
        check("null", "1767229200000");
        check("\"soon\"", "1767229200000");
    }

    #[test]
    fn an_end_that_nobody_wrote_is_added_only_where_the_token_tells_none() {
        let new = opaque(1_767_229_200);
        let jwt = NewTokens { access_token: JWT, access_expires_at: None, ..new };
        check(
            r#"{"accessToken":"a"}"#,
            &new,
            r#"{"accessToken":"new","accessTokenExpiry":1767229200000,"refreshToken":"next"}"#,
        );
        check(
            r#"{"token":"a","refreshToken":"r"}"#,
            &new,
            r#"{"token":"new","refreshToken":"next","accessTokenExpires":1767229200}"#,
        );
        check(
            r#"{"access_token":"a","refresh_token":"r"}"#,
            &new,
            r#"{"access_token":"new","refresh_token":"next","expires_at":1767229200}"#,
        );
        let wanted = format!(r#"{{"token":"{JWT}","refreshToken":"next"}}"#);
        check(r#"{"token":"a","refreshToken":"r"}"#, &jwt, &wanted);
        let wanted =
            format!(r#"{{"token":"{JWT}","accessTokenExpires":1767229200,"refreshToken":"next"}}"#);
        check(r#"{"token":"a","accessTokenExpires":5,"refreshToken":"r"}"#, &jwt, &wanted);
    }

    #[test]
    fn an_end_that_is_not_known_any_more_goes() {
        let new = NewTokens { access_expires_at: None, ..opaque(0) };
        check(
            r#"{"token":"a","accessTokenExpires":5,"refreshToken":"r","refreshTokenExpires":9}"#,
            &new,
            r#"{"token":"new","refreshToken":"next"}"#,
        );
        // The old refresh token stays, and so does what is known of it.
        check(
            r#"{"token":"a","refreshToken":"r","refreshTokenExpires":9}"#,
            &NewTokens { refresh_token: None, ..new },
            r#"{"token":"new","refreshToken":"r","refreshTokenExpires":9}"#,
        );
    }

    #[test]
    fn tokens_may_stand_deeper_and_under_other_names() {
        let path = |text| vec![ClaimPath::in_session(text).unwrap()];
        let paths = TokenPaths {
            access_token: path("user.jwt"),
            expires_at: path("user.jwtEnd"),
            refresh_token: path("user.again"),
            refresh_expires_at: Vec::new(),
        };
        let payload =
            claims(r#"{"user":{"id":1,"jwt":"a","again":"r"},"accessToken":"untouched"}"#);
        assert_eq!(
            renewed(&payload, &paths, &opaque(7)).text(),
            r#"{"user":{"id":1,"jwt":"new","again":"next","jwtEnd":7},"accessToken":"untouched"}"#,
        );
    }

    #[test]
    fn the_first_path_that_holds_a_text_is_the_token() {
        let check = |payload: &str, wanted: Result<(Option<&str>, Option<&str>), BadToken>| {
            let claims = claims(payload);
            let found = Tokens::find(&claims, &TokenPaths::default());
            let found = found.as_ref().map(|found| {
                let text = |token: &'_ Option<Token>| {
                    token.as_ref().map(|token| token.text(&claims).to_owned())
                };
                (text(&found.access), text(&found.refresh))
            });
            let wanted = wanted.map(|(a, r)| (a.map(str::to_owned), r.map(str::to_owned)));
            assert_eq!(found.map_err(|bad| *bad), wanted, "{payload}");
        };
        check(r#"{"access_token":"c","token":"b","accessToken":"a"}"#, Ok((Some("a"), None)));
        check(r#"{"accessToken":null,"token":"","access_token":"c"}"#, Ok((Some("c"), None)));
        check(r#"{"accessToken":7,"refreshToken":{"a":1}}"#, Ok((None, None)));
        check(
            r#"{"accessToken":"a\u002bb\/c","refreshToken":"r"}"#,
            Ok((Some("a+b/c"), Some("r"))),
        );
        for bad in [r"a b", r"a\nb", r"\u0000", "é", r"\u00e9", r"\ud83d", "a\u{7f}"] {
            check(&format!(r#"{{"accessToken":"{bad}"}}"#), Err(BadToken));
            check(&format!(r#"{{"refreshToken":"{bad}"}}"#), Err(BadToken));
        }
    }
}
