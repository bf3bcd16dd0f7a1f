//! What every backend must go through. Each story is told with sessions of its own, so that one
//! process can go through all of them.

use super::*;
use crate::ledgers::storms::{Balancer, the_same};

pub(crate) async fn all<P: Peer>(world: &mut World<P>) {
    chain(world).await;
    storm(world).await;
    signed_out(world).await;
    revoked(world).await;
    rejected(world).await;
    stopped(world).await;
}

/// Five rotations in a row; then every cookie there ever was finds the last pair.
pub(crate) async fn chain<P: Peer>(world: &World<P>) {
    let before = world.peer.counters().await;
    let mut pair = world.peer.sign_in().await;
    let (mut cookies, mut bearers) = (Vec::new(), vec![pair.access_token.clone()]);
    for rotations in 1..=5 {
        cookies.push(World::<P>::ended(&pair));
        let ada = world.visitor(&cookies[rotations - 1]);
        let bearer = world.bearer(&ada).await;
        assert!(!bearers.contains(&bearer), "rotation {rotations} brought a new token");
        pair = world.pair(&ada);
        assert_eq!(pair.access_token, bearer, "the visitor's cookie holds what the app saw");
        bearers.push(bearer);
        let counters = world.peer.counters().await.since(before);
        assert_eq!(counters, Counters::only(rotations as u64));
    }
    for (age, cookie) in cookies.iter().enumerate() {
        let late = world.visitor(cookie);
        assert_eq!(world.bearer(&late).await, pair.access_token, "the cookie of rotation {age}");
        assert_eq!(world.pair(&late), pair);
    }
    assert_eq!(world.peer.counters().await.since(before), Counters::only(5));
}

/// Five hundred requests at once with one ended cookie; then the newest refresh token is still good
/// for one redemption, and a second one would have been noticed.
pub(crate) async fn storm<P: Peer>(world: &World<P>) {
    let before = world.peer.counters().await;
    let cookie = World::<P>::ended(&world.peer.sign_in().await);
    let mut visits = JoinSet::new();
    for _ in 0..500 {
        let browser = world.visitor(&cookie);
        visits.spawn(async move { browser.fetch(DASHBOARD).await });
    }
    let began = Instant::now();
    let answers = visits.join_all().await;
    eprintln!("figures | {} gates | 500 requests in {:?}", world.gates.len(), began.elapsed());
    let seen = |answer: &Answer| match answer.status {
        200 => answer.seen_header("authorization"),
        status => panic!("{status}: {}", answer.text()),
    };
    let first = seen(&answers[0]);
    assert!(first.is_some() && answers.iter().all(|answer| seen(answer) == first), "one token");
    assert_eq!(world.peer.counters().await.since(before), Counters::only(1));

    let ada = world.visitor(&cookie);
    world.bearer(&ada).await;
    let newest = world.pair(&ada);
    assert!(world.peer.redeem(&newest.refresh_token).await.is_some(), "the session lives on");
    assert_eq!(world.peer.counters().await.since(before), Counters::only(2));
    assert_eq!(world.peer.redeem(&newest.refresh_token).await, None);
    assert_eq!(world.peer.counters().await.since(before).reuses, 1);
}

/// The backend no longer knows the refresh token.
pub(crate) async fn revoked<P: Peer>(world: &World<P>) {
    let before = world.peer.counters().await;
    let pair = world.peer.sign_in().await;
    world.peer.revoke(&pair.refresh_token).await;
    let ada = world.visitor(&World::<P>::ended(&pair));
    let answer = ada.navigate(DASHBOARD).await;
    assert_eq!(answer.status, 302, "{}", answer.text());
    assert!(answer.header("location").unwrap().starts_with("http://auth.example.com/login?"));
    assert_eq!(ada.cookies("app.example.com"), None, "the session's cookie is gone");
    let copy = world.visitor(&World::<P>::ended(&pair));
    assert_eq!(copy.fetch(DASHBOARD).await.status, 401);
    let counters = world.peer.counters().await.since(before);
    // Each gate remembers by itself what was refused.
    let attempts = world.gates.len().min(2) as u64;
    assert_eq!((counters.attempts, counters.redemptions), (attempts, 0), "it is not tried again");
}

/// The backend's process ends, and comes back.
pub(crate) async fn stopped<P: Peer>(world: &mut World<P>) {
    let cookie = World::<P>::ended(&world.peer.sign_in().await);
    let ada = world.visitor(&cookie);
    world.peer.stop().await;
    let answer = ada.fetch(DASHBOARD).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(ada.navigate(DASHBOARD).await.status, 503, "a page, not the login");
    assert_eq!(ada.cookies("app.example.com").as_deref(), Some(&*cookie), "the cookie is kept");
    assert_eq!(ada.navigate(&format!("{APP}/public/page")).await.status, 200);

    world.peer.resume().await;
    let before = world.peer.counters().await;
    let deadline = Instant::now() + PATIENCE;
    while ada.fetch(DASHBOARD).await.status != 200 {
        assert!(Instant::now() < deadline, "the backend is back, the gate is not");
        sleep(Duration::from_millis(100)).await;
    }
    assert_ne!(ada.cookies("app.example.com").as_deref(), Some(&*cookie));
    assert_eq!(world.peer.counters().await.since(before), Counters::only(1));
}

/// A visitor signs out while other tabs still have older cookies.
pub(crate) async fn signed_out<P: Peer>(world: &World<P>) {
    let before = world.peer.counters().await;
    let pair = world.peer.sign_in().await;
    let ada = world.visitor(&World::<P>::ended(&pair));
    world.bearer(&ada).await;
    let newest = world.pair(&ada);
    let sign_out = Request::new("POST", &format!("{APP}/.foregate/sign-out"));
    assert_eq!(ada.send(&sign_out).await.status, 204);
    assert_eq!(ada.cookies("app.example.com"), None);
    for pair in [pair, newest] {
        let copy = world.visitor(&World::<P>::ended(&pair));
        assert_eq!(copy.fetch(DASHBOARD).await.status, 401);
        assert_eq!(copy.cookies("app.example.com"), None, "the copy is cleared");
    }
    assert_eq!(world.peer.counters().await.since(before), Counters::only(1));
}

/// An API that does not want the access token: a new one, if there is one, and the API's own word
/// if not.
pub(crate) async fn rejected<P: Peer>(world: &mut World<P>) {
    let before = world.peer.counters().await;
    let api = format!("http://api.example.com{}", P::API);
    let pair = world.peer.sign_in_elsewhere().await;
    let ada = world.visitor(&World::<P>::good(&pair));
    for _ in 0..2 {
        let answer = ada.fetch(&api).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_ne!(world.pair(&ada).refresh_token, pair.refresh_token);
    assert_eq!(world.peer.counters().await.since(before), Counters::only(1));

    let pair = world.peer.sign_in_elsewhere().await;
    world.peer.revoke(&pair.refresh_token).await;
    let bob = world.visitor(&World::<P>::good(&pair));
    assert_eq!(bob.fetch(&api).await.status, 401);
    assert_eq!(bob.cookies("app.example.com"), None, "the session is over");
    let counters = world.peer.counters().await.since(before);
    assert_eq!((counters.attempts, counters.redemptions), (2, 1));
}

/// One of several gates is killed in the middle of a storm, once somebody has the new token: whoever
/// of them has redeemed it, the others know it.
pub(crate) async fn killed<P: Peer>(world: &mut World<P>) {
    let before = world.peer.counters().await;
    let balancer = Balancer::new(&world.gates);
    let mut storm = balancer.storm(&World::<P>::ended(&world.peer.sign_in().await));
    let first = storm.join_next().await.unwrap().unwrap();
    world.gates[0].signal("KILL");
    world.gates[0].ended().await;
    let mut visits = storm.join_all().await;
    visits.push(first);
    assert_eq!(the_same(&visits).1, 0, "nobody had to come back");
    assert_eq!(world.peer.counters().await.since(before), Counters::only(1));
}
