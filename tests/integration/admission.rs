//! Who may pass, and what a visitor and an app see of the decision.

use std::time::Duration;

use foregate_tests::{Connection, Request};

use crate::world::{APP, LIFE, SHOP, World};

#[tokio::test]
async fn a_session_reaches_the_app_as_a_bearer_token() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", LIFE);
    let answer = ada.navigate(&format!("{APP}/dashboard?tab=1")).await;
    assert_eq!(answer.status, 200);
    let seen = world.last_seen();
    assert_eq!(seen.target, "/dashboard?tab=1");
    assert_eq!(seen.header("authorization"), [format!("Bearer {}", grant.access_token)]);
    assert_eq!(seen.header("x-user-id"), ["u-1"]);
    assert_eq!(seen.header("x-roles"), ["admin,user"]);
    assert_eq!(seen.header("host"), ["app.example.com"]);
    assert_eq!(seen.header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.header("x-forwarded-host"), ["app.example.com"]);
    assert_eq!(seen.header("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.header("x-forwarded-port"), ["80"]);
    assert!(answer.headers_named("set-cookie").is_empty(), "nothing changed");
}

#[tokio::test]
async fn a_stranger_who_navigates_is_sent_to_the_login_and_comes_back() {
    let world = World::start().await;
    let answer = world.stranger().navigate(&format!("{APP}:8443/dashboard?a=1&b=2")).await;
    assert_eq!(answer.status, 302);
    let location = answer.header("location").unwrap();
    let back = "http%3A%2F%2Fapp.example.com%3A8443%2Fdashboard%3Fa%3D1%26b%3D2";
    assert_eq!(location, format!("http://auth.example.com/login?callbackUrl={back}"));

    let post = Request::form(&format!("{APP}/dashboard"), "a=1");
    assert_eq!(world.stranger().send(&post).await.status, 303);
    assert!(world.origin.seen().is_empty(), "nothing of it reached the app");
}

#[tokio::test]
async fn a_stranger_who_fetches_gets_a_readable_401() {
    let world = World::start().await;
    let request = Request::get(&format!("{APP}/dashboard")).fetch("same-site");
    let answer = world.stranger().send(&request.header("Origin", SHOP)).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.json()["reason"], "no_session");

    let foreign = Request::get(&format!("{APP}/dashboard")).fetch("cross-site");
    let answer = world.stranger().send(&foreign.header("Origin", "https://evil.example")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn roles_methods_and_denials_decide() {
    let world = World::start().await;
    let (ada, _) = world.visitor("ada", LIFE);
    let (bob, _) = world.visitor("bob", LIFE);
    for (browser, method, path, status, reason) in [
        (&ada, "GET", "/admin/users", 200, ""),
        (&bob, "GET", "/admin/users", 403, "role_missing"),
        (&bob, "GET", "/admin", 403, "role_missing"),
        (&bob, "HEAD", "/admin", 403, ""),
        (&bob, "GET", "/reports/1", 200, ""),
        (&bob, "POST", "/reports/1", 403, "role_missing"),
        (&ada, "POST", "/reports/1", 200, ""),
        (&ada, "GET", "/internal/x", 403, "denied"),
        (&bob, "GET", "/ADMIN/users", 403, "role_missing"),
        (&bob, "GET", "/%61dmin/users", 403, "role_missing"),
    ] {
        let request = Request::new(method, &format!("{APP}{path}")).fetch("same-origin");
        let answer = browser.send(&request).await;
        assert_eq!(answer.status, status, "{method} {path}");
        if !reason.is_empty() {
            assert_eq!(answer.json()["reason"], reason, "{method} {path}");
        }
    }
    let page = bob.navigate(&format!("{APP}/admin")).await;
    assert_eq!(page.status, 403);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("role_missing"));
}

#[tokio::test]
async fn a_public_path_is_open_and_carries_the_session_where_there_is_one() {
    let world = World::start().await;
    let url = format!("{APP}/public/page");
    assert_eq!(world.stranger().navigate(&url).await.status, 200);
    assert!(world.last_seen().header("authorization").is_empty());

    let (ada, grant) = world.visitor("ada", LIFE);
    assert_eq!(ada.navigate(&url).await.status, 200);
    let bearer = format!("Bearer {}", grant.access_token);
    assert_eq!(world.last_seen().header("authorization"), [bearer]);

    let broken = world.stranger();
    broken.set_cookies("example.com", "next-auth.session-token=nonsense; theme=dark");
    assert_eq!(broken.navigate(&url).await.status, 200);
    assert_eq!(world.last_seen().header("cookie"), ["theme=dark"]);
}

#[tokio::test]
async fn nothing_that_an_app_might_trust_comes_from_the_visitor() {
    let world = World::start().await;
    let forged = [
        ("Authorization", "Bearer forged"),
        ("X-User-Id", "forged"),
        ("x_user_id", "forged"),
        ("X.User.Id", "forged"),
        ("X-Roles", "forged"),
        ("Forwarded", "for=forged"),
        ("X-Forwarded-For", "forged"),
        ("X-Forwarded-Proto", "https"),
        ("X_Forwarded_Host", "forged"),
        ("X-Forwarded-Prefix", "/forged"),
        ("X-Real-IP", "forged"),
        ("X-Client-IP", "forged"),
        ("X-Cluster-Client-IP", "forged"),
        ("True-Client-IP", "forged"),
        ("CF-Connecting-IP", "forged"),
        ("Fastly-Client-IP", "forged"),
        ("X-Original-URL", "/forged"),
        ("X-Rewrite-URL", "/forged"),
        ("x-middleware-subrequest", "forged"),
        ("X-Invoke-Path", "/forged"),
        ("X-Matched-Path", "/forged"),
        ("X-HTTP-Method-Override", "forged"),
        ("Proxy", "http://forged"),
    ];
    for path in ["/dashboard", "/public/page"] {
        let (ada, grant) = world.visitor("ada", LIFE);
        let mut request = Request::get(&format!("{APP}{path}")).fetch("same-origin");
        for (name, value) in forged {
            request = request.header(name, value);
        }
        request = request.header("Connection", "authorization, x-user-id, host");
        assert_eq!(ada.send(&request).await.status, 200);
        let seen = world.last_seen();
        for (name, value) in &seen.headers {
            assert!(!value.contains("forged"), "{path}: {name}: {value}");
        }
        assert_eq!(seen.header("authorization"), [format!("Bearer {}", grant.access_token)]);
        assert_eq!(seen.header("x-user-id"), ["u-1"]);
        assert_eq!(seen.header("x-forwarded-proto"), ["http"]);
    }
}

#[tokio::test]
async fn an_app_may_ask_for_a_strangers_own_authorization_on_public_paths_alone() {
    let world = World::start().await;
    let own = |url: &str| Request::get(url).fetch("same-origin").header("Authorization", "Basic x");
    assert_eq!(world.stranger().send(&own(&format!("{SHOP}/api/data"))).await.status, 200);
    assert_eq!(world.last_seen().header("authorization"), ["Basic x"]);
    assert_eq!(world.stranger().send(&own(&format!("{SHOP}/cart"))).await.status, 401);

    assert_eq!(world.stranger().send(&own(&format!("{APP}/about"))).await.status, 200);
    assert!(world.last_seen().header("authorization").is_empty(), "this app did not ask for it");

    let (ada, grant) = world.visitor("ada", LIFE);
    assert_eq!(ada.send(&own(&format!("{SHOP}/api/data"))).await.status, 200);
    let bearer = format!("Bearer {}", grant.access_token);
    assert_eq!(world.last_seen().header("authorization"), [bearer]);
}

#[tokio::test]
async fn an_app_that_asks_for_it_sees_no_session_cookie() {
    let world = World::start().await;
    let (ada, _) = world.visitor("ada", LIFE);
    ada.set_cookies("example.com", "theme=dark");
    assert_eq!(ada.navigate(&format!("{SHOP}/cart")).await.status, 200);
    assert_eq!(world.last_seen().header("cookie"), ["theme=dark"]);
    assert_eq!(ada.navigate(&format!("{APP}/dashboard")).await.status, 200);
    assert!(world.last_seen().header("cookie")[0].contains("next-auth.session-token="));
}

#[tokio::test]
async fn a_cookie_alone_does_not_authenticate_a_cross_site_write() {
    let world = World::start().await;
    let (ada, _) = world.visitor("ada", LIFE);
    let post = |path: &str| Request::new("POST", &format!("{APP}{path}")).body("a=1");
    for (request, status) in [
        (post("/dashboard"), 200),
        (post("/dashboard").fetch("same-origin"), 200),
        (post("/dashboard").fetch("same-site"), 200),
        (post("/dashboard").fetch("cross-site"), 403),
        (post("/dashboard").header("Sec-Fetch-Site", "sideways"), 403),
        (post("/dashboard").header("Origin", "https://shop.example.com"), 200),
        (post("/dashboard").header("Origin", "https://evil.example"), 403),
        (post("/dashboard").header("Origin", "null"), 403),
        (post("/dashboard").fetch("cross-site").header("Origin", SHOP), 403),
    ] {
        assert_eq!(ada.send(&request).await.status, status);
    }
    // Where a stranger may write, a cross-site write is a stranger's.
    assert_eq!(ada.send(&post("/public/form").fetch("cross-site")).await.status, 200);
    let seen = world.last_seen();
    assert!(seen.header("authorization").is_empty());
    assert!(seen.header("cookie").is_empty());
}

#[tokio::test]
async fn a_preflight_goes_to_the_app_without_a_token() {
    let world = World::start().await;
    let preflight = |path: &str| {
        Request::new("OPTIONS", &format!("{APP}{path}"))
            .header("Origin", SHOP)
            .header("Access-Control-Request-Method", "POST")
    };
    assert_eq!(world.stranger().send(&preflight("/dashboard")).await.status, 200);
    assert!(world.last_seen().header("authorization").is_empty());
    assert_eq!(world.stranger().send(&preflight("/internal/x")).await.status, 403);
    let plain = Request::new("OPTIONS", &format!("{APP}/dashboard"));
    assert_eq!(world.stranger().send(&plain).await.status, 401);
}

#[tokio::test]
async fn what_can_be_read_two_ways_is_refused_and_the_connection_closes() {
    let world = World::start().await;
    for (request, status) in [
        ("GET /a/../admin HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400),
        ("GET /%2e%2e/admin HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400),
        ("GET /a%2fb HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400),
        ("GET //admin HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400),
        ("GET /a%00 HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400),
        ("GET /a%zz HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: app.example.com\r\nHost: app.example.com\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("get / HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400),
        ("GET http://other.example/ HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: app.example.com\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: app.example.com\r\nExpect: magic\r\n\r\n", 417),
    ] {
        let mut connection = Connection::open(world.gate.address()).await;
        connection.send(request).await;
        let answer = connection.answer().await.unwrap_or_else(|| panic!("{request}"));
        assert_eq!(answer.status, status, "{request}");
        connection.closed().await;
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: app.example.com\r\n\r\n", "a".repeat(17 * 1024));
    let mut connection = Connection::open(world.gate.address()).await;
    connection.send(long).await;
    assert_eq!(connection.answer().await.unwrap().status, 414);
    assert!(world.origin.seen().is_empty(), "nothing of it reached the app");
}

#[tokio::test]
async fn a_host_that_nobody_configured_is_not_found() {
    let world = World::start().await;
    assert_eq!(world.stranger().fetch("http://other.example.com/").await.status, 404);
    let (ada, _) = world.visitor("ada", LIFE);
    let answer = ada.send(&Request::get("http://APP.Example.com./dashboard")).await;
    assert_eq!(answer.status, 401, "the jar sends no cookie there, but the host is known");
}

#[tokio::test]
async fn no_secret_and_no_token_reaches_the_log_at_any_level() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", Duration::ZERO);
    assert_eq!(ada.navigate(&format!("{APP}/dashboard")).await.status, 200);
    let renewed = world.last_seen().header("authorization")[0].to_owned();
    let cookies = ada.cookies("app.example.com").unwrap();
    world.stranger().navigate(&format!("{APP}/dashboard?token=in-the-query")).await;
    let own = Request::new("POST", &format!("{APP}/.foregate/sign-out"));
    assert_eq!(ada.send(&own).await.status, 204);

    world.gate.logged(|log| log.contains("/.foregate/sign-out")).await;
    let log = world.gate.log();
    assert!(log.contains("/dashboard"), "the log tells of the requests");
    let (_, sealed) = cookies.split_once('=').unwrap();
    let renewed = renewed.strip_prefix("Bearer ").unwrap();
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    for secret in [
        foregate_stage::SECRET,
        &grant.refresh_token,
        &signature(&grant.access_token),
        &signature(renewed),
        &sealed[sealed.len() - 40..],
        "in-the-query",
    ] {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
}
