//! Accepts connections, finds out which HTTP they speak, and ends them in good order.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use foregate_config::Limits;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::answers::respond::MALFORMED;
use crate::capacity::Place;
use crate::clock::now;
use crate::exchange;
use crate::listening::frames::PREFACE;
use crate::listening::listener::{Door, Listeners};
use crate::listening::pace::{FAREWELL, Paced, Patience};
use crate::listening::standstill::Streams;
use crate::listening::stop::Stopping;
use crate::listening::tls;
use crate::metrics::Decision;
use crate::peer::{Address, Connection};
use crate::record::TARGET;
use crate::stream::Stream;
use crate::upstream::body::AnswerBody;
use crate::visitor::{Alive, Visitor};
use crate::worker::Worker;

impl Worker {
    /// Serves `listeners` until the stop closes them and the last connection has ended.
    pub async fn serve(self, listeners: Listeners) -> io::Result<()> {
        let worker = Arc::new(self);
        let (alive, mut all_gone) = mpsc::channel(1);
        let mut doors = JoinSet::new();
        for door in listeners.into_doors()? {
            doors.spawn(Arc::clone(&worker).keep(door, alive.clone()));
        }
        drop(alive);
        doors.join_all().await;
        all_gone.recv().await;
        Ok(())
    }

    /// Lets visitors in through one door until it closes.
    async fn keep(self: Arc<Self>, door: Door, alive: Alive) {
        let mut stopping = self.stopping.clone();
        loop {
            let accepted = tokio::select! {
                accepted = door.accept() => accepted,
                () = stopping.closing() => break,
            };
            match accepted {
                Ok((stream, address)) => {
                    let place = match self.capacity.try_enter() {
                        Some(place) => Some(place),
                        None => {
                            tracing::warn!("no place is left for another connection");
                            self.live.metrics.listener(door.tls.is_some()).delayed.add();
                            tokio::select! {
                                place = self.capacity.enter() => place,
                                () = stopping.closing() => None,
                            }
                        }
                    };
                    self.start(door.tls.as_ref(), stream, address, place, &alive);
                }
                Err(error) => {
                    // Out of file handles, most likely: some connection must end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Whoever was in the queue when the door closed came in time.
        let tls = door.tls.clone();
        match door.close() {
            Ok(waiting) => {
                for (stream, address) in waiting {
                    self.start(tls.as_ref(), stream, address, self.capacity.try_enter(), &alive);
                }
            }
            Err(error) => tracing::warn!(%error, "whoever waited at the door is lost"),
        }
    }

    fn start(
        self: &Arc<Self>,
        tls: Option<&TlsAcceptor>,
        stream: Stream,
        address: Address,
        place: Option<Place>,
        alive: &Alive,
    ) {
        self.live.metrics.listener(tls.is_some()).accepted.add();
        let connection = Connection::new(address, tls.is_some());
        let visitor = Visitor::new(Arc::clone(self), connection, place, alive.clone());
        tokio::spawn(serve_connection(visitor, stream, tls.cloned()));
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn serve_connection(mut visitor: Visitor, stream: Stream, tls: Option<TlsAcceptor>) {
    let limits = visitor.worker.live.load().limits.clone();
    let address = visitor.connection.address;
    let mut stopping = visitor.worker.stopping.clone();
    let in_time = async {
        tokio::select! {
            () = tokio::time::sleep(limits.header_timeout) => {}
            () = async { stopping.closing().await; tokio::time::sleep(FAREWELL).await } => {}
        }
    };
    let opened = tokio::select! {
        opened = open(&mut visitor, stream, tls) => opened,
        () = in_time => Err(io::ErrorKind::TimedOut.into()),
    };
    let (stream, begun, http2) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            visitor.worker.live.metrics.listener(visitor.connection.secure).unopened(&error);
            tracing::debug!(client = %address, %error, "a connection ended before it began");
            return;
        }
    };
    let worker = Arc::clone(&visitor.worker);
    visitor.speaks(http2);
    let patience = Patience { head: limits.header_timeout, idle: limits.idle_timeout };
    let pace = Arc::clone(&visitor.pace);
    let stream = TokioIo::new(Paced::new(stream, begun, pace, patience, http2));
    let ended = if http2 {
        serve_http2(Arc::new(visitor), stream, &limits, stopping).await
    } else {
        serve_http1(Arc::new(visitor), stream, &limits, stopping).await
    };
    match ended {
        // hyper has answered with a bare 400, 414 or 431, or with nothing to what is no HTTP.
        Err(error) if error.is_parse() => {
            let (decision, reason) = (Decision::Refuse, MALFORMED);
            let status = Some(StatusCode::BAD_REQUEST);
            worker.live.metrics.nobody.count(decision, Some(reason), status);
            let decision = decision.as_str();
            tracing::info!(target: TARGET, decision, reason, %error, client = %address, "request");
        }
        Err(error) => tracing::debug!(client = %address, %error, "a connection broke"),
        Ok(()) => {}
    }
}

/// Comes as far as the first bytes, which tell the protocol; they are handed on.
async fn open(
    visitor: &mut Visitor,
    stream: Stream,
    tls: Option<TlsAcceptor>,
) -> io::Result<(Stream, Vec<u8>, bool)> {
    let mut stream = match (tls, stream) {
        (Some(tls), Stream::Tcp(tcp)) => {
            let secured = tls.accept(tcp).await?;
            let (_, session) = secured.get_ref();
            let snapshot = visitor.worker.live.load();
            let certificates = snapshot.tls.as_ref();
            visitor.certificate = certificates.map(|tls| tls.choose(session.server_name()).clone());
            let http2 = session.alpn_protocol() == Some(tls::HTTP2);
            let stream = Stream::Tls(Box::new(TlsStream::Server(secured)));
            return Ok((stream, Vec::new(), http2));
        }
        (_, stream) => stream,
    };
    let mut begun = Vec::with_capacity(PREFACE.len());
    while begun.len() < PREFACE.len() && PREFACE.starts_with(&begun) {
        if stream.read_buf(&mut begun).await? == 0 {
            break;
        }
    }
    let http2 = begun == PREFACE;
    Ok((stream, begun, http2))
}

type Bytes = TokioIo<Paced<Stream>>;

async fn serve_http1(
    visitor: Arc<Visitor>,
    stream: Bytes,
    limits: &Limits,
    mut stopping: Stopping,
) -> hyper::Result<()> {
    let pace = Arc::clone(&visitor.pace);
    let service = service_fn(move |request| serve(Arc::clone(&visitor), request));
    let serving = http1::Builder::new()
        .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER))
        .max_headers(limits.headers)
        .serve_connection(stream, service)
        .with_upgrades();
    let mut serving = pin!(serving);
    tokio::select! {
        // What came before the end is read before it: hyper closes a connection that has not read
        // anything yet.
        biased;
        ended = serving.as_mut() => return ended,
        () = stopping.closing() => {}
    }
    pace.retire();
    serving.as_mut().graceful_shutdown();
    serving.await
}

/// hyper reads into no buffer smaller than this.
const SMALLEST_BUFFER: usize = 8 * 1024;

async fn serve_http2(
    visitor: Arc<Visitor>,
    stream: Bytes,
    limits: &Limits,
    mut stopping: Stopping,
) -> hyper::Result<()> {
    let pace = Arc::clone(&visitor.pace);
    let service = service_fn(move |request| serve(Arc::clone(&visitor), request));
    let serving = http2::Builder::new(Streams { patience: limits.idle_timeout })
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .enable_connect_protocol()
        .serve_connection(stream, service);
    let mut serving = pin!(serving);
    tokio::select! {
        biased;
        ended = serving.as_mut() => return ended,
        () = stopping.closing() => {}
        () = pace.retired() => {}
    }
    pace.retire();
    serving.as_mut().graceful_shutdown();
    serving.await
}

/// Requests at once on one connection: what nginx and Envoy allow, too.
const STREAMS: u32 = 128;
/// What may wait to be sent on one stream, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

async fn serve(
    visitor: Arc<Visitor>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    Ok(exchange::answer(&visitor, request, now()).await)
}
