//! The operator's own listener: `/healthz`, `/readyz`, `/metrics`, and a status page at `/`. It
//! runs beside the visitors' listeners and shares nothing with them, so it answers when they are
//! full. It changes nothing, and shows no secret and nothing of any visitor.

mod exposition;
mod ready;
mod status;

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foregate_config::Listen;
use foregate_refresh::Refresher;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::answers::cache::PRIVATE;
use crate::capacity::Capacity;
use crate::listening::listener::{Door, Listeners};
use crate::listening::stop::Stopping;
use crate::live::Live;
use crate::redeem::HttpEndpoint;
use crate::stream::Stream;

/// What the operator may look at.
pub struct Admin {
    pub live: Arc<Live>,
    pub refresher: Refresher<HttpEndpoint>,
    pub capacity: Capacity,
    pub stopping: Stopping,
    /// The public listeners, each with its key in `[server]`.
    pub listeners: Vec<(&'static str, Listen)>,
}

impl Admin {
    /// Answers whoever asks at `listeners`, until `leaving`: then whoever waits already is the last.
    pub async fn serve(
        self,
        listeners: Listeners,
        leaving: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let admin = Arc::new(self);
        let places = Arc::new(Semaphore::new(PLACES));
        let Some(door) = listeners.into_doors()?.pop() else { return Ok(()) };
        let mut leaving = pin!(leaving);
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = tokio::select! {
                stream = accepted(&door) => stream,
                () = leaving.as_mut() => break,
            };
            admin.start(stream, Some(place));
        }
        for (stream, _) in door.close()? {
            admin.start(stream, None);
        }
        Ok(())
    }

    fn start(self: &Arc<Self>, stream: Stream, place: Option<OwnedSemaphorePermit>) {
        let admin = Arc::clone(self);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = admin.answer(&request);
                async { Ok::<_, Infallible>(answer) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever broke it off has had no answer, and knows.
            let _ = timeout(CONNECTION_TIME, serving).await;
            drop(place);
        });
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
            _ if !is_for_us(request.headers()) => text(
                StatusCode::MISDIRECTED_REQUEST,
                "ask by IP address, as localhost, or by a name without a dot\n".to_owned(),
            ),
            "/readyz" => {
                let (ready, lines) = self.readiness();
                let verbose = request.uri().query().is_some_and(|query| {
                    query.split('&').any(|key| key.split('=').next() == Some("verbose"))
                });
                let verdict = lines.last().cloned().unwrap_or_default();
                let body = if verbose { lines.join("\n") } else { verdict };
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                text(status, body + "\n")
            }
            "/metrics" => answer(StatusCode::OK, exposition::MEDIA_TYPE, self.exposition()),
            "/" => {
                let mut answer = answer(StatusCode::OK, "text/html; charset=utf-8", self.status());
                let policy = HeaderValue::from_static(status::POLICY);
                answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
                answer
            }
            _ => text(StatusCode::NOT_FOUND, "/healthz /readyz /metrics /\n".to_owned()),
        }
    }
}

async fn accepted(door: &Door) -> Stream {
    loop {
        match door.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of the admin listener");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Connections at once, each for one request.
const PLACES: usize = 256;
const HEAD_TIME: Duration = Duration::from_secs(1);
const CONNECTION_TIME: Duration = Duration::from_secs(15);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whether the request names this machine. Somebody else's page could otherwise read all this
/// through the operator's browser, by letting its own name point here (DNS rebinding): so no name
/// counts that the public DNS could hold. A service of Docker Compose has a name without a dot.
fn is_for_us(headers: &HeaderMap) -> bool {
    // Only HTTP/1.0 may leave it out, and no browser speaks that.
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, PRIVATE);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let name = header::HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(name, HeaderValue::from_static("same-origin"));
    answer
}

/// How long something lasts or is ago, for people: its two largest units.
fn lasting(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_counts_that_a_stranger_could_own() {
        let check = |host: &'static str, expected: bool| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            assert_eq!(is_for_us(&headers), expected, "{host}");
        };
        check("127.0.0.1:9901", true);
        check("10.1.2.3", true);
        check("[::1]:9901", true);
        check("[::1]", true);
        check("localhost:9901", true);
        check("gate.localhost:9901", true);
        check("foregate:9901", true);
        check("rebind.attacker.example:9901", false);
        check("127.0.0.1.attacker.example", false);
        check("localhost.attacker.example", false);
        check("attacker.example.:9901", false);
        assert!(is_for_us(&HeaderMap::new()));
    }

    #[test]
    fn a_time_has_its_two_largest_units() {
        let check = |seconds, expected: &str| {
            assert_eq!(lasting(Duration::from_secs(seconds)), expected);
        };
        check(0, "0 s");
        check(59, "59 s");
        check(61, "1 min 1 s");
        check(7_260, "2 h 1 min");
        check(90_000, "1 d 1 h");
    }
}
