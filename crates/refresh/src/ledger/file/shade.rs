//! A file that is read, while all that would be written to it stays in memory: so a ledger can be
//! asked whose disk is full.

use std::collections::HashMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

#[derive(Debug)]
pub(super) struct Shade {
    below: FileBackend,
    above: Mutex<Above>,
}

#[derive(Debug)]
struct Above {
    /// What was written since, by the number of the block.
    blocks: HashMap<u64, Box<[u8; BLOCK]>>,
    length: u64,
    /// Of `below` no more than this counts: what was cut off is gone.
    below: u64,
}

impl Shade {
    pub(super) fn over(below: FileBackend) -> io::Result<Self> {
        let length = below.len()?;
        let above = Above { blocks: HashMap::new(), length, below: length };
        Ok(Self { below, above: Mutex::new(above) })
    }

    fn above(&self) -> MutexGuard<'_, Above> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as it stands, with zeros where nothing was ever written.
    fn block(&self, above: &Above, number: u64) -> io::Result<Box<[u8; BLOCK]>> {
        if let Some(block) = above.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = Box::new([0; BLOCK]);
        let begin = number * BLOCK as u64;
        let length = above.below.saturating_sub(begin).min(BLOCK as u64) as usize;
        if length > 0 {
            self.below.read(begin, &mut block[..length])?;
        }
        Ok(block)
    }
}

/// The pieces of `length` bytes from `offset` on: the block of each, where it begins there, and its
/// length.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        let (number, begin) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
        let length = (end - at).min((BLOCK - begin) as u64) as usize;
        at += length as u64;
        (length > 0).then_some((number, begin, length))
    })
}

impl StorageBackend for Shade {
    fn len(&self) -> io::Result<u64> {
        Ok(self.above().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.above();
        let mut rest = out;
        for (number, begin, length) in pieces(offset, rest.len()) {
            let (piece, after) = rest.split_at_mut(length);
            piece.copy_from_slice(&self.block(&above, number)?[begin..begin + length]);
            rest = after;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut above = self.above();
        if length < above.length {
            // What is cut off reads as zeros, should the file grow again.
            let (last, begin) = (length / BLOCK as u64, (length % BLOCK as u64) as usize);
            let mut block = self.block(&above, last)?;
            block[begin..].fill(0);
            above.blocks.retain(|number, _| *number < last);
            above.blocks.insert(last, block);
            above.below = above.below.min(last * BLOCK as u64);
        }
        above.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.above();
        let mut rest = data;
        for (number, begin, length) in pieces(offset, data.len()) {
            let (piece, after) = rest.split_at(length);
            let mut block = self.block(&above, number)?;
            block[begin..begin + length].copy_from_slice(piece);
            above.blocks.insert(number, block);
            rest = after;
        }
        above.length = above.length.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.unlock_range(start, end)
    }
}

/// The size of redb's pages.
const BLOCK: usize = 4096;

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use proptest::prelude::*;

    use super::*;
    use crate::ledger::fixtures::Directory;

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize, Vec<u8>),
        SetLen(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_000_usize, prop::collection::vec(any::<u8>(), 0..9_000))
                .prop_map(|(offset, data)| Step::Write(offset, data)),
            (0..20_000_usize).prop_map(Step::SetLen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shade_is_a_file_that_stays_as_it_was(
            whole in prop::collection::vec(any::<u8>(), 0..20_000),
            steps in prop::collection::vec(step(), 0..12),
        ) {
            let directory = Directory::new();
            let path = directory.path("file");
            fs::write(&path, &whole).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let shade = Shade::over(FileBackend::new(file).unwrap()).unwrap();
            let mut model = whole.clone();
            for step in steps {
                match step {
                    Step::Write(offset, data) => {
                        shade.write(offset as u64, &data).unwrap();
                        let end = offset + data.len();
                        model.resize(model.len().max(end), 0);
                        model[offset..end].copy_from_slice(&data);
                    }
                    Step::SetLen(length) => {
                        shade.set_len(length as u64).unwrap();
                        model.resize(length, 0);
                    }
                }
                prop_assert_eq!(shade.len().unwrap(), model.len() as u64);
                let mut read = vec![0; model.len()];
                shade.read(0, &mut read).unwrap();
                prop_assert!(read == model);
            }
            prop_assert!(fs::read(&path).unwrap() == whole);
        }
    }
}
