//! Which connections to an app are used again, and which requests are sent again.

use foregate_stage::{Origin, Script, Step};
use foregate_tests::{Browser, Connection, Fate, Frames, Gate, Request, h2};
use tokio::net::TcpListener;

use super::before;
use crate::world::{ANY, APP};

const HEAD: &str = "HTTP/1.1\r\nHost: app.example.com\r\n";
const NEXT: &str = "/public/next";

async fn with_origin() -> (Origin, Gate) {
    let origin = Origin::start(ANY).await.unwrap();
    let gate = before(&format!("\"{}\"", origin.url())).await;
    (origin, gate)
}

/// Which connection to the app brought the next request.
async fn next_connection(gate: &Gate) -> u64 {
    let answer = Browser::new(gate.address()).fetch(&format!("{APP}{NEXT}")).await;
    assert_eq!(answer.json()["target"], NEXT, "nobody gets what is left of another answer");
    answer.json()["connection"].as_u64().unwrap()
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_clean_end_alone() {
    let check = async |answer: &str, again: bool| {
        let (origin, gate) = with_origin().await;
        origin.script("/public/x", Script::new([Step::Write(format!("HTTP/1.1 {answer}").into())]));
        let mut connection = Connection::open(gate.address()).await;
        connection.send(format!("GET /public/x {HEAD}\r\n")).await;
        assert!(connection.answer().await.unwrap().status < 400, "{answer}");
        let next = next_connection(&gate).await;
        assert_eq!(next, u64::from(!again), "{answer}");
    };
    check("200 OK\r\nContent-Length: 2\r\n\r\nok", true).await;
    check("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true).await;
    check("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", true)
        .await;
    check("204 No Content\r\n\r\n", true).await;
    check("304 Not Modified\r\nContent-Length: 5\r\n\r\n", true).await;
    // It says that it will close, or the end of the answer is not where the app thinks.
    check("200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false).await;
    check("200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", false).await;
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    check(&format!("200 OK\r\nContent-Length: 2\r\n\r\nok{evil}"), false).await;
    check(&format!("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}"), false).await;
    check(&format!("204 No Content\r\nContent-Length: 4\r\n\r\n{evil}"), false).await;
    check(&format!("304 Not Modified\r\nContent-Length: 4\r\n\r\n{evil}"), false).await;
}

#[tokio::test]
async fn trailers_of_a_request_are_a_clean_end() {
    let (_origin, gate) = with_origin().await;
    for announced in ["", "Trailer: X-Sum\r\n"] {
        let mut connection = Connection::open(gate.address()).await;
        let framing = format!("Transfer-Encoding: chunked\r\n{announced}");
        let body = "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
        connection.send(format!("POST /public/x {HEAD}{framing}\r\n{body}")).await;
        assert_eq!(connection.answer().await.unwrap().status, 200, "{announced}");
        assert_eq!(next_connection(&gate).await, 0, "{announced}");
    }
}

#[tokio::test]
async fn an_app_of_the_old_protocol_is_called_anew_each_time() {
    let (origin, gate) = with_origin().await;
    let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    origin.script("/public/old", Script::new([Step::Write(answer)]));
    let answer = Browser::new(gate.address()).fetch(&format!("{APP}/public/old")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(next_connection(&gate).await, 1);
}

#[tokio::test]
async fn an_answer_to_head_may_not_bring_a_body() {
    let (origin, gate) = with_origin().await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_vec();
    origin.script("/public/x", Script::new([Step::Write(answer)]));
    let head = Request::new("HEAD", &format!("{APP}/public/x"));
    assert_eq!(Browser::new(gate.address()).send(&head).await.status, 200);
    assert_eq!(next_connection(&gate).await, 1);
}

#[tokio::test]
async fn an_early_answer_leaves_a_connection_that_nobody_uses() {
    let (origin, gate) = with_origin().await;
    let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno".to_vec();
    origin.script("/public/early", Script::early([Step::Write(answer), Step::Hang]));
    let mut connection = Connection::open(gate.address()).await;
    // What is left of the body would be a request of its own.
    let smuggled = format!("GET /public/smuggled {HEAD}\r\n");
    let length = smuggled.len() + 5;
    connection
        .send(format!("POST /public/early {HEAD}Content-Length: {length}\r\n\r\nabcde"))
        .await;
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "no"));
    assert_eq!(next_connection(&gate).await, 1);
    connection.send(&smuggled).await;
    assert_eq!(next_connection(&gate).await, 1, "and that one again");
    let targets: Vec<_> = origin.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/public/early", NEXT, NEXT]);
}

#[tokio::test]
async fn a_download_that_the_visitor_breaks_off_ends_at_the_app() {
    let (origin, gate) = with_origin().await;
    let start = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc".to_vec();
    origin.script("/public/long", Script::new([Step::Write(start), Step::Hang]));
    let mut connection = Connection::open(gate.address()).await;
    connection.send(format!("GET /public/long {HEAD}\r\n")).await;
    connection.bytes(4096).await;
    drop(connection);
    assert_eq!(next_connection(&gate).await, 1);
}

#[tokio::test]
async fn an_upload_that_the_visitor_breaks_off_is_no_request_for_the_app() {
    let (origin, gate) = with_origin().await;
    for framing in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
        let mut connection = Connection::open(gate.address()).await;
        connection.send(format!("POST /public/cut {HEAD}{framing}\r\n\r\n3\r\nabc")).await;
        while origin.connections() == 0 {
            tokio::task::yield_now().await;
        }
        drop(connection);
        next_connection(&gate).await;
    }
    assert!(origin.seen().iter().all(|seen| seen.target == NEXT), "{:?}", origin.seen());
}

#[tokio::test]
async fn only_a_reading_request_without_a_body_is_sent_once_more() {
    let check = async |method: &str, body: &str, times: usize| {
        let (origin, gate) = with_origin().await;
        origin.script("/public/x", Script::new([Step::Close]));
        assert_eq!(next_connection(&gate).await, 0);
        let request = Request::new(method, &format!("{APP}/public/x")).body(body);
        let answer = Browser::new(gate.address()).send(&request).await;
        assert_eq!(answer.status, 502, "{method}");
        let seen: Vec<_> =
            origin.seen().into_iter().filter(|seen| seen.target == "/public/x").collect();
        assert_eq!(seen.len(), times, "{method} {body}");
        assert_eq!(
            seen[0].connection, 0,
            "{method}: the first time over the connection that stood"
        );
    };
    check("GET", "", 2).await;
    check("HEAD", "", 2).await;
    check("GET", "abc", 1).await;
    check("POST", "abc", 1).await;
    check("POST", "", 1).await;
    check("PUT", "abc", 1).await;
    check("DELETE", "", 1).await;
    check("OPTIONS", "", 1).await;
}

#[tokio::test]
async fn a_get_that_met_a_closing_connection_is_answered() {
    // The first connection answers once and closes upon the second request; the next one answers.
    let listener = TcpListener::bind(ANY).await.unwrap();
    let gate = before(&format!("\"http://{}\"", listener.local_addr().unwrap())).await;
    let app = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answers in [1, 1] {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = Connection::over(stream);
            for _ in 0..answers {
                heads.push(stream.head().await);
                stream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
            if heads.len() == 1 {
                heads.push(stream.head().await);
            }
        }
        heads
    });
    let browser = Browser::new(gate.address());
    for path in ["/public/first", "/public/second?a=1"] {
        let answer = browser.fetch(&format!("{APP}{path}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{path}");
    }
    let heads = app.await.unwrap();
    assert_eq!(heads.len(), 3);
    assert_eq!(heads[1], heads[2], "the same request to the letter");
}

#[tokio::test]
async fn the_body_of_a_get_reaches_the_app() {
    let (origin, gate) = with_origin().await;
    // Over HTTP/2 nothing need say how long it is.
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "app.example.com"),
        (":path", "/public/x"),
    ];
    let mut frames = Frames::open(gate.address()).await;
    frames.head(1, &fields, false).await;
    frames.frame(h2::DATA, 0, 1, b"abc").await;
    frames.frame(h2::DATA, h2::END_STREAM, 1, b"").await;
    assert_eq!(frames.fate(1).await, Fate::Answered(200));
    assert_eq!(origin.seen().pop().unwrap().body, b"abc");

    for method in ["GET", "DELETE", "OPTIONS", "PROPFIND"] {
        for (framing, body) in
            [("Content-Length: 3", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")]
        {
            let mut connection = Connection::open(gate.address()).await;
            connection.send(format!("{method} /public/x {HEAD}{framing}\r\n\r\n{body}")).await;
            assert_eq!(connection.answer().await.unwrap().status, 200, "{method} {framing}");
            assert_eq!(origin.seen().pop().unwrap().body, b"abc", "{method} {framing}");
            assert_eq!(next_connection(&gate).await, 0, "{method} {framing}");
        }
    }
}
