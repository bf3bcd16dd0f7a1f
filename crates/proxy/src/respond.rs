//! What a visitor gets when a request goes nowhere: the contract's table of answers. One exhaustive
//! match turns a refusal into HTTP, another one a failure; the same facts go out as a page to a
//! browser that navigates, and as problem+json (RFC 9457) to everything else.

use std::time::Duration;

use bytes::Bytes;
use foregate_config::Snapshot;
use foregate_policy::{Head, Refusal};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::admission::Refused;
use crate::cache::{PRIVATE, set_cookies};

/// An answer of our own, before it takes its form.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// The stable word for logs, metrics and `explain`.
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
    pub(crate) location: Option<HeaderValue>,
    retry_after: Option<Duration>,
    /// With 405: what may be asked instead.
    allow: &'static str,
    /// The request could be read in two ways, so nothing behind it on this connection is read.
    close: bool,
    set_cookies: Vec<String>,
}

/// Who reads an answer: a person at a browser's window, or a program.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    navigation: bool,
    origin: Option<String>,
}

impl Asker {
    pub(crate) fn of(head: &Head<'_>) -> Self {
        Self { navigation: head.is_navigation(), origin: head.origin().map(str::to_owned) }
    }

    /// Whoever sent a head that cannot be read; what it accepts still tells a browser.
    pub(crate) fn unread(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let navigation = accept.is_some_and(|accept| accept.contains("text/html"));
        Self { navigation, origin: None }
    }
}

/// Something broke, and on whose side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The visitor's.
    #[error("the visitor's request body broke off")]
    BrokenUpload,
    /// The app's.
    #[error("the app does not accept connections: {0}")]
    Unreachable(std::io::Error),
    #[error("the app did not answer in time")]
    TooSlow,
    #[error("the app broke the connection: {0}")]
    Broken(hyper::Error),
    #[error("the app switched protocols unasked")]
    UnaskedSwitch,
    #[error("the app coded its answer in a way that nobody asked for")]
    UnaskedCoding,
}

impl Reply {
    fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            reason,
            detail,
            location: None,
            retry_after: None,
            allow: ALLOWED,
            close: false,
            set_cookies: Vec::new(),
        }
    }

    fn closing(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { close: true, ..Self::new(status, reason, detail) }
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
                let detail =
                    "Your session is fine, but the service that renews it does not answer.";
                let reply = Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, detail);
                return Self { retry_after: Some(*retry_after), ..reply };
            }
        };
        let reason = refusal.reason();
        match refusal {
            Refusal::NoSession => {
                let reply = Self::new(StatusCode::UNAUTHORIZED, reason, "You are not signed in.");
                match navigation.and_then(|head| login_location(head, scheme, snapshot)) {
                    Some(location) => reply.redirecting(head, location),
                    None => reply,
                }
            }
            Refusal::RoleMissing => {
                let detail = "Your account lacks the role that this page needs.";
                let reply = Self::new(StatusCode::FORBIDDEN, reason, detail);
                match (&snapshot.forbidden_url, navigation) {
                    (Some(url), Some(_)) => reply.redirecting(head, url.as_str().to_owned()),
                    _ => reply,
                }
            }
            Refusal::Denied => Self::new(StatusCode::FORBIDDEN, reason, "Nobody may go here."),
            Refusal::CrossSite => {
                let detail = "Another site sent this request with your cookie.";
                Self::new(StatusCode::FORBIDDEN, reason, detail)
            }
            Refusal::UnknownHost => {
                Self::new(StatusCode::NOT_FOUND, reason, "No app has this host name.")
            }
            Refusal::MethodNotAllowed => {
                let detail = "This method is not served.";
                Self::new(StatusCode::METHOD_NOT_ALLOWED, reason, detail)
            }
            Refusal::TargetTooLong => {
                Self::closing(StatusCode::URI_TOO_LONG, reason, "The address is too long.")
            }
            Refusal::BadPath(_)
            | Refusal::BadTarget
            | Refusal::BadMethod
            | Refusal::BadHost
            | Refusal::RepeatedHeader(_) => {
                Self::closing(StatusCode::BAD_REQUEST, reason, refusal.to_string())
            }
        }
    }

    /// The answer to a failure of the app.
    pub(crate) fn failure(failure: &Failure) -> Self {
        match failure {
            Failure::Unreachable(_) => Self::new(
                StatusCode::BAD_GATEWAY,
                "upstream_unreachable",
                "The app behind this address does not accept connections.",
            ),
            Failure::TooSlow => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
                "The app behind this address did not answer in time.",
            ),
            Failure::BrokenUpload => Self::malformed("The body of the request broke off."),
            Failure::Broken(_) | Failure::UnaskedSwitch | Failure::UnaskedCoding => Self::new(
                StatusCode::BAD_GATEWAY,
                "upstream_broken",
                "The app behind this address broke off its answer.",
            ),
        }
    }

    /// The answer to an expectation other than `100-continue` (RFC 9110 §10.1.1).
    pub(crate) fn bad_expectation() -> Self {
        let detail = "Only 100-continue may be expected.";
        Self::closing(StatusCode::EXPECTATION_FAILED, "bad_expectation", detail)
    }

    /// The answer under `/.foregate/` where there is nothing of that name.
    pub(crate) fn unknown_reserved() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_reserved_path", "There is nothing here.")
    }

    /// The answer to another method than those that a reserved path serves.
    pub(crate) fn wrong_method(allowed: &'static str) -> Self {
        let detail = "This address serves another method.";
        let reply = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        Self { allow: allowed, ..reply }
    }

    /// The answer to the cross-site check on a reserved path.
    pub(crate) fn cross_site() -> Self {
        let detail = "Another site sent this request with your cookie.";
        Self::new(StatusCode::FORBIDDEN, Refusal::CrossSite.reason(), detail)
    }

    /// The answer to a message whose framing two servers could read differently, or whose body
    /// broke off.
    pub(crate) fn malformed(detail: &str) -> Self {
        Self::closing(StatusCode::BAD_REQUEST, MALFORMED, detail)
    }

    /// The answer to a head beyond `limits.header_bytes`.
    pub(crate) fn head_too_large() -> Self {
        let detail = "The request's headers are too large.";
        Self::closing(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, MALFORMED, detail)
    }

    /// The answer to a target that no app could be asked for.
    pub(crate) fn bad_target() -> Self {
        let refusal = Refusal::BadTarget;
        Self::closing(StatusCode::BAD_REQUEST, refusal.reason(), refusal.to_string())
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
        let (media_type, body) = if self.location.is_some() {
            ("text/plain; charset=utf-8", String::new())
        } else if asker.navigation {
            ("text/html; charset=utf-8", self.page())
        } else {
            ("application/problem+json", self.problem())
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CACHE_CONTROL, PRIVATE);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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
            allow_reading(headers, origin, snapshot);
        }
        set_cookies(headers, &self.set_cookies);
        response
    }

    fn problem(&self) -> String {
        serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "reason": self.reason,
        })
        .to_string()
    }

    fn page(&self) -> String {
        PAGE.replace("{title}", self.status.canonical_reason().unwrap_or("Error"))
            .replace("{status}", self.status.as_str())
            .replace("{detail}", &escaped(&self.detail))
            .replace("{reason}", self.reason)
    }
}

/// The word for what HTTP's own rules refuse.
pub(crate) const MALFORMED: &str = "malformed";
const PAGE: &str = include_str!("page.html");
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

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
    }
}

/// The login page, with the way back: the absolute URL that was asked for.
fn login_location(head: &Head<'_>, scheme: &str, snapshot: &Snapshot) -> Option<String> {
    let login = snapshot.login.as_ref()?;
    let mut asked = [scheme, "://", head.authority(), head.path().as_str()].concat();
    if let Some(query) = head.query() {
        asked.push('?');
        asked.push_str(query);
    }
    let mut url = login.url.clone();
    url.query_pairs_mut().append_pair(&login.callback_param, &asked);
    Some(url.into())
}
