//! Gates on a Redis that is made of several servers: a master that fails over, and a Cluster.

use std::net::TcpListener;
use std::process::Command;

use tokio::time::sleep;

use super::fake::{ENTRIES, Fake, Gate, REMEMBER};
use super::*;
use crate::ledger::fixtures::{RedisServer, free_port};
use crate::ledger::{LedgerAddress, LedgerState};

fn gate(address: &str, fake: &Fake) -> Gate {
    let address = LedgerAddress::parse(address).unwrap();
    let runtime = Handle::current();
    let ledger = Ledger::open(&address, ENTRIES, REMEMBER, &runtime, |_| ()).unwrap();
    Gate::with(ledger, fake.clone(), runtime, 64).patient_for(Duration::from_secs(1))
}

async fn good(gate: &Gate) {
    let began = Instant::now();
    // A gate that has not yet been asked anything is good as long as nothing has failed.
    while gate.refresher.ledger_state() != LedgerState::Good {
        let state = gate.refresher.ledger_state();
        assert!(began.elapsed() < Duration::from_secs(20), "never good: {state:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// What redis-cli says.
fn say(port: u16, words: &[&str]) -> String {
    let said = Command::new("redis-cli").args(["-p", &port.to_string()]).args(words).output();
    String::from_utf8_lossy(&said.unwrap().stdout).into_owned()
}

async fn until(port: u16, words: &[&str], wanted: &str) {
    let began = Instant::now();
    while !say(port, words).contains(wanted) {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", say(port, words));
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_was_settled_survives_a_failover() {
    let Some(master) = RedisServer::start() else { return };
    let master_port = master.port.to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &master_port]).unwrap();
    until(replica.port, &["INFO", "replication"], "master_link_status:up").await;
    // What is written before the first answer of a replica may be lost with its master.
    say(master.port, &["SET", "probe", "arrived"]);
    until(replica.port, &["GET", "probe"], "arrived").await;
    let sentinel = RedisServer::sentinel(master.port).unwrap();
    until(sentinel.port, &["SENTINEL", "REPLICAS", "main"], &replica.port.to_string()).await;

    let fake = Fake::default();
    let address = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port);
    let (here, there) = (gate(&address, &fake), gate(&address, &fake));
    let ann = here.session("ann");
    let renewed = here.refresh(&ann).await.unwrap();
    assert_eq!(there.visit(&ann).await, "ann-a1");
    drop(master);
    until(
        sentinel.port,
        &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"],
        &replica.port.to_string(),
    )
    .await;
    until(replica.port, &["ROLE"], "master").await;
    sleep(Duration::from_millis(500)).await;
    good(&here).await;
    good(&there).await;
    let (third, began) = (gate(&address, &fake), Instant::now());
    // It may find the new master at its first attempt or at a later one.
    while third.refresher.glance(&ann, third.now()).await.is_none() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never knows the pair");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(third.visit(&ann).await, "ann-a1");
    assert_eq!(there.visit(&renewed).await, "ann-a2");
    // The one before is good as well, as long as the news are on their way.
    while third.visit(&ann).await != "ann-a2" {
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!((here.calls(), here.reused()), (2, 0));
}

#[tokio::test]
async fn a_cluster_keeps_a_session_together_while_its_slot_moves() {
    let Some(first) = cluster_node() else { return };
    let nodes = [first, cluster_node().unwrap(), cluster_node().unwrap()];
    let ports = nodes.each_ref().map(|node| node.port);
    let hosts = ports.map(|port| format!("127.0.0.1:{port}"));
    cluster(&[&["create"], &hosts.each_ref().map(String::as_str)[..]].concat());
    for port in ports {
        until(port, &["CLUSTER", "INFO"], "cluster_state:ok").await;
    }

    let fake = Fake::default();
    let address = format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1]);
    let (here, there) = (gate(&address, &fake), gate(&address, &fake));
    let users: Vec<_> = (0..20).map(|number| here.session(&format!("u{number}"))).collect();
    for user in &users {
        let answer = here.visit(user).await;
        assert!(answer.contains("-a"), "{answer}");
        assert_eq!(there.visit(user).await, answer);
    }
    // Half of the other nodes' slots go to the first one, with what they hold.
    let owner = say(ports[0], &["CLUSTER", "MYID"]);
    let from_to = ["--cluster-from", "all", "--cluster-to", owner.trim()];
    cluster(&[&["reshard", &hosts[0]], &from_to[..], &["--cluster-slots", "5000"]].concat());
    let third = gate(&address, &fake);
    for user in &users {
        let answer = here.visit(user).await;
        assert_eq!(third.visit(user).await, answer);
    }
    assert_eq!((here.calls(), here.reused()), (20, 0));
    // A gate that could not reach its node for a moment would be on its own.
    for gate in [&here, &there, &third] {
        gate.visit(&users[0]).await;
        good(gate).await;
    }
    let ann = here.session("ann");
    let answers = tokio::join!(here.visit(&ann), there.visit(&ann), third.visit(&ann));
    assert_eq!((here.calls(), here.reused()), (21, 0), "{answers:?}");
    there.refresher.end(&ann, there.now()).await;
    assert_eq!(gate(&address, &fake).visit(&ann).await, "signed_out");
}

/// Has redis-cli do something to a Cluster.
fn cluster(words: &[&str]) {
    let mut command = Command::new("redis-cli");
    let done = command.arg("--cluster").args(words).arg("--cluster-yes").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

fn cluster_node() -> Option<RedisServer> {
    // The servers of a Cluster talk to each other on a port that is 10,000 above.
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let port = loop {
        let port = free_port();
        if port.checked_add(10_000).is_some_and(is_free) {
            break port;
        }
    };
    let node = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"];
    RedisServer::at_with(port, &node)
}
