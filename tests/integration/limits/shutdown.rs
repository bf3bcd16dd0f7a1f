//! The end of the program: whoever waits for nothing holds up nobody, and whoever has asked is
//! answered.

use std::time::{Duration, Instant};

use foregate_stage::{Script, Step};
use foregate_tests::h2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RawHttp2, SETTINGS, frame, request,
};
use foregate_tests::{Certificates, Connection};
use tokio::time::timeout;

use super::{APP, HEAD, House, SOON, TO_PLAYED};

const PATIENT: &str = "header_timeout = \"60s\"\nidle_timeout = \"60s\"\n";

#[tokio::test]
async fn whoever_has_asked_for_nothing_yet_holds_up_no_end() {
    let certificates = Certificates::covering(&["app.example.com"]);
    let limits = [PATIENT, &certificates.table()].concat();
    let server = "https = \"127.0.0.1:0\"\nshutdown_grace = \"60s\"";
    let mut house = House::with(server, &limits).await;
    let (plain, secure) = (house.gate.address(), house.gate.secure_address().await);
    let settings = frame(SETTINGS, 0, 0, b"");
    let list = request("GET", APP, "/public/x");
    let mut visitors = Vec::new();
    for (address, bytes) in [
        (plain, vec![]),
        (plain, format!("GET /public/x {HEAD}X: 1").into_bytes()),
        (plain, format!("GET /public/x {HEAD}\r\nGET /public/x {HEAD}X: 1").into_bytes()),
        (plain, format!("GET /public/x {HEAD}\r\n").into_bytes()),
        (secure, vec![]),
        (secure, vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        (plain, PREFACE[..10].to_vec()),
        (plain, PREFACE.to_vec()),
        (plain, [PREFACE, &settings].concat()),
        (plain, [PREFACE, &settings, &frame(HEADERS, 1, 1, &list)].concat()),
        (plain, [PREFACE, &settings, &frame(HEADERS, END_HEADERS | 1, 1, &list)].concat()),
    ] {
        let mut visitor = Connection::open(address).await;
        visitor.send(bytes).await;
        visitors.push(visitor);
    }
    // All of them have come in: three have been answered.
    house.serves_others().await;
    while house.origin.seen().len() < 4 {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    house.gate.signal("TERM");
    assert!(timeout(SOON, house.gate.ended()).await.expect("it ends").success());
    assert!(start.elapsed() < SOON);
}

#[tokio::test]
async fn whoever_came_in_time_is_answered() {
    // One place, and it is taken: everybody else waits at the doors or in the queue.
    let limits = [PATIENT, "connections = 1\n"].concat();
    let mut house = House::with("shutdown_grace = \"60s\"", &limits).await;
    let silent = house.visitor().await;
    let mut waiting = Vec::new();
    for number in 0..20 {
        let mut visitor = house.visitor().await;
        if number % 2 == 0 {
            visitor.send(format!("GET /public/x {HEAD}\r\n")).await;
            waiting.push((visitor, None));
        } else {
            let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
            visitor.get(1, "/public/x").await;
            let idle = house.visitor().await;
            waiting.push((idle, Some(visitor)));
        }
    }
    house.gate.signal("TERM");
    for (mut visitor, http2) in waiting {
        let status = match http2 {
            None => visitor.answer().await.map(|answer| answer.status),
            Some(mut http2) => http2.status().await,
        };
        assert_eq!(status, Some(200));
    }
    drop(silent);
    assert!(house.gate.ended().await.success());
}

#[tokio::test]
async fn a_stream_is_finished_after_goaway() {
    let mut house = House::with("shutdown_grace = \"60s\"", PATIENT).await;
    let pause = Step::Pause(Duration::from_millis(1500));
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".to_vec();
    let steps = [Step::Write(answer), pause, Step::Write(b"late".to_vec())];
    house.origin.script("/public/late", Script::new(steps));
    let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
    visitor.get(1, "/public/late").await;
    assert_eq!(visitor.status().await, Some(200));
    house.gate.signal("TERM");
    assert!(visitor.next_of(GOAWAY).await.is_some());
    let mut body = Vec::new();
    loop {
        let frame = visitor.next().await.expect("the answer comes to its end");
        if frame.kind == DATA {
            body.extend(frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
    }
    assert_eq!(body, b"late");
    assert!(timeout(SOON, house.gate.ended()).await.expect("it ends").success());
}

#[tokio::test]
async fn nothing_lasts_longer_than_the_grace() {
    let mut house = House::with("shutdown_grace = \"1s\"", PATIENT).await;
    house.origin.script("/public/hang", Script::new([Step::Hang]));
    let endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".to_vec();
    house.origin.script("/public/endless", Script::new([Step::Write(endless), Step::Hang]));
    let mut visitors = Vec::new();
    for path in ["/public/hang", "/public/endless"] {
        let mut visitor = house.visitor().await;
        visitor.send(format!("GET {path} {HEAD}\r\n")).await;
        visitors.push(visitor);
        let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
        visitor.get(1, path).await;
        while house.origin.seen().len() < 2 * visitors.len() {
            tokio::task::yield_now().await;
        }
    }
    let mut visitor = house.visitor().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    visitor.send(format!("GET /ws {TO_PLAYED}{upgrade}{key}\r\n")).await;
    let mut app = house.played.visited().await;
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    app.send(format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}{accept}\r\n")).await;
    assert_eq!(visitor.answer().await.unwrap().status, 101);

    let start = Instant::now();
    house.gate.signal("TERM");
    assert!(timeout(SOON, house.gate.ended()).await.expect("it ends").success());
    assert!(start.elapsed() > Duration::from_millis(800));
    visitor.closed().await;
}
