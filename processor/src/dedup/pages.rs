//! Small pages while much is put down that is written once and read once.
//!
//! A huge page is cleared whole before its first byte is written, and on a virtual machine that gave its
//! free memory back, the host must find it first: 320 MB took 0.5 to 0.6 s in huge pages and 0.15 s in
//! small ones. Tables, which are looked up in for days, are better off in huge ones.

use std::sync::{Mutex, PoisonError};

/// How many hold a [`SmallPages`] now.
static HOLDERS: Mutex<usize> = Mutex::new(0);

/// While one of these is there, memory that the process touches for the first time comes in small pages.
#[derive(Debug)]
pub struct SmallPages(());

impl SmallPages {
    /// From now on.
    pub fn hold() -> Self {
        count(|holders| holders + 1);
        Self(())
    }
}

impl Drop for SmallPages {
    fn drop(&mut self) {
        count(|holders| holders - 1);
    }
}

fn count(change: impl FnOnce(usize) -> usize) {
    let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    let before = *holders > 0;
    *holders = change(*holders);
    let after = *holders > 0;
    if before != after {
        // Where the system does not know it, a restore takes a little longer.
        let _ = rustix::thread::disable_transparent_huge_pages(after);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::thread::transparent_huge_pages_are_disabled;

    use super::*;

    #[test]
    fn pages_are_small_while_anybody_wants_that() {
        let (first, second) = (SmallPages::hold(), SmallPages::hold());
        assert!(transparent_huge_pages_are_disabled().expect("it tells"));
        drop(first);
        assert!(transparent_huge_pages_are_disabled().expect("it tells"));
        drop(second);
        assert!(!transparent_huge_pages_are_disabled().expect("it tells"));
    }
}
