//! What an index takes while it is built.

use super::question::RestoreHalt;
use crate::dedup::index::DedupIndex;
use crate::dedup::memory::Memory;

/// An index that is built is counted after so many entries: counting looks at each of its shards.
/// Few enough that an index does not outgrow in between what is reserved for others.
const COUNTED_AFTER: usize = 1024;

/// Counts while it is built, and gives it up before those that are judged have no room.
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

    /// An entry was learned.
    pub fn learned(&mut self, index: &mut DedupIndex) -> Result<(), RestoreHalt> {
        self.uncounted += 1;
        if self.uncounted < COUNTED_AFTER {
            return Ok(());
        }
        self.uncounted = 0;
        index.count();
        if !self.memory.has_room() {
            return Err(RestoreHalt::NoRoom(index.bytes() as u64));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluice_schemas::dedup_log::Entry;

    use super::*;
    use crate::dedup::memory::Share;

    #[test]
    fn a_restore_that_does_not_fit_leaves_room_for_those_that_are_judged() {
        let memory = Arc::new(Memory::default());
        let bound = 64 << 20;
        memory.set_bound(Some(bound));
        let mut judged = Share::of(&memory);
        judged.set(32 << 20);
        let mut index = DedupIndex::counted(3_600, &memory);
        let mut growing = Growing::new(&memory);
        let mut gave_up = None;
        for n in 0..4_000_000u64 {
            index.insert(&entry(n));
            if let Err(RestoreHalt::NoRoom(bytes)) = growing.learned(&mut index) {
                gave_up = Some(bytes);
                break;
            }
        }
        let held = memory.held();
        assert!(gave_up.is_some(), "{held} of {bound}");
        assert!(
            !memory.is_full(),
            "a restore took {held} bytes of {bound}: the others pause"
        );
    }

    fn entry(n: u64) -> Entry {
        let mut identity = [0; 16];
        identity.copy_from_slice(&sluice_schemas::identity::sha256(&n.to_be_bytes())[..16]);
        Entry {
            identity,
            appended: 1_700_000_000,
            sequence: None,
        }
    }
}
