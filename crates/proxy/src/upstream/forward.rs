//! One granted request, on its way to the app and back. Bodies stream; a request is sent again
//! only where it provably never arrived, or where a second time does no harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foregate_config::{Endpoint, Protocol, Snapshot, Upstream};
use foregate_policy::Head;
use foregate_refresh::TokenEndpoint;
use foregate_session::{CookieView, UnixSeconds};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};

use crate::admission::{Gate, Grant};
use crate::answers::cache;
use crate::answers::respond::{Asker, Failure};
use crate::peer::Peer;
use crate::record::Record;
use crate::request;
use crate::upstream::app_word::{Errand, Word};
use crate::upstream::body::{Download, Progress, Upload};
use crate::upstream::headers;
use crate::upstream::pool::{Fared, Lease, Need, NoConnection, Sender};
use crate::upstream::upstream_401::{self, After401};
use crate::upstream::websocket::{Handshake, Verdict};
use crate::visitor::Visitor;

/// What one request is forwarded with.
pub(crate) struct Forwarder<'w> {
    pub(crate) visitor: &'w Arc<Visitor>,
    pub(crate) snapshot: &'w Arc<Snapshot>,
    pub(crate) peer: &'w Peer,
    pub(crate) now: UnixSeconds,
    pub(crate) record: &'w Record<'w>,
}

/// Where a request goes, as the rules saw it.
pub(crate) struct Target {
    /// The canonical path and the cleaned query.
    path_and_query: PathAndQuery,
    /// Host and port as the visitor sent them.
    authority: String,
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

/// An app's answer to a visitor, as it streams; the other side is for answers that have no body.
pub(crate) type Forwarded = Response<Either<Full<Bytes>, Download>>;

/// What one request travels with, besides itself.
#[derive(Clone, Copy)]
struct Travel<'t> {
    grant: &'t Grant,
    target: &'t Target,
    /// The request as it came, where it may be wanted again.
    kept: Option<&'t Parts>,
    ask: Option<&'t Handshake>,
}

/// The app that answered, and the connection it did so on.
struct Via {
    upstream: Arc<Upstream>,
    sender: Sender,
    upload: Arc<Progress>,
}

/// Why there is no answer, and whether anything left us.
enum NoAnswer {
    /// Nothing did: another upstream may be asked.
    Unsent(Box<Request<Upload>>, Failure),
    Failed(Failure),
}

impl Forwarder<'_> {
    /// Sends the request and brings back the app's answer, with the cookies that we owe. An app
    /// that rejects the token is asked once more, with another one.
    pub(crate) async fn forward(
        &self,
        gate: &Gate<'_, impl TokenEndpoint>,
        mut grant: Grant,
        target: &Target,
        parts: Parts,
        body: Incoming,
        handshake: Option<Handshake>,
    ) -> Result<Forwarded, Failure> {
        let began = Instant::now();
        let is_plain = body.is_end_stream() && handshake.is_none();
        let kept = upstream_401::kept(self.snapshot, &grant, &parts, is_plain);
        let errand = Errand::of(parts.method.as_str(), target.path_and_query.path());
        let http2 = parts.version == Version::HTTP_2;
        let takes_trailers = http2 || headers::takes_trailers(&parts.headers);
        let upload = match handshake {
            None => Upload::new(body, self.snapshot, grant.pass.app()),
            Some(_) => Upload::empty(),
        };
        let request = self.outgoing(&grant, target, parts, upload);
        let travel = Travel { grant: &grant, target, kept: kept.as_ref(), ask: handshake.as_ref() };
        let (mut answer, mut via) = self.send(request, travel).await?;
        let session = grant.session.as_ref();
        let mut word = gate.heed(errand, session, answer.headers(), self.now).await;

        if let Some(asked) = kept
            && answer.status() == StatusCode::UNAUTHORIZED
        {
            let now = self.now.saturating_add(began.elapsed());
            match gate.after_401(grant, &asked, now).await {
                After401::Passes(settled) => grant = settled,
                After401::Again(renewed) => {
                    grant = renewed;
                    drop(self.download(answer.into_body(), via));
                    let request = self.outgoing(&grant, target, asked, Upload::empty());
                    let travel = Travel { grant: &grant, target, kept: None, ask: None };
                    (answer, via) = Box::pin(self.send(request, travel)).await?;
                    let now = self.now.saturating_add(began.elapsed());
                    let session = grant.session.as_ref();
                    word = gate.heed(errand, session, answer.headers(), now).await;
                }
            }
        }
        let owed = if word == Word::Silent { &grant.set_cookies[..] } else { &[] };
        let mut answer = self.receive(answer, via, &grant, owed, handshake)?;
        if !takes_trailers {
            answer.headers_mut().remove(header::TRAILER);
        } else if !http2
            && answer.headers().contains_key(header::TRAILER)
            && !answer.body().is_end_stream()
        {
            // In HTTP/2 they may stand behind a body of known length, in HTTP/1.1 behind chunks.
            frame_in_chunks(answer.headers_mut());
        }
        Ok(answer)
    }

    /// The request as the app gets it; its address is written when the connection is known.
    fn outgoing(
        &self,
        grant: &Grant,
        target: &Target,
        mut parts: Parts,
        upload: Upload,
    ) -> Request<Upload> {
        rewrite(&mut parts.headers, self.snapshot, grant, &target.authority, self.peer);
        if parts.method == Method::OPTIONS {
            // A preflight passes a guard, and must not stand for another method behind it.
            headers::remove_method_overrides(&mut parts.headers);
        }
        let mut request = Request::new(upload);
        *request.method_mut() = parts.method;
        *request.headers_mut() = parts.headers;
        request
    }

    /// Sends to the upstream whose turn it is; to the next one only if nothing left us.
    async fn send(
        &self,
        mut request: Request<Upload>,
        travel: Travel<'_>,
    ) -> Result<(Response<Incoming>, Via), Failure> {
        let number = travel.grant.pass.app();
        let app = &self.snapshot.apps[number];
        let pool = &self.visitor.worker.pool;
        // The only one there is gets every request, however it fares.
        let report = |upstream, fared| app.upstreams.len() > 1 && pool.report(upstream, fared);
        let mut last = None;
        for upstream in pool.in_turn(&app.upstreams).iter() {
            let place = app.upstreams.iter().position(|known| Arc::ptr_eq(known, upstream));
            let counters = place.and_then(|place| self.record.upstream(number, place));
            let told = |failure: Failure| match counters {
                Some(counters) if !counters.has_answered() => doubting_scheme(failure, upstream),
                _ => failure,
            };
            let fails = |failure: &Failure, ejected: bool| {
                if let Some(counters) = counters {
                    counters.failed(failure, ejected);
                }
            };
            match self.send_to(upstream, request, travel).await {
                Ok(answered) => {
                    report(upstream, Fared::Well);
                    if let Some(counters) = counters {
                        counters.answered();
                    }
                    return Ok(answered);
                }
                // Another upstream would need a connection, too.
                Err(NoAnswer::Unsent(_, Failure::Overloaded)) => return Err(Failure::Overloaded),
                Err(NoAnswer::Unsent(unsent, failure)) => {
                    let failure = told(failure);
                    fails(&failure, report(upstream, Fared::Refused));
                    request = *unsent;
                    last = Some(failure);
                }
                Err(NoAnswer::Failed(failure)) => {
                    let failure = told(failure);
                    let badly = matches!(failure, Failure::TooSlow | Failure::Broken(..));
                    fails(&failure, badly && report(upstream, Fared::Badly));
                    return Err(failure);
                }
            }
        }
        // An app has at least one upstream.
        Err(last.unwrap_or(Failure::TooSlow))
    }

    /// Sends over a connection that stands, or over a new one. One that stands may turn out to be
    /// closed: what never left us goes over the next one, and what was not answered goes once
    /// more, over a new one, if a second time does no harm.
    async fn send_to(
        &self,
        upstream: &Arc<Upstream>,
        mut request: Request<Upload>,
        travel: Travel<'_>,
    ) -> Result<(Response<Incoming>, Via), NoAnswer> {
        let worker = &self.visitor.worker;
        let upload = request.body().progress();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let repeatable = reads && request.body().is_end_stream() && travel.ask.is_none();
        let need = Need { repeatable, websocket: travel.ask.is_some() };
        let mut reuse = true;
        loop {
            let standing = if reuse { worker.pool.take(upstream, need) } else { None };
            let reused = standing.is_some();
            let mut sender = match standing {
                Some(sender) => sender,
                None => match Box::pin(self.connect(upstream, need)).await {
                    Ok(sender) => sender,
                    Err(failure) => return Err(NoAnswer::Unsent(Box::new(request), failure)),
                },
            };
            address(&mut request, travel, upstream, sender.is_http2());
            let spare = (reused && repeatable && travel.kept.is_none()).then(|| copy(&request));
            let sent = self.in_time(sender.try_send(request), &upload).await;
            let mut error = match sent.map_err(NoAnswer::Failed)? {
                Ok(answer) => {
                    return Ok((answer, Via { upstream: Arc::clone(upstream), sender, upload }));
                }
                Err(error) => error,
            };
            let again = || {
                let kept = travel.kept.filter(|_| reused && repeatable)?.clone();
                Some(self.outgoing(travel.grant, travel.target, kept, Upload::empty()))
            };
            request = match (error.take_message(), spare.or_else(again)) {
                (Some(unsent), _) if reused => unsent,
                (Some(unsent), _) => {
                    let failure = Failure::Broken(error.into_error(), "");
                    return Err(NoAnswer::Unsent(Box::new(unsent), failure));
                }
                // What cannot be parsed is an answer, too.
                (None, Some(spare)) if !error.error().is_parse() => {
                    reuse = false;
                    spare
                }
                _ if upload.is_broken() => return Err(NoAnswer::Failed(Failure::BrokenUpload)),
                _ if upload.stood_still() => return Err(NoAnswer::Failed(Failure::StalledUpload)),
                _ if !upload.has_ended() && !error.error().is_parse() => {
                    return Err(NoAnswer::Failed(Failure::CutOff(error.into_error())));
                }
                _ => return Err(NoAnswer::Failed(Failure::Broken(error.into_error(), ""))),
            };
        }
    }

    /// Waits for the head of an answer. The time begins when the whole request has been sent; until
    /// then it is for the app to go on reading, or for the visitor to go on sending.
    async fn in_time<T>(
        &self,
        sending: impl Future<Output = T>,
        upload: &Progress,
    ) -> Result<T, Failure> {
        let limit = self.snapshot.limits.upstream_header_timeout;
        let mut sending = std::pin::pin!(sending);
        let mut was_sent = upload.has_ended();
        let mut taken = upload.frames();
        loop {
            if let Ok(sent) = tokio::time::timeout(limit, sending.as_mut()).await {
                return Ok(sent);
            }
            let moves = upload.waits_for_visitor() || upload.frames() != taken;
            if was_sent || !(moves || upload.has_ended()) {
                return Err(Failure::TooSlow);
            }
            was_sent = upload.has_ended();
            taken = upload.frames();
        }
    }

    async fn connect(&self, upstream: &Arc<Upstream>, need: Need) -> Result<Sender, Failure> {
        let limit = self.snapshot.limits.upstream_connect_timeout;
        let worker = &self.visitor.worker;
        let connecting = worker.pool.connect(&worker.connector, &worker.capacity, upstream, need);
        match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(NoConnection::NoPlace)) => Err(Failure::Overloaded),
            Ok(Err(NoConnection::Unreachable(error))) => Err(Failure::Unreachable(error)),
            Err(_) => Err(Failure::Unreachable(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// The app's answer, with its framing made anew and our cookies added.
    fn receive(
        &self,
        answer: Response<Incoming>,
        via: Via,
        grant: &Grant,
        owed: &[String],
        handshake: Option<Handshake>,
    ) -> Result<Forwarded, Failure> {
        if let Some(handshake) = handshake {
            match handshake.read(&answer, via.sender.is_http2()) {
                Verdict::Switched => return Ok(self.switch(answer, via, grant, owed, handshake)),
                Verdict::Declined => {}
                Verdict::Mismatch => return Err(Failure::UnaskedSwitch),
            }
        } else if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::UnaskedSwitch);
        }
        let (mut head, body) = answer.into_parts();
        head.version = Version::HTTP_11;
        if !request::is_framed_plainly(&head.headers) {
            return Err(Failure::UnaskedCoding);
        }
        let coded = head.headers.remove(header::TRANSFER_ENCODING).is_some();
        if coded || !headers::has_plain_length(&head.headers) {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        headers::remove_hop_by_hop(&mut head.headers);
        pay(&mut head.headers, head.status, owed);
        Ok(Response::from_parts(head, Either::Right(self.download(body, via))))
    }

    fn download(&self, body: Incoming, via: Via) -> Download {
        let Via { upstream, sender, upload } = via;
        let pool = Arc::clone(&self.visitor.worker.pool);
        let lease = Lease { pool, upstream, sender, upload };
        Download::new(body, lease, self.snapshot.limits.idle_timeout)
    }

    /// The app took the WebSocket: from here on bytes pass as they are.
    fn switch(
        &self,
        mut answer: Response<Incoming>,
        via: Via,
        grant: &Grant,
        owed: &[String],
        handshake: Handshake,
    ) -> Forwarded {
        let app = hyper::upgrade::on(&mut answer);
        let mut welcome = Response::new(Either::Left(Full::default()));
        *welcome.headers_mut() = std::mem::take(answer.headers_mut());
        headers::remove_hop_by_hop(welcome.headers_mut());
        *welcome.status_mut() = handshake.welcome(welcome.headers_mut());
        pay(welcome.headers_mut(), StatusCode::SWITCHING_PROTOCOLS, owed);
        // What was admitted once must not outlive the session that admitted it.
        let session_end = grant.session.as_ref().and_then(|session| session.expires_at());
        let longest: Option<Duration> = session_end.map(|end| end.since(self.now));
        let (tunnel, held) = (self.record.tunnel(self.visitor), via.sender);
        handshake.open(app, self.snapshot.limits.idle_timeout, longest, tunnel, held);
        welcome
    }
}

/// An upstream that has never answered may have another scheme than `upstream` says.
fn doubting_scheme(failure: Failure, upstream: &Upstream) -> Failure {
    let Failure::Broken(error, _) = failure else { return failure };
    let hint = match (&upstream.endpoint, upstream.protocol) {
        (_, Protocol::H2c) => "; the app may not speak HTTP/2: http:// may be meant",
        (Endpoint::Tcp { .. }, Protocol::Http) => "; https:// or h2c:// may be meant",
        _ => "",
    };
    Failure::Broken(error, hint)
}

/// Adds the cookies that we owe the visitor, unless somebody else might keep the answer. A 304
/// speaks of an answer that somebody keeps.
fn pay(headers: &mut HeaderMap, status: StatusCode, owed: &[String]) {
    if !owed.is_empty() && status != StatusCode::NOT_MODIFIED && !cache::is_shared(headers) {
        cache::make_private(headers);
        cache::set_cookies(headers, owed);
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
    let takes_trailers = headers::takes_trailers(headers);
    headers::remove_hop_by_hop(headers);
    headers::remove_trusted(headers, snapshot, app, grant.own_authorization);
    headers.remove(header::EXPECT);
    frame_anew(headers);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    headers::insert_forwarded(headers, peer, authority);
    match &grant.cookies {
        CookieView::Unchanged => headers::join_cookies(headers),
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

fn frame_in_chunks(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

/// Writes the request's address in the way of the connection that it will take.
fn address(request: &mut Request<Upload>, travel: Travel<'_>, upstream: &Upstream, http2: bool) {
    let Travel { target, ask: handshake, .. } = travel;
    let path = target.path_and_query.clone();
    if http2 {
        let scheme = if upstream.protocol == Protocol::Https { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(target.authority.as_str());
        // A canonical host is an authority; were it not, the connection would refuse what is left.
        *request.uri_mut() = uri.path_and_query(path).build().unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        if let Some(handshake) = handshake {
            handshake.ask_http2(request);
        }
        return;
    }
    *request.uri_mut() = path.into();
    *request.version_mut() = Version::HTTP_11;
    // hyper takes the body of a GET for none unless it is told, and trailers need chunks.
    let body = request.body();
    if !body.is_end_stream()
        && (body.size_hint().exact().is_none() || request.headers().contains_key(header::TRAILER))
    {
        frame_in_chunks(request.headers_mut());
    }
    if !request.headers().contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(&target.authority)
    {
        request.headers_mut().insert(header::HOST, host);
    }
    if request.headers().contains_key(header::TE) {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("TE"));
    }
    if let Some(handshake) = handshake {
        handshake.ask_http1(request);
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
