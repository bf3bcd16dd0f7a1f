//! A request as hyper read it, seen as the head that the rules decide on.

use foregate_policy::{Field, Head, RawHead, Refusal};
use foregate_session::Cookies;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;

use crate::upstream::websocket;

/// The head of a request as hyper parsed it.
pub(crate) fn head_of(parts: &Parts) -> Result<Head<'_>, Refusal> {
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if websocket::is_extended_connect(&parts.method, &parts.extensions) {
        return parse("GET", authority, target, &parts.headers, true);
    }
    head(parts.method.as_str(), authority, target, &parts.headers)
}

/// The head of a request, or why it cannot be read in one way only. `authority` is that of an
/// absolute-form target, `target` the path and query.
pub(crate) fn head<'h>(
    method: &'h str,
    authority: Option<&'h str>,
    target: &'h str,
    headers: &'h HeaderMap,
) -> Result<Head<'h>, Refusal> {
    parse(method, authority, target, headers, websocket::is_named(headers))
}

fn parse<'h>(
    method: &'h str,
    authority: Option<&'h str>,
    target: &'h str,
    headers: &'h HeaderMap,
    websocket: bool,
) -> Result<Head<'h>, Refusal> {
    Head::parse(RawHead {
        method,
        authority,
        target,
        host: field(headers, &header::HOST),
        origin: field(headers, &header::ORIGIN),
        fetch_site: field(headers, &SEC_FETCH_SITE),
        fetch_mode: field(headers, &SEC_FETCH_MODE),
        accept: headers.get(header::ACCEPT).map(|value| value.as_bytes()),
        names_cors_method: headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD),
        websocket,
    })
}

/// The visitor's `Cookie` lines.
pub(crate) fn cookies(headers: &HeaderMap) -> Cookies<'_> {
    Cookies::parse(headers.get_all(header::COOKIE).iter().map(|line| line.as_bytes()))
}

/// Whether the body is framed in the one way that every server reads alike: no transfer coding, or
/// `chunked` alone (RFC 9112 §6.1).
pub(crate) fn is_framed_plainly(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// The bytes of the head, about as they came.
pub(crate) fn size(parts: &Parts) -> usize {
    const BETWEEN: usize = ": \r\n".len();
    let line = |(name, value): (&HeaderName, &header::HeaderValue)| {
        name.as_str().len() + value.len() + BETWEEN
    };
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let request_line = parts.method.as_str().len() + target + " HTTP/1.1\r\n".len();
    request_line + parts.headers.iter().map(line).sum::<usize>()
}

/// Whether the request expects nothing but `100-continue` (RFC 9110 §10.1.1).
pub(crate) fn expects_only_continue(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::EXPECT).iter();
    lines.all(|line| line.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Field<'h> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Field::Absent,
        (Some(value), None) => Field::One(value.as_bytes()),
        (Some(_), Some(_)) => Field::Repeated,
    }
}

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
