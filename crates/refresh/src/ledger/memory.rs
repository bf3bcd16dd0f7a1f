//! The ledger of one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foregate_session::UnixSeconds;

use crate::bounded::Bounded;
use crate::ledger::{Known, Pair};
use crate::lineage::Lineage;

/// Keeps pairs in memory, as many as it was told to, the oldest out first.
pub struct MemoryLedger(Mutex<Store>);

struct Store {
    /// From a refresh token to the record of its session.
    entries: Bounded<Lineage>,
    /// Every record has a name in `entries`.
    records: HashMap<Lineage, Record>,
    forgotten: u64,
}

struct Record {
    known: Known,
    until: UnixSeconds,
    /// How many entries point here, `>= 1`.
    names: usize,
}

impl MemoryLedger {
    /// `entries` is a number of refresh tokens, spent ones included. Each takes some 200 bytes, each
    /// session its newest pair beside that.
    pub fn new(entries: usize) -> Self {
        // One redemption names two: the token it spent, and the new one.
        let entries = Bounded::new(entries.max(2));
        Self(Mutex::new(Store { entries, records: HashMap::new(), forgotten: 0 }))
    }

    pub(super) fn find(&self, token: &Lineage, now: UnixSeconds) -> Option<Known> {
        let store = self.lock();
        let record = store.records.get(store.entries.get(token)?)?;
        (record.until > now).then(|| record.known.clone())
    }

    pub(super) fn settle(
        &self,
        spent: Lineage,
        pair: Pair,
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> Known {
        let mut store = self.lock();
        let name = store.record_of(spent);
        let newest = pair.refresh_token;
        let known = match store.known(name, now) {
            Some(Known::SignedOut) => Known::SignedOut,
            Some(Known::Pair(other)) if other.refresh_token != spent && other.outlasts(&pair) => {
                Known::Pair(Arc::clone(other))
            }
            _ => {
                let known = Known::Pair(Arc::new(pair));
                store.write(name, known.clone(), until);
                known
            }
        };
        // In this order the newest token's entry goes last of all: without it the next redemption
        // would open a record of its own, and the holders of older tokens would miss it.
        store.point(spent, name);
        store.point(newest, name);
        store.sweep(now);
        known
    }

    pub(super) fn adopt(
        &self,
        spent: Lineage,
        pair: Pair,
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> bool {
        let mut store = self.lock();
        let newest = pair.refresh_token;
        let (old, new) = (store.record_of(spent), store.record_of(newest));
        let is_known = store.known(new, now).is_some();
        let found = match store.known(old, now) {
            // What came after the pair is known, and `spent` is not: it joins.
            None if is_known && old != new => {
                store.point(spent, new);
                return true;
            }
            // Two sessions stay two.
            Some(_) if is_known && old != new => return false,
            Some(Known::SignedOut) => false,
            Some(Known::Pair(known)) if known.refresh_token == newest => pair.outlasts(known),
            Some(Known::Pair(_)) if is_known => false,
            Some(Known::Pair(known)) => known.refresh_token == spent || pair.outlasts(known),
            None => true,
        };
        if found {
            store.write(old, Known::Pair(Arc::new(pair)), until);
        }
        store.point(spent, old);
        store.point(newest, old);
        store.sweep(now);
        found
    }

    pub(super) fn end(&self, token: Lineage, now: UnixSeconds, until: UnixSeconds) {
        let mut store = self.lock();
        let name = store.record_of(token);
        let before = store.write(name, Known::SignedOut, until);
        store.point(token, name);
        if let Some(Known::Pair(pair)) = before {
            store.point(pair.refresh_token, name);
        }
        store.sweep(now);
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    /// No code of ours panics under this lock, and a half-written record would still be a true one.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn record_of(&self, token: Lineage) -> Lineage {
        self.entries.get(&token).copied().unwrap_or(token)
    }

    /// What the record called `name` says, if it has not ended.
    fn known(&self, name: Lineage, now: UnixSeconds) -> Option<&Known> {
        let record = self.records.get(&name)?;
        (record.until > now).then_some(&record.known)
    }

    /// Gives back what the record said before. The caller names a new one next.
    fn write(&mut self, name: Lineage, known: Known, until: UnixSeconds) -> Option<Known> {
        let names = self.records.get(&name).map_or(0, |record| record.names);
        self.records.insert(name, Record { known, until, names }).map(|record| record.known)
    }

    fn point(&mut self, token: Lineage, name: Lineage) {
        if let Some(record) = self.records.get_mut(&name) {
            record.names += 1;
        }
        if let Some(before) = self.entries.insert(token, name) {
            self.unname(before);
        }
        while let Some(name) = self.entries.pop_excess() {
            self.forgotten += 1;
            self.unname(name);
        }
    }

    fn unname(&mut self, name: Lineage) {
        if let Some(record) = self.records.get_mut(&name) {
            record.names -= 1;
            if record.names == 0 {
                self.records.remove(&name);
            }
        }
    }

    /// Drops what has ended, as far as it is also the oldest.
    fn sweep(&mut self, now: UnixSeconds) {
        while let Some(name) = self.entries.oldest().copied()
            && self.records.get(&name).is_none_or(|record| record.until <= now)
        {
            self.entries.pop_oldest();
            self.unname(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foregate_session::Secret;
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::Tokens;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn token(number: u32) -> Lineage {
        Lineage::of(&number.to_string())
    }

    fn pair(newest: u32, now: UnixSeconds) -> Pair {
        let tokens = Tokens {
            access_token: Secret::new("a"),
            access_expires_at: None,
            refresh_token: Secret::new(newest.to_string()),
            refresh_expires_at: None,
            id_token: None,
        };
        Pair::new(tokens, now)
    }

    fn settle(ledger: &MemoryLedger, spent: u32, newest: u32, now: UnixSeconds) {
        let until = now.saturating_add(Duration::from_secs(60));
        ledger.settle(token(spent), pair(newest, now), now, until);
    }

    fn sizes(ledger: &MemoryLedger) -> (usize, usize, u64) {
        let store = ledger.lock();
        (store.entries.values().len(), store.records.len(), store.forgotten)
    }

    #[test]
    fn the_oldest_entries_go_first_and_are_counted() {
        let ledger = MemoryLedger::new(4);
        for first in [10, 20, 30] {
            settle(&ledger, first, first + 1, NOW);
        }
        assert_eq!(sizes(&ledger), (4, 2, 2));
        assert_eq!(ledger.find(&token(10), NOW), None);
        assert!(ledger.find(&token(20), NOW).is_some());
        ledger.end(token(40), NOW, NOW.saturating_add(Duration::from_secs(60)));
        assert_eq!(sizes(&ledger), (4, 3, 3));
        assert_eq!(ledger.find(&token(20), NOW), None);
        assert!(ledger.find(&token(21), NOW).is_some(), "the newest of a session goes last");
    }

    #[test]
    fn what_has_ended_makes_room_uncounted() {
        let ledger = MemoryLedger::new(100);
        for first in 0..10 {
            settle(&ledger, 2 * first, 2 * first + 1, NOW);
        }
        assert_eq!(sizes(&ledger), (20, 10, 0));
        settle(&ledger, 100, 101, NOW.saturating_add(Duration::from_secs(61)));
        assert_eq!(sizes(&ledger), (2, 1, 0));
    }

    proptest! {
        #[test]
        fn every_record_is_named_and_every_name_leads_to_one(
            limit in 2..12_usize,
            steps in prop::collection::vec((0..8_u32, 0..8_u32, 0..40_u64, 0..4_u8), 0..60),
        ) {
            let ledger = MemoryLedger::new(limit);
            let mut now = NOW;
            for (spent, newest, pause, kind) in steps {
                now = now.saturating_add(Duration::from_secs(pause));
                let until = now.saturating_add(Duration::from_secs(60));
                match kind {
                    0 => ledger.end(token(spent), now, until),
                    1 => drop(ledger.adopt(token(spent), pair(newest, now), now, until)),
                    _ => settle(&ledger, spent, newest, now),
                }
                // An app's pair that belongs to another session is left alone.
                prop_assert!(kind == 1 || ledger.find(&token(spent), now).is_some());
                let store = ledger.lock();
                prop_assert!(store.entries.values().len() <= limit);
                let mut named: HashMap<Lineage, usize> = HashMap::new();
                for name in store.entries.values() {
                    *named.entry(*name).or_default() += 1;
                }
                let counted = store.records.iter().map(|(name, record)| (*name, record.names));
                prop_assert_eq!(counted.collect::<HashMap<_, _>>(), named);
            }
        }
    }
}
