//! The refresher in front of a backend that rotates, and that tells reuse from use.

use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::fake::{Gate, LIFE, Plan, START, backend, told};
use super::*;
use crate::dialect::Dialect;
use crate::outcome::Outcome;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets every task that can go on go on.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn five_hundred_requests_share_one_redemption() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.plan([Plan::Slow(seconds(1))]);
    let visits: JoinSet<String> = (0..500).map(|_| gate.visit(&ann)).collect();
    let answers = visits.join_all().await;
    assert_eq!(answers, ["ann-a1"].repeat(500));
    assert_eq!((gate.calls(), gate.outcomes()), (1, vec![Outcome::Renewed]));
    assert_eq!(gate.visit(&ann).await, "ann-a1", "a late one, too");
    assert_eq!(gate.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_leaves_takes_no_token_with_him() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.plan([Plan::Slow(seconds(2))]);
    let first = tokio::spawn(gate.visit(&ann));
    sleep(seconds(1)).await;
    let second = tokio::spawn(gate.visit(&ann));
    first.abort();
    assert_eq!(second.await.unwrap(), "ann-a1");

    let bob = gate.session("bob");
    gate.fake.plan([Plan::Slow(seconds(2))]);
    let only = tokio::spawn(gate.visit(&bob));
    sleep(seconds(1)).await;
    only.abort();
    gate.refresher.drain().await;
    assert_eq!(gate.settled(&bob), "bob-a2");
    assert_eq!((gate.calls(), gate.reused()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cookie_of_any_age_gets_the_newest_pair() {
    let gate = Gate::new();
    let mut cookies = vec![gate.session("ann")];
    for _ in 0..4 {
        let newest = gate.refresh(cookies.last().unwrap()).await.unwrap();
        cookies.push(newest);
        advance(seconds(LIFE as u64)).await;
    }
    assert_eq!(gate.calls(), 4);
    // All have ended: whoever asks first, the newest refresh token is redeemed, and once.
    gate.fake.plan([Plan::Slow(seconds(1))]);
    let visits: JoinSet<String> = cookies.iter().map(|cookie| gate.visit(cookie)).collect();
    assert_eq!(visits.join_all().await, ["ann-a5"].repeat(5));
    for cookie in &cookies {
        assert_eq!(gate.settled(cookie), "ann-a5");
        assert_eq!(gate.visit(cookie).await, "ann-a5");
    }
    assert_eq!((gate.calls(), gate.reused()), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_session_with_the_newest_tokens_is_told_nothing_and_can_have_newer_ones() {
    let gate = Gate::new();
    let renewed = gate.refresh(&gate.session("ann")).await.unwrap();
    assert_eq!(gate.settled(&renewed), "nothing");
    // An app has said 401: its token is good by its own account, but somebody wants another.
    assert_eq!(gate.visit(&renewed).await, "ann-a2");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_stays_is_redeemed_again_and_again() {
    let gate = Gate::new();
    gate.fake.world().keep_refresh_tokens = true;
    let ann = gate.session("ann");
    let mut newest = gate.refresh(&ann).await.unwrap();
    for number in 2..5 {
        assert_eq!(gate.settled(&ann), format!("ann-a{}", number - 1));
        assert_eq!(newest.refresh_token(), Some("ann-r0"));
        advance(seconds(LIFE as u64)).await;
        assert_eq!(gate.settled(&ann), "nothing");
        gate.fake.plan([Plan::Slow(seconds(1))]);
        let visits: JoinSet<String> =
            [&ann, &newest].into_iter().map(|cookie| gate.visit(cookie)).collect();
        assert_eq!(visits.join_all().await, [format!("ann-a{number}"), format!("ann-a{number}")]);
        newest = ann.renewed(&gate.refresher.settled(&ann, gate.now()).unwrap().as_new_tokens());
    }
    assert_eq!(gate.calls(), 4);

    // Somebody else has refreshed since: an older access token is no news.
    let end = gate.now().0 + 2 * LIFE;
    let by_another = gate.claims(&format!(
        r#"{{"sub":"ann","accessToken":"a","accessTokenExpiry":{end},"refreshToken":"ann-r0"}}"#
    ));
    assert_eq!(gate.settled(&by_another), "nothing");
    assert_eq!(gate.visit(&by_another).await, "ann-a5");
}

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
    let refused = Outcome::Refused { answer_lost: false };
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
    assert_eq!(gate.outcomes(), [Outcome::Refused { answer_lost: false }]);
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
    assert_eq!((gate.calls(), gate.outcomes()), (4, vec![Outcome::Refused { answer_lost: true }]));

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
async fn nobody_is_refreshed_after_a_sign_out() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    let second = gate.refresh(&ann).await.unwrap();
    let third = gate.refresh(&second).await.unwrap();
    let bob = gate.refresh(&gate.session("bob")).await.unwrap();
    gate.refresher.end(&second, gate.now()).await;
    advance(seconds(LIFE as u64)).await;
    for cookie in [&ann, &second, &third] {
        assert_eq!(gate.settled(cookie), "nothing");
        assert_eq!(gate.visit(cookie).await, "signed_out");
        gate.start(cookie);
    }
    settle().await;
    assert_eq!(gate.calls(), 3);
    assert_eq!(gate.visit(&bob).await, "bob-a4");
    gate.refresher.end(&gate.claims(r#"{"sub":"x"}"#), gate.now()).await;
}

#[tokio::test(start_paused = true)]
async fn a_sign_out_is_stronger_than_the_redemption_it_meets() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.plan([Plan::Slow(seconds(2))]);
    let visit = tokio::spawn(gate.visit(&ann));
    sleep(seconds(1)).await;
    gate.refresher.end(&ann, gate.now()).await;
    assert_eq!(gate.visit(&ann).await, "signed_out");
    assert_eq!(visit.await.unwrap(), "signed_out");
    assert_eq!(gate.outcomes(), [Outcome::SignedOut]);
    assert_eq!((gate.settled(&ann), gate.calls()), ("nothing".to_owned(), 1));
}

#[tokio::test(start_paused = true)]
async fn another_subject_s_token_is_never_given_out() {
    let gate = Gate::new();
    // `{"sub":"ann"}` and `{"sub":"bob"}`
    let (ann, bob) = ("e30.eyJzdWIiOiJhbm4ifQ.x", "e30.eyJzdWIiOiJib2IifQ.x");
    let answer =
        |jwt: &str| Plan::Say(200, format!(r#"{{"accessToken":"{jwt}","refreshToken":"r2"}}"#));
    let session = |token: &str| {
        gate.claims(&format!(r#"{{"sub":"ann","accessToken":"{ann}","refreshToken":"{token}"}}"#))
    };
    gate.fake.plan([answer(bob)]);
    assert_eq!(gate.visit(&session("r1")).await, "subject_changed");
    assert_eq!(gate.visit(&session("r1")).await, "subject_changed");
    assert_eq!(gate.settled(&session("r1")), "nothing");
    assert_eq!((gate.calls(), gate.outcomes()), (1, vec![Outcome::SubjectChanged]));
    gate.fake.plan([answer(&format!("{ann}2"))]);
    assert_eq!(gate.visit(&session("q1")).await, format!("{ann}2"));
}

#[tokio::test(start_paused = true)]
async fn two_thousand_sessions_are_two_thousand_redemptions_and_never_too_many_at_once() {
    let gate = Gate::new();
    let users: Vec<String> = (0..2000).map(|number| format!("u{number}")).collect();
    gate.fake.plan(std::iter::repeat_n(Plan::Slow(Duration::from_millis(100)), 2000));
    let mut visits = JoinSet::new();
    for user in &users {
        let session = gate.session(user);
        for _ in 0..3 {
            let (user, visit) = (user.clone(), gate.visit(&session));
            visits.spawn(async move { (user, visit.await) });
        }
    }
    for (user, answer) in visits.join_all().await {
        assert!(answer.starts_with(&format!("{user}-a")), "{user} got {answer}");
    }
    let world = gate.fake.world();
    assert_eq!((world.calls, world.reused, world.most_at_once), (2000, 0, 64));
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
async fn a_refresh_token_with_a_known_end_in_the_past_is_not_even_tried() {
    let gate = Gate::new();
    let session = |end: i64| {
        gate.fake.world().live.insert("r".to_owned(), "ann".to_owned());
        gate.claims(&format!(
            r#"{{"sub":"ann","accessToken":"a","refreshToken":"r","refreshTokenExpires":{end}}}"#
        ))
    };
    assert_eq!(gate.visit(&session(START.0)).await, "refresh_refused");
    assert_eq!(gate.calls(), 0);
    assert_eq!(gate.visit(&session(START.0 + 1)).await, "ann-a1");
}

#[tokio::test(start_paused = true)]
async fn a_young_token_is_not_renewed_however_wide_the_margin() {
    let gate = Gate::new();
    let renewed = gate.refresh(&gate.session("ann")).await.unwrap();
    for _ in 0..29 {
        gate.start(&renewed);
        sleep(seconds(1)).await;
    }
    assert_eq!(gate.calls(), 1);
    sleep(seconds(1)).await;
    gate.start(&renewed);
    settle().await;
    assert_eq!((gate.calls(), gate.settled(&renewed).as_str()), (2, "ann-a2"));
    gate.start(&renewed);
    settle().await;
    assert_eq!(gate.calls(), 2, "what is settled already is not asked for");
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_counts_from_the_sending() {
    let gate = Gate::new();
    let backend = Arc::new(backend(Dialect::OAuth2, 1, None));
    let session = |token: &str| {
        gate.claims(&format!(r#"{{"sub":"ann","accessToken":"a","refreshToken":"{token}"}}"#))
    };
    gate.fake.plan([
        Plan::Later(seconds(1)),
        Plan::Say(200, r#"{"access_token":"a2","expires_in":60}"#.to_owned()),
    ]);
    let turn = backend.turn().await;
    let waiting = {
        let (refresher, backend, now) = (gate.refresher.clone(), Arc::clone(&backend), gate.now());
        let session = session("r1");
        tokio::spawn(async move { refresher.refresh(&backend, &session, now).await })
    };
    sleep(seconds(3)).await;
    drop(turn);
    assert!(waiting.await.unwrap().is_err());
    let tokens = gate.refresher.refresh(&backend, &session("r2"), gate.now()).await.unwrap();
    assert_eq!(tokens.access_expires_at, Some(UnixSeconds(START.0 + 3 + 60)));
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
async fn a_redemption_that_is_cut_off_leaves_the_place_to_the_next() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.plan([Plan::Panic]);
    assert_eq!(gate.visit(&ann).await, "the redemption was cut off, again in 1 s");
    gate.refresher.drain().await;
    assert_eq!(gate.visit(&ann).await, "ann-a1");
}

#[test]
fn without_its_runtime_a_refresher_says_so() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let gate = Gate::on(runtime.handle().clone(), 64);
    drop(runtime);
    let others = Builder::new_current_thread().build().unwrap();
    let answer = others.block_on(gate.visit(&gate.session("ann")));
    assert_eq!(answer, "the redemption was cut off, again in 1 s");
}

#[test]
fn waiters_may_sit_on_other_runtimes() {
    let control = Builder::new_current_thread().enable_time().build().unwrap();
    let gate = Gate::on(control.handle().clone(), 64);
    let ann = gate.session("ann");
    let go = Arc::new(Notify::new());
    gate.fake.plan([Plan::WaitFor(Arc::clone(&go))]);
    let (seated, done) = (Barrier::new(5), Notify::new());
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| control.block_on(done.notified()));
        let worker = || {
            let runtime = Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let visits: JoinSet<String> = (0..100).map(|_| gate.visit(&ann)).collect();
                tokio::task::yield_now().await;
                seated.wait();
                visits.join_all().await
            })
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        seated.wait();
        go.notify_one();
        let answers: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.notify_one();
        answers
    });
    for answers in answers {
        assert_eq!(answers.unwrap(), ["ann-a1"].repeat(100));
    }
    assert_eq!(gate.calls(), 1);
}

/// Visitors who come and leave all the while, so that some come in the very moment in which a
/// redemption ends.
#[test]
fn racing_threads_never_spend_a_token_twice() {
    const ROUNDS: usize = 300;
    let control = Builder::new_current_thread().enable_time().build().unwrap();
    let gate = Gate::on(control.handle().clone(), 64);
    let ann = gate.session("ann");
    let (round, done) = (Barrier::new(4), Notify::new());
    let visit = |now| loop {
        let answer = pin!(gate.refresher.refresh(&gate.backend, &ann, now));
        if let Poll::Ready(answer) = answer.poll(&mut Context::from_waker(Waker::noop())) {
            break told(&answer);
        }
    };
    let worker = || {
        let answers = (0..ROUNDS).map(|number| {
            // By now the access token of the round before has ended.
            let now = START.saturating_add(seconds(2 * LIFE as u64) * number as u32);
            if round.wait().is_leader() {
                gate.fake.world().clock = Some(Clock::starting(now));
            }
            round.wait();
            visit(now)
        });
        answers.collect::<Vec<_>>()
    };
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| control.block_on(done.notified()));
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        let answers: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.notify_one();
        answers
    });
    let expected: Vec<_> = (1..=ROUNDS).map(|number| format!("ann-a{number}")).collect();
    for answers in answers {
        assert_eq!(answers.unwrap(), expected);
    }
    assert_eq!((gate.calls(), gate.reused()), (ROUNDS, 0));
}

#[derive(Clone, Debug)]
enum Step {
    /// A request with a cookie of some age; it is kept waiting, or leaves at once.
    Visit {
        age: usize,
        leaves: bool,
    },
    Start {
        age: usize,
    },
    /// An app renews the newest cookie by itself, if nobody has yet.
    App,
    Pass(u64),
    Plan(Plan),
}

fn step() -> impl Strategy<Value = Step> {
    let plan = prop_oneof![
        (0..12_u64).prop_map(|span| Plan::Slow(seconds(span))),
        (0..4_u64).prop_map(|span| Plan::LoseRequest(seconds(span))),
        Just(Plan::NeverSent),
        Just(Plan::Panic),
        Just(Plan::Say(500, String::new())),
        (0..40_u64).prop_map(|span| Plan::Later(seconds(span))),
    ];
    prop_oneof![
        4 => (0..8_usize, any::<bool>()).prop_map(|(age, leaves)| Step::Visit { age, leaves }),
        1 => (0..8_usize).prop_map(|age| Step::Start { age }),
        1 => Just(Step::App),
        3 => (0..70_u64).prop_map(Step::Pass),
        2 => plan.prop_map(Step::Plan),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// As long as the backend does what it says and its answers arrive within [`PATIENCE`], no
    /// order of events spends a token twice, and a quiet moment later every cookie ever sealed
    /// gets the one newest pair.
    #[test]
    fn no_order_of_events_loses_a_token(steps in prop::collection::vec(step(), 0..60)) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let gate = Gate::new();
            let mut cookies = vec![gate.session("ann")];
            let mut visits = JoinSet::new();
            for step in steps {
                match step {
                    Step::Visit { age, leaves } => {
                        let cookie = &cookies[age % cookies.len()];
                        let handle = visits.spawn(gate.visit(cookie));
                        settle().await;
                        if leaves {
                            handle.abort();
                        }
                    }
                    Step::Start { age } => gate.start(&cookies[age % cookies.len()]),
                    Step::App => {
                        let newest = cookies.last().unwrap();
                        let is_live = gate.fake.world().live.contains_key(newest.refresh_token().unwrap());
                        if is_live {
                            let found = gate.renewed_elsewhere(newest);
                            assert!(gate.refresher.adopt(newest, &found, gate.now()).await);
                            cookies.push(found);
                        }
                    }
                    Step::Pass(span) => sleep(seconds(span)).await,
                    Step::Plan(plan) => gate.fake.plan([plan]),
                }
                let oldest = &cookies[0];
                if let Some(tokens) = gate.refresher.settled(oldest, gate.now()) {
                    let newest = oldest.renewed(&tokens.as_new_tokens());
                    if cookies.iter().all(|cookie| cookie.refresh_token() != newest.refresh_token()) {
                        cookies.push(newest);
                    }
                }
            }
            while let Some(visit) = visits.join_next().await {
                if let Ok(answer) = visit {
                    assert!(answer.starts_with("ann-a") || answer.contains("again in"), "{answer}");
                }
            }
            gate.fake.world().plans.clear();
            gate.refresher.drain().await;
            sleep(seconds(40 + LIFE as u64)).await;
            let newest = gate.visit(&cookies[0]).await;
            assert!(newest.starts_with("ann-a"), "{newest}");
            for cookie in &cookies {
                assert_eq!(gate.visit(cookie).await, newest);
            }
            assert_eq!(gate.reused(), 0);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_pair_of_one_subject_is_never_handed_to_another() {
    let gate = Gate::new();
    let jwt = |subject: &str, number: u8| {
        let claims = BASE64URL.encode(format!(r#"{{"sub":"{subject}","n":{number}}}"#));
        format!("e30.{claims}.c2ln")
    };
    let end = gate.now().0;
    // A backend whose refresh tokens are not its visitors' own.
    let session = |subject: &str| {
        gate.claims(&format!(
            r#"{{"sub":"x","accessToken":"{}","accessTokenExpiry":{end},"refreshToken":"shared"}}"#,
            jwt(subject, 0)
        ))
    };
    let (ann, bob) = (session("ann"), session("bob"));
    let answer = format!(
        r#"{{"accessToken":"{}","accessTokenExpiry":{},"refreshToken":"next"}}"#,
        jwt("ann", 1),
        end + LIFE
    );
    gate.fake.plan([Plan::Say(200, answer)]);
    let (leads, joins) = tokio::join!(gate.visit(&ann), gate.visit(&bob));
    assert_eq!((leads, joins.as_str()), (jwt("ann", 1), "subject_changed"));
    assert_eq!((gate.settled(&ann), gate.settled(&bob)), (jwt("ann", 1), "nothing".to_owned()));
    assert_eq!(gate.visit(&bob).await, "subject_changed");
    assert_eq!(gate.calls(), 1);
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

#[tokio::test(start_paused = true)]
async fn a_weak_refresh_token_is_told_of_once() {
    let gate = Gate::new();
    let strong = "Zg-_ab0123456789abcdef";
    gate.fake.world().live.insert(strong.to_owned(), "ann".to_owned());
    let claims = format!(r#"{{"sub":"ann","accessToken":"a","refreshToken":"{strong}"}}"#);
    gate.visit(&gate.claims(&claims)).await;
    assert_eq!(gate.warnings(), 0);
    for user in ["bob", "carl"] {
        gate.visit(&gate.session(user)).await;
        assert_eq!(gate.warnings(), 1);
    }
}
