//! One small HTTP/1.1 server: whole requests in, whole answers out.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// A request, read to its end.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// What follows the `?`, or nothing.
    pub(crate) fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// A header as text; empty where it is absent or not text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The answer, or `None`: the connection closes without one. A [`Rest`] may be among its extensions.
pub(crate) type Answer = Option<Response<Full<Bytes>>>;

/// What is wrong with the end of an answer.
#[derive(Clone, Copy)]
pub(crate) enum Rest {
    /// The connection closes when half of the body was sent.
    Missing,
    /// The body never ends.
    Endless,
}

/// A body, whole unless its [`Rest`] says otherwise.
struct Told {
    left: Bytes,
    rest: Option<Rest>,
}

impl Told {
    async fn new(answer: Response<Full<Bytes>>) -> Response<Self> {
        let (mut head, body) = answer.into_parts();
        let rest = head.extensions.remove::<Rest>();
        // It is all there, so that nothing can go wrong.
        let mut left = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        if let Some(Rest::Missing) = rest {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(left.len()));
            left.truncate(left.len() / 2);
        }
        Response::from_parts(head, Self { left, rest })
    }
}

impl Body for Told {
    type Data = Bytes;
    type Error = HungUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HungUp>>> {
        if !self.left.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.left)))));
        }
        Poll::Ready(match self.rest {
            None => None,
            Some(Rest::Missing) => Some(Err(HungUp)),
            Some(Rest::Endless) => Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 8192])))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            None => SizeHint::with_exact(self.left.len() as u64),
            Some(_) => SizeHint::default(),
        }
    }
}

pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    reply(status, "application/json", body.to_string())
}

pub(crate) fn html(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    reply(status, "text/html; charset=utf-8", body)
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A running server. It and its connections end when this is dropped.
pub(crate) struct Served {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Served {
    /// Listens on `address` (port 0: any) and answers every request with what `handle` makes of it.
    pub(crate) async fn start<H, F>(address: SocketAddr, handle: H) -> io::Result<Self>
    where
        H: Fn(Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::accept(address, move |stream, _| serve_http(stream, handle.clone())).await
    }

    /// Listens on `address` and gives each connection, with its number from 0, to `talk`.
    pub(crate) async fn accept<H, F>(address: SocketAddr, talk: H) -> io::Result<Self>
    where
        H: Fn(TcpStream, usize) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        // The set is dropped with the task, and all connections with the set.
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { continue };
                // An answer must not wait for more of itself (Nagle); failure costs only time.
                let _ = stream.set_nodelay(true);
                connections.spawn(talk(stream, number));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, accepting: accepting.abort_handle() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve_http<H, F>(stream: TcpStream, handle: H)
where
    H: Fn(Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let handle = handle.clone();
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = Limited::new(body, BODY_LIMIT_BYTES).collect().await else {
                return Err(HungUp);
            };
            let call = Call {
                method: head.method,
                uri: head.uri,
                headers: head.headers,
                body: body.to_bytes(),
            };
            Ok(Told::new(handle(call).await.ok_or(HungUp)?).await)
        }
    });
    // A visitor who leaves early, or a service that hung up, ends the connection and no more.
    let _ = hyper::server::conn::http1::Builder::new()
        .max_buf_size(HEAD_LIMIT_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Tells hyper to close the connection without an answer.
#[derive(Debug)]
struct HungUp;

impl std::fmt::Display for HungUp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("hung up on purpose")
    }
}

impl std::error::Error for HungUp {}

const BODY_LIMIT_BYTES: usize = 1 << 20;
/// Enough for a session in four chunks and a Bearer token beside it.
const HEAD_LIMIT_BYTES: usize = 128 << 10;
