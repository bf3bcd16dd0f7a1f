//! Which of a visitor's cookies is the session, and what the app sees of them.

mod renewed;

use foregate_stage::{SECRET, random, seal_v4, seal_v5};
use foregate_tests::{Answer, Browser, Connection, Gate, Http2, Request};
use serde_json::{Value, json};

use crate::world::{APP, SHOP, World, config};

const V4: &str = "next-auth.session-token";
const V5: &str = "authjs.session-token";
const SECURE_V4: &str = "__Secure-next-auth.session-token";
const SECURE_V5: &str = "__Secure-authjs.session-token";

fn claims(subject: &str) -> Value {
    json!({ "sub": subject, "exp": 4_000_000_000_u64 })
}

fn v4(subject: &str) -> String {
    seal_v4(SECRET, &claims(subject).to_string(), random())
}

fn v5(name: &str, subject: &str) -> String {
    seal_v5(SECRET, name, &claims(subject).to_string(), random())
}

/// Asks over HTTP/1.1 and over HTTP/2, with a line for each of `cookies`; the answers.
async fn ask(gate: &Gate, path: &str, cookies: &[String]) -> [Answer; 2] {
    let request = Request::get(&format!("{APP}{path}")).fetch("same-origin");
    let add = |request: Request, line: &String| request.header("Cookie", line);
    let request = cookies.iter().fold(request, add);
    [
        Browser::new(gate.address()).send(&request).await,
        Http2::open(gate.address()).await.send(&request).await,
    ]
}

#[tokio::test]
async fn the_first_candidate_that_opens_is_the_session() {
    let world = World::start().await;
    let check = async |cookies: &[(&str, &str)], subject: Option<&str>| {
        let line = cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let line = line.collect::<Vec<_>>().join("; ");
        for answer in ask(&world.gate, "/dashboard", std::slice::from_ref(&line)).await {
            let Some(subject) = subject else {
                assert_eq!(answer.status, 401, "{line}");
                assert_eq!(answer.json()["reason"], "no_session");
                continue;
            };
            assert_eq!(answer.status, 200, "{line}");
            assert_eq!(world.last_seen().header("x-user-id"), [subject], "{line}");
        }
    };
    let (a, b, c, d) = (&v4("a"), &v5(V5, "b"), &v4("c"), &v5(SECURE_V5, "d"));
    // Secure before plain, v5 before v4, wherever they stand.
    check(&[(V4, a), (V5, b), (SECURE_V4, c), (SECURE_V5, d)], Some("d")).await;
    check(&[(V4, a), (SECURE_V4, c), (V5, b)], Some("c")).await;
    check(&[(V4, a), (V5, b)], Some("b")).await;
    check(&[(V4, a)], Some("a")).await;
    // One that does not open is passed over.
    check(&[(SECURE_V5, "junk"), (V4, a)], Some("a")).await;
    check(&[(SECURE_V5, b), (V4, a)], Some("a")).await;
    check(&[(V4, "junk"), (V4, a)], Some("a")).await;
    check(&[(V4, ""), (V4, a)], Some("a")).await;
    // Of two, host-only beside domain-wide, the first.
    check(&[(V4, a), (V4, c)], Some("a")).await;
    check(&[(V4, c), (V4, a)], Some("c")).await;
    // Whole before chunks, and chunks without a gap.
    let (front, back) = a.split_at(90);
    let (zero, one) = (format!("{V4}.0"), format!("{V4}.1"));
    check(&[(&zero, front), (&one, back)], Some("a")).await;
    check(&[(&one, back), ("x", "y"), (&zero, front)], Some("a")).await;
    check(&[(&zero, front), (&one, back), (V4, c)], Some("c")).await;
    check(&[(&zero, front), (&one, back), (V4, "junk")], Some("a")).await;
    check(&[(&zero, front), (&one, back), (&format!("{V4}.7"), "stray")], Some("a")).await;
    check(&[(&zero, front)], None).await;
    check(&[(&zero, back), (&one, front)], None).await;
    check(&[(&format!("{V4}.00"), front), (&format!("{V4}.01"), back)], None).await;
    // Two copies of each chunk: the first of both.
    let (other_front, other_back) = c.split_at(90);
    check(&[(&zero, front), (&one, back), (&zero, other_front), (&one, other_back)], Some("a"))
        .await;
    // Nothing else that merely begins alike.
    for name in [
        "next-auth.session-tokens",
        "next-auth.session-token-backup",
        "next-auth.session-token.x",
        "Next-Auth.session-token",
        "next-auth_session-token",
        "next-auth.csrf-token",
        "__Host-next-auth.session-token",
    ] {
        check(&[(name, a)], None).await;
    }
    check(&[(V5, a)], None).await;
    check(&[(V4, b)], None).await;
}

#[tokio::test]
async fn the_app_sees_the_session_and_no_other_one() {
    let world = World::start().await;
    let check = async |cookies: &[String], expected: &str| {
        for answer in ask(&world.gate, "/dashboard", cookies).await {
            assert_eq!(answer.status, 200, "{cookies:?}");
            assert_eq!(world.last_seen().header("cookie"), [expected], "{cookies:?}");
        }
    };
    let (a, other) = (&v4("a"), &v4("b"));
    let clean = &format!("{V4}={a}");
    let with = |more: &str| [format!("{clean}; {more}")];
    check(&[format!("x=1; {clean}; y=\"2\"")], &format!("x=1; {clean}; y=\"2\"")).await;
    // The same name again, another library's name, stray chunks, what begins alike.
    check(&with(&format!("{V4}={other}")), clean).await;
    check(&[format!("{V4}=junk; {clean}; {V4}=")], clean).await;
    check(
        &with(&format!("{V5}={}; x=1", v5(V5, "c"))[..].replace(V5, "authjs.session-tokens")),
        &format!("{clean}; x=1"),
    )
    .await;
    check(&with(&format!("{V5}=junk; {SECURE_V5}=junk; {SECURE_V4}={V4}")), clean).await;
    check(&with(&format!("{V4}.0={other}; {V4}.5=x; {V5}.0=x")), clean).await;
    check(&with(&format!("{V4}-old={other}; {V4}.x={other}")), clean).await;
    // Odd spacing, quotes, letter case, escapes and underscores, which some readers see through.
    check(&[format!("\t{V4}={other};{clean}")], &format!("{V4}={other}")).await;
    check(&[format!("{V4} = {a}; x=1")], &format!("{clean}; x=1")).await;
    check(&with(&format!("\"{V4}\"={other}; NEXT-AUTH.SESSION-TOKEN={other}")), clean).await;
    check(
        &with(&format!("next-auth%2Esession-token={other}; next_auth.session_token={other}")),
        clean,
    )
    .await;
    check(&with(&format!("\u{a0}{V4}={other}; {V4}\u{a0}={other}")), clean).await;
    check(&with(&format!("={V4}; x=1")), &format!("{clean}; x=1")).await;
    check(&[format!("{V4}={}", a.replace('.', "%2E"))], clean).await;
    // Lines become one, in their order.
    check(&["x=1".into(), clean.clone(), "y=2".into()], &format!("x=1; {clean}; y=2")).await;
    let (front, back) = a.split_at(90);
    check(
        &[format!("{V4}.1={back}"), "x=1".into(), format!("{V4}.0={front}")],
        &format!("{V4}.0={front}; x=1; {V4}.1={back}"),
    )
    .await;
}

#[tokio::test]
async fn without_a_session_the_app_sees_nothing_that_looks_like_one() {
    let world = World::start().await;
    let check = async |line: &str, expected: &[&str]| {
        for answer in ask(&world.gate, "/public/page", &[line.to_owned()]).await {
            assert_eq!(answer.status, 200, "{line}");
            let seen = world.last_seen();
            assert_eq!(seen.header("cookie"), expected, "{line}");
            assert!(seen.header("authorization").is_empty(), "{line}");
            assert!(answer.headers_named("set-cookie").is_empty(), "{line}");
        }
    };
    let elsewhere =
        seal_v4("another secret of another site 0123456789", &claims("a").to_string(), random());
    check(&format!("{V4}={elsewhere}"), &[]).await;
    check(&format!("x=1; {V4}={elsewhere}; {SECURE_V5}.0=x; y=2"), &["x=1; y=2"]).await;
    check(&format!("{V4}; x=1; next-auth.csrf-token=a%7Cb"), &["x=1; next-auth.csrf-token=a%7Cb"])
        .await;
    check("x=1;; ;y", &["x=1;; ;y"]).await;
}

#[tokio::test]
async fn an_app_that_reads_no_session_gets_none_in_any_form() {
    let world = World::start().await;
    let a = v4("a");
    let (front, back) = a.split_at(90);
    for line in [
        format!("x=1; {V4}={a}; {V4}={a}; {V5}=y"),
        format!("{V4}.0={front}; x=1; {V4}.1={back}; {V4}.9=z"),
        format!("{V4} ={a};x=1; NEXT-AUTH.SESSION-TOKEN={a}"),
    ] {
        let request =
            Request::get(&format!("{SHOP}/cart")).fetch("same-origin").header("Cookie", &line);
        assert_eq!(world.stranger().send(&request).await.status, 200, "{line}");
        assert_eq!(world.last_seen().header("cookie"), ["x=1"], "{line}");
    }
}

#[tokio::test]
async fn a_payload_that_names_nobody_or_cannot_be_trusted_is_no_session() {
    let world = World::start().await;
    let check = async |token: &str, is_session: bool, why: &str| {
        let line = [format!("{V4}={token}")];
        for answer in ask(&world.gate, "/dashboard", &line).await {
            assert_eq!(answer.status, if is_session { 200 } else { 401 }, "{why}");
        }
        for answer in ask(&world.gate, "/public/page", &line).await {
            assert_eq!(answer.status, 200, "{why}");
            assert_eq!(world.last_seen().header("cookie").len(), usize::from(is_session), "{why}");
        }
    };
    let sealed = |mut claims: Value| {
        claims["exp"] = json!(4_000_000_000_u64);
        seal_v4(SECRET, &claims.to_string(), random())
    };
    check(&sealed(json!({ "sub": "u-1" })), true, "a subject").await;
    check(&sealed(json!({ "email": "a@example.com" })), true, "an address").await;
    check(&sealed(json!({ "user": { "id": 7 } })), true, "a user").await;
    check(&sealed(json!({ "accessToken": "opaque" })), true, "a token").await;
    check(&sealed(json!({ "state": "x", "provider": "p" })), false, "NextAuth's state cookie")
        .await;
    check(&sealed(json!({})), false, "nothing").await;
    check(ZIPPED, false, "zip").await;
    for token in ["a b", "a\r\nX-Admin: 1", "a\u{0}", "é", "a\tb"] {
        check(&sealed(json!({ "sub": "u-1", "accessToken": token })), false, "bad_token").await;
    }
    let ended = json!({ "sub": "u-1", "exp": 1_000_000_000 });
    check(&seal_v4(SECRET, &ended.to_string(), random()), false, "expired").await;
}

/// `{"sub":"u-1","exp":4000000000}`, sealed with the tests' secret as [`seal_v4`] does, but with
/// `"zip":"DEF"` in the header. The payload stands there as it is, so that a reader who overlooks
/// `zip` would open it.
const ZIPPED: &str = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwiemlwIjoiREVGIn0..dHdlbHZlIGJ5dGVz.\
                      7wezDHp6DFf15RJ4y_ORz4VFADCN1yc9-9WzR3hI.YUAVbG22wisqFCcm3al6bA";

#[tokio::test]
async fn a_session_passes_with_the_token_that_it_has() {
    let world = World::start().await;
    let no_backend = Gate::start(&config("", &world.origin.url())).await;
    let check = async |gate: &Gate, more: Value, status: u16, authorization: &[&str]| {
        let mut claims = claims("u-1");
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let line = format!("{V4}={}", seal_v4(SECRET, &claims.to_string(), random()));
        for answer in ask(gate, "/dashboard", std::slice::from_ref(&line)).await {
            assert_eq!(answer.status, status, "{more}");
            if status == 200 {
                assert_eq!(world.last_seen().header("authorization"), authorization, "{more}");
            }
        }
    };
    let (past, future) = (1_000_000_000_000_u64, 4_000_000_000_000_u64);
    check(&world.gate, json!({}), 200, &[]).await;
    check(&world.gate, json!({ "accessToken": "" }), 200, &[]).await;
    // An expiry that nothing tells counts as fresh.
    check(&world.gate, json!({ "accessToken": "t" }), 200, &["Bearer t"]).await;
    check(
        &world.gate,
        json!({ "accessToken": "t", "accessTokenExpiry": future }),
        200,
        &["Bearer t"],
    )
    .await;
    // What an app wrote of an error is no news.
    let error = json!({ "accessToken": "t", "error": "RefreshAccessTokenError" });
    check(&world.gate, error, 200, &["Bearer t"]).await;
    // Ended, and nobody can renew it.
    let ended = json!({ "accessToken": "t", "accessTokenExpiry": past });
    check(&world.gate, ended.clone(), 401, &[]).await;
    let renewable = json!({ "accessToken": "t", "accessTokenExpiry": past, "refreshToken": "r" });
    check(&no_backend, renewable, 401, &[]).await;
    check(&no_backend, ended, 401, &[]).await;
    assert_eq!(world.backend.counters().attempts, 0);
}

#[tokio::test]
async fn a_cookie_for_tls_that_came_without_is_told_once() {
    let world = World::start().await;
    for _ in 0..3 {
        let line = [format!("{SECURE_V4}={}", v4("a"))];
        ask(&world.gate, "/dashboard", &line).await;
    }
    let told = |log: &str| log.matches("trusted_proxies = [").count();
    world.gate.logged(|log| log.matches("/dashboard").count() >= 6).await;
    assert_eq!(told(&world.gate.log()), 1);
    assert!(world.gate.log().contains("127.0.0.1"));
}

#[tokio::test]
async fn cookies_that_are_none_harm_nobody() {
    let world = World::start().await;
    let clean = format!("{V4}={}", v4("a"));
    for line in [
        format!(";;{clean};;"),
        format!("=; ;{clean};="),
        format!("{}{clean}", "a=b; ".repeat(1000)),
        format!("x=\"unclosed; {clean}"),
        format!("%; %zz=%; {clean}"),
    ] {
        let mut connection = Connection::open(world.gate.address()).await;
        let head = "GET /dashboard HTTP/1.1\r\nHost: app.example.com\r\n";
        connection.send(format!("{head}Cookie: {line}\r\n\r\n")).await;
        assert_eq!(connection.answer().await.unwrap().status, 200, "{line}");
    }
}
