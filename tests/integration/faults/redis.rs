//! A Redis that is not well, with two gates that share it.

mod servers;
mod tls;
mod toxiproxy;

use foregate_tests::RedisServer;
use tokio::task::JoinSet;

use super::*;

/// Two gates that share a ledger.
struct Pair {
    site: Site,
    ledger: String,
    here: Gate,
    there: Gate,
    /// Renewed by one gate before anything went wrong; the other has not seen it.
    ada: Grant,
    adas: String,
}

impl Pair {
    async fn on(ledger: &str) -> Self {
        let site = Site::start().await;
        let (here, there) = (site.gate(ledger).await, site.gate(ledger).await);
        for gate in [&here, &there] {
            told(gate, "[+] ledger redis").await;
        }
        let ada = site.grant("ada", ENDED);
        let adas = bearer(&here, &ada).await;
        assert_eq!(site.counted(), (1, 1, 0));
        Self { site, ledger: ledger.to_owned(), here, there, ada, adas }
    }

    /// Redis has just gone, or is about to: with it away both gates serve everybody, and one call is
    /// made for each token that ended. Says what the gate has got for a visitor of that time.
    async fn goes_on_alone(&self, what: &str, why: &str) -> (Grant, String) {
        let bob = self.site.grant("bob", LIFE);
        let mut longest = Duration::ZERO;
        for number in 0..40 {
            let began = Instant::now();
            let gate = [&self.here, &self.there][number % 2];
            assert_eq!(bearer(gate, &bob).await, format!("Bearer {}", bob.access_token));
            longest = longest.max(began.elapsed());
        }
        println!("a good token, {what}: {} ms at most", longest.as_millis());
        let (calls, carl) = (self.site.counted().0, self.site.grant("ada", ENDED));
        let began = Instant::now();
        let visits: JoinSet<String> =
            (0..20).map(|_| at_last(visitor(&self.here, &carl))).collect();
        let tokens = visits.join_all().await;
        println!("an ended token, {what}: {} ms", began.elapsed().as_millis());
        assert!(tokens.iter().all(|token| *token == tokens[0]));
        assert_eq!(self.site.counted().0, calls + 1, "{what}");
        assert_eq!(bearer(&self.here, &self.ada).await, self.adas, "what was known is known");

        for gate in [&self.here, &self.there] {
            told(gate, &format!("[!] ledger {}", shown(&self.ledger))).await;
            told(gate, why).await;
            let (status, verbose) = readiness(gate).await;
            assert_eq!(status, 200, "it can still serve");
            assert!(verbose.contains("new tokens are here alone"), "{verbose}");
            gate.logged(|log| log.contains("new tokens are in this process alone")).await;
        }
        (carl, tokens[0].clone())
    }

    /// Redis is back: both gates use it again, and what the one found meanwhile is known to the
    /// other, and to a third one.
    async fn is_well_again(&self, what: &str, (carl, carls): (Grant, String)) {
        let (before, began) = (self.site.counted(), Instant::now());
        for gate in [&self.here, &self.there] {
            told(gate, &format!("[+] ledger {}", shown(&self.ledger))).await;
        }
        let until = began.elapsed();
        let third = self.site.gate(&self.ledger).await;
        for gate in [&self.there, &third] {
            assert_eq!(bearer(gate, &carl).await, carls, "{what}");
            assert_eq!(bearer(gate, &self.ada).await, self.adas, "{what}");
        }
        assert_eq!(self.site.counted(), before, "{what}: nothing is redeemed twice");
        let eve = self.site.grant("ada", ENDED);
        assert_eq!(bearer(&self.there, &eve).await, bearer(&self.here, &eve).await);
        let (calls, redemptions, reuses) = self.site.counted();
        assert_eq!((calls, redemptions, reuses), (before.0 + 1, before.1 + 1, 0), "{what}");
        self.site.tell(&format!("redis: {what}"), 0, Instant::now() - until);
    }
}

/// A ledger's address without its password.
fn shown(ledger: &str) -> String {
    match ledger.split_once("://").zip(ledger.split_once('@')) {
        Some(((scheme, _), (_, rest))) => format!("{scheme}://{rest}"),
        None => ledger.to_owned(),
    }
}

#[tokio::test]
async fn a_redis_that_was_killed_is_used_again_when_it_is_back() {
    // With an append-only file, so that it still knows what it has said.
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let pair = Pair::on(&redis.url()).await;
    redis.kill();
    let alone = pair.goes_on_alone("killed", "redis://").await;
    redis.start_again(&[]);
    pair.is_well_again("killed", alone).await;
}

/// A Redis without a disk has lost what it knew; the gates have not.
#[tokio::test]
async fn a_redis_that_comes_back_empty_takes_nothing_from_the_gates() {
    let mut redis = RedisServer::start();
    let pair = Pair::on(&redis.url()).await;
    assert_eq!(bearer(&pair.there, &pair.ada).await, pair.adas);
    redis.kill();
    let (carl, carls) = pair.goes_on_alone("emptied", "redis://").await;
    redis.start_again(&[]);
    let began = Instant::now();
    for gate in [&pair.here, &pair.there] {
        told(gate, "[+] ledger redis://").await;
        assert_eq!(bearer(gate, &pair.ada).await, pair.adas);
        assert_eq!(bearer(gate, &carl).await, carls);
    }
    assert_eq!(pair.site.counted(), (2, 2, 0));
    pair.site.tell("redis: killed, and back empty", 0, began);
}

#[tokio::test]
async fn a_redis_that_stands_still_keeps_no_good_token_waiting() {
    let redis = RedisServer::start();
    let pair = Pair::on(&redis.url()).await;
    redis.signal("STOP");
    let alone = pair.goes_on_alone("stopped", "redis://").await;
    redis.signal("CONT");
    pair.is_well_again("stopped", alone).await;
}

#[tokio::test]
async fn a_redis_whose_clients_are_paused_keeps_no_good_token_waiting() {
    let redis = RedisServer::start();
    let pair = Pair::on(&redis.url()).await;
    // A paused server does not even hear that it may go on.
    redis.say(&["CLIENT", "PAUSE", "6000", "ALL"]);
    let alone = pair.goes_on_alone("paused", "redis://").await;
    redis.says(&["PING"], "PONG").await;
    pair.is_well_again("paused", alone).await;
}

#[tokio::test]
async fn a_redis_that_is_full_is_named_and_still_read() {
    let redis = RedisServer::start();
    let pair = Pair::on(&redis.url()).await;
    redis.say(&["CONFIG", "SET", "maxmemory", "1"]);
    let alone = pair.goes_on_alone("full", "OOM").await;
    // What was written before is there, so nobody redeems it again.
    assert_eq!(bearer(&pair.there, &pair.ada).await, pair.adas);
    assert_eq!(pair.site.counted(), (2, 2, 0));
    redis.say(&["CONFIG", "SET", "maxmemory", "0"]);
    pair.is_well_again("full", alone).await;
}

#[tokio::test]
async fn a_redis_without_enough_replicas_to_write_is_named_and_still_read() {
    let redis = RedisServer::start();
    let pair = Pair::on(&redis.url()).await;
    redis.say(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let alone = pair.goes_on_alone("too few replicas", "NOREPLICAS").await;
    assert_eq!(bearer(&pair.there, &pair.ada).await, pair.adas);
    redis.say(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    pair.is_well_again("too few replicas", alone).await;
}

#[tokio::test]
async fn a_redis_that_became_a_replica_is_named() {
    let redis = RedisServer::start();
    let pair = Pair::on(&redis.url()).await;
    redis.say(&["REPLICAOF", "127.0.0.1", "1"]);
    let alone = pair.goes_on_alone("a replica", "the server is a replica").await;
    redis.say(&["REPLICAOF", "NO", "ONE"]);
    pair.is_well_again("a replica", alone).await;
}

/// What Foregate needs of Redis, and no more.
const RIGHTS: [&str; 18] = [
    "on",
    "~foregate:*",
    "resetchannels",
    "&foregate:*",
    "+get",
    "+set",
    "+del",
    "+pexpire",
    "+publish",
    "+subscribe",
    "+eval",
    "+evalsha",
    "+script|load",
    "+role",
    "+wait",
    "+hello",
    "+ping",
    "+select",
];

#[tokio::test]
async fn a_redis_that_takes_the_password_no_more_is_named_without_it() {
    let redis = RedisServer::start();
    redis.say(&[&["ACL", "SETUSER", "gate", ">the-right-one"][..], &RIGHTS].concat());
    let ledger = format!("redis://gate:the-right-one@{}", redis.host());
    let pair = Pair::on(&ledger).await;
    redis.say(&["ACL", "SETUSER", "gate", "resetpass", ">another"]);
    redis.say(&["CLIENT", "KILL", "USER", "gate"]);
    let alone = pair.goes_on_alone("wrong password", "WRONGPASS").await;
    for gate in [&pair.here, &pair.there] {
        assert!(!gate.log().contains("the-right-one"));
        assert!(!readiness(gate).await.1.contains("the-right-one"));
    }
    redis.say(&["ACL", "SETUSER", "gate", "resetpass", ">the-right-one"]);
    pair.is_well_again("wrong password", alone).await;
}

#[tokio::test]
async fn a_redis_that_is_still_loading_is_waited_for() {
    let mut redis = RedisServer::with(&["--dbfilename", "all.rdb"]);
    let pair = Pair::on(&redis.url()).await;
    let fill = "for i = 1, 4000 do redis.call('SET', 'filler:' .. i, i) end";
    redis.say(&["EVAL", fill, "0"]);
    redis.say(&["SAVE"]);
    redis.kill();
    // A millisecond for each key.
    let slowly = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    redis.start_again(&slowly);
    let alone = pair.goes_on_alone("loading", "loading").await;
    redis.says(&["PING"], "PONG").await;
    pair.is_well_again("loading", alone).await;
}
