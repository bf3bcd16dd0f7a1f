//! What comes of a redemption that fails: refusals, blips, lost and late answers.

use tokio::sync::Notify;
use tokio::time::advance;

use super::fake::{Gate, LIFE, Plan, START, backend, seconds, settle, told};
use super::*;
use crate::dialect::Dialect;
use crate::outcome::{Outcome, RefusalAnswer};

#[tokio::test(start_paused = true)]
async fn a_refused_token_ends_the_session_and_is_not_tried_again() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    let renewed = gate.refresh(&ann).await.unwrap();
    gate.fake.world().live.clear();
    advance(seconds(LIFE as u64)).await;
    for cookie in [&ann, &renewed, &ann] {
        assert_eq!(gate.visit(cookie).await, "refresh_refused");
        advance(seconds(3600)).await;
    }
    assert_eq!(gate.calls(), 2);
    let refused = Outcome::Refused { answer_lost: false, answer: answer_401() };
    assert_eq!(gate.outcomes(), [Outcome::Renewed, refused]);
    assert_eq!(gate.visit(&gate.claims(r#"{"sub":"x"}"#)).await, "refresh_refused");
    assert_eq!(gate.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ahead_of_time_is_heard_only_when_the_access_token_has_ended() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.world().live.clear();
    gate.start(&ann);
    settle().await;
    assert_eq!(gate.outcomes(), [Outcome::Refused { answer_lost: false, answer: answer_401() }]);
    gate.start(&ann);
    assert_eq!(gate.settled(&ann), "nothing");
    settle().await;
    assert_eq!(gate.visit(&ann).await, "refresh_refused");
    assert_eq!(gate.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_blip_ends_a_session() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    let garbage = |body: &str| Plan::Say(200, body.to_owned());
    let check = async |plan: Plan, expected: &str| {
        gate.fake.plan([plan]);
        assert_eq!(gate.visit(&ann).await, expected);
        assert!(gate.visit(&ann).await.contains("again in"), "nobody asks during the pause");
        advance(seconds(10)).await;
    };
    check(Plan::NeverSent, "the backend cannot be reached: no route, again in 1 s").await;
    check(Plan::Say(500, String::new()), "the backend answered 500, again in 2 s").await;
    check(Plan::Say(429, String::new()), "the backend answered 429, again in 4 s").await;
    check(garbage("<html>"), "the backend's answer is no JSON, again in 8 s").await;
    check(garbage("{}"), "the backend's answer has no access token, again in 10 s").await;
    check(Plan::TooLarge, "the backend's answer is too large, again in 10 s").await;
    check(Plan::Say(302, String::new()), "the backend answered 302, again in 10 s").await;
    check(Plan::Later(seconds(7)), "the backend answered 503, again in 10 s").await;
    check(Plan::Later(seconds(25)), "the backend answered 503, again in 25 s").await;
    advance(seconds(15)).await;
    assert_eq!(gate.visit(&ann).await, "ann-a1");
    assert_eq!(gate.calls(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_pause_lasts_as_long_as_it_was_said() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.plan([Plan::Later(seconds(3))]);
    assert_eq!(gate.visit(&ann).await, "the backend answered 503, again in 3 s");
    advance(Duration::from_millis(2_999)).await;
    assert_eq!(gate.visit(&ann).await, "the backend answered 503, again in 0 s");
    gate.start(&ann);
    settle().await;
    assert_eq!(gate.calls(), 1);
    assert_eq!(gate.visit(&ann).await, "ann-a1");
}

#[tokio::test(start_paused = true)]
async fn after_a_broken_connection_the_same_token_is_tried_once_more_at_once() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.plan([Plan::LoseRequest(seconds(1))]);
    assert_eq!(gate.visit(&ann).await, "ann-a1");
    assert_eq!((gate.calls(), gate.outcomes()), (2, vec![Outcome::Renewed]));

    // The backend had acted: it knows the token as spent, and no client can repair that.
    let bob = gate.session("bob");
    gate.fake.plan([Plan::LoseAnswer]);
    assert_eq!(gate.visit(&bob).await, "refresh_refused");
    assert_eq!(
        (gate.calls(), gate.outcomes()),
        (4, vec![Outcome::Refused { answer_lost: true, answer: answer_401() }])
    );

    let eve = gate.session("eve");
    gate.fake.plan([Plan::LoseRequest(seconds(0)), Plan::LoseRequest(seconds(0))]);
    let lost = "the connection to the backend broke before it had answered: reset";
    assert_eq!(gate.visit(&eve).await, format!("{lost}, again in 2 s"));
    advance(seconds(2)).await;
    assert_eq!(gate.visit(&eve).await, "eve-a3");

    // No time would be left for an answer to a second try.
    let joe = gate.session("joe");
    gate.fake.plan([Plan::LoseRequest(seconds(4))]);
    assert_eq!(gate.visit(&joe).await, format!("{lost}, again in 1 s"));
    assert_eq!(gate.calls(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_late_but_never_lost() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.plan([Plan::Slow(seconds(10))]);
    let late = "the backend did not answer in time, again in 1 s";
    assert_eq!(gate.visit(&ann).await, late);
    assert_eq!(gate.now(), UnixSeconds(START.0 + 5));
    assert_eq!(gate.visit(&ann).await, late, "and nobody waits for it any more");
    assert_eq!(gate.now(), UnixSeconds(START.0 + 5));
    gate.refresher.drain().await;
    assert_eq!(gate.settled(&ann), "ann-a1");
    assert_eq!((gate.calls(), gate.reused()), (1, 0));
    assert_eq!(gate.outcomes(), [Outcome::Renewed]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_given_up_and_the_token_tried_once_more() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.plan([Plan::Hang]);
    gate.visit(&ann).await;
    gate.refresher.drain().await;
    assert_eq!(gate.now(), UnixSeconds(START.0 + 15));
    assert_eq!(gate.outcomes(), [Outcome::Unavailable(Fault::TimedOut)]);
    assert_eq!(gate.visit(&ann).await, "the backend did not answer in time, again in 1 s");
    advance(seconds(1)).await;
    assert_eq!(gate.visit(&ann).await, "ann-a1");
    assert_eq!(gate.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_turn_in_time_may_come_again() {
    let gate = Gate::on(Handle::current(), 1);
    let (ann, bob) = (gate.session("ann"), gate.session("bob"));
    gate.fake.plan([Plan::Slow(seconds(7))]);
    gate.start(&ann);
    settle().await;
    assert_eq!(gate.visit(&bob).await, "too many redemptions at once, again in 1 s");
    gate.refresher.drain().await;
    assert_eq!(gate.visit(&bob).await, "bob-a2");
    assert_eq!(gate.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ended_on_its_way_is_not_given_out_but_its_successor_is_kept() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    let ended = |token: &str| {
        let end = START.0;
        Plan::Say(
            200,
            format!(r#"{{"accessToken":"a","accessTokenExpiry":{end},"refreshToken":"{token}"}}"#),
        )
    };
    gate.fake.plan([ended("r1"), ended("r2")]);
    gate.fake.world().live.insert("r2".to_owned(), "ann".to_owned());
    let fault = format!("the new access token had ended at {}, before it arrived", START.0);
    assert_eq!(gate.visit(&ann).await, format!("{fault}, again in 1 s"));
    assert_eq!(gate.visit(&ann).await, format!("{fault}, again in 1 s"));
    gate.start(&ann);
    settle().await;
    assert_eq!(gate.calls(), 1);
    advance(seconds(1)).await;
    assert_eq!(gate.visit(&ann).await, format!("{fault}, again in 2 s"));
    advance(seconds(2)).await;
    assert_eq!(gate.visit(&ann).await, "ann-a1");
    assert_eq!((gate.calls(), gate.reused()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_counts_for_nothing_where_the_ledger_knows_the_successor() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    let elsewhere = |end: i64| {
        let tokens = Tokens {
            access_token: Secret::new("found"),
            access_expires_at: Some(UnixSeconds(end)),
            refresh_token: Secret::new("successor"),
            refresh_expires_at: None,
            id_token: None,
        };
        Pair::new(tokens, START)
    };
    let check = async |token: &str, end: i64, expected: &str| {
        let claims = format!(r#"{{"sub":"ann","accessToken":"a","refreshToken":"{token}"}}"#);
        let session = gate.claims(&claims);
        let gone = Arc::new(Notify::new());
        gate.fake.plan([Plan::WaitFor(Arc::clone(&gone))]);
        let visit = tokio::spawn(gate.visit(&session));
        settle().await;
        let until = START.saturating_add(seconds(3600));
        gate.refresher.0.ledger.settle(token, elsewhere(end), false, START, until).await;
        gone.notify_one();
        assert_eq!(visit.await.unwrap(), expected);
        assert_eq!(gate.outcomes().last(), Some(&Outcome::Overtaken));
    };
    check("spent-elsewhere", START.0 + 60, "found").await;
    // Where that has ended, too, its successor.
    gate.fake.world().live.insert("successor".to_owned(), "ann".to_owned());
    check("spent-long-ago", START.0, "ann-a1").await;
    assert_eq!(gate.visit(&ann).await, "ann-a2");
}

#[tokio::test(start_paused = true)]
async fn discovery_is_asked_once_and_again_after_a_failure() {
    let gate = Gate::new();
    let issuer = "https://id.example.com";
    let backend = Arc::new(backend(Dialect::OAuth2, 64, Some(issuer)));
    let metadata = format!(r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/token"}}"#);
    let answer = Plan::Say(200, r#"{"access_token":"fresh"}"#.to_owned());
    let refused = Plan::Say(400, r#"{"error":"invalid_grant"}"#.to_owned());
    gate.fake.plan([Plan::NeverSent, Plan::Say(200, metadata), answer, refused]);
    let check = async |token: &str, expected: &str| {
        let claims = format!(r#"{{"sub":"ann","accessToken":"a","refreshToken":"{token}"}}"#);
        let answer = gate.refresher.refresh(&backend, &gate.claims(&claims), gate.now()).await;
        assert_eq!(told(&answer), expected);
    };
    check("r1", "no token endpoint by discovery: no route, again in 1 s").await;
    advance(seconds(1)).await;
    check("r1", "fresh").await;
    check("r2", "refresh_refused").await;
    assert_eq!(gate.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn whoever_starts_a_refresh_hears_that_the_session_is_over() {
    let gate = Gate::new();
    let start = |session: &Session| gate.refresher.start(&gate.backend, session, gate.now());
    let ann = gate.session("ann");
    gate.fake.world().live.clear();
    assert_eq!(start(&ann), None, "nobody knows yet");
    settle().await;
    assert_eq!(start(&ann), Some(RefreshError::Refused));
    let bob = gate.session("bob");
    gate.refresher.end(&bob, gate.now()).await;
    assert_eq!(start(&bob), Some(RefreshError::SignedOut));
    gate.fake.plan([Plan::Say(500, String::new())]);
    let carl = gate.session("carl");
    assert_eq!(start(&carl), None);
    settle().await;
    assert_eq!(start(&carl), None, "a blip ends nothing");
}

/// What the fake backend says of a spent token.
fn answer_401() -> Option<RefusalAnswer> {
    Some(RefusalAnswer { status: 401, error: None })
}
