//! Each kind of backend, as the file describes it.

use std::time::Duration;

use foregate_stage::{Backend, SECRET, cookie_header, random, seal_v4};
use foregate_tests::Browser;
use serde_json::{Value, json};

use crate::world::{APP, COOKIE, World};

/// A visitor whose session has these claims beside a subject, and whose access token has ended.
fn visitor(world: &World, claims: &Value) -> Browser {
    let mut all = json!({ "sub": "u-1", "exp": 4_000_000_000_u64 });
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let browser = world.stranger();
    let cookie = cookie_header(COOKIE, &seal_v4(SECRET, &all.to_string(), random()));
    browser.set_cookies("example.com", &cookie);
    browser
}

/// A request that needs a new token, and the backend's redemptions after it.
async fn redeemed(world: &World, browser: &Browser) -> u64 {
    let answer = browser.fetch(&format!("{APP}/dashboard")).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), world.gate.log());
    let token = answer.seen_header("authorization").unwrap();
    assert!(token.starts_with("Bearer eyJ"), "{token}");
    world.backend.counters().redemptions
}

fn refresh_token(world: &World) -> String {
    world.backend.grant("ada@example.com", Duration::ZERO).unwrap().refresh_token
}

#[tokio::test]
async fn an_oauth2_backend_renews_the_guides_session() {
    let tables = |backend: &Backend| {
        let url = backend.url();
        format!(
            "[backend]\ndialect = \"oauth2\"\nclient_id = \"app\"\nrefresh_url = \"{url}/token\"\n"
        )
    };
    let world = World::with_backend(tables, "").await;
    let claims = json!({
        "access_token": "ended", "expires_at": 1_000_000, "refresh_token": refresh_token(&world),
        "error": "RefreshTokenError",
    });
    let ada = visitor(&world, &claims);
    assert_eq!(redeemed(&world, &ada).await, 1);
    assert_eq!(redeemed(&world, &ada).await, 1, "the new cookie holds a good token");
}

#[tokio::test]
async fn a_simplejwt_backend_renews_the_second_seeds_session() {
    let tables = |backend: &Backend| {
        let url = backend.url();
        format!("[backend]\ndialect = \"simplejwt\"\nrefresh_url = \"{url}/api/token/refresh/\"\n")
    };
    let world = World::with_backend(tables, "").await;
    let claims = json!({
        "token": "ended", "accessTokenExpires": "1000000", "refreshToken": refresh_token(&world),
    });
    let ada = visitor(&world, &claims);
    assert_eq!(redeemed(&world, &ada).await, 1);
    assert_eq!(redeemed(&world, &ada).await, 1, "the new cookie holds a good token");
}

#[tokio::test]
async fn any_backend_can_be_described() {
    let tables = |backend: &Backend| {
        let url = backend.url();
        format!(
            r#"[backend]
refresh_url = "{url}/token"
[backend.refresh]
encoding = "form"
body = {{ grant_type = "refresh_token", refresh_token = "{{refresh_token}}", client_id = "app" }}
headers = {{ "X-Client" = "gate" }}
access_token = "access_token"
expires_in = "expires_in"
refresh_token = "refresh_token"
"#
        )
    };
    let world = World::with_backend(tables, "").await;
    let claims = json!({
        "accessToken": "ended", "accessTokenExpiry": 1_000_000_000_000_u64,
        "refreshToken": refresh_token(&world),
    });
    assert_eq!(redeemed(&world, &visitor(&world, &claims)).await, 1);
}

#[tokio::test]
async fn each_session_is_renewed_by_its_own_backend() {
    let tables = |backend: &Backend| {
        let url = backend.url();
        format!(
            r#"[[backend]]
name = "away"
when = {{ "session.provider" = "away" }}
refresh_url = "http://127.0.0.1:9/refresh"

[[backend]]
name = "oauth"
dialect = "oauth2"
client_id = "app"
when = {{ "session.provider" = "keycloak" }}
refresh_url = "{url}/token"

[[backend]]
name = "own"
refresh_url = "{url}/auth/refreshToken"
"#
        )
    };
    let world = World::with_backend(tables, "").await;
    let session = |provider: Option<&str>| {
        json!({
            "accessToken": "ended", "accessTokenExpiry": 1_000_000_000_000_u64,
            "refreshToken": refresh_token(&world), "provider": provider,
        })
    };
    assert_eq!(redeemed(&world, &visitor(&world, &session(Some("keycloak")))).await, 1);
    assert_eq!(redeemed(&world, &visitor(&world, &session(None))).await, 2);
    assert_eq!(redeemed(&world, &visitor(&world, &session(Some("another")))).await, 3);
    let away = visitor(&world, &session(Some("away"))).fetch(&format!("{APP}/dashboard")).await;
    assert_eq!(away.status, 503);
    for (backend, times) in [("oauth", 1), ("own", 2), ("away", 1)] {
        let line = format!("\"backend\":\"{backend}\"");
        let count = |log: &str| log.lines().filter(|text| text.contains(&line)).count();
        world.gate.logged(|log| count(log) >= times).await;
        assert_eq!(count(&world.gate.log()), times, "{backend}");
    }
}

#[tokio::test]
async fn a_session_that_nobody_can_renew_is_none() {
    let world = World::with_backend(|_| String::new(), "").await;
    let claims = json!({ "accessToken": "ended", "accessTokenExpiry": 1_000_000_000_000_u64 });
    let ada = visitor(&world, &claims);
    assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 401);
    assert_eq!(ada.fetch(&format!("{APP}/public/page")).await.status, 200);
    assert!(world.last_seen().header("authorization").is_empty());
}

#[tokio::test]
async fn a_session_without_tokens_passes_without_authorization() {
    let world = World::start().await;
    let ada = visitor(&world, &json!({ "email": "ada@example.com" }));
    assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 200);
    let seen = world.last_seen();
    assert!(seen.header("authorization").is_empty());
    assert_eq!(seen.header("x-user-id"), ["u-1"]);
}
