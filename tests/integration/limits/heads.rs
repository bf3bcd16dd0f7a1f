//! `header_timeout`, and `idle_timeout` between two requests.

use std::time::Duration;

use foregate_tests::h2::{
    ACK, CONTINUATION, END_HEADERS, GOAWAY, HEADERS, PING, PREFACE, RawHttp2, SETTINGS, frame,
    request,
};
use foregate_tests::{Certificates, Connection};
use tokio::task::JoinSet;

use super::{APP, DRIP, HEAD, House, SHORT, SOON, drip, status};

#[tokio::test]
async fn whoever_never_ends_a_head_is_shown_out_and_holds_up_nobody() {
    let certificates = Certificates::covering(&["app.example.com"]);
    let tables = [SHORT, &certificates.table()].concat();
    let house = House::with("https = \"127.0.0.1:0\"", &tables).await;
    let (plain, secure) = (house.gate.address(), house.gate.secure_address().await);

    let settings = frame(SETTINGS, 0, 0, b"");
    let greeting = [PREFACE, &settings].concat();
    let list = request("GET", APP, "/public/x");
    let whole = frame(HEADERS, END_HEADERS | 1, 1, &list);
    let unfinished = frame(HEADERS, 1, 1, &list);
    let continuations = frame(CONTINUATION, 0, 1, b"").repeat(20);
    let get = format!("GET /public/x {HEAD}");
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut visitors = JoinSet::new();
    for (what, address, at_once, slowly) in [
        ("silence", plain, &b""[..], &b""[..]),
        ("an empty line at a time", plain, b"", &b"\r\n".repeat(50)),
        ("a request line", plain, b"", get.as_bytes()),
        ("a header line", plain, get.as_bytes(), &[b'x'; 100]),
        ("header lines", plain, get.as_bytes(), &b"X:\r\n".repeat(30)),
        ("half a head and nothing more", plain, &get.as_bytes()[..40], b""),
        ("silence instead of a handshake", secure, b"", b""),
        ("a handshake", secure, &hello, &[0; 100]),
        ("half a handshake and nothing more", secure, &hello, b""),
        ("a preface", plain, b"", PREFACE),
        ("the preface alone", plain, PREFACE, b""),
        ("settings", plain, PREFACE, &settings[..8]),
        ("a frame's head", plain, &greeting, &whole[..8]),
        ("a list of headers", plain, &greeting, &whole),
        ("half a list and nothing more", plain, &[&greeting, &whole[..20]].concat(), b""),
        ("a list that goes on", plain, &[&greeting, &unfinished[..]].concat(), &continuations),
    ] {
        let (at_once, slowly) = (at_once.to_vec(), slowly.to_vec());
        visitors.spawn(async move {
            let mut visitor = Connection::open(address).await;
            visitor.send(at_once).await;
            (what, drip(&mut visitor, slowly).await)
        });
    }
    while !visitors.is_empty() {
        house.serves_others().await;
        while let Some(ended) = visitors.try_join_next() {
            let (what, (_, took)) = ended.unwrap();
            assert!(took < SOON, "{what}: {took:?}");
        }
        tokio::time::sleep(DRIP).await;
    }
    assert!(house.origin.seen().iter().all(|seen| seen.target == "/public/other"));
}

#[tokio::test]
async fn a_list_of_headers_may_not_drip_beside_a_request_that_is_answered() {
    let house = House::open().await;
    let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
    let script = foregate_stage::Script::new([foregate_stage::Step::Hang]);
    house.origin.script("/public/hang", script);
    visitor.get(1, "/public/hang").await;
    while house.origin.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let start = std::time::Instant::now();
    visitor.send(frame(HEADERS, 1, 3, b"")).await;
    assert_eq!(visitor.next_of(HEADERS).await, None);
    assert!(start.elapsed() < SOON);
}

#[tokio::test]
async fn between_two_requests_there_is_more_time_than_within_one() {
    let house = House::open().await;
    let served = async || {
        let mut visitor = house.visitor().await;
        visitor.send(format!("GET /public/x {HEAD}\r\n")).await;
        assert_eq!(visitor.answer().await.unwrap().status, 200);
        visitor
    };
    let (mut idle, mut slow, mut late) = (served().await, served().await, served().await);
    let second = format!("GET /public/x {HEAD}X: {}", "x".repeat(100));
    let idles = async {
        let (said, took) = drip(&mut idle, []).await;
        assert!(said.is_empty() && took < SOON);
        // More than the second that a head may take, by so much that no delay explains it.
        assert!(took > Duration::from_millis(1600), "{took:?}");
    };
    let drips = async {
        let (_, took) = drip(&mut slow, second.bytes()).await;
        assert!(took < SOON, "{took:?}");
    };
    let comes_late = async {
        tokio::time::sleep(Duration::from_millis(1400)).await;
        late.send(format!("GET /public/x {HEAD}\r\n")).await;
        assert_eq!(late.answer().await.unwrap().status, 200);
    };
    tokio::join!(idles, drips, comes_late);
}

#[tokio::test]
async fn an_idle_http2_connection_is_told_before_it_ends() {
    let house = House::open().await;
    let visits = [false, true].map(|answers| {
        let address = house.gate.address();
        async move {
            let mut visitor = RawHttp2::open(address, &[]).await;
            visitor.get(1, "/public/x").await;
            assert_eq!(visitor.status().await, Some(200));
            let start = std::time::Instant::now();
            if answers {
                let goodbye = visitor.next_of(GOAWAY).await.expect("GOAWAY");
                assert_eq!(goodbye.payload[4..8], [0; 4], "it is no reproach");
                while visitor.next().await.is_some() {}
            } else {
                // Says nothing to the ping that comes along.
                while visitor.silently_next().await.is_some() {}
            }
            assert!(start.elapsed() < SOON);
            assert!(start.elapsed() > Duration::from_millis(1600), "{:?}", start.elapsed());
        }
    });
    let [silent, polite] = visits;
    tokio::join!(silent, polite);
}

#[tokio::test]
async fn pings_alone_keep_no_connection() {
    let house = House::open().await;
    let mut visitor = house.visitor().await;
    visitor
        .send([PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(SETTINGS, ACK, 0, b"")].concat())
        .await;
    let ping = frame(PING, 0, 0, b"12345678");
    let start = std::time::Instant::now();
    // Each of them whole and in time.
    while start.elapsed() < SOON {
        visitor.send(&ping).await;
        match tokio::time::timeout(DRIP, visitor.bytes(1024)).await {
            Ok(more) if more.is_empty() => return,
            _ => tokio::time::sleep(DRIP).await,
        }
    }
    panic!("still there");
}

#[tokio::test]
async fn a_head_in_many_pieces_is_read_if_it_ends_in_time() {
    let house = House::open().await;
    let mut visitor = house.visitor().await;
    let head = format!("GET /public/x {HEAD}Connection: close\r\n\r\n");
    for byte in head.bytes() {
        visitor.send([byte]).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(status(&super::rest(&mut visitor).await), 200);
}
