//! Apps that refresh tokens by themselves, sign visitors out, or reject a token that looked good.

use std::time::Duration;

use foregate_stage::{Fault, Grant, SECRET, Script, cookie_header, random, seal_v4, seal_v5};
use foregate_tests::{Answer, Browser, Connection, Request};
use serde_json::{Value, json};

use crate::world::{APP, COOKIE, LIFE, World};

const V5_COOKIE: &str = "authjs.session-token";

/// The pair that the backend gives for the grant's refresh token to whoever asks.
async fn redeem(world: &World, grant: &Grant) -> Value {
    let body = json!({ "token": grant.refresh_token }).to_string();
    let request = format!(
        "POST /auth/refreshToken HTTP/1.1\r\nHost: backend\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = Connection::open(world.backend.address()).await;
    connection.send(request).await;
    connection.answer().await.unwrap().json()
}

/// What a session of the grant says, with other members in the place of some.
fn claims(grant: &Grant, others: &Value) -> String {
    let mut claims = grant.session_claims(Duration::from_secs(3600));
    for (name, value) in others.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.to_string()
}

fn seal(name: &str, claims: &str) -> String {
    let token = match name {
        V5_COOKIE => seal_v5(SECRET, name, claims, random()),
        _ => seal_v4(SECRET, claims, random()),
    };
    cookie_header(name, &token)
}

/// The `Set-Cookie` lines by which a NextAuth.js site gives a browser these cookies.
fn given(cookies: &str) -> Vec<String> {
    let line = |pair| format!("Set-Cookie: {pair}; Domain=.example.com; Path=/; HttpOnly");
    cookies.split("; ").map(line).collect()
}

fn answering(world: &World, path: &str, status: &str, lines: &[String]) {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    world.origin.script(path, Script::answer(status, &lines, "the app's own"));
}

/// A copy of the session whose access token has ended, and somebody who comes with it.
fn late(world: &World, name: &str, grant: &Grant) -> Browser {
    let browser = world.stranger();
    let ended = claims(grant, &json!({ "accessTokenExpiry": 1_000_000_000_000_u64 }));
    browser.set_cookies("example.com", &seal(name, &ended));
    browser
}

fn with(world: &World, cookies: &str) -> Browser {
    let browser = world.stranger();
    browser.set_cookies("example.com", cookies);
    browser
}

fn cleared() -> String {
    format!("Set-Cookie: {COOKIE}=; Max-Age=0; Domain=.example.com; Path=/; HttpOnly")
}

#[tokio::test]
async fn late_requests_find_the_pair_that_an_app_got_by_itself() {
    for (name, pad) in [(COOKIE, 0), (COOKIE, 9000), (V5_COOKIE, 9000)] {
        let world = World::start().await;
        let grant = world.backend.grant("ada@example.com", LIFE).unwrap();
        let ada = with(&world, &seal(name, &claims(&grant, &json!({}))));
        let mut pair = redeem(&world, &grant).await;
        pair["pad"] = "p".repeat(pad).into();
        let lines = given(&seal(name, &claims(&grant, &pair)));
        answering(&world, "/api/auth/session", "200 OK", &lines);

        let answer = ada.fetch(&format!("{APP}/api/auth/session")).await;
        assert_eq!(answer.headers_named("set-cookie").len(), lines.len(), "the app's own lines");
        let answer = late(&world, name, &grant).fetch(&format!("{APP}/dashboard")).await;
        let wanted = format!("Bearer {}", pair["accessToken"].as_str().unwrap());
        assert_eq!(answer.seen_header("authorization"), Some(wanted), "{name}, {pad}");
        let counters = world.backend.counters();
        assert_eq!((counters.attempts, counters.reuses), (1, 0), "{name}, {pad}");
    }
}

#[tokio::test]
async fn another_person_s_pair_is_not_adopted() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", LIFE);
    let bob = world.backend.grant("bob@example.com", LIFE).unwrap();
    answering(&world, "/switch", "200 OK", &given(&seal(COOKIE, &claims(&bob, &json!({})))));
    ada.fetch(&format!("{APP}/switch")).await;
    let answer = late(&world, COOKIE, &grant).fetch(&format!("{APP}/dashboard")).await;
    assert_eq!(answer.seen_header("x-user-id").as_deref(), Some(&*grant.account.subject));
    assert_ne!(answer.seen_header("authorization"), Some(format!("Bearer {}", bob.access_token)));
    assert_eq!(world.backend.counters().redemptions, 1);
}

#[tokio::test]
async fn an_app_s_sign_out_ends_every_copy_of_the_session() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", LIFE);
    answering(&world, "/api/auth/signout", "302 Found", &[cleared()]);
    let sign_out = Request::form(&format!("{APP}/api/auth/signout"), "csrfToken=x");
    assert_eq!(ada.send(&sign_out).await.status, 302);
    assert_eq!(ada.cookies("app.example.com"), None);
    let copy = late(&world, COOKIE, &grant);
    assert_eq!(copy.fetch(&format!("{APP}/dashboard")).await.status, 401);
    assert_eq!(copy.cookies("app.example.com"), None);
    assert_eq!(world.backend.counters().attempts, 0, "nobody asks for it any more");
}

#[tokio::test]
async fn a_cookie_that_is_cleared_by_the_way_ends_no_session() {
    let world = World::start().await;
    for path in ["/api/auth/session", "/api/auth/signout"] {
        let (ada, grant) = world.visitor("ada", LIFE);
        answering(&world, path, "200 OK", &[cleared()]);
        ada.fetch(&format!("{APP}{path}")).await;
        assert_eq!(ada.cookies("app.example.com"), None, "the app's word reaches the browser");
        let copy = late(&world, COOKIE, &grant);
        assert_eq!(copy.fetch(&format!("{APP}/dashboard")).await.status, 200, "{path}");
    }
}

/// A session whose access token is `token`, of a minute ago; nothing tells when it ends.
fn endless(grant: &Grant, token: &str) -> String {
    let iat = foregate_stage::unix_millis() / 1000 - 60;
    let others = json!({ "accessToken": token, "accessTokenExpiry": null, "iat": iat });
    seal(COOKIE, &claims(grant, &others))
}

/// Ada with a token that her app rejects.
fn rejected(world: &World) -> (Browser, String) {
    let grant = world.backend.grant("ada@example.com", LIFE).unwrap();
    let cookies = endless(&grant, "revoked");
    world.origin.reject("revoked");
    (with(world, &cookies), cookies)
}

/// The tokens with which requests for `path` reached the app.
fn tokens_seen(world: &World, path: &str) -> Vec<String> {
    let seen = world.origin.seen();
    let asked = seen.iter().filter(|seen| seen.target == path);
    asked.map(|seen| seen.header("authorization").concat()).collect()
}

#[tokio::test]
async fn a_401_of_the_app_brings_one_refresh_and_one_replay() {
    let world = World::start().await;
    let (ada, _) = rejected(&world);
    let before = ada.cookies("app.example.com");
    let answer = ada.fetch(&format!("{APP}/orders?page=2")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = tokens_seen(&world, "/orders?page=2");
    assert_eq!((seen.len(), &*seen[0]), (2, "Bearer revoked"));
    assert_eq!(answer.seen_header("authorization").as_deref(), Some(&*seen[1]));
    let after = ada.cookies("app.example.com");
    assert_ne!(after, before, "the visitor has the new session");
    assert_eq!(answer.seen_header("cookie"), after, "and the app saw it");
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));

    assert_eq!(ada.fetch(&format!("{APP}/orders")).await.status, 200);
    assert_eq!(tokens_seen(&world, "/orders"), [&*seen[1]]);
    assert_eq!(world.backend.counters().redemptions, 1);
}

#[tokio::test]
async fn fifty_401s_of_one_token_share_a_refresh() {
    let world = World::start().await;
    let (_, cookies) = rejected(&world);
    world.backend.fail(Fault::Delay(Duration::from_millis(200)));
    let mut visits = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let browser = with(&world, &cookies);
        visits.spawn(async move { browser.fetch(&format!("{APP}/orders")).await.status });
    }
    assert_eq!(visits.join_all().await, [200].repeat(50));
    let counters = world.backend.counters();
    assert_eq!((counters.attempts, counters.redemptions, counters.reuses), (1, 1, 0));
    // Who keeps no cookies gets the new token from the ledger.
    assert_eq!(with(&world, &cookies).fetch(&format!("{APP}/orders")).await.status, 200);
    assert_eq!(world.backend.counters().attempts, 1);
}

fn is_the_apps_own(answer: &Answer) -> bool {
    answer.status == 401
        && answer.text() == "rejected"
        && answer.header("www-authenticate").is_some()
}

#[tokio::test]
async fn a_401_passes_where_the_request_may_have_done_something() {
    let world = World::start().await;
    let (ada, _) = rejected(&world);
    let body = Request::get(&format!("{APP}/orders")).fetch("same-origin").body("a");
    let form = Request::form(&format!("{APP}/orders"), "");
    let put = Request::new("PUT", &format!("{APP}/orders")).fetch("same-origin");
    for request in [body, form, put] {
        assert!(is_the_apps_own(&ada.send(&request).await));
    }
    assert_eq!(world.backend.counters().attempts, 0);
    assert_eq!(tokens_seen(&world, "/orders").len(), 3);
}

#[tokio::test]
async fn a_401_passes_where_another_token_would_fare_no_better() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", LIFE);
    world.origin.reject(&grant.access_token);
    let answer = ada.fetch(&format!("{APP}/orders")).await;
    assert!(is_the_apps_own(&answer), "it was issued a moment ago");
    assert_eq!(world.backend.counters().attempts, 0);

    // An app that rejects every token.
    let (bob, _) = rejected(&world);
    answering(&world, "/never", "401 Unauthorized", &[]);
    let target = format!("{APP}/never");
    let answer = bob.fetch(&target).await;
    assert_eq!((answer.status, answer.text().as_str()), (401, "the app's own"));
    assert_eq!(bob.fetch(&target).await.status, 401);
    assert_eq!(tokens_seen(&world, "/never").len(), 3, "one replay, and none of the new token");
    assert_eq!(world.backend.counters().attempts, 1);
}

#[tokio::test]
async fn where_the_backend_refuses_the_401_passes_and_the_session_ends() {
    let world = World::start().await;
    let (ada, _) = rejected(&world);
    world.backend.fail(Fault::Status(401));
    assert!(is_the_apps_own(&ada.fetch(&format!("{APP}/orders")).await));
    assert_eq!(ada.cookies("app.example.com"), None);
    assert_eq!(tokens_seen(&world, "/orders").len(), 1);
}

#[tokio::test]
async fn where_the_backend_is_away_the_401_passes_and_the_session_stays() {
    let world = World::start().await;
    let (ada, _) = rejected(&world);
    let before = ada.cookies("app.example.com");
    world.backend.fail(Fault::Status(500));
    for _ in 0..3 {
        assert!(is_the_apps_own(&ada.fetch(&format!("{APP}/orders")).await));
    }
    assert_eq!(ada.cookies("app.example.com"), before);
    assert_eq!(world.backend.counters().attempts, 1, "nobody asks during the pause");
}

#[tokio::test]
async fn a_401_passes_where_the_configuration_says_so() {
    let world = World::with("\n[refresh]\non_upstream_401 = false\n").await;
    let (ada, _) = rejected(&world);
    assert!(is_the_apps_own(&ada.fetch(&format!("{APP}/orders")).await));
    assert_eq!(world.backend.counters().attempts, 0);
}
