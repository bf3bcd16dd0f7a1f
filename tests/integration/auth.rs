//! `/.foregate/auth`: a proxy asks whether a request may pass.

mod proxies;

use std::time::Duration;

use foregate_stage::Fault;
use foregate_tests::{Answer, Connection, Gate};

use crate::world::{COOKIE, LIFE, World, session_cookie};

/// The tests are the proxy.
const TRUSTED: &str = "[server]\nhttp = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n";

/// What a visitor might hope that an app believes.
fn forged() -> [(&'static str, &'static str); 7] {
    [
        ("Authorization", "Bearer forged"),
        ("X-User-Id", "root"),
        ("X-Roles", "admin,root"),
        ("X_User_Id", "root"),
        ("X.User-Id", "root"),
        ("X_Roles", "root"),
        ("X-Middleware-Subrequest", "middleware"),
    ]
}

/// A question with this request line and these header lines, besides `Host`.
async fn ask(gate: &Gate, line: &str, host: &str, lines: &[String]) -> Answer {
    let mut connection = Connection::open(gate.address()).await;
    let lines = lines.join("\r\n");
    let gap = if lines.is_empty() { "" } else { "\r\n" };
    connection.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{lines}{gap}\r\n")).await;
    let method = line.split(' ').next().unwrap();
    connection.answer_to(method).await.expect("a question is answered")
}

const APP: &str = "app.example.com";
/// No app's name.
const PRIVATE: &str = "foregate.internal";
const ENDPOINT: &str = "GET /.foregate/auth";

/// How proxies ask about `method` on app.example.com with `target`: request line and header lines.
fn dialects(method: &str, target: &str) -> Vec<(String, Vec<String>)> {
    let lines = |lines: &[(&str, &str)]| {
        lines.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let url = format!("https://{APP}{target}");
    vec![
        (ENDPOINT.into(), lines(&[("X-Original-URL", &url), ("X-Original-Method", method)])),
        (
            ENDPOINT.into(),
            lines(&[
                ("X-Original-URI", target),
                ("X-Original-Method", method),
                ("X-Forwarded-Host", APP),
                ("X-Forwarded-Proto", "https"),
            ]),
        ),
        (
            ENDPOINT.into(),
            lines(&[
                ("X-Forwarded-Method", method),
                ("X-Forwarded-Uri", target),
                ("X-Forwarded-Host", APP),
                ("X-Forwarded-Proto", "https"),
            ]),
        ),
        (format!("{method} /.foregate/auth{target}"), lines(&[("X-Forwarded-Proto", "https")])),
    ]
}

#[tokio::test]
async fn where_nobody_asks_it_can_be_switched_off() {
    let world = World::with(&[TRUSTED, "decision_endpoint = false\n"].concat()).await;
    let (ada, _) = world.visitor("ada", LIFE);
    let cookie = format!("Cookie: {}", ada.cookies(APP).unwrap());
    for (line, mut lines) in dialects("GET", "/dashboard") {
        lines.push(cookie.clone());
        let answer = ask(&world.gate, &line, APP, &lines).await;
        assert_eq!(
            (answer.status, &answer.json()["reason"]),
            (404, &"unknown_reserved_path".into()),
            "{lines:?}"
        );
        assert_eq!(answer.header("authorization"), None, "{lines:?}");
        assert_eq!(ask(&world.gate, &line, "foregate.internal", &lines).await.status, 404);
    }
    assert!(world.origin.seen().is_empty(), "it is still no path of the app's");
}

#[tokio::test]
async fn every_dialect_gets_the_headers_for_the_app() {
    let world = World::with(TRUSTED).await;
    let (ada, grant) = world.visitor("ada", LIFE);
    let cookie = format!("Cookie: {}", ada.cookies(APP).unwrap());
    for (line, mut lines) in dialects("GET", "/admin/users?a=b") {
        lines.push(cookie.clone());
        lines.extend(forged().map(|(name, value)| format!("{name}: {value}")));
        let answer = ask(&world.gate, &line, APP, &lines).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{lines:?}");
        let bearer = format!("Bearer {}", grant.access_token);
        assert_eq!(answer.headers_named("authorization"), [&*bearer], "{lines:?}");
        assert_eq!(answer.headers_named("x-user-id"), ["u-1"], "{lines:?}");
        assert_eq!(answer.headers_named("x-roles"), ["admin,user"], "{lines:?}");
        assert_eq!(answer.header("cache-control"), Some("private, no-store"), "{lines:?}");
        assert_eq!(answer.header("set-cookie"), None, "{lines:?}");
        assert_eq!(answer.header("cookie"), None, "a page may ask under its own name: {lines:?}");
    }
    for (line, mut lines) in dialects("GET", "/public/page") {
        lines.extend(forged().map(|(name, value)| format!("{name}: {value}")));
        let answer = ask(&world.gate, &line, APP, &lines).await;
        assert_eq!(answer.status, 200, "{lines:?}");
        for name in ["authorization", "x-user-id", "x-roles"] {
            assert_eq!(answer.headers_named(name), [""], "no forged {name} stands: {lines:?}");
        }
    }
    assert!(world.origin.seen().is_empty(), "only the decision is asked for");
}

#[tokio::test]
async fn a_refusal_is_what_the_visitor_would_get_and_nginx_gets_what_it_takes() {
    let world = World::with(TRUSTED).await;
    let (bob, _) = world.visitor("bob", LIFE);
    let cookie = format!("Cookie: {}", bob.cookies(APP).unwrap());
    let (html, json) = ("Accept: text/html", "Accept: application/json");
    let login = "http://auth.example.com/login?callbackUrl=https%3A%2F%2Fapp.example.com";
    let check = async |method: &str, target: &str, more: &[&str], expected: (u16, &str)| {
        for (line, mut lines) in dialects(method, target) {
            lines.extend(more.iter().map(|line| (*line).to_owned()));
            let answer = ask(&world.gate, &line, APP, &lines).await;
            let is_nginx = lines[0].starts_with("X-Original");
            let redirects = expected.1.starts_with(login);
            let status = if is_nginx && redirects { 401 } else { expected.0 };
            assert_eq!(answer.status, status, "{method} {target} {lines:?}");
            for name in ["authorization", "x-user-id", "x-roles"] {
                assert_eq!(answer.header(name), None, "{lines:?}");
            }
            if redirects {
                assert_eq!(answer.header("location"), Some(expected.1), "{lines:?}");
            } else if method != "HEAD" {
                assert_eq!(answer.header("location"), None, "{lines:?}");
                assert!(answer.text().contains(expected.1), "{lines:?}: {}", answer.text());
            }
        }
    };
    let back = [login, "%2Fdashboard%3Fa%3Db"].concat();
    check("GET", "/dashboard?a=b", &[html], (302, &back)).await;
    check("HEAD", "/dashboard?a=b", &[html], (302, &back)).await;
    check("POST", "/dashboard?a=b", &["Sec-Fetch-Mode: navigate"], (303, &back)).await;
    check("POST", "/dashboard?a=b", &[html], (401, "no_session")).await;
    check("POST", "/dashboard", &["Content-Type: application/grpc"], (401, "")).await;
    check("GET", "/dashboard", &[json], (401, "no_session")).await;
    check("GET", "/internal/x", &[json], (403, "denied")).await;
    check("GET", "/admin/users", &[json, &cookie], (403, "role_missing")).await;
    check("GET", "/admin/users", &[html, &cookie], (403, "role_missing")).await;
    let foreign = "Sec-Fetch-Site: cross-site";
    check("POST", "/dashboard", &[json, &cookie, foreign], (403, "cross_site")).await;
    let handshake = ["Sec-WebSocket-Version: 13", "Origin: https://evil.example"];
    check("GET", "/dashboard", &[&handshake[..], &[&cookie]].concat(), (403, "cross_site")).await;
    check("GET", "/.foregate/session", &[json, &cookie], (404, "unknown_reserved_path")).await;
    check("GET", "/.foregate/auth/", &[json, &cookie], (404, "unknown_reserved_path")).await;
    check("GET", "/a/../b", &[json], (400, "bad_path")).await;
    check("GET", "/a%2Fb", &[json], (400, "bad_path")).await;
    let preflight =
        ["Origin: https://shop.example.com", "Access-Control-Request-Method: PUT"].as_slice();
    for (line, mut lines) in dialects("OPTIONS", "/dashboard") {
        lines.extend(preflight.iter().map(|line| (*line).to_owned()));
        let answer = ask(&world.gate, &line, APP, &lines).await;
        assert_eq!((answer.status, answer.header("authorization")), (200, Some("")), "{lines:?}");
    }
}

#[tokio::test]
async fn nobody_asks_who_is_not_trusted() {
    let world = World::start().await;
    let (ada, _) = world.visitor("ada", LIFE);
    let cookie = format!("Cookie: {}", ada.cookies(APP).unwrap());
    for target in ["/dashboard", "/public/page"] {
        for (line, mut lines) in dialects("GET", target) {
            lines.push(cookie.clone());
            let answer = ask(&world.gate, &line, APP, &lines).await;
            assert_eq!(answer.status, 403, "{line} {lines:?}");
            assert_eq!(answer.json()["reason"], "untrusted_peer");
            assert_eq!(answer.header("authorization"), None);
            assert_eq!(ask(&world.gate, &line, PRIVATE, &lines).await.status, 404, "{line}");
        }
    }
    assert_eq!(ask(&world.gate, ENDPOINT, APP, &[]).await.status, 403);
}

#[tokio::test]
async fn a_question_that_can_be_read_two_ways_is_a_400() {
    let world = World::with(TRUSTED).await;
    let (ada, _) = world.visitor("ada", LIFE);
    let cookie = format!("Cookie: {}", ada.cookies(APP).unwrap());
    let check = async |line: &str, lines: &[String], reason: &str| {
        let lines = [lines, std::slice::from_ref(&cookie)].concat();
        let answer = ask(&world.gate, line, APP, &lines).await;
        assert_eq!(answer.status, 400, "{line} {lines:?}");
        assert_eq!(answer.json()["reason"], reason, "{line} {lines:?}");
        assert_eq!(answer.header("authorization"), None);
    };
    let unclear = "unclear_question";
    check(ENDPOINT, &[], unclear).await;
    check("GET /.foregate/auth?uri=/dashboard", &[], unclear).await;
    for spelling in ["/.foregate/%61uth", "/%2Eforegate/auth", "/.foregate/%61uth/dashboard"] {
        let lines = &dialects("GET", "/dashboard")[2].1;
        let answer = ask(&world.gate, &format!("GET {spelling}"), APP, lines).await;
        assert_eq!(answer.status, 404, "what keeps visitors out of the one spelling is enough");
    }
    for (line, lines) in &dialects("GET", "/dashboard")[..3] {
        for (index, told) in lines.iter().enumerate() {
            let doubled = [&lines[..], std::slice::from_ref(told)].concat();
            check(line, &doubled, unclear).await;
            // The scheme, and beside `X-Original-URI` the host, may be left out.
            if !told.starts_with("X-Forwarded") || line == ENDPOINT && lines.len() == 4 && index < 2
            {
                let missing = [&lines[..index], &lines[index + 1..]].concat();
                check(line, &missing, unclear).await;
            }
        }
        let elsewhere = "GET /.foregate/auth/public/page";
        check(elsewhere, lines, unclear).await;
    }
    for (name, value, reason) in [
        ("X-Original-URI", "/public/page", unclear),
        ("X-Original-URL", "https://app.example.com/public/page", unclear),
        ("X-Original-URL", "http://app.example.com/dashboard", unclear),
        ("X-Original-Method", "POST", unclear),
        ("X-Forwarded-Uri", "/public/page", unclear),
        ("X-Forwarded-Method", "POST", unclear),
    ] {
        let all = dialects("GET", "/dashboard");
        let known: Vec<String> = all[0].1.iter().chain(&all[2].1).cloned().collect();
        let others = known.iter().filter(|line| !line.starts_with(&format!("{name}:")));
        let lines: Vec<String> = others.cloned().chain([format!("{name}: {value}")]).collect();
        check(ENDPOINT, &lines, reason).await;
        assert_eq!(
            ask(&world.gate, ENDPOINT, APP, &[&known[..], std::slice::from_ref(&cookie)].concat())
                .await
                .status,
            200,
            "two dialects that agree"
        );
    }
    let shop = "X-Forwarded-Host: shop.example.com".to_owned();
    let url = &dialects("GET", "/dashboard")[0].1;
    check(ENDPOINT, &[&url[..], std::slice::from_ref(&shop)].concat(), "bad_host").await;
    check("GET /.foregate/auth/dashboard", &[shop], "bad_host").await;
}

#[tokio::test]
async fn the_host_that_is_meant_is_the_one_that_counts() {
    let world = World::with(TRUSTED).await;
    for (line, lines) in &dialects("GET", "/public/page")[..3] {
        assert_eq!(ask(&world.gate, line, PRIVATE, lines).await.status, 200, "{lines:?}");
        let unknown: Vec<String> =
            lines.iter().map(|line| line.replace(APP, "unknown.example.com")).collect();
        let answer = ask(&world.gate, line, PRIVATE, &unknown).await;
        assert_eq!(
            (answer.status, &*answer.json()["reason"].to_string()),
            (404, "\"unknown_host\"")
        );
    }
    let answer = ask(&world.gate, "GET /.foregate/auth/public/page", PRIVATE, &[]).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_renewed_session_reaches_the_visitor_and_under_a_private_name_the_app() {
    let world = World::with(TRUSTED).await;
    for (index, host) in [(0, APP), (0, PRIVATE), (2, APP), (2, PRIVATE)] {
        let grant = world.backend.grant("ada@example.com", Duration::ZERO).unwrap();
        let old = session_cookie(&grant);
        let (line, mut lines) = dialects("GET", "/dashboard").swap_remove(index);
        lines.push(format!("Cookie: theme=dark; {old}"));
        let answer = ask(&world.gate, &line, host, &lines).await;
        assert_eq!(answer.status, 200, "{lines:?}");
        assert_ne!(
            answer.header("authorization"),
            Some(&*format!("Bearer {}", grant.access_token))
        );
        let set = answer.headers_named("set-cookie");
        assert_eq!(set.len(), 1);
        let pair = set[0].split(';').next().unwrap();
        assert!(pair.starts_with(&format!("{COOKIE}=")) && pair != old);
        let (app_cookie, numbered) =
            (answer.header("cookie"), answer.header("x-foregate-set-cookie-1"));
        if host == PRIVATE {
            assert_eq!(app_cookie, Some(&*format!("theme=dark; {pair}")));
            assert_eq!(numbered, Some(set[0]));
        } else {
            assert_eq!((app_cookie, numbered), (None, None));
        }
    }
    let (ada, _) = world.visitor("ada", LIFE);
    let cookies = ada.cookies(APP).unwrap();
    let mut lines = dialects("GET", "/dashboard").swap_remove(2).1;
    lines.push(format!("Cookie: {cookies}"));
    let answer = ask(&world.gate, ENDPOINT, PRIVATE, &lines).await;
    assert_eq!(answer.header("cookie"), Some(&*cookies), "as they came");
    let shop: Vec<String> =
        lines.iter().map(|line| line.replace(APP, "shop.example.com")).collect();
    let answer = ask(&world.gate, ENDPOINT, PRIVATE, &shop).await;
    assert_eq!((answer.status, answer.header("cookie")), (200, Some("")), "cookie = \"strip\"");
}

#[tokio::test]
async fn a_refused_refresh_clears_the_cookie_and_a_missing_backend_keeps_it() {
    let world = World::with(TRUSTED).await;
    // A visitor may add the one dialect to the other.
    let all = dialects("GET", "/dashboard");
    let both = (ENDPOINT.to_owned(), [&all[0].1[..], &all[2].1].concat());
    for (asked, numbered) in [(&all[0], true), (&all[2], false), (&both, false)] {
        for (fault, status, clears) in
            [(Fault::Status(503), 503, false), (Fault::Status(401), 401, true)]
        {
            let grant = world.backend.grant("ada@example.com", Duration::ZERO).unwrap();
            let (line, mut lines) = asked.clone();
            lines.push(format!("Cookie: {}", session_cookie(&grant)));
            world.backend.fail(fault);
            let answer = ask(&world.gate, &line, PRIVATE, &lines).await;
            world.backend.recover();
            assert_eq!(answer.status, status, "{lines:?}");
            assert_eq!(answer.header("retry-after").is_some(), !clears);
            assert_eq!(answer.header("set-cookie").is_some(), clears);
            let has_number = answer.header("x-foregate-set-cookie-1").is_some();
            assert_eq!(has_number, clears && numbered, "others hand a refusal on as it is");
        }
    }
}

#[tokio::test]
async fn a_strangers_own_authorization_goes_where_it_would_go() {
    let world = World::with(TRUSTED).await;
    let authorization = ["Authorization: Basic YTpi".to_owned()];
    let url = |target: &str| {
        vec![
            format!("X-Original-URL: https://shop.example.com{target}"),
            "X-Original-Method: GET".to_owned(),
        ]
    };
    let lines = [&url("/api/x")[..], &authorization].concat();
    let answer = ask(&world.gate, ENDPOINT, "shop.example.com", &lines).await;
    assert_eq!((answer.status, answer.header("authorization")), (200, Some("Basic YTpi")));
    let (bob, grant) = world.visitor("bob", LIFE);
    let cookie = format!("Cookie: {}", bob.cookies(APP).unwrap());
    let lines = [&url("/api/x")[..], &authorization, &[cookie]].concat();
    let answer = ask(&world.gate, ENDPOINT, "shop.example.com", &lines).await;
    let bearer = format!("Bearer {}", grant.access_token);
    assert_eq!(answer.headers_named("authorization"), [&*bearer]);
    let answer = ask(&world.gate, ENDPOINT, APP, &lines).await;
    assert_eq!((answer.status, answer.header("authorization")), (400, None), "not another app's");
    assert_eq!(answer.json()["reason"], "bad_host");
}

#[tokio::test]
async fn the_method_and_the_body_of_the_question_do_not_matter() {
    let world = World::with(TRUSTED).await;
    let lines = dialects("GET", "/public/page").swap_remove(2).1.join("\r\n");
    let mut connection = Connection::open(world.gate.address()).await;
    for method in ["GET", "POST", "HEAD", "PUT"] {
        let body = if method == "HEAD" || method == "GET" { "" } else { "words" };
        let length = body.len();
        connection
            .send(format!(
                "{method} /.foregate/auth HTTP/1.1\r\nHost: {APP}\r\n{lines}\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        let answer = connection.answer_to(method).await.expect("the connection is kept");
        assert_eq!(answer.status, 200, "{method}");
    }
    world.gate.logged(|log| log.contains("\"path\":\"/public/page\"")).await;
}

#[tokio::test]
async fn a_secure_cookie_over_plain_http_is_warned_of_once() {
    let count = |log: &str| log.matches("trusted_proxies = ").count();
    let line = ["Cookie: a=b; __Secure-next-auth.session-token=x".to_owned()];
    let world = World::start().await;
    for _ in 0..3 {
        ask(&world.gate, "GET /public/page", APP, &line).await;
    }
    world.gate.logged(|log| log.contains("trusted_proxies = [\\\"127.0.0.1\\\"]")).await;
    assert_eq!(count(&world.gate.log()), 1);

    let trusting = World::with(TRUSTED).await;
    ask(&trusting.gate, "GET /public/page", APP, &line).await;
    trusting.gate.logged(|log| log.contains("\"path\":\"/public/page\"")).await;
    assert_eq!(count(&trusting.gate.log()), 0);
}
