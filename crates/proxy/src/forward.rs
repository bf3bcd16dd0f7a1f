//! One granted request, on its way to the app and back. Bodies stream; a request is sent again
//! only where it provably never arrived, or where a second time does no harm.

use std::sync::Arc;

use bytes::Bytes;
use foregate_config::{Snapshot, Upstream};
use foregate_policy::Head;
use foregate_session::CookieView;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use crate::admission::Grant;
use crate::cache;
use crate::connect::Connector;
use crate::headers;
use crate::peer::Peer;
use crate::request;
use crate::respond::{Asker, Failure};
use crate::upstream::{self, Download, Lease, Pool, Progress, Upload};

/// What one worker forwards with.
pub(crate) struct Forwarder<'w> {
    pub(crate) pool: &'w Arc<Pool>,
    pub(crate) connector: &'w Connector,
    pub(crate) snapshot: &'w Snapshot,
}

/// Where a request goes, as the rules saw it.
pub(crate) struct Target {
    /// The canonical path and the cleaned query.
    pub(crate) path_and_query: PathAndQuery,
    /// Host and port as the visitor sent them.
    pub(crate) authority: String,
    /// Who hears of it if the app fails.
    pub(crate) asker: Asker,
}

impl Target {
    /// `None` for what no request line can hold; a canonical path always fits.
    pub(crate) fn of(head: &Head<'_>, asker: Asker) -> Option<Self> {
        let path = head.path().as_str();
        let text = match head.query() {
            None => path.to_owned(),
            Some(query) => [path, "?", query].concat(),
        };
        let path_and_query = PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()?;
        Some(Self { path_and_query, authority: head.authority().to_owned(), asker })
    }
}

impl Forwarder<'_> {
    /// Sends the request and brings back the app's answer, with the cookies that we owe.
    pub(crate) async fn forward(
        &self,
        grant: Grant,
        target: Target,
        peer: &Peer,
        mut parts: Parts,
        body: Incoming,
    ) -> Result<Response<Download>, Failure> {
        let app = &self.snapshot.apps[grant.pass.app()];
        rewrite(&mut parts.headers, self.snapshot, &grant, &target.authority, peer);
        let mut request = Request::new(Upload::new(body));
        *request.method_mut() = parts.method;
        *request.uri_mut() = target.path_and_query.into();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = parts.headers;

        let upstream = &app.upstreams[0];
        let upload = request.body().progress();
        let (answer, sender) = self.send(upstream, request, &upload).await?;
        let (pool, upstream) = (Arc::clone(self.pool), Arc::clone(upstream));
        self.receive(answer, &grant.set_cookies, Lease { pool, upstream, sender, upload })
    }

    /// Sends over an idle connection, or over a new one where none stands. An idle connection may
    /// turn out to be closed: what never left us goes over the next one, and what was not answered
    /// goes once more, over a new one, if a second time does no harm.
    async fn send(
        &self,
        upstream: &Arc<Upstream>,
        mut request: Request<Upload>,
        upload: &Progress,
    ) -> Result<(Response<Incoming>, SendRequest<Upload>), Failure> {
        let repeatable = matches!(*request.method(), Method::GET | Method::HEAD)
            && http_body::Body::is_end_stream(request.body());
        let mut reuse = true;
        loop {
            let idle = if reuse { self.pool.take(upstream, repeatable) } else { None };
            let reused = idle.is_some();
            let mut sender = match idle {
                Some(sender) => sender,
                None => self.connect(upstream).await?,
            };
            let spare = (reused && repeatable).then(|| copy(&request));
            let sending = sender.try_send_request(request);
            let mut error = match self.in_time(sending, upload).await? {
                Ok(answer) => return Ok((answer, sender)),
                Err(error) => error,
            };
            request = match (error.take_message(), spare) {
                (Some(unsent), _) if reused => unsent,
                // What cannot be parsed is an answer, too.
                (None, Some(spare)) if !error.error().is_parse() => {
                    reuse = false;
                    spare
                }
                _ if upload.is_broken() => return Err(Failure::BrokenUpload),
                _ => return Err(Failure::Broken(error.into_error())),
            };
        }
    }

    /// Waits for the head of an answer. The time begins when the whole request has been sent.
    async fn in_time<T>(
        &self,
        sending: impl Future<Output = T>,
        upload: &Progress,
    ) -> Result<T, Failure> {
        let limit = self.snapshot.limits.upstream_header_timeout;
        let mut sending = std::pin::pin!(sending);
        let mut was_sent = upload.has_ended();
        loop {
            match tokio::time::timeout(limit, sending.as_mut()).await {
                Ok(sent) => return Ok(sent),
                Err(_) if was_sent => return Err(Failure::TooSlow),
                Err(_) => was_sent = upload.has_ended(),
            }
        }
    }

    async fn connect(&self, upstream: &Upstream) -> Result<SendRequest<Upload>, Failure> {
        let limit = self.snapshot.limits.upstream_connect_timeout;
        match tokio::time::timeout(limit, upstream::connect(self.connector, upstream)).await {
            Ok(connected) => connected.map_err(Failure::Unreachable),
            Err(_) => Err(Failure::Unreachable(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// The app's answer, with its framing made anew and our cookies added.
    fn receive(
        &self,
        answer: Response<Incoming>,
        owed: &[String],
        lease: Lease,
    ) -> Result<Response<Download>, Failure> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::UnaskedSwitch);
        }
        let (mut head, body) = answer.into_parts();
        head.version = Version::HTTP_11;
        if !request::is_framed_plainly(&head.headers) {
            return Err(Failure::UnaskedCoding);
        }
        if head.headers.contains_key(header::TRANSFER_ENCODING) {
            head.headers.remove(header::TRANSFER_ENCODING);
            head.headers.remove(header::CONTENT_LENGTH);
        }
        headers::remove_hop_by_hop(&mut head.headers);
        // A 304 speaks of an answer that somebody keeps.
        if !owed.is_empty()
            && head.status != StatusCode::NOT_MODIFIED
            && !self.speaks_of_session(&head.headers)
            && !cache::is_shared(&head.headers)
        {
            cache::make_private(&mut head.headers);
            cache::set_cookies(&mut head.headers, owed);
        }
        Ok(Response::from_parts(head, Download::new(body, lease)))
    }

    /// The app's own word about the session cookie always wins over ours.
    fn speaks_of_session(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(header::SET_COOKIE)
            .iter()
            .any(|line| self.snapshot.keyring.session_set_cookie(line.as_bytes()).is_some())
    }
}

/// The headers as the app sees them. Strips first and injects after, so that nothing of the
/// visitor's can stand for ours.
pub(crate) fn rewrite(
    headers: &mut HeaderMap,
    snapshot: &Snapshot,
    grant: &Grant,
    authority: &str,
    peer: &Peer,
) {
    let app = &snapshot.apps[grant.pass.app()];
    headers::remove_hop_by_hop(headers);
    headers::remove_trusted(headers, snapshot, app, grant.own_authorization);
    headers.remove(header::EXPECT);
    frame_anew(headers);
    headers::insert_forwarded(headers, peer, authority);
    match &grant.cookies {
        CookieView::Unchanged => {}
        CookieView::Removed => {
            headers.remove(header::COOKIE);
        }
        CookieView::Replaced(value) => match HeaderValue::from_bytes(value) {
            Ok(value) => {
                headers.insert(header::COOKIE, value);
            }
            Err(_) => {
                headers.remove(header::COOKIE);
            }
        },
    }
    if let Some(session) = &grant.session {
        headers::insert_identity(headers, app, session);
    }
}

/// hyper frames a body by what it is. Of a request without one it says nothing, where a POST must
/// say that it has none (RFC 9110 §8.6).
fn frame_anew(headers: &mut HeaderMap) {
    headers.remove(header::TRANSFER_ENCODING);
    let length = headers.remove(header::CONTENT_LENGTH);
    if length.is_some_and(|length| length.as_bytes().iter().all(|digit| *digit == b'0')) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// A request without a body, once more.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
