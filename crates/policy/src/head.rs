//! What a decision needs to know of a request, read once and strictly.
//!
//! Free of HTTP types, so that the proxy and the decision endpoint fill it alike. Whatever could
//! be read in two ways is refused here; nothing behind it looks at the raw request again.

use std::borrow::Cow;

use crate::access::Refusal;
use crate::host::{Authority, Host};
use crate::path::{CanonicalPath, PathFault, escaped_byte};

/// Longest request target in bytes, path and query together.
pub const TARGET_LIMIT: usize = 16 * 1024;

/// A header that may stand once only, as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// Not sent.
    Absent,
    /// Sent once.
    One(&'a [u8]),
    /// Sent several times, equal or not.
    Repeated,
}

impl<'a> Field<'a> {
    fn single(self, name: &'static str) -> Result<Option<&'a [u8]>, Refusal> {
        match self {
            Self::Absent => Ok(None),
            Self::One(value) => Ok(Some(value)),
            Self::Repeated => Err(Refusal::RepeatedHeader(name)),
        }
    }
}

/// The parts of a request as they were received.
#[derive(Debug, Clone, Copy)]
pub struct RawHead<'a> {
    /// The method, letter by letter.
    pub method: &'a str,
    /// Host and port of an absolute-form target or of `:authority`.
    pub authority: Option<&'a str>,
    /// Path and query.
    pub target: &'a str,
    /// `Host`.
    pub host: Field<'a>,
    /// `Origin`.
    pub origin: Field<'a>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Field<'a>,
    /// `Sec-Fetch-Mode`.
    pub fetch_mode: Field<'a>,
    /// The first `Accept`.
    pub accept: Option<&'a [u8]>,
    /// Whether `Access-Control-Request-Method` is there.
    pub names_cors_method: bool,
    /// Whether the request opens a WebSocket: an upgrade, or `:protocol = websocket`.
    pub websocket: bool,
}

impl<'a> RawHead<'a> {
    /// A plain GET, as somebody sends it who says nothing about himself.
    pub fn get(authority: &'a str, target: &'a str) -> Self {
        Self {
            method: "GET",
            authority: Some(authority),
            target,
            host: Field::Absent,
            origin: Field::Absent,
            fetch_site: Field::Absent,
            fetch_mode: Field::Absent,
            accept: None,
            names_cors_method: false,
            websocket: false,
        }
    }
}

/// A request that can be read in one way only.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    method: &'a str,
    host: Host<'a>,
    authority: Cow<'a, str>,
    path: CanonicalPath<'a>,
    /// The path before escapes got their one spelling. A matcher looks at it as well, since
    /// Next.js does; it can only add a guard, and it goes nowhere else.
    sent_path: &'a str,
    query: Option<Cow<'a, str>>,
    origin: Option<&'a [u8]>,
    fetch_site: Option<&'a [u8]>,
    is_navigation: bool,
    names_cors_method: bool,
    is_websocket: bool,
}

impl<'a> Head<'a> {
    /// Reads a request, or says which part of it has no single meaning.
    pub fn parse(raw: RawHead<'a>) -> Result<Self, Refusal> {
        let method = parse_method(raw.method)?;
        if raw.target.len() > TARGET_LIMIT {
            return Err(Refusal::TargetTooLong);
        }
        let (path, query) = split_target(raw.target)?;
        let Authority { host, port } = parse_host(raw.authority, raw.host)?;
        let fetch_mode = raw.fetch_mode.single("sec-fetch-mode")?;
        Ok(Self {
            method,
            authority: Authority { host: host.clone(), port }.into_text(),
            host,
            path: CanonicalPath::parse(path).map_err(Refusal::BadPath)?,
            sent_path: path,
            query: query.and_then(without_route_parameters),
            origin: raw.origin.single("origin")?,
            fetch_site: raw.fetch_site.single("sec-fetch-site")?,
            is_navigation: match fetch_mode {
                Some(mode) => mode == b"navigate",
                None => matches!(method, "GET" | "HEAD") && raw.accept.is_some_and(names_html),
            },
            names_cors_method: raw.names_cors_method,
            is_websocket: raw.websocket,
        })
    }

    /// The method that rules see: GET for an HTTP/2 WebSocket.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The host that picks the app.
    pub fn host(&self) -> &Host<'a> {
        &self.host
    }

    /// Host and port as the visitor named them, in lower case, without a trailing dot.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path that rules see and the app gets.
    pub fn path(&self) -> &CanonicalPath<'a> {
        &self.path
    }

    /// The path as sent, where that is not its canonical form.
    pub(crate) fn respelled_path(&self) -> Option<&'a str> {
        (self.sent_path != self.path.as_str()).then_some(self.sent_path)
    }

    /// The query as it goes on, without `?`: byte for byte, save that the keys by which Next.js
    /// hands route parameters to itself (`nxtP…`, `nxtI…`) are taken out.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Whether a person looks at the answer: a redirect to the login helps then, and only then.
    pub fn is_navigation(&self) -> bool {
        self.is_navigation
    }

    /// A CORS preflight; browsers send no cookies with it.
    pub fn is_preflight(&self) -> bool {
        self.method == "OPTIONS" && self.origin.is_some() && self.names_cors_method
    }

    /// Whether the request opens a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.is_websocket
    }

    /// Whether the request only reads: GET, HEAD or OPTIONS, and no WebSocket.
    pub fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS") && !self.is_websocket
    }

    /// `Origin`, where it is text; anything else is an origin that nobody knows.
    pub fn origin(&self) -> Option<&'a str> {
        self.origin.map(|origin| str::from_utf8(origin).unwrap_or("null"))
    }

    /// `Sec-Fetch-Site`.
    pub(crate) fn fetch_site(&self) -> Option<&'a [u8]> {
        self.fetch_site
    }
}

/// Methods are compared letter by letter, so a lower-case one would miss every rule.
fn parse_method(method: &str) -> Result<&str, Refusal> {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_token = !method.is_empty() && method.bytes().all(is_tchar);
    if !is_token || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Refusal::BadMethod);
    }
    match method {
        // An extended CONNECT for a WebSocket (RFC 8441) comes here as the GET that it stands for.
        // Any other, whatever its headers say, asks for a tunnel.
        "CONNECT" | "TRACE" => Err(Refusal::MethodNotAllowed),
        _ => Ok(method),
    }
}

fn split_target(target: &str) -> Result<(&str, Option<&str>), Refusal> {
    if !target.starts_with('/') {
        return Err(Refusal::BadTarget);
    }
    if target.contains('#') {
        return Err(Refusal::BadPath(PathFault::Fragment));
    }
    let Some((path, query)) = target.split_once('?') else { return Ok((target, None)) };
    if query.bytes().any(|byte| byte <= b' ' || byte == 0x7F) {
        return Err(Refusal::BadTarget);
    }
    Ok((path, Some(query)))
}

/// The target's host and `Host` must agree where both are there, the port included.
fn parse_host<'a>(authority: Option<&'a str>, host: Field<'a>) -> Result<Authority<'a>, Refusal> {
    let parse = |text| Authority::parse(text).map_err(|_| Refusal::BadHost);
    let header = match host.single("host")? {
        Some(value) if value.is_ascii() => {
            Some(parse(str::from_utf8(value).map_err(|_| Refusal::BadHost)?)?)
        }
        Some(_) => return Err(Refusal::BadHost),
        None => None,
    };
    match (authority.map(parse).transpose()?, header) {
        (Some(target), Some(header)) if target != header => Err(Refusal::BadHost),
        (Some(only), _) | (None, Some(only)) => Ok(only),
        (None, None) => Err(Refusal::BadHost),
    }
}

/// Whether an `Accept` names text/html.
fn names_html(accept: &[u8]) -> bool {
    accept.split(|byte| *byte == b',').any(|range| {
        let media_type = range.split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(b"text/html")
    })
}

fn without_route_parameters(query: &str) -> Option<Cow<'_, str>> {
    if !query.split('&').any(is_route_parameter) {
        return Some(Cow::Borrowed(query));
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_route_parameter(pair)).collect();
    if kept.is_empty() { None } else { Some(Cow::Owned(kept.join("&"))) }
}

/// Whether the key of a query pair begins, percent-decoded, with `nxtP` or `nxtI`.
fn is_route_parameter(pair: &str) -> bool {
    let mut rest = pair.as_bytes();
    for expected in [b"n".as_slice(), b"x", b"t", b"PI"] {
        let (byte, behind) = match rest {
            [b'%', digits @ ..] => match escaped_byte(digits) {
                Some(byte) => (byte, &digits[2..]),
                None => return false,
            },
            [byte, behind @ ..] => (*byte, behind),
            [] => return false,
        };
        if !expected.contains(&byte) {
            return false;
        }
        rest = behind;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GET of `target` on app.example.com.
    fn raw(target: &str) -> RawHead<'_> {
        let host = Field::One(b"app.example.com");
        RawHead { host, authority: None, ..RawHead::get("", target) }
    }

    fn refusal(raw: RawHead<'_>) -> Option<Refusal> {
        Head::parse(raw).err()
    }

    #[test]
    fn a_method_has_no_lower_case_letter_and_is_neither_trace_nor_connect() {
        let refusal = |method, websocket| refusal(RawHead { method, websocket, ..raw("/") });
        for method in ["GET", "HEAD", "POST", "M-SEARCH", "X_1"] {
            assert_eq!(refusal(method, false), None, "{method}");
        }
        for method in ["", "get", "Get", "POST ", "GE T", "G\u{c9}T", "GET\n"] {
            assert_eq!(refusal(method, false), Some(Refusal::BadMethod), "{method}");
        }
        assert_eq!(refusal("TRACE", false), Some(Refusal::MethodNotAllowed));
        assert_eq!(refusal("CONNECT", false), Some(Refusal::MethodNotAllowed));
        assert_eq!(refusal("CONNECT", true), Some(Refusal::MethodNotAllowed));
    }

    #[test]
    fn a_target_is_a_path_of_bounded_length() {
        for target in ["*", "", "admin", "?x", "http://app.example.com/"] {
            assert_eq!(refusal(raw(target)), Some(Refusal::BadTarget), "{target}");
        }
        assert_eq!(refusal(raw("/a?b c")), Some(Refusal::BadTarget));
        assert_eq!(refusal(raw("/a?b#c")), Some(Refusal::BadPath(PathFault::Fragment)));
        assert_eq!(refusal(raw("/a/../b?c")), Some(Refusal::BadPath(PathFault::DotSegment)));
        let longest = format!("/{}", "a".repeat(TARGET_LIMIT - 1));
        assert_eq!(refusal(raw(&longest)), None);
        assert_eq!(refusal(raw(&format!("{longest}a"))), Some(Refusal::TargetTooLong));
    }

    #[test]
    fn target_and_host_header_name_one_host() {
        let check = |authority, host, expected: Result<&str, Refusal>| {
            let head = Head::parse(RawHead { authority, host, ..raw("/") });
            assert_eq!(head.map(|head| head.authority().to_owned()), expected.map(str::to_owned));
        };
        check(None, Field::One(b"APP.example.com.:8080"), Ok("app.example.com:8080"));
        check(Some("app.example.com"), Field::Absent, Ok("app.example.com"));
        check(Some("App.example.com"), Field::One(b"app.example.com."), Ok("app.example.com"));
        check(Some("a.example.com"), Field::One(b"b.example.com"), Err(Refusal::BadHost));
        check(Some("app.example.com:1"), Field::One(b"app.example.com:2"), Err(Refusal::BadHost));
        check(Some("app.example.com"), Field::One(b""), Err(Refusal::BadHost));
        check(Some("me@app.example.com"), Field::Absent, Err(Refusal::BadHost));
        check(None, Field::Absent, Err(Refusal::BadHost));
        check(None, Field::One("b\u{fc}cher.example".as_bytes()), Err(Refusal::BadHost));
        check(Some("a.example"), Field::Repeated, Err(Refusal::RepeatedHeader("host")));
    }

    #[test]
    fn headers_that_decide_stand_once() {
        let twice = Field::Repeated;
        let refused = Refusal::RepeatedHeader;
        assert_eq!(refusal(RawHead { origin: twice, ..raw("/") }), Some(refused("origin")));
        assert_eq!(
            refusal(RawHead { fetch_site: twice, ..raw("/") }),
            Some(refused("sec-fetch-site"))
        );
        assert_eq!(
            refusal(RawHead { fetch_mode: twice, ..raw("/") }),
            Some(refused("sec-fetch-mode"))
        );
    }

    #[test]
    fn a_navigation_says_so_or_asks_for_html() {
        let check = |method, fetch_mode, accept: &str, expected| {
            let accept = Some(accept.as_bytes());
            let head = Head::parse(RawHead { method, fetch_mode, accept, ..raw("/") }).unwrap();
            assert_eq!(head.is_navigation(), expected, "{method} {fetch_mode:?} {accept:?}");
        };
        check("GET", Field::One(b"navigate"), "*/*", true);
        check("POST", Field::One(b"navigate"), "*/*", true);
        check("GET", Field::One(b"cors"), "text/html", false);
        check("GET", Field::Absent, "text/html", true);
        check("HEAD", Field::Absent, "image/png, Text/HTML;q=0.9", true);
        check("POST", Field::Absent, "text/html", false);
        check("GET", Field::Absent, "*/*", false);
        check("GET", Field::Absent, "text/html5", false);
        check("GET", Field::Absent, "application/json;x=text/html", false);
    }

    #[test]
    fn a_preflight_has_origin_and_names_a_method() {
        let check = |method, origin, names_cors_method, expected| {
            let head = Head::parse(RawHead { method, origin, names_cors_method, ..raw("/") });
            assert_eq!(head.unwrap().is_preflight(), expected);
        };
        let origin = Field::One(b"https://a.example");
        check("OPTIONS", origin, true, true);
        check("OPTIONS", origin, false, false);
        check("OPTIONS", Field::Absent, true, false);
        check("GET", origin, true, false);
    }

    #[test]
    fn route_parameters_of_nextjs_leave_the_query() {
        let check = |query: &str, expected: Option<&str>| {
            let target = format!("/a?{query}");
            let head = Head::parse(raw(&target)).unwrap();
            assert_eq!(head.query(), expected, "{query}");
        };
        check("", Some(""));
        check("a=1&b=%zz&&c", Some("a=1&b=%zz&&c"));
        check("nxtPslug=admin", None);
        check("a=1&nxtPslug=admin&b=2", Some("a=1&b=2"));
        check("%6ext%50slug=admin&nxtIx=1&b", Some("b"));
        check("nxt=1&nxtp=2&anxtP=3&x=nxtP", Some("nxt=1&nxtp=2&anxtP=3&x=nxtP"));
        assert_eq!(Head::parse(raw("/a")).unwrap().query(), None);
    }
}
