//! `upstream_connect_timeout` and `upstream_header_timeout`: apps that keep the gate waiting.

use std::time::{Duration, Instant};

use foregate_stage::{Script, Step};
use foregate_tests::Connection;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{HEAD, House, PATIENCE, Played, SHORT, SOON, TO_PLAYED};

#[tokio::test]
async fn an_app_that_takes_no_connection_is_a_502_in_time() {
    let full = Played::start(1);
    let address = full.0.local_addr().unwrap();
    let mut queued = Vec::new();
    // Linux drops what does not fit into the queue, as a host behind a firewall would.
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    let app = "\n[[app]]\nhost = \"full.example.com\"\nupstream = ";
    let rule = "\n[[app.rule]]\npath = \"/:path*\"\naccess = \"public\"\n";
    let house = House::with("", &format!("{SHORT}{app}\"{}\"{rule}", full.url())).await;
    let mut visitor = house.visitor().await;
    let start = Instant::now();
    visitor.send("GET / HTTP/1.1\r\nHost: full.example.com\r\n\r\n").await;
    let answer = visitor.answer().await.unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["reason"], "upstream_unreachable");
    assert!(start.elapsed() > Duration::from_millis(800) && start.elapsed() < SOON);
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_a_504_in_time() {
    let house = House::open().await;
    house.origin.script("/public/hang", Script::new([Step::Hang]));
    let begun = Step::Write(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec());
    house.origin.script("/public/half", Script::new([begun, Step::Hang]));
    for path in ["/public/hang", "/public/half"] {
        let mut visitor = house.visitor().await;
        let start = Instant::now();
        visitor.send(format!("GET {path} {HEAD}\r\n")).await;
        let answer = visitor.answer().await.unwrap();
        assert_eq!(
            (answer.status, answer.json()["reason"].as_str()),
            (504, Some("upstream_timeout"))
        );
        assert!(start.elapsed() > Duration::from_millis(1600) && start.elapsed() < SOON);
        // It was the app's fault, and the visitor's connection is as good as before.
        visitor.send(format!("GET /public/x {HEAD}\r\n")).await;
        assert_eq!(visitor.answer().await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn an_app_that_reads_slowly_has_all_the_time_it_needs() {
    let house = House::open().await;
    let mut visitor = house.visitor().await;
    let start = Instant::now();
    visitor.send(format!("POST /slow {TO_PLAYED}Content-Length: {BODY}\r\n\r\n")).await;
    let sends = async {
        let piece = vec![b'x'; 1 << 16];
        for _ in 0..BODY / piece.len() {
            visitor.send(&piece).await;
        }
        visitor.answer().await.unwrap().status
    };
    let reads = async {
        let mut app = house.played.visited().await;
        let mut read = 0;
        while read < BODY {
            let count = read_some(&mut app, 512 * 1024).await;
            assert!(count > 0, "cut after {read} bytes");
            read += count;
            sleep(Duration::from_millis(80)).await;
        }
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        app
    };
    let (status, _app) = tokio::join!(sends, reads);
    assert_eq!(status, 200);
    assert!(start.elapsed() > Duration::from_secs(4), "too fast to show anything");
}

const BODY: usize = 32 << 20;

async fn read_some(app: &mut Connection, most: usize) -> usize {
    let mut read = 0;
    while read < most {
        match timeout(Duration::from_millis(50), app.bytes(most - read)).await {
            Ok(bytes) if bytes.is_empty() => return read,
            Ok(bytes) => read += bytes.len(),
            Err(_) => break,
        }
    }
    read
}

#[tokio::test]
async fn an_app_that_reads_nothing_is_a_504() {
    let house = House::open().await;
    let mut visitor = house.visitor().await;
    let start = Instant::now();
    visitor.send(format!("POST /deaf {TO_PLAYED}Content-Length: {BODY}\r\n\r\n")).await;
    let _app = house.played.visited().await;
    let piece = vec![b'x'; 1 << 16];
    let sends = async {
        for _ in 0..BODY / piece.len() {
            visitor.send(&piece).await;
        }
    };
    // The gate takes no more than it can pass on, and says so when its patience ends.
    let _ = timeout(PATIENCE, sends).await;
    let answer = visitor.answer().await.unwrap();
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (504, Some("upstream_timeout")));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}
