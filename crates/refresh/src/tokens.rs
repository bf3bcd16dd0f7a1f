//! A pair of tokens, and what a JWT says of itself.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use foregate_session::{NewTokens, Secret, UnixSeconds};
use serde_json::Value;

use crate::answer::{Redeemed, timestamp};

/// The tokens of one session, as the backend last gave them.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Visible ASCII, fit for a header.
    pub access_token: Secret,
    /// `None`: nothing tells, so it is good until an app says otherwise.
    pub access_expires_at: Option<UnixSeconds>,
    /// The new one, or the old one where the backend gave no other.
    pub refresh_token: Secret,
    pub refresh_expires_at: Option<UnixSeconds>,
    pub id_token: Option<Secret>,
}

impl Tokens {
    /// What goes into the session's claims.
    pub fn as_new_tokens(&self) -> NewTokens<'_> {
        NewTokens {
            access_token: self.access_token.expose(),
            access_expires_at: self.access_expires_at,
            refresh_token: Some(self.refresh_token.expose()),
            refresh_expires_at: self.refresh_expires_at,
            id_token: self.id_token.as_ref().map(Secret::expose),
        }
    }

    /// Whether the access token may be sent to an app.
    pub(crate) fn good_at(&self, now: UnixSeconds) -> bool {
        self.access_expires_at.is_none_or(|end| end > now)
    }
}

/// What a redemption starts from: a session's tokens, or newer ones that the ledger knows.
pub(crate) struct Held {
    pub(crate) access_token: Option<Secret>,
    pub(crate) refresh_token: Secret,
    pub(crate) refresh_expires_at: Option<UnixSeconds>,
}

/// The backend's new access token speaks of another subject than the old one.
#[derive(Debug, PartialEq)]
pub(crate) struct SubjectChanged;

impl Held {
    /// The pair after a redemption. What the answer leaves out stays as it was.
    pub(crate) fn renewed(&self, redeemed: Redeemed) -> Result<Tokens, SubjectChanged> {
        let subject = |token: &Secret| Jwt::read(token.expose())?.subject;
        let before = self.access_token.as_ref().and_then(subject);
        let after = subject(&redeemed.access_token);
        if before.is_some() && after.is_some() && before != after {
            return Err(SubjectChanged);
        }
        let rotated = redeemed.refresh_token.filter(|token| *token != self.refresh_token);
        let kept_end = if rotated.is_none() { self.refresh_expires_at } else { None };
        Ok(Tokens {
            access_token: redeemed.access_token,
            access_expires_at: redeemed.access_expires_at,
            refresh_token: rotated.unwrap_or_else(|| self.refresh_token.clone()),
            refresh_expires_at: redeemed.refresh_expires_at.or(kept_end),
            id_token: redeemed.id_token,
        })
    }
}

/// The two claims of a JWT (RFC 7519 §4.1) that a refresh looks at. Its signature is the app's to
/// check: these tokens come from the backend itself or out of a sealed cookie.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Jwt {
    pub(crate) subject: Option<String>,
    pub(crate) expires_at: Option<UnixSeconds>,
}

impl Jwt {
    /// `None`: not a JWT, as many access tokens are not.
    pub(crate) fn read(token: &str) -> Option<Self> {
        let parts: Vec<&str> = token.splitn(4, '.').collect();
        let [_, claims, _] = parts[..] else { return None };
        let Value::Object(claims) = serde_json::from_slice(&LENIENT.decode(claims).ok()?).ok()?
        else {
            return None;
        };
        let subject = match claims.get("sub") {
            Some(Value::String(subject)) => Some(subject.clone()),
            Some(Value::Number(subject)) => Some(subject.to_string()),
            _ => None,
        };
        Some(Self { subject, expires_at: claims.get("exp").and_then(timestamp) })
    }
}

/// Home-made backends pad, or leave odd bits behind.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", LENIENT.encode(claims))
    }

    fn redeemed(access_token: &str, refresh_token: Option<&str>) -> Redeemed {
        Redeemed {
            access_token: Secret::new(access_token),
            access_expires_at: None,
            refresh_token: refresh_token.map(Secret::new),
            refresh_expires_at: None,
            id_token: None,
        }
    }

    #[test]
    fn a_refresh_token_that_stays_keeps_its_end() {
        let check = |answered: Option<&str>, expected: (&str, Option<i64>)| {
            let held = Held {
                access_token: None,
                refresh_token: Secret::new("r1"),
                refresh_expires_at: Some(UnixSeconds(77)),
            };
            let tokens = held.renewed(redeemed("a2", answered)).unwrap();
            let end = tokens.refresh_expires_at.map(|end| end.0);
            assert_eq!((tokens.refresh_token.expose(), end), expected);
        };
        check(None, ("r1", Some(77)));
        check(Some("r1"), ("r1", Some(77)));
        check(Some("r2"), ("r2", None));
    }

    #[test]
    fn only_two_jwts_can_disagree_about_the_subject() {
        let check = |before: Option<&str>, after: &str, changed: bool| {
            let held = Held {
                access_token: before.map(Secret::new),
                refresh_token: Secret::new("r1"),
                refresh_expires_at: None,
            };
            assert_eq!(
                held.renewed(redeemed(after, None)).is_err(),
                changed,
                "{before:?}, {after}"
            );
        };
        let (ann, bob) = (jwt(r#"{"sub":"ann"}"#), jwt(r#"{"sub":"bob"}"#));
        let nobody = jwt("{}");
        check(Some(&ann), &bob, true);
        check(Some(&ann), &jwt(r#"{"sub":"ann","iat":1}"#), false);
        check(Some(&ann), &nobody, false);
        check(Some(&ann), "opaque", false);
        check(Some("opaque"), &bob, false);
        check(Some(&nobody), &bob, false);
        check(None, &bob, false);
    }

    #[test]
    fn a_jwt_tells_its_subject_and_its_end() {
        let check = |token: &str, expected: Option<(Option<&str>, Option<i64>)>| {
            let expected = expected.map(|(subject, expires_at)| Jwt {
                subject: subject.map(str::to_owned),
                expires_at: expires_at.map(UnixSeconds),
            });
            assert_eq!(Jwt::read(token), expected, "{token}");
        };
        check(&jwt(r#"{"sub":"ann","exp":1900000000}"#), Some((Some("ann"), Some(1_900_000_000))));
        check(&jwt(r#"{"sub":"müller","exp":0}"#), Some((Some("müller"), None)));
        check(&jwt(r#"{"sub":7,"exp":"soon"}"#), Some((Some("7"), None)));
        check(&jwt(r#"{"sub":null}"#), Some((None, None)));
        check(&jwt("[]"), None);
        check(&jwt("{"), None);
        check("opaque", None);
        check("e30.e30", None);
        check("a.e30.c.d", None);
        check("a.!.c", None);
        check("..", None);
    }
}
