//! The name of one request: what a visitor reads out to whoever runs the site, and what the log is
//! searched for.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Names a request in our own answers and in the log.
///
/// Twelve digits of Crockford's base 32 in groups of four (`k7qm-2x9d-r4tb`): no two of them sound
/// or look like each other over the phone. Of 60 bits, so that among the 31 thousand million
/// requests of a year at a thousand a second, one in 36 million shares its name with a given one.
/// Nobody learns from two names how many requests lie between them.
#[derive(Debug, Clone)]
pub(crate) enum RequestId {
    /// As a trusted proxy names the request.
    Given(HeaderValue),
    /// The number of the request in this process. It is put into letters only where it is shown:
    /// a request that passes unlogged costs a counter's step.
    Made(u64),
}

impl RequestId {
    /// The name that the headers give a request, if whoever sent them is trusted and if it is fit
    /// for a log; else a new one.
    pub(crate) fn of(headers: &HeaderMap, trusted: bool) -> Self {
        let mut lines = headers.get_all(&X_REQUEST_ID).iter();
        match (lines.next(), lines.next()) {
            (Some(given), None) if trusted && is_fit(given.as_bytes()) => {
                Self::Given(given.clone())
            }
            _ => Self::Made(next_number()),
        }
    }

    /// As `X-Request-Id` has it.
    pub(crate) fn header_value(&self) -> HeaderValue {
        match self {
            Self::Given(value) => value.clone(),
            Self::Made(_) => HeaderValue::from_str(&self.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(value) => formatter.write_str(value.to_str().unwrap_or_default()),
            Self::Made(number) => {
                let text = in_letters(KEY.hash_one(number));
                formatter.write_str(str::from_utf8(&text).unwrap_or_default())
            }
        }
    }
}

/// What a log, a page and a person's ear take as it is.
fn is_fit(given: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=LONGEST).contains(&given.len()) && given.iter().all(plain)
}

const LONGEST: usize = 64;

/// Each thread counts by itself, in a range of its own.
fn next_number() -> u64 {
    static NEXT_RANGE: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<u64> = Cell::new(NEXT_RANGE.fetch_add(RANGE, Ordering::Relaxed));
    }
    NEXT.with(|next| next.replace(next.get().wrapping_add(1)))
}

/// Nine years of a thread that answers a million requests a second, and there are 65,536 of them.
const RANGE: u64 = 1 << 48;

/// The low 60 bits.
fn in_letters(mut bits: u64) -> [u8; LENGTH] {
    let mut text = [b'-'; LENGTH];
    for place in text.iter_mut().enumerate().filter(|(at, _)| at % 5 != 4).map(|(_, place)| place) {
        *place = DIGITS[(bits % 32) as usize];
        bits /= 32;
    }
    text
}

const LENGTH: usize = "k7qm-2x9d-r4tb".len();
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The process's own, so that two processes do not name their first requests alike.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn named(lines: &[&'static [u8]], trusted: bool) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_REQUEST_ID, HeaderValue::from_bytes(line).unwrap());
        }
        RequestId::of(&headers, trusted).to_string()
    }

    #[test]
    fn a_made_name_can_be_read_out() {
        let name = named(&[], true);
        let groups: Vec<&str> = name.split('-').collect();
        assert_eq!(groups.len(), 3, "{name}");
        for group in groups {
            assert_eq!(group.len(), 4, "{name}");
            assert!(group.bytes().all(|digit| DIGITS.contains(&digit)), "{name}");
        }
        assert_eq!(in_letters(0), *b"0000-0000-0000");
        assert_eq!(in_letters(u64::MAX), *b"zzzz-zzzz-zzzz");
        assert_eq!(in_letters(1 << 20), *b"0000-1000-0000");
    }

    #[test]
    fn no_two_requests_share_a_name_on_whatever_thread() {
        let some = || (0..10_000).map(|_| named(&[], false)).collect::<Vec<_>>();
        let others = std::thread::spawn(some);
        let names: HashSet<String> = some().into_iter().chain(others.join().unwrap()).collect();
        assert_eq!(names.len(), 20_000);
    }

    #[test]
    fn only_a_trusted_name_that_is_fit_for_a_log_is_kept() {
        let check = |lines: &[&'static [u8]], trusted, kept| {
            let name = named(lines, trusted);
            assert_eq!(name.as_bytes() == lines[0], kept, "{name}");
        };
        check(&[b"5f0c-A.b_9"], true, true);
        check(&[b"5f0c-A.b_9"], false, false);
        check(&[b"a", b"a"], true, false);
        check(&[b""], true, false);
        check(&[b"a b"], true, false);
        check(&[b"a<b>"], true, false);
        check(&[b"a\"b"], true, false);
        check(&[b"\xC3\xA4"], true, false);
        check(&[&[b'a'; 64]], true, true);
        check(&[&[b'a'; 65]], true, false);
    }

    #[test]
    fn a_name_stays_the_same_wherever_it_is_shown() {
        let id = RequestId::of(&HeaderMap::new(), false);
        assert_eq!(id.clone().to_string(), id.to_string());
        assert_eq!(id.header_value(), *id.to_string());
    }
}
