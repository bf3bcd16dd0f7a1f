//! What those are told who must not wait, and for how long it is remembered.

use tokio::time::{advance, sleep};

use super::fake::{ENTRIES, Fake, Gate, REMEMBER};
use super::*;
use crate::ledger::fixtures::{Directory, RedisServer};
use crate::ledger::{LedgerAddress, LedgerState};

fn gate(ledger: &LedgerAddress, fake: &Fake) -> Gate {
    let runtime = Handle::current();
    let ledger = Ledger::open(ledger, ENTRIES, REMEMBER, &runtime, |_| ()).unwrap();
    Gate::with(ledger, fake.clone(), runtime, 64)
}

async fn glance(gate: &Gate, session: &Session) -> Option<String> {
    let tokens = gate.refresher.glance(session, gate.now()).await?;
    Some(tokens.access_token.expose().to_owned())
}

async fn until_its_ledger_is(gate: &Gate, good: bool) {
    let began = Instant::now();
    while (gate.refresher.ledger_state() == LedgerState::Good) != good {
        assert!(began.elapsed() < Duration::from_secs(10), "the ledger is good: {}", !good);
        sleep(Duration::from_millis(2)).await;
    }
}

/// The next process knows nothing of a session until it has asked the ledger.
async fn check_a_restart(ledger: &LedgerAddress) {
    let fake = Fake::default();
    let first = gate(ledger, &fake);
    let (ann, bob) = (first.session("ann"), first.session("bob"));
    assert_eq!(first.visit(&ann).await, "ann-a1");
    first.refresher.drain().await;
    drop(first);

    let next = gate(ledger, &fake);
    until_its_ledger_is(&next, true).await;
    assert_eq!(next.settled(&ann), "nothing");
    assert_eq!(glance(&next, &ann).await.as_deref(), Some("ann-a1"));
    assert_eq!(next.settled(&ann), "ann-a1", "from now on it is known at once");
    assert_eq!(glance(&next, &bob).await, None, "a glance redeems nothing");
    assert_eq!((next.calls(), next.reused()), (1, 0));
}

#[tokio::test]
async fn after_a_restart_a_glance_finds_what_the_file_knows() {
    let directory = Directory::new();
    check_a_restart(&LedgerAddress::File(directory.path("ledger.redb"))).await;
}

#[tokio::test]
async fn after_a_restart_a_glance_finds_what_redis_knows() {
    let Some(redis) = RedisServer::start() else { return };
    check_a_restart(&redis.address()).await;
}

#[tokio::test]
async fn a_glance_waits_a_moment_for_a_redis_that_stands_still_and_then_never() {
    let Some(redis) = RedisServer::start() else { return };
    let gate = gate(&redis.address(), &Fake::default());
    let ann = gate.session("ann");
    // A first look waits for the connection.
    assert_eq!(gate.visit(&gate.session("bob")).await, "bob-a1");
    redis.signal("STOP");
    let began = Instant::now();
    assert_eq!(glance(&gate, &ann).await, None);
    // Redis would be given a second.
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());

    until_its_ledger_is(&gate, false).await;
    for session in [&ann, &gate.session("carl")] {
        // Ready without ever having waited.
        let glance = tokio::spawn({
            let (refresher, session, now) = (gate.refresher.clone(), session.clone(), gate.now());
            async move {
                let glance = refresher.glance(&session, now);
                let ready = std::pin::pin!(glance);
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                ready.poll(&mut context).is_ready()
            }
        });
        assert!(glance.await.unwrap(), "nobody waits for a Redis that is away");
    }
    redis.signal("CONT");
    assert_eq!(gate.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_life_that_is_configured_anew_counts_from_the_next_pair_on() {
    let gate = Gate::new();
    let (ann, bob) = (gate.session("ann"), gate.session("bob"));
    gate.visit(&ann).await;
    gate.refresher.remember(Duration::from_secs(20));
    gate.visit(&bob).await;
    assert_eq!((gate.settled(&ann), gate.settled(&bob)), ("ann-a1".into(), "bob-a2".into()));
    advance(Duration::from_secs(21)).await;
    assert_eq!((gate.settled(&ann), gate.settled(&bob)), ("ann-a1".into(), "nothing".into()));
}

#[tokio::test]
async fn redis_hears_of_a_life_that_is_configured_anew() {
    let Some(redis) = RedisServer::start() else { return };
    let gate = gate(&redis.address(), &Fake::default());
    gate.refresher.remember(Duration::from_secs(1000));
    gate.visit(&gate.session("ann")).await;
    gate.refresher.drain().await;
    let say = |words: &[&str]| {
        let mut command = std::process::Command::new("redis-cli");
        command.args(["-p", &redis.port.to_string()]).args(words);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let keys = say(&["KEYS", "foregate:*"]);
    assert_eq!(keys.lines().count(), 3, "two entries and a record: {keys}");
    for key in keys.lines() {
        let ttl: i64 = say(&["TTL", key]).trim().parse().unwrap();
        assert!((900..=1000).contains(&ttl), "{key}: {ttl}");
    }
}
