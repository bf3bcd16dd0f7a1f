//! `connections`: how many at once, over all workers and listeners.

use std::sync::Arc;
use std::time::Duration;

use foregate_stage::{Script, Step};
use foregate_tests::h2::{END_HEADERS, HEADERS, RST_STREAM, RawHttp2, frame, request};
use foregate_tests::{Certificates, Connection};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{APP, HEAD, House, SOON};

#[tokio::test]
async fn one_more_than_the_places_waits_until_somebody_leaves() {
    let certificates = Certificates::covering(&["app.example.com"]);
    let four = ["connections = 4\nheader_timeout = \"60s\"\n", &certificates.table()].concat();
    let house = House::with("https = \"127.0.0.1:0\"", &four).await;
    let (plain, secure) = (house.gate.address(), house.gate.secure_address().await);
    let visits = async || {
        let mut silent = Vec::new();
        for address in [plain, secure, plain, secure] {
            silent.push(Connection::open(address).await);
        }
        silent
    };
    let mut silent = house.lets_in(visits).await;
    let mut waiting = Vec::new();
    for _ in 0..6 {
        let mut visitor = house.visitor().await;
        visitor.send(format!("GET /public/x {HEAD}\r\n")).await;
        waiting.push(visitor);
    }
    for visitor in &mut waiting {
        let early = timeout(Duration::from_millis(100), visitor.bytes(1)).await;
        assert!(early.is_err(), "served although all places were taken");
    }
    drop(silent.pop());
    // One place is enough for all of them in turn, since each is asked to leave it.
    for mut visitor in waiting {
        let answer = timeout(SOON, visitor.answer()).await.expect("served").unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        visitor.closed().await;
    }
    assert!(house.gate.log().contains("no place is left"));
}

#[tokio::test]
async fn visitors_are_asked_to_leave_when_places_get_scarce() {
    let house = House::with("", "connections = 16\nheader_timeout = \"60s\"\n").await;
    let visits = async || {
        let mut silent = Vec::new();
        for _ in 0..14 {
            silent.push(house.visitor().await);
        }
        silent
    };
    let silent = house.lets_in(visits).await;
    assert_eq!(house.serves_others().await.header("connection"), Some("close"));
    drop(silent);
    for _ in 0..100 {
        if house.serves_others().await.header("connection").is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("still asked to leave");
}

/// Two thousand connections, each ending in one of ten ways, pass through sixteen places.
#[tokio::test]
async fn every_place_is_given_back_however_its_connection_ended() {
    let certificates = Certificates::covering(&["app.example.com"]);
    let limits = "connections = 16\nheader_timeout = \"1s\"\nidle_timeout = \"2s\"\n";
    let limits = [limits, &certificates.table()].concat();
    let house = House::with("https = \"127.0.0.1:0\"", &limits).await;
    let (plain, secure) = (house.gate.address(), house.gate.secure_address().await);
    house.origin.script("/public/hang", Script::new([Step::Hang]));
    house.origin.script("/public/ws", Script::early([Step::Write(YES.into()), Step::Echo]));
    let at_once = Arc::new(Semaphore::new(12));
    let mut visits = JoinSet::new();
    for number in 0..2000 {
        let place = Arc::clone(&at_once).acquire_owned().await.unwrap();
        visits.spawn(async move {
            come_and_go(number % 10, plain, secure).await;
            drop(place);
        });
        while visits.try_join_next().is_some_and(|ended| ended.is_ok()) {}
    }
    visits.join_all().await;
    let mut silent = Vec::new();
    for _ in 0..13 {
        silent.push(house.visitor().await);
    }
    house.serves_others().await;
}

const YES: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

async fn come_and_go(way: usize, plain: std::net::SocketAddr, secure: std::net::SocketAddr) {
    let get = format!("GET /public/x {HEAD}\r\n");
    let hello: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let address = if matches!(way, 4 | 5) { secure } else { plain };
    let stream = TcpStream::connect(address).await.unwrap();
    if matches!(way, 3 | 7) {
        stream.set_zero_linger().unwrap();
    }
    let mut visitor = Connection::over(stream);
    match way {
        0 => {}
        1 => visitor.send(&get[..30]).await,
        2 | 3 => {
            visitor.send(&get).await;
            assert_eq!(visitor.answer().await.unwrap().status, 200);
        }
        4 => visitor.send(hello).await,
        5 => {
            visitor.send(&get).await;
            visitor.bytes(1024).await;
        }
        6 | 7 => visitor.send(format!("GET /public/hang {HEAD}\r\n")).await,
        8 => {
            let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let asks = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
            visitor.send(format!("GET /public/ws {HEAD}{asks}{key}\r\n")).await;
            assert_eq!(visitor.answer().await.unwrap().status, 101);
            visitor.send("hello").await;
            assert_eq!(visitor.bytes(5).await, b"hello");
        }
        _ => {
            let mut visitor = RawHttp2::open(plain, &[]).await;
            let list = request("POST", APP, "/public/hang");
            visitor.send(frame(HEADERS, END_HEADERS, 1, &list)).await;
            visitor.send(frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
            visitor.get(3, "/public/x").await;
            assert_eq!(visitor.status().await, Some(200));
        }
    }
}
