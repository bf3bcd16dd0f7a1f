//! Which request a proxy asks about. The visitor's own headers come with the question, forged ones
//! among them: each part of it may be told several times, but in one way only, and a dialect must
//! be spoken in full, so that no visitor can add what a proxy leaves out.

use foregate_policy::Head;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use crate::peer::Scheme;

/// Which request is meant, as a trusted proxy told.
pub(super) struct Question<'q> {
    pub(super) method: &'q str,
    /// Path and query.
    pub(super) target: &'q str,
    /// Host and port; where `host` is there as well, both must agree.
    pub(super) authority: Option<&'q str>,
    host: Option<&'q str>,
    pub(super) scheme: Scheme,
    is_websocket: bool,
    /// It was told by `X-Original-*`: nginx takes 2xx, 401 and 403 for an answer, nothing else.
    pub(super) is_nginx: bool,
    /// It was told in another way, too: such a proxy hands a refusal on to the visitor as it is.
    pub(super) hands_refusals_on: bool,
}

impl<'q> Question<'q> {
    /// Reads what a trusted peer tells. `own` is the head of the question itself, which came over
    /// `own_scheme`, and maybe under an app's name.
    pub(super) fn read(
        parts: &'q Parts,
        own: &'q Head<'_>,
        own_scheme: Scheme,
        by_app_name: bool,
    ) -> Result<Self, Unclear> {
        let told = |name| told(&parts.headers, name);
        let url = told("x-original-url")?.map(split).transpose()?;
        let original_uri = told("x-original-uri")?;
        let original_method = told("x-original-method")?;
        let forwarded_uri = told("x-forwarded-uri")?;
        let forwarded_method = told("x-forwarded-method")?;
        let forwarded_host = told("x-forwarded-host")?;
        let forwarded_scheme = told("x-forwarded-proto")?.map(scheme).transpose()?;

        let is_nginx = url.is_some() || original_uri.is_some() || original_method.is_some();
        let is_forwarded = forwarded_uri.is_some() || forwarded_method.is_some();
        let has_address = url.is_some() || original_uri.is_some();
        for (speaks, says, name) in [
            (is_nginx, original_method.is_some(), "X-Original-Method"),
            (is_nginx, has_address, "X-Original-URL"),
            (is_forwarded, forwarded_method.is_some(), "X-Forwarded-Method"),
            (is_forwarded, forwarded_uri.is_some(), "X-Forwarded-Uri"),
            (is_forwarded, forwarded_host.is_some(), "X-Forwarded-Host"),
            (is_forwarded, forwarded_scheme.is_some(), "X-Forwarded-Proto"),
        ] {
            if speaks && !says {
                return Err(Unclear::Missing(name));
            }
        }

        let behind = parts.uri.path_and_query().and_then(|target| behind(target.as_str()));
        let behind = behind.filter(|target| target.starts_with('/'));
        let url_target = url.as_ref().map(|url| url.target);
        let url_scheme = url.as_ref().map(|url| url.scheme);
        let target = agreed("path", [url_target, original_uri, forwarded_uri, behind])?;
        // Such a proxy asks with the visitor's own method.
        let own_method = behind.map(|_| own.method());
        let method = agreed("method", [original_method, forwarded_method, own_method])?;
        let scheme = agreed("scheme", [url_scheme, forwarded_scheme])?;
        let (authority, host) = match url {
            Some(url) => (Some(url.authority), forwarded_host),
            None if is_forwarded => (None, forwarded_host),
            // A proxy that asks under a name of its own tells the visitor's beside it.
            None if !by_app_name && forwarded_host.is_some() => (None, forwarded_host),
            None => (forwarded_host, Some(own.authority())),
        };
        // Proxies take `Upgrade` for their own; what goes with it in a handshake stays
        // (RFC 6455 §4.1).
        let is_handshake = |name: &HeaderName| name.as_str().starts_with("sec-websocket-");
        Ok(Self {
            method: method.unwrap_or_else(|| own.method()),
            target: target.ok_or(Unclear::Missing("X-Forwarded-Uri"))?,
            authority,
            host,
            scheme: scheme.unwrap_or(own_scheme),
            is_websocket: own.is_websocket() || parts.headers.keys().any(is_handshake),
            is_nginx,
            hands_refusals_on: is_forwarded || behind.is_some(),
        })
    }

    /// The headers of the request that is meant, as far as a decision looks at them.
    pub(super) fn visitors_headers(&self, headers: &HeaderMap) -> HeaderMap {
        let mut headers = headers.clone();
        headers.remove(header::HOST);
        if let Some(host) = self.host.and_then(|host| HeaderValue::from_str(host).ok()) {
            headers.insert(header::HOST, host);
        }
        if self.is_websocket {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        headers
    }
}

/// Why nobody can say which request is meant. Without detail from the visitor.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Unclear {
    #[error("{0} is missing.")]
    Missing(&'static str),
    #[error("{0} comes more than once.")]
    Doubled(&'static str),
    #[error("{0} is not visible ASCII.")]
    NoText(&'static str),
    #[error("X-Original-URL is not a whole URL.")]
    NoUrl,
    #[error("The scheme is neither http nor https.")]
    NoScheme,
    #[error("The headers tell of more than one {0}.")]
    Contradiction(&'static str),
}

/// What stands behind the endpoint's name in a path or target: nothing, or a target of its own.
pub(crate) fn behind(target: &str) -> Option<&str> {
    let rest = target.strip_prefix("/.foregate/auth")?;
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
}

/// `X-Original-URL`, taken apart. Its parts are checked by the parser of all heads.
struct OriginalUrl<'q> {
    scheme: Scheme,
    authority: &'q str,
    target: &'q str,
}

fn split(url: &str) -> Result<OriginalUrl<'_>, Unclear> {
    let (name, rest) = url.split_once("://").ok_or(Unclear::NoUrl)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let target = if target.is_empty() { "/" } else { target };
    Ok(OriginalUrl { scheme: scheme(name)?, authority, target })
}

fn scheme(name: &str) -> Result<Scheme, Unclear> {
    Scheme::told(name).ok_or(Unclear::NoScheme)
}

fn told<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Unclear> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => line.to_str().map(Some).map_err(|_| Unclear::NoText(name)),
        (Some(_), Some(_)) => Err(Unclear::Doubled(name)),
    }
}

/// The one thing that was told, however often.
fn agreed<T: PartialEq, const TIMES: usize>(
    what: &'static str,
    told: [Option<T>; TIMES],
) -> Result<Option<T>, Unclear> {
    let mut told = told.into_iter().flatten();
    let first = told.next();
    match told.all(|other| Some(&other) == first.as_ref()) {
        true => Ok(first),
        false => Err(Unclear::Contradiction(what)),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::request;

    type Lines<'l> = &'l [(&'l str, &'l str)];

    /// What is asked about, as `METHOD scheme://host/path`, or why nobody can say. The question
    /// itself is a GET over http of `target`; app.example.com is an app.
    fn asked(host: &str, target: &str, lines: Lines<'_>) -> Result<String, String> {
        let mut request = Request::builder().uri(target).header("host", host);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let own = request::head_of(&parts).unwrap();
        let by_app_name = own.host().as_str() == "app.example.com";
        let question = Question::read(&parts, &own, Scheme::Http, by_app_name)
            .map_err(|unclear| unclear.to_string())?;
        let headers = question.visitors_headers(&parts.headers);
        let (method, target) = (question.method, question.target);
        let head = request::head(method, question.authority, target, &headers)
            .map_err(|refusal| refusal.reason().to_owned())?;
        let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
        let (authority, path) = (head.authority(), head.path().as_str());
        Ok(format!("{method} {}://{authority}{path}{query}", question.scheme.as_str()))
    }

    const APP: &str = "app.example.com";
    const PRIVATE: &str = "foregate.internal:8080";
    const ENDPOINT: &str = "/.foregate/auth";
    const FORWARDED: Lines<'_> = &[
        ("x-forwarded-method", "POST"),
        ("x-forwarded-uri", "/a?b"),
        ("x-forwarded-host", "app.example.com"),
        ("x-forwarded-proto", "https"),
    ];
    const ORIGINAL: Lines<'_> =
        &[("x-original-url", "https://app.example.com/a?b"), ("x-original-method", "POST")];
    const MEANT: &str = "POST https://app.example.com/a?b";

    #[test]
    fn every_dialect_says_which_request_is_meant() {
        let check = |host: &str, target: &str, lines: Lines<'_>, expected: &str| {
            assert_eq!(asked(host, target, lines).as_deref(), Ok(expected), "{lines:?}");
        };
        for host in [APP, PRIVATE, "shop.example.com"] {
            check(host, ENDPOINT, FORWARDED, MEANT);
            check(host, ENDPOINT, ORIGINAL, MEANT);
            check(host, ENDPOINT, &[FORWARDED, ORIGINAL].concat(), MEANT);
            check(host, "/.foregate/auth?c=d", FORWARDED, MEANT);
        }
        let uri = [("x-original-uri", "/a?b"), ("x-original-method", "PUT")];
        check(APP, ENDPOINT, &uri, "PUT http://app.example.com/a?b");
        let more = [&uri[..], &FORWARDED[2..]].concat();
        check(APP, ENDPOINT, &more, "PUT https://app.example.com/a?b");
        check(PRIVATE, ENDPOINT, &more, "PUT https://app.example.com/a?b");

        check(APP, "/.foregate/auth/a/%62?c=%2F", &[], "GET http://app.example.com/a/b?c=%2F");
        check(APP, "/.foregate/auth/", &FORWARDED[3..], "GET https://app.example.com/");
        check("App.Example.com.:81", "/.foregate/auth/", &[], "GET http://app.example.com:81/");
    }

    #[test]
    fn a_dialect_is_spoken_in_full_or_not_at_all() {
        let check = |lines: Lines<'_>, expected: &str| {
            assert_eq!(asked(APP, ENDPOINT, lines), Err(expected.to_owned()), "{lines:?}");
        };
        check(&[], "X-Forwarded-Uri is missing.");
        check(&FORWARDED[2..], "X-Forwarded-Uri is missing.");
        check(&FORWARDED[1..], "X-Forwarded-Method is missing.");
        check(&FORWARDED[..3], "X-Forwarded-Proto is missing.");
        check(&[&FORWARDED[..2], &FORWARDED[3..]].concat(), "X-Forwarded-Host is missing.");
        check(&ORIGINAL[..1], "X-Original-Method is missing.");
        check(&ORIGINAL[1..], "X-Original-URL is missing.");
        // What a visitor adds to a dialect that the proxy speaks in full.
        check(&[FORWARDED, &ORIGINAL[..1]].concat(), "X-Original-Method is missing.");
        check(&[ORIGINAL, &FORWARDED[1..2]].concat(), "X-Forwarded-Method is missing.");
        for dialect in [FORWARDED, ORIGINAL] {
            for (name, value) in dialect {
                let doubled = [dialect, &[(name, *value)]].concat();
                let unclear = asked(APP, ENDPOINT, &doubled).unwrap_err();
                assert!(unclear.ends_with(" comes more than once."), "{name}: {unclear}");
            }
        }
    }

    #[test]
    fn nothing_is_told_in_two_ways() {
        let check = |host, target, lines: &[Lines<'_>], expected: &str| {
            let lines = lines.concat();
            assert_eq!(asked(host, target, &lines), Err(expected.to_owned()), "{lines:?}");
        };
        let path = "The headers tell of more than one path.";
        check(APP, ENDPOINT, &[ORIGINAL, &[("x-original-uri", "/")]], path);
        check(APP, ENDPOINT, &[ORIGINAL, &[("x-original-uri", "/a")]], path);
        check(APP, "/.foregate/auth/", &[ORIGINAL], path);
        check(APP, "/.foregate/auth/a?b=c", &[FORWARDED], path);
        let other = [("x-original-uri", "/public"), ("x-original-method", "POST")];
        check(APP, ENDPOINT, &[FORWARDED, &other], path);

        let method = "The headers tell of more than one method.";
        let get = [("x-original-uri", "/a?b"), ("x-original-method", "GET")];
        check(APP, ENDPOINT, &[FORWARDED, &get], method);
        // Envoy asks with the method that the app gets, whatever a visitor adds.
        check(APP, "/.foregate/auth/a?b", &[FORWARDED], method);
        check(APP, "/.foregate/auth/a?b", &[ORIGINAL], method);
        let plain = [("x-forwarded-proto", "http")];
        check(APP, ENDPOINT, &[ORIGINAL, &plain], "The headers tell of more than one scheme.");

        let shop = [("x-forwarded-host", "shop.example.com")];
        check(APP, ENDPOINT, &[ORIGINAL, &shop], "bad_host");
        check(PRIVATE, ENDPOINT, &[ORIGINAL, &shop], "bad_host");
        check(APP, "/.foregate/auth/a", &[&shop], "bad_host");
        check(APP, ENDPOINT, &[&get, &shop], "bad_host");
    }

    #[test]
    fn what_is_meant_is_read_as_strictly_as_any_request() {
        let check = |url: &str, method: &str, expected: &str| {
            let lines = [("x-original-url", url), ("x-original-method", method)];
            assert_eq!(asked(PRIVATE, ENDPOINT, &lines), Err(expected.to_owned()), "{url}");
        };
        check("https://app.example.com/a", "get", "bad_method");
        check("https://app.example.com/a", "", "bad_method");
        check("https://app.example.com/a", "TRACE", "method_not_allowed");
        check("https://app.example.com/a", "CONNECT", "method_not_allowed");
        check("https://app.example.com/a/../b", "GET", "bad_path");
        check("https://app.example.com//a", "GET", "bad_path");
        check("https://app.example.com/a%2Fb", "GET", "bad_path");
        check("https://app.example.com/a#b", "GET", "bad_path");
        check("https://app.example.com?a", "GET", "bad_target");
        check("https://app.example.com\\@evil.test/", "GET", "bad_host");
        check("https://user@app.example.com/", "GET", "bad_host");
        check("https:///a", "GET", "bad_host");
        check("/a", "GET", "X-Original-URL is not a whole URL.");
        check("", "GET", "X-Original-URL is not a whole URL.");
        check("ftp://app.example.com/a", "GET", "The scheme is neither http nor https.");
        let mut odd = FORWARDED.to_vec();
        odd[3].1 = "https, http";
        let unclear = asked(APP, ENDPOINT, &odd).unwrap_err();
        assert_eq!(unclear, "The scheme is neither http nor https.");
        odd[3].1 = "wss";
        assert_eq!(asked(APP, ENDPOINT, &odd).unwrap(), MEANT);
        odd[1].1 = "https://app.example.com/a";
        assert_eq!(asked(APP, ENDPOINT, &odd), Err("bad_target".to_owned()));
    }

    #[test]
    fn a_websocket_is_known_though_the_proxy_keeps_its_upgrade() {
        let check = |name: &'static str, expected: bool| {
            let request = Request::builder().uri("/.foregate/auth/").header("host", APP);
            let (parts, ()) = request.header(name, "13").body(()).unwrap().into_parts();
            let own = request::head_of(&parts).unwrap();
            let question = Question::read(&parts, &own, Scheme::Http, true).unwrap();
            let headers = question.visitors_headers(&parts.headers);
            let head = request::head("GET", None, "/", &headers).unwrap();
            assert_eq!(head.is_websocket(), expected, "{name}");
        };
        check("sec-websocket-key", true);
        check("sec-websocket-version", true);
        check("x-other", false);
    }
}
