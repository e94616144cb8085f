//! What all dedup indexes of a process take, and the bound on it: one account, whatever the number of
//! workers. An index that is being restored counts as well.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// From this share of the bound on, in percent, operators hear of it.
const NEAR_PERCENT: u64 = 90;

/// This part of the bound stays free when an index is restored, and must be free before consumption goes on:
/// a fiftieth. What is judged has it for itself, and does not stop and go on for each byte.
const RESERVED_PART: u64 = 50;

/// The account. Nothing but numbers hangs together here, so each is ordered by itself alone.
#[derive(Debug)]
pub struct Memory {
    held: AtomicU64,
    /// [`u64::MAX`] where there is none.
    bound: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            held: AtomicU64::new(0),
            bound: AtomicU64::new(u64::MAX),
        }
    }
}

impl Memory {
    /// What all indexes take, in bytes.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// What they may take; `None` where there is no bound.
    pub fn bound(&self) -> Option<u64> {
        let bound = self.bound.load(Ordering::Relaxed);
        (bound != u64::MAX).then_some(bound)
    }

    /// Sets what they may take.
    pub fn set_bound(&self, bound: Option<u64>) {
        self.bound
            .store(bound.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether nothing more may be learned.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.held() >= self.bound.load(Ordering::Relaxed)
    }

    /// The bound, less what is reserved for what is judged.
    fn for_restores(&self) -> u64 {
        let bound = self.bound.load(Ordering::Relaxed);
        bound - bound / RESERVED_PART
    }

    /// Whether an index may be restored, and consumption go on that paused.
    pub fn has_room(&self) -> bool {
        self.held() < self.for_restores()
    }

    /// Whether the bound is near.
    pub fn is_nearly_full(&self) -> bool {
        self.bound()
            .is_some_and(|bound| self.held() >= bound / 100 * NEAR_PERCENT)
    }

    /// Whether an index of so many bytes may be restored.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.held().saturating_add(bytes) < self.for_restores()
    }

    /// How much must be free before an index is tried again that had so many bytes when it was given up: it
    /// needs more, and how much more is not known. A quarter more, and at most half of what it may have, so
    /// that it is tried in any case once nothing else is held.
    pub fn needed(&self, bytes: u64) -> u64 {
        let left = self.for_restores().saturating_sub(bytes);
        bytes + (bytes / 4).min(left / 2)
    }
}

/// The share of one index; given back when it is dropped.
#[derive(Debug, Default)]
pub struct Share {
    of: Option<Arc<Memory>>,
    bytes: u64,
}

impl Share {
    /// A share of an account, of nothing yet.
    pub fn of(memory: &Arc<Memory>) -> Self {
        Self {
            of: Some(Arc::clone(memory)),
            bytes: 0,
        }
    }

    /// What the index takes now.
    pub fn set(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        if let Some(memory) = &self.of {
            if bytes >= self.bytes {
                memory.held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
            } else {
                memory.held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            }
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_all_workers_count_against_one_bound_and_are_given_back() {
        let memory = Arc::new(Memory::default());
        assert_eq!((memory.bound(), memory.is_full()), (None, false));
        assert!(memory.has_room_for(1 << 60));
        memory.set_bound(Some(1_000));
        let (mut one, mut other) = (Share::of(&memory), Share::of(&memory));
        one.set(500);
        other.set(399);
        assert!(!memory.is_nearly_full());
        other.set(400);
        assert!(memory.is_nearly_full() && !memory.is_full());
        assert!(memory.has_room_for(79) && !memory.has_room_for(80));
        other.set(479);
        assert!(memory.has_room() && !memory.is_full());
        other.set(480);
        assert!(!memory.has_room() && !memory.is_full());
        other.set(500);
        assert!(memory.is_full());
        one.set(100);
        assert_eq!(memory.held(), 600);
        drop(other);
        assert_eq!(memory.held(), 100);
        // A little more each time, and never more than a restore alone may have.
        assert_eq!((memory.needed(400), memory.needed(500)), (500, 625));
        assert_eq!((memory.needed(900), memory.needed(979)), (940, 979));
        memory.set_bound(None);
        assert!(!memory.is_nearly_full() && memory.has_room());
        // An index without an account counts nowhere.
        Share::default().set(1_000);
        assert_eq!(memory.held(), 100);
    }
}
