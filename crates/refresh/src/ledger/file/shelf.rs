//! Sealed things by their names, and the order in which they were written.

use foregate_session::UnixSeconds;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use crate::lineage::Lineage;

/// One kind of things, inside one transaction.
pub(super) struct Shelf<'txn> {
    /// Of each thing: its number, its end in seconds (8 bytes each, little-endian), its seal.
    things: Table<'txn, &'static [u8; 32], &'static [u8]>,
    /// One per thing, by the number of its last writing.
    order: Table<'txn, u64, &'static [u8; 32]>,
}

impl<'txn> Shelf<'txn> {
    pub(super) fn entries(writing: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        let things = writing.open_table(ENTRIES)?;
        Ok(Self { things, order: writing.open_table(ENTRY_ORDER)? })
    }

    pub(super) fn records(writing: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        let things = writing.open_table(RECORDS)?;
        Ok(Self { things, order: writing.open_table(RECORD_ORDER)? })
    }

    pub(super) fn get(&self, name: Lineage) -> Result<Option<Vec<u8>>, redb::Error> {
        let thing = self.things.get(name.as_bytes())?;
        Ok(thing.map(|thing| sealed(thing.value()).to_vec()))
    }

    /// Writes it as the newest.
    pub(super) fn put(
        &mut self,
        name: Lineage,
        until: UnixSeconds,
        sealed: &[u8],
    ) -> Result<(), redb::Error> {
        let last = self.order.last()?.map(|(number, _)| number.value());
        let number = last.map_or(0, |last| last + 1);
        let thing = [&number.to_le_bytes()[..], &until.0.to_le_bytes(), sealed].concat();
        let before = self.things.insert(name.as_bytes(), &thing[..])?;
        let before = before.and_then(|thing| head(thing.value()));
        if let Some((number, _)) = before {
            self.order.remove(number)?;
        }
        self.order.insert(number, name.as_bytes())?;
        Ok(())
    }

    /// Drops what has ended, as far as it is also the oldest; not all at once.
    pub(super) fn sweep(&mut self, now: UnixSeconds) -> Result<(), redb::Error> {
        for _ in 0..SWEPT_AT_ONCE {
            let Some(oldest) = self.oldest()? else { return Ok(()) };
            let thing = self.things.get(oldest.as_bytes())?;
            let end = thing.and_then(|thing| head(thing.value())).map(|(_, end)| end);
            if end.is_some_and(|end| end > now) {
                return Ok(());
            }
            self.pop(oldest)?;
        }
        Ok(())
    }

    /// Drops the oldest, if there are more than `limit`, and says how many.
    pub(super) fn pop_excess(&mut self, limit: usize) -> Result<u64, redb::Error> {
        let mut popped = 0;
        while self.len()? > limit
            && let Some(oldest) = self.oldest()?
        {
            self.pop(oldest)?;
            popped += 1;
        }
        Ok(popped)
    }

    pub(super) fn len(&self) -> Result<usize, redb::Error> {
        Ok(usize::try_from(self.things.len()?).unwrap_or(usize::MAX))
    }

    fn oldest(&self) -> Result<Option<Lineage>, redb::Error> {
        let first = self.order.first()?;
        Ok(first.map(|(_, name)| Lineage::from_bytes(*name.value())))
    }

    fn pop(&mut self, oldest: Lineage) -> Result<(), redb::Error> {
        self.order.pop_first()?;
        self.things.remove(oldest.as_bytes())?;
        Ok(())
    }
}

/// The number and the end of a thing.
fn head(thing: &[u8]) -> Option<(u64, UnixSeconds)> {
    let (number, thing) = thing.split_first_chunk::<8>()?;
    let (end, _) = thing.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), UnixSeconds(i64::from_le_bytes(*end))))
}

/// The seal of a thing.
pub(super) fn sealed(thing: &[u8]) -> &[u8] {
    thing.get(16..).unwrap_or_default()
}

pub(super) const ENTRIES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("entries");
pub(super) const RECORDS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("records");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("foregate");
const ENTRY_ORDER: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("entry order");
const RECORD_ORDER: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("record order");
/// After a long pause there may be a million, and somebody waits for the commit.
const SWEPT_AT_ONCE: usize = 1000;
