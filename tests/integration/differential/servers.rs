//! The servers: what they are, how each is started, and what it makes of a request.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use foregate_tests::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::routes::{Route, served};

/// A server that can be started.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// With `{port}` where its port goes.
    command: &'static str,
    directory: &'static str,
    /// How many targets it gets: slow ones get fewer.
    pub(crate) share: usize,
    /// Whether it tells `/admin` from `/ADMIN`.
    pub(crate) case_sensitive: bool,
    /// Keys of its `[[app]]` beside the common ones.
    pub(crate) settings: &'static str,
    /// Whether it has the route `/café`.
    pub(crate) has_cafe: bool,
}

const PLAIN: Kind = Kind {
    name: "",
    command: "",
    directory: DIFFERENTIAL,
    share: 1600,
    case_sensitive: true,
    settings: "",
    has_cafe: true,
};
const ANY_CASE: Kind = Kind { case_sensitive: false, ..PLAIN };

const NEXT: Kind = Kind { share: 600, has_cafe: false, ..PLAIN };
const LOCALES: &str = "locales = [\"en\", \"de\"]\ndefault_locale = \"en\"\n";

pub(crate) const KINDS: [Kind; 10] = [
    Kind { name: "url", command: "node node.mjs url {port}", ..PLAIN },
    Kind { name: "legacy", command: "node node.mjs legacy {port}", ..PLAIN },
    Kind { name: "lenient", command: "node node.mjs lenient {port}", ..ANY_CASE },
    Kind { name: "express", command: "node express.mjs {port}", ..ANY_CASE },
    Kind { name: "go", command: ".built/go-server {port} files", ..PLAIN },
    Kind { name: "django", command: ".venv/bin/python django_site.py {port}", share: 800, ..PLAIN },
    Kind {
        name: "next-app",
        command: "node node_modules/next/dist/bin/next start site-app -H 127.0.0.1 -p {port}",
        directory: INTEROP,
        ..NEXT
    },
    Kind {
        name: "next-pages",
        command: "node node_modules/next/dist/bin/next start site-pages -H 127.0.0.1 -p {port}",
        directory: INTEROP,
        settings: LOCALES,
        ..NEXT
    },
    // The last 16.x release that reads `nxtP` keys of a visitor's query as route parameters.
    Kind {
        name: "old-next-app",
        command: "node node_modules/next/dist/bin/next start .built/next/site-app -H 127.0.0.1 -p {port}",
        ..NEXT
    },
    Kind {
        name: "old-next-pages",
        command: "node node_modules/next/dist/bin/next start .built/next/site-pages -H 127.0.0.1 -p {port}",
        ..NEXT
    },
];

/// A running server. It ends, with what it started, when this is dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) kind: &'static Kind,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(kind: &'static Kind) -> Self {
        let port = free_port();
        let command = kind.command.replace("{port}", &port.to_string());
        let mut words = command.split(' ');
        let process = Command::new(words.next().expect("a command has a first word"))
            .args(words)
            .current_dir(kind.directory)
            .env("NEXT_TELEMETRY_DISABLED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|why| panic!("{command}: {why}"));
        Self { process, kind, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
    }

    pub(crate) async fn listens(&self) {
        let knock = async {
            while TcpStream::connect(self.address).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = timeout(PATIENCE, knock).await;
        assert!(in_time.is_ok(), "{} does not listen", self.kind.name);
    }

    /// The route that `request`, which asks for the connection to be closed, leads to without any
    /// gate. Not every answer to such requests is HTTP.
    pub(crate) async fn ask(&self, request: &[u8]) -> Option<Route> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(request).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(PATIENCE, exchange).await;
        let answer = answer.unwrap_or_else(|_| {
            panic!("{} does not answer {}", self.kind.name, request.escape_ascii())
        });
        // A server may drop what it does not understand.
        served(&answer.unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        // One that has ended already needs no signal.
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

/// Panics with all that is missing, and how to get it.
pub(crate) fn find_tools() {
    let differential = Path::new(DIFFERENTIAL);
    let interop = Path::new(INTEROP);
    let needed = [
        differential.join("node_modules/express"),
        differential.join(".built/go-server"),
        differential.join(".venv/bin/python"),
        differential.join(".built/next/site-app/.next/BUILD_ID"),
        differential.join(".built/next/site-pages/.next/BUILD_ID"),
        interop.join("site-app/.next/BUILD_ID"),
        interop.join("site-pages/.next/BUILD_ID"),
    ];
    let missing: Vec<_> = needed.iter().filter(|path| !path.exists()).collect();
    assert!(
        missing.is_empty(),
        "missing: {missing:?}; `cargo xtask test` installs and builds them"
    );
}

const DIFFERENTIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/differential");
const INTEROP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/interop");
const PATIENCE: Duration = Duration::from_secs(30);
