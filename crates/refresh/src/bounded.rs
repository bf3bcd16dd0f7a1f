//! A map with a bound: what was written longest ago goes first.

use std::collections::{BTreeMap, HashMap};

use crate::lineage::Lineage;

/// What is known of each refresh token. It may hold more than `limit` entries until
/// [`Bounded::pop_excess`] has said what goes.
pub(crate) struct Bounded<V> {
    limit: usize,
    slots: HashMap<Lineage, Slot<V>>,
    /// One pair per slot, by the time of its last writing.
    order: BTreeMap<u64, Lineage>,
    writes: u64,
}

struct Slot<V> {
    written: u64,
    value: V,
}

impl<V> Bounded<V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, slots: HashMap::new(), order: BTreeMap::new(), writes: 0 }
    }

    pub(crate) fn get(&self, key: &Lineage) -> Option<&V> {
        self.slots.get(key).map(|slot| &slot.value)
    }

    /// Writes `value`, as the newest, and gives back what stood there.
    pub(crate) fn insert(&mut self, key: Lineage, value: V) -> Option<V> {
        self.writes += 1;
        self.order.insert(self.writes, key);
        let before = self.slots.insert(key, Slot { written: self.writes, value })?;
        self.order.remove(&before.written);
        Some(before.value)
    }

    pub(crate) fn remove(&mut self, key: &Lineage) -> Option<V> {
        let slot = self.slots.remove(key)?;
        self.order.remove(&slot.written);
        Some(slot.value)
    }

    /// What was written longest ago.
    pub(crate) fn oldest(&self) -> Option<&V> {
        let (_, key) = self.order.first_key_value()?;
        self.get(key)
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<V> {
        let (_, key) = self.order.pop_first()?;
        self.slots.remove(&key).map(|slot| slot.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(crate) fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.slots.values().map(|slot| &slot.value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.values_mut().map(|slot| &mut slot.value)
    }

    /// Takes out the oldest entry if there are more than the limit allows.
    pub(crate) fn pop_excess(&mut self) -> Option<V> {
        if self.slots.len() > self.limit { self.pop_oldest() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_longest_ago_goes_first() {
        let key = |number: u32| Lineage::of(&number.to_string());
        let mut map = Bounded::new(3);
        for number in 0..3 {
            assert_eq!(map.insert(key(number), number), None);
        }
        assert_eq!(map.insert(key(0), 10), Some(0));
        assert_eq!(map.pop_excess(), None);
        map.insert(key(3), 3);
        assert_eq!(map.oldest(), Some(&1));
        assert_eq!(map.pop_excess(), Some(1));
        assert_eq!(map.pop_excess(), None);
        assert_eq!(map.remove(&key(2)), Some(2));
        assert_eq!((map.get(&key(0)), map.get(&key(2))), (Some(&10), None));
        assert_eq!(
            [map.pop_oldest(), map.pop_oldest(), map.pop_oldest()],
            [Some(10), Some(3), None]
        );
    }
}
