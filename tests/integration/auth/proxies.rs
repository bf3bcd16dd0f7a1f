//! Real proxies that ask the gate, with the configurations that docs/decision-endpoint.md prints.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use foregate_stage::{SECRET, Seen, random, seal_v4};
use foregate_tests::{Browser, Request, free_port};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{TRUSTED, forged};
use crate::world::{APP, COOKIE, LIFE, World};

const PAGE: &str = include_str!("../../../docs/decision-endpoint.md");

/// A proxy of some kind: where the page has its configuration, and how it runs.
struct Kind {
    name: &'static str,
    program: &'static str,
    /// With `{file}` for the configuration.
    arguments: &'static str,
    language: &'static str,
    /// The heading that the configuration stands under.
    heading: &'static str,
    /// What stands around it, and what its port is written as; with `{directory}` and `{port}`.
    around: (&'static str, &'static str),
    listen: (&'static str, &'static str),
    /// It can ask under a name of its own, so the app gets the renewed cookie, too.
    in_private: bool,
    /// What of a 503 the visitor gets besides the status: when to come again, and why.
    on_503: (bool, bool),
}

static NGINX: Kind = Kind {
    name: "nginx",
    program: "nginx",
    arguments: "-p {directory} -c {file} -e stderr",
    language: "nginx",
    heading: "\n## nginx\n",
    around: (
        "daemon off; master_process off; pid {directory}/pid; error_log stderr; events {}\n\
         http { access_log off; client_body_temp_path {directory}/body; \
         proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi; \
         uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n",
        "\n}\n",
    ),
    listen: ("listen 80;", "listen 127.0.0.1:{port};"),
    in_private: true,
    on_503: (true, false),
};

static CADDY: Kind = Kind {
    name: "caddy",
    program: "caddy",
    arguments: "run --adapter caddyfile --config {file}",
    language: "caddyfile",
    heading: "\n## Caddy\n",
    around: ("{\nadmin off\nauto_https off\nhttp_port {port}\ndefault_bind 127.0.0.1\n}\n", ""),
    listen: ("http://app.example.com {", "http://app.example.com {"),
    in_private: true,
    on_503: (true, true),
};

static ENVOY: Kind = Kind {
    name: "envoy",
    program: concat!(env!("CARGO_MANIFEST_DIR"), "/proxies/.venv/bin/envoy"),
    arguments: "--config-path {file} --use-dynamic-base-id --concurrency 1 --log-level warning",
    language: "yaml",
    heading: "\n## Envoy\n",
    around: ("", ""),
    listen: ("address: 0.0.0.0, port_value: 80 ", "address: 127.0.0.1, port_value: {port} "),
    in_private: false,
    on_503: (false, false),
};

#[tokio::test]
async fn nginx_asks_as_the_page_says() {
    check(&NGINX).await;
}

#[tokio::test]
async fn caddy_asks_as_the_page_says() {
    check(&CADDY).await;
}

#[tokio::test]
async fn envoy_asks_as_the_page_says() {
    check(&ENVOY).await;
}

async fn check(kind: &'static Kind) {
    let world = World::with(TRUSTED).await;
    let front = Front::start(kind, &world).await;
    passes(&world, &front).await;
    refuses(&world, &front).await;
    renews(&world, &front).await;
    ends(&world, &front).await;
    a_backend_that_is_away_is_told(&world, &front).await;
}

async fn passes(world: &World, front: &Front) {
    let (ada, grant) = world.visitor("ada", LIFE);
    let ada = front.visited_by(&ada);
    let bearer = format!("Bearer {}", grant.access_token);
    let mut request = Request::new("POST", &format!("{APP}/reports/new?a=b")).body("words");
    for (name, value) in forged() {
        request = request.header(name, value);
    }
    let request = request.header("Origin", APP).fetch("same-origin");
    let name = front.kind.name;
    let answer = ada.send(&request).await;
    assert_eq!(answer.status, 200, "{name}: {}\n{}", answer.text(), world.gate.log());
    let seen = world.last_seen();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/reports/new?a=b"));
    assert_eq!(seen.body, b"words");
    assert_eq!(seen.header("authorization"), [&*bearer], "{name}");
    assert_eq!(seen.header("x-user-id"), ["u-1"], "{name}");
    assert_eq!(seen.header("x-roles"), ["admin,user"], "{name}");
    assert_eq!(believed(&seen), ["admin,user", "u-1"], "{name}: {:?}", seen.headers);
    assert!(answer.header("authorization").is_none(), "{name}: the visitor learns no token");

    let mut stranger = Request::get(&format!("{APP}/public/page"));
    for (name, value) in forged() {
        stranger = stranger.header(name, value);
    }
    assert_eq!(front.stranger().send(&stranger).await.status, 200, "{name}");
    let seen = world.last_seen();
    assert!(seen.header("authorization").iter().all(|value| value.is_empty()), "{name}");
    assert!(believed(&seen).is_empty(), "{name}: {:?}", seen.headers);
}

/// What an app might believe that reads `_` and `.` as `-`.
fn believed(seen: &Seen) -> Vec<&str> {
    let is_trusted = |name: &str| {
        let name = name.to_lowercase().replace(['_', '.'], "-");
        ["x-user-id", "x-roles", "x-middleware-subrequest"].contains(&name.as_str())
    };
    let trusted = seen.headers.iter().filter(|(name, _)| is_trusted(name));
    let mut values: Vec<_> = trusted.map(|(_, value)| value.as_str()).collect();
    values.retain(|value| !value.is_empty());
    values.sort_unstable();
    values
}

async fn refuses(world: &World, front: &Front) {
    let name = front.kind.name;
    let before = world.origin.seen().len();
    let page = front.stranger().navigate(&format!("{APP}/dashboard?a=b")).await;
    let back = "http://auth.example.com/login?callbackUrl=\
                http%3A%2F%2Fapp.example.com%2Fdashboard%3Fa%3Db";
    assert_eq!((page.status, page.header("location")), (302, Some(back)), "{name}");
    assert_eq!(front.stranger().fetch(&format!("{APP}/dashboard")).await.status, 401, "{name}");
    let (bob, _) = world.visitor("bob", LIFE);
    let bob = front.visited_by(&bob);
    assert_eq!(bob.fetch(&format!("{APP}/admin/users")).await.status, 403, "{name}");
    let report = Request::new("POST", &format!("{APP}/reports/new"));
    assert_eq!(bob.send(&report).await.status, 403, "{name}: the method counts");
    let foreign = Request::new("POST", &format!("{APP}/dashboard")).fetch("cross-site");
    assert_eq!(bob.send(&foreign).await.status, 403, "{name}: another site's write");
    let socket = Request::get(&format!("{APP}/dashboard"))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
        .header("Origin", "https://evil.example");
    assert_eq!(bob.send(&socket).await.status, 403, "{name}: another site's WebSocket");

    for path in ["/.foregate/auth", "/.foregate/auth/dashboard", "/.foregate/%61uth/dashboard"] {
        let asked = bob.fetch(&format!("{APP}{path}")).await;
        assert_eq!(asked.status, 404, "{name}: no visitor asks by himself at {path}");
        assert!(asked.header("authorization").is_none(), "{name}");
    }
    // Whatever a visitor adds, he gets the decision of the path that he asks for, or an error.
    for forged in [
        &[("X-Original-URI", "/public/a"), ("X-Original-Method", "GET")][..],
        &[("X-Original-URL", "http://app.example.com/public/a"), ("X-Original-Method", "GET")],
        &[("X-Forwarded-Uri", "/public/a"), ("X-Forwarded-Method", "GET")],
        &[("X-Forwarded-Host", "shop.example.com"), ("X-Forwarded-Proto", "https")],
        &[("X-Original-Url", "http://shop.example.com/api/x")],
    ] {
        let url = format!("{APP}/dashboard");
        let with = |request, (name, value): &(&str, &str)| Request::header(request, name, value);
        let request = forged.iter().fold(Request::get(&url), with);
        let status = front.stranger().send(&request).await.status;
        assert!(matches!(status, 400 | 401), "{name}: {forged:?}: {status}");
    }
    assert_eq!(world.origin.seen().len(), before, "{name}: nothing refused reached the app");
    let session = bob.fetch(&format!("{APP}/.foregate/session")).await;
    assert_eq!(session.json()["subject"], "u-2", "{name}");
}

/// A session in chunks: all of the renewed ones reach the browser.
async fn renews(world: &World, front: &Front) {
    let name = front.kind.name;
    let grant = world.backend.grant("ada@example.com", Duration::ZERO).unwrap();
    let mut claims = grant.session_claims(Duration::from_secs(30 * 24 * 3600));
    claims["padding"] = "p".repeat(6000).into();
    let token = seal_v4(SECRET, &claims.to_string(), random());
    let (ada, attempts) = (front.stranger(), world.backend.counters().attempts);
    ada.set_cookies("example.com", &foregate_stage::cookie_header(COOKIE, &token));
    ada.set_cookie("example.com", "theme=dark; Domain=example.com");
    let before = ada.cookies("app.example.com").unwrap();
    assert!(before.contains(&format!("{COOKIE}.1=")), "the session comes in chunks");

    let answer = ada.fetch(&format!("{APP}/dashboard")).await;
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    let bearer = world.last_seen().header("authorization")[0].to_owned();
    assert_ne!(bearer, format!("Bearer {}", grant.access_token), "{name}");
    let chunks = before.matches(COOKIE).count();
    assert_eq!(answer.headers_named("set-cookie").len(), chunks, "{name}");
    let leaked = answer.headers.iter().any(|(name, _)| name.to_lowercase().contains("foregate"));
    assert!(!leaked, "{name}: {:?}", answer.headers);
    let after = ada.cookies("app.example.com").unwrap();
    let changed = after.split("; ").filter(|pair| !before.contains(pair)).count();
    assert_eq!(changed, chunks, "{name}: every chunk is a new one");
    let app_saw = world.last_seen().header("cookie").join("; ");
    assert!(app_saw.contains("theme=dark"), "{name}: {app_saw}");
    let expected = if front.kind.in_private { &after } else { &before };
    let sorted = |cookies: &str| {
        let mut pairs: Vec<String> = cookies.split("; ").map(str::to_owned).collect();
        pairs.sort_unstable();
        pairs
    };
    assert_eq!(sorted(&app_saw), sorted(expected), "{name}: the app's view of the cookies");

    // The browser's new cookie is whole: it opens without another redemption.
    assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 200, "{name}");
    assert_eq!(world.last_seen().header("authorization"), [&*bearer], "{name}");
    assert_eq!(world.backend.counters().attempts, attempts + 1, "{name}");
}

/// A session that the backend ends: the browser forgets its cookie on the way to the login.
async fn ends(world: &World, front: &Front) {
    let name = front.kind.name;
    let (ada, _) = world.visitor("ada", Duration::ZERO);
    let ada = front.visited_by(&ada);
    world.backend.fail(foregate_stage::Fault::Status(401));
    assert_eq!(ada.navigate(&format!("{APP}/dashboard")).await.status, 302, "{name}");
    assert_eq!(ada.cookies("app.example.com"), None, "{name}");
    world.backend.recover();
}

async fn a_backend_that_is_away_is_told(world: &World, front: &Front) {
    let name = front.kind.name;
    let (ada, _) = world.visitor("ada", Duration::ZERO);
    let ada = front.visited_by(&ada);
    world.backend.fail(foregate_stage::Fault::Status(503));
    let answer = ada.fetch(&format!("{APP}/dashboard")).await;
    assert_eq!(answer.status, 503, "{name}");
    let (says_when, says_why) = front.kind.on_503;
    assert_eq!(answer.header("retry-after").is_some(), says_when, "{name}");
    assert!(answer.header("set-cookie").is_none(), "{name}: nobody is signed out by it");
    assert_eq!(answer.text().contains("backend_unavailable"), says_why, "{name}");
    world.backend.recover();
}

/// A running proxy in front of a world's gate and app.
struct Front {
    kind: &'static Kind,
    process: Child,
    directory: PathBuf,
    address: std::net::SocketAddr,
}

impl Front {
    async fn start(kind: &'static Kind, world: &World) -> Self {
        let port = free_port();
        let directory = std::env::temp_dir().join(format!("foregate-front-{port}"));
        std::fs::create_dir_all(&directory).unwrap();
        let here = directory.to_str().unwrap();
        let filled = |text: &str| {
            let text = text.replace("{directory}", here).replace("{port}", &port.to_string());
            text.replace("{file}", &format!("{here}/config.{}", kind.language))
        };
        let printed = printed(kind);
        assert!(printed.contains(kind.listen.0), "{}: where it listens", kind.name);
        let (gate, app) = (world.gate.address(), world.origin.address());
        let printed = printed
            .replace(kind.listen.0, &filled(kind.listen.1))
            .replace("127.0.0.1:8080", &gate.to_string())
            .replace("127.0.0.1:3000", &app.to_string())
            .replace("port_value: 8080", &format!("port_value: {}", gate.port()))
            .replace("port_value: 3000", &format!("port_value: {}", app.port()));
        let (above, below) = kind.around;
        let config = [&filled(above), &*printed, &filled(below)].concat();
        std::fs::write(filled("{file}"), config).unwrap();
        let arguments = filled(kind.arguments);
        let process = Command::new(kind.program)
            .args(arguments.split(' '))
            .env("HOME", here)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("log")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|why| {
                panic!("{}: {why}; `cargo xtask test` installs it", kind.program)
            });
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let front = Self { kind, process, directory, address };
        let knock = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(PATIENCE, knock).await.is_ok(), "{} listens", kind.name);
        front
    }

    fn stranger(&self) -> Browser {
        Browser::new(self.address)
    }

    /// The same visitor, whose browser comes here instead.
    fn visited_by(&self, browser: &Browser) -> Browser {
        let here = self.stranger();
        here.set_cookies("example.com", &browser.cookies("app.example.com").unwrap_or_default());
        here
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        // One that has ended already needs no signal.
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            eprintln!("the log of {}:\n{log}", self.kind.name);
        }
        let _ = std::fs::remove_dir_all(Path::new(&self.directory));
    }
}

/// The configuration that the page prints for this proxy.
fn printed(kind: &Kind) -> String {
    let (_, section) = PAGE.split_once(kind.heading).expect("the page has a section for it");
    let fence = format!("```{}\n", kind.language);
    let (_, block) = section.split_once(&fence).expect("the section has a configuration");
    block.split_once("\n```").expect("the configuration ends").0.to_owned()
}

const PATIENCE: Duration = Duration::from_secs(30);
