//! The table of answers, row by row and in both columns: what goes out when a request goes nowhere,
//! and what becomes of the connection.

use std::time::Duration;

use foregate_stage::{Fault, Origin, Script, Step};
use foregate_tests::{Answer, Browser, Connection, Gate};

use crate::world::{ANY, APP, COOKIE, LIFE, World, config, session_cookie};

mod readers;

const ENDED: Duration = Duration::ZERO;
const NAVIGATION: &str = "Sec-Fetch-Mode: navigate\r\nAccept: text/html\r\n";
const FETCH: &str = "Sec-Fetch-Mode: cors\r\nAccept: */*\r\n";

/// A head for the app's host, without a body.
fn head(request_line: &str, lines: &str) -> String {
    format!("{request_line} HTTP/1.1\r\nHost: app.example.com\r\n{lines}\r\n")
}

/// The header line of a visitor's cookies.
fn cookies_of(browser: &Browser) -> String {
    format!("Cookie: {}\r\n", browser.cookies("app.example.com").unwrap())
}

/// What is expected of an answer of our own.
struct Expected {
    status: u16,
    reason: &'static str,
    form: Form,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Page,
    Problem,
    /// Not a word: the status and the headers say it all.
    Bare,
}

fn page(status: u16, reason: &'static str) -> Expected {
    Expected { status, reason, form: Form::Page, closed: false }
}

fn problem(status: u16, reason: &'static str) -> Expected {
    Expected { form: Form::Problem, ..page(status, reason) }
}

fn redirect(status: u16, reason: &'static str) -> Expected {
    Expected { form: Form::Bare, ..page(status, reason) }
}

impl Expected {
    fn and_closed(self) -> Self {
        Self { closed: true, ..self }
    }
}

/// Sends `request` and holds its answer, the log and the connection to what is `expected`.
async fn check(gate: &Gate, request: &str, expected: Expected) -> Answer {
    let mut connection = Connection::open(gate.address()).await;
    connection.send(request).await;
    let answer = connection.answer().await.unwrap_or_else(|| panic!("no answer: {request}"));
    let Expected { status, reason, form, closed } = expected;
    assert_eq!(answer.status, status, "{request}");
    assert_eq!(answer.header("cache-control"), Some("private, no-store"), "{request}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{request}");
    let id = answer.header("x-request-id").expect("our own answers have a name").to_owned();
    match form {
        Form::Page => is_page(&answer, reason, &id),
        Form::Problem => is_problem(&answer, reason, &id),
        Form::Bare => assert_eq!(answer.text(), "", "{request}"),
    }
    let of_it = |line: &&str| line.contains(&format!("\"request_id\":\"{id}\""));
    gate.logged(|log| log.lines().any(|line| of_it(&line))).await;
    let log = gate.log();
    let line = log.lines().find(of_it).unwrap_or_default();
    assert!(line.contains(&format!("\"reason\":\"{reason}\"")), "{request}: {line}");
    assert!(line.contains(&format!("\"status\":{status}")), "{request}: {line}");

    assert_eq!(answer.header("connection") == Some("close"), closed, "{request}");
    if closed {
        connection.closed().await;
    } else {
        connection.send(head("OPTIONS /.foregate/none", "")).await;
        assert_eq!(connection.answer().await.map(|answer| answer.status), Some(404), "{request}");
    }
    answer
}

fn is_page(answer: &Answer, reason: &str, id: &str) {
    let text = answer.text();
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{text}");
    let policy = answer.header("content-security-policy").unwrap();
    for directive in
        ["default-src 'none'", "style-src 'sha256-", "base-uri 'none'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(directive), "{policy}");
    }
    assert!(answer.header("referrer-policy").is_some(), "{text}");
    for part in ["<html lang=\"en\">", "<main>", "<h1>", reason, id, &answer.status.to_string()] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn is_problem(answer: &Answer, reason: &str, id: &str) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["status"], answer.status);
    assert_eq!(problem["reason"], reason);
    assert_eq!(problem["request_id"], id);
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
}

#[tokio::test]
async fn no_session_where_one_is_needed() {
    let world = World::start().await;
    let gate = &world.gate;
    let login = "http://auth.example.com/login?callbackUrl=http%3A%2F%2Fapp.example.com";
    for (line, status) in [("GET /dashboard?a=%20&b", 302), ("DELETE /dashboard?a=%20&b", 303)] {
        let answer = check(gate, &head(line, NAVIGATION), redirect(status, "no_session")).await;
        let location = format!("{login}%2Fdashboard%3Fa%3D%2520%26b");
        assert_eq!(answer.header("location"), Some(location.as_str()), "{line}");
    }
    for line in ["GET /dashboard", "PUT /dashboard", "OPTIONS /dashboard"] {
        let answer = check(gate, &head(line, FETCH), problem(401, "no_session")).await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{line}");
        assert_eq!(answer.header("location"), None, "{line}");
    }
    assert!(world.origin.seen().is_empty());
}

#[tokio::test]
async fn no_session_and_no_login() {
    let text = config("", "http://127.0.0.1:9");
    let login = "[login]\nurl = \"http://auth.example.com/login\"\n";
    assert!(text.contains(login));
    let gate = Gate::start(&text.replace(login, "")).await;
    for (lines, expected) in
        [(NAVIGATION, page(401, "no_session")), (FETCH, problem(401, "no_session"))]
    {
        let answer = check(&gate, &head("GET /dashboard", lines), expected).await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!answer.text().contains("<a "), "there is nowhere to go");
    }
}

#[tokio::test]
async fn a_session_without_the_role() {
    let world = World::start().await;
    let bob = cookies_of(&world.visitor("bob", LIFE).0);
    let navigation = [NAVIGATION, &bob].concat();
    let asked = head("GET /admin/users?sort=%22%3E&x='", &navigation);
    let answer = check(&world.gate, &asked, page(403, "role_missing")).await;
    let text = answer.text();
    assert!(text.contains("<form method=\"post\" action=\"/.foregate/sign-out\">"), "{text}");
    assert!(text.contains("value=\"/admin/users?sort=%22%3E&amp;x=&#39;\""), "{text}");
    assert!(answer.headers_named("set-cookie").is_empty(), "the session stays");

    // What was written is not written again.
    let asked = head("POST /admin", &navigation);
    let written = check(&world.gate, &asked, page(403, "role_missing")).await;
    assert!(written.text().contains("name=\"callbackUrl\" value=\"/\""));
    let fetch = [FETCH, &bob].concat();
    check(&world.gate, &head("GET /admin/users", &fetch), problem(403, "role_missing")).await;
    assert!(world.origin.seen().is_empty());
}

#[tokio::test]
async fn a_session_without_the_role_where_there_is_a_page_for_it() {
    let elsewhere = "http://auth.example.com/forbidden";
    let text = config("", "http://127.0.0.1:9")
        .replace("[login]\n", &format!("[login]\nforbidden_url = \"{elsewhere}\"\n"));
    let gate = Gate::start(&text).await;
    let claims = r#"{"sub":"u-2","accessToken":"opaque","exp":4000000000}"#;
    let sealed = foregate_stage::seal_v4(foregate_stage::SECRET, claims, foregate_stage::random());
    let cookie = format!("Cookie: {COOKIE}={sealed}\r\n");
    for (line, status) in [("GET /admin", 302), ("POST /admin", 303)] {
        let asked = head(line, &[NAVIGATION, &cookie].concat());
        let answer = check(&gate, &asked, redirect(status, "role_missing")).await;
        assert_eq!(answer.header("location"), Some(elsewhere), "{line}");
    }
    let asked = head("GET /admin", &[FETCH, &cookie].concat());
    check(&gate, &asked, problem(403, "role_missing")).await;
}

#[tokio::test]
async fn a_refresh_that_the_backend_refuses() {
    let world = World::start().await;
    for (lines, expected) in
        [(NAVIGATION, redirect(302, "no_session")), (FETCH, problem(401, "no_session"))]
    {
        let (ada, _) = world.visitor("ada", ENDED);
        world.backend.fail(Fault::Status(401));
        let asked = head("GET /dashboard", &[lines, &cookies_of(&ada)].concat());
        let answer = check(&world.gate, &asked, expected).await;
        let cleared = answer.headers_named("set-cookie");
        let ends = |line: &&str| line.starts_with(COOKIE) && line.contains("Max-Age=0");
        assert!(cleared.iter().any(ends), "{cleared:?}");
    }
    assert!(world.origin.seen().is_empty());
}

#[tokio::test]
async fn a_backend_that_is_down_while_the_old_token_is_good() {
    let world = World::start().await;
    world.backend.fail(Fault::Status(500));
    let grant = world.backend.grant("ada@example.com", LIFE).unwrap();
    let mut claims = grant.session_claims(LIFE);
    // Of an opaque token nothing tells the life, so that it is due a minute before its end.
    claims["accessToken"] = "opaque".into();
    claims["accessTokenExpiry"] = (foregate_stage::unix_millis() + 50_000).into();
    let claims = claims.to_string();
    let sealed = foregate_stage::seal_v4(foregate_stage::SECRET, &claims, foregate_stage::random());
    let ada = world.stranger();
    ada.set_cookies("example.com", &format!("{COOKIE}={sealed}"));
    for _ in 0..3 {
        assert_eq!(ada.navigate(&format!("{APP}/dashboard")).await.status, 200);
        assert_eq!(world.last_seen().header("authorization"), ["Bearer opaque"]);
        assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 200);
        assert_eq!(world.last_seen().header("authorization"), ["Bearer opaque"]);
    }
}

#[tokio::test]
async fn a_backend_that_is_down_when_the_token_has_ended() {
    let world = World::start().await;
    world.backend.fail(Fault::Status(500));
    let ada = cookies_of(&world.visitor("ada", ENDED).0);
    for (lines, expected) in [
        (NAVIGATION, page(503, "backend_unavailable")),
        (FETCH, problem(503, "backend_unavailable")),
    ] {
        let asked = head("GET /dashboard", &[lines, &ada].concat());
        let answer = check(&world.gate, &asked, expected).await;
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=30).contains(&wait), "{wait}");
        assert!(answer.headers_named("set-cookie").is_empty(), "the cookie is kept");
    }
    assert!(world.origin.seen().is_empty());
}

#[tokio::test]
async fn a_public_path_asks_nothing_of_anybody() {
    let world = World::start().await;
    world.backend.fail(Fault::Hold);
    let (_, ended) = world.visitor("ada", ENDED);
    let live = world.backend.grant("bob@example.com", LIFE).unwrap();
    let mut claims = live.session_claims(LIFE);
    claims["exp"] = 1_000_000_000.into();
    let past = foregate_stage::seal_v4(
        foregate_stage::SECRET,
        &claims.to_string(),
        foregate_stage::random(),
    );
    let foreign = foregate_stage::seal_v4(
        "another-secret-that-nobody-here-has-0123456789",
        &live.session_claims(LIFE).to_string(),
        foregate_stage::random(),
    );
    for cookie in [
        String::new(),
        format!("{COOKIE}=nonsense"),
        format!("{COOKIE}={past}"),
        format!("{COOKIE}={foreign}"),
        session_cookie(&ended),
    ] {
        for lines in [NAVIGATION, FETCH] {
            let mut connection = Connection::open(world.gate.address()).await;
            let cookie = if cookie.is_empty() { "" } else { &format!("Cookie: {cookie}\r\n") };
            connection.send(head("GET /about", &[lines, cookie].concat())).await;
            assert_eq!(connection.answer().await.unwrap().status, 200, "{cookie}");
            assert!(world.last_seen().header("authorization").is_empty(), "{cookie}");
        }
    }
    world.backend.recover();
}

#[tokio::test]
async fn a_path_that_is_closed_to_everybody() {
    let world = World::start().await;
    let ada = cookies_of(&world.visitor("ada", LIFE).0);
    for cookie in ["", &ada] {
        let asked = head("GET /internal/x", &[NAVIGATION, cookie].concat());
        let text = check(&world.gate, &asked, page(403, "denied")).await.text();
        assert!(!text.contains("<form") && !text.contains("<a "), "nothing to be done: {text}");
        let asked = head("GET /internal/x", &[FETCH, cookie].concat());
        check(&world.gate, &asked, problem(403, "denied")).await;
    }
    assert!(world.origin.seen().is_empty());
}

#[tokio::test]
async fn a_host_that_no_app_has() {
    let world = World::start().await;
    for (lines, expected) in
        [(NAVIGATION, page(404, "unknown_host")), (FETCH, problem(404, "unknown_host"))]
    {
        let asked = head("GET /", lines).replace("app.example.com", "other.example.com");
        check(&world.gate, &asked, expected).await;
    }
    let own = (page(404, "unknown_reserved_path"), problem(404, "unknown_reserved_path"));
    check(&world.gate, &head("GET /.foregate/other", NAVIGATION), own.0).await;
    check(&world.gate, &head("GET /.foregate/other", FETCH), own.1).await;
}

#[tokio::test]
async fn a_request_that_has_no_one_meaning() {
    let world = World::start().await;
    for (line, lines, reason) in [
        ("GET /a/%2e%2e/admin", "", "bad_path"),
        ("GET /a;x/..;y/admin", "", "bad_path"),
        ("GET /a%5Cb", "", "bad_path"),
        ("GET /a%2525", "", "bad_path"),
        ("GET /a%FF", "", "bad_path"),
        ("OPTIONS *", "", "bad_target"),
        ("Get /", "", "bad_method"),
        ("GET http://shop.example.com/", "", "bad_host"),
        ("GET /", "Host: app.example.com\r\n", "repeated_header"),
        ("GET /", "Origin: http://a\r\nOrigin: http://a\r\n", "repeated_header"),
        ("GET /", "Sec-Fetch-Site: none\r\nSec-Fetch-Site: none\r\n", "repeated_header"),
        ("POST /about", "Transfer-Encoding: gzip, chunked\r\n", "malformed"),
    ] {
        let asked = head(line, &["Accept: text/html\r\n", lines].concat());
        let form = match (reason, line) {
            // The head can be read, and a POST that says no more is no navigation.
            ("malformed", _) => problem(400, reason),
            _ => page(400, reason),
        };
        check(&world.gate, &asked, form.and_closed()).await;
        check(&world.gate, &head(line, lines), problem(400, reason).and_closed()).await;
    }
    assert!(world.origin.seen().is_empty());
}

#[tokio::test]
async fn a_method_that_is_not_served() {
    let world = World::start().await;
    let asked = head("TRACE /about", "");
    let answer = check(&world.gate, &asked, problem(405, "method_not_allowed")).await;
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    let asked = head("GET /.foregate/sign-out", NAVIGATION);
    let answer = check(&world.gate, &asked, page(405, "method_not_allowed")).await;
    assert_eq!(answer.header("allow"), Some("POST"));
    let asked = "CONNECT app.example.com:80 HTTP/1.1\r\nHost: app.example.com:80\r\n\r\n";
    check(&world.gate, asked, problem(405, "method_not_allowed")).await;
}

#[tokio::test]
async fn a_head_over_the_limits() {
    let world = World::start().await;
    let long = format!("GET /{}", "a".repeat(16 * 1024));
    let asked = head(&long, NAVIGATION);
    check(&world.gate, &asked, page(414, "target_too_long").and_closed()).await;
    check(&world.gate, &head(&long, FETCH), problem(414, "target_too_long").and_closed()).await;
    let fits = format!("GET /public/{}", "a".repeat(16 * 1024 - "/public/".len()));
    assert_eq!(ask(&world, &head(&fits, FETCH)).await.status, 200);

    let expect = head("POST /about", &[FETCH, "Expect: magic\r\n"].concat());
    check(&world.gate, &expect, problem(417, "bad_expectation").and_closed()).await;

    // The parser's own answers: nothing is known of who asks.
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "x".repeat(66_000));
    for (asked, status) in [
        (head("GET /about", &many), 431),
        (head("GET /about", &large), 431),
        (head("GET /about", "No colon\r\n"), 400),
        (head("POST /about", "Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
    ] {
        let before = malformed_lines(&world);
        let mut connection = Connection::open(world.gate.address()).await;
        connection.send(&asked).await;
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (status, ""));
        connection.closed().await;
        world.gate.logged(|_| malformed_lines(&world) > before).await;
    }
}

fn malformed_lines(world: &World) -> usize {
    world.gate.log().matches("\"reason\":\"malformed\"").count()
}

async fn ask(world: &World, request: &str) -> Answer {
    let mut connection = Connection::open(world.gate.address()).await;
    connection.send(request).await;
    connection.answer().await.unwrap_or_else(|| panic!("no answer: {request}"))
}

#[tokio::test]
async fn a_write_from_another_site_on_a_guarded_path() {
    let more = "[csrf]\nallowed_origins = [\"https://partner.example\"]\n";
    let world = World::with(more).await;
    let ada = cookies_of(&world.visitor("ada", LIFE).0);
    let from = "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n";
    let asked = |line: &str, lines: &[&str]| head(line, &[&[&ada, from], lines].concat().concat());
    let write = asked("POST /dashboard", &[NAVIGATION]);
    check(&world.gate, &write, page(403, "cross_site")).await;
    let write = asked("DELETE /dashboard", &[FETCH]);
    let answer = check(&world.gate, &write, problem(403, "cross_site")).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let websocket = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let websocket = asked("GET /dashboard", &["Sec-Fetch-Mode: websocket\r\n", websocket]);
    check(&world.gate, &websocket, problem(403, "cross_site")).await;
    assert!(world.origin.seen().is_empty());

    let partner = asked("POST /dashboard", &[FETCH]).replace("evil", "partner");
    assert_eq!(ask(&world, &partner).await.status, 200, "the operator trusts this origin");
}

#[tokio::test]
async fn an_app_that_is_down_or_too_slow() {
    let world = World::start().await;
    world.origin.script("/public/slow", Script::new([Step::Hang]));
    world.origin.script("/public/broken", Script::new([Step::Close]));
    let down = Gate::start(&config("", "http://127.0.0.1:9")).await;
    for (gate, path, status, reason) in [
        (&world.gate, "/public/slow", 504, "upstream_timeout"),
        (&world.gate, "/public/broken", 502, "upstream_broken"),
        (&down, "/public/x", 502, "upstream_unreachable"),
    ] {
        let get = format!("GET {path}");
        let text = check(gate, &head(&get, NAVIGATION), page(status, reason)).await.text();
        assert!(text.contains("<a href=\"\">Try again</a>"), "{text}");
        let post = format!("POST {path}");
        let text = check(gate, &head(&post, NAVIGATION), page(status, reason)).await.text();
        assert!(!text.contains("<a "), "what was written is not offered again: {text}");
        check(gate, &head(&get, FETCH), problem(status, reason)).await;
    }
}

#[tokio::test]
async fn an_upload_that_stands_still() {
    let origin = Origin::start(ANY).await.unwrap();
    let limit = [("FOREGATE_LIMITS__IDLE_TIMEOUT", "1s")];
    let gate = Gate::start_with(&config("", &origin.url()), &limit).await;
    for (lines, form) in
        [(NAVIGATION, page(408, "upload_timeout")), (FETCH, problem(408, "upload_timeout"))]
    {
        let asked = head("POST /about", &[lines, "Content-Length: 5\r\n"].concat()) + "ab";
        check(&gate, &asked, form.and_closed()).await;
    }
    assert!(origin.seen().is_empty(), "the app saw no request to its end");
}

#[tokio::test]
async fn a_visitor_is_told_to_go_on_once_the_app_may_be_asked() {
    let world = World::start().await;
    let mut connection = Connection::open(world.gate.address()).await;
    let lines = "Content-Length: 3\r\nExpect: 100-continue\r\n";
    connection.send(head("POST /about", lines)).await;
    assert_eq!(connection.bytes(25).await, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.send("abc").await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    let seen = world.last_seen();
    assert_eq!((seen.body.as_slice(), seen.header("expect").len()), (&b"abc"[..], 0));
}

#[tokio::test]
async fn what_an_app_says_beforehand_is_dropped() {
    let world = World::start().await;
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    world.origin.script("/public/early", Script::new([Step::Write(early.into())]));
    let mut connection = Connection::open(world.gate.address()).await;
    connection.send(head("GET /public/early", "")).await;
    assert_eq!(connection.bytes(12).await, b"HTTP/1.1 200");
}

#[tokio::test]
async fn an_upgrade_to_anything_but_a_websocket_is_passed_over() {
    let world = World::start().await;
    let lines =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    assert_eq!(ask(&world, &head("GET /about", lines)).await.status, 200);
    let seen = world.last_seen();
    for name in ["upgrade", "http2-settings"] {
        assert!(seen.header(name).is_empty(), "{name}: {:?}", seen.headers);
    }
}

#[tokio::test]
async fn what_is_read_in_one_way_only_is_served() {
    let world = World::start().await;
    let both = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n";
    let mut connection = Connection::open(world.gate.address()).await;
    connection.send(head("POST /about", both) + "3\r\nabc\r\n0\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    connection.closed().await;

    let mut connection = Connection::open(world.gate.address()).await;
    connection.send("GET /about HTTP/1.1\nHost: app.example.com\n\n").await;
    assert_eq!(connection.answer().await.unwrap().status, 200, "a bare LF");
}
