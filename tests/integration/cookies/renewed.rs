//! The cookie of a session whose tokens changed, on its way to the browser.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use foregate_stage::{
    Origin, SECRET, Script, Step, cookie_header, random, seal_v4, seal_v5, unix_millis,
};
use foregate_tests::{Answer, Browser, Connection, Gate, Http2, Request, program};
use serde_json::{Value, json};

use super::{V4, V5};
use crate::world::{ANY, APP, LIFE, SHOP, World};

const ENDED: Duration = Duration::ZERO;

/// A visitor with an ended access token and these claims beside it.
fn visitor(world: &World, more: Value) -> Browser {
    let browser = world.stranger();
    let sealed = seal_v4(SECRET, &ended(world, more).to_string(), random());
    browser.set_cookies("example.com", &cookie_header(V4, &sealed));
    browser
}

fn ended(world: &World, more: Value) -> Value {
    let grant = world.backend.grant("ada@example.com", ENDED).unwrap();
    let mut claims = grant.session_claims(Duration::from_secs(3600));
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

/// What the program itself says of a `Cookie` header's value.
fn decoded(gate: &Gate, cookie: &str) -> Value {
    let mut child = Command::new(program())
        .args(["session", "decode", "--json", "--config"])
        .arg(gate.config_file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(cookie.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn session_lines(answer: &Answer) -> Vec<&str> {
    let lines = answer.headers_named("set-cookie").into_iter();
    lines.filter(|line| line.contains("session-token")).collect()
}

#[tokio::test]
async fn it_has_the_form_and_the_claims_of_the_one_that_came() {
    let world = World::start().await;
    let more = json!({
        "error": "RefreshAccessTokenError", "ключ": "знач", "ratio": 1.5, "big": 12_345_678_901_234_567_890_u64,
        "nested": { "a": [null, true, "\u{0}"] }, "empty": {},
    });
    for (name, sealed) in [
        (V4, seal_v4(SECRET, &ended(&world, more.clone()).to_string(), random())),
        (V5, seal_v5(SECRET, V5, &ended(&world, more.clone()).to_string(), random())),
    ] {
        let browser = world.stranger();
        browser.set_cookies("example.com", &cookie_header(name, &sealed));
        let before = unix_millis() / 1000;
        let answer = browser.fetch(&format!("{APP}/dashboard")).await;
        let [line] = session_lines(&answer)[..] else { panic!("{:?}", answer.headers) };
        let (cookie, attributes) = line.split_once("; ").unwrap();
        assert!(cookie.starts_with(&format!("{name}=")), "{line}");
        let mut attributes: Vec<_> = attributes.split("; ").collect();
        attributes.retain(|attribute| !attribute.starts_with("Expires="));
        attributes.sort_unstable();
        assert_eq!(attributes, ["Domain=.example.com", "HttpOnly", "Path=/", "SameSite=Lax"]);

        let told = decoded(&world.gate, cookie);
        let format = if name == V4 { "next-auth-v4" } else { "authjs-v5" };
        assert_eq!((&told["opened"], &told["format"]), (&json!(true), &json!(format)));
        let claims = &told["claims"];
        for claim in ["ключ", "ratio", "big", "nested", "empty"] {
            assert_eq!(claims[claim], more[claim], "{claim}");
        }
        assert_eq!(claims.get("error"), None);
        let bearer = answer.seen_header("authorization").unwrap();
        assert_eq!(bearer, format!("Bearer {}", claims["accessToken"].as_str().unwrap()));
        let expires = told["expires_at"].as_u64().unwrap();
        let month = 30 * 24 * 3600;
        assert!((before + month..before + month + 60).contains(&expires), "{told}");
    }
}

/// A token that nobody signed, good for `seconds`.
fn jwt(subject: &str, seconds: u64) -> String {
    let end = unix_millis() / 1000 + seconds;
    let payload = json!({ "sub": subject, "exp": end }).to_string();
    ["{\"alg\":\"none\"}", &payload, ""].map(|part| BASE64URL.encode(part)).join(".")
}

/// A world whose backend always answers with this pair. The backend ends with what comes second.
async fn given(access_token: &str, refresh_token: &str) -> (World, Origin) {
    let desk = Origin::start(ANY).await.unwrap();
    let pair = json!({ "accessToken": access_token, "refreshToken": refresh_token }).to_string();
    desk.script("/refresh", Script::answer("200 OK", &["Content-Type: application/json"], &pair));
    let tables = format!("[backend]\nrefresh_url = \"{}/refresh\"\n", desk.url());
    (World::with_backend(|_| tables.clone(), "").await, desk)
}

#[tokio::test]
async fn it_does_not_outlive_the_refresh_token() {
    let before = unix_millis() / 1000;
    let (world, _desk) = given(&jwt("u-1", 600), &jwt("u-1", 5000)).await;
    let answer = visitor(&world, json!({})).fetch(&format!("{APP}/dashboard")).await;
    let cookie = session_lines(&answer)[0].split("; ").next().unwrap();
    let expires = decoded(&world.gate, cookie)["expires_at"].as_u64().unwrap();
    assert!((before + 5000..before + 5060).contains(&expires), "{expires}");
}

#[tokio::test]
async fn no_cache_keeps_the_answer_that_brings_it() {
    let world = World::start().await;
    let lines = [
        "Cache-Control: no-cache",
        "Expires: 0",
        "Pragma: no-cache",
        "Surrogate-Control: no-store",
        "X-Accel-Expires: 0",
        "Edge-Control: no-store",
        "CDN-Cache-Control: no-store",
        "Vercel-CDN-Cache-Control: max-age=0",
        "Cloudflare-CDN-Cache-Control: private, max-age=60",
        "ETag: \"x\"",
        "Vary: Cookie",
    ];
    world.origin.script("/mine", Script::answer("200 OK", &lines, "x"));
    let answer = visitor(&world, json!({})).fetch(&format!("{APP}/mine")).await;
    assert_eq!(session_lines(&answer).len(), 1);
    assert_eq!(answer.headers_named("cache-control"), ["private, no-store"]);
    for name in [
        "expires",
        "pragma",
        "surrogate-control",
        "x-accel-expires",
        "edge-control",
        "cdn-cache-control",
        "vercel-cdn-cache-control",
        "cloudflare-cdn-cache-control",
    ] {
        assert!(answer.headers_named(name).is_empty(), "{name}");
    }
    assert_eq!((answer.header("etag"), answer.header("vary")), (Some("\"x\""), Some("Cookie")));
}

#[tokio::test]
async fn what_shared_caches_may_keep_is_left_alone_and_the_next_answer_brings_it() {
    let world = World::start().await;
    for (status, line) in [
        ("200 OK", "Cache-Control: public"),
        ("200 OK", "Cache-Control: max-age=60"),
        ("200 OK", "Cache-Control: s-maxage=60, max-age=0"),
        ("200 OK", "Expires: Thu, 01 Jan 2099 00:00:00 GMT"),
        ("200 OK", "Surrogate-Control: max-age=60"),
        ("200 OK", "X-Accel-Expires: 60"),
        ("200 OK", "Edge-Control: max-age=60"),
        ("200 OK", "CDN-Cache-Control: public"),
        ("404 Not Found", "Cache-Control: public, max-age=60"),
        ("304 Not Modified", "ETag: \"x\""),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{line}\r\nContent-Length: 0\r\n\r\n");
        world.origin.script("/kept", Script::new([Step::Write(answer.into())]));
        let browser = visitor(&world, json!({}));
        let kept = browser.fetch(&format!("{APP}/kept")).await;
        assert!(kept.headers_named("set-cookie").is_empty(), "{line}");
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(kept.headers_named(name), [value], "{line}");
        let next = browser.fetch(&format!("{APP}/dashboard")).await;
        assert_eq!(session_lines(&next).len(), 1, "{line}");
    }
}

#[tokio::test]
async fn the_apps_own_word_wins_and_only_about_the_session() {
    let world = World::start().await;
    for (line, ours) in [
        ("next-auth.session-token=own; Path=/", 0),
        ("next-auth.session-token.0=own; Path=/", 0),
        ("next-auth.session-token=; Max-Age=0", 0),
        ("theme=dark; Path=/", 1),
        ("next-auth.csrf-token=x; Path=/", 1),
    ] {
        let header = format!("Set-Cookie: {line}");
        world
            .origin
            .script("/says", Script::answer("200 OK", &[&header, "Cache-Control: no-cache"], "x"));
        let answer = visitor(&world, json!({})).fetch(&format!("{APP}/says")).await;
        let lines = answer.headers_named("set-cookie");
        assert_eq!(lines.iter().filter(|theirs| **theirs == line).count(), 1, "{lines:?}");
        assert_eq!(lines.len(), 1 + ours, "{lines:?}");
        let cache = if ours == 1 { "private, no-store" } else { "no-cache" };
        assert_eq!(answer.header("cache-control"), Some(cache), "{line}");
    }
}

#[tokio::test]
async fn what_its_chunks_leave_over_is_cleared() {
    let world = World::start().await;
    let stray = ["next-auth.session-token.0", "next-auth.session-token.7"];
    for http2 in [false, true] {
        let token = seal_v4(SECRET, &ended(&world, json!({})).to_string(), random());
        let request = Request::get(&format!("{APP}/dashboard"))
            .fetch("same-origin")
            .header("Cookie", &format!("{}=x; {V4}={token}", stray[0]))
            .header("Cookie", &format!("theme=dark; {}=x", stray[1]));
        let answer = match http2 {
            false => world.stranger().send(&request).await,
            true => Http2::open(world.gate.address()).await.send(&request).await,
        };
        assert_eq!(answer.status, 200);
        let lines = session_lines(&answer);
        let set = lines.iter().filter(|line| line.starts_with(&format!("{V4}=ey"))).count();
        assert_eq!(set, 1, "{lines:?}");
        for name in stray {
            let cleared = |line: &&&str| line.starts_with(&format!("{name}=;"));
            assert!(lines.iter().any(|line| cleared(&line)), "{name}: {lines:?}");
        }
        assert!(!answer.headers_named("set-cookie").iter().any(|line| line.starts_with("theme")));
        let seen = world.last_seen();
        let cookies = seen.header("cookie");
        let names: Vec<_> =
            cookies[0].split("; ").filter_map(|pair| pair.split('=').next()).collect();
        assert_eq!(names, ["theme", V4]);
    }
}

#[tokio::test]
async fn an_app_that_reads_no_session_still_brings_it_to_the_browser() {
    let world = World::start().await;
    let browser = visitor(&world, json!({}));
    browser.set_cookies("example.com", "theme=dark");
    let answer = browser.fetch(&format!("{SHOP}/cart")).await;
    assert_eq!((answer.status, session_lines(&answer).len()), (200, 1));
    assert_eq!(world.last_seen().header("cookie"), ["theme=dark"]);
    let again = browser.fetch(&format!("{SHOP}/cart")).await;
    assert!(session_lines(&again).is_empty());
    assert_eq!(world.backend.counters().redemptions, 1);
}

#[tokio::test]
async fn another_secret_or_form_alone_changes_no_cookie() {
    let older = "an older public test secret, 0123456789 0123";
    let secrets = format!("secrets = [\"{SECRET}\"]");
    let world = World::start().await;
    let config = std::fs::read_to_string(world.gate.config_file()).unwrap();
    let both = config.replace(&secrets, &format!("secrets = [\"{SECRET}\", \"{older}\"]"));
    let gate = Gate::start(&both).await;
    let fresh = world.backend.grant("ada@example.com", LIFE).unwrap();
    let claims = fresh.session_claims(Duration::from_secs(3600)).to_string();
    let browser = Browser::new(gate.address());
    browser.set_cookies("example.com", &format!("{V4}={}", seal_v4(older, &claims, random())));
    let answer = browser.fetch(&format!("{APP}/dashboard")).await;
    assert_eq!((answer.status, session_lines(&answer).len()), (200, 0));

    let claims = ended(&world, json!({})).to_string();
    browser.set_cookies("example.com", &format!("{V4}={}", seal_v4(older, &claims, random())));
    let answer = browser.fetch(&format!("{APP}/dashboard")).await;
    let cookie = session_lines(&answer)[0].split("; ").next().unwrap();
    assert_eq!(decoded(&gate, cookie)["secret"], 0, "the first seals");
}

#[tokio::test]
async fn a_websocket_brings_it_too() {
    let world = World::start().await;
    // The key and its answer of RFC 6455 §1.3.
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    world.origin.script("/socket", Script::new([Step::Write(switch.into()), Step::Echo]));
    let cookie = visitor(&world, json!({})).cookies("app.example.com").unwrap();
    let mut connection = Connection::open(world.gate.address()).await;
    connection
        .send(format!(
            "GET /socket HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {cookie}\r\n\r\n"
        ))
        .await;
    let answer = connection.answer().await.unwrap();
    assert_eq!(answer.status, 101);
    let [line] = session_lines(&answer)[..] else { panic!("{:?}", answer.headers) };
    let token = decoded(&world.gate, line.split("; ").next().unwrap());
    let token = token["claims"]["accessToken"].as_str().unwrap();
    assert_eq!(world.last_seen().header("authorization"), [format!("Bearer {token}")]);
    connection.send("ping").await;
    assert_eq!(connection.bytes(16).await, b"ping");
}

#[tokio::test]
async fn a_backend_that_answers_with_another_person_ends_the_session() {
    for (subject, status) in [("u-1", 200), ("u-2", 401)] {
        let token = jwt(subject, 600);
        let (world, _desk) = given(&token, "r-1").await;
        let browser = visitor(&world, json!({}));
        let answer = browser.fetch(&format!("{APP}/dashboard")).await;
        assert_eq!(answer.status, status, "{subject}");
        assert_eq!(browser.cookies("app.example.com").is_some(), status == 200, "{subject}");
        if status == 401 {
            assert!(world.origin.seen().is_empty(), "nobody gets another person's token");
            world.gate.logged(|log| log.contains("subject")).await;
            assert!(!world.gate.log().contains(&token));
        }
    }
}
