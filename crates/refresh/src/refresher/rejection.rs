//! An access token that an app rejects, though by all that is known it is good: revoked, or of an
//! unknown end.

use std::sync::Arc;
use std::time::Duration;

use foregate_session::{Session, UnixSeconds};

use crate::backend::Backend;
use crate::endpoint::TokenEndpoint;
use crate::ledger::Known;
use crate::lineage::Lineage;
use crate::outcome::RefreshError;
use crate::refresher::{Ask, Refresher, answer, is_its_own};
use crate::tokens::Tokens;

impl<E: TokenEndpoint> Refresher<E> {
    /// Tokens in the place of those of `session`, whose access token an app has answered with 401:
    /// newer ones from the ledger, or else from the backend. Waits and may be dropped as
    /// [`Refresher::refresh`].
    ///
    /// `None`: the app's word stands. The session has nothing to renew, its token was issued less
    /// than 10 s ago, so that another one would fare no better, or the backend has been asked
    /// before and gave the same one.
    pub async fn replace_rejected(
        &self,
        backend: &Arc<Backend>,
        session: &Session,
        now: UnixSeconds,
    ) -> Option<Result<Arc<Tokens>, RefreshError>> {
        let (_, refresh_token) = (session.access_token()?, session.refresh_token()?);
        if let Err(error) = self.look(refresh_token, now).await {
            return Some(Err(error));
        }
        let begun = {
            let table = self.0.table();
            let known = self.0.ledger.find(&Lineage::of(refresh_token), now);
            let own = match &known {
                Some(Known::Pair(pair)) => is_its_own(pair, session).then_some(pair),
                Some(Known::SignedOut) | None => None,
            };
            if own.is_some() || known.is_none() {
                let issued_at = session
                    .access_issued_at()
                    .or_else(|| own.map(|pair| pair.obtained_at))
                    .or_else(|| session.sealed_at());
                let is_young = issued_at.is_some_and(|at| now.since(at) < YOUNG);
                if is_young || own.is_some_and(|pair| pair.is_the_same_again) {
                    return None;
                }
            }
            self.begin(table, &Ask { backend, session, refresh_token, was_rejected: true, now })
        };
        Some(answer(session, begun).await)
    }
}

/// An app that rejects a token which has just been issued would reject the next one, too.
const YOUNG: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
    use tokio::task::JoinSet;
    use tokio::time::advance;

    use super::*;
    use crate::refresher::fake::{Gate, LIFE, Plan, START, told};

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What the session gets after a 401.
    async fn rejected(gate: &Gate, session: &Session) -> String {
        match gate.refresher.replace_rejected(&gate.backend, session, gate.now()).await {
            Some(answer) => told(&answer),
            None => "the 401".to_owned(),
        }
    }

    /// A session that says nothing of its access token's end.
    fn endless(gate: &Gate, more: &str) -> Session {
        gate.fake.world().live.insert("ann-r0".to_owned(), "ann".to_owned());
        gate.claims(&format!(
            r#"{{"sub":"ann","accessToken":"ann-a0","refreshToken":"ann-r0"{more}}}"#
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_token_is_replaced_once_and_then_the_ledger_knows() {
        let gate = Gate::new();
        let ann = endless(&gate, "");
        let visits: JoinSet<String> = (0..50)
            .map(|_| {
                let (refresher, backend) = (gate.refresher.clone(), Arc::clone(&gate.backend));
                let (ann, now) = (ann.clone(), gate.now());
                async move { told(&refresher.replace_rejected(&backend, &ann, now).await.unwrap()) }
            })
            .collect();
        assert_eq!(visits.join_all().await, ["ann-a1"].repeat(50));
        assert_eq!(rejected(&gate, &ann).await, "ann-a1");
        assert_eq!((gate.calls(), gate.reused()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_not_replaced_within_ten_seconds_of_its_issue() {
        let gate = Gate::new();
        let jwt = format!("e30.{}.x", BASE64URL.encode(format!(r#"{{"iat":{}}}"#, START.0 - 5)));
        let by_itself = endless(&gate, "");
        let by_token = gate.claims(&format!(
            r#"{{"sub":"ann","accessToken":"{jwt}","refreshToken":"ann-r0","iat":{}}}"#,
            START.0 - 500
        ));
        let by_cookie = endless(&gate, &format!(r#","iat":{}"#, START.0 - 3));
        assert_eq!(rejected(&gate, &by_token).await, "the 401");
        assert_eq!(rejected(&gate, &by_cookie).await, "the 401");
        advance(seconds(4)).await;
        assert_eq!(rejected(&gate, &by_token).await, "the 401");
        advance(seconds(1)).await;
        assert_eq!(rejected(&gate, &by_cookie).await, "the 401");
        assert_eq!(gate.calls(), 0);
        assert_eq!(rejected(&gate, &by_token).await, "ann-a1");
        assert_eq!(rejected(&gate, &by_cookie).await, "ann-a1", "which needs no redemption");

        let renewed = gate.refresh(&by_itself).await.unwrap();
        assert_eq!(rejected(&gate, &renewed).await, "the 401");
        advance(seconds(10)).await;
        assert_eq!(rejected(&gate, &renewed).await, "ann-a2");
        assert_eq!((gate.calls(), gate.reused()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_gives_the_same_token_again_is_asked_once() {
        let gate = Gate::new();
        let ann = endless(&gate, "");
        let same = Plan::Say(200, r#"{"accessToken":"ann-a0","refreshToken":"ann-r9"}"#.to_owned());
        gate.fake.plan([same]);
        assert_eq!(rejected(&gate, &ann).await, "ann-a0");
        advance(seconds(3600)).await;
        let renewed =
            gate.claims(r#"{"sub":"ann","accessToken":"ann-a0","refreshToken":"ann-r9"}"#);
        for session in [&ann, &renewed] {
            assert_eq!(rejected(&gate, session).await, "the 401");
        }
        assert_eq!(gate.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_backend_says_of_the_refresh_token_counts_as_ever() {
        let gate = Gate::new();
        let ann = endless(&gate, "");
        gate.fake.plan([Plan::Say(500, String::new())]);
        assert_eq!(rejected(&gate, &ann).await, "the backend answered 500, again in 1 s");
        assert_eq!(rejected(&gate, &ann).await, "the backend answered 500, again in 1 s");
        assert_eq!(gate.calls(), 1);
        advance(seconds(1)).await;
        gate.fake.world().live.clear();
        assert_eq!(rejected(&gate, &ann).await, "refresh_refused");
        assert_eq!(rejected(&gate, &ann).await, "refresh_refused");
        assert_eq!(gate.calls(), 2);
        let bob = gate.session("bob");
        gate.refresher.end(&bob, gate.now()).await;
        assert_eq!(rejected(&gate, &bob).await, "signed_out");
        assert_eq!(gate.calls(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_cookie_s_rejected_token_is_replaced_by_the_newest() {
        let gate = Gate::new();
        let ann = endless(&gate, &format!(r#","iat":{}"#, START.0));
        gate.refresh(&ann).await.unwrap();
        assert_eq!(rejected(&gate, &ann).await, "ann-a1", "young or not: it is there already");
        advance(seconds(LIFE as u64)).await;
        assert_eq!(rejected(&gate, &ann).await, "ann-a2", "and renewed when it has ended");
        assert_eq!((gate.calls(), gate.reused()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn another_token_helps_even_if_it_ends_earlier() {
        let gate = Gate::new();
        gate.fake.world().keep_refresh_tokens = true;
        let end = START.0 + 10 * LIFE;
        let ann = endless(&gate, &format!(r#","accessTokenExpiry":{end}"#));
        assert_eq!(rejected(&gate, &ann).await, "ann-a1");
        assert_eq!(rejected(&gate, &ann).await, "ann-a1");
        assert_eq!(gate.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_without_both_tokens_keeps_the_401() {
        let gate = Gate::new();
        for claims in [r#"{"sub":"a","accessToken":"a"}"#, r#"{"sub":"a","refreshToken":"r"}"#] {
            assert_eq!(rejected(&gate, &gate.claims(claims)).await, "the 401");
        }
    }
}
