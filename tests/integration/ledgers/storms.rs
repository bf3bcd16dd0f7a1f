//! Many requests at once on three gates with one Redis, some of which come and go meanwhile.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use foregate_tests::RedisServer;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;

/// A backend, an app, and the gates in front of them that share a Redis.
struct Replicas {
    site: Site,
    gates: Vec<Gate>,
    balancer: Balancer,
    redis: RedisServer,
}

impl Replicas {
    /// Whose backend may take so long, and gives access tokens that live for so long.
    async fn start(timeout: &str, access_life: Duration) -> Self {
        let (site, redis) = (Site::with_life(access_life).await, RedisServer::start());
        let mut gates = Vec::new();
        for _ in 0..3 {
            gates.push(site.patient_gate(&redis.url(), timeout).await);
        }
        for gate in &gates {
            told(gate, "[+] ledger redis://").await;
        }
        let balancer = Balancer::new(&gates);
        Self { site, gates, balancer, redis }
    }
}

/// What stands in front of several gates: it goes to the next one where one does not answer.
#[derive(Clone)]
pub(crate) struct Balancer(Arc<Mutex<Vec<SocketAddr>>>);

impl Balancer {
    pub(crate) fn new(gates: &[Gate]) -> Self {
        Self(Arc::new(Mutex::new(gates.iter().map(Gate::address).collect())))
    }

    /// The dashboard, with this cookie, from the gate with this number or else from the next one
    /// that answers; later where a gate says so. Panics if the visitor is signed out, or anything
    /// else comes of it.
    async fn visit(&self, cookie: &str, number: usize) -> Visit {
        let mut turned_away = 0;
        for turn in number.. {
            let Some(answer) = self.ask(cookie, turn).await else { continue };
            match (answer.status, answer.header("retry-after")) {
                (200, _) => {
                    let bearer = answer.seen_header("authorization").expect("a token");
                    return Visit { bearer, turned_away };
                }
                (503, Some(seconds)) if turned_away < 20 => {
                    turned_away += 1;
                    sleep(Duration::from_secs(seconds.parse().unwrap())).await;
                }
                (status, _) => panic!("{status}: {}", answer.text()),
            }
        }
        unreachable!("the numbers go on")
    }

    /// `None`: that gate is not there, or has gone before it answered.
    async fn ask(&self, cookie: &str, turn: usize) -> Option<Answer> {
        let address = {
            let addresses = self.0.lock().unwrap();
            addresses[turn % addresses.len()]
        };
        let mut connection = Connection::over(TcpStream::connect(address).await.ok()?);
        let head = "GET /dashboard HTTP/1.1\r\nHost: app.example.com\r\n";
        connection.send(format!("{head}Cookie: {cookie}\r\n\r\n")).await;
        connection.answer().await
    }

    /// Five hundred at once.
    pub(crate) fn storm(&self, cookie: &str) -> JoinSet<Visit> {
        let mut visits = JoinSet::new();
        for number in 0..500 {
            let (balancer, cookie) = (self.clone(), cookie.to_owned());
            visits.spawn(async move { balancer.visit(&cookie, number).await });
        }
        visits
    }
}

pub(crate) struct Visit {
    /// What the app saw.
    bearer: String,
    /// How often a gate said that the visitor should come back.
    turned_away: usize,
}

/// All of them got the same token; gives it back, and how many had to come twice.
pub(crate) fn the_same(visits: &[Visit]) -> (String, usize) {
    let bearer = visits[0].bearer.clone();
    assert!(visits.iter().all(|visit| visit.bearer == bearer), "one token for all");
    (bearer, visits.iter().filter(|visit| visit.turned_away > 0).count())
}

#[tokio::test]
async fn five_hundred_requests_on_three_gates_redeem_once() {
    let world = Replicas::start("10s", LIFE).await;
    let ada = world.site.grant("ada", ENDED);
    let cookie = session_cookie(&ada);
    world.site.backend.fail(Fault::Delay(Duration::from_millis(300)));
    let (bearer, again) = the_same(&world.balancer.storm(&cookie).join_all().await);
    assert_ne!(bearer, format!("Bearer {}", ada.access_token));
    let counters = world.site.backend.counters();
    assert_eq!((counters.attempts, counters.redemptions, counters.reuses), (1, 1, 0));
    assert_eq!(again, 0, "nobody had to come back");
    // A storm of those who come too late asks the backend for nothing.
    assert_eq!(the_same(&world.balancer.storm(&cookie).join_all().await), (bearer, 0));
    assert_eq!(world.site.backend.counters(), counters);
}

/// The gate that has asked the backend is killed before the backend does anything.
#[tokio::test]
async fn a_storm_outlives_the_gate_that_redeems() {
    let mut world = Replicas::start("2s", LIFE).await;
    let cookie = session_cookie(&world.site.grant("ada", ENDED));
    world.site.backend.fail(Fault::Hold);
    let first = tokio::spawn({
        let (balancer, cookie) = (world.balancer.clone(), cookie.clone());
        async move { balancer.visit(&cookie, 0).await }
    });
    attempts(&world.site, 1).await;
    let storm = world.balancer.storm(&cookie);
    waiting(&world.gates[1]).await;
    world.gates[0].signal("KILL");
    world.gates[0].ended().await;
    // The next one asks once the turn of the dead one is over.
    attempts(&world.site, 2).await;
    world.site.backend.recover();
    let mut visits = storm.join_all().await;
    visits.push(first.await.unwrap());
    let (_, again) = the_same(&visits);
    assert_eq!(world.site.counted(), (1, 0), "{again} had to come back");
    eprintln!(
        "figures | the gate that redeems is killed | 1 redemption | {again} of 501 came twice"
    );
}

/// One of those that wait is killed; nobody notices.
#[tokio::test]
async fn a_storm_outlives_a_gate_that_waits() {
    let mut world = Replicas::start("10s", LIFE).await;
    let cookie = session_cookie(&world.site.grant("ada", ENDED));
    world.site.backend.fail(Fault::Hold);
    let first = tokio::spawn({
        let (balancer, cookie) = (world.balancer.clone(), cookie.clone());
        async move { balancer.visit(&cookie, 0).await }
    });
    attempts(&world.site, 1).await;
    let storm = world.balancer.storm(&cookie);
    waiting(&world.gates[1]).await;
    world.gates[1].signal("KILL");
    world.gates[1].ended().await;
    world.site.backend.recover();
    let mut visits = storm.join_all().await;
    visits.push(first.await.unwrap());
    assert_eq!(the_same(&visits).1, 0, "nobody had to come back");
    let counters = world.site.backend.counters();
    assert_eq!((counters.attempts, counters.redemptions, counters.reuses), (1, 1, 0));
}

/// Twenty sessions whose tokens live for three seconds, asked for by the first cookies they ever
/// had, while each gate in turn is stopped and another one takes its place.
#[tokio::test]
async fn a_rolling_restart_signs_nobody_out() {
    const SESSIONS: usize = 20;
    let mut world = Replicas::start("10s", Duration::from_secs(3)).await;
    let cookies: Vec<String> =
        (0..SESSIONS).map(|_| session_cookie(&world.site.grant("ada", ENDED))).collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut visitors = JoinSet::new();
    for (number, cookie) in cookies.into_iter().enumerate() {
        let (balancer, is_over) = (world.balancer.clone(), Arc::clone(&is_over));
        visitors.spawn(async move {
            let (mut visits, mut turned_away) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                turned_away += balancer.visit(&cookie, number + visits).await.turned_away;
                visits += 1;
                sleep(Duration::from_millis(20)).await;
            }
            (visits, turned_away)
        });
    }
    for number in 0..3 {
        redemptions(&world.site, SESSIONS as u64).await;
        world.gates[number].signal("TERM");
        assert!(world.gates[number].ended().await.success());
        let next = world.site.patient_gate(&world.redis.url(), "10s").await;
        world.balancer.0.lock().unwrap()[number] = next.address();
        world.gates[number] = next;
    }
    redemptions(&world.site, SESSIONS as u64).await;
    is_over.store(true, Ordering::Relaxed);
    let told = visitors.join_all().await;
    let (visits, turned_away) =
        told.iter().fold((0, 0), |sum, told| (sum.0 + told.0, sum.1 + told.1));
    let counters = world.site.backend.counters();
    eprintln!(
        "figures | a rolling restart | {visits} visits, {counters:?}, {turned_away} came twice"
    );
    assert_eq!((counters.refused, counters.reuses, turned_away), (0, 0, 0));
    assert_eq!(counters.attempts, counters.redemptions);
}

#[tokio::test]
async fn two_thousand_sessions_that_end_at_once_are_two_thousand_redemptions() {
    let world = Replicas::start("30s", LIFE).await;
    let began = Instant::now();
    let mut visits = JoinSet::new();
    for number in 0..2000 {
        let cookie = session_cookie(&world.site.grant("ada", ENDED));
        let balancer = world.balancer.clone();
        visits.spawn(async move { balancer.visit(&cookie, number).await });
    }
    let visits = visits.join_all().await;
    eprintln!("figures | 2,000 sessions end at once | {:?}", began.elapsed());
    assert_eq!(visits.iter().filter(|visit| visit.turned_away > 0).count(), 0, "no 503");
    let mut bearers: Vec<_> = visits.into_iter().map(|visit| visit.bearer).collect();
    bearers.sort();
    bearers.dedup();
    assert_eq!(bearers.len(), 2000, "each has a token of its own");
    let counters = world.site.backend.counters();
    assert_eq!((counters.attempts, counters.redemptions, counters.reuses), (2000, 2000, 0));
}

/// Waits until the backend was asked so often.
async fn attempts(site: &Site, count: u64) {
    while site.backend.counters().attempts < count {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the backend has redeemed so many more tokens.
async fn redemptions(site: &Site, count: u64) {
    let before = site.backend.counters().redemptions;
    while site.backend.counters().redemptions < before + count {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a hundred requests wait at a gate.
async fn waiting(gate: &Gate) {
    loop {
        let mut connection = Connection::open(gate.admin_address().await).await;
        connection.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let metrics = connection.answer().await.unwrap().text();
        let open = metrics.lines().find_map(|line| line.strip_prefix(VISITORS));
        if open.is_some_and(|open| open.parse::<u64>().is_ok_and(|open| open >= 100)) {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

const VISITORS: &str = "foregate_connections_open{listener=\"http\",protocol=\"h1\"} ";
