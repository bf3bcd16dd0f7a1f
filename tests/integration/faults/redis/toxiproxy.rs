//! A network before Redis that is not well, as Toxiproxy makes it (github.com/Shopify/toxiproxy).

use std::process::{Child, Command, Stdio};

use foregate_tests::free_port;

use super::*;

/// A running toxiproxy-server with one proxy, before a Redis. It ends with its owner.
struct Toxiproxy {
    child: Child,
    api: u16,
    port: u16,
}

impl Toxiproxy {
    /// Panics unless `cargo xtask test` has built the program.
    async fn before(redis: &RedisServer) -> Self {
        let (api, port) = (free_port(), free_port());
        let child = Command::new(TOXIPROXY)
            .args(["-host", "127.0.0.1", "-port", &api.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cargo xtask test builds toxiproxy-server");
        let toxiproxy = Self { child, api, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", api)).is_err() {
            assert!(Instant::now() < deadline, "toxiproxy-server does not listen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let proxy = serde_json::json!({
            "name": "redis", "listen": format!("127.0.0.1:{port}"), "upstream": redis.host(),
        });
        toxiproxy.say("POST", "/proxies", &proxy).await;
        toxiproxy
    }

    fn ledger(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn say(&self, method: &str, path: &str, body: &serde_json::Value) {
        let body = body.to_string();
        let mut connection = Connection::open(([127, 0, 0, 1], self.api).into()).await;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        connection.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        let answer = connection.answer().await.unwrap();
        assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
    }

    /// Lets connections through, or closes those that are open and takes no others.
    async fn enable(&self, enabled: bool) {
        self.say("POST", "/proxies/redis", &serde_json::json!({ "enabled": enabled })).await;
    }

    /// Something that is wrong with what Redis says.
    async fn add(&self, kind: &str, attributes: serde_json::Value) {
        let toxic = serde_json::json!({ "name": "toxic", "type": kind, "attributes": attributes });
        self.say("POST", "/proxies/redis/toxics", &toxic).await;
    }

    async fn remove(&self) {
        self.say("DELETE", "/proxies/redis/toxics/toxic", &serde_json::Value::Null).await;
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_line_that_is_cut_is_used_again_when_it_is_mended() {
    let redis = RedisServer::start();
    let toxiproxy = Toxiproxy::before(&redis).await;
    let pair = Pair::on(&toxiproxy.ledger()).await;
    toxiproxy.enable(false).await;
    let alone = pair.goes_on_alone("cut", "redis://").await;
    toxiproxy.enable(true).await;
    pair.is_well_again("cut", alone).await;
}

/// Nobody hears anything, and no connection closes.
#[tokio::test]
async fn a_line_that_swallows_all_keeps_no_good_token_waiting() {
    let redis = RedisServer::start();
    let toxiproxy = Toxiproxy::before(&redis).await;
    let pair = Pair::on(&toxiproxy.ledger()).await;
    toxiproxy.add("timeout", serde_json::json!({ "timeout": 0 })).await;
    let alone = pair.goes_on_alone("swallowed", "redis://").await;
    toxiproxy.remove().await;
    pair.is_well_again("swallowed", alone).await;
}

#[tokio::test]
async fn a_line_that_is_too_slow_keeps_no_good_token_waiting() {
    let redis = RedisServer::start();
    let toxiproxy = Toxiproxy::before(&redis).await;
    let pair = Pair::on(&toxiproxy.ledger()).await;
    toxiproxy.add("latency", serde_json::json!({ "latency": 3000 })).await;
    let alone = pair.goes_on_alone("3 s late", "redis://").await;
    toxiproxy.remove().await;
    pair.is_well_again("3 s late", alone).await;
}

#[tokio::test]
async fn a_line_that_breaks_off_in_the_middle_of_answers_loses_nothing() {
    let redis = RedisServer::start();
    let toxiproxy = Toxiproxy::before(&redis).await;
    let pair = Pair::on(&toxiproxy.ledger()).await;
    toxiproxy.add("limit_data", serde_json::json!({ "bytes": 700 })).await;
    let alone = pair.goes_on_alone("broken off", "redis://").await;
    toxiproxy.remove().await;
    pair.is_well_again("broken off", alone).await;
}

/// Then all is well, only later.
#[tokio::test]
async fn a_line_that_is_slow_is_waited_for_and_one_token_is_one_redemption() {
    let redis = RedisServer::start();
    let toxiproxy = Toxiproxy::before(&redis).await;
    let pair = Pair::on(&toxiproxy.ledger()).await;
    let latency = serde_json::json!({ "latency": 200, "jitter": 50 });
    toxiproxy.add("latency", latency).await;
    let (bob, carl) = (pair.site.grant("bob", LIFE), pair.site.grant("ada", ENDED));
    let began = Instant::now();
    bearer(&pair.here, &bob).await;
    println!("a good token, slow: {} ms", began.elapsed().as_millis());
    let began = Instant::now();
    let (one, two) =
        tokio::join!(bearer_at_last(&pair.here, &carl), bearer_at_last(&pair.there, &carl));
    assert_eq!(one, two);
    assert_eq!(pair.site.counted(), (2, 2, 0));
    for gate in [&pair.here, &pair.there] {
        told(gate, "[+] ledger redis").await;
    }
    pair.site.tell("redis: 200 ms late", 0, began);
}

const TOXIPROXY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/faults/.built/toxiproxy-server");
