//! `/.foregate/`: what the gate answers by itself.

use std::time::Duration;

use foregate_tests::Request;

use crate::world::{APP, LIFE, SHOP, World, session_cookie};

#[tokio::test]
async fn the_session_endpoint_tells_who_and_until_when_and_never_a_token() {
    let world = World::start().await;
    let url = format!("{APP}/.foregate/session");
    let anonymous = world.stranger().fetch(&url).await;
    assert_eq!((anonymous.status, anonymous.text().as_str()), (200, "null"));

    let (ada, grant) = world.visitor("ada", LIFE);
    let answer = ada.fetch(&url).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    let session = answer.json();
    assert_eq!(session["subject"], "u-1");
    assert_eq!(session["name"], "Ada");
    assert_eq!(session["email"], "ada@example.com");
    assert_eq!(session["roles"], serde_json::json!(["admin", "user"]));
    let end = grant.access_token_expiry / 1000;
    assert_eq!(session["access_expires_at"], end);
    assert_eq!(session["refresh_at"], end - 60);
    assert!(session["expires_at"].as_u64().unwrap() > end);
    assert!(!answer.text().contains(&grant.access_token));
    assert!(!answer.text().contains(&grant.refresh_token));
    assert_eq!(ada.send(&Request::new("POST", &url)).await.status, 405);
}

#[tokio::test]
async fn the_session_endpoint_renews_as_any_request_does() {
    let world = World::start().await;
    let (ada, _) = world.visitor("ada", Duration::ZERO);
    let answer = ada.fetch(&format!("{APP}/.foregate/session")).await;
    assert_eq!(answer.json()["subject"], "u-1");
    assert_eq!(answer.headers_named("set-cookie").len(), 1);
    assert_eq!(world.backend.counters().redemptions, 1);
}

#[tokio::test]
async fn a_sign_out_ends_the_session_everywhere() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", Duration::ZERO);
    let copy = world.stranger();
    copy.set_cookies("example.com", &session_cookie(&grant));

    let form = format!("callbackUrl={SHOP}/bye");
    let sign_out = Request::form(&format!("{APP}/.foregate/sign-out"), &form);
    let answer = ada.send(&sign_out).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("http://shop.example.com/bye"))
    );
    assert_eq!(ada.cookies("app.example.com"), None);
    let cleared = answer.headers_named("set-cookie");
    for name in [
        "next-auth.session-token",
        "__Secure-next-auth.session-token",
        "authjs.session-token",
        "__Secure-authjs.session-token",
    ] {
        let mine = |line: &&&str| line.split('=').next() == Some(name);
        let lines: Vec<_> = cleared.iter().filter(mine).collect();
        assert_eq!(lines.iter().filter(|line| line.contains("Domain=.example.com")).count(), 1);
        assert_eq!(lines.iter().filter(|line| !line.contains("Domain=")).count(), 1);
        let secure = lines.iter().all(|line| line.contains("Secure") || !name.starts_with("__"));
        assert!(secure, "browsers ignore a __Secure- cookie without Secure: {lines:?}");
    }
    assert_eq!(copy.fetch(&format!("{APP}/dashboard")).await.status, 401);
    assert_eq!(world.backend.counters().attempts, 0, "no copy of the cookie is renewed any more");
}

#[tokio::test]
async fn a_sign_out_is_a_post_of_our_own_site_and_leads_nowhere_else() {
    let world = World::start().await;
    let url = format!("{APP}/.foregate/sign-out");
    let (ada, _) = world.visitor("ada", LIFE);
    assert_eq!(ada.navigate(&url).await.status, 405);
    let foreign = Request::new("POST", &url).fetch("cross-site");
    assert_eq!(ada.send(&foreign).await.status, 403);
    assert!(ada.cookies("app.example.com").is_some());
    assert_eq!(ada.send(&Request::new("POST", &url)).await.status, 204);

    for callback in [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/%09/evil.example\t",
        "https://shop.example.com@evil.example/",
        "https://evilexample.com/",
        "javascript:alert(1)",
        "/a//../..//evil.example",
        "",
    ] {
        let body = format!("callbackUrl={}", encoded(callback));
        let answer = ada.send(&Request::form(&url, &body)).await;
        let location = answer.header("location").unwrap();
        let stays = location == "/" || location.starts_with('/') && !location.starts_with("//");
        assert!(answer.status == 303 && stays, "{callback}: {location}");
    }
    let query = Request::form(&format!("{url}?callbackUrl=/home%3Fa=1"), "x=1");
    assert_eq!(ada.send(&query).await.header("location"), Some("/home?a=1"));
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn no_spelling_of_the_prefix_reaches_the_app() {
    let world = World::start().await;
    let (ada, _) = world.visitor("ada", LIFE);
    for path in
        ["/.foregate/", "/.foregate", "/.foregate/other", "/.FOREGATE/session", "/%2Eforegate/x"]
    {
        assert_eq!(ada.fetch(&format!("{APP}{path}")).await.status, 404, "{path}");
    }
    assert_eq!(ada.fetch(&format!("{APP}/%2Eforegate/session")).await.json()["subject"], "u-1");
    assert_eq!(ada.fetch("http://unknown.example/.foregate/session").await.status, 404);
    assert!(world.origin.seen().is_empty());
}
