//! What an app's answer says of the session cookie, and what Foregate learns from it. The line
//! itself always goes to the visitor as the app wrote it.

use foregate_refresh::TokenEndpoint;
use foregate_session::{AppWord, Session, UnixSeconds};
use http::header::{self, HeaderMap, HeaderValue};

use crate::admission::Gate;

/// What a request asks NextAuth.js for, as far as its answer's cookies are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// `POST …/signout`: the only request whose cleared cookie is a sign-out. NextAuth.js clears
    /// it as well when a callback throws, or when chunks change.
    SignOut,
    /// `…/callback/<provider>`: what it answers with begins a session and continues none.
    SignIn,
    Other,
}

impl Errand {
    /// Of a canonical path. `basePath` and locales stand in front; Next.js' `trailingSlash` adds
    /// one at the end. Letters count as they are, as they do for NextAuth.js.
    pub(crate) fn of(method: &str, path: &str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        if method == "POST" && path.ends_with("/signout") {
            Self::SignOut
        } else if path.contains("/callback/") {
            Self::SignIn
        } else {
            Self::Other
        }
    }
}

/// What an app's answer said of the session cookie, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Nothing: what we owe the visitor may be added.
    Silent,
    /// Something, and its word counts in place of ours.
    Spoken,
    /// Another token pair, which is now known to be the newest.
    Adopted,
    /// A sign-out, which now holds for every copy of the session.
    SignedOut,
}

impl<E: TokenEndpoint> Gate<'_, E> {
    /// Reads the `Set-Cookie` lines of an app's answer, whatever its status, and before it is
    /// decided whether the visitor sees it. `session` is the one that spoke for the request.
    pub(crate) async fn heed(
        &self,
        errand: Errand,
        session: Option<&Session>,
        answer: &HeaderMap,
        now: UnixSeconds,
    ) -> Word {
        if !answer.contains_key(header::SET_COOKIE) {
            return Word::Silent;
        }
        let keyring = &self.snapshot.keyring;
        let mut lines = answer.get_all(header::SET_COOKIE).iter().map(HeaderValue::as_bytes);
        let Some(session) = session else {
            let speaks = lines.any(|line| keyring.session_set_cookie(line).is_some());
            return if speaks { Word::Spoken } else { Word::Silent };
        };
        match keyring.app_word(lines, now) {
            AppWord::Silent => Word::Silent,
            AppWord::Cleared if errand == Errand::SignOut => {
                Box::pin(self.refresher.end(session, now)).await;
                Word::SignedOut
            }
            AppWord::Given(found) if self.adopts(errand, session, &found, now).await => {
                Word::Adopted
            }
            AppWord::Cleared | AppWord::Given(_) | AppWord::Unreadable => Word::Spoken,
        }
    }

    async fn adopts(
        &self,
        errand: Errand,
        sent: &Session,
        found: &Session,
        now: UnixSeconds,
    ) -> bool {
        errand != Errand::SignIn && Box::pin(self.refresher.adopt(sent, found, now)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Yard;

    #[test]
    fn an_errand_is_read_off_the_end_of_a_path() {
        let check = |method: &str, path: &str, wanted: Errand| {
            assert_eq!(Errand::of(method, path), wanted, "{method} {path}");
        };
        check("POST", "/api/auth/signout", Errand::SignOut);
        check("POST", "/docs/de/api/auth/signout/", Errand::SignOut);
        check("GET", "/api/auth/signout", Errand::Other);
        check("POST", "/api/auth/Signout", Errand::Other);
        check("POST", "/api/auth/signouts", Errand::Other);
        check("POST", "/signout/now", Errand::Other);
        check("POST", "/api/auth/callback/credentials", Errand::SignIn);
        check("GET", "/api/auth/callback/keycloak", Errand::SignIn);
        check("GET", "/", Errand::Other);
    }

    #[tokio::test]
    async fn a_pair_that_the_app_got_by_itself_is_adopted() {
        let yard = Yard::new("");
        let sent = yard.session("a0", "r0");
        let found = yard.set_cookie("a1", "r1");
        let heed = async |lines: &[&str]| yard.heed("GET", "/", Some(&sent), lines).await;
        assert_eq!(heed(&[]).await, Word::Silent);
        assert_eq!(heed(&["theme=dark"]).await, Word::Silent);
        assert_eq!(
            heed(&[&yard.set_cookie("a0", "r0")]).await,
            Word::Spoken,
            "rolled, nothing more"
        );
        assert_eq!(yard.newest(&sent), None);
        assert_eq!(heed(&["theme=dark", &found]).await, Word::Adopted);
        assert_eq!(yard.newest(&sent).as_deref(), Some("a1"));
        assert_eq!(heed(&[&found]).await, Word::Spoken);
        assert_eq!(heed(&["next-auth.session-token=junk"]).await, Word::Spoken);
        assert_eq!(yard.newest(&sent).as_deref(), Some("a1"));
    }

    #[tokio::test]
    async fn a_sign_in_continues_no_session_and_a_stranger_has_none() {
        let yard = Yard::new("");
        let sent = yard.session("a0", "r0");
        let found = yard.set_cookie("a1", "r1");
        let callback = "/api/auth/callback/credentials";
        assert_eq!(yard.heed("POST", callback, Some(&sent), &[&found]).await, Word::Spoken);
        assert_eq!(yard.heed("GET", "/", None, &[&found]).await, Word::Spoken);
        assert_eq!(yard.heed("GET", "/", None, &["theme=dark"]).await, Word::Silent);
        assert_eq!(yard.newest(&sent), None);
    }

    #[tokio::test]
    async fn a_cleared_cookie_ends_the_session_only_in_answer_to_a_sign_out() {
        let clear = "next-auth.session-token=; Max-Age=0; Path=/";
        let check = async |method: &str, path: &str, lines: &[&str], word: Word| {
            let yard = Yard::new("");
            let sent = yard.session("a0", "r0");
            assert_eq!(yard.heed(method, path, Some(&sent), lines).await, word, "{method} {path}");
            let ended = word == Word::SignedOut;
            assert_eq!(yard.is_signed_out(&sent).await, ended, "{method} {path}");
        };
        check("POST", "/api/auth/signout", &[clear], Word::SignedOut).await;
        check("POST", "/api/auth/signout", &["theme=dark"], Word::Silent).await;
        check("GET", "/api/auth/session", &[clear], Word::Spoken).await;
        check("POST", "/api/auth/session", &[clear], Word::Spoken).await;
        let yard = Yard::new("");
        let again = yard.set_cookie("a0", "r0");
        check("POST", "/api/auth/signout", &[clear, &again], Word::Spoken).await;
    }
}
