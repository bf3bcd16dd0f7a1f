//! The operator's side: health, readiness, metrics, the status page, `foregate health`, and the
//! line that each request leaves in the log.

mod attention;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use foregate_stage::{Fault, SECRET, Script, Step, cookie_header, random, seal_v4};
use foregate_tests::{Answer, Browser, Connection, Gate, Http2, Request, free_port, program};
use serde_json::Value;

use crate::world::{APP, COOKIE, LIFE, SHOP, World};

const ADMIN: &str = "[server]\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";

/// A world whose gate has an admin listener, and where that is.
async fn world() -> (World, SocketAddr) {
    let world = World::with(ADMIN).await;
    let admin = world.gate.admin_address().await;
    (world, admin)
}

async fn ask(admin: SocketAddr, target: &str) -> Answer {
    ask_as(admin, "GET", target, &admin.to_string()).await
}

async fn ask_as(admin: SocketAddr, method: &str, target: &str, host: &str) -> Answer {
    let mut connection = Connection::open(admin).await;
    connection.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    connection.answer_to(method).await.expect("the admin listener answers")
}

/// The value of one series of `/metrics`; 0 where it is not there yet.
async fn metric(admin: SocketAddr, series: &str) -> f64 {
    let text = ask(admin, "/metrics").await.text();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

/// The log's lines with this message.
fn logged(gate: &Gate, message: &str) -> Vec<Value> {
    let log = gate.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

#[tokio::test]
async fn who_asks_for_health_is_told_and_for_anything_else_turned_away() {
    let (_world, admin) = world().await;
    let check = async |method: &str, target: &str, status: u16, body: &str| {
        let answer = ask_as(admin, method, target, "localhost").await;
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{method} {target}");
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    };
    check("GET", "/healthz", 200, "ok\n").await;
    check("HEAD", "/healthz", 200, "").await;
    check("GET", "/readyz", 200, "ready\n").await;
    check("POST", "/healthz", 405, "only GET and HEAD\n").await;
    check("DELETE", "/", 405, "only GET and HEAD\n").await;
    check("GET", "/health", 404, "/healthz /readyz /metrics /\n").await;
    check("GET", "/.foregate/session", 404, "/healthz /readyz /metrics /\n").await;
}

#[tokio::test]
async fn no_page_of_a_stranger_can_read_it_by_letting_its_name_point_here() {
    let (_world, admin) = world().await;
    for target in ["/", "/metrics", "/readyz?verbose"] {
        assert_eq!(ask_as(admin, "GET", target, "rebind.example.com:9901").await.status, 421);
        assert_eq!(ask_as(admin, "GET", target, "foregate:9901").await.status, 200);
    }
    assert_eq!(ask_as(admin, "GET", "/healthz", "lb.example.com").await.status, 200);
    let page = ask(admin, "/").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert_eq!(page.header("cross-origin-resource-policy"), Some("same-origin"));
    for header in ["access-control-allow-origin", "set-cookie"] {
        assert_eq!(page.header(header), None);
    }
}

#[tokio::test]
async fn readiness_fails_first_and_visitors_are_served_meanwhile() {
    let server = format!("{ADMIN}drain_delay = \"800ms\"\n");
    let mut world = World::with(&server).await;
    let admin = world.gate.admin_address().await;
    assert_eq!(ask(admin, "/readyz").await.status, 200);
    world.gate.signal("TERM");
    world.gate.logged(|log| log.contains("\"stopping\"")).await;
    let answer = ask(admin, "/readyz").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "not ready: stopping\n"));
    let verbose = ask(admin, "/readyz?verbose").await.text();
    assert!(verbose.contains("[-] listener http 127.0.0.1:"), "{verbose}");
    assert_eq!(ask(admin, "/healthz").await.status, 200);
    assert_eq!(metric(admin, "foregate_ready").await, 0.0);
    assert_eq!(world.stranger().fetch(&format!("{APP}/about")).await.status, 200);
    assert!(world.gate.ended().await.success());
}

#[tokio::test]
async fn every_dependency_is_named_and_none_of_them_makes_the_gate_unready() {
    let (world, admin) = world().await;
    let verbose = ask(admin, "/readyz?verbose").await.text();
    let port = world.gate.address().port();
    let upstream = world.origin.url();
    for line in [
        &format!("[+] listener http 127.0.0.1:{port}"),
        "[+] configuration generation 1, for ",
        "[+] ledger memory, 0 of 1000000 entries",
        "[+] backend: not asked yet",
        &format!("[+] upstream {upstream} of app.example.com"),
    ] {
        assert!(verbose.contains(line), "{line}:\n{verbose}");
    }
    assert!(verbose.ends_with("\nready\n"), "{verbose}");

    world.backend.fail(Fault::Status(500));
    let (ada, _) = world.visitor("ada", Duration::ZERO);
    assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 503);
    world.origin.script("/public/broken", Script::new([Step::Close]));
    let broken = Request::new("POST", &format!("{APP}/public/broken")).fetch("same-origin");
    assert_eq!(world.stranger().send(&broken).await.status, 502);
    let text = std::fs::read_to_string(world.gate.config_file()).unwrap();
    let typo = text.replace("access = \"deny\"", "acces = \"deny\"");
    std::fs::write(world.gate.config_file(), typo).unwrap();
    world.gate.signal("HUP");
    world.gate.logged(|log| log.contains("not reloaded")).await;

    let answer = ask(admin, "/readyz?verbose").await;
    assert_eq!(answer.status, 200, "another gate would reach them no better");
    let verbose = answer.text();
    for line in [
        "[!] reload failed 0 s ago, the configuration stays: ",
        "app[0].rule[3].acces: unknown key\n",
        "[!] backend: unavailable 0 s ago: the backend answered 500",
        &format!(
            "[!] upstream {upstream} of app.example.com: upstream_broken 0 s ago: the app broke the \
             connection: "
        ),
    ] {
        assert!(verbose.contains(line), "{line}:\n{verbose}");
    }
    let page = ask(admin, "/").await.text();
    assert!(page.contains("Wants attention") && page.contains("unknown key"), "{page}");
    assert_eq!(metric(admin, "foregate_reloads_total{outcome=\"failed\"}").await, 1.0);

    // What is mended is said no longer.
    std::fs::write(world.gate.config_file(), text).unwrap();
    world.gate.signal("HUP");
    world.gate.logged(|_| !logged(&world.gate, "reloaded").is_empty()).await;
    assert_eq!(world.stranger().fetch(&format!("{APP}/about")).await.status, 200);
    let verbose = ask(admin, "/readyz?verbose").await.text();
    assert!(!verbose.contains("reload failed"), "{verbose}");
    assert!(verbose.contains(&format!("[+] upstream {upstream} of app.example.com")), "{verbose}");
    assert!(verbose.contains("[+] configuration generation 2"), "{verbose}");
}

#[tokio::test]
async fn what_happens_is_counted_by_app_decision_and_reason() {
    let (world, admin) = world().await;
    let (ada, _) = world.visitor("ada", LIFE);
    let (bob, _) = world.visitor("bob", Duration::ZERO);
    let stranger = world.stranger();
    for _ in 0..3 {
        assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 200);
    }
    assert_eq!(bob.fetch(&format!("{APP}/admin/users")).await.status, 403);
    assert_eq!(stranger.navigate(&format!("{APP}/dashboard")).await.status, 302);
    assert_eq!(stranger.fetch(&format!("{SHOP}/")).await.status, 401);
    assert_eq!(stranger.fetch("http://nobody.example.com/").await.status, 404);
    assert_eq!(stranger.fetch(&format!("{APP}/a%2Fb")).await.status, 400);
    let sealed = seal_v4("another-secret-than-the-gate-has", "{\"sub\":\"1\"}", random());
    let foreign = world.stranger();
    foreign.set_cookies("example.com", &cookie_header(COOKIE, &sealed));
    assert_eq!(foreign.fetch(&format!("{APP}/dashboard")).await.status, 401);
    let good = ada.cookies("app.example.com").unwrap();
    let mut connection = Connection::open(world.gate.address()).await;
    let head = "GET /dashboard HTTP/1.1\r\nHost: app.example.com\r\n";
    connection.send(format!("{head}Cookie: {good}; {good}\r\n\r\n")).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);

    let check = async |series: &str, value: f64| {
        assert_eq!(metric(admin, series).await, value, "{series}");
    };
    let requests = |labels: &str| format!("foregate_requests_total{{{labels}}}");
    let app = "app=\"app.example.com\"";
    let passed = format!("{app},decision=\"pass\",reason=\"\",status=\"2xx\"");
    check(&requests(&passed), 4.0).await;
    let redirected = format!("{app},decision=\"refuse\",reason=\"no_session\",status=\"3xx\"");
    check(&requests(&redirected), 1.0).await;
    let refused = format!("{app},decision=\"refuse\",reason=\"role_missing\",status=\"4xx\"");
    check(&requests(&refused), 1.0).await;
    let shop = "app=\"shop.example.com\",decision=\"refuse\",reason=\"no_session\",status=\"4xx\"";
    check(&requests(shop), 1.0).await;
    let nobody = "app=\"\",decision=\"refuse\",reason=\"unknown_host\",status=\"4xx\"";
    check(&requests(nobody), 1.0).await;
    let bad = "app=\"\",decision=\"refuse\",reason=\"bad_path\",status=\"4xx\"";
    check(&requests(bad), 1.0).await;
    check("foregate_session_cookies_unopened_total{reason=\"invalid\"}", 1.0).await;
    check("foregate_session_cookie_duplicates_total", 1.0).await;
    check("foregate_refreshes_total{backend=\"backend\",outcome=\"renewed\"}", 1.0).await;
    check("foregate_refresh_seconds_count{backend=\"backend\"}", 1.0).await;
    check(&format!("foregate_upstream_seconds_count{{{app}}}"), 4.0).await;
    check("foregate_ledger_entries", 2.0).await;
    check("foregate_ledger_forgotten_total", 0.0).await;
    check("foregate_configuration_generation", 1.0).await;
    assert!(metric(admin, "foregate_admission_seconds_sum").await > 0.0);

    let page = ask(admin, "/").await.text();
    assert!(page.contains("<code>/admin/:path*</code>"), "{page}");
    assert!(!page.contains("<script") && !page.contains("://app"), "{page}");
}

#[tokio::test]
async fn connections_and_websockets_are_counted_while_they_last() {
    let (world, admin) = world().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let yes = format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}{accept}\r\n");
    world.origin.script("/public/ws", Script::new([Step::Write(yes.into()), Step::Echo]));
    let check = async |series: &str, value: f64| {
        assert_eq!(metric(admin, series).await, value, "{series}");
    };
    let open = |protocol: &str| {
        format!("foregate_connections_open{{listener=\"http\",protocol=\"{protocol}\"}}")
    };

    let mut http2 = Http2::open(world.gate.address()).await;
    assert_eq!(http2.send(&Request::get(&format!("{APP}/about"))).await.status, 200);
    let mut visitor = Connection::open(world.gate.address()).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    visitor
        .send(format!("GET /public/ws HTTP/1.1\r\nHost: app.example.com\r\n{upgrade}{key}\r\n"))
        .await;
    assert_eq!(visitor.answer().await.unwrap().status, 101);
    check(&open("h1"), 1.0).await;
    check(&open("h2"), 1.0).await;
    check("foregate_websockets_open", 1.0).await;
    drop((visitor, http2));
    world.gate.logged(|_| !logged(&world.gate, "tunnel ended").is_empty()).await;
    let lines = logged(&world.gate, "tunnel ended");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&line["reason"], &line["path"]), (&"closed".into(), &"/public/ws".into()));
    assert!(line["millis"].is_u64() && line["request_id"].is_string(), "{line}");
    assert_eq!(line["app"], "app.example.com");
    check("foregate_websockets_open", 0.0).await;
    check("foregate_websockets_ended_total{reason=\"closed\"}", 1.0).await;
    check("foregate_connections_accepted_total{listener=\"http\"}", 2.0).await;

    let mut garbage = Connection::open(world.gate.address()).await;
    garbage.send("\x16\x03 no HTTP\r\n\r\n").await;
    garbage.bytes(1024).await;
    world.gate.logged(|log| log.contains("\"malformed\"")).await;
    let malformed = "app=\"\",decision=\"refuse\",reason=\"malformed\",status=\"4xx\"";
    check(&format!("foregate_requests_total{{{malformed}}}"), 1.0).await;
}

#[tokio::test]
async fn a_request_leaves_one_line_that_says_which_rule_and_how_long() {
    let (world, _) = world().await;
    let (bob, _) = world.visitor("bob", LIFE);
    assert_eq!(bob.fetch(&format!("{APP}/dashboard?secret=1")).await.status, 200);
    assert_eq!(bob.fetch(&format!("{APP}/admin/users")).await.status, 403);
    let foreign = world.stranger();
    foreign.set_cookies("example.com", &format!("{COOKIE}=junk"));
    assert_eq!(foreign.fetch(&format!("{APP}/dashboard")).await.status, 401);
    world.gate.logged(|_| logged(&world.gate, "request").len() == 3).await;

    let lines = logged(&world.gate, "request");
    let [passed, refused, foreign] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&passed["decision"], &passed["status"]), (&"pass".into(), &200.into()));
    assert_eq!(
        (&passed["path"], &passed["app"]),
        (&"/dashboard".into(), &"app.example.com".into())
    );
    assert_eq!((&passed["reason"], &passed["rule"]), (&Value::Null, &Value::Null));
    let micros = |line: &Value, key: &str| line[key].as_u64().unwrap_or_else(|| panic!("{line}"));
    let parts = micros(passed, "admission_micros") + micros(passed, "upstream_micros");
    assert!(parts <= micros(passed, "micros"), "{passed}");

    let text = std::fs::read_to_string(world.gate.config_file()).unwrap();
    let rule = text.lines().position(|line| line.contains("/admin/:path*")).unwrap();
    assert_eq!(
        (&refused["decision"], &refused["reason"]),
        (&"refuse".into(), &"role_missing".into())
    );
    let named = (&refused["rule"], &refused["rule_line"]);
    assert_eq!(named, (&"/admin/:path*".into(), &rule.into()));
    assert_eq!(
        (&refused["app"], &refused["upstream_micros"]),
        (&"app.example.com".into(), &Value::Null)
    );
    assert_eq!(foreign["reason"], "no_session");
    assert_eq!(foreign["cookie"], "not a compact JWE with a direct key");
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_the_metrics() {
    let (world, admin) = world().await;
    let (ada, _) = world.visitor("ada", Duration::ZERO);
    assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 200);
    let metrics = ask(admin, "/metrics").await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = promtool.expect("promtool comes with Debian's package prometheus");
    promtool.stdin.take().unwrap().write_all(&metrics.body).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
}

fn health(arguments: &[&str]) -> Output {
    Command::new(program()).arg("health").args(arguments).output().unwrap()
}

#[tokio::test]
async fn the_health_command_tells_by_its_exit_code() {
    let (world, admin) = world().await;
    let check = |arguments: &[&str], code: i32, said: &str| {
        let output = health(arguments);
        let all = [&output.stdout[..], &output.stderr].concat();
        let all = String::from_utf8(all).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {all}");
        assert!(all.contains(said) && all.lines().count() == 1, "{arguments:?}: {all}");
    };
    let url = format!("http://{admin}");
    check(&["--admin", &url], 0, "ready");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    check(&["--admin", &nobody], 1, &format!("no answer from {nobody}: Connection refused"));
    // Who accepts and says nothing is not waited for without end.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    check(&["--admin", &silent], 1, "not within 3 s");
    // Visitors' listeners have no readiness.
    check(&["--admin", &format!("http://{}", world.gate.address())], 1, "");
    check(&["--config", "/nonexistent/proxy.toml"], 1, "cannot read /nonexistent/proxy.toml");
}

/// A file of this test, taken away in the end.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("foregate-admin-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn the_admin_listener_may_be_a_unix_socket_that_the_configuration_names() {
    let socket = File::new("admin.sock");
    let server = format!("[server]\nhttp = \"127.0.0.1:0\"\nadmin = \"unix:{}\"\n", socket.path());
    let mut world = World::with(&server).await;
    world.gate.logged(|log| log.contains("\"admin\"")).await;
    let said = health(&["--config", world.gate.config_file().to_str().unwrap()]);
    assert_eq!((said.status.code(), &said.stdout[..]), (Some(0), &b"ready\n"[..]), "{said:?}");
    let said = health(&["--admin", &format!("unix:{}", socket.path())]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    world.gate.signal("TERM");
    assert!(world.gate.ended().await.success());
    assert!(!socket.0.exists(), "the file goes with the gate");
}

const SOUND: &str = "[session]\nsecrets = [\"SECRET\"]\n[[app]]\nhost = \"app.example.com\"\n\
                     upstream = \"http://127.0.0.1:1\"\naccess = \"public\"\n";

#[test]
fn a_default_that_is_taken_is_warned_of_and_one_that_was_asked_for_must_be_had() {
    // Whoever has the port, nobody else can.
    let _taken = TcpListener::bind("127.0.0.1:9901");
    let file = File::new("taken.toml");
    let run = |server: &str| {
        let text = SOUND.replace("SECRET", SECRET);
        std::fs::write(&file.0, format!("{text}[server]\nhttp = \"127.0.0.1:0\"\n{server}"))
            .unwrap();
        let mut gate = Command::new(program());
        gate.args(["run", "--config", file.path()]).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut gate = run("");
    let mut said = String::new();
    for line in BufReader::new(gate.stderr.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        if said.contains("listening") {
            break;
        }
    }
    gate.kill().unwrap();
    gate.wait().unwrap();
    assert!(said.contains("no health, no metrics and no status page"), "{said}");

    let output = run("admin = \"127.0.0.1:9901\"\n").wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot listen on 127.0.0.1:9901"), "{said}");
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [started, .., failed] = &lines[..] else { panic!("{said}") };
    assert_eq!(
        (&started["message"], &started["config"]),
        (&"starting".into(), &file.path().into())
    );
    assert_eq!(
        (&started["ledger"], &started["backends"], &started["apps"]),
        (&"memory".into(), &0.into(), &1.into())
    );
    assert!(started["version"].is_string(), "{started}");
    assert_eq!((&failed["level"], &failed["key"]), (&"ERROR".into(), &"server.admin".into()));

    std::fs::write(&file.0, SOUND.replace("SECRET", SECRET) + NO_DIRECTORY).unwrap();
    let output = Command::new(program()).args(["run", "--config", file.path()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let failed: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let told = (&failed["key"], &failed["message"]);
    let words = "the ledger's directory /nowhere/at/all does not exist";
    assert_eq!(told, (&"refresh.ledger".into(), &words.into()));
}

const NO_DIRECTORY: &str = "[refresh]\nledger = \"file:/nowhere/at/all/ledger.redb\"\n";

#[tokio::test]
async fn a_successor_shares_the_port_and_is_the_one_to_be_asked_in_the_end() {
    let (http, admin) = (free_port(), free_port());
    let config = format!(
        "{}[server]\nhttp = \"127.0.0.1:{http}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         reuse_port = true\ndrain_delay = \"2s\"\n",
        SOUND.replace("SECRET", SECRET)
    );
    let old = Gate::start(&config).await;
    let new = Gate::start(&config).await;
    let admin = new.admin_address().await;
    old.signal("TERM");
    old.logged(|log| log.contains("the admin listener is left")).await;
    // The old one lets go at once, though it goes on serving visitors.
    for _ in 0..20 {
        assert_eq!(ask(admin, "/readyz").await.status, 200);
    }
    let visitor = Browser::new(new.address());
    assert_eq!(visitor.fetch(&format!("{APP}/")).await.status, 502);
}
