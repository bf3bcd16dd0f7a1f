//! Which answers other people's caches may keep, and how to make one that they may not.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Whether a cache between the visitor and us may keep this answer (RFC 9111 §3, RFC 9213). It
/// sees no `Authorization`, so a bare `max-age` is enough for it. A session cookie on such an
/// answer would be the next visitor's, too.
pub(crate) fn is_shared(headers: &HeaderMap) -> bool {
    let mut for_caches = headers.iter().filter(|(name, _)| is_for_caches(name));
    if for_caches.any(|(_, value)| allows_keeping(value) && !forbids_keeping(value)) {
        return true;
    }
    let mut lines = headers.get_all(header::CACHE_CONTROL).iter().peekable();
    if lines.peek().is_none() {
        return headers.contains_key(header::EXPIRES);
    }
    let forbidden = headers.get_all(header::CACHE_CONTROL).iter().any(forbids_keeping);
    !forbidden && lines.any(allows_keeping)
}

/// Makes an answer its visitor's alone.
pub(crate) fn make_private(headers: &mut HeaderMap) {
    let doomed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_for_caches(name) || matches!(**name, header::EXPIRES | header::PRAGMA))
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
    headers.insert(header::CACHE_CONTROL, PRIVATE);
}

/// Adds `Set-Cookie` lines and sees to it that nobody keeps the answer.
pub(crate) fn set_cookies(headers: &mut HeaderMap, lines: &[String]) {
    for line in lines {
        if let Ok(mut value) = HeaderValue::from_str(line) {
            value.set_sensitive(true);
            headers.append(header::SET_COOKIE, value);
        }
    }
    if !lines.is_empty() {
        headers.insert(header::CACHE_CONTROL, PRIVATE);
    }
}

/// For answers that hold one visitor's session.
pub(crate) const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");

/// Headers by which an app speaks to one kind of shared cache.
fn is_for_caches(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.ends_with("-cache-control")
        || matches!(name, "surrogate-control" | "x-accel-expires" | "edge-control")
}

fn allows_keeping(value: &HeaderValue) -> bool {
    directives(value).any(|directive| {
        let seconds = match directive.split_once('=') {
            Some(("max-age" | "s-maxage", seconds)) => seconds,
            Some(_) => return false,
            // `X-Accel-Expires` is a bare number of seconds, or `@` and a time.
            None => {
                return directive == "public"
                    || directive.parse::<u64>().is_ok_and(|s| s > 0)
                    || directive.starts_with('@');
            }
        };
        seconds.trim_matches('"') != "0"
    })
}

fn forbids_keeping(value: &HeaderValue) -> bool {
    directives(value).any(|directive| {
        let name = directive.split('=').next().unwrap_or_default();
        matches!(name, "private" | "no-store")
    })
}

fn directives(value: &HeaderValue) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let directives: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    directives.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_shared_caches_may_keep_counts_as_shared() {
        let check = |lines: &[(&'static str, &'static str)], expected: bool| {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| {
                    (HeaderName::from_static(name), HeaderValue::from_static(value))
                })
                .collect();
            assert_eq!(is_shared(&headers), expected, "{lines:?}");
        };
        check(&[], false);
        check(&[("cache-control", "public, max-age=31536000, immutable")], true);
        check(&[("cache-control", "max-age=60")], true);
        check(&[("cache-control", "S-MaxAge=60, stale-while-revalidate")], true);
        check(&[("cache-control", "max-age=0, must-revalidate")], false);
        check(&[("cache-control", "private, max-age=60")], false);
        check(&[("cache-control", "private=\"x\", max-age=60")], false);
        check(&[("cache-control", "max-age=60"), ("cache-control", "no-store")], false);
        check(&[("expires", "Thu, 01 Jan 2099 00:00:00 GMT")], true);
        check(&[("cache-control", "no-cache"), ("expires", "0")], false);
        check(&[("cache-control", "private"), ("cdn-cache-control", "max-age=60")], true);
        check(&[("cache-control", "private"), ("vercel-cdn-cache-control", "max-age=60")], true);
        check(&[("cache-control", "private"), ("surrogate-control", "max-age=60")], true);
        check(&[("x-accel-expires", "60")], true);
        check(&[("x-accel-expires", "0")], false);
        check(&[("cdn-cache-control", "private, max-age=60")], false);
        check(&[("surrogate-control", "max-age=60, no-store")], false);
    }

    #[test]
    fn a_private_answer_tells_no_cache_anything_else() {
        let mut headers = HeaderMap::new();
        for name in ["cache-control", "expires", "pragma", "x-accel-expires", "cdn-cache-control"] {
            headers.insert(name, HeaderValue::from_static("public, max-age=60"));
        }
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        make_private(&mut headers);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["cache-control"], "private, no-store");
    }
}
