//! The ledger of one process, by itself or in front of one outside.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foregate_session::UnixSeconds;

use crate::bounded::Bounded;
use crate::ledger::Known;
use crate::ledger::seal::Record as Learnt;
use crate::ledger::write::{self, Both, Naming, News, Plan, Write};
use crate::lineage::{Lineage, TokenKeys};

/// Keeps pairs in memory, as many as it was told to, the oldest out first.
pub struct MemoryLedger(Mutex<Store>);

struct Store {
    /// From a refresh token to the record of its session.
    entries: Bounded<Lineage>,
    /// Every record has a name in `entries`.
    records: HashMap<Lineage, Record>,
    forgotten: u64,
    /// Records of an earlier epoch may have changed elsewhere without our hearing of it.
    epoch: u64,
    /// The number of each record's last change, for [`MemoryLedger::learn`].
    changed: Bounded<u64>,
    changes: u64,
    /// The last change of which `changed` has forgotten.
    changes_forgotten: u64,
}

struct Record {
    known: Known,
    until: UnixSeconds,
    epoch: u64,
    /// How many entries point here, `>= 1`.
    names: usize,
}

/// A moment in the life of a ledger in front of another, taken before that one is asked.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    epoch: u64,
    changes: u64,
}

/// What a ledger made of a [`Write`].
pub(super) struct Written {
    /// What stands in the record that the write was about.
    pub(super) known: Option<Known>,
    /// Whether holders of the token now find the pair of the write, or what came after it.
    pub(super) learnt: bool,
}

impl MemoryLedger {
    /// `entries` is a number of refresh tokens, spent ones included. Each takes some 200 bytes, each
    /// session its newest pair beside that.
    pub fn new(entries: usize) -> Self {
        Self(Mutex::new(Store {
            // One redemption names two: the token it spent, and the new one.
            entries: Bounded::new(entries.max(2)),
            records: HashMap::new(),
            forgotten: 0,
            epoch: 0,
            changed: Bounded::new(CHANGES_KEPT),
            changes: 0,
            changes_forgotten: 0,
        }))
    }

    pub(super) fn find(&self, token: &Lineage, now: UnixSeconds) -> Option<Known> {
        let store = self.lock();
        let record = store.records.get(store.entries.get(token)?)?;
        (record.until > now && record.epoch == store.epoch).then(|| record.known.clone())
    }

    /// The same, even if it may have changed elsewhere.
    pub(super) fn recall(&self, token: &Lineage, now: UnixSeconds) -> Option<Known> {
        let store = self.lock();
        let record = store.records.get(store.entries.get(token)?)?;
        (record.until > now).then(|| record.known.clone())
    }

    pub(super) fn write(&self, write: &Write, now: UnixSeconds) -> Written {
        let mut store = self.lock();
        let token = write.token.name;
        let old = store.record_of(&write.token);
        match &write.news {
            News::Settled { pair, newest, late } => {
                let plan = write::settle(&store.both(old, newest, now), token, pair, *late);
                store.carry_out(plan, write, newest, now)
            }
            News::Adopted { pair, newest } => {
                let plan = write::adopt(&store.both(old, newest, now), token, pair);
                store.carry_out(plan, write, newest, now)
            }
            News::Ended => {
                let before = store.put(old, Known::SignedOut, write.until);
                store.point(token, old);
                if let Some(Known::Pair(pair)) = before {
                    store.point(pair.refresh_token, old);
                }
                store.sweep(now);
                Written { known: Some(Known::SignedOut), learnt: true }
            }
        }
    }

    /// The moment for [`MemoryLedger::learn`].
    pub(super) fn moment(&self) -> Moment {
        let store = self.lock();
        Moment { epoch: store.epoch, changes: store.changes }
    }

    /// Takes over what a ledger outside has said of a record, and that `names` lead to it, unless
    /// that has changed `since` it was asked. Says whether it did.
    pub(super) fn learn(
        &self,
        since: Moment,
        record: Lineage,
        names: &[Lineage],
        learnt: Learnt,
        now: UnixSeconds,
    ) -> bool {
        let mut store = self.lock();
        let is_news = since.epoch == store.epoch && !store.has_changed(record, since);
        if is_news {
            store.learn(record, names, learnt, now);
        }
        is_news
    }

    /// The same where the ledger outside has just written the record for us: what was read of it
    /// meanwhile is older. Of two who wrote at a time nobody knows here who was the later one, so
    /// the next one asks. `left`: what was known of that record is told by this one from now on.
    pub(super) fn learn_own(
        &self,
        since: Moment,
        record: Lineage,
        left: Option<Lineage>,
        names: &[Lineage],
        learnt: Learnt,
        now: UnixSeconds,
    ) {
        let mut store = self.lock();
        if since.epoch == store.epoch && !store.has_changed(record, since) {
            store.learn(record, names, learnt, now);
            store.change(record);
        } else {
            store.forget(record);
        }
        if let Some(left) = left {
            store.merge(left, record);
        }
    }

    /// The ledger outside knows nothing of the token, though it did when this one learnt it: it has
    /// lost what it knew. What is remembered here counts again, unless the record has changed
    /// `since` the other was asked.
    pub(super) fn stand_in(
        &self,
        since: Moment,
        token: &Lineage,
        now: UnixSeconds,
    ) -> Option<Known> {
        let mut store = self.lock();
        let (name, epoch) = (*store.entries.get(token)?, store.epoch);
        let has_changed = since.epoch != epoch || store.has_changed(name, since);
        let record = store.records.get_mut(&name)?;
        if !has_changed {
            record.epoch = epoch;
        }
        (record.until > now).then(|| record.known.clone())
    }

    /// What the ledger outside says of a record, while nothing new can be told to it. What is known
    /// here may be newer: then that counts, and stays.
    pub(super) fn compare(
        &self,
        record: Lineage,
        names: &[Lineage],
        found: Learnt,
        now: UnixSeconds,
    ) -> Known {
        let mut store = self.lock();
        if let Some(own) = store.known(record, now)
            && !is_older(own, &found.known)
        {
            let own = own.clone();
            for name in names {
                store.point(*name, record);
            }
            return own;
        }
        let known = found.known.clone();
        store.learn(record, names, found, now);
        known
    }

    /// The record has changed outside: what is known of it does not count any more.
    pub(super) fn forget(&self, record: Lineage) {
        self.lock().forget(record);
    }

    /// From now on nothing that is known counts, until it was learnt once more.
    pub(super) fn distrust(&self) {
        self.lock().epoch += 1;
    }

    pub(super) fn entries(&self) -> usize {
        self.lock().entries.len()
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    /// No code of ours panics under this lock, and a half-written record would still be a true one.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of two words about one session. After a sign-out there is nothing newer.
fn is_older(own: &Known, other: &Known) -> bool {
    match (own, other) {
        (Known::SignedOut, _) => false,
        (Known::Pair(_), Known::SignedOut) => true,
        (Known::Pair(own), Known::Pair(other)) => own.obtained_at < other.obtained_at,
    }
}

/// Enough for all that happens while a store outside answers; if there is more, what it said is not
/// kept, and asked for again.
const CHANGES_KEPT: usize = 65_536;

impl Store {
    fn record_of(&self, token: &TokenKeys) -> Lineage {
        self.entries.get(&token.name).copied().unwrap_or(token.thread.name)
    }

    /// What is known of two records: `old`, and that of the newest token.
    fn both(&self, old: Lineage, newest: &TokenKeys, now: UnixSeconds) -> Both<'_> {
        let new = self.record_of(newest);
        Both {
            old: self.known(old, now),
            new: self.known(new, now),
            one: old == new,
            old_is_named: false,
            new_is_named: false,
        }
    }

    fn carry_out(
        &mut self,
        plan: Plan,
        write: &Write,
        newest: &TokenKeys,
        now: UnixSeconds,
    ) -> Written {
        let (old, new) = (self.record_of(&write.token), self.record_of(newest));
        if let Some(known) = plan.record {
            let is_old = matches!(plan.naming, Naming::Both | Naming::None);
            self.put(if is_old { old } else { new }, known, write.until);
        }
        match plan.naming {
            // In this order the newest token's entry goes last of all: without it the next
            // redemption would open a record of its own, and the holders of older tokens would
            // miss it.
            Naming::Both => {
                self.point(write.token.name, old);
                self.point(newest.name, old);
            }
            Naming::Join => self.point(write.token.name, new),
            Naming::Merge => {
                self.merge(old, new);
                self.point(write.token.name, new);
            }
            Naming::Begin | Naming::None => {}
        }
        let known = self.known(self.record_of(&write.token), now).cloned();
        self.sweep(now);
        Written { known, learnt: plan.learnt }
    }

    fn learn(&mut self, record: Lineage, names: &[Lineage], learnt: Learnt, now: UnixSeconds) {
        // Without a name nobody would find it, nor drop it.
        if names.is_empty() {
            return;
        }
        self.put(record, learnt.known, learnt.until);
        for name in names {
            self.point(*name, record);
        }
        self.sweep(now);
    }

    /// All that leads to the record `from` leads to `to` from now on. Looks at every entry, for a
    /// session that two processes went on with while each was alone.
    fn merge(&mut self, from: Lineage, to: Lineage) {
        self.change(from);
        if from == to || !self.records.contains_key(&to) {
            return self.forget(from);
        }
        let Some(left) = self.records.remove(&from) else { return };
        for name in self.entries.values_mut().filter(|name| **name == from) {
            *name = to;
        }
        if let Some(record) = self.records.get_mut(&to) {
            record.names += left.names;
        }
    }

    fn forget(&mut self, record: Lineage) {
        self.change(record);
        if let Some(record) = self.records.get_mut(&record) {
            record.until = UnixSeconds(i64::MIN);
        }
    }

    fn change(&mut self, record: Lineage) {
        self.changes += 1;
        self.changed.insert(record, self.changes);
        if let Some(change) = self.changed.pop_excess() {
            self.changes_forgotten = change;
        }
    }

    /// Whether the record has changed since then, or may have.
    fn has_changed(&self, record: Lineage, since: Moment) -> bool {
        let change = self.changed.get(&record);
        since.changes < self.changes_forgotten || change.is_some_and(|at| *at > since.changes)
    }

    /// What the record called `name` says, if it has not ended.
    fn known(&self, name: Lineage, now: UnixSeconds) -> Option<&Known> {
        let record = self.records.get(&name)?;
        (record.until > now).then_some(&record.known)
    }

    /// Gives back what the record said before. The caller names a new one next.
    fn put(&mut self, name: Lineage, known: Known, until: UnixSeconds) -> Option<Known> {
        let names = self.records.get(&name).map_or(0, |record| record.names);
        let record = Record { known, until, epoch: self.epoch, names };
        self.records.insert(name, record).map(|record| record.known)
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
    use std::sync::Arc;
    use std::time::Duration;

    use foregate_session::Secret;
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::Pair;
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
        let (spent, pair) = (spent.to_string(), Arc::new(pair(newest, now)));
        ledger.write(&Write::settled(&spent, pair, minute_after(now), false), now);
    }

    fn end(ledger: &MemoryLedger, token: u32, now: UnixSeconds) {
        ledger.write(&Write::ended(&token.to_string(), minute_after(now)), now);
    }

    fn adopt(ledger: &MemoryLedger, spent: u32, newest: u32, now: UnixSeconds) {
        let (spent, pair) = (spent.to_string(), Arc::new(pair(newest, now)));
        ledger.write(&Write::adopted(&spent, pair, minute_after(now)), now);
    }

    fn minute_after(now: UnixSeconds) -> UnixSeconds {
        now.saturating_add(Duration::from_secs(60))
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
        end(&ledger, 40, NOW);
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

    fn record(newest: u32) -> Learnt {
        let known = Known::Pair(Arc::new(pair(newest, NOW)));
        Learnt { known, until: minute_after(NOW) }
    }

    fn newest(ledger: &MemoryLedger, number: u32) -> Option<Lineage> {
        match ledger.find(&token(number), NOW)? {
            Known::Pair(pair) => Some(pair.refresh_token),
            Known::SignedOut => None,
        }
    }

    #[test]
    fn what_is_read_outside_replaces_nothing_that_has_changed_since() {
        let (ledger, name) = (MemoryLedger::new(9), token(0));
        let before = ledger.moment();
        ledger.learn_own(ledger.moment(), name, None, &[token(1), token(2)], record(2), NOW);
        ledger.learn(before, name, &[token(1)], record(1), NOW);
        assert_eq!(newest(&ledger, 1), Some(token(2)));
        // Of two writers nobody knows who was the later one.
        ledger.learn_own(before, name, None, &[token(1), token(3)], record(3), NOW);
        assert_eq!(newest(&ledger, 1), None);
        ledger.learn(ledger.moment(), name, &[token(1)], record(3), NOW);
        assert_eq!(newest(&ledger, 1), Some(token(3)));
        let before = ledger.moment();
        ledger.forget(name);
        assert_eq!(newest(&ledger, 1), None);
        ledger.learn(before, name, &[token(1)], record(3), NOW);
        assert_eq!((newest(&ledger, 1), ledger.recall(&token(1), NOW)), (None, None));
    }

    #[test]
    fn what_may_have_changed_counts_only_where_nobody_knows_better() {
        let (ledger, name) = (MemoryLedger::new(9), token(0));
        ledger.learn(ledger.moment(), name, &[token(1)], record(2), NOW);
        ledger.distrust();
        assert_eq!(newest(&ledger, 1), None);
        assert!(ledger.recall(&token(1), NOW).is_some());
        assert!(ledger.stand_in(ledger.moment(), &token(1), NOW).is_some());
        assert_eq!(newest(&ledger, 1), Some(token(2)));
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
                match kind {
                    0 => end(&ledger, spent, now),
                    1 => adopt(&ledger, spent, newest, now),
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
