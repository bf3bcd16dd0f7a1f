//! Where the newest pair of each session is kept, so that no cookie is too old to find it.
//!
//! Two look-ups, however often the tokens rotated since a cookie was sealed:
//!
//! ```text
//! name of a refresh token ──> name of its session's record ──> newest pair, or "signed out"
//!   (spent ones and the newest)        (one per session)
//! ```
//!
//! A record bears the name of the first token that was redeemed for it. So each step can be named
//! and sealed with keys out of a refresh token, and a store that is read by a stranger tells him
//! nothing.

mod memory;

use std::sync::Arc;

use foregate_session::UnixSeconds;

pub use crate::ledger::memory::MemoryLedger;
use crate::lineage::Lineage;
use crate::tokens::Tokens;

/// The ledgers there are. A word of a ledger counts before any waiter hears of the new tokens.
pub enum Ledger {
    /// Survives the visitors, not the process.
    Memory(MemoryLedger),
}

impl Ledger {
    /// What is known of a refresh token, as of `now`.
    pub(crate) fn find(&self, token: &Lineage, now: UnixSeconds) -> Option<Known> {
        match self {
            Self::Memory(memory) => memory.find(token, now),
        }
    }

    /// Writes the pair that `spent` was redeemed for, to be kept until `until`, and says what
    /// stands in the ledger now: the pair, unless somebody has signed out, or an app has found a
    /// newer one meanwhile.
    pub(crate) fn settle(
        &self,
        spent: Lineage,
        pair: Pair,
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> Known {
        match self {
            Self::Memory(memory) => memory.settle(spent, pair, now, until),
        }
    }

    /// Writes the pair that an app has got for `spent` by itself, unless somebody has signed out or
    /// the ledger knows a newer one; in any case the pair's refresh token belongs to the session
    /// from then on. Says whether the holders of `spent` now find the pair, or what came after it.
    pub(crate) fn adopt(
        &self,
        spent: Lineage,
        pair: Pair,
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> bool {
        match self {
            Self::Memory(memory) => memory.adopt(spent, pair, now, until),
        }
    }

    /// Marks the session of a refresh token as signed out, until `until`: no copy of it is
    /// refreshed any more.
    pub(crate) fn end(&self, token: Lineage, now: UnixSeconds, until: UnixSeconds) {
        match self {
            Self::Memory(memory) => memory.end(token, now, until),
        }
    }

    /// How many entries had to go before their time, for lack of room.
    pub(crate) fn forgotten(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.forgotten(),
        }
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Known {
    Pair(Arc<Pair>),
    SignedOut,
}

/// The newest tokens of a session.
#[derive(Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) tokens: Arc<Tokens>,
    /// The name of `tokens.refresh_token`, which the next redemption spends.
    pub(crate) refresh_token: Lineage,
    pub(crate) obtained_at: UnixSeconds,
    /// The backend was asked for another access token and gave the same one.
    pub(crate) is_the_same_again: bool,
}

impl Pair {
    pub(crate) fn new(tokens: Tokens, obtained_at: UnixSeconds) -> Self {
        let refresh_token = Lineage::of(tokens.refresh_token.expose());
        Self { tokens: Arc::new(tokens), refresh_token, obtained_at, is_the_same_again: false }
    }

    /// Of two pairs that were bought with one token: whether this one's access token ends later.
    /// A backend gives one life to all of them, so the later end is that of the newer pair.
    pub(crate) fn outlasts(&self, other: &Self) -> bool {
        match (self.tokens.access_expires_at, other.tokens.access_expires_at) {
            (Some(own), Some(other)) => own > other,
            _ => false,
        }
    }

    /// Whether less than half of the access token's life has passed. Then it is too early for the
    /// next one, however wide the margin is that somebody configured.
    pub(crate) fn young_at(&self, now: UnixSeconds) -> bool {
        self.tokens.access_expires_at.is_some_and(|end| {
            let life = end.since(self.obtained_at);
            now.since(self.obtained_at) < life / 2
        })
    }
}

/// What every ledger has to do, whichever it is.
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foregate_session::Secret;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn check(holds: impl Fn(&Ledger)) {
        holds(&Ledger::Memory(MemoryLedger::new(100)));
    }

    fn pair(refresh_token: &str, access_token: &str) -> Pair {
        let tokens = Tokens {
            access_token: Secret::new(access_token),
            access_expires_at: None,
            refresh_token: Secret::new(refresh_token),
            refresh_expires_at: None,
            id_token: None,
        };
        Pair::new(tokens, NOW)
    }

    fn settle(ledger: &Ledger, spent: &str, refresh_token: &str, access_token: &str) -> Known {
        let pair = pair(refresh_token, access_token);
        ledger.settle(Lineage::of(spent), pair, NOW, NOW.saturating_add(DAY))
    }

    fn access_token(ledger: &Ledger, token: &str, now: UnixSeconds) -> Option<String> {
        match ledger.find(&Lineage::of(token), now)? {
            Known::Pair(pair) => Some(pair.tokens.access_token.expose().to_owned()),
            Known::SignedOut => Some("signed out".to_owned()),
        }
    }

    fn assert_all(ledger: &Ledger, tokens: &[&str], expected: Option<&str>) {
        for token in tokens {
            assert_eq!(access_token(ledger, token, NOW).as_deref(), expected, "{token}");
        }
    }

    #[test]
    fn every_token_of_a_chain_finds_the_newest_pair() {
        check(|ledger| {
            assert_all(ledger, &["r1"], None);
            settle(ledger, "r1", "r2", "a2");
            assert_all(ledger, &["r1", "r2"], Some("a2"));
            settle(ledger, "r2", "r3", "a3");
            settle(ledger, "r3", "r4", "a4");
            assert_all(ledger, &["r1", "r2", "r3", "r4"], Some("a4"));
            assert_all(ledger, &["r5"], None);
        });
    }

    #[test]
    fn a_token_that_does_not_rotate_finds_its_newest_access_token() {
        check(|ledger| {
            settle(ledger, "r1", "r1", "a2");
            settle(ledger, "r1", "r1", "a3");
            assert_all(ledger, &["r1"], Some("a3"));
            settle(ledger, "r1", "r2", "a4");
            assert_all(ledger, &["r1", "r2"], Some("a4"));
        });
    }

    #[test]
    fn sessions_never_share_a_pair() {
        check(|ledger| {
            settle(ledger, "r1", "r2", "ann's");
            settle(ledger, "s1", "s2", "bob's");
            assert_all(ledger, &["r1", "r2"], Some("ann's"));
            assert_all(ledger, &["s1", "s2"], Some("bob's"));
        });
    }

    #[test]
    fn a_sign_out_by_any_copy_ends_all_of_them_and_what_is_under_way() {
        for copy in ["r1", "r2", "r3"] {
            check(|ledger| {
                settle(ledger, "r1", "r2", "a2");
                settle(ledger, "r2", "r3", "a3");
                ledger.end(Lineage::of(copy), NOW, NOW.saturating_add(DAY));
                assert_all(ledger, &["r1", "r2", "r3"], Some("signed out"));
                assert_eq!(settle(ledger, "r3", "r4", "a4"), Known::SignedOut);
                assert_all(ledger, &["r1", "r2", "r3", "r4"], Some("signed out"));
            });
        }
        check(|ledger| {
            ledger.end(Lineage::of("unknown"), NOW, NOW.saturating_add(DAY));
            assert_all(ledger, &["unknown"], Some("signed out"));
        });
    }

    /// A pair whose access token ends `life` seconds from now.
    fn lasting(refresh_token: &str, access_token: &str, life: i64) -> Pair {
        let mut pair = pair(refresh_token, access_token);
        Arc::make_mut(&mut pair.tokens).access_expires_at = Some(UnixSeconds(NOW.0 + life));
        pair
    }

    fn adopt(ledger: &Ledger, spent: &str, pair: Pair) -> bool {
        ledger.adopt(Lineage::of(spent), pair, NOW, NOW.saturating_add(DAY))
    }

    #[test]
    fn an_app_s_pair_is_found_by_every_holder_of_an_older_one() {
        check(|ledger| {
            assert!(adopt(ledger, "r1", pair("r2", "a2")));
            assert_all(ledger, &["r1", "r2"], Some("a2"));
            settle(ledger, "r2", "r3", "a3");
            assert!(adopt(ledger, "r3", pair("r4", "a4")));
            assert_all(ledger, &["r1", "r2", "r3", "r4"], Some("a4"));
        });
    }

    #[test]
    fn an_app_s_late_pair_replaces_no_newer_one() {
        check(|ledger| {
            adopt(ledger, "r1", pair("r2", "a2"));
            assert!(!adopt(ledger, "r1", pair("r2", "a2")), "nothing new");
            settle(ledger, "r2", "r3", "a3");
            for spent in ["r1", "r2", "r3"] {
                assert!(!adopt(ledger, spent, lasting("r2", "a2", 1_000_000)), "{spent}");
                assert_all(ledger, &["r1", "r2", "r3"], Some("a3"));
            }
        });
    }

    #[test]
    fn of_two_pairs_for_one_token_the_one_that_lasts_longer_is_kept_and_both_find_it() {
        let pairs = || (lasting("ours", "a", 60), lasting("theirs", "b", 61));
        let until = NOW.saturating_add(DAY);
        let names = ["r1", "ours", "theirs"];
        check(|ledger| {
            let (shorter, longer) = pairs();
            ledger.settle(Lineage::of("r1"), shorter, NOW, until);
            assert!(adopt(ledger, "r1", longer));
            assert_all(ledger, &names, Some("b"));
        });
        check(|ledger| {
            let (longer, shorter) = (pairs().1, pairs().0);
            adopt(ledger, "r1", longer);
            let known = ledger.settle(Lineage::of("r1"), shorter, NOW, until);
            assert!(matches!(known, Known::Pair(pair) if pair.tokens.access_token.expose() == "b"));
            assert_all(ledger, &names, Some("b"));
        });
        // Where nothing tells, the pair counts that the backend gave to ourselves.
        check(|ledger| {
            settle(ledger, "r1", "ours", "a");
            assert!(!adopt(ledger, "r1", pair("theirs", "b")));
            assert_all(ledger, &names, Some("a"));
        });
        check(|ledger| {
            adopt(ledger, "r1", pair("theirs", "b"));
            settle(ledger, "r1", "ours", "a");
            assert_all(ledger, &names, Some("a"));
        });
    }

    #[test]
    fn a_newer_access_token_for_a_refresh_token_that_stays_is_adopted() {
        check(|ledger| {
            assert!(adopt(ledger, "r1", lasting("r1", "a2", 60)));
            assert!(!adopt(ledger, "r1", lasting("r1", "a1", 30)));
            assert_all(ledger, &["r1"], Some("a2"));
            assert!(adopt(ledger, "r1", lasting("r1", "a3", 90)));
            assert_all(ledger, &["r1"], Some("a3"));
        });
    }

    #[test]
    fn a_token_that_nobody_knows_joins_the_session_of_its_known_successor() {
        check(|ledger| {
            settle(ledger, "r2", "r3", "a3");
            assert!(adopt(ledger, "r1", pair("r2", "a2")));
            assert_all(ledger, &["r1", "r2", "r3"], Some("a3"));
        });
    }

    #[test]
    fn an_adoption_joins_no_two_sessions_and_undoes_no_sign_out() {
        check(|ledger| {
            settle(ledger, "r1", "r2", "ann's");
            settle(ledger, "s1", "s2", "bob's");
            assert!(!adopt(ledger, "r2", pair("s2", "bob's")));
            assert_all(ledger, &["r1", "r2"], Some("ann's"));
            assert_all(ledger, &["s1", "s2"], Some("bob's"));
            ledger.end(Lineage::of("r1"), NOW, NOW.saturating_add(DAY));
            assert!(!adopt(ledger, "r2", lasting("r3", "a3", 60)));
            assert_all(ledger, &["r1", "r2", "r3"], Some("signed out"));
        });
    }

    #[test]
    fn a_record_ends_on_time_and_for_all_its_names() {
        check(|ledger| {
            let until = |seconds| NOW.saturating_add(Duration::from_secs(seconds));
            ledger.settle(Lineage::of("r1"), pair("r2", "a2"), NOW, until(10));
            assert_eq!(access_token(ledger, "r1", until(9)).as_deref(), Some("a2"));
            assert_eq!(access_token(ledger, "r1", until(10)), None);
            ledger.settle(Lineage::of("r2"), pair("r3", "a3"), until(5), until(20));
            for name in ["r1", "r2", "r3"] {
                assert_eq!(access_token(ledger, name, until(19)).as_deref(), Some("a3"));
                assert_eq!(access_token(ledger, name, until(20)), None);
            }
            ledger.end(Lineage::of("r3"), until(21), until(30));
            let again = ledger.settle(Lineage::of("r3"), pair("r4", "a4"), until(30), until(40));
            assert!(matches!(again, Known::Pair(_)), "an ended mark ends, too");
        });
    }

    #[test]
    fn a_pair_is_young_for_half_of_its_known_life() {
        let check = |life: Option<i64>, age: i64, expected: bool| {
            let mut pair = pair("r", "a");
            let tokens = Arc::make_mut(&mut pair.tokens);
            tokens.access_expires_at = life.map(|life| UnixSeconds(NOW.0 + life));
            assert_eq!(pair.young_at(UnixSeconds(NOW.0 + age)), expected, "{life:?}, {age}");
        };
        check(Some(30), 0, true);
        check(Some(30), 14, true);
        check(Some(30), 15, false);
        check(Some(0), 0, false);
        check(Some(-5), 0, false);
        check(None, 0, false);
    }
}
