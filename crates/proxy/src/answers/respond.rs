//! What a visitor gets when a request goes nowhere: the contract's table of answers. One exhaustive
//! match turns a refusal into HTTP, another one a failure; the same facts go out as a page to a
//! browser that navigates, as `grpc-status` to a gRPC client, and as problem+json (RFC 9457) to
//! everything else.

use std::time::Duration;

use bytes::Bytes;
use foregate_config::Snapshot;
use foregate_policy::{Head, Refusal};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::admission::Refused;
use crate::answers::cache::{PRIVATE, set_cookies};
use crate::answers::page::{Action, Page, Words};
use crate::request_id::{RequestId, X_REQUEST_ID};

/// An answer of our own, before it takes its form.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// The stable word for logs, metrics and `explain`.
    pub(crate) reason: &'static str,
    words: Words,
    /// What a page offers beside "try again".
    action: Action,
    pub(crate) location: Option<HeaderValue>,
    retry_after: Option<Duration>,
    /// With 405: what may be asked instead.
    allow: &'static str,
    /// Nothing behind the request is read on this connection: it could be read in two ways, or the
    /// rest of it never came.
    close: bool,
    set_cookies: Vec<String>,
}

/// Who reads an answer.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    reader: Reader,
    origin: Option<String>,
    request_id: RequestId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// A person at a browser's window. What was asked for may be asked for again if it was to
    /// `read` only.
    Person {
        read: bool,
    },
    Grpc,
    Program,
}

impl Asker {
    /// Whoever sent `head`, which was read from these headers.
    pub(crate) fn of(head: &Head<'_>, headers: &HeaderMap, request_id: &RequestId) -> Self {
        let reader = match head.is_navigation() {
            true => Reader::Person { read: matches!(head.method(), "GET" | "HEAD") },
            false if is_grpc(headers) => Reader::Grpc,
            false => Reader::Program,
        };
        let origin = head.origin().map(str::to_owned);
        Self { reader, origin, request_id: request_id.clone() }
    }

    /// Whoever sent a head that cannot be read; what it accepts still tells a browser.
    pub(crate) fn unread(headers: &HeaderMap, request_id: &RequestId) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let reader = match accept.is_some_and(|accept| accept.contains("text/html")) {
            true => Reader::Person { read: false },
            false if is_grpc(headers) => Reader::Grpc,
            false => Reader::Program,
        };
        Self { reader, origin: None, request_id: request_id.clone() }
    }
}

/// `application/grpc`, `application/grpc+proto` and so on (gRPC over HTTP/2, "Requests"). What
/// browsers send, gRPC-Web, is a fetch like any other.
fn is_grpc(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = media_type.strip_prefix(GRPC.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"))
}

/// Something broke, and on whose side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Ours.
    #[error("no file handle is left for another connection to an app")]
    Overloaded,
    /// The visitor's.
    #[error("the visitor's request body broke off")]
    BrokenUpload,
    #[error("the visitor's request body stood still")]
    StalledUpload,
    /// The app's, or the visitor's: many servers hang up on a request that is too large for them.
    #[error("the app closed the connection before it had the whole request: {0}")]
    CutOff(hyper::Error),
    /// The app's.
    #[error("no connection to the app: {0}")]
    Unreachable(std::io::Error),
    #[error("the app did not answer in time")]
    TooSlow,
    /// With what may be meant instead, where that is worth a look.
    #[error("the app broke the connection: {0}{1}")]
    Broken(hyper::Error, &'static str),
    #[error("the app switched protocols unasked")]
    UnaskedSwitch,
    #[error("the app coded its answer in a way that nobody asked for")]
    UnaskedCoding,
}

impl Reply {
    fn new(status: StatusCode, reason: &'static str, words: Words) -> Self {
        Self {
            status,
            reason,
            words,
            action: Action::None,
            location: None,
            retry_after: None,
            allow: ALLOWED,
            close: false,
            set_cookies: Vec::new(),
        }
    }

    fn closing(status: StatusCode, reason: &'static str, words: Words) -> Self {
        Self { close: true, ..Self::new(status, reason, words) }
    }

    /// What happened, as a sentence.
    pub(crate) fn detail(&self) -> &str {
        &self.words.what
    }

    /// The answer to a refusal. `head` is absent where the request could not be read at all.
    pub(crate) fn refusal(
        refused: &Refused,
        head: Option<&Head<'_>>,
        scheme: &str,
        snapshot: &Snapshot,
    ) -> Self {
        let navigation = head.filter(|head| head.is_navigation());
        let refusal = match refused {
            Refused::Policy(refusal) => refusal,
            Refused::Unavailable { reason, retry_after } => {
                return Self::unavailable(reason, *retry_after);
            }
        };
        let reason = refusal.reason();
        match refusal {
            Refusal::NoSession => {
                let words = Words::new(
                    "Please sign in first",
                    "You are not signed in, and this address is only for people who are.",
                    "Sign in as you usually do, then open this page again.",
                );
                let reply = Self::new(StatusCode::UNAUTHORIZED, reason, words);
                match navigation.and_then(|head| login_location(head, scheme, snapshot)) {
                    Some(location) => reply.redirecting(head, location),
                    None => reply,
                }
            }
            Refusal::RoleMissing => {
                let words = Words::new(
                    "Your account may not open this",
                    "You are signed in, but your account lacks the role that this address needs.",
                    "Use another account, or ask whoever runs this site for access.",
                );
                let reply = Self::new(StatusCode::FORBIDDEN, reason, words);
                match (&snapshot.forbidden_url, navigation) {
                    (Some(url), Some(_)) => reply.redirecting(head, url.as_str().to_owned()),
                    (None, Some(head)) => {
                        Self { action: Action::SignOut { back: way_back(head) }, ..reply }
                    }
                    (_, None) => reply,
                }
            }
            Refusal::Denied => {
                let words = Words::new(
                    "Nobody may open this",
                    "This address is closed to everybody.",
                    "Go back to where you came from.",
                );
                Self::new(StatusCode::FORBIDDEN, reason, words)
            }
            Refusal::CrossSite => Self::cross_site(),
            Refusal::UnknownHost => {
                let words = Words::new(
                    "There is no site here",
                    "No app has this host name.",
                    "Check the address for a typing error.",
                );
                Self::new(StatusCode::NOT_FOUND, reason, words)
            }
            Refusal::MethodNotAllowed => {
                let words = Words::new(NOT_POSSIBLE, "This method is not served.", GO_BACK);
                Self::new(StatusCode::METHOD_NOT_ALLOWED, reason, words)
            }
            Refusal::TargetTooLong => {
                let words = Words::new(UNREADABLE, "The address is too long.", GO_BACK);
                Self::closing(StatusCode::URI_TOO_LONG, reason, words)
            }
            Refusal::BadPath(_)
            | Refusal::BadTarget
            | Refusal::BadMethod
            | Refusal::BadHost
            | Refusal::RepeatedHeader(_) => Self::unclear(refusal),
        }
    }

    fn unclear(refusal: &Refusal) -> Self {
        let what = format!("The request is unclear: {refusal}.");
        let now = "Check the address. If a link led you here, its author should know.";
        let words = Words::new(UNREADABLE, what, now);
        Self::closing(StatusCode::BAD_REQUEST, refusal.reason(), words)
    }

    fn unavailable(reason: &'static str, retry_after: Duration) -> Self {
        let words = Words::new(
            "Please wait a moment",
            "Your session is fine, but the service that renews it does not answer.",
            "You are still signed in. Try again in a few seconds.",
        );
        let reply = Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, words);
        Self { retry_after: Some(retry_after), action: Action::Retry, ..reply }
    }

    /// The answer to a failure.
    pub(crate) fn failure(failure: &Failure) -> Self {
        match failure {
            Failure::Overloaded => {
                let words = Words::new(
                    "Please wait a moment",
                    "More people are here right now than this site has room for.",
                    "Try again in a few seconds.",
                );
                let reply = Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", words);
                Self { retry_after: Some(A_MOMENT), action: Action::Retry, ..reply }
            }
            Failure::BrokenUpload => Self::malformed("The body of the request broke off."),
            Failure::StalledUpload => {
                let words = Words::new(
                    "The upload stood still",
                    "The rest of the request did not come in time.",
                    "Check your connection, then go back and send it again.",
                );
                Self::closing(StatusCode::REQUEST_TIMEOUT, "upload_timeout", words)
            }
            Failure::CutOff(_) => {
                let words = Words::new(
                    "The site did not take this",
                    "The app behind this address hung up before it had the whole request.",
                    "What you sent may be too large for it. Go back and try again.",
                );
                Self::new(StatusCode::BAD_GATEWAY, "upload_cut_off", words)
            }
            Failure::Unreachable(_) => Self::upstream(
                StatusCode::BAD_GATEWAY,
                "upstream_unreachable",
                "The part of this site that you asked for is not running right now.",
            ),
            Failure::TooSlow => Self::upstream(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
                "The app behind this address did not answer in time.",
            ),
            Failure::Broken(..) | Failure::UnaskedSwitch | Failure::UnaskedCoding => {
                Self::upstream(
                    StatusCode::BAD_GATEWAY,
                    "upstream_broken",
                    "The app behind this address broke off its answer.",
                )
            }
        }
    }

    fn upstream(status: StatusCode, reason: &'static str, what: &'static str) -> Self {
        let now = "This is no fault of yours. Try again in a moment.";
        let reply = Self::new(status, reason, Words::new("The site does not answer", what, now));
        Self { action: Action::Retry, ..reply }
    }

    /// The answer to a known host that the certificate of this connection does not cover (RFC 9110
    /// §15.5.20): the visitor may ask again over another connection.
    pub(crate) fn misdirected() -> Self {
        let words = Words::new(
            "The wrong connection",
            "The certificate of this connection is not for this host name.",
            "Try again: your browser then takes another connection.",
        );
        let reply = Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", words);
        Self { action: Action::Retry, ..reply }
    }

    /// The answer to an expectation other than `100-continue` (RFC 9110 §10.1.1).
    pub(crate) fn bad_expectation() -> Self {
        let words = Words::new(NOT_POSSIBLE, "Only 100-continue may be expected.", GO_BACK);
        Self::closing(StatusCode::EXPECTATION_FAILED, "bad_expectation", words)
    }

    /// The answer under `/.foregate/` where there is nothing of that name.
    pub(crate) fn unknown_reserved() -> Self {
        let words = Words::new("Nothing here", "There is nothing at this address.", GO_BACK);
        Self::new(StatusCode::NOT_FOUND, "unknown_reserved_path", words)
    }

    /// The answer of the decision endpoint to whoever is not in `server.trusted_proxies`.
    pub(crate) fn untrusted_peer() -> Self {
        let what = "Only a proxy that server.trusted_proxies names may ask here.";
        let words = Words::new(NOT_POSSIBLE, what, GO_BACK);
        Self::new(StatusCode::FORBIDDEN, "untrusted_peer", words)
    }

    /// The answer of the decision endpoint where nobody can say which request is meant.
    pub(crate) fn unclear_question(what: String) -> Self {
        let words = Words::new(UNREADABLE, what, GO_BACK);
        Self::new(StatusCode::BAD_REQUEST, "unclear_question", words)
    }

    /// The answer to another method than those that a reserved path serves.
    pub(crate) fn wrong_method(allowed: &'static str) -> Self {
        let words = Words::new(NOT_POSSIBLE, "This address serves another method.", GO_BACK);
        let reply = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", words);
        Self { allow: allowed, ..reply }
    }

    /// The answer to the cross-site check.
    pub(crate) fn cross_site() -> Self {
        let words = Words::new(
            "Refused, to be safe",
            "Another site sent this request with your cookie.",
            "If you meant it, open the site itself and do it there.",
        );
        Self::new(StatusCode::FORBIDDEN, Refusal::CrossSite.reason(), words)
    }

    /// The answer to a message whose framing two servers could read differently, or whose body
    /// broke off.
    pub(crate) fn malformed(what: &'static str) -> Self {
        let words = Words::new(UNREADABLE, what, "Go back and try again.");
        Self::closing(StatusCode::BAD_REQUEST, MALFORMED, words)
    }

    /// The answer to a head beyond `limits.header_bytes`.
    pub(crate) fn head_too_large() -> Self {
        let what = "The headers of the request are too large.";
        let words = Words::new(UNREADABLE, what, "Deleting the cookies of this site may help.");
        Self::closing(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, MALFORMED, words)
    }

    /// The answer to a target that no app could be asked for.
    pub(crate) fn bad_target() -> Self {
        Self::unclear(&Refusal::BadTarget)
    }

    /// The same answer, with what the visitor's cookies must become.
    pub(crate) fn with_cookies(self, set_cookies: Vec<String>) -> Self {
        Self { set_cookies, ..self }
    }

    fn redirecting(self, head: Option<&Head<'_>>, location: String) -> Self {
        let reads = head.is_some_and(|head| matches!(head.method(), "GET" | "HEAD"));
        let status = if reads { StatusCode::FOUND } else { StatusCode::SEE_OTHER };
        match HeaderValue::from_str(&location) {
            Ok(location) => Self { status, location: Some(location), ..self },
            Err(_) => self,
        }
    }

    /// The answer as it goes out. It is nobody's to keep: the next request may fare better.
    pub(crate) fn into_response(self, asker: &Asker, snapshot: &Snapshot) -> Response<Full<Bytes>> {
        let mut headers = HeaderMap::new();
        let (media_type, body) = match asker.reader {
            _ if self.location.is_some() => ("text/plain; charset=utf-8", String::new()),
            Reader::Person { read } => {
                let action = match self.action {
                    Action::Retry if !read => &Action::None,
                    ref action => action,
                };
                action.restrict(&mut headers);
                ("text/html; charset=utf-8", self.page(action, &asker.request_id))
            }
            // A body that is no gRPC message makes some clients overlook the status.
            Reader::Grpc => {
                self.insert_grpc_status(&mut headers);
                (GRPC, String::new())
            }
            Reader::Program => ("application/problem+json", self.problem(&asker.request_id)),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        // Else HEAD would hear nothing of a body that is empty.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(header::CACHE_CONTROL, PRIVATE);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(X_REQUEST_ID, asker.request_id.header_value());
        if let Some(location) = self.location {
            headers.insert(header::LOCATION, location);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static(self.allow));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let readable = matches!(self.status.as_u16(), 401 | 403 | 503);
        if let Some(origin) = asker.origin.as_ref().filter(|_| readable) {
            allow_reading(&mut headers, origin, snapshot);
        }
        set_cookies(&mut headers, &self.set_cookies);
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }

    fn problem(&self, request_id: &RequestId) -> String {
        serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.words.what,
            "reason": self.reason,
            "request_id": request_id.to_string(),
        })
        .to_string()
    }

    fn page(&self, action: &Action, request_id: &RequestId) -> String {
        let Self { words, status, reason, .. } = self;
        Page { words, action, status: *status, reason, request_id }.html()
    }

    /// A client that finds `grpc-status` goes by it, whatever the HTTP status (gRPC, "HTTP to gRPC
    /// Status Code Mapping"); the message is percent-encoded (gRPC over HTTP/2, "Responses").
    fn insert_grpc_status(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, HeaderValue::from(grpc_status(self.status)));
        let message = format!("{}: {}", self.reason, self.words.what);
        let message = utf8_percent_encode(&message, NOT_IN_MESSAGES).to_string();
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert(GRPC_MESSAGE, message);
        }
    }
}

/// The gRPC status that says the same: as gRPC clients translate an answer without one, save for
/// time-outs.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        401 => 16,             // UNAUTHENTICATED
        403 => 7,              // PERMISSION_DENIED
        404 | 405 => 12,       // UNIMPLEMENTED
        408 | 504 => 4,        // DEADLINE_EXCEEDED
        421 | 502 | 503 => 14, // UNAVAILABLE
        _ => 13,               // INTERNAL
    }
}

const GRPC: &str = "application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const NOT_IN_MESSAGES: &AsciiSet = &CONTROLS.add(b'%');

/// In which some connection will have ended.
const A_MOMENT: Duration = Duration::from_secs(1);
/// The word for what HTTP's own rules refuse.
pub(crate) const MALFORMED: &str = "malformed";
const UNREADABLE: &str = "This request cannot be served";
const NOT_POSSIBLE: &str = "Not possible here";
const GO_BACK: &str = "Go back to where you came from.";
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Lets a page of an allowed origin read the status of a refusal (Fetch Standard, CORS protocol):
/// without it a script sees a network error and cannot tell that it must sign in.
fn allow_reading(headers: &mut HeaderMap, origin: &str, snapshot: &Snapshot) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if !snapshot.rules.allows_origin(origin) {
        return;
    }
    if let Ok(origin) = HeaderValue::from_str(origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let yes = HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        let exposed = HeaderValue::from_static("Retry-After, WWW-Authenticate, X-Request-Id");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The login page, with the way back: the absolute URL that was asked for.
fn login_location(head: &Head<'_>, scheme: &str, snapshot: &Snapshot) -> Option<String> {
    let login = snapshot.login.as_ref()?;
    let asked = [scheme, "://", head.authority(), &path_and_query(head)].concat();
    let mut url = login.url.clone();
    url.query_pairs_mut().append_pair(&login.callback_param, &asked);
    Some(url.into())
}

/// Where a visitor comes back to who asked for `head`: what was written is not written again.
fn way_back(head: &Head<'_>) -> String {
    match head.method() {
        "GET" | "HEAD" => path_and_query(head),
        _ => "/".to_owned(),
    }
}

fn path_and_query(head: &Head<'_>) -> String {
    let path = head.path().as_str();
    head.query().map_or_else(|| path.to_owned(), |query| [path, "?", query].concat())
}
