//! `header_bytes` and `headers`: what fits passes, and what does not costs no memory.

use foregate_tests::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, RawHttp2, field, frame, request,
};
use foregate_tests::{Answer, Connection};

use super::{APP, HEAD, House, rest, status};

const SMALL: &str = "header_bytes = \"16KiB\"\nheaders = 20\n";

async fn ask(house: &House, request: &str) -> (Answer, Connection) {
    let mut visitor = house.visitor().await;
    visitor.send(request).await;
    (visitor.answer().await.expect("an answer"), visitor)
}

#[tokio::test]
async fn a_head_passes_up_to_the_bound_in_bytes() {
    let house = House::with("", SMALL).await;
    for (bytes, expected) in [(16384, 200), (16384 + 3, 431), (60_000, 431)] {
        let head = format!("GET /public/x {HEAD}X: ");
        let padding = "x".repeat(bytes - head.len() - "\r\n\r\n".len());
        let (answer, mut visitor) = ask(&house, &format!("{head}{padding}\r\n\r\n")).await;
        assert_eq!(answer.status, expected, "{bytes} bytes");
        if expected == 431 {
            visitor.closed().await;
        }
    }
}

#[tokio::test]
async fn a_head_passes_up_to_the_bound_in_lines() {
    let house = House::with("", SMALL).await;
    for (lines, expected) in [(20, 200), (21, 431), (5000, 431)] {
        let more = "X: 1\r\n".repeat(lines - 1);
        let (answer, mut visitor) = ask(&house, &format!("GET /public/x {HEAD}{more}\r\n")).await;
        assert_eq!(answer.status, expected, "{lines} lines");
        if expected == 431 {
            visitor.closed().await;
        }
    }
}

#[tokio::test]
async fn a_target_has_a_bound_of_its_own() {
    let house = House::open().await;
    for (bytes, expected) in [(16 << 10, 200), ((16 << 10) + 1, 414), (60_000, 414)] {
        let target = format!("/public/{}", "x".repeat(bytes - "/public/".len()));
        let (answer, mut visitor) = ask(&house, &format!("GET {target} {HEAD}\r\n")).await;
        assert_eq!(answer.status, expected, "{bytes} bytes");
        if expected == 414 {
            visitor.closed().await;
        }
    }
}

#[tokio::test]
async fn the_bounds_hold_over_http2() {
    let house = House::with("", SMALL).await;
    // RFC 9113 §6.5.2: a list's size counts 32 for each field.
    let fixed = [(":method", "GET"), (":path", "/public/x"), (":scheme", "http")];
    let fixed = fixed.iter().chain(&[(":authority", "app.example.com"), ("x", "")]);
    let fixed: usize = fixed.map(|(name, value)| name.len() + value.len() + 32).sum();
    for (size, lines, expected) in [
        (16383, 1, Some(200)),
        (16385, 1, Some(431)),
        (30_000, 1, Some(431)),
        (0, 20, Some(200)),
        (0, 21, Some(431)),
        // A connection may end over what no honest visitor sends.
        (100_000, 1, None),
    ] {
        let mut list = request("GET", APP, "/public/x");
        let padding = "x".repeat(usize::saturating_sub(size, fixed));
        list.extend(field("x", &padding).repeat(lines));
        let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
        let (first, others) = list.split_at(list.len().min(16384));
        let mut bytes = frame(HEADERS, END_STREAM, 1, first);
        for (at, piece) in others.chunks(16384).enumerate() {
            let ends = (at + 1) * 16384 >= others.len();
            let flags = if ends { END_HEADERS } else { 0 };
            bytes.extend(frame(CONTINUATION, flags, 1, piece));
        }
        if others.is_empty() {
            bytes[4] |= END_HEADERS;
        }
        visitor.send(bytes).await;
        assert_eq!(visitor.status().await, expected, "{size} bytes, {lines} lines");
    }
    house.serves_others().await;
}

#[tokio::test]
async fn trailers_have_a_bound() {
    let house = House::open().await;
    for (bytes, expected) in [(8_000, 200), (20_000, 400), (1_000_000, 400)] {
        let mut visitor = house.visitor().await;
        let trailer = "x".repeat(bytes);
        visitor
            .send(format!(
                "POST /public/x {HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: {trailer}\r\n\r\n"
            ))
            .await;
        assert_eq!(visitor.answer().await.unwrap().status, expected, "{bytes} bytes");
    }
    let mut visitor = RawHttp2::open(house.gate.address(), &[]).await;
    let list = request("POST", APP, "/public/x");
    visitor.send(frame(HEADERS, END_HEADERS, 1, &list)).await;
    visitor.send(frame(DATA, 0, 1, b"a")).await;
    // Beyond the 64 KiB that `header_bytes` is by default.
    let trailers = field("x", &"x".repeat(70_000));
    visitor.send(frame(HEADERS, END_STREAM, 1, &trailers[..16384])).await;
    for (at, piece) in trailers[16384..].chunks(16384).enumerate() {
        let flags = if (at + 2) * 16384 >= trailers.len() { END_HEADERS } else { 0 };
        visitor.send(frame(CONTINUATION, flags, 1, piece)).await;
    }
    // h2 leaves out what is too much, so the body comes to its end without it.
    assert_eq!(visitor.status().await, Some(200));
    assert!(house.origin.seen().pop().unwrap().trailers.is_empty());
    house.serves_others().await;
}

#[tokio::test]
async fn what_never_ends_costs_no_memory() {
    let house = House::open().await;
    house.serves_others().await;
    let before = house.memory();
    let chunked = format!("POST /public/x {HEAD}Transfer-Encoding: chunked\r\n\r\n");
    let megabyte = "x".repeat(1 << 20);
    for (what, begun, then, expected) in [
        ("a request line", "GET /".to_owned(), megabyte.clone(), 431),
        ("a header line", format!("GET /public/x {HEAD}X: "), megabyte.clone(), 431),
        ("header lines", format!("GET /public/x {HEAD}"), "X: 1\r\n".repeat(200_000), 431),
        ("a chunk's extension", format!("{chunked}1;"), megabyte.clone(), 400),
        ("chunks' extensions", chunked.clone(), "1;xxxxxxxxxxxx\r\na\r\n".repeat(50_000), 400),
        // Noughts are no size yet, so this body stands still.
        ("a chunk's size", chunked.clone(), "0".repeat(1 << 20), 408),
        ("trailers", format!("{chunked}0\r\n"), "X: 1\r\n".repeat(200_000), 400),
    ] {
        let mut visitor = house.visitor().await;
        visitor.send(begun).await;
        // What is sent after the gate has closed goes nowhere.
        for _ in 0..100 {
            visitor.send(&then).await;
        }
        let heard = rest(&mut visitor).await;
        assert!(heard.is_empty() || status(&heard) == expected, "{what}: {}", status(&heard));
        house.serves_others().await;
    }
    let growth = house.peak_memory().saturating_sub(before);
    eprintln!("heads, chunks and trailers of 100 MB each: {growth} KiB");
    assert!(growth < 12 * 1024, "{growth} KiB");
}
