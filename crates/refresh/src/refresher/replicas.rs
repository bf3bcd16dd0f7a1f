//! Several gates in front of one backend, with one Redis between them.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::fake::{ENTRIES, Fake, Gate, Plan, REMEMBER};
use super::*;
use crate::ledger::fixtures::RedisServer;
use crate::ledger::{LedgerAddress, LedgerState};
use crate::outcome::Outcome;

/// Of the backend: a gate that dies is replaced within twice this.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A Redis, a backend, and as many gates as one likes.
struct Site {
    redis: RedisServer,
    fake: Fake,
}

impl Site {
    /// `None` where there is no redis-server.
    fn new() -> Option<Self> {
        Some(Self { redis: RedisServer::start()?, fake: Fake::default() })
    }

    fn gate(&self) -> Gate {
        gate(&self.redis.address(), &self.fake, Handle::current())
    }
}

fn gate(redis: &LedgerAddress, fake: &Fake, runtime: Handle) -> Gate {
    let ledger = Ledger::open(redis, ENTRIES, REMEMBER, &runtime, |_| ()).unwrap();
    Gate::with(ledger, fake.clone(), runtime, 64).patient_for(TIMEOUT)
}

/// Waits until something holds; fails after a while.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

fn is_good(gate: &Gate) -> bool {
    gate.refresher.ledger_state() == LedgerState::Good
}

#[tokio::test]
async fn a_storm_on_three_gates_is_one_redemption() {
    let Some(site) = Site::new() else { return };
    let gates = [site.gate(), site.gate(), site.gate()];
    let ann = gates[0].session("ann");
    site.fake.plan([Plan::Slow(Duration::from_millis(300))]);
    let visits: JoinSet<String> = (0..300).map(|number| gates[number % 3].visit(&ann)).collect();
    assert_eq!(visits.join_all().await, ["ann-a1"].repeat(300));
    assert_eq!((gates[0].calls(), gates[0].reused()), (1, 0));
    for gate in &gates {
        assert_eq!(gate.visit(&ann).await, "ann-a1", "and a late one");
        assert_eq!(gate.settled(&ann), "ann-a1", "who then is told at once");
    }
}

#[tokio::test]
async fn a_token_that_stays_is_redeemed_once_by_several_gates() {
    let Some(site) = Site::new() else { return };
    let gates = [site.gate(), site.gate()];
    site.fake.world().keep_refresh_tokens = true;
    let ann = gates[0].session("ann");
    site.fake.plan([Plan::Slow(Duration::from_millis(300))]);
    let visits: JoinSet<String> = (0..20).map(|number| gates[number % 2].visit(&ann)).collect();
    assert_eq!(visits.join_all().await, ["ann-a1"].repeat(20));
    assert_eq!(gates[0].calls(), 1);
}

#[tokio::test]
async fn a_sign_out_on_one_gate_holds_on_the_other_at_once() {
    let Some(site) = Site::new() else { return };
    let (here, there) = (site.gate(), site.gate());
    let ann = here.session("ann");
    let renewed = here.refresh(&ann).await.unwrap();
    assert_eq!(there.visit(&ann).await, "ann-a1");
    assert_eq!(there.settled(&ann), "ann-a1");
    here.refresher.end(&renewed, here.now()).await;
    until("the news arrive", || there.settled(&ann) == "nothing").await;
    for cookie in [&ann, &renewed] {
        assert_eq!(there.visit(cookie).await, "signed_out");
    }
    assert_eq!(here.calls(), 1);
}

#[tokio::test]
async fn a_newer_pair_from_another_gate_is_known_before_anything_is_redeemed() {
    let Some(site) = Site::new() else { return };
    let (here, there) = (site.gate(), site.gate());
    let ann = here.session("ann");
    let second = here.refresh(&ann).await.unwrap();
    assert_eq!(there.visit(&ann).await, "ann-a1");
    let third = here.refresh(&second).await.unwrap();
    // Whether the news of it have arrived or not.
    assert_eq!(there.visit(&second).await, "ann-a2");
    assert!(there.refresher.adopt(&third, &there.renewed_elsewhere(&third), there.now()).await);
    assert_eq!(here.visit(&third).await, "ann-a3");
    assert_eq!((here.calls(), here.reused()), (2, 0));
}

#[tokio::test]
async fn a_refusal_is_heard_by_those_who_wait_on_another_gate() {
    let Some(site) = Site::new() else { return };
    let (here, there) = (site.gate(), site.gate());
    let ann = here.session("ann");
    let go = Arc::new(Notify::new());
    site.fake.world().live.clear();
    site.fake.plan([Plan::WaitFor(Arc::clone(&go))]);
    let first = tokio::spawn(here.visit(&ann));
    until("it is sent", || here.calls() == 1).await;
    let second = tokio::spawn(there.visit(&ann));
    sleep(Duration::from_millis(100)).await;
    go.notify_one();
    assert_eq!(first.await.unwrap(), "refresh_refused");
    assert_eq!(second.await.unwrap(), "refresh_refused");
    assert_eq!(here.calls(), 1);
}

#[tokio::test]
async fn a_gate_that_ends_waits_until_redis_knows_what_it_did() {
    let Some(mut site) = Site::new() else { return };
    let here = site.gate();
    let ann = here.session("ann");
    until("Redis is there", || is_good(&here)).await;
    let port = site.redis.port;
    drop(site.redis);
    until("Redis is away", || !is_good(&here)).await;
    assert_eq!(here.visit(&ann).await, "ann-a1");
    assert_eq!(here.refresher.unsaved(), 1);
    let saved = here.refresher.saved();
    let in_vain = tokio::time::timeout(Duration::from_millis(600), saved).await;
    assert!(in_vain.is_err(), "nobody else has the new token");
    site.redis = RedisServer::at(port).unwrap();
    here.refresher.saved().await;
    let there = site.gate();
    assert_eq!(there.visit(&ann).await, "ann-a1");
    assert_eq!((here.calls(), here.reused()), (1, 0));
}

/// Whoever reaches Redis sees the names of claims, and no token.
#[tokio::test]
async fn nobody_without_the_token_can_say_that_it_was_refused() {
    let Some(site) = Site::new() else { return };
    let (here, there) = (site.gate(), site.gate());
    let ann = here.session("ann");
    let go = Arc::new(Notify::new());
    site.fake.plan([Plan::WaitFor(Arc::clone(&go))]);
    let first = tokio::spawn(here.visit(&ann));
    until("it is sent", || here.calls() == 1).await;
    let second = tokio::spawn(there.visit(&ann));
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", site.redis.port)).unwrap();
    let mut stranger = client.get_multiplexed_async_connection().await.unwrap();
    let claims: Vec<String> =
        redis::cmd("KEYS").arg("foregate:*:claim").query_async(&mut stranger).await.unwrap();
    let [claim] = &claims[..] else { panic!("{claims:?}") };
    let name = claim.split(['{', '}']).nth(1).unwrap();
    let record = BASE64_URL_SAFE_NO_PAD.decode(name).unwrap();
    for proof in [&[][..], &[0; 35]] {
        let news = [b"r", &[0; 8][..], &record, proof].concat();
        let mut forged = redis::cmd("PUBLISH");
        let heard: u8 =
            forged.arg("foregate:news").arg(news).query_async(&mut stranger).await.unwrap();
        assert_eq!(heard, 2);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!second.is_finished(), "it goes on waiting for the gate that redeems");
    go.notify_one();
    assert_eq!(first.await.unwrap(), "ann-a1");
    assert_eq!(second.await.unwrap(), "ann-a1");
    assert_eq!(here.calls(), 1);
}

#[tokio::test]
async fn a_gate_that_dies_is_replaced_within_two_time_outs() {
    let Some(site) = Site::new() else { return };
    let there = site.gate();
    let ann = there.session("ann");
    site.fake.plan([Plan::Hang]);
    let (dies, dead) = std::sync::mpsc::channel::<()>();
    let doomed = std::thread::spawn({
        let (address, fake, ann) = (site.redis.address(), site.fake.clone(), ann.clone());
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let here = gate(&address, &fake, runtime.handle().clone());
            runtime.spawn(here.visit(&ann));
            runtime.block_on(until("it is sent", || here.calls() == 1));
            runtime.block_on(async { sleep(Duration::from_millis(100)).await });
            drop(dies);
        }
    });
    assert!(tokio::task::spawn_blocking(move || dead.recv()).await.unwrap().is_err());
    doomed.join().unwrap();
    let died = Instant::now();
    let answer = loop {
        let answer = there.visit(&ann).await;
        if answer.starts_with("ann-a") {
            break answer;
        }
        assert!(died.elapsed() < 3 * TIMEOUT, "{answer}");
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((answer.as_str(), there.calls(), there.reused()), ("ann-a1", 2, 0));
    assert!(died.elapsed() < 2 * TIMEOUT, "{:?}", died.elapsed());
}

#[tokio::test]
async fn a_slow_backend_is_not_asked_by_the_next_gate_while_the_first_one_lives() {
    let Some(site) = Site::new() else { return };
    let (here, there) = (site.gate(), site.gate());
    let ann = here.session("ann");
    site.fake.plan([Plan::Slow(TIMEOUT * 5 / 2)]);
    let late = "the backend did not answer in time, again in 1 s";
    let (first, second) = tokio::join!(here.visit(&ann), there.visit(&ann));
    assert_eq!((first.as_str(), second.as_str()), (late, late));
    here.refresher.drain().await;
    there.refresher.drain().await;
    assert_eq!(
        (here.visit(&ann).await, there.visit(&ann).await),
        ("ann-a1".into(), "ann-a1".into())
    );
    assert_eq!((here.calls(), here.reused()), (1, 0));
}

#[tokio::test]
async fn without_redis_each_gate_goes_on_alone_and_tells_what_it_did_when_redis_is_back() {
    let Some(site) = Site::new() else { return };
    let (here, there) = (site.gate(), site.gate());
    let (ann, bob, eve) = (here.session("ann"), here.session("bob"), here.session("eve"));
    let renewed = here.refresh(&ann).await.unwrap();
    let (port, fake) = (site.redis.port, site.fake.clone());
    drop(site);
    until("both have noticed", || !is_good(&here) && !is_good(&there)).await;
    let visits: JoinSet<String> = (0..50).map(|_| here.visit(&bob)).collect();
    assert_eq!(visits.join_all().await, ["bob-a2"].repeat(50));
    assert_eq!(here.settled(&ann), "ann-a1", "what was known is known");
    let second = here.refresh(&renewed).await.unwrap();
    assert_eq!(second.access_token(), Some("ann-a3"));
    there.refresher.end(&eve, there.now()).await;
    // This token was spent by the other gate, which cannot be asked: no reason to sign anybody out.
    let unclear = "the ledger gives no answer: another gate may have been first, again in 1 s";
    assert_eq!(
        (there.visit(&bob).await, there.visit(&bob).await),
        (unclear.into(), unclear.into())
    );
    assert_eq!(there.calls(), 4, "and it is not sent again");

    let redis = RedisServer::at(port).unwrap();
    let site = Site { redis, fake };
    until("both are back", || is_good(&here) && is_good(&there)).await;
    let third = site.gate();
    assert_eq!(here.visit(&ann).await, "ann-a3", "a Redis that begins empty takes nothing away");
    for gate in [&here, &there, &third] {
        assert_eq!(gate.visit(&renewed).await, "ann-a3");
        assert_eq!(gate.visit(&bob).await, "bob-a2");
        assert_eq!(gate.visit(&eve).await, "signed_out");
    }
    assert_eq!(here.calls(), 4);
}

/// One that is the first to be back must not take a refusal for the last word.
#[tokio::test]
async fn a_gate_that_is_back_before_the_others_signs_nobody_out() {
    let Some(site) = Site::new() else { return };
    let there = site.gate();
    let bob = there.session("bob");
    let port = site.redis.port;
    let (go, told) = std::sync::mpsc::channel::<()>();
    let (is_alone, was_alone) = tokio::sync::oneshot::channel();
    let other = std::thread::spawn({
        let (address, fake, bob) = (site.redis.address(), site.fake.clone(), bob.clone());
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let here = gate(&address, &fake, runtime.handle().clone());
            runtime.block_on(async {
                here.visit(&here.session("ann")).await;
                is_alone.send(()).unwrap();
                until("it has noticed", || !is_good(&here)).await;
                assert_eq!(here.visit(&bob).await, "bob-a2");
            });
            // It stands still for as long as nobody tells it to go on.
            told.recv().unwrap();
            runtime.block_on(until("it is back", || is_good(&here)));
        }
    });
    was_alone.await.unwrap();
    drop(site);
    until("both are alone", || !is_good(&there) && there.calls() == 2).await;
    let _redis = RedisServer::at(port).unwrap();
    until("one is back", || is_good(&there)).await;
    let unclear = "the ledger gives no answer: another gate may have been first, again in 1 s";
    assert_eq!(there.visit(&bob).await, unclear);
    there.refresher.drain().await;
    go.send(()).unwrap();
    other.join().unwrap();
    assert_eq!(there.visit(&bob).await, "bob-a2");
    assert_eq!((there.calls(), there.reused()), (3, 1));
}

#[tokio::test]
async fn redis_holds_nothing_that_can_be_read_and_nothing_for_ever() {
    let Some(site) = Site::new() else { return };
    let gate = site.gate();
    gate.visit(&gate.session("ann")).await;
    gate.refresher.drain().await;
    let say = |words: &[&str]| {
        let mut command = std::process::Command::new("redis-cli");
        let port = site.redis.port.to_string();
        command.args(["-p", &port]).args(words).output().unwrap().stdout
    };
    let keys = String::from_utf8(say(&["KEYS", "*"])).unwrap();
    assert_eq!(keys.lines().count(), 3, "two entries and a record: {keys}");
    for key in keys.lines() {
        assert!(key.starts_with("foregate:"), "{key}");
        let ttl: i64 = String::from_utf8(say(&["TTL", key])).unwrap().trim().parse().unwrap();
        assert!((86_000..=86_400).contains(&ttl), "{key}: {ttl}");
        let value = say(&["GET", key]);
        for text in ["ann-", "accessToken", "1800000"] {
            assert!(!value.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
    }
}

#[tokio::test]
async fn a_redis_that_stands_still_keeps_nobody_waiting_for_long() {
    let Some(site) = Site::new() else { return };
    let gate = site.gate();
    let ann = gate.session("ann");
    assert_eq!(gate.visit(&gate.session("bob")).await, "bob-a1");
    site.redis.signal("STOP");
    let began = Instant::now();
    let mut answer = gate.visit(&ann).await;
    while !answer.starts_with("ann-a") {
        sleep(Duration::from_millis(50)).await;
        answer = gate.visit(&ann).await;
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!((gate.calls(), is_good(&gate)), (2, false));
    site.redis.signal("CONT");
    until("it is back", || is_good(&gate)).await;
    assert_eq!(site.gate().visit(&ann).await, "ann-a2");
    assert_eq!(gate.outcomes().last(), Some(&Outcome::Renewed));
}
