//! The world around the gate, asked over the wire.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{
    Backend, BackendSettings, Counters, DemoAddresses, DemoSettings, Fault, Origin, SECRET, Script,
    SignIn, SignInSettings, Step, demo,
};

const ANYWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Sends one request and reads until the other side closes: status (0 without an answer), head, body.
async fn ask(address: SocketAddr, head: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.get(9..12).map_or(0, |status| status.parse().unwrap());
    (status, head.to_owned(), body.to_owned())
}

async fn redeem(backend: &Backend, token: &str) -> (u16, Value) {
    let body = json!({ "token": token }).to_string();
    let (status, _, body) = ask(backend.address(), "POST /auth/refreshToken", &body).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

async fn backend() -> Backend {
    Backend::start(ANYWHERE, BackendSettings::default()).await.unwrap()
}

#[tokio::test]
async fn a_login_gives_a_pair_and_each_refresh_token_works_once() {
    let backend = backend().await;
    let login = json!({ "email": "ada@example.com", "password": "demo" }).to_string();
    let (status, _, body) = ask(backend.address(), "POST /auth/login", &login).await;
    let first: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert!(first["accessTokenExpiry"].as_u64().unwrap() > 1_700_000_000_000, "milliseconds");

    let old = first["refreshToken"].as_str().unwrap();
    let (status, second) = redeem(&backend, old).await;
    assert_eq!(status, 200);
    assert_ne!(second["accessToken"], first["accessToken"]);
    assert_eq!(redeem(&backend, old).await.0, 401);
    assert_eq!(redeem(&backend, "unknown").await.0, 401);
    assert_eq!(redeem(&backend, second["refreshToken"].as_str().unwrap()).await.0, 200);

    let counters = Counters { logins: 1, attempts: 4, redemptions: 2, refused: 2, reuses: 1 };
    assert_eq!(backend.counters(), counters);
    let (_, _, stats) = ask(backend.address(), "GET /stats", "").await;
    assert_eq!(serde_json::from_str::<Value>(&stats).unwrap(), json!(counters));
}

#[tokio::test]
async fn a_wrong_password_gives_nothing() {
    let backend = backend().await;
    for body in [r#"{"email":"ada@example.com","password":"x"}"#, "{}", "", "[1"] {
        assert_eq!(ask(backend.address(), "POST /auth/login", body).await.0, 401, "{body}");
    }
    assert_eq!(backend.counters().logins, 0);
}

#[tokio::test]
async fn the_other_dialects_answer_in_their_own_words() {
    let backend = backend().await;
    let token = |life| backend.grant("bob@example.com", life).unwrap().refresh_token;
    let ask = async |head: &str, body: String| {
        let (status, _, body) = ask(backend.address(), head, &body).await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let form = format!("grant_type=refresh_token&refresh_token={}", token(Duration::ZERO));
    let (status, answer) = ask("POST /token", form.clone()).await;
    assert_eq!((status, &answer["expires_in"]), (200, &json!(20)));
    assert_eq!(ask("POST /token", form).await, (400, json!({ "error": "invalid_grant" })));

    let refresh = json!({ "refresh": token(Duration::ZERO) }).to_string();
    let (status, answer) = ask("POST /api/token/refresh/", refresh.clone()).await;
    assert!(status == 200 && answer["access"].is_string() && answer["refresh"].is_string());
    let (status, answer) = ask("POST /api/token/refresh/", refresh).await;
    assert_eq!((status, &answer["code"]), (401, &json!("token_not_valid")));
}

#[tokio::test]
async fn faults_strike_as_often_as_told() {
    let backend = backend().await;
    let token = backend.grant("ada@example.com", Duration::ZERO).unwrap().refresh_token;
    for (fault, status) in [
        (Fault::Status(500), 500),
        (Fault::TooMany { retry_after: 3 }, 429),
        (Fault::Garbage, 200),
        (Fault::NoToken, 200),
        (Fault::Huge { bytes: 1000 }, 200),
        (Fault::CloseBefore, 0),
    ] {
        backend.fail_times(1, fault);
        let (answered, pair) = redeem(&backend, &token).await;
        assert_eq!((answered, &pair["accessToken"]), (status, &Value::Null), "{fault:?}");
    }
    assert_eq!(backend.counters().redemptions, 0);

    backend.fail_times(1, Fault::CloseAfter);
    assert_eq!(redeem(&backend, &token).await.0, 0);
    assert_eq!(redeem(&backend, &token).await.0, 401, "it was spent all the same");
}

#[tokio::test]
async fn what_is_held_goes_on_when_the_fault_is_lifted() {
    let backend = backend().await;
    let token = backend.grant("ada@example.com", Duration::ZERO).unwrap().refresh_token;
    backend.fail(Fault::Hold);
    let lift = async {
        while backend.counters().attempts == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(backend.counters().redemptions, 0);
        backend.recover();
    };
    let ((status, _), ()) = tokio::join!(redeem(&backend, &token), lift);
    assert_eq!(status, 200);
}

#[tokio::test]
async fn an_origin_tells_what_it_saw_letter_by_letter() {
    let origin = Origin::start(ANYWHERE).await.unwrap();
    let chunked = "POST /a?b HTTP/1.1\r\nX-One: 1\r\nx-one: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2;x\r\nde\r\n0\r\nX-Trail: t\r\n\r\n";
    let mut stream = TcpStream::connect(origin.address()).await.unwrap();
    stream.write_all(chunked.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");

    let seen = origin.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", "/a?b"));
    assert_eq!(seen[0].headers[1], ("x-one".to_owned(), "2".to_owned()));
    assert_eq!(seen[0].header("X-ONE"), ["1", "2"]);
    assert_eq!((seen[0].body.as_slice(), seen[0].body_length), (b"abcde".as_slice(), 5));
    assert_eq!(seen[0].trailers, [("X-Trail".to_owned(), "t".to_owned())]);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_origin_plays_its_script() {
    let origin = Origin::start(ANYWHERE).await.unwrap();
    origin.script("/gone", Script::answer("410 Gone", &["X-Why: moved"], "bye"));
    origin.script("/half", Script::new([Step::Write(b"HTTP/1.1 2".to_vec()), Step::Close]));
    let (status, head, body) = ask(origin.address(), "GET /gone?x=1", "").await;
    assert_eq!((status, body.as_str()), (410, "bye"));
    assert!(head.contains("X-Why: moved"), "{head}");
    assert_eq!(ask(origin.address(), "GET /half", "").await.0, 0);
}

async fn sign_in(backend: &Backend) -> SignIn {
    let settings = SignInSettings {
        secret: SECRET.to_owned(),
        cookie_domain: "demo.localhost".to_owned(),
        origins: vec![
            "http://app.demo.localhost:8080".to_owned(),
            "http://shop.demo.localhost:8080".to_owned(),
        ],
    };
    SignIn::start(ANYWHERE, settings, backend).await.unwrap()
}

#[tokio::test]
async fn a_sign_in_sets_the_cookie_and_leads_back_to_known_hosts_only() {
    let backend = backend().await;
    let form = sign_in(&backend).await;
    let check = async |callback: &str, location: &str| {
        let body = format!("email=bob%40example.com&password=demo&callbackUrl={callback}");
        let (status, head, _) = ask(form.address(), "POST /login", &body).await;
        assert_eq!(status, 303, "{callback}");
        assert!(head.contains("; Domain=demo.localhost; Path=/; "), "{head}");
        assert!(head.contains(&format!("location: {location}\r\n")), "{callback}: {head}");
    };
    let home = "http://app.demo.localhost:8080";
    let shop = "http://shop.demo.localhost:8080";
    check("http%3A%2F%2Fshop.demo.localhost%3A8080%2Fa%3Fb", &format!("{shop}/a?b")).await;
    check(shop, shop).await;
    check("", home).await;
    check("/dashboard", home).await;
    check("//evil.test", home).await;
    check("http://shop.demo.localhost:8080.evil.test/", home).await;
    check("http://shop.demo.localhost:8080@evil.test/", home).await;
    check("http://shop.demo.localhost:80801/", home).await;
    check("http://shop.demo.localhost:8080%5C%5Cevil.test", home).await;
    check("http://shop.demo.localhost:8080/%0d%0aX: y", home).await;
    check("https://evil.test/", home).await;
    check("javascript:alert(1)", home).await;
}

#[tokio::test]
async fn a_wrong_password_shows_the_form_again_and_echoes_no_markup() {
    let backend = backend().await;
    let form = sign_in(&backend).await;
    let body = "email=%22%3E%3Cscript%3E&password=x&callbackUrl=%22%3E%3Cscript%3E";
    let (status, head, page) = ask(form.address(), "POST /login", body).await;
    assert_eq!(status, 401);
    assert!(page.contains("do not belong together"), "{page}");
    assert!(!page.contains("<script>"), "{page}");
    assert!(!head.contains("set-cookie"), "{head}");
    let (_, _, page) = ask(form.address(), "GET /login?callbackUrl=%22%3E%3Cscript%3E", "").await;
    assert!(page.contains("ada@example.com") && !page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn the_demo_starts_as_a_whole_or_says_what_could_not_listen() {
    let at = |backend| DemoAddresses { backend, app: ANYWHERE, shop: ANYWHERE, sign_in: ANYWHERE };
    let start = async |backend| {
        demo(DemoSettings {
            addresses: at(backend),
            secret: SECRET.to_owned(),
            gate_port: 8080,
            access_life: Duration::from_secs(20),
        })
        .await
    };
    let running = start(ANYWHERE).await.unwrap();
    assert_eq!(running.urls()[0], "http://app.demo.localhost:8080");
    assert_eq!(running.accounts().len(), 2);

    let taken = backend().await;
    let refused = start(taken.address()).await.err().unwrap().to_string();
    assert!(refused.contains("the demo's backend cannot listen"), "{refused}");
}
