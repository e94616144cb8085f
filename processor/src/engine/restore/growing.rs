//! What an index takes while it is built.

use super::question::RestoreHalt;
use crate::dedup::index::DedupIndex;
use crate::dedup::memory::Memory;

/// An index that is built is counted after so many entries: counting looks at each of its shards.
const COUNTED_AFTER: usize = 4096;

/// Counts while it is built, and gives it up where there is no room.
pub struct Growing<'m> {
    memory: &'m Memory,
    uncounted: usize,
}

impl<'m> Growing<'m> {
    /// Against this account.
    pub const fn new(memory: &'m Memory) -> Self {
        Self {
            memory,
            uncounted: 0,
        }
    }

    /// So many entries were learned.
    pub fn learned(&mut self, index: &mut DedupIndex, entries: usize) -> Result<(), RestoreHalt> {
        self.uncounted += entries;
        if self.uncounted < COUNTED_AFTER {
            return Ok(());
        }
        self.uncounted = 0;
        index.count();
        if self.memory.is_full() {
            return Err(RestoreHalt::NoRoom(index.bytes() as u64));
        }
        Ok(())
    }
}
