//! Figures: how many at once, how much in one piece, and what it costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foregate_tests::Connection;
use foregate_tests::h2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, RawHttp2, WINDOW_UPDATE, frame,
    request,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{HEAD, House, TO_PLAYED};

#[tokio::test]
async fn beside_a_thousand_slow_visitors_the_next_one_is_served_at_once() {
    more_files();
    let house = House::with("", "").await;
    let before = house.memory();
    let mut visitors = Vec::new();
    for number in 0..1000 {
        let mut visitor = house.visitor().await;
        let begun = match number % 2 {
            0 => format!("GET /public/x {HEAD}X: "),
            _ => format!("POST /public/x {HEAD}Content-Length: 1000\r\n\r\n"),
        };
        visitor.send(begun).await;
        visitors.push(visitor);
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        for visitor in &mut visitors {
            visitor.send("x").await;
        }
        for _ in 0..10 {
            let asked = Instant::now();
            house.serves_others().await;
            slowest = slowest.max(asked.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
    }
    let growth = house.memory().saturating_sub(before);
    eprintln!("1,000 slow visitors: {growth} KiB, others served within {slowest:.1?}");
    assert!(growth < 96 * 1024, "{growth} KiB");
    assert!(house.origin.connections() >= 500, "a body that drips is on its way to the app");
}

#[tokio::test]
async fn ten_thousand_connections_may_idle() {
    let files = more_files();
    // The test has one end of each, and the gate the other one.
    let count = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(1500).min(10_000);
    if count < 10_000 {
        eprintln!("SKIPPED in part: {files} open files allow {count} connections, not 10,000");
    }
    let house = Arc::new(House::with("", &format!("connections = {}", count * 6 / 5)).await);
    let before = house.memory();
    let at_once = Arc::new(Semaphore::new(64));
    let mut visits = JoinSet::new();
    for _ in 0..count {
        let place = Arc::clone(&at_once).acquire_owned().await.unwrap();
        let house = Arc::clone(&house);
        visits.spawn(async move {
            let mut visitor = house.visitor().await;
            visitor.send(format!("GET /.foregate/none {HEAD}\r\n")).await;
            let answer = visitor.answer().await.unwrap();
            assert_eq!((answer.status, answer.header("connection")), (404, None));
            drop(place);
            visitor
        });
    }
    let mut visitors = visits.join_all().await;
    let growth = house.memory().saturating_sub(before);
    eprintln!("{count} idle connections: {growth} KiB, {} bytes each", growth * 1024 / count);
    assert!(growth < count * 48, "{growth} KiB");
    house.serves_others().await;
    for visitor in visitors.iter_mut().step_by(997) {
        visitor.send(format!("GET /public/x {HEAD}\r\n")).await;
        assert_eq!(visitor.answer().await.unwrap().status, 200);
    }
}

/// As many open files as the system lets this process have, and those that it starts.
fn more_files() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap()
}

const GIGABYTE: usize = 1_000_000_000;
const PIECE: usize = 250_000;

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunked,
}

/// Sends a gigabyte behind a head that has no framing yet.
async fn pour(into: &mut Connection, head: &str, framing: Framing) {
    let piece = vec![b'x'; PIECE];
    match framing {
        Framing::Length => {
            into.send(format!("{head}Content-Length: {GIGABYTE}\r\n\r\n")).await;
            for _ in 0..GIGABYTE / PIECE {
                into.send(&piece).await;
            }
        }
        Framing::Chunked => {
            into.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
            let chunk = [format!("{PIECE:x}\r\n").as_bytes(), &piece, b"\r\n"].concat();
            for _ in 0..GIGABYTE / PIECE {
                into.send(&chunk).await;
            }
            into.send("0\r\n\r\n").await;
        }
    }
}

/// Reads what [`pour`] sent, as far as its size and its end tell.
async fn swallow(from: &mut Connection, framing: Framing) {
    let (mut read, mut end) = (0, Vec::new());
    loop {
        let more = from.bytes(PIECE).await;
        assert!(!more.is_empty(), "closed after {read} bytes");
        read += more.len();
        end.extend_from_slice(&more[more.len().saturating_sub(5)..]);
        end.drain(..end.len().saturating_sub(5));
        match framing {
            Framing::Length if read == GIGABYTE => return,
            Framing::Chunked if read > GIGABYTE && end == b"0\r\n\r\n" => return,
            _ => {}
        }
    }
}

async fn check(what: &str, passes: impl AsyncFnOnce(&House)) {
    let house = House::with("", "").await;
    house.serves_others().await;
    let (before, start) = (house.memory(), Instant::now());
    passes(&house).await;
    let growth = house.peak_memory().saturating_sub(before);
    eprintln!("1 GB {what}: {:.1?}, {growth} KiB", start.elapsed());
    assert!(growth < 16 * 1024, "{what}: {growth} KiB");
}

#[tokio::test]
async fn a_gigabyte_passes_in_either_direction_and_leaves_no_trace() {
    for framing in [Framing::Length, Framing::Chunked] {
        check(&format!("down, {framing:?}"), async |house| {
            let mut visitor = house.visitor().await;
            visitor.send(format!("GET /down {TO_PLAYED}\r\n")).await;
            let mut app = house.played.visited().await;
            let pours = tokio::spawn(async move {
                pour(&mut app, "HTTP/1.1 200 OK\r\n", framing).await;
            });
            visitor.head().await;
            swallow(&mut visitor, framing).await;
            pours.await.unwrap();
        })
        .await;
        check(&format!("up, {framing:?}"), async |house| {
            let mut visitor = house.visitor().await;
            let pours = tokio::spawn(async move {
                pour(&mut visitor, &format!("POST /up {TO_PLAYED}"), framing).await;
                assert_eq!(visitor.answer().await.unwrap().status, 200);
            });
            let mut app = house.played.visited().await;
            swallow(&mut app, framing).await;
            app.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            pours.await.unwrap();
        })
        .await;
    }
    check("down over HTTP/2", async |house| {
        let widest = 0x7fff_ffff;
        let settings = [(INITIAL_WINDOW_SIZE, widest)];
        let mut visitor = RawHttp2::open(house.gate.address(), &settings).await;
        visitor.send(frame(WINDOW_UPDATE, 0, 0, &(widest - 65_535).to_be_bytes())).await;
        let list = request("GET", "played.example.com", "/down");
        visitor.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &list)).await;
        let mut app = house.played.visited().await;
        let pours = tokio::spawn(async move {
            pour(&mut app, "HTTP/1.1 200 OK\r\n", Framing::Length).await;
        });
        let mut read = 0;
        loop {
            let data = visitor.next_of(DATA).await.expect("the stream goes on");
            read += data.payload.len();
            if data.flags & END_STREAM != 0 {
                break;
            }
        }
        assert_eq!(read, GIGABYTE);
        pours.await.unwrap();
    })
    .await;
}
