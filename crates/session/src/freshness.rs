//! Whether a session's access token may be sent as it is.

use std::time::Duration;

use crate::time::UnixSeconds;

/// How an access token stands at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Send it.
    Fresh,
    /// Send it, and have it renewed meanwhile: it ends soon.
    Due,
    /// Never send it: it must be renewed first.
    Ended,
}

impl Freshness {
    /// Judges a token that ends at `expires_at`. `ahead` is how much before its end it counts as
    /// due, at most half of its life, so that a short-lived token is not renewed at every request.
    /// `issued_at` is asked only if it matters.
    pub(crate) fn judge(
        expires_at: UnixSeconds,
        issued_at: impl FnOnce() -> Option<UnixSeconds>,
        now: UnixSeconds,
        ahead: Duration,
    ) -> Self {
        let left = expires_at.since(now);
        if left.is_zero() {
            return Self::Ended;
        }
        if left >= ahead {
            return Self::Fresh;
        }
        let margin = Self::margin(expires_at, issued_at(), ahead);
        if left < margin { Self::Due } else { Self::Fresh }
    }

    /// `ahead`, but at most half of the token's life.
    pub(crate) fn margin(
        expires_at: UnixSeconds,
        issued_at: Option<UnixSeconds>,
        ahead: Duration,
    ) -> Duration {
        let life = issued_at.map(|issued_at| expires_at.since(issued_at));
        life.map_or(ahead, |life| ahead.min(life / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_fresh_then_due_then_ended() {
        let check = |issued_at: Option<i64>, now: i64, wanted: Freshness| {
            let issued_at = || issued_at.map(UnixSeconds);
            let ahead = Duration::from_secs(60);
            let judged = Freshness::judge(UnixSeconds(1000), issued_at, UnixSeconds(now), ahead);
            assert_eq!(judged, wanted, "issued at {:?}, now {now}", issued_at());
        };
        check(None, 0, Freshness::Fresh);
        check(None, 940, Freshness::Fresh);
        check(None, 941, Freshness::Due);
        check(None, 999, Freshness::Due);
        check(None, 1000, Freshness::Ended);
        check(None, 5000, Freshness::Ended);
        check(Some(0), 941, Freshness::Due);
        // A life of 40 s: due for the last 20.
        check(Some(960), 960, Freshness::Fresh);
        check(Some(960), 980, Freshness::Fresh);
        check(Some(960), 981, Freshness::Due);
        check(Some(960), 1000, Freshness::Ended);
        // Issued after its own end: never due, and ended in time.
        check(Some(2000), 999, Freshness::Fresh);
        check(Some(2000), 1000, Freshness::Ended);
    }
}
