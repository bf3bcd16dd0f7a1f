//! An origin for tests that speaks HTTP/2 by prior knowledge. Like [`Origin`](crate::Origin) it
//! answers what it saw; what frames look like on the wire is hyper's.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use crate::origin::Seen;
use crate::served::Served;

/// What the origin does with a request instead of its usual answer.
#[derive(Clone, Debug)]
pub enum H2cAnswer {
    Whole {
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        body: &'static str,
        trailers: Vec<(&'static str, &'static str)>,
    },
    /// Nothing, until the other side resets the stream.
    Hang,
    /// The stream is reset (RFC 9113 §7, `INTERNAL_ERROR`).
    Reset,
}

/// A running origin. It ends when this is dropped.
pub struct H2cOrigin {
    ledger: Arc<Mutex<Ledger>>,
    leaving: watch::Sender<()>,
    served: Served,
}

impl H2cOrigin {
    /// Starts one at `address` (port 0: any).
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (leaving, told) = watch::channel(());
        let served = Served::accept(address, {
            let ledger = Arc::clone(&ledger);
            move |stream, number| {
                lock(&ledger).connections += 1;
                // Only what is said from now on concerns this connection.
                let mut told = told.clone();
                told.mark_unchanged();
                converse(stream, number, Arc::clone(&ledger), told)
            }
        });
        Ok(Self { served: served.await?, leaving, ledger })
    }

    pub fn address(&self) -> SocketAddr {
        self.served.address()
    }

    /// `h2c://` and the address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("h2c://{}", self.address())
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        lock(&self.ledger).connections
    }

    /// All requests so far, in the order in which they were complete. `:authority` and `:scheme`
    /// are the first two headers.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.ledger).seen.clone()
    }

    /// How many requests the other side gave up before they were answered.
    pub fn given_up(&self) -> usize {
        lock(&self.ledger).given_up
    }

    /// From now on requests whose target is `target`, query apart, meet `answer`.
    pub fn script(&self, target: &str, answer: H2cAnswer) {
        lock(&self.ledger).answers.insert(target.to_owned(), answer);
    }

    /// Sends GOAWAY on every connection; what is in flight there is still answered.
    pub fn go_away(&self) {
        self.leaving.send_replace(());
    }
}

#[derive(Default)]
struct Ledger {
    connections: usize,
    seen: Vec<Seen>,
    given_up: usize,
    answers: HashMap<String, H2cAnswer>,
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn converse(
    stream: TcpStream,
    number: usize,
    ledger: Arc<Mutex<Ledger>>,
    mut told: watch::Receiver<()>,
) {
    let begun = Notify::new();
    let service = service_fn(|request| {
        begun.notify_one();
        answer(request, number, Arc::clone(&ledger))
    });
    let serving =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    // Before the first request hyper would close without a GOAWAY.
    let leaving = async {
        begun.notified().await;
        told.changed().await
    };
    tokio::select! {
        // Whoever talks nonsense, or leaves, ends its own connection.
        _ = serving.as_mut() => return,
        _ = leaving => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

type Outgoing = WithTrailers<Full<Bytes>, Ready<Option<Result<HeaderMap, Infallible>>>>;

/// An error resets the stream.
async fn answer(
    request: Request<Incoming>,
    connection: usize,
    ledger: Arc<Mutex<Ledger>>,
) -> Result<Response<Outgoing>, io::Error> {
    // Dropped with this future when the other side resets the stream.
    let mut pending = Pending { ledger: Arc::clone(&ledger), answered: false };
    let seen = read(request, connection).await.map_err(io::Error::other)?;
    let path = seen.target.split('?').next().unwrap_or_default();
    let script = lock(&ledger).answers.get(path).cloned();
    let usual = serde_json::to_string(&seen)?;
    lock(&ledger).seen.push(seen);

    let (status, headers, body, trailers) = match script {
        Some(H2cAnswer::Hang) => std::future::pending().await,
        Some(H2cAnswer::Reset) => {
            pending.answered = true;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(H2cAnswer::Whole { status, headers, body, trailers }) => {
            (status, headers, Bytes::from_static(body.as_bytes()), trailers)
        }
        None => (200, vec![("content-type", "application/json")], Bytes::from(usual), vec![]),
    };
    pending.answered = true;
    let trailers = (!trailers.is_empty()).then(|| Ok(fields(&trailers)));
    let mut response = Response::new(Full::new(body).with_trailers(ready(trailers)));
    *response.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
    *response.headers_mut() = fields(&headers);
    Ok(response)
}

struct Pending {
    ledger: Arc<Mutex<Ledger>>,
    answered: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered {
            lock(&self.ledger).given_up += 1;
        }
    }
}

async fn read(request: Request<Incoming>, connection: usize) -> hyper::Result<Seen> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let mut headers = vec![
        (":authority".to_owned(), head.uri.authority().map_or("", |it| it.as_str()).to_owned()),
        (":scheme".to_owned(), head.uri.scheme_str().unwrap_or_default().to_owned()),
    ];
    headers.extend(texts(&head.headers));
    let body = body.collect().await?;
    let trailers = body.trailers().map(|trailers| texts(trailers).collect());
    let body = body.to_bytes();
    Ok(Seen {
        connection,
        method: head.method.to_string(),
        target: target.to_owned(),
        headers,
        body_length: body.len(),
        body: body.into(),
        trailers: trailers.unwrap_or_default(),
    })
}

fn texts(fields: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    fields.iter().map(move |(name, value)| (name.to_string(), text(value)))
}

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    fields
}
