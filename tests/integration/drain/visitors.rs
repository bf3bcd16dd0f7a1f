//! Visitors who ask without a pause and keep to the rules: whoever is told that the connection
//! closes, or finds that nothing was sent, comes back on another one. Everything else that is not
//! the whole answer counts as a failed request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use foregate_tests::{Answer, Connection};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What all of them ask for, and how it is answered.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) gate: SocketAddr,
    /// With `app.example.com` in front.
    pub(crate) path: &'static str,
    pub(crate) cookie: Option<String>,
    /// What the body of every answer holds; anything else is a failure.
    pub(crate) expected: &'static str,
}

/// Visitors on their way.
pub(crate) struct Visitors {
    running: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answered: AtomicU64,
    enough: AtomicBool,
    failures: std::sync::Mutex<Vec<String>>,
    /// A door that is shut for good is no failure, but the end of a visit.
    may_be_shut: AtomicBool,
}

impl Visitors {
    /// `http1` and `http2` of them, each with one connection at a time.
    pub(crate) fn come(wish: &Wish, http1: usize, http2: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let mut running = JoinSet::new();
        for _ in 0..http1 {
            running.spawn(visit_http1(wish.clone(), Arc::clone(&shared)));
        }
        for _ in 0..http2 {
            running.spawn(visit_http2(wish.clone(), Arc::clone(&shared)));
        }
        Self { running, shared }
    }

    /// How many requests were answered as they should be.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more have been answered.
    pub(crate) async fn answered_more(&self, count: u64) {
        let goal = self.answered() + count;
        let more = async {
            while self.answered() < goal && self.shared.failures.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, more).await.expect("visitors are served");
        assert_eq!(*self.shared.failures.lock().unwrap(), [""; 0]);
    }

    /// From here on, nobody listening is the end of a visit.
    pub(crate) fn may_find_it_shut(&self) {
        self.shared.may_be_shut.store(true, Ordering::Relaxed);
    }

    /// Lets them finish; how many were answered. Panics if any request failed.
    pub(crate) async fn leave(mut self) -> u64 {
        self.shared.enough.store(true, Ordering::Relaxed);
        self.gone().await
    }

    /// Waits until they found the door shut.
    pub(crate) async fn gone(&mut self) -> u64 {
        let all = async { while self.running.join_next().await.transpose().unwrap().is_some() {} };
        timeout(PATIENCE, all).await.expect("visitors come to an end");
        assert_eq!(*self.shared.failures.lock().unwrap(), [""; 0]);
        self.answered()
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Shared {
    fn goes_on(&self) -> bool {
        !self.enough.load(Ordering::Relaxed)
    }

    fn failed(&self, why: String) {
        self.failures.lock().unwrap().push(why);
        self.enough.store(true, Ordering::Relaxed);
    }

    fn judge(&self, wish: &Wish, status: u16, body: &str) {
        if status == 200 && body.contains(wish.expected) {
            self.answered.fetch_add(1, Ordering::Relaxed);
        } else {
            self.failed(format!("{status}: {body}"));
        }
    }

    async fn connect(&self, gate: SocketAddr) -> Option<TcpStream> {
        match TcpStream::connect(gate).await {
            Ok(stream) => Some(stream),
            Err(_) if self.may_be_shut.load(Ordering::Relaxed) => None,
            Err(error) => {
                self.failed(format!("nobody listens: {error}"));
                None
            }
        }
    }
}

async fn visit_http1(wish: Wish, shared: Arc<Shared>) {
    let cookie = wish.cookie.iter().map(|cookie| format!("Cookie: {cookie}\r\n"));
    let head = format!("GET {} HTTP/1.1\r\nHost: app.example.com\r\n", wish.path);
    let request = format!("{head}{}\r\n", cookie.collect::<String>());
    let mut connection: Option<Connection> = None;
    while shared.goes_on() {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match shared.connect(wish.gate).await {
                Some(stream) => Connection::over(stream),
                None => return,
            },
        };
        open.send(&request).await;
        let Some(answer) = open.answer().await else {
            return shared.failed("HTTP/1.1: closed without an answer".to_owned());
        };
        shared.judge(&wish, answer.status, &answer.text());
        if !closes(&answer) {
            connection = Some(open);
        }
    }
}

fn closes(answer: &Answer) -> bool {
    answer.header("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"))
}

async fn visit_http2(wish: Wish, shared: Arc<Shared>) {
    let mut sender: Option<SendRequest<Empty<Bytes>>> = None;
    while shared.goes_on() {
        // After GOAWAY nothing can be sent here.
        let is_open = match &mut sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let Some(stream) = shared.connect(wish.gate).await else { return };
            let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let Ok((opened, connection)) = opened else { continue };
            tokio::spawn(connection);
            sender = Some(opened);
        }
        let Some(open) = &mut sender else { continue };
        let mut request = http::Request::get(format!("http://app.example.com{}", wish.path));
        if let Some(cookie) = &wish.cookie {
            request = request.header("cookie", cookie);
        }
        match open.send_request(request.body(Empty::new()).unwrap()).await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                match answer.into_body().collect().await {
                    Ok(body) => {
                        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                        shared.judge(&wish, status, &body);
                    }
                    Err(error) => shared.failed(format!("HTTP/2: half an answer: {error:?}")),
                }
            }
            // It was never sent.
            Err(error) if error.is_canceled() || error.is_closed() => sender = None,
            Err(error) => shared.failed(format!("HTTP/2: {error:?}")),
        }
    }
}
