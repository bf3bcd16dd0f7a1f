//! A rollout from the visitors' side: a gate that is told to end says good-bye to everybody and
//! fails nobody, and one that starts waits for nobody.

pub(crate) mod visitors;

use std::time::{Duration, Instant};

use foregate_stage::{Fault, Origin, SECRET, Script, Step};
use foregate_tests::h2::{GOAWAY, RawHttp2};
use foregate_tests::{Browser, Connection, Directory, Gate, free_port};

use crate::ledgers::Site;
use crate::world::{ANY, APP, session_cookie};
use visitors::{Visitors, Wish};

const HEAD: &str = "HTTP/1.1\r\nHost: app.example.com\r\n";

fn config(origin: &Origin, server: &str) -> String {
    let upstream = origin.url();
    format!(
        "[session]\nsecrets = [\"{SECRET}\"]\n[[app]]\nhost = \"app.example.com\"\n\
         upstream = \"{upstream}\"\naccess = \"public\"\n[server]\nworkers = 2\n{server}\n"
    )
}

fn wish(gate: &Gate) -> Wish {
    Wish { gate: gate.address(), path: "/page", cookie: None, expected: "/page" }
}

/// An answer whose body takes its time.
fn slowly(origin: &Origin, path: &str, pieces: usize) {
    let length = pieces * "piece ".len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let mut steps = vec![Step::Write(head.into_bytes())];
    for _ in 0..pieces {
        steps.push(Step::Pause(Duration::from_millis(100)));
        steps.push(Step::Write(b"piece ".to_vec()));
    }
    origin.script(path, Script::new(steps));
}

#[tokio::test]
async fn an_end_under_load_fails_no_request() {
    let origin = Origin::start(ANY).await.unwrap();
    let server = "http = \"127.0.0.1:0\"\ndrain_delay = \"500ms\"\nshutdown_grace = \"20s\"";
    let mut gate = Gate::start(&config(&origin, server)).await;
    let mut visitors = Visitors::come(&wish(&gate), 6, 3);
    visitors.answered_more(200).await;

    // Bodies on their way, and a WebSocket.
    slowly(&origin, "/slow", 20);
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut visitor = Connection::open(gate.address()).await;
        visitor.send(format!("GET /slow {HEAD}\r\n")).await;
        streams.push(visitor);
    }
    let mut tunnel = open_tunnel(&origin, &gate).await;
    while origin.seen().iter().filter(|seen| seen.target == "/slow").count() < 4 {
        tokio::task::yield_now().await;
    }

    let before = visitors.answered();
    gate.signal("TERM");
    visitors.may_find_it_shut();
    let told = Instant::now();
    let answered = visitors.gone().await;
    assert!(told.elapsed() >= Duration::from_millis(450), "served all through drain_delay");
    assert!(answered > before, "{answered}");
    for mut stream in streams {
        let answer = stream.answer().await.expect("an answer in flight is finished");
        assert_eq!(answer.text(), "piece ".repeat(20));
    }
    // The doors are shut by now, and the tunnel stands until one of its ends closes it.
    tunnel.send("still here").await;
    assert_eq!(tunnel.bytes(10).await, b"still here");
    drop(tunnel);
    assert!(gate.ended().await.success());
    assert!(told.elapsed() < Duration::from_secs(15), "as soon as nothing is left");
    assert!(!gate.log().contains("still running at the end"), "{}", gate.log());
}

async fn open_tunnel(origin: &Origin, gate: &Gate) -> Connection {
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let head = format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}{accept}\r\n");
    origin.script("/ws", Script::new([Step::Write(head.into_bytes()), Step::Echo]));
    let mut tunnel = Connection::open(gate.address()).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    tunnel.send(format!("GET /ws {HEAD}{upgrade}{key}\r\n")).await;
    assert_eq!(tunnel.answer().await.unwrap().status, 101);
    tunnel
}

#[tokio::test]
async fn while_it_drains_every_answer_asks_its_visitor_to_go() {
    let origin = Origin::start(ANY).await.unwrap();
    let server = "http = \"127.0.0.1:0\"\ndrain_delay = \"2s\"";
    let gate = Gate::start(&config(&origin, server)).await;
    let (mut http1, mut http2) =
        (Connection::open(gate.address()).await, RawHttp2::open(gate.address(), &[]).await);
    http1.send(format!("GET /page {HEAD}\r\n")).await;
    assert_eq!(http1.answer().await.unwrap().header("connection"), None);
    http2.get(1, "/page").await;
    assert_eq!(http2.status().await, Some(200));

    gate.signal("TERM");
    gate.logged(|log| log.contains("\"stopping\"")).await;
    let start = Instant::now();
    http1.send(format!("GET /page {HEAD}\r\n")).await;
    assert_eq!(http1.answer().await.unwrap().header("connection"), Some("close"));
    http1.closed().await;
    http2.get(3, "/page").await;
    let mut answered = false;
    loop {
        let frame = http2.next().await.expect("good-bye is said");
        answered |= frame.kind == foregate_tests::h2::HEADERS && frame.stream == 3;
        if frame.kind == GOAWAY {
            break;
        }
    }
    assert!(answered || http2.status().await == Some(200));
    assert!(start.elapsed() < Duration::from_millis(1500), "not at the end of drain_delay");
    // Whoever comes on a new connection is served meanwhile.
    let newcomer = Browser::new(gate.address());
    assert_eq!(newcomer.fetch(&format!("{APP}/page")).await.status, 200);
}

#[tokio::test]
async fn a_successor_on_the_same_port_takes_over_without_a_failed_request() {
    let origin = Origin::start(ANY).await.unwrap();
    let port = free_port();
    let server = format!(
        "http = \"127.0.0.1:{port}\"\nreuse_port = true\ndrain_delay = \"200ms\"\n\
         shutdown_grace = \"20s\""
    );
    let config = config(&origin, &server);
    let mut old = Gate::start(&config).await;
    let visitors = Visitors::come(&wish(&old), 6, 3);
    visitors.answered_more(100).await;
    for _ in 0..3 {
        let new = Gate::start(&config).await;
        old.signal("TERM");
        assert!(old.ended().await.success());
        visitors.answered_more(100).await;
        old = new;
    }
    assert!(visitors.leave().await > 400);
}

/// The visitor has hung up, the backend takes its time, and the next gate knows what came of it.
#[tokio::test]
async fn a_redemption_that_runs_ends_before_the_gate_does() {
    let site = Site::start().await;
    let directory = Directory::new("drain");
    let ledger = format!("file:{}", directory.ledger().display());
    let ada = site.grant("ada", Duration::ZERO);
    let mut gate = site.gate(&ledger).await;
    site.backend.fail(Fault::Delay(Duration::from_millis(1500)));
    let mut visitor = Connection::open(gate.address()).await;
    let cookie = session_cookie(&ada);
    visitor.send(format!("GET /dashboard {HEAD}Cookie: {cookie}\r\n\r\n")).await;
    while site.backend.counters().attempts == 0 {
        tokio::task::yield_now().await;
    }
    drop(visitor);
    gate.signal("TERM");
    assert!(gate.ended().await.success());
    assert_eq!(site.counted(), (1, 0));

    let next = site.gate(&ledger).await;
    let browser = Browser::new(next.address());
    browser.set_cookies("example.com", &cookie);
    assert_eq!(browser.fetch(&format!("{APP}/dashboard")).await.status, 200);
    assert_eq!(site.counted(), (1, 0), "the token was spent once");
}

#[tokio::test]
async fn it_is_ready_with_nobody_there_to_depend_on() {
    let (backend, redis, app) = (free_port(), free_port(), free_port());
    let config = format!(
        "[session]\nsecrets = [\"{SECRET}\"]\n[backend]\n\
         refresh_url = \"http://127.0.0.1:{backend}/refresh\"\n[refresh]\n\
         ledger = \"redis://127.0.0.1:{redis}\"\n[[app]]\nhost = \"app.example.com\"\n\
         upstream = \"http://127.0.0.1:{app}\"\n[server]\nhttp = \"127.0.0.1:0\"\n\
         admin = \"127.0.0.1:0\"\n"
    );
    let start = Instant::now();
    let gate = Gate::start(&config).await;
    let mut admin = Connection::open(gate.admin_address().await).await;
    assert!(start.elapsed() < Duration::from_secs(5), "it asks nobody before it listens");
    admin.send("GET /readyz?verbose HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let answer = admin.answer().await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let stranger = Browser::new(gate.address());
    assert_eq!(stranger.fetch(&format!("{APP}/")).await.status, 401);
}
