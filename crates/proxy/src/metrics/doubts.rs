//! Mistakes in the configuration that no single request shows, and that many together do. They are
//! a generation's: whoever mends the file is not told of the old one any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use foregate_session::NoSession;
use http::header::{self, HeaderMap, HeaderValue};

use super::Count;
use crate::peer::Address;

/// What one configuration makes look wrong.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    pub(crate) seals: Seals,
    pub(crate) forgotten_proxy: ForgottenProxy,
    pub(crate) untrusted_asker: UntrustedAsker,
}

/// Whether session cookies open at all. One that does not is a visitor's own affair; where none
/// does, the secret is another one than that of the apps.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    some_opened: AtomicBool,
    unopened: Count,
    latest: Mutex<Option<NoSession>>,
}

impl Seals {
    pub(crate) fn opened(&self) {
        // Most of the time there is nothing to write, and no worker waits for another.
        if !self.some_opened() {
            self.some_opened.store(true, Ordering::Relaxed);
        }
    }

    /// One was not a cookie of ours. One that merely ended was.
    pub(crate) fn unopened(&self, why: NoSession) {
        match why {
            NoSession::Invalid(_) => {}
            _ => return self.opened(),
        }
        self.unopened.add();
        if !self.some_opened() {
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }
    }

    pub(crate) fn some_opened(&self) -> bool {
        self.some_opened.load(Ordering::Relaxed)
    }

    /// How many did not, and why the latest did not while none had opened yet.
    pub(crate) fn refused(&self) -> (u64, Option<NoSession>) {
        let latest = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        (self.unopened.get(), latest)
    }
}

/// A cookie that browsers send over TLS alone came over a plain connection: TLS most likely ends at
/// a proxy that `server.trusted_proxies` forgot.
#[derive(Debug, Default)]
pub(crate) struct ForgottenProxy(OnceLock<Address>);

impl ForgottenProxy {
    /// Looks at a request that came in the clear, from a peer that nobody trusts. The log says it
    /// once in the life of the process.
    pub(crate) fn look(&self, address: Address, headers: &HeaderMap) {
        static SAID: AtomicBool = AtomicBool::new(false);
        if self.address().is_some() || !has_secure_cookie(headers) || self.0.set(address).is_err() {
            return;
        }
        if !SAID.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a __Secure- cookie came over plain HTTP from {address}; if that is your own \
                 proxy, which ends TLS, tell [server] so: trusted_proxies = [\"{address}\"]"
            );
        }
    }

    /// Who sent it.
    pub(crate) fn address(&self) -> Option<Address> {
        self.0.get().copied()
    }
}

/// Somebody asks `/.foregate/auth` as a proxy does, and `server.trusted_proxies` does not name him:
/// behind that proxy every request fails.
#[derive(Debug, Default)]
pub(crate) struct UntrustedAsker(OnceLock<Address>);

impl UntrustedAsker {
    /// Looks at the headers of a question that was turned away. The log says it once in the life of
    /// the process.
    pub(crate) fn look(&self, address: Address, headers: &HeaderMap) {
        static SAID: AtomicBool = AtomicBool::new(false);
        let is_proxy = QUESTION.iter().any(|name| headers.contains_key(*name));
        if !is_proxy || self.0.set(address).is_err() {
            return;
        }
        if !SAID.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{address} asks /.foregate/auth as a proxy does and is told nothing; if it is your \
                 own, tell [server] so: trusted_proxies = [\"{address}\"]"
            );
        }
    }

    /// Who asked.
    pub(crate) fn address(&self) -> Option<Address> {
        self.0.get().copied()
    }
}

/// Of these every dialect of a question has one.
const QUESTION: [&str; 3] = ["x-original-url", "x-original-uri", "x-forwarded-uri"];

/// RFC 6265bis §4.1.3.1: browsers take such cookies over https alone.
const PREFIX: &[u8] = b"__Secure-";

fn has_secure_cookie(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    // Most lines are long and have none, which this sees without a look at each pair.
    let mut lines = lines.filter(|line| memchr::memmem::find(line, PREFIX).is_some());
    lines.any(|line| {
        let mut pairs = line.split(|byte| *byte == b';');
        pairs.any(|pair| pair.trim_ascii_start().starts_with(PREFIX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_that_was_meant_for_tls_is_known_by_its_name() {
        let check = |line: &'static str, expected| {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(line))]);
            assert_eq!(has_secure_cookie(&headers), expected, "{line}");
        };
        check("__Secure-authjs.session-token=x", true);
        check("a=b; __Secure-next-auth.session-token.0=x", true);
        check("a=__Secure-x; b__Secure-=1", false);
        check("", false);
    }

    #[test]
    fn cookies_that_merely_ended_were_sealed_with_our_secret() {
        let seals = Seals::default();
        seals.unopened(NoSession::BadToken);
        assert!(seals.some_opened());
        assert_eq!(seals.refused(), (0, None));
    }
}
