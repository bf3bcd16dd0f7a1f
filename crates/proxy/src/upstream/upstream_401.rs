//! An app that answers 401 to a token which is good by all that is known: one refresh, and the
//! request once more.

use foregate_config::Snapshot;
use foregate_refresh::TokenEndpoint;
use foregate_session::UnixSeconds;
use http::Method;
use http::request::Parts;

use crate::admission::{Gate, Grant, renewer};
use crate::request;

/// What becomes of an app's 401.
pub(crate) enum After401 {
    /// The request goes to the app once more, as this grant has it; the first answer is dropped.
    Again(Grant),
    /// It goes to the visitor, with the cookies that this grant owes him now.
    Passes(Grant),
}

/// The request as it came, where a second try may follow a 401: it only reads, and a session
/// speaks for it whose tokens somebody can renew. `is_plain`: it has no body and opens no
/// WebSocket.
pub(crate) fn kept(
    snapshot: &Snapshot,
    grant: &Grant,
    parts: &Parts,
    is_plain: bool,
) -> Option<Parts> {
    let reads = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let can_renew = || {
        let session = grant.session.as_ref();
        session.is_some_and(|session| {
            session.access_token().is_some() && renewer(snapshot, session).is_some()
        })
    };
    let keeps = snapshot.refresh.on_upstream_401 && is_plain && reads && can_renew();
    keeps.then(|| parts.clone())
}

impl<E: TokenEndpoint> Gate<'_, E> {
    /// Looks for other tokens than those that the app rejected; `asked` is what [`kept`] kept. The
    /// rules decide again, since the new token may name other roles. Where the backend refuses,
    /// the session is over: its cookies are cleared. `now`: the time of the answer.
    pub(crate) async fn after_401(
        &self,
        mut grant: Grant,
        asked: &Parts,
        now: UnixSeconds,
    ) -> After401 {
        let (Some(session), Ok(head)) = (&grant.session, request::head_of(asked)) else {
            return After401::Passes(grant);
        };
        let (Some(backend), Ok(route)) =
            (renewer(self.snapshot, session), self.snapshot.rules.route(&head))
        else {
            return After401::Passes(grant);
        };
        let cookies = request::cookies(&asked.headers);
        match Box::pin(self.refresher.replace_rejected(backend, session, now)).await {
            Some(Ok(tokens)) => {
                if session.access_token() == Some(tokens.access_token.expose()) {
                    return After401::Passes(grant);
                }
                let session = session.renewed(&tokens.as_new_tokens());
                match self.renewed(&route, &head, session, &cookies, now) {
                    Ok(grant) => return After401::Again(grant),
                    Err(turned) => grant.set_cookies = turned.set_cookies,
                }
            }
            Some(Err(error)) if error.retry_after().is_none() => {
                grant.set_cookies = self.snapshot.keyring.clear_cookies(&cookies);
            }
            Some(Err(_)) | None => {}
        }
        After401::Passes(grant)
    }
}

#[cfg(test)]
mod tests {
    use foregate_session::Session;

    use super::*;
    use crate::fixtures::{NOW, Yard};

    /// What became of a 401 to a GET of `path`: `again` and the new token, or `passes`; then what
    /// is owed.
    async fn told(yard: &Yard, path: &str, sent: &Session) -> String {
        let parts = yard.get(path, sent);
        let grant = yard.admit(&parts).await;
        let kept = kept(&yard.snapshot, &grant, &parts, true).expect("a second try is possible");
        let (word, grant) = match yard.gate().after_401(grant, &kept, NOW).await {
            After401::Again(grant) => ("again", grant),
            After401::Passes(grant) => ("passes", grant),
        };
        let token = grant.session.as_ref().and_then(Session::access_token).unwrap_or_default();
        let owed = match grant.set_cookies.first() {
            None => "",
            Some(line) if line.contains("Max-Age=0") => ", cleared",
            Some(_) => ", set",
        };
        format!("{word} {token}{owed}")
    }

    #[tokio::test]
    async fn a_401_is_asked_again_with_a_new_token() {
        let yard = Yard::new("");
        let sent = yard.session("a0", "r0");
        yard.answers(200, r#"{"accessToken":"a1","refreshToken":"r1"}"#);
        assert_eq!(told(&yard, "/", &sent).await, "again a1, set");
        assert_eq!(told(&yard, "/", &sent).await, "again a1, set", "now the ledger knows");
        assert_eq!(yard.calls(), 1);
    }

    #[tokio::test]
    async fn a_refusal_ends_the_session_and_a_blip_does_not() {
        let yard = Yard::new("");
        let sent = yard.session("a0", "r0");
        yard.answers(500, "");
        assert_eq!(told(&yard, "/", &sent).await, "passes a0");
        let other = yard.session("a0", "s0");
        yard.answers(401, "");
        assert_eq!(told(&yard, "/", &other).await, "passes a0, cleared");
        assert_eq!(yard.calls(), 2);
    }

    #[tokio::test]
    async fn a_token_that_comes_back_the_same_is_not_tried_again() {
        let yard = Yard::new("");
        let sent = yard.session("a0", "r0");
        yard.answers(200, r#"{"accessToken":"a0","refreshToken":"r1"}"#);
        assert_eq!(told(&yard, "/", &sent).await, "passes a0");
        assert_eq!(told(&yard, "/", &sent).await, "passes a0");
        assert_eq!(yard.calls(), 1);
    }

    #[tokio::test]
    async fn the_new_token_s_roles_count() {
        let yard = Yard::new("");
        // `{"realm_access":{"roles":["admin"]}}` and `{}`
        let (admin, nobody) =
            ("e30.eyJyZWFsbV9hY2Nlc3MiOnsicm9sZXMiOlsiYWRtaW4iXX19.x", "e30.e30.x");
        let sent = yard.session(admin, "r0");
        yard.answers(200, &format!(r#"{{"accessToken":"{nobody}","refreshToken":"r1"}}"#));
        assert_eq!(told(&yard, "/admin", &sent).await, format!("passes {admin}, set"));
        assert_eq!(told(&yard, "/", &sent).await, format!("again {nobody}, set"));
    }

    #[tokio::test]
    async fn only_a_reading_request_of_a_session_that_can_be_renewed_is_kept() {
        let check =
            async |yard: &Yard, method: &str, sent: Session, is_plain: bool, wanted: bool| {
                let mut parts = yard.get("/", &sent);
                parts.method = method.parse().unwrap();
                let grant = yard.admit(&parts).await;
                let kept = kept(&yard.snapshot, &grant, &parts, is_plain);
                assert_eq!(kept.is_some(), wanted, "{method} {is_plain}");
            };
        let yard = Yard::new("");
        for method in ["GET", "HEAD", "OPTIONS"] {
            check(&yard, method, yard.session("a0", "r0"), true, true).await;
        }
        check(&yard, "POST", yard.session("a0", "r0"), true, false).await;
        check(&yard, "GET", yard.session("a0", "r0"), false, false).await;
        check(&yard, "GET", yard.session("a0", ""), true, false).await;
        check(&yard, "GET", yard.session("", "r0"), true, false).await;
        let off = Yard::new("[refresh]\non_upstream_401 = false\n");
        check(&off, "GET", off.session("a0", "r0"), true, false).await;
    }
}
