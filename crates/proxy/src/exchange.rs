//! One request, from its head to its answer.

use std::time::Duration;

use bytes::Bytes;
use foregate_policy::Refusal;
use foregate_session::UnixSeconds;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Incoming};

use crate::admission::{Gate, Grant, Refused};
use crate::forward::{Forwarder, Target};
use crate::own::{self, Own};
use crate::peer::{Connection, Peer};
use crate::record::Record;
use crate::request;
use crate::respond::{Asker, Reply};
use crate::upstream::Download;
use crate::worker::Worker;

/// An answer as it goes to the visitor: ours, or the app's as it streams.
pub(crate) type Answer = Response<Either<Full<Bytes>, Download>>;

/// Answers one request. `now` is the only reading of a clock that decides anything.
pub(crate) async fn answer(
    worker: &Worker,
    connection: &Connection,
    request: Request<Incoming>,
    now: UnixSeconds,
) -> Answer {
    let (parts, mut body) = request.into_parts();
    let snapshot = &*worker.live.load();
    let peer = Peer::of(connection, &parts.headers, &snapshot.server.trusted_proxies);
    let gate = Gate { snapshot, refresher: &worker.refresher };
    let mut record = Record::new(connection);

    let mut answer = match admit(&gate, &parts, &mut body, &peer, now, &mut record).await {
        Next::Answer(answer) => {
            let answer = close_unless_drained(answer, &parts.headers, body).await;
            answer.map(Either::Left)
        }
        Next::Forward(grant, target) => {
            let (pool, connector) = (&worker.pool, &worker.connector);
            let forwarder = Forwarder { pool, connector, snapshot };
            let asker = target.asker.clone();
            match forwarder.forward(*grant, *target, &peer, parts, body).await {
                Ok(answer) => answer.map(Either::Right),
                Err(failure) => {
                    record.failed(&failure);
                    Reply::failure(&failure).into_response(&asker, snapshot).map(Either::Left)
                }
            }
        }
    };
    if worker.stopping.has_begun() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    record.answered(answer.status());
    answer
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
    parts: &Parts,
    body: &mut Incoming,
    peer: &Peer,
    now: UnixSeconds,
    record: &mut Record,
) -> Next {
    let snapshot = gate.snapshot;
    let scheme = peer.scheme.as_str();
    let head = match request::head_of(parts) {
        Ok(head) => head,
        Err(refusal) => {
            record.unreadable(parts);
            let asker = Asker::unread(&parts.headers);
            let reply = Reply::refusal(&Refused::Policy(refusal), None, scheme, snapshot);
            record.refused(reply.reason);
            return Next::Answer(reply.into_response(&asker, snapshot));
        }
    };
    record.read(&head);
    let asker = Asker::of(&head);
    let cookies = request::cookies(&parts.headers);

    let admitted = match Own::at(head.path().as_str()) {
        _ if request::size(parts) > snapshot.limits.header_bytes => Err(Reply::head_too_large()),
        _ if !request::is_framed_plainly(&parts.headers) => Err(Reply::malformed(
            "The request names another transfer coding than chunked, or several.",
        )),
        _ if !request::expects_only_continue(&parts.headers) => Err(Reply::bad_expectation()),
        Some(_) if !snapshot.rules.is_app_host(head.host()) => {
            let unknown = Refused::Policy(Refusal::UnknownHost);
            Err(Reply::refusal(&unknown, Some(&head), scheme, snapshot))
        }
        Some(Own::Session) => gate.own_session(&head, &cookies, now).await.map(Next::Answer),
        Some(Own::SignOut) => {
            let form = own::form(&parts.headers, body);
            gate.own_sign_out(&head, form, &cookies, now).await.map(Next::Answer)
        }
        Some(Own::Unknown) => Err(Reply::unknown_reserved()),
        None => match gate.admit(&head, &cookies, now).await {
            Ok(grant) => match Target::of(&head, asker.clone()) {
                Some(target) => {
                    record.passed(snapshot, &grant.pass);
                    Ok(Next::Forward(Box::new(grant), Box::new(target)))
                }
                None => Err(Reply::bad_target()),
            },
            Err(turned) => {
                let reply = Reply::refusal(&turned.why, Some(&head), scheme, snapshot);
                Err(reply.with_cookies(turned.set_cookies))
            }
        },
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

async fn drained(body: Incoming) -> bool {
    if body.size_hint().lower() > DRAIN_BYTES as u64 {
        return false;
    }
    let rest = Limited::new(body, DRAIN_BYTES).collect();
    matches!(tokio::time::timeout(DRAIN_TIME, rest).await, Ok(Ok(_)))
}

const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);
