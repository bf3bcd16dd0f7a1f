//! Connections to the apps: kept alive, one pool per worker, so no worker waits for another. An
//! HTTP/1.1 connection is used again only after both messages on it ended; an HTTP/2 connection is
//! shared.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foregate_config::{Endpoint, Protocol, Upstream};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::AbortHandle;

use crate::capacity::{Capacity, Place};
use crate::stream::Stream;
use crate::upstream::body::{Progress, Upload};
use crate::upstream::connect::{Connector, Offer};

/// What one worker has of connections to apps, and knows of the apps' health. The lock is the
/// worker's own and never contended.
#[derive(Default)]
pub(crate) struct Pool {
    slots: Mutex<HashMap<Arc<Upstream>, Slot>>,
    /// Whose turn it is where an app has several upstreams.
    turn: AtomicUsize,
}

#[derive(Default)]
struct Slot {
    idle: Vec<Idle>,
    shared: Vec<Http2>,
    health: Health,
}

struct Idle {
    http1: Http1,
    since: Instant,
}

/// An HTTP/1.1 connection. It closes when this is dropped: hyper's own would go on writing what
/// the app does not read.
pub(crate) struct Http1 {
    sender: http1::SendRequest<Upload>,
    connection: AbortHandle,
    _place: Place,
}

impl Drop for Http1 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// An HTTP/2 connection. Every request on it holds a copy of this to its end.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: http2::SendRequest<Upload>,
    holders: Arc<()>,
}

impl Http2 {
    fn requests(&self) -> usize {
        // One holder is the pool.
        Arc::strong_count(&self.holders) - 1
    }
}

/// Passive: only requests tell.
#[derive(Default)]
struct Health {
    failures: u32,
    ejected_until: Option<Instant>,
}

/// A connection, ready for a request.
pub(crate) enum Sender {
    Http1(Http1),
    Http2(Http2),
}

impl Sender {
    pub(crate) async fn try_send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match self {
            Self::Http1(http1) => http1.sender.try_send_request(request).await,
            Self::Http2(http2) => http2.sender.try_send_request(request).await,
        }
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }
}

/// Why there is no new connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoConnection {
    #[error("no place is left for another connection to an app")]
    NoPlace,
    #[error(transparent)]
    Unreachable(#[from] io::Error),
}

/// How a request wants to travel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// It does no harm twice.
    pub(crate) repeatable: bool,
    /// It asks for a WebSocket: the connection becomes its own.
    pub(crate) websocket: bool,
}

impl Pool {
    /// The upstreams of an app in the order in which to try them: those whose turn it is first,
    /// and last those that failed a moment ago. An app's only upstream is always tried.
    pub(crate) fn in_turn<'u>(&self, upstreams: &'u [Arc<Upstream>]) -> Cow<'u, [Arc<Upstream>]> {
        if upstreams.len() < 2 {
            return Cow::Borrowed(upstreams);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % upstreams.len();
        let (later, sooner) = upstreams.split_at(turn);
        let mut order: Vec<_> = sooner.iter().chain(later).cloned().collect();
        let (slots, now) = (self.lock(), Instant::now());
        order.sort_by_key(|upstream| {
            slots.get(upstream).is_some_and(|slot| slot.health.is_ejected(now))
        });
        Cow::Owned(order)
    }

    /// Takes down how a request fared. A refused connection ejects at once, other failures when
    /// they come in a row. Says whether this one did.
    pub(crate) fn report(&self, upstream: &Arc<Upstream>, outcome: Fared) -> bool {
        let (mut slots, now) = (self.lock(), Instant::now());
        let slot = match outcome {
            Fared::Well => slots.get_mut(upstream),
            Fared::Refused | Fared::Badly => Some(slots.entry(Arc::clone(upstream)).or_default()),
        };
        let Some(Slot { health, .. }) = slot else { return false };
        let was_ejected = health.is_ejected(now);
        health.report(outcome, now);
        !was_ejected && health.is_ejected(now)
    }

    /// A connection that was used before and still stands. One that a careful server may be about
    /// to close is passed over when the request could not be sent twice.
    pub(crate) fn take(&self, upstream: &Upstream, need: Need) -> Option<Sender> {
        let mut slots = self.lock();
        let slot = slots.get_mut(upstream)?;
        // Of those that many requests at once made, one is enough when they are gone.
        let mut spare = true;
        slot.shared.retain(|shared| {
            !shared.sender.is_closed() && (shared.requests() > 0 || std::mem::take(&mut spare))
        });
        if !need.websocket || upstream.protocol == Protocol::H2c {
            let has_room = |shared: &&Http2| shared.requests() < STREAMS;
            if let Some(shared) = slot.shared.iter().find(has_room) {
                return Some(Sender::Http2(shared.clone()));
            }
        }
        if need.websocket {
            return None;
        }
        let longest = if need.repeatable { IDLE_LIFE } else { IDLE_LIFE_UNREPEATABLE };
        let usable = |idle: &Idle| idle.http1.sender.is_ready() && idle.since.elapsed() < longest;
        if let Some(newest) = slot.idle.iter().rposition(usable) {
            return Some(Sender::Http1(slot.idle.swap_remove(newest).http1));
        }
        slot.idle.retain(|idle| !idle.http1.sender.is_closed() && idle.since.elapsed() < IDLE_LIFE);
        None
    }

    /// A new connection. One that can be shared is, from now on.
    pub(crate) async fn connect(
        &self,
        connector: &Connector,
        capacity: &Capacity,
        upstream: &Arc<Upstream>,
        need: Need,
    ) -> Result<Sender, NoConnection> {
        let place = capacity.try_enter_app().or_else(|| {
            // What idles for one app makes room for another.
            self.lock().values_mut().for_each(|slot| slot.idle.clear());
            capacity.try_enter_app()
        });
        let place = place.ok_or(NoConnection::NoPlace)?;
        let (stream, http2) = open(connector, upstream, need).await?;
        if !http2 {
            return Ok(Sender::Http1(http1(stream, place).await?));
        }
        let sender = handshake_http2(stream, place).await?;
        let http2 = Http2 { sender, holders: Arc::default() };
        let mut slots = self.lock();
        slots.entry(Arc::clone(upstream)).or_default().shared.push(http2.clone());
        Ok(Sender::Http2(http2))
    }

    fn put(&self, upstream: &Arc<Upstream>, http1: Http1) {
        let entry = Idle { http1, since: Instant::now() };
        let mut slots = self.lock();
        match slots.get_mut(upstream) {
            Some(slot) if slot.idle.len() >= IDLE_PER_UPSTREAM => {}
            Some(slot) => slot.idle.push(entry),
            None => slots.entry(Arc::clone(upstream)).or_default().idle.push(entry),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Upstream>, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a request, as far as the upstream's health is concerned. An answer is an answer,
/// whatever its status: a 500 may be this one visitor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fared {
    Well,
    /// It takes no connections.
    Refused,
    /// It broke off, or kept silent.
    Badly,
}

impl Health {
    fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    fn report(&mut self, outcome: Fared, now: Instant) {
        match outcome {
            Fared::Well => *self = Self::default(),
            Fared::Refused => self.failures = self.failures.max(FAILURES_IN_A_ROW - 1) + 1,
            Fared::Badly => self.failures += 1,
        }
        if self.failures >= FAILURES_IN_A_ROW {
            let doubled = (self.failures - FAILURES_IN_A_ROW).min(MOST_DOUBLINGS);
            self.ejected_until = Some(now + EJECTED * (1 << doubled));
        }
    }
}

async fn open(
    connector: &Connector,
    upstream: &Upstream,
    need: Need,
) -> io::Result<(Stream, bool)> {
    match (&upstream.endpoint, upstream.protocol) {
        (Endpoint::Tcp { host, port }, Protocol::Https) => {
            // Few servers take WebSockets over HTTP/2, and none says so in ALPN.
            let offer = if need.websocket { Offer::Http1 } else { Offer::Http2OrHttp1 };
            connector.tls(host, *port, upstream.authority_roots.as_ref(), offer).await
        }
        (Endpoint::Tcp { host, port }, protocol) => {
            Ok((connector.tcp(host, *port).await?, protocol == Protocol::H2c))
        }
        (Endpoint::Unix(path), protocol) => {
            Ok((connector.unix(path).await?, protocol == Protocol::H2c))
        }
    }
}

async fn http1(stream: Stream, place: Place) -> io::Result<Http1> {
    let (sender, connection) = http1::Builder::new()
        .max_headers(HEADERS)
        .max_buf_size(HEADER_LIST as usize)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let connection = tokio::spawn(async move {
        // Its end shows in the sender, where somebody waits for it.
        let _ = connection.with_upgrades().await;
    });
    Ok(Http1 { sender, connection: connection.abort_handle(), _place: place })
}

async fn handshake_http2(stream: Stream, place: Place) -> io::Result<http2::SendRequest<Upload>> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_LIST)
        .max_send_buf_size(SEND_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move {
        let _ = connection.await;
        drop(place);
    });
    Ok(sender)
}

/// A connection on loan to one exchange.
pub(crate) struct Lease {
    pub(crate) pool: Arc<Pool>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) sender: Sender,
    pub(crate) upload: Arc<Progress>,
}

impl Lease {
    /// The answer has ended. One that came before the request's body ended leaves an HTTP/1.1
    /// connection in the middle of a message: it is closed.
    pub(crate) fn give_back(self) {
        match self.sender {
            Sender::Http1(http1) if self.upload.has_ended() => self.pool.put(&self.upstream, http1),
            Sender::Http1(_) | Sender::Http2(_) => {}
        }
    }
}

const IDLE_PER_UPSTREAM: usize = 64;
/// Requests at once on an HTTP/2 connection, before another is opened: as many as every server
/// should take (RFC 9113 §6.5.2). What one takes no more would wait for streams that may never end.
const STREAMS: usize = 100;
const IDLE_LIFE: Duration = Duration::from_secs(60);
/// Node.js closes idle connections after 5 s; a POST that meets this moment is lost.
const IDLE_LIFE_UNREPEATABLE: Duration = Duration::from_secs(4);
/// Of an app's answer over HTTP/1.1. Beyond hyper's own 100 an answer costs two allocations, which
/// is less than what an app costs that sets a cookie in many pieces and gets a 502.
const HEADERS: usize = 256;
/// Of the head of an app's answer, in bytes; over HTTP/1.1 of all that is read ahead, too.
const HEADER_LIST: u32 = 256 * 1024;
/// What may wait to be sent on one stream, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
const FAILURES_IN_A_ROW: u32 = 3;
/// How long an upstream is passed over at first; doubled as long as it goes on failing.
const EJECTED: Duration = Duration::from_secs(5);
const MOST_DOUBLINGS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(count: u16) -> Vec<Arc<Upstream>> {
        let upstream = |port| {
            let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port };
            Arc::new(Upstream { protocol: Protocol::Http, endpoint, authority_roots: None })
        };
        (1..=count).map(upstream).collect()
    }

    fn firsts(pool: &Pool, upstreams: &[Arc<Upstream>], count: usize) -> Vec<usize> {
        let first = |_| {
            let first = &pool.in_turn(upstreams)[0];
            upstreams.iter().position(|upstream| upstream == first).unwrap()
        };
        (0..count).map(first).collect()
    }

    #[test]
    fn every_upstream_has_its_turn() {
        let (pool, upstreams) = (Pool::default(), upstreams(3));
        assert_eq!(firsts(&pool, &upstreams, 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(pool.in_turn(&upstreams).len(), 3);
    }

    #[test]
    fn what_takes_no_connections_is_tried_last_until_it_answers() {
        let (pool, upstreams) = (Pool::default(), upstreams(2));
        assert!(pool.report(&upstreams[0], Fared::Refused));
        assert!(!pool.report(&upstreams[0], Fared::Refused), "it is ejected already");
        assert_eq!(firsts(&pool, &upstreams, 4), [1, 1, 1, 1]);
        assert_eq!(pool.in_turn(&upstreams).len(), 2, "it is still there if the other one fails");
        pool.report(&upstreams[0], Fared::Well);
        assert!(firsts(&pool, &upstreams, 2).contains(&0), "it has its turn again");
    }

    #[test]
    fn one_broken_answer_ejects_nobody_and_three_in_a_row_do() {
        let (pool, upstreams) = (Pool::default(), upstreams(2));
        pool.report(&upstreams[0], Fared::Badly);
        pool.report(&upstreams[0], Fared::Badly);
        pool.report(&upstreams[0], Fared::Well);
        pool.report(&upstreams[0], Fared::Badly);
        assert_eq!(firsts(&pool, &upstreams, 2), [0, 1]);
        pool.report(&upstreams[0], Fared::Badly);
        pool.report(&upstreams[0], Fared::Badly);
        assert_eq!(firsts(&pool, &upstreams, 2), [1, 1]);
    }

    #[test]
    fn an_ejection_ends_and_lasts_longer_each_time() {
        let mut health = Health::default();
        let start = Instant::now();
        let lasts =
            |health: &Health, seconds| health.is_ejected(start + Duration::from_secs(seconds));
        health.report(Fared::Refused, start);
        assert!(lasts(&health, 4) && !lasts(&health, 5));
        health.report(Fared::Refused, start);
        assert!(lasts(&health, 9) && !lasts(&health, 10));
        for _ in 0..50 {
            health.report(Fared::Refused, start);
        }
        assert!(lasts(&health, 39) && !lasts(&health, 40));
    }

    #[test]
    fn an_apps_only_upstream_is_never_passed_over() {
        let (pool, upstreams) = (Pool::default(), upstreams(1));
        pool.report(&upstreams[0], Fared::Refused);
        assert_eq!(pool.in_turn(&upstreams), upstreams);
    }

    #[tokio::test]
    async fn connections_to_apps_have_places_and_idle_ones_make_room() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = Endpoint::Tcp {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let protocol = Protocol::Http;
        let upstream = Arc::new(Upstream { protocol, endpoint, authority_roots: None });
        let (pool, connector) = (Pool::default(), Connector::default());
        let (capacity, need) = (Capacity::new(1, 1), Need { repeatable: true, websocket: false });
        let connect = || pool.connect(&connector, &capacity, &upstream, need);

        let Ok(Sender::Http1(first)) = connect().await else { panic!("the first has a place") };
        let refused = connect().await.err().map(|error| error.to_string());
        assert_eq!(refused.as_deref(), Some("no place is left for another connection to an app"));
        pool.put(&upstream, first);
        let second = connect().await;
        assert!(second.is_ok(), "what idled gave its place up");
        assert!(matches!(connect().await, Err(NoConnection::NoPlace)));
        assert!(pool.take(&upstream, need).is_none());
        drop(second);
        assert!(connect().await.is_ok(), "a place is free again");
    }
}
