//! The programs of `tests/wire`: apps behind a gate, and clients in front of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use foregate_stage::{SECRET, cookie_header, random, seal_v4, unix_millis};
use foregate_tests::{Certificates, Gate};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::world::COOKIE;

/// An app of another author, on a port of loopback. It ends when this is dropped.
pub(crate) struct App {
    pub(crate) port: u64,
    _process: Child,
    _stdout: BufReader<ChildStdout>,
}

impl App {
    /// Starts a program of `tests/wire` and waits until it says where it listens.
    pub(crate) async fn start(program: &str, environment: &[(&str, &str)]) -> Self {
        let mut process = command(program, environment).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        let said = timeout(PATIENCE, stdout.read_line(&mut line)).await;
        said.unwrap_or_else(|_| panic!("{program} does not listen")).unwrap();
        let said: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{program} failed"));
        Self { port: said["port"].as_u64().unwrap(), _process: process, _stdout: stdout }
    }
}

/// A gate that listens for plain HTTP and for https, and a visitor with a session.
pub(crate) struct Entrance {
    pub(crate) gate: Gate,
    pub(crate) certificates: Certificates,
    /// The `Cookie` header's value of the visitor.
    pub(crate) cookie: String,
}

/// The listeners of an [`Entrance`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    Plain,
    Tls,
}

impl Entrance {
    /// `apps` holds hosts and the lines of their `[[app]]` tables.
    pub(crate) async fn open(certificates: Certificates, apps: &[(&str, String)]) -> Self {
        Self::open_at("127.0.0.1:0", certificates, apps).await
    }

    /// The same with another place for plain HTTP.
    pub(crate) async fn open_at(
        http: &str,
        certificates: Certificates,
        apps: &[(&str, String)],
    ) -> Self {
        let mut config = format!(
            "[server]\nhttp = \"{http}\"\nhttps = \"127.0.0.1:0\"\n{}\n[session]\n\
             secrets = [\"{SECRET}\"]\ndomain = \".example.com\"\n\n[login]\nurl = \"{LOGIN}\"\n",
            certificates.table()
        );
        for (host, lines) in apps {
            config += &format!("\n[[app]]\nhost = \"{host}\"\n{lines}\n");
        }
        let gate = Gate::start_with(&config, &[("FOREGATE_LOG", QUIET)]).await;
        Self { gate, certificates, cookie: session() }
    }

    pub(crate) async fn address(&self, way: Way) -> SocketAddr {
        let port = match way {
            Way::Plain => self.gate.address().port(),
            Way::Tls => self.gate.secure_address().await.port(),
        };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// The origin of an app, as a visitor writes it.
    pub(crate) async fn origin(&self, host: &str, way: Way) -> String {
        let scheme = if way == Way::Tls { "https" } else { "http" };
        format!("{scheme}://{host}:{}", self.address(way).await.port())
    }

    /// Runs a client of `tests/wire` against an app, to its end: the steps that it made. Panics at
    /// the first that failed.
    pub(crate) async fn visit(
        &self,
        client: &str,
        environment: &[(&str, &str)],
        host: &str,
        way: Way,
    ) -> Vec<Value> {
        let origin = self.origin(host, way).await;
        let shown = format!("{client} {environment:?} at {origin}");
        let authority = self.certificates.authority();
        let client = command(client, environment)
            .env("TARGET", origin)
            .env("COOKIE", &self.cookie)
            .env("BEARER", BEARER)
            .env("CA", authority)
            .env("NODE_EXTRA_CA_CERTS", authority)
            .output();
        let output = timeout(PATIENCE, client).await;
        let output = output.unwrap_or_else(|_| panic!("{shown} does not end")).unwrap();
        let lines = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        println!("{shown}\n{lines}");
        assert!(output.status.success(), "{shown}\n{lines}{errors}");
        let steps: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!steps.is_empty() && steps.iter().all(|step| step["ok"] == true), "{shown}");
        steps
    }
}

/// A session of somebody whose access token ends at no known time, as a NextAuth.js v4 site seals it.
pub(crate) fn session() -> String {
    let end = unix_millis() / 1000 + 3600;
    let claims = json!({ "sub": "ada", "accessToken": BEARER, "exp": end }).to_string();
    cookie_header(COOKIE, &seal_v4(SECRET, &claims, random()))
}

/// A program of `tests/wire`; `python` is that of its virtual environment. Panics unless what it
/// needs is installed.
fn command(program: &str, environment: &[(&str, &str)]) -> Command {
    for needed in ["node_modules/ws", ".venv/bin/python", ".built/go-client", ".built/h2spec"] {
        let path = Path::new(WIRE).join(needed);
        assert!(path.exists(), "{} is missing: `cargo xtask test` makes it", path.display());
    }
    let mut words = program.split(' ');
    let first = match words.next().unwrap() {
        "python" => ".venv/bin/python",
        first => first,
    };
    let first = if first.starts_with('.') { &format!("{WIRE}/{first}") } else { first };
    let mut command = Command::new(first);
    command
        .args(words)
        .current_dir(WIRE)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

pub(crate) const BEARER: &str = "the-access-token-of-ada";
pub(crate) const LOGIN: &str = "https://auth.example.com/login";
pub(crate) const WIRE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/wire");
/// What goes wrong, and where the listeners are.
const QUIET: &str = "warn,foregate::run=info";
const PATIENCE: Duration = Duration::from_secs(120);
