//! Mistakes in the configuration that no single request shows, and that many together do. They are
//! a generation's: whoever mends the file is not told of the old one any more.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use foregate_session::NoSession;
use http::header::{self, HeaderMap, HeaderValue};

use super::Count;
use crate::peer::Address;

/// What one configuration makes look wrong.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    pub(crate) seals: Seals,
    pub(crate) clocks: Clocks,
    /// A cookie that browsers send over TLS alone came over a plain connection: TLS most likely
    /// ends at a proxy that `server.trusted_proxies` forgot.
    forgotten_proxy: OnceLock<Address>,
    /// The same from a proxy that is trusted: it ends TLS, and does not say so.
    silent_proxy: OnceLock<Address>,
    /// Somebody asks `/.foregate/auth` as a proxy does, and `server.trusted_proxies` does not name
    /// him: behind that proxy every request fails.
    untrusted_asker: OnceLock<Address>,
}

impl Doubts {
    /// Looks at a request that counts as plain. The log names each kind of peer once in the life of
    /// the process.
    pub(crate) fn plain(&self, address: Address, trusted: bool, headers: &HeaderMap) {
        static FORGOTTEN: AtomicBool = AtomicBool::new(false);
        static SILENT: AtomicBool = AtomicBool::new(false);
        let peer = if trusted { &self.silent_proxy } else { &self.forgotten_proxy };
        // nginx asks for a decision with the whole URL, which names the scheme.
        let says = trusted && headers.contains_key("x-original-url");
        if says || peer.get().is_some() || !has_secure_cookie(headers) {
            return;
        }
        match trusted {
            true if is_news(peer, address, &SILENT) => tracing::warn!(
                "a __Secure- cookie came over plain HTTP; {address} is trusted and does not say \
                 https: it must set X-Forwarded-Proto"
            ),
            false if is_news(peer, address, &FORGOTTEN) => tracing::warn!(
                "a __Secure- cookie came over plain HTTP from {address}; if that is your own \
                 proxy, which ends TLS, tell [server] so: trusted_proxies = [\"{address}\"]"
            ),
            _ => {}
        }
    }

    /// Looks at a question to `/.foregate/auth` that was turned away. The log says it once in the
    /// life of the process.
    pub(crate) fn untrusted_question(&self, address: Address, headers: &HeaderMap) {
        static SAID: AtomicBool = AtomicBool::new(false);
        let is_proxy = QUESTION.iter().any(|name| headers.contains_key(*name));
        if is_proxy && is_news(&self.untrusted_asker, address, &SAID) {
            tracing::warn!(
                "{address} asks /.foregate/auth as a proxy does and is told nothing; if it is your \
                 own, tell [server] so: trusted_proxies = [\"{address}\"]"
            );
        }
    }

    pub(crate) fn forgotten_proxy(&self) -> Option<Address> {
        self.forgotten_proxy.get().copied()
    }

    pub(crate) fn silent_proxy(&self) -> Option<Address> {
        self.silent_proxy.get().copied()
    }

    pub(crate) fn untrusted_asker(&self) -> Option<Address> {
        self.untrusted_asker.get().copied()
    }
}

/// Takes down the first peer of a kind, and says whether the log has yet to.
fn is_news(peer: &OnceLock<Address>, address: Address, said: &AtomicBool) -> bool {
    peer.set(address).is_ok() && !said.swap(true, Ordering::Relaxed)
}

/// Whether session cookies open at all. One that does not is a visitor's own affair; where few do,
/// the secret is another one than that of an app.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    some_opened: AtomicBool,
    unopened: Count,
    /// Of those that came last: how many did not open in the lower half, and did in the upper.
    recent: AtomicU64,
    latest: Mutex<Option<NoSession>>,
}

impl Seals {
    pub(crate) fn opened(&self) {
        // Most of the time there is nothing to write, and no worker waits for another.
        if !self.some_opened() {
            self.some_opened.store(true, Ordering::Relaxed);
        }
        let (opened, unopened) = self.recent();
        if unopened > 0 || opened < ENOUGH {
            self.note(1, 0);
        }
    }

    /// One was not a cookie of ours. One that merely ended was.
    pub(crate) fn unopened(&self, why: NoSession) {
        match why {
            NoSession::Invalid(_) => {}
            _ => return self.opened(),
        }
        self.unopened.add();
        self.note(0, 1);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// The older half of those that came is forgotten whenever they are too many.
    fn note(&self, opened: u64, unopened: u64) {
        let noted = |recent| {
            let (before, broken) = halves(recent);
            let shift = u32::from(before + broken >= RECENT);
            Some(((before >> shift) + opened) << 32 | ((broken >> shift) + unopened))
        };
        // What always gives a number never fails.
        let _ = self.recent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, noted);
    }

    /// Of those that came last, how many opened, and how many did not.
    fn recent(&self) -> (u64, u64) {
        halves(self.recent.load(Ordering::Relaxed))
    }

    /// How many of how many that came last did not open, where that is most of them.
    pub(crate) fn mostly_broken(&self) -> Option<(u64, u64)> {
        let (opened, unopened) = self.recent();
        let all = opened + unopened;
        (all >= ENOUGH && unopened > opened).then_some((unopened, all))
    }

    pub(crate) fn some_opened(&self) -> bool {
        self.some_opened.load(Ordering::Relaxed)
    }

    /// How many did not, and why the latest did not.
    pub(crate) fn refused(&self) -> (u64, Option<NoSession>) {
        let latest = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        (self.unopened.get(), latest)
    }
}

fn halves(recent: u64) -> (u64, u64) {
    (recent >> 32, recent & u64::from(u32::MAX))
}

/// Between half of it and all of it is what a share is taken of.
const RECENT: u64 = 128;
/// Fewer are no share to judge by: they may be one visitor's.
const ENOUGH: u64 = 20;

/// Sessions that were sealed in our future. They open, as the libraries' own readers open them; but
/// a clock is wrong, ours or that of whoever sealed them.
#[derive(Debug, Default)]
pub(crate) struct Clocks(Mutex<Option<(Instant, Duration)>>);

impl Clocks {
    /// One came, sealed by so much in the future.
    pub(crate) fn saw(&self, ahead: Duration) {
        let latest = Some((Instant::now(), ahead));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = latest;
    }

    /// By how much the latest was, if it came lately.
    pub(crate) fn ahead(&self) -> Option<Duration> {
        let latest = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.filter(|(at, _)| at.elapsed() < LATELY).map(|(_, ahead)| ahead)
    }
}

/// After which a clock counts as mended.
const LATELY: Duration = Duration::from_secs(600);

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
    use foregate_session::InvalidReason;

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

    #[test]
    fn seals_are_in_doubt_where_most_of_those_that_came_last_are_broken() {
        let seals = Seals::default();
        let broken = NoSession::Invalid(InvalidReason::BrokenSeal);
        seals.opened();
        (0..18).for_each(|_| seals.unopened(broken));
        assert_eq!(seals.mostly_broken(), None, "too few to judge");
        (0..282).for_each(|_| seals.unopened(broken));
        let (unopened, all) = seals.mostly_broken().unwrap();
        assert!(unopened == all && (64..=128).contains(&all), "{unopened} of {all}");
        assert_eq!(seals.refused(), (300, Some(broken)));

        // Those that open push the others out.
        (0..128).for_each(|_| seals.opened());
        assert_eq!(seals.mostly_broken(), None);
        assert!(seals.some_opened());
        (0..1000).for_each(|_| seals.opened());
        (0..20).for_each(|_| seals.unopened(broken));
        assert_eq!(seals.mostly_broken(), None, "a few strangers are no majority");
    }
}
