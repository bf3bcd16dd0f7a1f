//! Visitors of a Service: as browsers, as scripts that connect anew each time, with long answers and
//! with WebSockets. They go where its endpoints are, and count what fails.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foregate_tests::Connection;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What happened so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) connections: u64,
    pub(super) long_answers: u64,
    pub(super) longest: Duration,
    /// The slowest of the short ones.
    pub(super) slowest: Duration,
    pub(super) tunnels: u64,
    pub(super) echoes: u64,
    /// Tunnels that the gate ended, and how long they had stood.
    pub(super) tunnels_ended: Vec<Duration>,
    pub(super) failures: Vec<String>,
}

/// A visitor's session: the cookie of the first hour, sent for ever.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) cookie: String,
}

/// Visitors at work. They stop when they are told to.
pub(super) struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    endpoints: watch::Receiver<Vec<SocketAddr>>,
    tally: Mutex<Tally>,
    turn: AtomicUsize,
    enough: AtomicBool,
}

impl Load {
    /// Begins with the host `app.example.com` at whatever `endpoints` says. `visitors` take turns.
    pub(super) fn start(endpoints: watch::Receiver<Vec<SocketAddr>>, visitors: &[Visitor]) -> Self {
        let shared = Arc::new(Shared {
            endpoints,
            tally: Mutex::default(),
            turn: AtomicUsize::new(0),
            enough: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        let mut visitors = visitors.iter().cloned().cycle();
        let mut next = || (Arc::clone(&shared), visitors.next().unwrap());
        for _ in 0..KEEPING {
            let (shared, visitor) = next();
            tasks.spawn(async move { shared.browse(&visitor, true).await });
        }
        for _ in 0..ANEW {
            let (shared, visitor) = next();
            tasks.spawn(async move { shared.browse(&visitor, false).await });
        }
        for _ in 0..LONG {
            let (shared, visitor) = next();
            tasks.spawn(async move { shared.wait_long(&visitor).await });
        }
        for _ in 0..TUNNELS {
            let (shared, visitor) = next();
            tasks.spawn(async move { shared.talk(&visitor).await });
        }
        Self { shared, tasks }
    }

    pub(super) fn so_far(&self) -> Tally {
        self.shared.tally.lock().unwrap().clone()
    }

    /// Lets everybody finish what he has begun.
    pub(super) async fn stop(self) -> Tally {
        self.shared.enough.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        self.shared.tally.lock().unwrap().clone()
    }
}

const KEEPING: usize = 8;
const ANEW: usize = 2;
const LONG: usize = 4;
const TUNNELS: usize = 10;
/// Less than `shutdown_grace`, and more than a drain.
pub(super) const LONG_SECONDS: u64 = 20;

impl Shared {
    fn goes_on(&self) -> bool {
        !self.enough.load(Ordering::Relaxed)
    }

    fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally.lock().unwrap());
    }

    fn failed(&self, why: String) {
        self.count(|tally| tally.failures.push(why));
    }

    /// A connection to one of the endpoints, in turn.
    async fn connect(&self) -> Option<(Connection, SocketAddr)> {
        let endpoints = self.endpoints.borrow().clone();
        let Some(&address) = self.turn(&endpoints) else {
            self.failed("nowhere to go: no endpoint is ready".to_owned());
            sleep(PAUSE).await;
            return None;
        };
        match timeout(Duration::from_secs(3), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                self.count(|tally| tally.connections += 1);
                Some((Connection::over(stream), address))
            }
            outcome => {
                self.failed(format!("no connection to {address}: {outcome:?}"));
                sleep(PAUSE).await;
                None
            }
        }
    }

    fn turn<'a>(&self, endpoints: &'a [SocketAddr]) -> Option<&'a SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        endpoints.get(turn.checked_rem(endpoints.len())?)
    }

    /// Asks again and again; over one connection for as long as the gate keeps it, or over a new
    /// one each time.
    async fn browse(&self, visitor: &Visitor, keeps: bool) {
        let request = visitor.asks("/dashboard", if keeps { "" } else { "Connection: close\r\n" });
        while self.goes_on() {
            let Some((mut connection, address)) = self.connect().await else { continue };
            while self.goes_on() {
                let begun = Instant::now();
                connection.send(&request).await;
                let Some(answer) = connection.answer().await else {
                    self.failed(format!("{address} closed instead of answering"));
                    break;
                };
                let with_token = answer.text().contains("\"authorization\":\"Bearer ey");
                if answer.status != 200 || !with_token {
                    self.failed(format!("{address}: {} {}", answer.status, answer.text()));
                }
                self.count(|tally| {
                    tally.requests += 1;
                    tally.slowest = tally.slowest.max(begun.elapsed());
                });
                sleep(PAUSE).await;
                if !keeps || answer.header("connection") == Some("close") {
                    break;
                }
            }
        }
    }

    /// One long answer after the other, each over a connection of its own.
    async fn wait_long(&self, visitor: &Visitor) {
        let target = format!("/slow?seconds={LONG_SECONDS}");
        let request = visitor.asks(&target, "Connection: close\r\n");
        while self.goes_on() {
            let Some((mut connection, address)) = self.connect().await else { continue };
            let begun = Instant::now();
            connection.send(&request).await;
            let whole =
                connection.answer().await.filter(|answer| answer.text().ends_with("done\n"));
            match whole {
                Some(_) => self.count(|tally| {
                    tally.requests += 1;
                    tally.long_answers += 1;
                    tally.longest = tally.longest.max(begun.elapsed());
                }),
                None => self.failed(format!(
                    "{address} broke a long answer off after {:?}",
                    begun.elapsed()
                )),
            }
        }
    }

    /// Keeps a WebSocket open, and opens another where the gate has ended it.
    async fn talk(&self, visitor: &Visitor) {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let request = visitor.asks("/socket", upgrade);
        while self.goes_on() {
            let Some((mut connection, address)) = self.connect().await else { continue };
            let begun = Instant::now();
            connection.send(&request).await;
            let answer = connection.answer().await;
            if answer.as_ref().map(|answer| answer.status) != Some(101) {
                self.failed(format!("{address}: no WebSocket but {answer:?}"));
                sleep(PAUSE).await;
                continue;
            }
            self.count(|tally| {
                tally.requests += 1;
                tally.tunnels += 1;
            });
            while self.goes_on() {
                connection.send(FRAME).await;
                let mut echo = Vec::new();
                while echo.len() < FRAME.len() {
                    match connection.bytes(FRAME.len() - echo.len()).await {
                        bytes if bytes.is_empty() => break,
                        bytes => echo.extend(bytes),
                    }
                }
                if echo.is_empty() {
                    self.count(|tally| tally.tunnels_ended.push(begun.elapsed()));
                    break;
                }
                if echo != FRAME {
                    self.failed(format!("{address}: an echo came back as {echo:?}"));
                }
                self.count(|tally| tally.echoes += 1);
                sleep(BETWEEN_FRAMES).await;
            }
        }
    }
}

impl Visitor {
    pub(super) fn asks(&self, target: &str, more: &str) -> String {
        let cookie = &self.cookie;
        format!("GET {target} HTTP/1.1\r\nHost: app.example.com\r\nCookie: {cookie}\r\n{more}\r\n")
    }
}

const PAUSE: Duration = Duration::from_millis(20);
const BETWEEN_FRAMES: Duration = Duration::from_millis(200);
/// A text of five letters, as a browser sends it (RFC 6455 §5.7).
const FRAME: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
