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

mod address;
mod file;
#[cfg(test)]
pub(crate) mod fixtures;
mod memory;
#[cfg(test)]
mod orders;
mod outside;
mod redis;
mod seal;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foregate_session::UnixSeconds;
use tokio::runtime::Handle;

pub use crate::ledger::address::{LedgerAddress, RedisAddress};
use crate::ledger::file::FileStore;
pub use crate::ledger::memory::MemoryLedger;
pub use crate::ledger::outside::OutsideLedger;
use crate::ledger::outside::Store;
pub(crate) use crate::ledger::outside::Turn;
use crate::ledger::redis::RedisStore;
pub(crate) use crate::ledger::redis::{Claim, ClaimEnd};
use crate::ledger::write::Write;
use crate::lineage::Lineage;
use crate::tokens::Tokens;

/// The ledgers there are. A word of a ledger counts before any waiter hears of the new tokens.
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum Ledger {
    /// Survives the visitors, not the process.
    Memory(MemoryLedger),
    /// Survives the process.
    Outside(OutsideLedger),
}

impl Ledger {
    /// The ledger at `address`, of up to `entries` refresh tokens, each of which is remembered for
    /// at least `remember` after it was spent. It is looked after on `runtime`, and opened there
    /// where that is not possible at once. `tell` is called there too; it must not block.
    pub fn open(
        address: &LedgerAddress,
        entries: usize,
        remember: Duration,
        runtime: &Handle,
        tell: impl Fn(LedgerEvent) + Send + Sync + 'static,
    ) -> Result<Self, LedgerError> {
        match address {
            LedgerAddress::Memory => Ok(Self::Memory(MemoryLedger::new(entries))),
            LedgerAddress::File(path) => {
                let store = Store::File(FileStore::new(path, entries, remember)?);
                Ok(Self::Outside(OutsideLedger::new(store, entries, runtime, tell)))
            }
            LedgerAddress::Redis(address) => {
                let store = Store::Redis(RedisStore::new(address.clone(), remember));
                Ok(Self::Outside(OutsideLedger::new(store, entries, runtime, tell)))
            }
        }
    }

    /// From now on each refresh token is remembered for at least so long after it was spent.
    pub(crate) fn remember(&self, span: Duration) {
        match self {
            Self::Memory(_) => {}
            Self::Outside(outside) => outside.remember(span),
        }
    }

    /// What is known of a refresh token, as of `now`. Never waits.
    pub(crate) fn find(&self, token: &Lineage, now: UnixSeconds) -> Option<Known> {
        match self {
            Self::Memory(memory) => memory.find(token, now),
            Self::Outside(outside) => outside.find(token, now),
        }
    }

    /// Whether more may be known than [`Ledger::find`] says.
    pub(crate) fn must_look(&self, token: &Lineage, now: UnixSeconds) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Outside(outside) => outside.must_look(token, now),
        }
    }

    /// What is known of a refresh token, wherever it is written. From then on [`Ledger::find`]
    /// knows it, too.
    pub(crate) async fn look(
        &self,
        token: &str,
        now: UnixSeconds,
    ) -> Result<Option<Known>, StoreFault> {
        match self {
            Self::Memory(memory) => Ok(memory.find(&Lineage::of(token), now)),
            Self::Outside(outside) => outside.look(token, now).await,
        }
    }

    /// Whether other processes may know better, and cannot have told.
    pub(crate) fn may_be_behind(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Outside(outside) => outside.may_be_behind(),
        }
    }

    /// Asks to be the only process that redeems a token, and says what is known of it then. Must be
    /// asked before each redemption.
    pub(crate) async fn turn(
        &self,
        token: &str,
        backend_timeout: Duration,
        now: UnixSeconds,
    ) -> Result<(Turn, Option<Known>), StoreFault> {
        match self {
            Self::Memory(memory) => Ok((Turn::Ours(None), memory.find(&Lineage::of(token), now))),
            Self::Outside(outside) => outside.turn(token, backend_timeout, now).await,
        }
    }

    /// Writes the pair that `spent` was redeemed for, to be kept until `until`, and says what
    /// stands in the ledger now: the pair, unless somebody has signed out, or an app has found a
    /// newer one meanwhile. `late`: another process may have had its turn since.
    pub(crate) async fn settle(
        &self,
        spent: &str,
        pair: Pair,
        late: bool,
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> Known {
        let pair = Arc::new(pair);
        let write = Write::settled(spent, Arc::clone(&pair), until, late);
        let written = match self {
            Self::Memory(memory) => memory.write(&write, now),
            Self::Outside(outside) => outside.write(write, now).await,
        };
        // A record that has ended already tells nothing.
        written.known.unwrap_or(Known::Pair(pair))
    }

    /// Writes the pair that an app has got for `spent` by itself, unless somebody has signed out or
    /// the ledger knows a newer one; in any case the pair's refresh token belongs to the session
    /// from then on. Says whether the holders of `spent` now find the pair, or what came after it.
    pub(crate) async fn adopt(
        &self,
        spent: &str,
        pair: Pair,
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> bool {
        let write = Write::adopted(spent, Arc::new(pair), until);
        match self {
            Self::Memory(memory) => memory.write(&write, now).learnt,
            Self::Outside(outside) => outside.write(write, now).await.learnt,
        }
    }

    /// Marks the session of a refresh token as signed out, until `until`: no copy of it is
    /// refreshed any more.
    pub(crate) async fn end(&self, token: &str, now: UnixSeconds, until: UnixSeconds) {
        let write = Write::ended(token, until);
        match self {
            Self::Memory(memory) => drop(memory.write(&write, now)),
            Self::Outside(outside) => drop(outside.write(write, now).await),
        }
    }

    /// How many refresh tokens are known.
    pub(crate) fn entries(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.entries(),
            Self::Outside(outside) => outside.entries(),
        }
    }

    /// How many entries had to go before their time, for lack of room.
    pub(crate) fn forgotten(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.forgotten(),
            Self::Outside(outside) => outside.forgotten(),
        }
    }

    /// Of how many writes no replica has said in time that it has them, though there are replicas.
    pub(crate) fn unreplicated(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::Outside(outside) => outside.unreplicated(),
        }
    }

    pub(crate) async fn saved(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Outside(outside) => outside.saved().await,
        }
    }

    pub(crate) fn unsaved(&self) -> usize {
        match self {
            Self::Memory(_) => 0,
            Self::Outside(outside) => outside.unsaved(),
        }
    }

    pub(crate) fn state(&self) -> LedgerState {
        match self {
            Self::Memory(_) => LedgerState::Good,
            Self::Outside(outside) => outside.state(),
        }
    }
}

/// Whether a ledger can keep its promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerState {
    Good,
    /// Nobody is refreshed of whom this process knows nothing: the ledger may know a newer pair.
    Waiting(String),
    /// Refreshing goes on, but new tokens are in this process alone until the ledger has them.
    AtRisk(String),
}

/// Something about a ledger that an operator should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerEvent {
    /// What it turned into.
    State(LedgerState),
    /// What stood in the ledger's place was none, or broken. It is kept as `to`, and a new ledger
    /// was begun.
    MovedAside { to: PathBuf, why: String },
}

/// Why there is no ledger at all. No waiting would help.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger's directory {} does not exist", .0.display())]
    NoDirectory(PathBuf),
    #[error("the ledger {} is a directory", .0.display())]
    IsDirectory(PathBuf),
}

/// Why a store outside of the process gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreFault {
    #[error("another process holds the ledger's file")]
    Held,
    #[error("the ledger is not open")]
    NotOpen,
    #[error("{0}")]
    Failed(String),
    /// It answers, but takes nothing new.
    #[error("{0}")]
    Refused(String),
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
    use tokio::runtime::Builder;

    use super::*;
    use crate::ledger::fixtures::{Directory, RedisServer};

    pub(super) const DAY: Duration = Duration::from_secs(86_400);
    pub(super) const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    /// Asks it of every ledger.
    pub(super) fn check(holds: impl AsyncFn(&Ledger)) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            holds(&Ledger::Memory(MemoryLedger::new(10_000))).await;
            let directory = Directory::new();
            let address = LedgerAddress::File(directory.path("ledger.redb"));
            let ledger = Ledger::open(&address, 10_000, DAY, runtime.handle(), |_| ()).unwrap();
            holds(&ledger).await;
            assert_eq!(ledger.state(), LedgerState::Good);
            let Some(redis) = RedisServer::start() else { return };
            let ledger =
                Ledger::open(&redis.address(), 10_000, DAY, runtime.handle(), |_| ()).unwrap();
            holds(&ledger).await;
            assert_eq!(ledger.state(), LedgerState::Good);
        });
    }

    pub(super) fn pair(refresh_token: &str, access_token: &str) -> Pair {
        let tokens = Tokens {
            access_token: Secret::new(access_token),
            access_expires_at: None,
            refresh_token: Secret::new(refresh_token),
            refresh_expires_at: None,
            id_token: None,
        };
        Pair::new(tokens, NOW)
    }

    async fn settle(ledger: &Ledger, spent: &str, refresh_token: &str, access: &str) -> Known {
        ledger.settle(spent, pair(refresh_token, access), false, NOW, NOW.saturating_add(DAY)).await
    }

    /// What the ledger says of a token, after a look and without one.
    async fn access_token(ledger: &Ledger, token: &str, now: UnixSeconds) -> Option<String> {
        let said = |known: Known| match known {
            Known::Pair(pair) => pair.tokens.access_token.expose().to_owned(),
            Known::SignedOut => "signed out".to_owned(),
        };
        let before = ledger.find(&Lineage::of(token), now).map(said);
        let known = ledger.look(token, now).await.unwrap().map(said);
        assert!(before.is_none() || before == known, "{token}: {before:?} is not {known:?}");
        assert_eq!(ledger.find(&Lineage::of(token), now).map(said), known, "{token}");
        known
    }

    pub(super) async fn assert_all(ledger: &Ledger, tokens: &[&str], expected: Option<&str>) {
        for token in tokens {
            assert_eq!(access_token(ledger, token, NOW).await.as_deref(), expected, "{token}");
        }
    }

    #[test]
    fn every_token_of_a_chain_finds_the_newest_pair() {
        check(async |ledger| {
            assert_all(ledger, &["r1"], None).await;
            settle(ledger, "r1", "r2", "a2").await;
            assert_all(ledger, &["r1", "r2"], Some("a2")).await;
            settle(ledger, "r2", "r3", "a3").await;
            settle(ledger, "r3", "r4", "a4").await;
            assert_all(ledger, &["r1", "r2", "r3", "r4"], Some("a4")).await;
            assert_all(ledger, &["r5"], None).await;
        });
    }

    #[test]
    fn a_token_that_does_not_rotate_finds_its_newest_access_token() {
        check(async |ledger| {
            settle(ledger, "r1", "r1", "a2").await;
            settle(ledger, "r1", "r1", "a3").await;
            assert_all(ledger, &["r1"], Some("a3")).await;
            settle(ledger, "r1", "r2", "a4").await;
            assert_all(ledger, &["r1", "r2"], Some("a4")).await;
        });
    }

    #[test]
    fn sessions_never_share_a_pair() {
        check(async |ledger| {
            settle(ledger, "r1", "r2", "ann's").await;
            settle(ledger, "s1", "s2", "bob's").await;
            assert_all(ledger, &["r1", "r2"], Some("ann's")).await;
            assert_all(ledger, &["s1", "s2"], Some("bob's")).await;
        });
    }

    #[test]
    fn a_sign_out_by_any_copy_ends_all_of_them_and_what_is_under_way() {
        for copy in ["r1", "r2", "r3"] {
            check(async |ledger| {
                settle(ledger, "r1", "r2", "a2").await;
                settle(ledger, "r2", "r3", "a3").await;
                end(ledger, copy).await;
                assert_all(ledger, &["r1", "r2", "r3"], Some("signed out")).await;
                assert_eq!(settle(ledger, "r3", "r4", "a4").await, Known::SignedOut);
                assert_all(ledger, &["r1", "r2", "r3", "r4"], Some("signed out")).await;
            });
        }
        check(async |ledger| {
            end(ledger, "unknown").await;
            assert_all(ledger, &["unknown"], Some("signed out")).await;
        });
    }

    /// A pair whose access token ends `life` seconds from now.
    fn lasting(refresh_token: &str, access_token: &str, life: i64) -> Pair {
        let mut pair = pair(refresh_token, access_token);
        Arc::make_mut(&mut pair.tokens).access_expires_at = Some(UnixSeconds(NOW.0 + life));
        pair
    }

    async fn adopt(ledger: &Ledger, spent: &str, pair: Pair) -> bool {
        ledger.adopt(spent, pair, NOW, NOW.saturating_add(DAY)).await
    }

    async fn end(ledger: &Ledger, token: &str) {
        ledger.end(token, NOW, NOW.saturating_add(DAY)).await;
    }

    #[test]
    fn an_app_s_pair_is_found_by_every_holder_of_an_older_one() {
        check(async |ledger| {
            assert!(adopt(ledger, "r1", pair("r2", "a2")).await);
            assert_all(ledger, &["r1", "r2"], Some("a2")).await;
            settle(ledger, "r2", "r3", "a3").await;
            assert!(adopt(ledger, "r3", pair("r4", "a4")).await);
            assert_all(ledger, &["r1", "r2", "r3", "r4"], Some("a4")).await;
        });
    }

    #[test]
    fn an_app_s_late_pair_replaces_no_newer_one() {
        check(async |ledger| {
            adopt(ledger, "r1", pair("r2", "a2")).await;
            assert!(!adopt(ledger, "r1", pair("r2", "a2")).await, "nothing new");
            settle(ledger, "r2", "r3", "a3").await;
            for spent in ["r1", "r2", "r3"] {
                assert!(!adopt(ledger, spent, lasting("r2", "a2", 1_000_000)).await, "{spent}");
                assert_all(ledger, &["r1", "r2", "r3"], Some("a3")).await;
            }
        });
    }

    #[test]
    fn of_two_pairs_for_one_token_the_one_that_lasts_longer_is_kept_and_both_find_it() {
        let pairs = || (lasting("ours", "a", 60), lasting("theirs", "b", 61));
        let until = NOW.saturating_add(DAY);
        let names = ["r1", "ours", "theirs"];
        check(async |ledger| {
            let (shorter, longer) = pairs();
            ledger.settle("r1", shorter, false, NOW, until).await;
            assert!(adopt(ledger, "r1", longer).await);
            assert_all(ledger, &names, Some("b")).await;
        });
        check(async |ledger| {
            let (longer, shorter) = (pairs().1, pairs().0);
            adopt(ledger, "r1", longer).await;
            let known = ledger.settle("r1", shorter, false, NOW, until).await;
            assert!(matches!(known, Known::Pair(pair) if pair.tokens.access_token.expose() == "b"));
            assert_all(ledger, &names, Some("b")).await;
        });
        // Where nothing tells, the pair counts that the backend gave to ourselves.
        check(async |ledger| {
            settle(ledger, "r1", "ours", "a").await;
            assert!(!adopt(ledger, "r1", pair("theirs", "b")).await);
            assert_all(ledger, &names, Some("a")).await;
        });
        check(async |ledger| {
            adopt(ledger, "r1", pair("theirs", "b")).await;
            settle(ledger, "r1", "ours", "a").await;
            assert_all(ledger, &names, Some("a")).await;
        });
    }

    #[test]
    fn who_comes_late_replaces_nothing_that_another_process_has_written() {
        let until = NOW.saturating_add(DAY);
        check(async |ledger| {
            settle(ledger, "r1", "r2", "a2").await;
            settle(ledger, "r2", "r3", "a3").await;
            let late = ledger.settle("r1", pair("late", "b"), true, NOW, until).await;
            assert!(matches!(late, Known::Pair(pair) if pair.tokens.access_token.expose() == "a3"));
            assert_all(ledger, &["r1", "r2", "r3", "late"], Some("a3")).await;
        });
        check(async |ledger| {
            ledger.settle("r1", pair("r2", "a2"), true, NOW, until).await;
            assert_all(ledger, &["r1", "r2"], Some("a2")).await;
        });
    }

    #[test]
    fn a_newer_access_token_for_a_refresh_token_that_stays_is_adopted() {
        check(async |ledger| {
            assert!(adopt(ledger, "r1", lasting("r1", "a2", 60)).await);
            assert!(!adopt(ledger, "r1", lasting("r1", "a1", 30)).await);
            assert_all(ledger, &["r1"], Some("a2")).await;
            assert!(adopt(ledger, "r1", lasting("r1", "a3", 90)).await);
            assert_all(ledger, &["r1"], Some("a3")).await;
        });
    }

    #[test]
    fn a_token_that_nobody_knows_joins_the_session_of_its_known_successor() {
        check(async |ledger| {
            settle(ledger, "r2", "r3", "a3").await;
            assert!(adopt(ledger, "r1", pair("r2", "a2")).await);
            assert_all(ledger, &["r1", "r2", "r3"], Some("a3")).await;
        });
    }

    #[test]
    fn an_adoption_joins_no_two_sessions_and_undoes_no_sign_out() {
        check(async |ledger| {
            settle(ledger, "r1", "r2", "ann's").await;
            settle(ledger, "s1", "s2", "bob's").await;
            assert!(!adopt(ledger, "r2", pair("s2", "bob's")).await);
            assert_all(ledger, &["r1", "r2"], Some("ann's")).await;
            assert_all(ledger, &["s1", "s2"], Some("bob's")).await;
            end(ledger, "r1").await;
            assert!(!adopt(ledger, "r2", lasting("r3", "a3", 60)).await);
            assert_all(ledger, &["r1", "r2", "r3"], Some("signed out")).await;
        });
    }

    #[test]
    fn a_record_ends_on_time_and_for_all_its_names() {
        check(async |ledger| {
            let until = |seconds| NOW.saturating_add(Duration::from_secs(seconds));
            ledger.settle("r1", pair("r2", "a2"), false, NOW, until(10)).await;
            assert_eq!(access_token(ledger, "r1", until(9)).await.as_deref(), Some("a2"));
            assert_eq!(access_token(ledger, "r1", until(10)).await, None);
            ledger.settle("r2", pair("r3", "a3"), false, until(5), until(20)).await;
            for name in ["r1", "r2", "r3"] {
                assert_eq!(access_token(ledger, name, until(19)).await.as_deref(), Some("a3"));
                assert_eq!(access_token(ledger, name, until(20)).await, None);
            }
            ledger.end("r3", until(21), until(30)).await;
            let again = ledger.settle("r3", pair("r4", "a4"), false, until(30), until(40)).await;
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
