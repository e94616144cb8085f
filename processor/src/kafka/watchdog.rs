//! A watch over calls that may hang: a client was seen to stay in one for good, whatever time it was
//! given, and a thread that hangs cannot end itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the watch looks.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A call that is seen so often has hung: half as long again as the longest may take (30 s). Looks are
/// counted and not seconds, so that a process that was stopped and goes on is not taken for one that hangs.
const LOOKS: u32 = 45;

/// So many calls that were given up, each with its client and a thread, are more than a process should
/// carry along.
const ABANDONED: u64 = 8;

/// One thread's calls.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Beginnings and ends: odd within a call.
    turns: AtomicU64,
    abandoned: AtomicU64,
}

impl Calls {
    /// Makes a call under the watch. Calls of one thread, so never one within another.
    pub fn watched<T>(&self, call: impl FnOnce() -> T) -> T {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        let result = call();
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// A call was made on a thread of its own, hangs there, and is not waited for any more.
    pub fn abandon(&self) {
        self.0.abandoned.fetch_add(1, Ordering::Relaxed);
    }
}

/// The watch over the calls of some threads.
#[derive(Debug)]
pub struct Watch {
    threads: Vec<(Calls, u64, u32)>,
}

impl Watch {
    /// Watches these threads.
    pub fn new(threads: impl IntoIterator<Item = Calls>) -> Self {
        let threads = threads.into_iter().map(|calls| (calls, 0, 0));
        Self {
            threads: threads.collect(),
        }
    }

    /// Looks once; to be called every [`CHECK_INTERVAL`]. Whether a call has hung, or too many were given up.
    pub fn has_hung(&mut self) -> bool {
        let (mut hung, mut abandoned) = (false, 0);
        for (calls, before, looks) in &mut self.threads {
            abandoned += calls.0.abandoned.load(Ordering::Relaxed);
            let now = calls.0.turns.load(Ordering::Relaxed);
            *looks = if now % 2 == 1 && now == *before {
                *looks + 1
            } else {
                0
            };
            *before = now;
            hung |= *looks >= LOOKS;
        }
        hung || abandoned >= ABANDONED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_call_that_goes_on_and_on_has_hung() {
        let (busy, stuck) = (Calls::default(), Calls::default());
        let mut watch = Watch::new([busy.clone(), stuck.clone()]);
        for _ in 0..LOOKS * 3 {
            busy.watched(|| assert!(!watch.has_hung()));
        }
        stuck.watched(|| {
            let hung = (0..=LOOKS).filter(|_| watch.has_hung()).count();
            assert_eq!(hung, 1, "at the last look alone");
        });
        assert!(!watch.has_hung());
        for n in 1..=ABANDONED {
            busy.abandon();
            assert_eq!(watch.has_hung(), n == ABANDONED);
        }
    }
}
