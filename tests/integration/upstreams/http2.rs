//! Apps that speak HTTP/2: one connection for many requests, and what ends it.

use foregate_stage::{H2cAnswer, H2cOrigin};
use foregate_tests::{Browser, Connection, Fate, Frames, Gate, Http2, Request, h2};
use tokio::task::JoinSet;

use super::before;
use crate::world::{ANY, APP};

const HEAD: &str = "HTTP/1.1\r\nHost: app.example.com\r\n";

async fn with_origin() -> (H2cOrigin, Gate) {
    let origin = H2cOrigin::start(ANY).await.unwrap();
    let gate = before(&format!("\"{}\"", origin.url())).await;
    (origin, gate)
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let (origin, gate) = with_origin().await;
    let url = format!("{APP}/about");
    assert_eq!(Browser::new(gate.address()).fetch(&url).await.status, 200);
    let mut visits = JoinSet::new();
    for number in 0..100 {
        let (address, url) = (gate.address(), url.clone());
        visits.spawn(async move {
            let body = "x".repeat(number * 100);
            let request = Request::new("POST", &url).body(body.clone());
            let answer = match number % 2 {
                0 => Browser::new(address).send(&request).await,
                _ => Http2::open(address).await.send(&request).await,
            };
            (answer.status, answer.json()["body_length"] == body.len())
        });
    }
    assert!(visits.join_all().await.iter().all(|answer| *answer == (200, true)));
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_app_that_goes_away_loses_nobody_a_request() {
    let (origin, gate) = with_origin().await;
    let mut visits = JoinSet::new();
    for number in 0..8 {
        let address = gate.address();
        visits.spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..50 {
                let method = if number % 2 == 0 { "GET" } else { "POST" };
                let request = Request::new(method, &format!("{APP}/about"));
                statuses.push(Browser::new(address).send(&request).await.status);
            }
            statuses
        });
    }
    for told in 1..=8 {
        while origin.seen().len() < told * 40 {
            tokio::task::yield_now().await;
        }
        origin.go_away();
    }
    for statuses in visits.join_all().await {
        assert_eq!(statuses, [200; 50]);
    }
    assert!(origin.connections() > 8, "{}", origin.connections());
    assert_eq!(origin.seen().len(), 400, "and none was sent twice");
}

#[tokio::test]
async fn a_request_in_flight_outlives_the_word_that_its_connection_ends() {
    let (origin, gate) = with_origin().await;
    let mut connection = Connection::open(gate.address()).await;
    connection.send(format!("POST /about {HEAD}Content-Length: 6\r\n\r\nabc")).await;
    while origin.connections() == 0 {
        tokio::task::yield_now().await;
    }
    origin.go_away();
    assert_eq!(Browser::new(gate.address()).fetch(&format!("{APP}/about")).await.status, 200);
    connection.send("def").await;
    assert_eq!(connection.answer().await.unwrap().json()["body_length"], 6);
}

#[tokio::test]
async fn whoever_gives_up_ends_the_apps_work_too() {
    let (origin, gate) = with_origin().await;
    origin.script("/public/hang", H2cAnswer::Hang);
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "app.example.com"),
        (":path", "/public/hang"),
    ];
    let mut frames = Frames::open(gate.address()).await;
    frames.head(1, &fields, true).await;
    let seen = async |count: usize| {
        while origin.seen().len() < count {
            tokio::task::yield_now().await;
        }
    };
    seen(1).await;
    assert_eq!(origin.given_up(), 0);
    let cancel = 8_u32;
    frames.frame(h2::RST_STREAM, 0, 1, &cancel.to_be_bytes()).await;
    given_up(&origin, 1).await;
    frames.head(3, &[&fields[..3], &[(":path", "/about")]].concat(), true).await;
    assert_eq!(frames.fate(3).await, Fate::Answered(200), "the rest of the connection lives on");

    let mut connection = Connection::open(gate.address()).await;
    connection.send(format!("GET /public/hang {HEAD}\r\n")).await;
    seen(3).await;
    drop(connection);
    given_up(&origin, 2).await;
    assert_eq!(origin.connections(), 1, "the app's other streams never noticed");
}

async fn given_up(origin: &H2cOrigin, count: usize) {
    while origin.given_up() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_app_that_resets_a_stream_has_failed_that_request_alone() {
    let (origin, gate) = with_origin().await;
    origin.script("/public/reset", H2cAnswer::Reset);
    let post = |path: &str| Request::new("POST", &format!("{APP}{path}")).body("abc");
    let browser = Browser::new(gate.address());
    assert_eq!(browser.send(&post("/about")).await.status, 200);
    let answer = browser.send(&post("/public/reset")).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (502, &"upstream_broken".into()));
    assert_eq!(browser.send(&post("/about")).await.status, 200);
    let times = origin.seen().iter().filter(|seen| seen.target == "/public/reset").count();
    assert_eq!((times, origin.connections()), (1, 1));
}

#[tokio::test]
async fn answers_without_a_body_have_none_whatever_the_app_speaks() {
    let (origin, gate) = with_origin().await;
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let answer = H2cAnswer::Whole { status, headers: vec![], body: "", trailers: vec![] };
        origin.script("/public/x", answer);
        let request = Request::new(method, &format!("{APP}/public/x"));
        let http2 = Http2::open(gate.address()).await.send(&request).await;
        let http1 = Browser::new(gate.address()).send(&request).await;
        for answer in [http1, http2] {
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{method} {status}");
        }
    }
}

#[tokio::test]
async fn streams_that_stay_open_keep_nobody_else_waiting() {
    let (origin, gate) = with_origin().await;
    origin.script("/public/hang", H2cAnswer::Hang);
    // More than an app takes on one connection: hyper's limit is 200, and Go's 250.
    let mut visitors = Vec::new();
    for _ in 0..3 {
        visitors.push(Http2::open(gate.address()).await);
    }
    let mut streams = JoinSet::new();
    for visitor in visitors.iter().cycle().take(300) {
        let mut visitor = visitor.clone();
        let request = Request::get(&format!("{APP}/public/hang"));
        streams.spawn(async move { visitor.send(&request).await.status });
    }
    while origin.seen().len() < 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(Browser::new(gate.address()).fetch(&format!("{APP}/about")).await.status, 200);
    assert_eq!(origin.given_up(), 0, "it was answered before anybody else left");
}
