//! What a proxy asks the decision endpoint: whatever a visitor adds to the headers of a proxy that
//! tells all by itself, the question means the same request or is refused. A dialect's number, and
//! lines of headers.

#![no_main]
#![allow(dead_code, reason = "the proxy uses more of these modules")]

#[path = "../../../crates/proxy/src/peer.rs"]
mod peer;
#[path = "../../../crates/proxy/src/auth/question.rs"]
mod question;

use foregate_policy::{Field, Head, RawHead};
use http::header::{HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request};
use libfuzzer_sys::fuzz_target;
use peer::Scheme;
use question::Question;

fuzz_target!(|text: &str| {
    let (dialect, lines) = text.split_once('\n').unwrap_or((text, ""));
    let Some(dialect) = dialect.parse().ok().and_then(|it: usize| DIALECTS.get(it)) else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in *dialect {
        headers.append(*name, HeaderValue::from_static(value));
    }
    assert_eq!(meant(&headers).as_deref(), Some("POST https app.example.com /a?b"));
    for line in lines.lines() {
        let Some((name, value)) = line.split_once(':') else { return };
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.trim().parse()) else {
            return;
        };
        headers.append(name, value);
    }
    headers.remove(HOST);
    let told = meant(&headers);
    assert!(told.as_deref().is_none_or(|it| it == "POST https app.example.com /a?b"), "{told:?}");
});

/// The request that is asked about, or `None` where the question is refused.
fn meant(headers: &HeaderMap) -> Option<String> {
    let mut request = Request::new(());
    *request.uri_mut() = "/.foregate/auth".parse().expect("a path");
    *request.headers_mut() = headers.clone();
    let (parts, ()): (Parts, ()) = request.into_parts();
    let own = Head::parse(RawHead::get("gate.internal", "/.foregate/auth")).expect("a request");
    let question = Question::read(&parts, &own, Scheme::Http, false).ok()?;
    let headers = question.visitors_headers(&parts.headers);
    let host = headers.get(HOST).map_or(Field::Absent, |host| Field::One(host.as_bytes()));
    let head = Head::parse(RawHead {
        method: question.method,
        authority: question.authority,
        host,
        ..RawHead::get("", question.target)
    });
    let head = head.ok()?;
    let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
    let (method, scheme, path) = (head.method(), question.scheme.as_str(), head.path().as_str());
    Some(format!("{method} {scheme} {} {path}{query}", head.authority()))
}

/// As Traefik and Caddy ask, and as nginx does.
const DIALECTS: [&[(&str, &str)]; 2] = [
    &[
        ("x-forwarded-method", "POST"),
        ("x-forwarded-uri", "/a?b"),
        ("x-forwarded-host", "app.example.com"),
        ("x-forwarded-proto", "https"),
    ],
    &[("x-original-url", "https://app.example.com/a?b"), ("x-original-method", "POST")],
];
