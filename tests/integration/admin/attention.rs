//! What an operator is told without asking: mistakes that no single request shows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foregate_stage::{Fault, SECRET, cookie_header, random, seal_v4};
use foregate_tests::Request;
use serde_json::Value;

use super::{ADMIN, ask, logged, metric, world};
use crate::world::{APP, COOKIE, LIFE, World, session_cookie};

#[tokio::test]
async fn where_no_cookie_opens_the_secret_is_in_doubt() {
    let (world, admin) = world().await;
    let verbose = || async { ask(admin, "/readyz?verbose").await.text() };
    assert!(verbose().await.contains("[+] session cookies: none came yet"));
    let (_, grant) = world.visitor("ada", LIFE);
    let claims = grant.session_claims(LIFE).to_string();
    let foreign = seal_v4("another-secret-of-another-app", &claims, random());
    let stranger = world.stranger();
    stranger.set_cookies("example.com", &cookie_header(COOKIE, &foreign));
    for _ in 0..3 {
        assert_eq!(stranger.fetch(&format!("{APP}/dashboard")).await.status, 401);
    }
    let told = verbose().await;
    let line = "[!] session cookies: none of 3 opened, the latest: the seal is broken: another \
                secret, or an altered cookie. Is session.secrets what the apps have in NEXTAUTH_SECRET \
                or AUTH_SECRET?\n";
    assert!(told.contains(line), "{told}");
    assert!(ask(admin, "/").await.text().contains("session cookies: none of 3 opened"));

    // One visitor who is let in clears it: the others have cookies of their own making.
    let (ada, _) = world.visitor("ada", LIFE);
    assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 200);
    let told = verbose().await;
    assert!(told.contains("[+] session cookies: some opened, 3 did not\n"), "{told}");
}

#[tokio::test]
async fn a_proxy_that_ends_tls_and_is_not_trusted_is_named() {
    let (world, admin) = world().await;
    let (_, grant) = world.visitor("ada", LIFE);
    let secure = format!("__Secure-{}", session_cookie(&grant));
    let visitor = world.stranger();
    visitor.set_cookies("example.com", &secure);
    assert_eq!(visitor.fetch(&format!("{APP}/dashboard")).await.status, 200);
    let told = ask(admin, "/readyz?verbose").await.text();
    let line = "[!] 127.0.0.1 sent a __Secure- cookie over plain HTTP and is not in \
                server.trusted_proxies: redirects go to http\n";
    assert!(told.contains(line), "{told}");
}

#[tokio::test]
async fn where_few_cookies_open_a_secret_is_in_doubt_too() {
    let (world, admin) = world().await;
    let (ada, grant) = world.visitor("ada", LIFE);
    assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 200);
    let claims = grant.session_claims(LIFE).to_string();
    let foreign = seal_v4("another-secret-of-another-app", &claims, random());
    let stranger = world.stranger();
    stranger.set_cookies("example.com", &cookie_header(COOKIE, &foreign));
    for _ in 0..40 {
        assert_eq!(stranger.fetch(&format!("{APP}/dashboard")).await.status, 401);
    }
    let told = ask(admin, "/readyz?verbose").await.text();
    let line = "[!] session cookies: 40 of the last 41 did not open, the latest: the seal is broken: \
                another secret, or an altered cookie. Does one of the apps have another secret, or \
                does somebody send junk?\n";
    assert!(told.contains(line), "{told}");
}

#[tokio::test]
async fn a_session_that_was_sealed_in_the_future_opens_and_tells_of_a_clock() {
    let (world, admin) = world().await;
    let early = |ahead: u64| {
        let (_, grant) = world.visitor("ada", LIFE);
        let mut claims = grant.session_claims(LIFE);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        claims["iat"] = (now + ahead).into();
        let visitor = world.stranger();
        let sealed = seal_v4(SECRET, &claims.to_string(), random());
        visitor.set_cookies("example.com", &cookie_header(COOKIE, &sealed));
        visitor
    };
    let counted = || metric(admin, "foregate_session_cookies_from_the_future_total");
    assert_eq!(early(10).fetch(&format!("{APP}/dashboard")).await.status, 200);
    let told = ask(admin, "/readyz?verbose").await.text();
    assert!(!told.contains("in the future"), "{told}");
    assert_eq!(counted().await, 0.0);

    assert_eq!(early(3600).fetch(&format!("{APP}/dashboard")).await.status, 200);
    let told = ask(admin, "/readyz?verbose").await.text();
    assert!(told.contains("[!] session cookies: one was sealed in the future by 3"), "{told}");
    assert!(told.contains(" s: a clock is wrong, here or where visitors sign in\n"), "{told}");
    assert_eq!(counted().await, 1.0);
}

#[tokio::test]
async fn a_trusted_proxy_that_ends_tls_and_does_not_say_so_is_named() {
    let world = World::with(&format!("{ADMIN}trusted_proxies = [\"127.0.0.1\"]\n")).await;
    let admin = world.gate.admin_address().await;
    let (_, grant) = world.visitor("ada", LIFE);
    let secure = format!("__Secure-{}", session_cookie(&grant));
    let ask_as_https = Request::get(&format!("{APP}/dashboard"))
        .header("X-Forwarded-Proto", "https")
        .header("Cookie", &secure);
    assert_eq!(world.stranger().send(&ask_as_https).await.status, 200);
    let question = Request::get("http://gate.internal/.foregate/auth")
        .header("X-Original-URL", "https://app.example.com/dashboard")
        .header("X-Original-Method", "GET")
        .header("Cookie", &secure);
    assert_eq!(world.stranger().send(&question).await.status, 200, "nginx names the scheme there");
    let told = ask(admin, "/readyz?verbose").await.text();
    assert!(!told.contains("X-Forwarded-Proto"), "{told}");

    let silent = Request::get(&format!("{APP}/dashboard")).header("Cookie", &secure);
    assert_eq!(world.stranger().send(&silent).await.status, 200);
    let told = ask(admin, "/readyz?verbose").await.text();
    let line = "[!] 127.0.0.1 is trusted and does not say https: it must set X-Forwarded-Proto, or \
                redirects go to http\n";
    assert!(told.contains(line), "{told}");
    let words = "127.0.0.1 is trusted and does not say https: it must set X-Forwarded-Proto";
    world.gate.logged(|log| log.contains(words)).await;
}

#[tokio::test]
async fn a_backend_that_refuses_most_tokens_is_one_to_look_at() {
    let (world, admin) = world().await;
    world.backend.fail(Fault::Status(401));
    for (name, refused) in [("ada", 1), ("bob", 2), ("ada", 3)] {
        let (visitor, _) = world.visitor(name, Duration::ZERO);
        assert_eq!(visitor.fetch(&format!("{APP}/dashboard")).await.status, 401);
        let told = ask(admin, "/readyz?verbose").await.text();
        let mark = if refused < 3 { "[+]" } else { "[!]" };
        let line = format!("{mark} backend: refused 0 s ago; {refused} of {refused} refused");
        assert!(told.contains(&line), "{told}");
    }
}

#[tokio::test]
async fn the_line_of_a_request_says_why_a_cookie_that_opened_speaks_for_nobody() {
    let (world, _) = world().await;
    let said = async |count: usize| {
        world.gate.logged(|_| logged(&world.gate, "request").len() == count).await;
        let line = logged(&world.gate, "request").pop();
        line.map(|line| line["cookie"].clone()).unwrap_or_default()
    };
    let (ada, _) = world.visitor("ada", Duration::ZERO);
    world.backend.fail(Fault::Status(401));
    assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 401);
    assert_eq!(said(1).await, "opened, but its backend refuses to renew it");

    let (_, grant) = world.visitor("bob", Duration::ZERO);
    let mut claims = grant.session_claims(LIFE);
    claims.as_object_mut().unwrap().remove("refreshToken");
    let spent = seal_v4(SECRET, &claims.to_string(), random());
    let bob = world.stranger();
    bob.set_cookies("example.com", &cookie_header(COOKIE, &spent));
    assert_eq!(bob.fetch(&format!("{APP}/dashboard")).await.status, 401);
    assert_eq!(said(2).await, "opened, but its access token has ended and nothing renews it");

    let junk = world.stranger();
    junk.set_cookies("example.com", &format!("{COOKIE}=junk"));
    assert_eq!(junk.fetch(&format!("{APP}/.foregate/session")).await.text(), "null");
    assert_eq!(said(3).await, "not a compact JWE with a direct key");
    assert_eq!(logged(&world.gate, "request")[0]["status"], Value::from(401));
}

#[tokio::test]
async fn a_proxy_that_asks_for_decisions_and_is_not_trusted_is_named() {
    let (world, admin) = world().await;
    let question = ("x-original-url", "https://app.example.com/dashboard");
    for (name, value) in [("accept", "*/*"), question] {
        let ask = Request::get("http://gate.internal/.foregate/auth").header(name, value);
        assert_eq!(world.stranger().send(&ask).await.status, 404);
    }
    let told = ask(admin, "/readyz?verbose").await.text();
    let line = "[!] 127.0.0.1 asks /.foregate/auth and is not in server.trusted_proxies: it is \
                told nothing\n";
    assert!(told.contains(line), "{told}");
    world.gate.logged(|log| log.contains("trusted_proxies = [\\\"127.0.0.1\\\"]")).await;
}

#[tokio::test]
async fn no_visitor_fills_the_log_with_one_line() {
    let (world, _) = world().await;
    let method = "A".repeat(50_000);
    let answer = world
        .stranger()
        .send(&Request::new(&method, &format!("{APP}/about?{}", "b".repeat(9_000))))
        .await;
    assert_eq!(answer.status, 200, "a public page, by any method");
    world.gate.logged(|_| logged(&world.gate, "request").len() == 1).await;
    let line = logged(&world.gate, "request").remove(0).to_string();
    assert!(line.contains("AAAA") && line.len() < 4096, "{} bytes", line.len());
}
