//! WebSockets: the opening handshake over HTTP/1.1 (RFC 6455 §4) and HTTP/2 (RFC 8441), translated
//! where visitor and app speak different versions, and the tunnel behind it. There is no tunnel
//! before the app has said yes to this very handshake.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::record::Tunnel;

/// A visitor asks for a WebSocket.
pub(crate) struct Handshake {
    visitor: OnUpgrade,
    /// `Sec-WebSocket-Key` as the app gets it.
    key: HeaderValue,
    /// The visitor speaks HTTP/2.
    extended: bool,
}

impl Handshake {
    /// What the request asks for; `None` where that is no WebSocket, or not in the way in which
    /// the RFCs have it: such a request goes on without its `Upgrade`.
    pub(crate) fn of<B>(
        request: &mut Request<B>,
        random: impl FnOnce() -> [u8; 32],
    ) -> Option<Self> {
        if is_extended_connect(request.method(), request.extensions()) {
            let key = HeaderValue::from_str(&BASE64.encode(&random()[..16])).ok()?;
            return Some(Self { visitor: hyper::upgrade::on(request), key, extended: true });
        }
        let headers = request.headers();
        let asks = *request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && is_named(headers)
            && names(headers, &header::CONNECTION, "upgrade");
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asks)?.clone();
        Some(Self { visitor: hyper::upgrade::on(request), key, extended: false })
    }

    /// Puts the question into a request to an app that speaks HTTP/1.1.
    pub(crate) fn ask_http1<B>(&self, request: &mut Request<B>) {
        *request.method_mut() = Method::GET;
        request.extensions_mut().remove::<Protocol>();
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        headers.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }

    /// Puts the question into a request to an app that speaks HTTP/2.
    pub(crate) fn ask_http2<B>(&self, request: &mut Request<B>) {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
        let headers = request.headers_mut();
        headers.remove(header::SEC_WEBSOCKET_KEY);
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }

    /// What the app's answer means.
    pub(crate) fn read<B>(&self, answer: &Response<B>, http2: bool) -> Verdict {
        let switched = match http2 {
            true => answer.status().is_success(),
            false => answer.status() == StatusCode::SWITCHING_PROTOCOLS,
        };
        let headers = answer.headers();
        let matches = http2
            || names(headers, &header::UPGRADE, WEBSOCKET)
                && headers.get(header::SEC_WEBSOCKET_ACCEPT) == Some(&accept(&self.key));
        match (switched, matches) {
            (true, true) => Verdict::Switched,
            (true, false) => Verdict::Mismatch,
            // Over HTTP/2 any success would open the tunnel.
            (false, _) if self.extended && answer.status().is_success() => Verdict::Mismatch,
            (false, _) => Verdict::Declined,
        }
    }

    /// Makes of the app's yes the one that the visitor's protocol has.
    pub(crate) fn welcome(&self, headers: &mut HeaderMap) -> StatusCode {
        headers.remove(header::CONTENT_LENGTH);
        if self.extended {
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            return StatusCode::OK;
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept(&self.key));
        StatusCode::SWITCHING_PROTOCOLS
    }

    /// Carries bytes between the two until one of them has had enough, nothing moves for `idle`, or
    /// the session has ended; `tunnel` hears which of them it was. `held` is dropped then.
    pub(crate) fn open(
        self,
        app: OnUpgrade,
        idle: Duration,
        longest: Option<Duration>,
        tunnel: Tunnel,
        held: impl Send + 'static,
    ) {
        tokio::spawn(async move {
            let opened = async { tokio::try_join!(self.visitor, app) };
            let reason = match tokio::time::timeout(idle, opened).await {
                Ok(Ok((visitor, app))) => carry(visitor, app, idle, longest).await,
                Ok(Err(_)) | Err(_) => "unopened",
            };
            tunnel.ended(reason);
            drop(held);
        });
    }
}

/// What an app's answer to a [`Handshake`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Switched,
    /// An ordinary answer.
    Declined,
    /// It switched to something else, or answered somebody else.
    Mismatch,
}

/// Whether this is a CONNECT for a WebSocket (RFC 8441 §4).
pub(crate) fn is_extended_connect(method: &Method, extensions: &http::Extensions) -> bool {
    *method == Method::CONNECT
        && extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

/// Whether the request names a WebSocket among the protocols that it would like. It counts as one
/// for the cross-site check, even where its handshake is not complete.
pub(crate) fn is_named(headers: &HeaderMap) -> bool {
    names(headers, &header::UPGRADE, WEBSOCKET)
}

const WEBSOCKET: &str = "websocket";

/// Whether a header that is a list has this word.
fn names(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// `Sec-WebSocket-Accept` (RFC 6455 §4.2.2).
fn accept(key: &HeaderValue) -> HeaderValue {
    let digest = Sha1::new_with_prefix(key.as_bytes()).chain_update(GUID).finalize();
    HeaderValue::from_str(&BASE64.encode(digest)).unwrap_or(HeaderValue::from_static(""))
}

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

async fn carry(
    visitor: Upgraded,
    app: Upgraded,
    idle: Duration,
    longest: Option<Duration>,
) -> &'static str {
    let (from_visitor, to_visitor) = tokio::io::split(TokioIo::new(visitor));
    let (from_app, to_app) = tokio::io::split(TokioIo::new(app));
    let moved = AtomicUsize::new(0);
    let both = async {
        tokio::try_join!(pump(from_visitor, to_app, &moved), pump(from_app, to_visitor, &moved))
    };
    let stands_still = async {
        let mut before = moved.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(idle).await;
            let after = moved.load(Ordering::Relaxed);
            if before == after {
                return;
            }
            before = after;
        }
    };
    let session_ends = async {
        match longest {
            Some(longest) => tokio::time::sleep(longest).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = both => if ended.is_ok() { "closed" } else { "broken" },
        () = stands_still => "idle",
        () = session_ends => "session_ended",
    }
}

/// One direction, to its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicUsize,
) -> std::io::Result<()> {
    let mut buffer = vec![0; PUMP_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        moved.fetch_add(1, Ordering::Relaxed);
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        moved.fetch_add(1, Ordering::Relaxed);
    }
}

const PUMP_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in lines {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request
    }

    /// The key and its answer of RFC 6455 §1.3.
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

    #[test]
    fn only_the_handshake_of_the_rfc_is_one() {
        let check = |method: Method, lines: &[(&'static str, &'static str)], expected: bool| {
            let mut request = request(lines);
            *request.method_mut() = method;
            assert_eq!(Handshake::of(&mut request, || [0; 32]).is_some(), expected, "{lines:?}");
        };
        let upgrade = ("upgrade", "WebSocket");
        let connection = ("connection", "keep-alive, Upgrade");
        check(Method::GET, &[upgrade, connection, KEY], true);
        check(Method::GET, &[("upgrade", "h2c, websocket"), connection, KEY], true);
        check(Method::POST, &[upgrade, connection, KEY], false);
        check(Method::GET, &[upgrade, connection], false);
        check(Method::GET, &[upgrade, KEY], false);
        check(Method::GET, &[("upgrade", "h2c"), connection, KEY], false);
        check(Method::CONNECT, &[], false);
        check(Method::CONNECT, &[upgrade, connection, KEY], false);
    }

    #[test]
    fn a_tunnel_needs_the_answer_to_this_very_key() {
        let lines = [("upgrade", "websocket"), ("connection", "upgrade"), KEY];
        let handshake = Handshake::of(&mut request(&lines), || [0; 32]).unwrap();
        let check = |status: u16, lines: &[(&'static str, &'static str)], expected: Verdict| {
            let mut answer = Response::new(());
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            *answer.headers_mut() = request(lines).headers().clone();
            assert_eq!(handshake.read(&answer, false), expected, "{status} {lines:?}");
        };
        let upgrade = ("upgrade", "websocket");
        check(101, &[upgrade, ACCEPT], Verdict::Switched);
        check(101, &[upgrade], Verdict::Mismatch);
        check(101, &[("upgrade", "h2c"), ACCEPT], Verdict::Mismatch);
        check(101, &[upgrade, ("sec-websocket-accept", "AAAA")], Verdict::Mismatch);
        check(200, &[upgrade, ACCEPT], Verdict::Declined);
        check(403, &[], Verdict::Declined);
    }

    #[test]
    fn over_http2_no_other_success_opens_the_tunnel() {
        let mut asked = request(&[]);
        *asked.method_mut() = Method::CONNECT;
        asked.extensions_mut().insert(Protocol::from_static("websocket"));
        let handshake = Handshake::of(&mut asked, || [7; 32]).unwrap();
        let mut answer = Response::new(());
        assert_eq!(handshake.read(&answer, false), Verdict::Mismatch);
        assert_eq!(handshake.read(&answer, true), Verdict::Switched);
        *answer.status_mut() = StatusCode::FORBIDDEN;
        assert_eq!(handshake.read(&answer, false), Verdict::Declined);
        let mut headers = request(&[ACCEPT, ("sec-websocket-protocol", "chat")]).headers().clone();
        assert_eq!(handshake.welcome(&mut headers), StatusCode::OK);
        assert_eq!(headers.len(), 1);
    }
}
