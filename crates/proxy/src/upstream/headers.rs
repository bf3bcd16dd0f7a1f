//! What the app gets of the visitor's headers, and what the visitor gets of the app's. Everything
//! that an app might trust is taken out before anything of ours is put in, on every path.

use foregate_config::{App, Snapshot, folded};
use foregate_session::{Claim, Session};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::peer::Peer;

/// Takes out what ends at this hop (RFC 9110 §7.6.1), so that `Connection: authorization` removes
/// nothing of ours later. The framing goes, too: what leaves here is framed anew.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .collect();
        for name in named {
            if !NOT_NAMED.contains(&name) {
                headers.remove(name);
            }
        }
        headers.remove(header::CONNECTION);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// What frames or routes a message, or was decided on, is not the sender's to name.
const NOT_NAMED: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::COOKIE];

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HOP_BY_HOP: [HeaderName; 6] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::UPGRADE,
];

/// Takes out of a request what only Foregate may say. `keep_authorization` is for a stranger on a
/// public path of an app that asked for it.
pub(crate) fn remove_trusted(
    headers: &mut HeaderMap,
    snapshot: &Snapshot,
    app: &App,
    keep_authorization: bool,
) {
    let mut doomed: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        if keep_authorization && *name == header::AUTHORIZATION {
            continue;
        }
        if is_trusted(name.as_str(), snapshot, app) {
            doomed.push(name.clone());
        }
    }
    for name in doomed {
        headers.remove(name);
    }
}

/// Whether an app might believe a header of this name, in any spelling.
fn is_trusted(name: &str, snapshot: &Snapshot, app: &App) -> bool {
    let name = folded(name);
    let name = name.as_ref();
    let by_foregate = match name.as_bytes().first() {
        Some(b'a') => matches!(name, "authorization" | "ali-cdn-real-ip"),
        Some(b'c') => matches!(name, "cf-connecting-ip" | "client-ip"),
        Some(b'f') => matches!(name, "forwarded" | "fastly-client-ip" | "front-end-https"),
        Some(b'p') => name == "proxy",
        Some(b't') => name == "true-client-ip",
        Some(b'x') => {
            TRUSTED_X.contains(&name)
                || TRUSTED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || app.names_a_method && METHOD_OVERRIDES.contains(&name)
        }
        _ => false,
    };
    // What any app is told about a visitor, no app is told by the visitor.
    by_foregate || snapshot.identity_headers.contains(name)
}

/// What the proxies and clouds in front of apps tell of a visitor, beside [`TRUSTED_PREFIXES`].
const TRUSTED_X: [&str; 14] = [
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-host",
    "x-http-host-override",
    "x-matched-path",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-scheme",
    "x-url-scheme",
    "x-vercel-forwarded-for",
];

const TRUSTED_PREFIXES: [&str; 5] =
    ["x-forwarded-", "x-original-", "x-rewrite-", "x-middleware-", "x-invoke-"];

/// Takes out what would make another method of the request's own, in any spelling.
pub(crate) fn remove_method_overrides(headers: &mut HeaderMap) {
    let is_one = |name: &&HeaderName| METHOD_OVERRIDES.contains(&folded(name.as_str()).as_ref());
    let doomed: Vec<HeaderName> = headers.keys().filter(is_one).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

const METHOD_OVERRIDES: [&str; 3] =
    ["x-http-method", "x-http-method-override", "x-method-override"];

/// Puts in who asks: the chain of addresses, the host and scheme that the visitor used.
pub(crate) fn insert_forwarded(headers: &mut HeaderMap, peer: &Peer, authority: &str) {
    headers.insert(X_FORWARDED_FOR, peer.forwarded_for.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme.as_str()));
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(X_FORWARDED_PORT, peer.port_of(authority));
        headers.insert(X_FORWARDED_HOST, host.clone());
        headers.insert(header::HOST, host);
    }
}

/// Whether the sender can make use of trailers (RFC 9110 §10.1.4).
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::TE).iter().filter_map(|line| line.to_str().ok());
    lines.any(|line| line.split(',').any(|item| item.trim().eq_ignore_ascii_case("trailers")))
}

/// Whether `Content-Length` stands there once and in one spelling: `3, 3` and `03` are read alike by
/// some only.
pub(crate) fn has_plain_length(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    match (lines.next(), lines.next()) {
        (Some(b"0"), None) => true,
        (Some([b'1'..=b'9', rest @ ..]), None) => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Takes out of trailers what ends at this hop, and what means something in a head alone (RFC 9110
/// §6.5.1): there are servers that put both together.
pub(crate) fn remove_misplaced(trailers: &mut HeaderMap) {
    // It would speak of the head.
    trailers.remove(header::CONNECTION);
    remove_hop_by_hop(trailers);
    for name in &HEAD_ALONE {
        trailers.remove(name);
    }
}

const HEAD_ALONE: [HeaderName; 14] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::MAX_FORWARDS,
    header::ORIGIN,
    header::RANGE,
    header::SET_COOKIE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// Several `Cookie` lines, as HTTP/2 may have them, are one in HTTP/1.1 (RFC 9113 §8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(second)) = (lines.next(), lines.next()) {
        let rest = lines.map(HeaderValue::as_bytes);
        let all: Vec<&[u8]> =
            [first.as_bytes(), second.as_bytes()].into_iter().chain(rest).collect();
        match HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            Ok(joined) => headers.insert(header::COOKIE, joined),
            Err(_) => headers.remove(header::COOKIE),
        };
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Puts in as whom: the token and the identity headers of this app.
pub(crate) fn insert_identity(headers: &mut HeaderMap, app: &App, session: &Session) {
    if let Some(token) = session.access_token()
        && let Ok(mut bearer) = HeaderValue::from_str(&["Bearer ", token].concat())
    {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    for (name, path) in &app.identity {
        let Some(text) = session.claim(path).and_then(|claim| header_text(&claim)) else {
            continue;
        };
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name.clone(), value);
        }
    }
}

/// A claim as a header's value: strings, numbers, booleans, and lists of them joined by a comma.
/// Anything else gives no header. Visible ASCII and inner blanks stand as they are; every other
/// byte of the UTF-8 text, `%`, and a comma inside a list's item are percent-encoded, so that an
/// app can tell `a,b` from two items.
fn header_text(claim: &Claim<'_>) -> Option<String> {
    let mut text = String::new();
    match claim.items() {
        None => push_scalar(&mut text, claim, false)?,
        Some(items) => {
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_scalar(&mut text, &item, true)?;
            }
        }
    }
    (!text.is_empty()).then_some(text)
}

fn push_scalar(text: &mut String, claim: &Claim<'_>, in_list: bool) -> Option<()> {
    if let Some(string) = claim.as_str() {
        let last = string.len().saturating_sub(1);
        for (at, byte) in string.bytes().enumerate() {
            let plain = match byte {
                b' ' => at > 0 && at < last,
                b'%' => false,
                b',' => !in_list,
                _ => byte.is_ascii_graphic(),
            };
            if plain {
                text.push(char::from(byte));
            } else {
                text.push_str(percent_encoding::percent_encode_byte(byte));
            }
        }
        return Some(());
    }
    let is_scalar = claim.as_bool().is_some() || claim.as_f64().is_some();
    is_scalar.then(|| text.push_str(claim.text()))
}

#[cfg(test)]
mod tests {
    use foregate_config::{Environment, parse};
    use foregate_session::ClaimPath;

    use super::*;

    const CONFIG: &str = r#"
        [session]
        secrets = ["a-public-test-secret-do-not-use-0123456789"]
        [[app]]
        host = "app.example.com"
        upstream = "http://127.0.0.1:1"
        headers = { "X-User-Id" = "session.sub" }
    "#;

    fn snapshot() -> Snapshot {
        let loaded = parse("proxy.toml", CONFIG, &Environment::from_pairs([("", "")]));
        loaded.unwrap_or_else(|problems| panic!("{problems:?}")).snapshot
    }

    #[test]
    fn a_claim_becomes_a_header_that_can_be_read_in_one_way_only() {
        let keyring = snapshot().keyring;
        let check = |claim: &str, expected: Option<&str>| {
            let claims = format!("{{\"sub\":\"1\",\"c\":{claim}}}");
            let session = keyring.session_from_claims(&claims, None).unwrap();
            let claim = session.claim(&ClaimPath::in_session("c").unwrap()).unwrap();
            assert_eq!(header_text(&claim).as_deref(), expected, "{claims}");
        };
        check(r#""ada""#, Some("ada"));
        check(r#""Ada Lovelace, née Byron""#, Some("Ada Lovelace, n%C3%A9e Byron"));
        check(r#"" a ""#, Some("%20a%20"));
        check(r#""100%""#, Some("100%25"));
        check(r#""a\r\nX-Admin: 1\u0000""#, Some("a%0D%0AX-Admin: 1%00"));
        check("12", Some("12"));
        check("1.50", Some("1.50"));
        check("true", Some("true"));
        check(r#"["a","b,c",3,false]"#, Some("a,b%2Cc,3,false"));
        check(r#"["a",null]"#, None);
        check(r#"["a",["b"]]"#, None);
        check("[]", None);
        check(r#""""#, None);
        check("null", None);
        check("{}", None);
    }

    #[test]
    fn a_connection_header_takes_out_what_it_names_and_nothing_that_frames() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, x-hop"),
            ("connection", "host, content-length"),
            ("keep-alive", "5"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("trailer", "x-sum"),
            ("host", "app.example.com"),
            ("content-length", "3"),
            ("accept", "*/*"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length", "host", "trailer"]);
    }

    #[test]
    fn cookie_lines_become_one() {
        let check = |lines: &[&'static str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("cookie", HeaderValue::from_static(line));
            }
            join_cookies(&mut headers);
            assert!(headers.get_all("cookie").iter().count() <= 1);
            assert_eq!(headers.get("cookie").map(|value| value.to_str().unwrap()), expected);
        };
        check(&[], None);
        check(&["a=1; b=2"], Some("a=1; b=2"));
        check(&["a=1", "b=2", "c=3"], Some("a=1; b=2; c=3"));
    }
}
