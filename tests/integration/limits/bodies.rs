//! `idle_timeout`: bodies, streams and tunnels that stand still, and those that only go slowly.

use std::time::{Duration, Instant};

use foregate_stage::{Script, Step};
use foregate_tests::Connection;
use foregate_tests::h2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING, RST_STREAM, RawHttp2, frame,
    request,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{APP, DRIP, HEAD, House, PATIENCE, SOON, TO_PLAYED, drip, rest, status};

#[tokio::test]
async fn a_body_that_stands_still_is_a_408() {
    let house = House::open().await;
    let mut visitors = JoinSet::new();
    for (what, path, framing, begun) in [
        ("a length", "/public/x", "Content-Length: 10", "abc"),
        ("nothing of it", "/public/x", "Content-Length: 10", ""),
        ("half a chunk", "/public/x", "Transfer-Encoding: chunked", "5\r\nabc"),
        ("a chunk", "/public/x", "Transfer-Encoding: chunked", "3\r\nabc\r\n"),
        ("a chunk's size", "/public/x", "Transfer-Encoding: chunked", "3\r\nabc\r\n1"),
        ("trailers", "/public/x", "Transfer-Encoding: chunked", "0\r\nX: 1\r\n"),
    ] {
        let mut visitor = house.visitor().await;
        visitor.send(format!("POST {path} {HEAD}{framing}\r\n\r\n{begun}")).await;
        visitors.spawn(async move {
            let start = Instant::now();
            let answer = visitor.answer().await.unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!(answer.status, 408, "{what}");
            assert_eq!(answer.json()["reason"], "upload_timeout", "{what}");
            visitor.closed().await;
            assert!(start.elapsed() < SOON, "{what}");
        });
    }
    house.serves_others().await;
    visitors.join_all().await;
    let reached = house.origin.seen().iter().filter(|seen| seen.target == "/public/x").count();
    assert_eq!(reached, 0, "the app took half a request for a whole one");
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 99";

#[tokio::test]
async fn a_sign_out_waits_for_the_rest_of_its_form_only_so_long() {
    let house = House::open().await;
    let mut visitors = JoinSet::new();
    for slowly in [0, 90] {
        let mut visitor = house.visitor().await;
        visitors.spawn(async move {
            visitor.send(format!("POST /.foregate/sign-out {HEAD}{FORM}\r\n\r\nx")).await;
            let (heard, took) = drip(&mut visitor, vec![b'x'; slowly]).await;
            assert!(took < SOON, "{took:?}");
            // Whoever wants to leave leaves.
            assert_eq!(status(&heard), 204);
        });
    }
    visitors.join_all().await;
}

#[tokio::test]
async fn a_body_that_stands_still_over_http2_is_a_408() {
    let house = House::open().await;
    let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
    let list = request("POST", APP, "/public/x");
    visitor.send(frame(HEADERS, END_HEADERS, 1, &list)).await;
    visitor.send(frame(DATA, 0, 1, b"abc")).await;
    assert_eq!(visitor.status().await, Some(408));
}

#[tokio::test]
async fn a_refused_request_whose_body_stands_still_is_waited_for_only_briefly() {
    let house = House::open().await;
    let mut visitor = house.visitor().await;
    visitor
        .send("POST / HTTP/1.1\r\nHost: nowhere.example.com\r\nContent-Length: 9\r\n\r\nx")
        .await;
    let start = Instant::now();
    assert_eq!(visitor.answer().await.unwrap().status, 404);
    visitor.closed().await;
    assert!(start.elapsed() < SOON);
}

#[tokio::test]
async fn a_body_that_drips_is_taken_to_its_end() {
    let house = House::open().await;
    let mut visitors = JoinSet::new();
    // Six seconds, where two of silence would be too many.
    for (framing, unit, end) in
        [("Content-Length: 24", "x", ""), ("Transfer-Encoding: chunked", "1\r\nx\r\n", "0\r\n\r\n")]
    {
        let mut visitor = house.visitor().await;
        visitors.spawn(async move {
            visitor.send(format!("POST /public/x {HEAD}{framing}\r\n\r\n")).await;
            for _ in 0..24 {
                visitor.send(unit).await;
                sleep(DRIP).await;
            }
            visitor.send(end).await;
            assert_eq!(visitor.answer().await.unwrap().status, 200, "{framing}");
        });
    }
    visitors.join_all().await;
    assert!(house.origin.seen().iter().all(|seen| seen.body_length == 24));
}

#[tokio::test]
async fn an_answer_that_stands_still_breaks_off_and_never_looks_whole() {
    let house = House::open().await;
    let mut visitors = JoinSet::new();
    for (path, framing, begun) in [
        ("/public/length", "Content-Length: 10", "abc"),
        ("/public/chunk", "Transfer-Encoding: chunked", "5\r\nabc"),
        ("/public/chunks", "Transfer-Encoding: chunked", "3\r\nabc\r\n"),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{begun}");
        house.origin.script(path, Script::new([Step::Write(head.into()), Step::Hang]));
        let mut visitor = house.visitor().await;
        visitors.spawn(async move {
            visitor.send(format!("GET {path} {HEAD}\r\n")).await;
            let (heard, took) = drip(&mut visitor, []).await;
            let heard = String::from_utf8(heard).unwrap();
            assert!(heard.contains("abc") && !heard.contains("\r\n0\r\n"), "{heard}");
            assert!(took < SOON, "{path}: {took:?}");
        });
    }
    visitors.join_all().await;

    let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
    visitor.get(1, "/public/chunks").await;
    loop {
        let frame = visitor.next().await.expect("the connection goes on");
        assert!(frame.stream == 0 || frame.flags & END_STREAM == 0 || frame.kind == RST_STREAM);
        if frame.kind == RST_STREAM {
            break;
        }
    }
}

#[tokio::test]
async fn a_visitor_who_stops_reading_is_given_up_and_so_is_the_app() {
    let house = House::open().await;
    house.serves_others().await;
    let before = house.memory();
    let mut visitor = house.visitor().await;
    visitor.send(format!("GET /big {TO_PLAYED}\r\n")).await;
    let mut app = house.played.visited().await;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    let (start, piece, mut sent) = (Instant::now(), vec![b'x'; 256 * 1024], 0);
    // Once the gate hangs up what we send is lost at once, and the rest of it in no time.
    while sent < 1_000_000_000 {
        timeout(PATIENCE, app.send(&piece)).await.expect("the gate gives up");
        sent += piece.len();
    }
    assert!(app.bytes(1).await.is_empty(), "the app's connection is closed");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let growth = house.peak_memory().saturating_sub(before);
    assert!(growth < 12 * 1024, "{growth} KiB");
    let mut read = 0;
    loop {
        match visitor.bytes(1 << 20).await.len() {
            0 => break,
            count => read += count,
        }
    }
    assert!(read < 100_000_000, "{read} bytes were on their way to nobody");
}

/// Streams whose window stays shut, whatever else their visitor does.
#[tokio::test]
async fn a_stream_that_nobody_reads_ends_although_its_connection_is_alive() {
    let house = House::open().await;
    let mut visitor = RawHttp2::open(house.gate.address(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let list = request("GET", "played.example.com", "/big");
    visitor.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &list)).await;
    let mut app = house.played.visited().await;
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
    app.send(vec![b'x'; 100_000]).await;
    let start = Instant::now();
    let hears = async {
        loop {
            visitor.send(frame(PING, 0, 0, b"12345678")).await;
            let other = visitor.next().await.expect("the connection goes on");
            if other.kind == RST_STREAM {
                return;
            }
            if other.kind == PING {
                sleep(DRIP).await;
            }
        }
    };
    timeout(SOON, hears).await.expect("a reset stream");
    assert!(app.bytes(1).await.is_empty(), "the app's connection is closed");
    assert!(start.elapsed() > Duration::from_millis(1600));
    visitor.get(3, "/public/x").await;
    assert_eq!(visitor.status().await, Some(200));
}

#[tokio::test]
async fn events_in_time_keep_a_stream_alive() {
    let house = House::open().await;
    let mut steps = vec![Step::Write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec(),
    )];
    for _ in 0..5 {
        steps.push(Step::Pause(Duration::from_secs(1)));
        steps.push(Step::Write(b"9\r\ndata: 1\n\n\r\n".to_vec()));
    }
    steps.push(Step::Write(b"0\r\n\r\n".to_vec()));
    house.origin.script("/public/events", Script::new(steps));
    let mut visitor = house.visitor().await;
    visitor.send(format!("GET /public/events {HEAD}\r\n")).await;
    let plain = async {
        assert_eq!(visitor.answer().await.unwrap().text(), "data: 1\n\n".repeat(5));
    };
    let over_http2 = async {
        let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
        visitor.get(1, "/public/events").await;
        let mut events = 0;
        loop {
            let data = visitor.next_of(DATA).await.expect("the stream goes on");
            events += usize::from(!data.payload.is_empty());
            if data.flags & END_STREAM != 0 {
                break;
            }
        }
        assert_eq!(events, 5);
    };
    tokio::join!(plain, over_http2);
}

#[tokio::test]
async fn a_tunnel_ends_when_neither_side_says_anything_and_not_before() {
    let house = House::open().await;
    // RFC 6455 §1.3.
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket";
    let yes = format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n{accept}\r\n\r\n");
    let open = async || -> (Connection, Connection) {
        let mut visitor = house.visitor().await;
        visitor.send(format!("GET /ws {TO_PLAYED}{upgrade}\r\n{key}\r\n\r\n")).await;
        let mut app = house.played.visited().await;
        app.send(&yes).await;
        assert_eq!(visitor.answer().await.unwrap().status, 101);
        (visitor, app)
    };
    let (mut visitor, mut app) = open().await;
    let silent = async {
        let (start, _) = (Instant::now(), tokio::join!(visitor.closed(), app.closed()));
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    };
    let (mut visitor, mut app) = open().await;
    let spoken = async {
        // One way only, for six seconds.
        for _ in 0..6 {
            app.send("x").await;
            assert_eq!(visitor.bytes(1).await, b"x");
            sleep(Duration::from_secs(1)).await;
        }
        visitor.send("y").await;
        assert_eq!(app.bytes(1).await, b"y");
    };
    tokio::join!(silent, spoken);
    assert_eq!(rest(&mut visitor).await, b"");
}
