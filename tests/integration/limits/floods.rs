//! HTTP/2 by people who mean harm: whatever they send by the thousand, memory stays bounded and
//! everybody else is served meanwhile.

use std::time::{Duration, Instant};

use foregate_stage::{Script, Step};
use foregate_tests::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING,
    RST_STREAM, RawHttp2, SETTINGS, WINDOW_UPDATE, frame, request,
};
use tokio::time::{sleep, timeout};

use super::{APP, House, SHORT, SOON};

/// Lets `flood` loose on a gate, and asks all the while for something else.
async fn check(what: &str, flood: impl AsyncFnOnce(&House)) -> House {
    let house = House::open().await;
    house.origin.script("/public/hang", Script::new([Step::Hang]));
    house.serves_others().await;
    let before = house.memory();
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    {
        let mut flooding = std::pin::pin!(flood(&house));
        loop {
            let asked = Instant::now();
            let served = async {
                house.serves_others().await;
                slowest = slowest.max(asked.elapsed());
                sleep(Duration::from_millis(20)).await;
            };
            tokio::select! {
                () = &mut flooding => break,
                () = served => assert!(start.elapsed() < LONGEST, "{what}: it never ends"),
            }
        }
    }
    house.serves_others().await;
    let growth = house.peak_memory().saturating_sub(before);
    let took = start.elapsed();
    eprintln!("{what}: {took:.1?}, others within {slowest:.1?}, {growth} KiB more");
    assert!(growth < 48 * 1024, "{what}: {growth} KiB");
    house
}

/// Sends the same bytes again and again. The gate may close the connection, and then they are lost.
async fn send_often(visitor: &mut RawHttp2, bytes: &[u8], times: usize) {
    let sending = async {
        for _ in 0..times {
            visitor.send(bytes).await;
        }
    };
    // Where the gate reads no more, it must close in the end.
    timeout(LONGEST, sending).await.expect("taken, or thrown away");
}

/// What the gate said when it gave the visitor up, if it did: an error code of RFC 9113 §7.
async fn reproach(visitor: &mut RawHttp2) -> Option<u8> {
    let goodbye = timeout(SOON, visitor.next_of(GOAWAY)).await.expect("an end")?;
    Some(goodbye.payload[7])
}

const LONGEST: Duration = Duration::from_secs(30);
/// How many frames a flood has.
const MANY: usize = 2_000_000;

#[tokio::test]
async fn ten_thousand_requests_that_are_taken_back_at_once() {
    let house = check("rapid reset", async |house| {
        let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
        let list = request("GET", APP, "/public/hang");
        for stream in (1..20_000).step_by(2) {
            let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &list);
            visitor.send([head, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()).await;
        }
        // ENHANCE_YOUR_CALM, or nothing at all: the rest of the flood may overtake it.
        assert!(matches!(reproach(&mut visitor).await, Some(11) | None));
    });
    let reached = house.await.origin.connections();
    assert!(reached < 1000, "the app had {reached} connections of it");
}

#[tokio::test]
async fn a_header_list_in_frames_without_number() {
    for (what, piece) in [("CONTINUATION, empty", &b""[..]), ("CONTINUATION", &[0, 1, b'x', 0][..])]
    {
        check(what, async |house| {
            let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
            visitor.send(frame(HEADERS, END_STREAM, 1, &request("GET", APP, "/public/x"))).await;
            let frames = frame(CONTINUATION, 0, 1, piece).repeat(1000);
            send_often(&mut visitor, &frames, MANY / 1000).await;
            reproach(&mut visitor).await;
        })
        .await;
    }
}

#[tokio::test]
async fn settings_and_pings_whose_answers_nobody_reads() {
    for (what, frames) in [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("PING", frame(PING, 0, 0, b"12345678")),
        ("frames of no known kind", frame(0xbb, 0, 0, b"")),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
    ] {
        check(what, async |house| {
            let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
            visitor.get(1, "/public/hang").await;
            send_often(&mut visitor, &frames.repeat(1000), MANY / 1000).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_of_empty_frames() {
    check("DATA, empty", async |house| {
        let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
        let list = request("POST", APP, "/public/hang");
        visitor.send(frame(HEADERS, END_HEADERS, 1, &list)).await;
        send_often(&mut visitor, &frame(DATA, 0, 1, b"").repeat(1000), MANY / 1000).await;
    })
    .await;
    check("DATA, a byte each", async |house| {
        let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
        // Nobody takes it: the app has not been let in, so the frames must wait.
        let list = request("POST", "played.example.com", "/deaf");
        visitor.send(frame(HEADERS, END_HEADERS, 1, &list)).await;
        send_often(&mut visitor, &frame(DATA, 0, 1, b"x").repeat(1000), MANY / 1000).await;
    })
    .await;
}

#[tokio::test]
async fn as_many_streams_as_there_may_be_and_a_window_that_stays_shut() {
    let house = check("zero window", async |house| {
        let text = "x".repeat(1 << 20);
        house.origin.script("/public/big", Script::answer("200 OK", &[], &text));
        let shut = [(INITIAL_WINDOW_SIZE, 0)];
        let mut visitor = RawHttp2::open(house.gate.address(), &shut).await;
        for stream in (1..256).step_by(2) {
            visitor.get(stream, "/public/big").await;
        }
        let start = Instant::now();
        while visitor.silently_next().await.is_some() {}
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    });
    assert!(house.await.origin.connections() >= 128);
}

#[tokio::test]
async fn more_streams_than_there_may_be_are_refused() {
    let long =
        SHORT.replace("upstream_header_timeout = \"2s\"", "upstream_header_timeout = \"9s\"");
    let house = House::with("", &long).await;
    house.origin.script("/public/hang", Script::new([Step::Hang]));
    let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
    for stream in (1..=257).step_by(2) {
        visitor.get(stream, "/public/hang").await;
    }
    let refused = visitor.next_of(RST_STREAM).await.expect("the connection goes on");
    // REFUSED_STREAM: it may be asked again.
    assert_eq!((refused.stream, refused.payload[3]), (257, 7));
    house.serves_others().await;
}
