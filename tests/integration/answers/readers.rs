//! Who reads an answer decides its form: a person, a script of another origin, a gRPC client, the
//! operator who looks for it in the log.

use foregate_stage::{Fault, Script, Step};
use foregate_tests::{Answer, Connection};

use super::{ENDED, FETCH, NAVIGATION, ask, check, cookies_of, head, problem};
use crate::world::{LIFE, SHOP, World};

#[tokio::test]
async fn who_navigates_and_who_does_not() {
    let world = World::start().await;
    for (line, lines, navigates) in [
        ("GET /dashboard", "Sec-Fetch-Mode: navigate\r\n", true),
        ("POST /dashboard", "Sec-Fetch-Mode: navigate\r\n", true),
        ("GET /dashboard", "Accept: text/html,*/*;q=0.8\r\n", true),
        ("GET /dashboard", "Accept: application/json, TEXT/HTML;q=0.9\r\n", true),
        ("GET /dashboard", "Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n", false),
        ("GET /dashboard", "Sec-Fetch-Mode: no-cors\r\nAccept: text/html\r\n", false),
        ("POST /dashboard", "Accept: text/html\r\n", false),
        ("GET /dashboard", "Accept: */*\r\n", false),
        ("GET /dashboard", "Accept: text/htmlish\r\n", false),
        ("GET /dashboard", "", false),
    ] {
        let status = ask(&world, &head(line, lines)).await.status;
        let expected: &[u16] = if navigates { &[302, 303] } else { &[401] };
        assert!(expected.contains(&status), "{line} {lines}: {status}");
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_read_the_refusal() {
    let world = World::start().await;
    world.backend.fail(Fault::Status(500));
    world.origin.script("/public/broken", Script::new([Step::Close]));
    let bob = cookies_of(&world.visitor("bob", LIFE).0);
    let ended = cookies_of(&world.visitor("ada", ENDED).0);
    for (line, cookie, status, readable) in [
        ("GET /dashboard", "", 401, true),
        ("GET /admin", bob.as_str(), 403, true),
        ("GET /internal/x", "", 403, true),
        ("GET /dashboard", &ended, 503, true),
        ("GET /public/broken", "", 502, false),
        ("GET /.foregate/none", "", 404, false),
    ] {
        let answer_to = async |origin: &str| {
            let origin = format!("Origin: {origin}\r\n");
            let answer = ask(&world, &head(line, &[FETCH, cookie, &origin].concat())).await;
            assert_eq!(answer.status, status, "{line}");
            let allowed = answer.header("access-control-allow-origin").map(str::to_owned);
            let with_cookies = answer.header("access-control-allow-credentials") == Some("true");
            assert_eq!(allowed.is_some(), with_cookies, "{line}");
            assert!(!readable || answer.header("vary") == Some("Origin"), "{line}");
            allowed
        };
        assert_eq!(answer_to(SHOP).await, readable.then(|| SHOP.to_owned()), "{line}");
        assert_eq!(answer_to("https://evil.example").await, None, "{line}");
        assert_eq!(answer_to("null").await, None, "{line}");
    }
}

#[tokio::test]
async fn a_head_request_is_answered_like_its_get_without_the_body() {
    let world = World::start().await;
    let bob = cookies_of(&world.visitor("bob", LIFE).0);
    for (path, lines) in [
        ("/dashboard", FETCH),
        ("/dashboard", NAVIGATION),
        ("/internal/x", NAVIGATION),
        ("/admin", &[NAVIGATION, &bob].concat()),
        ("/.foregate/none", FETCH),
    ] {
        let told = async |method: &str| {
            let mut connection = Connection::open(world.gate.address()).await;
            connection.send(head(&format!("{method} {path}"), lines)).await;
            let mut answer = connection.answer_to(method).await.unwrap();
            let changing = ["date", "x-request-id"];
            answer.headers.retain(|(name, _)| !changing.contains(&&*name.to_ascii_lowercase()));
            answer.headers.sort();
            connection.send(head("OPTIONS /.foregate/none", "")).await;
            assert_eq!(connection.answer().await.unwrap().status, 404, "{method}: no body");
            answer
        };
        let (get, head) = (told("GET").await, told("HEAD").await);
        assert_eq!((get.status, &get.headers), (head.status, &head.headers), "{path}");
    }
}

#[tokio::test]
async fn a_grpc_client_reads_the_refusal_as_a_status() {
    let world = World::start().await;
    world.origin.script("/public/broken", Script::new([Step::Close]));
    let bob = cookies_of(&world.visitor("bob", LIFE).0);
    for (path, cookie, status, grpc_status, message) in [
        ("/dashboard", "", 401, "16", "no_session: You are not signed in"),
        ("/admin", bob.as_str(), 403, "7", "role_missing: "),
        ("/.foregate/none", "", 404, "12", "unknown_reserved_path: "),
        ("/public/broken", "", 502, "14", "upstream_broken: "),
    ] {
        for media_type in ["application/grpc", "application/grpc+proto"] {
            let lines = format!("Content-Type: {media_type}\r\nTE: trailers\r\n{cookie}");
            let answer = ask(&world, &head(&format!("POST {path}"), &lines)).await;
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.header("content-type"), Some("application/grpc"), "{path}");
            assert_eq!(answer.header("grpc-status"), Some(grpc_status), "{path}");
            let told = answer.header("grpc-message").unwrap();
            assert!(told.starts_with(message), "{told}");
            assert_eq!(answer.text(), "", "{path}: no message in the body");
        }
    }
    let web = "Content-Type: application/grpc-web+proto\r\n";
    check(&world.gate, &head("POST /dashboard", web), problem(401, "no_session")).await;
}

#[tokio::test]
async fn the_name_of_a_request_comes_from_a_trusted_proxy_alone() {
    let given = "X-Request-Id: edge-7.b_1\r\n";
    let named = |answer: &Answer| answer.header("x-request-id").map(str::to_owned);
    let world = World::start().await;
    let name = named(&ask(&world, &head("GET /dashboard", given)).await).unwrap();
    assert_ne!(name, "edge-7.b_1");
    assert_eq!(name.len(), "k7qm-2x9d-r4tb".len());
    assert_ne!(named(&ask(&world, &head("GET /dashboard", given)).await), Some(name));

    let server = "[server]\nhttp = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n";
    let world = World::with(server).await;
    for lines in [FETCH, NAVIGATION] {
        let asked = head("GET /internal/x", &[given, lines].concat());
        let answer = ask(&world, &asked).await;
        assert_eq!(named(&answer).as_deref(), Some("edge-7.b_1"));
        assert!(answer.text().contains("edge-7.b_1"));
    }
    world.gate.logged(|log| log.contains("\"request_id\":\"edge-7.b_1\"")).await;
    let markup = "X-Request-Id: <script>\r\n";
    let answer = ask(&world, &head("GET /internal/x", &[markup, NAVIGATION].concat())).await;
    assert!(!answer.text().contains("<script"), "{}", answer.text());

    // It is ours alone: neither the app nor the visitor of an app gets one.
    let answer = ask(&world, &head("GET /about", "")).await;
    assert_eq!((answer.status, named(&answer)), (200, None));
    assert!(world.last_seen().header("x-request-id").is_empty());
    let own = ask(&world, &head("GET /.foregate/session", "")).await;
    assert!(named(&own).is_some(), "an answer of our own");
}
