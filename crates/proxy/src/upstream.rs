//! Connections to the apps: kept alive, one pool per worker, so no worker waits for another.
//! A connection is used again only after both messages on it ended.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foregate_config::Upstream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::connect::Connector;

/// The idle connections of one worker. The lock is the worker's own and never contended.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Upstream, Vec<Idle>>>,
}

struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

impl Pool {
    /// A connection that was used before and still stands. One that a careful server may be about
    /// to close is passed over when the request could not be sent twice.
    pub(crate) fn take(
        &self,
        upstream: &Upstream,
        repeatable: bool,
    ) -> Option<SendRequest<Upload>> {
        let longest = if repeatable { IDLE_LIFE } else { IDLE_LIFE_UNREPEATABLE };
        let mut idle = self.lock();
        let waiting = idle.get_mut(upstream)?;
        let usable = |idle: &Idle| idle.sender.is_ready() && idle.since.elapsed() < longest;
        if let Some(newest) = waiting.iter().rposition(usable) {
            return Some(waiting.swap_remove(newest).sender);
        }
        waiting.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_LIFE);
        None
    }

    fn put(&self, upstream: &Upstream, sender: SendRequest<Upload>) {
        let entry = Idle { sender, since: Instant::now() };
        let mut idle = self.lock();
        match idle.get_mut(upstream) {
            Some(waiting) if waiting.len() >= IDLE_PER_UPSTREAM => {}
            Some(waiting) => waiting.push(entry),
            None => {
                idle.insert(upstream.clone(), vec![entry]);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Upstream, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new connection, ready for its first request.
pub(crate) async fn connect(
    connector: &Connector,
    upstream: &Upstream,
) -> std::io::Result<SendRequest<Upload>> {
    let stream = connector.connect(upstream.tls, &upstream.host, upstream.port).await?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(async move {
        // Its end shows in the sender, where somebody waits for it.
        let _ = connection.await;
    });
    Ok(sender)
}

/// The body that goes to the app.
pub(crate) struct Upload {
    body: Option<Incoming>,
    progress: Arc<Progress>,
}

/// How far a body has come on its way to the app.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

impl Progress {
    const ENDED: u8 = 1;
    const BROKEN: u8 = 2;

    /// Its end has been handed on.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::ENDED
    }

    /// The visitor broke it off, or framed it wrongly.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::BROKEN
    }
}

impl Upload {
    /// The visitor's body, which may be none.
    pub(crate) fn new(body: Incoming) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self { body: Some(body), progress: Arc::default() }
    }

    pub(crate) fn empty() -> Self {
        let progress = Progress(AtomicU8::new(Progress::ENDED));
        Self { body: None, progress: Arc::new(progress) }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        match &frame {
            Some(Err(_)) => this.progress.0.store(Progress::BROKEN, Ordering::Relaxed),
            Some(Ok(_)) if !body.is_end_stream() => {}
            Some(Ok(_)) | None => this.progress.0.store(Progress::ENDED, Ordering::Relaxed),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The body that comes from the app. Whoever reads it to the end gives the connection back; whoever
/// drops it early closes the connection, and with it the app's work.
pub(crate) struct Download {
    body: Incoming,
    lease: Option<Lease>,
}

/// A connection on loan to one exchange.
pub(crate) struct Lease {
    pub(crate) pool: Arc<Pool>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) sender: SendRequest<Upload>,
    pub(crate) upload: Arc<Progress>,
}

impl Download {
    pub(crate) fn new(body: Incoming, lease: Lease) -> Self {
        let mut download = Self { body, lease: Some(lease) };
        download.return_if_ended();
        download
    }

    fn return_if_ended(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        let Some(Lease { pool, upstream, sender, upload }) = self.lease.take() else { return };
        // An answer that came before the request's body ended leaves a connection in the middle
        // of a message: it is closed.
        if upload.has_ended() {
            pool.put(&upstream, sender);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            None => this.give_back(),
            Some(Ok(_)) => this.return_if_ended(),
            Some(Err(_)) => this.lease = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

const IDLE_PER_UPSTREAM: usize = 64;
const IDLE_LIFE: Duration = Duration::from_secs(60);
/// Node.js closes idle connections after 5 s; a POST that meets this moment is lost.
const IDLE_LIFE_UNREPEATABLE: Duration = Duration::from_secs(4);
