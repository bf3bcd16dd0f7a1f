//! Heads of an app's answers on their way to the visitor.

use foregate_stage::{Script, Step};
use foregate_tests::{Connection, Http2, Request};

use super::HEAD;
use crate::world::{APP, World};

fn raw(bytes: impl Into<Vec<u8>>) -> Script {
    Script::new([Step::Write(bytes.into()), Step::Close])
}

#[tokio::test]
async fn what_concerns_the_hop_to_the_app_ends_here() {
    let world = World::start().await;
    let lines = "Connection: keep-alive, X-Hop\r\nConnection: x-second\r\nX-Hop: 1\r\nX-Second: 1\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTE: gzip\r\n\
                 Proxy-Authenticate: Basic\r\nX-Kept: 1\r\nX-Kept: 2\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{lines}\r\nok");
    world.origin.script("/public/hop", raw(answer));
    let request = Request::get(&format!("{APP}/public/hop"));
    let http1 = world.stranger().send(&request).await;
    let http2 = Http2::open(world.gate.address()).await.send(&request).await;
    for answer in [http1, http2] {
        let mut names: Vec<_> =
            answer.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.retain(|name| name != "date");
        names.sort();
        assert_eq!(names, ["content-length", "x-kept", "x-kept"]);
        assert_eq!(
            (answer.headers_named("x-kept"), answer.text()),
            (vec!["1", "2"], "ok".to_owned())
        );
    }
}

#[tokio::test]
async fn a_visitor_gets_one_framing_whatever_the_app_wrote() {
    let world = World::start().await;
    let check = async |head: &str, body: &str, expected: Option<&str>| {
        world.origin.script("/public/x", raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}")));
        let mut connection = Connection::open(world.gate.address()).await;
        connection.send(format!("GET /public/x {HEAD}\r\n")).await;
        let answer = connection.answer().await.unwrap();
        let Some(expected) = expected else {
            assert_eq!(answer.status, 502, "{head}");
            return;
        };
        assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{head}");
        let lengths = answer.headers_named("content-length");
        let codings = answer.headers_named("transfer-encoding");
        assert_eq!(lengths.len() + codings.len(), 1, "{head}: {lengths:?} {codings:?}");
        assert!(lengths.iter().all(|length| *length == expected.len().to_string()), "{lengths:?}");
        // Whatever else the app wrote is no answer to anybody.
        connection.send(format!("GET /public/next {HEAD}\r\n")).await;
        assert_eq!(connection.answer().await.unwrap().json()["target"], "/public/next", "{head}");
    };
    let chunks = "3\r\nabc\r\n0\r\n\r\n";
    check("Content-Length: 3\r\n", "abc", Some("abc")).await;
    check("Transfer-Encoding: chunked\r\n", chunks, Some("abc")).await;
    check("Transfer-Encoding: CHUNKED\r\n", chunks, Some("abc")).await;
    check("", "abc", Some("abc")).await;
    check("Content-Length: 9\r\nTransfer-Encoding: chunked\r\n", chunks, Some("abc")).await;
    check("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", chunks, Some("abc")).await;
    check("Content-Length: 3\r\nContent-Length: 3\r\n", "abc", Some("abc")).await;
    check("Content-Length: 3, 3\r\n", "abc", Some("abc")).await;
    check("Content-Length: 03\r\n", "abc", Some("abc")).await;
    check("Content-Length: 3\r\n", "abcHTTP/1.1 200 OK\r\n\r\n", Some("abc")).await;
    check("Content-Length: 0\r\n", "abc", Some("")).await;

    check("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd", None).await;
    check("Content-Length: 3, 4\r\n", "abcd", None).await;
    check("Content-Length: +3\r\n", "abc", None).await;
    check("Content-Length: 99999999999999999999\r\n", "abc", None).await;
    check("Transfer-Encoding: gzip, chunked\r\n", chunks, None).await;
    check("Transfer-Encoding: chunked, gzip\r\n", "abc", None).await;
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks, None).await;
    check("Transfer-Encoding: identity\r\n", "abc", None).await;
    check("X-Folded: a\r\n b\r\nContent-Length: 3\r\n", "abc", None).await;
    check("No Name: a\r\nContent-Length: 3\r\n", "abc", None).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_a_whole_one() {
    let world = World::start().await;
    for (head, body) in [
        ("Content-Length: 9\r\n", "abc"),
        ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\nnonsense\r\n"),
    ] {
        world.origin.script("/public/cut", raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}")));
        let mut connection = Connection::open(world.gate.address()).await;
        connection.send(format!("GET /public/cut {HEAD}\r\n")).await;
        let mut received = Vec::new();
        loop {
            let more = connection.bytes(4096).await;
            if more.is_empty() {
                break;
            }
            received.extend(more);
        }
        let received = String::from_utf8(received).unwrap();
        assert!(received.starts_with("HTTP/1.1 200 "), "{received}");
        assert!(!received.ends_with("0\r\n\r\n"), "{received}");
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let world = World::start().await;
    let check = async |method: &str, answer: &str, expected: (u16, Option<&str>)| {
        world.origin.script("/public/x", raw(format!("HTTP/1.1 {answer}\r\n\r\n")));
        let request = Request::new(method, &format!("{APP}/public/x"));
        let http2 = Http2::open(world.gate.address()).await.send(&request).await;
        assert_eq!((http2.status, http2.text().as_str()), (expected.0, ""), "{method} {answer}");

        let mut connection = Connection::open(world.gate.address()).await;
        connection.send(format!("{method} /public/x {HEAD}\r\n")).await;
        let http1 = connection.answer_to(method).await.unwrap();
        let length = http1.header("content-length");
        assert_eq!((http1.status, length), expected, "{method} {answer}");
        assert_eq!(http1.header("transfer-encoding").filter(|_| method == "GET"), None, "{answer}");
        connection.send(format!("GET /public/next {HEAD}\r\n")).await;
        assert_eq!(connection.answer().await.unwrap().json()["target"], "/public/next", "{answer}");
    };
    check("HEAD", "200 OK\r\nContent-Length: 5", (200, Some("5"))).await;
    check("HEAD", "200 OK\r\nTransfer-Encoding: chunked", (200, None)).await;
    check("HEAD", "404 Not Found\r\nContent-Length: 5", (404, Some("5"))).await;
    check("GET", "204 No Content", (204, None)).await;
    check("GET", "204 No Content\r\nContent-Length: 0", (204, None)).await;
    check("GET", "204 No Content\r\nTransfer-Encoding: chunked", (204, None)).await;
    check("GET", "304 Not Modified\r\nETag: x", (304, None)).await;
    check("GET", "304 Not Modified\r\nContent-Length: 5", (304, None)).await;
    check("HEAD", "200 OK\r\nContent-Length: 5\r\nContent-Length: 5", (200, None)).await;
    check("GET", "304 Not Modified\r\nTransfer-Encoding: chunked", (304, None)).await;
    check("GET", "205 Reset Content\r\nContent-Length: 0", (205, Some("0"))).await;
}

#[tokio::test]
async fn an_app_may_answer_with_many_headers() {
    let world = World::start().await;
    for (count, status) in [(120, 200), (250, 200), (300, 502)] {
        let lines: String = (0..count).map(|n| format!("Set-Cookie: c{n}=1\r\n")).collect();
        world.origin.script("/public/many", Script::answer("200 OK", &[lines.trim_end()], "x"));
        let answer = world.stranger().fetch(&format!("{APP}/public/many")).await;
        assert_eq!(answer.status, status, "{count}");
        let cookies = answer.headers_named("set-cookie").len();
        assert_eq!(cookies, if status == 200 { count } else { 0 }, "{count}");
    }
}

#[tokio::test]
async fn bytes_beyond_ascii_pass_as_they_are() {
    let world = World::start().await;
    let answer = b"HTTP/1.1 200 Gr\xfcn\r\nX-Name: J\xc3\xbcrgen\r\nX-Old: J\xfcrgen\r\nContent-Length: 0\r\n\r\n";
    world.origin.script("/public/x", raw(*answer));
    let mut connection = Connection::open(world.gate.address()).await;
    let head = "GET /public/x HTTP/1.1\r\nHost: app.example.com\r\nX-Own: J\u{fc}rgen\r\n\r\n";
    connection.send(head).await;
    let mut received = connection.bytes(4096).await;
    while !received.ends_with(b"\r\n\r\n") {
        received.extend(connection.bytes(4096).await);
    }
    for value in [&b"x-name: J\xc3\xbcrgen\r\n"[..], b"x-old: J\xfcrgen\r\n"] {
        assert!(received.windows(value.len()).any(|window| window == value), "{received:?}");
    }
    assert_eq!(world.last_seen().header("x-own"), ["J\u{fc}rgen"]);
}
