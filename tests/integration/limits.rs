//! Every bound of `[limits]`, against visitors and apps who take their time, fall silent or flood.
//! The time-outs are short here, so a visitor who "drips" sends a byte every quarter of a second.

mod apps;
mod bodies;
mod floods;
mod heads;
mod load;
mod places;
mod shutdown;
mod sizes;

use std::time::{Duration, Instant};

use foregate_stage::{Origin, SECRET};
use foregate_tests::{Answer, Connection, Gate};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;

use crate::world::ANY;

/// A gate in front of two apps: an origin, and one of which a test plays every byte.
pub(crate) struct House {
    pub(crate) gate: Gate,
    pub(crate) origin: Origin,
    pub(crate) played: Played,
}

impl House {
    /// With one second for a head, two for whatever stands still, and two for an app.
    pub(crate) async fn open() -> Self {
        Self::with("", SHORT).await
    }

    /// With these lines in `[server]` and in `[limits]`; the last ones may open further tables.
    pub(crate) async fn with(server: &str, limits: &str) -> Self {
        let origin = Origin::start(ANY).await.unwrap();
        let played = Played::start(4096);
        let (usual, other) = (origin.url(), played.url());
        let config = format!(
            r#"[session]
secrets = ["{SECRET}"]

[[app]]
host = "app.example.com"
upstream = "{usual}"

  [[app.rule]]
  path = "/public/:path*"
  access = "public"

[[app]]
host = "played.example.com"
upstream = "{other}"

  [[app.rule]]
  path = "/:path*"
  access = "public"

[server]
http = "127.0.0.1:0"
workers = 2
{server}

[limits]
{limits}
"#
        );
        let gate = Gate::start(&config).await;
        Self { gate, origin, played }
    }

    /// A new visitor.
    pub(crate) async fn visitor(&self) -> Connection {
        Connection::open(self.gate.address()).await
    }

    /// Somebody who asks like everybody else is served, within a second.
    pub(crate) async fn serves_others(&self) -> Answer {
        let visit = async {
            let mut visitor = self.visitor().await;
            visitor.send(format!("GET /public/other {HEAD}\r\n")).await;
            visitor.answer().await
        };
        let answer = timeout(Duration::from_secs(1), visit).await.expect("served at once");
        let answer = answer.expect("served at all");
        assert_eq!(answer.status, 200);
        answer
    }

    /// Waits until the gate has let in as many silent visitors as `arrive` brings. Before them
    /// nobody must have come.
    pub(crate) async fn lets_in(
        &self,
        arrive: impl AsyncFnOnce() -> Vec<Connection>,
    ) -> Vec<Connection> {
        let before = self.open_files();
        let visitors = arrive().await;
        let start = Instant::now();
        while self.open_files() < before + visitors.len() {
            assert!(start.elapsed() < PATIENCE, "they still wait");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        visitors
    }

    fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.gate.pid())).unwrap().count()
    }

    /// What the gate holds of the machine's memory now, in KiB.
    pub(crate) fn memory(&self) -> usize {
        memory(&self.gate, "VmRSS:")
    }

    /// The most that it ever held, in KiB.
    pub(crate) fn peak_memory(&self) -> usize {
        memory(&self.gate, "VmHWM:")
    }
}

/// A line of the process's account (Linux, proc_pid_status(5)).
fn memory(gate: &Gate, key: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// An app whose part the test plays.
pub(crate) struct Played(TcpListener);

impl Played {
    /// At most `backlog` connections wait to be taken, each with little room for what it sends.
    fn start(backlog: u32) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.bind(ANY).unwrap();
        Self(socket.listen(backlog).unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// The next connection of the gate, its first request's head read already.
    pub(crate) async fn visited(&self) -> Connection {
        let (stream, _) = timeout(PATIENCE, self.0.accept()).await.expect("a visit").unwrap();
        let mut connection = Connection::over(stream);
        connection.head().await;
        connection
    }
}

/// Sends `bytes` one at a time until the other side has closed, if need be long after the last one.
/// What it said until then, and how long it took.
pub(crate) async fn drip(
    visitor: &mut Connection,
    bytes: impl IntoIterator<Item = u8>,
) -> (Vec<u8>, Duration) {
    let (mut heard, start, mut bytes) = (Vec::new(), Instant::now(), bytes.into_iter());
    while start.elapsed() < PATIENCE {
        if let Some(byte) = bytes.next() {
            visitor.send([byte]).await;
        }
        match timeout(DRIP, visitor.bytes(64 * 1024)).await {
            Ok(more) if more.is_empty() => return (heard, start.elapsed()),
            Ok(more) => heard.extend(more),
            Err(_) => {}
        }
    }
    panic!("never closed: {}", String::from_utf8_lossy(&heard));
}

/// Reads to the end of the connection.
pub(crate) async fn rest(visitor: &mut Connection) -> Vec<u8> {
    drip(visitor, []).await.0
}

/// The status that begins what was heard.
pub(crate) fn status(heard: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(heard);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status: {text}"))
}

pub(crate) const APP: &str = "app.example.com";
pub(crate) const HEAD: &str = "HTTP/1.1\r\nHost: app.example.com\r\n";
pub(crate) const TO_PLAYED: &str = "HTTP/1.1\r\nHost: played.example.com\r\n";
pub(crate) const SHORT: &str = r#"header_timeout = "1s"
idle_timeout = "2s"
upstream_connect_timeout = "1s"
upstream_header_timeout = "2s"
"#;
/// Between two bytes of somebody who drips.
pub(crate) const DRIP: Duration = Duration::from_millis(250);
/// Far beyond the time-outs of [`SHORT`], and far below those that nobody set.
pub(crate) const SOON: Duration = Duration::from_secs(8);
/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(30);
