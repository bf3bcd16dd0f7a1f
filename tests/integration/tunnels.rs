//! Requests that ask for a tunnel, or for more than their method says, without the right to it.

use foregate_stage::Seen;
use foregate_tests::Connection;

use crate::world::{LIFE, World};

const HEAD: &str = "HTTP/1.1\r\nHost: app.example.com\r\n";
const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn a_connect_is_a_connect_whatever_its_headers_say() {
    let world = World::start().await;
    let inner = "GET /admin HTTP/1.1\r\nHost: app.example.com\r\nX-User-Id: u-1\r\n\r\n";
    for headers in [
        String::new(),
        "Upgrade: websocket\r\n".to_owned(),
        format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}"),
        format!("Upgrade: websocket\r\nContent-Length: {}\r\n", inner.len()),
    ] {
        let mut visitor = Connection::open(world.gate.address()).await;
        visitor.send(format!("CONNECT /public/x {HEAD}{headers}\r\n{inner}")).await;
        let answer = visitor.answer().await.unwrap();
        assert_eq!(
            (answer.status, &*answer.json()["reason"].to_string()),
            (405, WORD),
            "{headers}"
        );
    }
    assert!(world.origin.seen().is_empty(), "nothing of it reached the app");
}

const WORD: &str = "\"method_not_allowed\"";

#[tokio::test]
async fn a_websocket_among_other_protocols_is_checked_as_one() {
    let world = World::start().await;
    let (ada, _) = world.visitor("ada", LIFE);
    let cookies = ada.cookies("app.example.com").unwrap();
    for upgrade in ["websocket", "WebSocket", "websocket, foo", "foo, websocket"] {
        let mut visitor = Connection::open(world.gate.address()).await;
        let foreign = "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n";
        let ask = format!("Connection: Upgrade\r\nUpgrade: {upgrade}\r\n{KEY}{foreign}");
        let cookie = format!("Cookie: {cookies}\r\n");
        visitor.send(format!("GET /dashboard {HEAD}{ask}{cookie}\r\n")).await;
        assert_eq!(visitor.answer().await.unwrap().status, 403, "{upgrade}");
    }
    assert!(world.origin.seen().is_empty());
}

#[tokio::test]
async fn a_preflight_stands_for_no_other_method() {
    let world = World::start().await;
    let mut visitor = Connection::open(world.gate.address()).await;
    let preflight = "Origin: http://app.example.com\r\nAccess-Control-Request-Method: DELETE\r\n";
    let forged = "X-HTTP-Method-Override: DELETE\r\nx_method_override: DELETE\r\n";
    visitor.send(format!("OPTIONS /admin/x {HEAD}{preflight}{forged}\r\n")).await;
    assert_eq!(visitor.answer().await.unwrap().status, 200);
    let seen: Seen = world.last_seen();
    let overrides =
        seen.headers.iter().filter(|(name, _)| name.to_lowercase().contains("override"));
    assert_eq!(overrides.count(), 0, "{:?}", seen.headers);
}

#[tokio::test]
async fn no_spelling_of_an_identity_header_reaches_the_app() {
    let world = World::start().await;
    let mut visitor = Connection::open(world.gate.address()).await;
    let forged = "X~User~Id: e\r\nX!User!Id: e\r\nX_User.Id: e\r\nX-Forwarded~For: 9.9.9.9\r\n";
    visitor.send(format!("GET /public/x {HEAD}{forged}\r\n")).await;
    assert_eq!(visitor.answer().await.unwrap().status, 200);
    let seen = world.last_seen();
    let is_forged = |(_, value): &&(String, String)| value == "e" || value == "9.9.9.9";
    assert_eq!(seen.headers.iter().filter(is_forged).count(), 0, "{:?}", seen.headers);
}
