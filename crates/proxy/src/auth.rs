//! `/.foregate/auth`: a proxy in front asks whether a request may pass, and sends it to the app by
//! itself. What is asked about becomes a [`Head`] by the parser of all requests and goes through
//! [`Gate::admit`], so that this answer and the proxy's cannot differ. Whoever may ask gets tokens:
//! nobody may but `server.trusted_proxies`.

mod question;

use bytes::Bytes;
use foregate_config::Snapshot;
use foregate_policy::{Head, Refusal};
use foregate_refresh::TokenEndpoint;
use foregate_session::{CookieView, UnixSeconds};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::admission::{Found, Gate, Grant, Refused};
use crate::answers::cache::{PRIVATE, set_cookies};
use crate::answers::own::Own;
use crate::answers::respond::{Asker, Reply};
use crate::peer::Peer;
use crate::record::Record;
use crate::request;
use crate::request_id::RequestId;
use crate::upstream::headers::insert_identity;

use question::Question;
pub(crate) use question::behind;

impl<E: TokenEndpoint> Gate<'_, E> {
    /// Answers a proxy's question. `own` is the head of the question itself.
    ///
    /// Where a trusted proxy passes visitors' requests on, a page can ask as well, though never
    /// under another name than its own. So what no script may read, the session cookie, is told
    /// under no app's name.
    pub(crate) async fn own_auth(
        &self,
        parts: &Parts,
        own: &Head<'_>,
        peer: &Peer,
        request_id: &RequestId,
        now: UnixSeconds,
        record: &mut Record<'_>,
    ) -> Response<Full<Bytes>> {
        let snapshot = self.snapshot;
        let by_app_name = snapshot.rules.is_app_host(own.host());
        if !peer.trusted {
            record.asked_untrusted(&parts.headers);
        }
        let mut refuse = |reply: Reply| {
            record.refused(reply.reason);
            reply.into_response(&Asker::of(own, &parts.headers, request_id), snapshot)
        };
        if !peer.trusted {
            let unknown = Refused::Policy(Refusal::UnknownHost);
            return refuse(match by_app_name {
                true => Reply::untrusted_peer(),
                false => Reply::refusal(&unknown, Some(own), peer.scheme.as_str(), snapshot),
            });
        }
        // Whoever keeps visitors from this path writes it in one way, so it has no other.
        if parts.uri.path_and_query().and_then(|target| behind(target.as_str())).is_none() {
            return refuse(Reply::unknown_reserved());
        }
        let question = match Question::read(parts, own, peer.scheme, by_app_name) {
            Ok(question) => question,
            Err(unclear) => return refuse(Reply::unclear_question(unclear.to_string())),
        };
        let headers = question.visitors_headers(&parts.headers);
        let (method, target) = (question.method, question.target);
        let asked = match request::head(method, question.authority, target, &headers) {
            Ok(asked) => asked,
            Err(refusal) => {
                let (refused, scheme) = (Refused::Policy(refusal), question.scheme.as_str());
                return refuse(Reply::refusal(&refused, None, scheme, snapshot));
            }
        };
        // A page of one app, whose requests the trusted proxy passes on, must not ask for another.
        if by_app_name && asked.host() != own.host() {
            let (refused, scheme) = (Refused::Policy(Refusal::BadHost), question.scheme.as_str());
            return refuse(Reply::refusal(&refused, None, scheme, snapshot));
        }
        record.read(&asked);
        match self.decision(&asked, &question, &headers, now, record).await {
            Ok(grant) => {
                record.passed(&grant, &request::cookies(&headers));
                let mut response = granted(&grant, &headers, snapshot);
                if !by_app_name {
                    let cookies = cookies_for_app(&grant.cookies, &headers);
                    response.headers_mut().insert(header::COOKIE, cookies);
                    number_cookies(response.headers_mut());
                }
                response
            }
            Err(mut reply) => {
                record.refused(reply.reason);
                if question.is_nginx && reply.location.is_some() {
                    reply.status = StatusCode::UNAUTHORIZED;
                }
                let asker = Asker::of(&asked, &headers, request_id);
                let mut response = reply.into_response(&asker, snapshot);
                if !by_app_name && !question.hands_refusals_on {
                    number_cookies(response.headers_mut());
                }
                response
            }
        }
    }

    async fn decision(
        &self,
        asked: &Head<'_>,
        question: &Question<'_>,
        headers: &HeaderMap,
        now: UnixSeconds,
        record: &mut Record<'_>,
    ) -> Result<Grant, Reply> {
        let scheme = question.scheme.as_str();
        let refused =
            |refused: &Refused| Reply::refusal(refused, Some(asked), scheme, self.snapshot);
        if Own::at(asked.path().as_str()).is_some() {
            return Err(match self.snapshot.rules.is_app_host(asked.host()) {
                true => Reply::unknown_reserved(),
                false => refused(&Refused::Policy(Refusal::UnknownHost)),
            });
        }
        let cookies = request::cookies(headers);
        let mut found = Found::Nothing;
        let admitted = self.admit(asked, &cookies, now, &mut found).await;
        record.found(found);
        admitted.map_err(|turned| {
            record.turned(asked, &turned, &cookies, now);
            refused(&turned.why).with_cookies(turned.set_cookies)
        })
    }
}

/// The headers that the app should get instead of the visitor's own. Each name is there, with an
/// empty value where there is nothing to say: a name that is absent would leave what the visitor
/// forged.
fn granted(grant: &Grant, visitors: &HeaderMap, snapshot: &Snapshot) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    let identity = snapshot.apps.iter().flat_map(|app| &app.identity).map(|(name, _)| name);
    for name in identity.chain([&header::AUTHORIZATION]) {
        headers.insert(name, HeaderValue::from_static(""));
    }
    let mut own = visitors.get_all(header::AUTHORIZATION).iter();
    if grant.own_authorization
        && let (Some(own), None) = (own.next(), own.next())
    {
        headers.insert(header::AUTHORIZATION, own.clone());
    }
    if let Some(session) = &grant.session {
        insert_identity(headers, &snapshot.apps[grant.pass.app()], session);
    }
    headers.insert(header::CACHE_CONTROL, PRIVATE);
    set_cookies(headers, &grant.set_cookies);
    response
}

/// The visitor's cookies as the app should see them.
fn cookies_for_app(view: &CookieView, visitors: &HeaderMap) -> HeaderValue {
    let value = match view {
        CookieView::Unchanged => {
            let lines = visitors.get_all(header::COOKIE).iter();
            lines.map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..])
        }
        CookieView::Replaced(value) => value.clone(),
        CookieView::Removed => Vec::new(),
    };
    let value = HeaderValue::from_maybe_shared(Bytes::from(value));
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// nginx and Caddy hand on one `Set-Cookie` of an answer, and a session may come in chunks: here
/// each line has a header of its own, too.
fn number_cookies(headers: &mut HeaderMap) {
    let lines: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    for (number, line) in (1..).zip(lines) {
        let name = format!("x-foregate-set-cookie-{number}");
        if let Ok(name) = HeaderName::try_from(name) {
            headers.insert(name, line);
        }
    }
}
