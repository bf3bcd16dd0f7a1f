//! What happens to messages on their way: bodies, connections, failures, the end of the program.

use std::time::Duration;

use foregate_stage::{Script, Step};
use foregate_tests::{Connection, Request};

use crate::world::{APP, LIFE, World};

const HEAD: &str = "HTTP/1.1\r\nHost: app.example.com\r\n";

#[tokio::test]
async fn bodies_pass_both_ways_as_they_are() {
    let world = World::start().await;
    let body = vec![b'a'; 300_000];
    let request = Request::new("POST", &format!("{APP}/public/form")).body(body.clone());
    assert_eq!(world.stranger().send(&request).await.status, 200);
    let seen = world.last_seen();
    assert_eq!((seen.body_length, seen.header("content-length")), (300_000, vec!["300000"]));
    assert!(seen.header("transfer-encoding").is_empty());

    let mut connection = Connection::open(world.gate.address()).await;
    let head = format!("POST /public/form {HEAD}Transfer-Encoding: chunked\r\n\r\n");
    connection.send([head.as_bytes(), b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"].concat()).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    let seen = world.last_seen();
    assert_eq!(
        (seen.body.as_slice(), seen.header("transfer-encoding")),
        (&b"abcdefg"[..], vec!["chunked"])
    );

    let text = "x".repeat(500_000);
    world.origin.script("/public/big", Script::answer("200 OK", &[], &text));
    assert_eq!(world.stranger().fetch(&format!("{APP}/public/big")).await.text(), text);
    world.origin.script("/public/none", Script::answer("204 No Content", &[], ""));
    assert_eq!(world.stranger().fetch(&format!("{APP}/public/none")).await.status, 204);
    let head = Request::new("HEAD", &format!("{APP}/public/big"));
    let answer = world.stranger().send(&head).await;
    assert_eq!((answer.header("content-length"), answer.body.len()), (Some("500000"), 0));
}

#[tokio::test]
async fn an_answer_streams_as_the_app_writes_it() {
    let world = World::start().await;
    let start =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let first = [start.as_slice(), b"9\r\ndata: 1\n\n\r\n"].concat();
    world.origin.script("/public/events", Script::new([Step::Write(first), Step::Hang]));
    let mut connection = Connection::open(world.gate.address()).await;
    connection.send(format!("GET /public/events {HEAD}\r\n")).await;
    let mut received = Vec::new();
    while !received.windows(7).any(|window| window == b"data: 1") {
        let more = connection.bytes(4096).await;
        assert!(!more.is_empty(), "the event arrives while the answer is still open");
        received.extend(more);
    }
}

#[tokio::test]
async fn connections_to_the_app_are_used_again() {
    let world = World::with("[server]\nhttp = \"127.0.0.1:0\"\nadmin = \"\"\nworkers = 1\n").await;
    let mut connection = Connection::open(world.gate.address()).await;
    for _ in 0..20 {
        connection.send(format!("GET /public/page {HEAD}\r\n")).await;
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
    assert_eq!(world.origin.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_app_closed_is_no_failure() {
    let world = World::with("[server]\nhttp = \"127.0.0.1:0\"\nadmin = \"\"\nworkers = 1\n").await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".to_vec();
    world.origin.script("/public/last", Script::new([Step::Write(answer), Step::Close]));
    let browser = world.stranger();
    for _ in 0..50 {
        assert_eq!(browser.fetch(&format!("{APP}/public/last")).await.status, 200);
        assert_eq!(browser.fetch(&format!("{APP}/public/page")).await.status, 200);
    }
}

#[tokio::test]
async fn a_refusal_keeps_the_connection_and_hides_no_request_in_a_body() {
    let world = World::start().await;
    let (ada, _) = world.visitor("ada", LIFE);
    let mut connection = Connection::open(world.gate.address()).await;
    let hidden = "GET /public/hidden HTTP/1.1\r\nHost: app.example.com\r\n\r\n";
    let length = hidden.len();
    connection
        .send(format!("POST /dashboard {HEAD}Content-Length: {length}\r\n\r\n{hidden}"))
        .await;
    assert_eq!(connection.answer().await.unwrap().status, 401);
    let cookie = ada.cookies("app.example.com").unwrap();
    connection.send(format!("GET /dashboard {HEAD}Cookie: {cookie}\r\n\r\n")).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    let targets: Vec<_> = world.origin.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/dashboard"]);
}

#[tokio::test]
async fn a_refused_upload_beyond_the_bound_closes_the_connection() {
    let world = World::start().await;
    let mut connection = Connection::open(world.gate.address()).await;
    connection.send(format!("POST /dashboard {HEAD}Content-Length: 10000000\r\n\r\n")).await;
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    connection.closed().await;

    let mut waiting = Connection::open(world.gate.address()).await;
    let head = format!("POST /dashboard {HEAD}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    waiting.send(head).await;
    let first = waiting.bytes(12).await;
    assert_eq!(first, b"HTTP/1.1 401", "nobody is told to go on with what is refused");
}

#[tokio::test]
async fn failures_of_the_app_say_so() {
    let world = World::start().await;
    let check = async |path: &str, script: Script, status: u16, reason: &str| {
        world.origin.script(path, script);
        let answer = world.stranger().fetch(&format!("{APP}{path}")).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.json()["reason"], reason, "{path}");
        let page = world.stranger().navigate(&format!("{APP}{path}")).await;
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
    };
    let write = |bytes: &str| Script::new([Step::Write(bytes.into()), Step::Close]);
    check("/public/hang", Script::new([Step::Hang]), 504, "upstream_timeout").await;
    check("/public/close", Script::new([Step::Close]), 502, "upstream_broken").await;
    check("/public/nonsense", write("nonsense\r\n\r\n"), 502, "upstream_broken").await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    check("/public/switch", write(switch), 502, "upstream_broken").await;
    let lengths = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx";
    check("/public/lengths", write(lengths), 502, "upstream_broken").await;
}

#[tokio::test]
async fn an_app_that_is_down_is_a_502_and_the_gate_starts_without_it() {
    let config = crate::world::config("", "http://127.0.0.1:9");
    let gate = foregate_tests::Gate::start(&config).await;
    let browser = foregate_tests::Browser::new(gate.address());
    let answer = browser.fetch(&format!("{APP}/about")).await;
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (502, Some("upstream_unreachable"))
    );
}

#[tokio::test]
async fn a_terminated_gate_ends_its_requests_and_then_itself() {
    let mut world = World::start().await;
    let script = Script::new([
        Step::Pause(Duration::from_millis(500)),
        Step::Write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_vec()),
    ]);
    world.origin.script("/public/slow", script);
    let mut running = Connection::open(world.gate.address()).await;
    running.send(format!("GET /public/slow {HEAD}\r\n")).await;
    let mut idle = Connection::open(world.gate.address()).await;
    idle.send(format!("GET /public/page {HEAD}\r\n")).await;
    idle.answer().await.unwrap();
    while world.origin.connections() < 2 {
        tokio::task::yield_now().await;
    }
    world.gate.signal("TERM");
    idle.closed().await;
    let answer = running.answer().await.expect("the running request is answered");
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    assert!(world.gate.ended().await.success());
}

#[tokio::test]
async fn the_framing_that_reaches_the_app_is_always_ours() {
    let world = World::start().await;
    for codings in [
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
    ] {
        let mut connection = Connection::open(world.gate.address()).await;
        connection.send(format!("POST /public/x {HEAD}{codings}\r\n\r\n0\r\n\r\n")).await;
        assert_eq!(connection.answer().await.unwrap().status, 400, "{codings}");
        connection.closed().await;
    }
    assert!(world.origin.seen().is_empty());

    for (framing, body) in [
        ("Content-Length: 3\r\nContent-Length: 3", "abc"),
        ("Content-Length: 03", "abc"),
        ("Content-Length: 9\r\nTransfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let mut connection = Connection::open(world.gate.address()).await;
        connection.send(format!("POST /public/x {HEAD}{framing}\r\n\r\n{body}")).await;
        assert_eq!(connection.answer().await.unwrap().status, 200, "{framing}");
        let seen = world.last_seen();
        let lengths = seen.header("content-length");
        let codings = seen.header("transfer-encoding");
        assert_eq!(lengths.len() + codings.len(), 1, "{framing}: {lengths:?} {codings:?}");
        assert_eq!(seen.body, b"abc", "{framing}");
    }
    let empty = Request::new("POST", &format!("{APP}/public/x")).header("Content-Length", "0");
    assert_eq!(world.stranger().send(&empty).await.status, 200);
    assert_eq!(world.last_seen().header("content-length"), ["0"]);
}

#[tokio::test]
async fn a_body_that_the_visitor_breaks_is_his_fault() {
    let world = World::start().await;
    for body in ["10000000000000005\r\nabc", "-5\r\nabc", "3\r\nabcdef", "zz\r\n"] {
        let mut connection = Connection::open(world.gate.address()).await;
        let head = format!("POST /public/x {HEAD}Transfer-Encoding: chunked\r\n\r\n");
        connection.send(format!("{head}{body}\r\n0\r\n\r\n")).await;
        assert_eq!(connection.answer().await.unwrap().status, 400, "{body}");
        connection.closed().await;
    }
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_app_has_for_its_answer() {
    let world = World::start().await;
    let mut connection = Connection::open(world.gate.address()).await;
    connection.send(format!("POST /public/x {HEAD}Content-Length: 6\r\n\r\n")).await;
    // `upstream_header_timeout` is two seconds in this world.
    for part in ["ab", "cd", "ef"] {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        connection.send(part).await;
    }
    assert_eq!(connection.answer().await.unwrap().status, 200);
    assert_eq!(world.last_seen().body, b"abcdef");
}

#[tokio::test]
async fn a_request_goes_to_the_app_at_most_twice() {
    let world = World::with("[server]\nhttp = \"127.0.0.1:0\"\nworkers = 1\n").await;
    // Ten at once leave as many idle connections behind.
    let pause = Step::Pause(Duration::from_millis(100));
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".to_vec();
    world.origin.script("/public/many", Script::new([pause, Step::Write(answer)]));
    let mut visits = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let browser = world.stranger();
        visits.spawn(async move { browser.fetch(&format!("{APP}/public/many")).await.status });
    }
    assert!(visits.join_all().await.iter().all(|status| *status == 200));

    world.origin.script("/public/boom", Script::new([Step::Close]));
    let garbage = Script::new([Step::Write(b"nonsense\r\n\r\n".to_vec()), Step::Close]);
    world.origin.script("/public/garbage", garbage);
    for (path, times) in [("/public/boom", 2), ("/public/garbage", 1)] {
        assert_eq!(world.stranger().fetch(&format!("{APP}{path}")).await.status, 502);
        let seen = world.origin.seen().iter().filter(|seen| seen.target == path).count();
        assert!(seen <= times, "{path} reached the app {seen} times");
    }
}

#[tokio::test]
async fn a_head_beyond_the_bound_is_431_however_it_comes() {
    let world = World::start().await;
    let lines: String = (0..10).map(|n| format!("X-{n}: {}\r\n", "x".repeat(7000))).collect();
    let mut connection = Connection::open(world.gate.address()).await;
    connection.send(format!("GET /public/x {HEAD}{lines}\r\n")).await;
    assert_eq!(connection.answer().await.unwrap().status, 431);
    connection.closed().await;
    assert!(world.origin.seen().is_empty());
}

#[tokio::test]
async fn a_coded_answer_that_nobody_asked_for_does_not_pass_as_plain() {
    let world = World::start().await;
    let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    world.origin.script("/public/coded", Script::new([Step::Write(coded.into())]));
    assert_eq!(world.stranger().fetch(&format!("{APP}/public/coded")).await.status, 502);
}

#[tokio::test]
async fn a_visitor_who_leaves_leaves_a_line_in_the_log() {
    let world = World::start().await;
    world.origin.script("/public/hang", Script::new([Step::Hang]));
    let mut connection = Connection::open(world.gate.address()).await;
    connection.send(format!("GET /public/hang {HEAD}\r\n")).await;
    while world.origin.connections() == 0 {
        tokio::task::yield_now().await;
    }
    drop(connection);
    world.gate.logged(|log| log.contains("visitor_left")).await;
    let mut nonsense = Connection::open(world.gate.address()).await;
    nonsense.send("nonsense\r\n\r\n").await;
    world.gate.logged(|log| log.contains("\"reason\":\"malformed\"")).await;
}
