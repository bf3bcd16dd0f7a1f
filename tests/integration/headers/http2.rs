//! Heads as only HTTP/2 can have them, frame by frame.

use foregate_tests::{Fate, Frames, Http2, Request, h2};

use crate::world::{APP, LIFE, World};

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "app.example.com");
const PATH: (&str, &str) = (":path", "/about");
const PROTOCOL_ERROR: Fate = Fate::Reset(1);

#[tokio::test]
async fn a_head_that_breaks_the_rules_of_http2_reaches_nobody() {
    let world = World::start().await;
    let check = async |fields: &[(&str, &str)], expected: Fate| {
        let before = world.origin.seen().len();
        let mut frames = Frames::open(world.gate.address()).await;
        frames.head(1, fields, true).await;
        assert_eq!(frames.fate(1).await, expected, "{fields:?}");
        let reached = world.origin.seen().len() - before;
        assert_eq!(reached, usize::from(expected == Fate::Answered(200)), "{fields:?}");
    };
    let sound = [METHOD, SCHEME, AUTHORITY, PATH];
    let with = |field| [&sound[..], &[field]].concat();
    let instead = |at: usize, field: (&'static str, &'static str)| {
        let mut fields = sound;
        fields[at] = field;
        fields
    };
    let without = |at: usize| [&sound[..at], &sound[at + 1..]].concat();

    check(&sound, Fate::Answered(200)).await;
    check(&with(("te", "trailers")), Fate::Answered(200)).await;
    check(&with(("host", "app.example.com")), Fate::Answered(200)).await;
    check(&with(("host", "APP.example.com.")), Fate::Answered(200)).await;
    check(&[METHOD, SCHEME, PATH, ("host", "app.example.com")], Fate::Answered(200)).await;

    for field in [
        ("connection", "close"),
        ("connection", "authorization"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        (":path", "/admin"),
        (":authority", "shop.example.com"),
        (":status", "200"),
        (":protocol", "websocket"),
    ] {
        check(&with(field), PROTOCOL_ERROR).await;
    }
    check(&[METHOD, SCHEME, PATH, ("x-a", "1"), AUTHORITY], PROTOCOL_ERROR).await;
    check(&[METHOD, METHOD, SCHEME, AUTHORITY, PATH], PROTOCOL_ERROR).await;
    for missing in [0, 1] {
        check(&without(missing), PROTOCOL_ERROR).await;
    }
    for (at, field) in [
        (1, (":scheme", "ht tp")),
        (2, (":authority", "app.example.com/x")),
        (3, (":path", "")),
        (3, (":path", "about")),
        (3, (":path", "http://shop.example.com/")),
        (3, (":path", "/a b")),
    ] {
        check(&instead(at, field), PROTOCOL_ERROR).await;
    }
    // What the parser cannot read ends the connection.
    for field in [
        ("X-Upper", "1"),
        ("Authorization", "Bearer forged"),
        (":method", "GE T"),
        (":other", "1"),
        ("x a", "1"),
        ("", "1"),
        ("x-a", "1\r\nx-b: 2"),
        ("x-a", "\0"),
    ] {
        check(&with(field), Fate::GoneAway(Some(1))).await;
    }
}

#[tokio::test]
async fn a_head_that_can_be_read_two_ways_is_400_over_http2_too() {
    let world = World::start().await;
    let check = async |fields: &[(&str, &str)], status: u16| {
        let mut frames = Frames::open(world.gate.address()).await;
        frames.head(1, fields, true).await;
        assert_eq!(frames.fate(1).await, Fate::Answered(status), "{fields:?}");
    };
    check(&[METHOD, SCHEME, PATH], 400).await;
    check(&[METHOD, SCHEME, AUTHORITY, PATH, ("host", "shop.example.com")], 400).await;
    check(&[METHOD, SCHEME, AUTHORITY, PATH, ("host", "app.example.com:81")], 400).await;
    check(&[METHOD, SCHEME, PATH, ("host", "app.example.com"), ("host", "x")], 400).await;
    check(&[METHOD, SCHEME, (":authority", "me@app.example.com"), PATH], 400).await;
    check(&[METHOD, SCHEME, (":authority", "app.example.com,x"), PATH], 400).await;
    check(&[(":method", "get"), SCHEME, AUTHORITY, PATH], 400).await;
    check(&[METHOD, SCHEME, AUTHORITY, (":path", "*")], 400).await;
    check(&[METHOD, SCHEME, AUTHORITY, (":path", "/a/../admin")], 400).await;
    check(&[METHOD, SCHEME, AUTHORITY, (":path", "//admin")], 400).await;
    check(&[METHOD, SCHEME, (":authority", "other.example"), PATH], 404).await;
    assert!(world.origin.seen().is_empty(), "nothing of it reached the app");
    // A fragment is gone before anybody reads the path, and reaches the app no more than the rules.
    check(&[METHOD, SCHEME, AUTHORITY, (":path", "/about#/../admin")], 200).await;
    assert_eq!(world.last_seen().target, "/about");
}

#[tokio::test]
async fn the_scheme_that_a_visitor_names_is_no_news_to_the_app() {
    let world = World::start().await;
    for scheme in ["http", "https", "javascript"] {
        let mut frames = Frames::open(world.gate.address()).await;
        frames.head(1, &[METHOD, (":scheme", scheme), AUTHORITY, PATH], true).await;
        assert_eq!(frames.fate(1).await, Fate::Answered(200), "{scheme}");
        let seen = world.last_seen();
        assert_eq!(seen.header("x-forwarded-proto"), ["http"], "{scheme}");
        assert_eq!(
            (seen.target.as_str(), seen.header("host")),
            ("/about", vec!["app.example.com"])
        );
    }
}

#[tokio::test]
async fn a_session_over_http2_is_the_session_that_it_is_over_http1() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", LIFE);
    let cookie = ada.cookies("app.example.com").unwrap();
    let request = Request::get(&format!("{APP}:8443/dashboard"))
        .header("cookie", "a=1")
        .header("cookie", &cookie)
        .header("cookie", "b=2");
    let mut visitor = Http2::open(world.gate.address()).await;
    assert_eq!(visitor.send(&request).await.status, 200);
    let seen = world.last_seen();
    let bearer = format!("Bearer {}", grant.access_token);
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("x-user-id", "u-1"),
        ("host", "app.example.com:8443"),
        ("x-forwarded-host", "app.example.com:8443"),
        ("x-forwarded-port", "8443"),
        ("cookie", &format!("a=1; {cookie}; b=2")),
    ] {
        assert_eq!(seen.header(name), [value], "{name}");
    }
}

#[tokio::test]
async fn a_length_that_the_frames_belie_is_an_error_of_the_stream() {
    let world = World::start().await;
    for (length, body) in [("3", "abcd"), ("5", "abcd")] {
        let mut frames = Frames::open(world.gate.address()).await;
        let fields = [(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", length)];
        frames.head(1, &fields, false).await;
        frames.frame(h2::DATA, h2::END_STREAM, 1, body.as_bytes()).await;
        assert_eq!(frames.fate(1).await, PROTOCOL_ERROR, "{length}");
    }
    assert!(world.origin.seen().is_empty(), "no app got half a message for a whole one");

    for (trailer, expected) in [
        (("connection", "close"), PROTOCOL_ERROR),
        (("X-Upper", "1"), Fate::GoneAway(Some(1))),
        // What belongs in front of a head alone is passed over behind a body.
        ((":path", "/admin"), Fate::Answered(200)),
    ] {
        let mut frames = Frames::open(world.gate.address()).await;
        frames.head(1, &[(":method", "POST"), SCHEME, AUTHORITY, PATH], false).await;
        frames.frame(h2::DATA, 0, 1, b"abcd").await;
        frames.head(1, &[trailer], true).await;
        assert_eq!(frames.fate(1).await, expected, "{trailer:?}");
    }
    let seen = world.origin.seen();
    assert_eq!(seen.iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(), ["/about"]);
}
