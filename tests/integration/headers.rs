//! What an app is told by headers and trailers, and what a visitor is told by the app's.

mod answers;
mod http2;
mod trailers;

use foregate_stage::{SECRET, Seen, cookie_header, random, seal_v4};
use foregate_tests::{Browser, Certificates, Connection, Gate, Http2, Request};
use serde_json::{Value, json};

use crate::tls;
use crate::world::{APP, COOKIE, LIFE, SHOP, World, config};

const HEAD: &str = "HTTP/1.1\r\nHost: app.example.com\r\n";

/// What an app may believe, so that no visitor may say it: the contract's list, and what
/// other clouds say.
const TRUSTED: [&str; 36] = [
    "Authorization",
    "X-User-Id",
    "X-Roles",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-User",
    "X-Forwarded-Client-Cert",
    "X-Real-IP",
    "X-Client-IP",
    "Client-IP",
    "Ali-CDN-Real-IP",
    "Front-End-Https",
    "X-Azure-ClientIP",
    "X-Envoy-External-Address",
    "X-Host",
    "X-HTTP-Host-Override",
    "X-ProxyUser-Ip",
    "X-Scheme",
    "X-Vercel-Forwarded-For",
    "X-Cluster-Client-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Fastly-Client-IP",
    "X-Original-URL",
    "X-Original-Method",
    "X-Rewrite-URL",
    "X-Middleware-Subrequest",
    "X-Middleware-Rewrite",
    "X-Invoke-Path",
    "X-Invoke-Query",
    "X-Matched-Path",
    "Proxy",
    "X-Forwarded-",
];

fn spellings(name: &str) -> [String; 4] {
    let lower = name.to_lowercase();
    [name.to_owned(), name.to_uppercase(), lower.replace('-', "_"), lower.replace('-', ".")]
}

fn with_cookies(request: Request, browser: &Browser) -> Request {
    match browser.cookies("app.example.com") {
        Some(cookies) => request.header("Cookie", &cookies),
        None => request,
    }
}

#[tokio::test]
async fn what_an_app_may_believe_comes_from_no_visitor_in_no_spelling() {
    let world = World::start().await;
    let ada = world.visitor("ada", LIFE).0;
    let check = async |browser: &Browser, url: String| {
        // As many as `limits.headers` allows at once.
        for names in TRUSTED.chunks(20) {
            let mut request = with_cookies(Request::get(&url), browser);
            let names =
                names.iter().filter(|name| !url.starts_with(SHOP) || **name != "Authorization");
            for spelling in names.flat_map(|name| spellings(name)) {
                request = request.header(&spelling, "forged");
            }
            for http2 in [false, true] {
                let answer = match http2 {
                    false => world.stranger().send(&request).await,
                    true => Http2::open(world.gate.address()).await.send(&request).await,
                };
                assert_eq!(answer.status, 200, "{url}: {}", answer.text());
                for (name, value) in world.last_seen().headers {
                    assert!(!value.contains("forged"), "{url}: {name}: {value}");
                }
            }
        }
    };
    check(&ada, format!("{APP}/dashboard")).await;
    check(&ada, format!("{APP}/public/page")).await;
    check(&world.stranger(), format!("{APP}/public/page")).await;
    // The identity headers are those of another app.
    check(&ada, format!("{SHOP}/cart")).await;
    check(&ada, format!("{SHOP}/api/data")).await;
    check(&world.stranger(), format!("{SHOP}/api/data")).await;
}

#[tokio::test]
async fn what_only_looks_alike_passes() {
    let world = World::start().await;
    let names = [
        "X-Forward",
        "X-Forwarded",
        "X-Originals",
        "X-User",
        "X-User-Ids",
        "X-Real-IPs",
        "Proxies",
        "Forwarded-By",
        "Authorization-Info",
        "X-Csrf-Token",
        "X_Custom",
        "Via",
    ];
    let start = Request::get(&format!("{APP}/public/page"));
    let request = names.iter().fold(start, |request, name| request.header(name, "own"));
    assert_eq!(world.stranger().send(&request).await.status, 200);
    let seen = world.last_seen();
    for name in names {
        assert_eq!(seen.header(name), ["own"], "{name}");
    }
}

#[tokio::test]
async fn a_method_is_overridden_only_where_no_rule_names_one() {
    let world = World::start().await;
    for name in ["X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override"] {
        for spelling in spellings(name) {
            for (site, seen) in [(APP, &[][..]), (SHOP, &["DELETE"])] {
                let url = format!("{site}/api/data")
                    .replace("app.example.com/api", "app.example.com/public");
                let request = Request::get(&url).header(&spelling, "DELETE");
                assert_eq!(world.stranger().send(&request).await.status, 200);
                assert_eq!(world.last_seen().header(&spelling), seen, "{site} {spelling}");
            }
        }
    }
}

#[tokio::test]
async fn no_connection_header_removes_what_is_ours() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", LIFE);
    let cookie = ada.cookies("app.example.com").unwrap();
    for lines in [
        "Connection: authorization, X-User-Id, x-roles",
        "Connection: close, Authorization\r\nConnection: x-user-id,x-roles",
        "Connection: host, x-forwarded-for, x-forwarded-host, x-forwarded-proto, x-forwarded-port",
        "Connection: cookie",
        "Connection: connection, content-length, transfer-encoding",
        "Connection: ,,\u{e9},authorization",
    ] {
        let mut connection = Connection::open(world.gate.address()).await;
        connection
            .send(format!(
                "POST /dashboard {HEAD}Content-Length: 2\r\nCookie: {cookie}\r\n{lines}\r\n\r\nok"
            ))
            .await;
        assert_eq!(connection.answer().await.unwrap().status, 200, "{lines}");
        let seen = world.last_seen();
        let bearer = format!("Bearer {}", grant.access_token);
        for (name, value) in [
            ("authorization", bearer.as_str()),
            ("x-user-id", "u-1"),
            ("x-roles", "admin,user"),
            ("host", "app.example.com"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "app.example.com"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "80"),
            ("content-length", "2"),
            ("cookie", &cookie),
        ] {
            assert_eq!(seen.header(name), [value], "{lines}: {name}");
        }
        assert_eq!(seen.body, b"ok");
    }
}

#[tokio::test]
async fn what_concerns_one_hop_ends_here() {
    let world = World::start().await;
    let mut connection = Connection::open(world.gate.address()).await;
    let lines = "Connection: keep-alive, X-Hop, close-to-me\r\nConnection: x-second\r\nX-Hop: 1\r\n\
                 Close-To-Me: 1\r\nX-Second: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n\
                 Proxy-Authorization: Basic x\r\nProxy-Authenticate: Basic\r\nTE: gzip\r\n\
                 Upgrade: h2c\r\nX-Kept: 1\r\n";
    connection.send(format!("GET /public/page {HEAD}{lines}\r\n")).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    let seen = world.last_seen();
    let names: Vec<_> = seen.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    let forwarded = ["for", "proto", "port", "host"].map(|name| format!("x-forwarded-{name}"));
    let mut expected = [vec!["host".to_owned(), "x-kept".to_owned()], forwarded.into()].concat();
    expected.sort();
    assert_eq!(sorted(names), expected);
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test]
async fn an_app_learns_who_asked_where_from_us_alone() {
    let stranger = World::start().await;
    let proxied = "[server]\nhttp = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let proxied = World::with(proxied).await;
    let check = async |world: &World, host: &str, lines: &str, expected: [&str; 5]| {
        let mut connection = Connection::open(world.gate.address()).await;
        connection.send(format!("GET /about HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")).await;
        assert_eq!(connection.answer().await.unwrap().status, 200, "{host} {lines}");
        is_told(&world.last_seen(), expected);
    };
    let app = "app.example.com";
    let told = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 444\r\n\
                X-Forwarded-Host: evil.example\r\nForwarded: for=6.6.6.6;host=evil.example\r\n";
    let me = "127.0.0.1";
    check(&stranger, app, "", [app, me, app, "http", "80"]).await;
    check(&stranger, app, told, [app, me, app, "http", "80"]).await;
    let port = "app.example.com:8443";
    check(&stranger, port, told, [port, me, port, "http", "8443"]).await;
    check(&stranger, "APP.Example.COM", "", [app, me, app, "http", "80"]).await;
    check(&stranger, "app.example.com.", "", [app, me, app, "http", "80"]).await;
    check(&stranger, "App.example.com.:8443", "", [port, me, port, "http", "8443"]).await;

    check(&proxied, app, "", [app, me, app, "http", "80"]).await;
    check(&proxied, app, told, [app, "6.6.6.6, 127.0.0.1", app, "https", "444"]).await;
    check(&proxied, port, told, [port, "6.6.6.6, 127.0.0.1", port, "https", "8443"]).await;
    let chain = "X-Forwarded-For: 1.1.1.1, 6.6.6.6\r\nX-Forwarded-For: 127.0.0.1\r\n";
    check(&proxied, app, chain, [app, "6.6.6.6, 127.0.0.1, 127.0.0.1", app, "http", "80"]).await;
    let twice = "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n";
    check(&proxied, app, twice, [app, me, app, "http", "80"]).await;
    // A spelling that the proxy in front would not clean is the visitor's own.
    let odd = "X_Forwarded_For: 6.6.6.6\r\nx.forwarded.proto: https\r\nX_Forwarded_Port: 444\r\n";
    check(&proxied, app, odd, [app, me, app, "http", "80"]).await;
}

/// Host, chain of addresses, host asked, scheme asked, port asked: each once, in one spelling.
fn is_told(seen: &Seen, expected: [&str; 5]) {
    let names =
        ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"];
    for (name, value) in names.into_iter().zip(expected) {
        assert_eq!(seen.header(name), [value], "{name}: {:?}", seen.headers);
    }
    let alike = |name: &str| name.to_lowercase().replace(['_', '.'], "-");
    let all = seen.headers.iter().filter(|(name, _)| alike(name).contains("forwarded"));
    assert_eq!(all.count(), 4, "{:?}", seen.headers);
}

#[tokio::test]
async fn what_came_over_https_is_told_so() {
    let certificates = Certificates::covering(&["*.example.com"]);
    let tables = "[server]\nhttp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\n";
    let world = World::with(&[tables, &certificates.table()].concat()).await;
    let address = world.gate.secure_address().await;
    let request = format!(
        "GET /about {HEAD}X-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\nConnection: close\r\n\r\n"
    );
    let answer = tls::ask(address, "app.example.com", certificates.authority(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let app = "app.example.com";
    is_told(&world.last_seen(), [app, "127.0.0.1", app, "https", "443"]);
}

#[tokio::test]
async fn identity_headers_can_be_read_in_one_way_only() {
    let world = World::start().await;
    let headers = ["name", "groups", "count", "ratio", "flag", "object", "nothing", "empty"]
        .map(|claim| format!("\"X-{claim}\" = \"session.{claim}\""))
        .join(", ");
    let config =
        config("", &world.origin.url()).replace("\"X-User-Id\" = \"session.sub\"", &headers);
    let gate = Gate::start(&config).await;
    let check = async |name: &str, claim: Value, expected: Option<&str>| {
        let mut claims = json!({ "sub": "u-1", "exp": 4_000_000_000_u64 });
        claims[name] = claim.clone();
        let browser = Browser::new(gate.address());
        let sealed = seal_v4(SECRET, &claims.to_string(), random());
        browser.set_cookies("example.com", &cookie_header(COOKIE, &sealed));
        assert_eq!(browser.fetch(&format!("{APP}/dashboard")).await.status, 200);
        let seen = world.last_seen();
        assert_eq!(seen.header(&format!("x-{name}")), Vec::from_iter(expected), "{claim}");
        assert!(seen.header("x-admin").is_empty(), "{:?}", seen.headers);
    };
    check("name", json!("Ada"), Some("Ada")).await;
    check("name", json!("Ada Lovelace, née Byron"), Some("Ada Lovelace, n%C3%A9e Byron")).await;
    check("name", json!("李小龍"), Some("%E6%9D%8E%E5%B0%8F%E9%BE%8D")).await;
    check("name", json!("a\r\nX-Admin: 1"), Some("a%0D%0AX-Admin: 1")).await;
    check("name", json!("a\u{0}\u{7f}\tb"), Some("a%00%7F%09b")).await;
    check("name", json!(" a "), Some("%20a%20")).await;
    check("name", json!("50%2C"), Some("50%252C")).await;
    check("groups", json!(["a", "b,c", "d e", "é"]), Some("a,b%2Cc,d e,%C3%A9")).await;
    check("groups", json!([1, true, "x"]), Some("1,true,x")).await;
    check("groups", json!([["a"]]), None).await;
    check("groups", json!([]), None).await;
    check("count", json!(12_345_678_901_234_567_890_u64), Some("12345678901234567890")).await;
    check("ratio", json!(-1.5), Some("-1.5")).await;
    check("flag", json!(false), Some("false")).await;
    check("object", json!({ "a": 1 }), None).await;
    check("nothing", json!(null), None).await;
    check("empty", json!(""), None).await;
}

#[tokio::test]
async fn cookie_lines_are_one_for_the_app() {
    let world = World::start().await;
    let request = Request::get(&format!("{APP}/about"))
        .header("Cookie", "a=1")
        .header("Cookie", "b=2; c=3")
        .header("Cookie", "d=4");
    for http2 in [false, true] {
        let answer = match http2 {
            false => world.stranger().send(&request).await,
            true => Http2::open(world.gate.address()).await.send(&request).await,
        };
        assert_eq!(answer.status, 200);
        assert_eq!(world.last_seen().header("cookie"), ["a=1; b=2; c=3; d=4"]);
    }
}
