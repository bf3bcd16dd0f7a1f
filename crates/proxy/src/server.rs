//! Accepts connections, speaks HTTP/1.1 on them, and ends them in good order.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foregate_session::UnixSeconds;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::exchange;
use crate::peer::Connection;
use crate::respond::MALFORMED;
use crate::worker::Worker;

impl Worker {
    /// Serves `listener` until the stop closes it and the last connection has ended.
    pub async fn serve(self, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let worker = Arc::new(self);
        let mut stopping = worker.stopping.clone();
        let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
        let start = |stream: TcpStream, address: SocketAddr| {
            let connection = Connection::new(address.ip());
            let (worker, alive) = (Arc::clone(&worker), alive.clone());
            tokio::spawn(async move {
                serve_connection(worker, connection, stream).await;
                drop(alive);
            });
        };

        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => start(stream, address),
                    Err(error) => {
                        // Out of file handles, most likely: some connection must end first.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = stopping.closing() => break,
            }
        }
        // Whoever was in the queue when the doors closed came in time.
        let listener = listener.into_std()?;
        for _ in 0..QUEUE {
            let Ok((stream, address)) = listener.accept() else { break };
            stream.set_nonblocking(true)?;
            start(TcpStream::from_std(stream)?, address);
        }
        drop(listener);
        drop(alive);
        all_gone.recv().await;
        Ok(())
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn serve_connection(worker: Arc<Worker>, connection: Connection, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let address = connection.address;
    let limits = worker.live.load().limits.clone();
    let mut stopping = worker.stopping.clone();
    let shared = Arc::new((worker, connection));
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            let (worker, connection) = &*shared;
            Ok::<_, Infallible>(exchange::answer(worker, connection, request, now()).await)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER))
        .max_headers(limits.headers)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);

    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopping.closing() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    match ended {
        // hyper has answered with a bare 400, 414 or 431, or with nothing to what is no HTTP.
        Err(error) if error.is_parse() => {
            let reason = MALFORMED;
            tracing::info!(client = %address, decision = "refuse", reason, %error, "request");
        }
        Err(error) => tracing::debug!(client = %address, %error, "a connection broke"),
        Ok(()) => {}
    }
}

/// hyper reads into no buffer smaller than this.
const SMALLEST_BUFFER: usize = 8 * 1024;

/// The clock of a request. A machine whose clock stands before 1970 has every session expire in
/// its future.
fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Opens a listener. A second program on the same address is an error, unless both share the port.
pub fn listen(address: SocketAddr, share: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Else the connections of a gate that just ended keep its successor out for a minute.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    socket.bind(&address.into())?;
    socket.listen(QUEUE)?;
    Ok(socket.into())
}

/// Connections that may wait to be accepted; the kernel may allow fewer.
const QUEUE: i32 = 4096;
