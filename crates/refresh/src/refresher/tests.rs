//! The refresher in front of a backend that rotates, and that tells reuse from use.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::fake::{Gate, LIFE, Plan, START, backend, seconds, settle};
use super::*;
use crate::dialect::Dialect;
use crate::outcome::Outcome;

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
