//! One request, from its head to its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foregate_config::Certificate;
use foregate_policy::Refusal;
use foregate_session::UnixSeconds;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Incoming};

use crate::admission::{self, Found, Gate, Grant, Refused};
use crate::answers::own::{self, Own};
use crate::answers::respond::{Asker, Reply};
use crate::peer::{Peer, Scheme};
use crate::record::Record;
use crate::request;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::upstream::body::AnswerBody;
use crate::upstream::forward::{Forwarder, Target};
use crate::upstream::websocket::Handshake;
use crate::visitor::Visitor;

/// Answers one request. `now` is the only reading of a clock that decides anything.
pub(crate) async fn answer(
    visitor: &Arc<Visitor>,
    mut request: Request<Incoming>,
    now: UnixSeconds,
) -> Response<AnswerBody> {
    let in_flight = visitor.pace.begin();
    let handshake = Handshake::of(&mut request, admission::random);
    let (parts, mut body) = request.into_parts();
    let version = parts.version;
    let worker = &visitor.worker;
    let generation = worker.live.generation();
    let snapshot = &generation.snapshot;
    let trusted = &snapshot.server.trusted_proxies;
    let peer = &Peer::of(&visitor.connection, &parts.headers, trusted);
    if peer.scheme == Scheme::Http {
        generation.doubts.plain(visitor.connection.address, peer.trusted, &parts.headers);
    }
    let request_id = &RequestId::of(&parts.headers, peer.trusted);
    let gate = Gate { snapshot, refresher: &worker.refresher };
    let mut record = Record::new(visitor, &generation, request_id);

    let asked = Asked { visitor, parts: &parts, peer, request_id };
    let next = admit(&gate, &asked, &mut body, now, &mut record).await;
    record.decided();
    let mut by_app = false;
    let mut answer = match next {
        Next::Answer(answer) => {
            let mut answer = match parts.version {
                Version::HTTP_2 => {
                    hold(body);
                    answer
                }
                _ => Box::pin(close_unless_drained(answer, &parts.headers, body)).await,
            };
            answer.headers_mut().insert(X_REQUEST_ID, request_id.header_value());
            answer.map(Either::Left)
        }
        Next::Forward(grant, target) => {
            let forwarder = Forwarder { visitor, snapshot, peer, now, record: &record };
            match forwarder.forward(&gate, *grant, &target, parts, body, handshake).await {
                Ok(answer) => {
                    by_app = true;
                    answer
                }
                Err(failure) => {
                    let reply = Reply::failure(&failure);
                    record.failed(&failure, reply.reason);
                    reply.into_response(&target.asker, snapshot).map(Either::Left)
                }
            }
        }
    };
    let lingers = answer.status() != StatusCode::SWITCHING_PROTOCOLS;
    if lingers && (worker.stopping.has_begun() || worker.capacity.is_crowded()) {
        match version {
            Version::HTTP_2 => visitor.pace.dismiss(),
            _ => {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
        }
    }
    record.answered(answer.status(), by_app, answer.body().size_hint().exact());
    answer.map(|body| AnswerBody::new(body, in_flight))
}

/// One request as it was asked: its head, and who asked.
struct Asked<'r> {
    visitor: &'r Visitor,
    parts: &'r Parts,
    peer: &'r Peer,
    request_id: &'r RequestId,
}

/// What happens to a request next.
enum Next {
    Forward(Box<Grant>, Box<Target>),
    Answer(Response<Full<Bytes>>),
}

/// Reads the head once, and from it decides where the request goes: the app, a page of ours, or
/// nowhere.
async fn admit(
    gate: &Gate<'_, impl foregate_refresh::TokenEndpoint>,
    asked: &Asked<'_>,
    body: &mut Incoming,
    now: UnixSeconds,
    record: &mut Record<'_>,
) -> Next {
    let Asked { visitor, parts, peer, request_id } = *asked;
    let snapshot = gate.snapshot;
    let scheme = peer.scheme.as_str();
    let head = match request::head_of(parts) {
        Ok(head) => head,
        Err(refusal) => {
            record.unreadable(parts);
            let asker = Asker::unread(&parts.headers, request_id);
            let reply = Reply::refusal(&Refused::Policy(refusal), None, scheme, snapshot);
            record.refused(reply.reason);
            return Next::Answer(reply.into_response(&asker, snapshot));
        }
    };
    record.read(&head);
    let asker = Asker::of(&head, &parts.headers, request_id);
    let cookies = request::cookies(&parts.headers);
    let is_covered = |certificate: &Arc<Certificate>| certificate.covers(head.host().as_str());

    let own = match Own::at(head.path().as_str()) {
        Some(Own::Auth) if !snapshot.server.decision_endpoint => Some(Own::Unknown),
        own => own,
    };
    if own.is_some() {
        record.own(&head);
    }
    let admitted = match own {
        _ if request::size(parts) > snapshot.limits.header_bytes => Err(Reply::head_too_large()),
        _ if parts.headers.len() > snapshot.limits.headers => Err(Reply::head_too_large()),
        _ if !request::is_framed_plainly(&parts.headers) => Err(Reply::malformed(
            "The request names another transfer coding than chunked, or several.",
        )),
        _ if !request::expects_only_continue(&parts.headers) => Err(Reply::bad_expectation()),
        // Asked under any name: the one that is meant stands elsewhere.
        Some(Own::Auth) => {
            let answer = gate.own_auth(parts, &head, peer, request_id, now, record);
            let answer = Box::pin(answer).await;
            Ok(Next::Answer(answer))
        }
        own if own.is_some() && !snapshot.rules.is_app_host(head.host()) => {
            let unknown = Refused::Policy(Refusal::UnknownHost);
            Err(Reply::refusal(&unknown, Some(&head), scheme, snapshot))
        }
        _ if !visitor.certificate.as_ref().is_none_or(is_covered)
            && snapshot.rules.is_app_host(head.host()) =>
        {
            Err(Reply::misdirected())
        }
        Some(Own::Session) => {
            let mut found = Found::Nothing;
            let answer = Box::pin(gate.own_session(&head, &cookies, now, &mut found)).await;
            record.found(found);
            answer.map(Next::Answer)
        }
        Some(Own::SignOut) => {
            let form = own::form(&parts.headers, body, snapshot.limits.idle_timeout);
            let answer = Box::pin(gate.own_sign_out(&head, form, &cookies, now)).await;
            answer.map(Next::Answer)
        }
        Some(Own::Unknown) => Err(Reply::unknown_reserved()),
        None => {
            let mut found = Found::Nothing;
            let admitted = gate.admit(&head, &cookies, now, &mut found).await;
            record.found(found);
            match admitted {
                Ok(grant) => match Target::of(&head, asker.clone()) {
                    Some(target) => {
                        record.passed(&grant, &cookies);
                        Ok(Next::Forward(Box::new(grant), Box::new(target)))
                    }
                    None => Err(Reply::bad_target()),
                },
                Err(turned) => {
                    record.turned(&head, &turned, &cookies, now);
                    let reply = Reply::refusal(&turned.why, Some(&head), scheme, snapshot);
                    Err(reply.with_cookies(turned.set_cookies))
                }
            }
        }
    };
    admitted.unwrap_or_else(|reply| {
        record.refused(reply.reason);
        Next::Answer(reply.into_response(&asker, snapshot))
    })
}

/// An answer that comes before the request's body ended leaves the rest of it on the wire, where
/// it would be read as the next request: it is drained, or the connection closes.
async fn close_unless_drained(
    mut answer: Response<Full<Bytes>>,
    asked: &HeaderMap,
    body: Incoming,
) -> Response<Full<Bytes>> {
    // To read on would invite a visitor who waits for 100 (Continue) to send.
    let waits = asked.contains_key(header::EXPECT);
    let closes = answer.headers().contains_key(header::CONNECTION);
    if !body.is_end_stream() && !closes && (waits || !drained(body).await) {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Over HTTP/2 nothing is read as the next request. But to let go of an unread body resets its
/// stream, and clients forget an answer that a reset follows (curl until 7.88 does). So it is kept
/// for a moment, in which most clients end by themselves; the stream's window bounds what comes.
fn hold(body: Incoming) {
    if !body.is_end_stream() {
        tokio::spawn(async move {
            tokio::time::sleep(DRAIN_TIME).await;
            drop(body);
        });
    }
}

async fn drained(body: Incoming) -> bool {
    if body.size_hint().lower() > DRAIN_BYTES as u64 {
        return false;
    }
    let rest = Limited::new(body, DRAIN_BYTES).collect();
    matches!(tokio::time::timeout(DRAIN_TIME, rest).await, Ok(Ok(_)))
}

const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);
