//! An app that renews tokens by itself: the ledger learns from its cookie.

use std::sync::Arc;

use foregate_session::{Secret, Session, UnixSeconds};

use crate::endpoint::TokenEndpoint;
use crate::ledger::Pair;
use crate::refresher::Refresher;
use crate::tokens::Tokens;

impl<E: TokenEndpoint> Refresher<E> {
    /// An app that was sent `sent` gives the visitor `found`, with another pair of tokens: it has
    /// redeemed the old refresh token itself. From now on every older cookie finds the new pair.
    /// Says whether the ledger has learnt something.
    ///
    /// A pair whose access token has ended is taken, too: its refresh token is the newest all the
    /// same. None is taken of another person, over a sign-out, or in the place of a newer one.
    pub async fn adopt(&self, sent: &Session, found: &Session, now: UnixSeconds) -> bool {
        let (Some(spent), Some(tokens)) = (sent.refresh_token(), Tokens::of(found)) else {
            return false;
        };
        let is_known = tokens.refresh_token.expose() == spent
            && sent.access_token() == Some(tokens.access_token.expose());
        let has_ended = tokens.refresh_expires_at.is_some_and(|end| end <= now);
        if is_known || has_ended || !found.is_same_person(sent) {
            return false;
        }
        let until = self.0.keep_until(&tokens, now);
        let pair = Pair::new(tokens, now);
        let newest = pair.refresh_token;
        let (shared, spent) = (Arc::clone(&self.0), Secret::new(spent));
        let adopting = async move { shared.ledger.adopt(spent.expose(), pair, now, until).await };
        let adopted = self.0.see_through(adopting).await.unwrap_or(false);
        if adopted {
            // What works for the app is not refused, nor is the backend away.
            self.0.table().renewed(newest);
        }
        adopted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::outcome::Outcome;
    use crate::refresher::fake::{Gate, LIFE, Plan};

    async fn settle() {
        sleep(Duration::from_millis(1)).await;
    }

    async fn adopt(gate: &Gate, sent: &Session, found: &Session) -> bool {
        gate.refresher.adopt(sent, found, gate.now()).await
    }

    #[tokio::test(start_paused = true)]
    async fn late_holders_of_the_old_cookie_get_the_app_s_pair() {
        let gate = Gate::new();
        let ann = gate.session("ann");
        let found = gate.renewed_elsewhere(&ann);
        assert!(adopt(&gate, &ann, &found).await);
        assert!(!adopt(&gate, &ann, &found).await, "the next answer with it tells nothing new");
        assert_eq!(gate.settled(&ann), "ann-a1");
        assert_eq!(gate.visit(&ann).await, "ann-a1");
        assert_eq!(gate.calls(), 0);
        advance(Duration::from_secs(LIFE as u64)).await;
        assert_eq!(gate.visit(&ann).await, "ann-a2");
        assert_eq!(gate.visit(&found).await, "ann-a2");
        assert_eq!((gate.calls(), gate.reused()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_that_has_ended_still_has_the_newest_refresh_token() {
        let gate = Gate::new();
        let ann = gate.session("ann");
        let found = gate.renewed_elsewhere(&ann);
        advance(Duration::from_secs(LIFE as u64)).await;
        assert!(adopt(&gate, &ann, &found).await);
        assert_eq!(gate.settled(&ann), "nothing");
        assert_eq!(gate.visit(&ann).await, "ann-a2");
        assert_eq!((gate.calls(), gate.reused()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_answers_late_takes_nothing_back() {
        let gate = Gate::new();
        let ann = gate.session("ann");
        let found = gate.renewed_elsewhere(&ann);
        adopt(&gate, &ann, &found).await;
        advance(Duration::from_secs(LIFE as u64)).await;
        assert_eq!(gate.visit(&found).await, "ann-a2");
        assert!(!adopt(&gate, &ann, &found).await);
        assert_eq!(gate.settled(&ann), "ann-a2");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_same_person_s_whole_and_live_pair_is_taken() {
        let gate = Gate::new();
        let ann = gate.session("ann");
        let check = async |claims: &str| {
            let found = gate.claims(claims);
            assert!(!adopt(&gate, &ann, &found).await, "{claims}");
            assert_eq!(gate.settled(&ann), "nothing");
        };
        check(r#"{"sub":"bob","accessToken":"a","refreshToken":"r"}"#).await;
        check(r#"{"accessToken":"a","refreshToken":"r"}"#).await;
        check(r#"{"sub":"ann","accessToken":"a"}"#).await;
        check(r#"{"sub":"ann","refreshToken":"r"}"#).await;
        check(r#"{"sub":"ann","accessToken":"ann-a0","refreshToken":"ann-r0","theme":"dark"}"#)
            .await;
        check(r#"{"sub":"ann","accessToken":"a","refreshToken":"r","refreshTokenExpires":5}"#)
            .await;
        let keyless = gate.claims(r#"{"sub":"ann","accessToken":"a"}"#);
        let found = gate.claims(r#"{"sub":"ann","accessToken":"b","refreshToken":"r"}"#);
        assert!(!adopt(&gate, &keyless, &found).await, "no old cookie could ask for it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_out_is_stronger_than_an_app_that_renews() {
        let gate = Gate::new();
        let ann = gate.session("ann");
        let found = gate.renewed_elsewhere(&ann);
        gate.refresher.end(&ann, gate.now()).await;
        assert!(!adopt(&gate, &ann, &found).await);
        for cookie in [&ann, &found] {
            assert_eq!(gate.visit(cookie).await, "signed_out");
        }
        assert_eq!(gate.calls(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_redemption_that_the_app_overtook_gets_the_app_s_pair() {
        let gate = Gate::new();
        let ann = gate.session("ann");
        let go = Arc::new(Notify::new());
        gate.fake.plan([Plan::WaitFor(Arc::clone(&go))]);
        let waiting = tokio::spawn(gate.visit(&ann));
        settle().await;
        let found = gate.renewed_elsewhere(&ann);
        assert!(adopt(&gate, &ann, &found).await);
        assert_eq!(gate.visit(&ann).await, "ann-a1", "nobody else waits");
        go.notify_one();
        assert_eq!(waiting.await.unwrap(), "ann-a1");
        assert_eq!(gate.outcomes(), [Outcome::Overtaken]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_the_app_has_spent_is_not_sent_any_more() {
        let gate = Gate::on(tokio::runtime::Handle::current(), 1);
        let (ann, bob) = (gate.session("ann"), gate.session("bob"));
        gate.fake.plan([Plan::Slow(Duration::from_secs(2))]);
        gate.start(&bob);
        settle().await;
        let waiting = tokio::spawn(gate.visit(&ann));
        settle().await;
        let found = gate.renewed_elsewhere(&ann);
        adopt(&gate, &ann, &found).await;
        assert_eq!(waiting.await.unwrap(), "ann-a2");
        assert_eq!((gate.calls(), gate.reused()), (1, 0), "the turn came too late for it");
        assert_eq!(gate.outcomes(), [Outcome::Renewed, Outcome::Overtaken]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_a_backend_gives_both_a_pair_the_newer_one_stays() {
        let newest = async |ours_first: bool| {
            let gate = Gate::new();
            let ann = gate.session("ann");
            let go = Arc::new(Notify::new());
            // The backend redeems at once, or when it is told to; it takes the token twice.
            let plan = if ours_first {
                Plan::Slow(Duration::from_secs(3))
            } else {
                Plan::WaitFor(Arc::clone(&go))
            };
            gate.fake.plan([plan]);
            let waiting = tokio::spawn(gate.visit(&ann));
            settle().await;
            sleep(Duration::from_secs(1)).await;
            gate.fake.world().live.insert("ann-r0".to_owned(), "ann".to_owned());
            let found = gate.renewed_elsewhere(&ann);
            gate.fake.world().live.insert("ann-r0".to_owned(), "ann".to_owned());
            assert!(adopt(&gate, &ann, &found).await);
            sleep(Duration::from_secs(1)).await;
            go.notify_one();
            let waited = waiting.await.unwrap();
            assert_eq!(
                (gate.settled(&ann), gate.outcomes()),
                (waited.clone(), vec![Outcome::Renewed])
            );
            // The other pair's holder is told of it, too.
            advance(Duration::from_secs(LIFE as u64)).await;
            let next = gate.visit(&found).await;
            assert_eq!(gate.visit(&ann).await, next);
            assert_eq!((gate.calls(), gate.reused()), (2, 0));
            waited
        };
        assert_eq!(newest(true).await, "ann-a2", "the app's, which came later");
        assert_eq!(newest(false).await, "ann-a2", "ours");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_refused_is_tried_again_once_it_has_worked_for_the_app() {
        let gate = Gate::new();
        let ann = gate.session("ann");
        gate.fake.plan([Plan::Say(401, String::new())]);
        assert_eq!(gate.visit(&ann).await, "refresh_refused");
        let found = gate.claims(&format!(
            r#"{{"sub":"ann","accessToken":"b","accessTokenExpiry":{},"refreshToken":"ann-r0"}}"#,
            gate.now().0 + LIFE
        ));
        assert!(adopt(&gate, &ann, &found).await);
        assert_eq!(gate.visit(&ann).await, "b");
        advance(Duration::from_secs(LIFE as u64)).await;
        assert_eq!(gate.visit(&ann).await, "ann-a1");
    }
}
