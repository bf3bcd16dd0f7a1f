//! A pair of tokens, and what a redemption makes of it.

use foregate_session::{ClaimPath, Jwt, NewTokens, Secret, Session, UnixSeconds};

use crate::answer::Redeemed;

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
    /// The pair in a session, if it has both.
    pub(crate) fn of(session: &Session) -> Option<Self> {
        let id_token = ["id_token", "idToken"].into_iter().find_map(|name| {
            let path = ClaimPath::in_session(name).ok()?;
            Some(Secret::new(session.claim(&path)?.as_str()?))
        });
        Some(Self {
            access_token: Secret::new(session.access_token()?),
            access_expires_at: session.access_expires_at(),
            refresh_token: Secret::new(session.refresh_token()?),
            refresh_expires_at: session.refresh_expires_at(),
            id_token,
        })
    }

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
        let subject = |token: &Secret| Some(Jwt::read(token.expose())?.subject()?.into_owned());
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

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64URL.encode(claims))
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
}
