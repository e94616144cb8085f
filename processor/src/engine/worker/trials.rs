//! When a partition in trouble is tried alone. That transaction is likely to be aborted, and after an abort
//! the fates of all commits that are not proved are looked for: those of old receipts by restoring all
//! partitions of the worker. So all is proved first. For that the other partitions wait a little, and have
//! several times as long for themselves in between.

use std::time::{Duration, Instant};

/// For how long the others wait at first until all is proved. Each time in vain it is twice as long: a commit
/// that is not visible counts as torn after 20 s, and then nothing is left to prove.
const PROVED_WITHIN: Duration = Duration::from_secs(2);

/// How many times as long as they waited the others have for themselves then.
const OTHERS_SHARE: u32 = 4;

/// What comes next, of a batch with a partition in trouble.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Others,
    Alone,
    /// Nothing, until all that was committed is proved.
    Proof,
}

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Trials {
    /// The others wait since then.
    waited_since: Option<Instant>,
    /// Their turn, until then and one transaction at least.
    others_until: Option<Instant>,
    owes_others: bool,
    within: Duration,
}

impl Default for Trials {
    fn default() -> Self {
        Self {
            waited_since: None,
            others_until: None,
            owes_others: false,
            within: PROVED_WITHIN,
        }
    }
}

impl Trials {
    /// `proved`: all that was committed. `others`: there are records of partitions without trouble.
    pub(super) fn turn(&mut self, now: Instant, proved: bool, others: bool) -> Turn {
        if !others {
            return if proved { Turn::Alone } else { Turn::Proof };
        }
        if std::mem::take(&mut self.owes_others)
            || self.others_until.is_some_and(|until| now < until)
        {
            return Turn::Others;
        }
        let waited = now - *self.waited_since.get_or_insert(now);
        if !proved && waited < self.within {
            return Turn::Proof;
        }
        self.waited_since = None;
        self.others_until = Some(now + waited * OTHERS_SHARE);
        self.within = if proved {
            PROVED_WITHIN
        } else {
            self.within * 2
        };
        self.owes_others = proved;
        if proved { Turn::Alone } else { Turn::Others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_wait_for_a_proof_and_have_four_times_as_long_then() {
        let mut trials = Trials::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(trials.turn(at(0), false, true), Turn::Proof);
        assert_eq!(trials.turn(at(50), false, true), Turn::Proof);
        assert_eq!(trials.turn(at(100), true, true), Turn::Alone);
        for ms in [110, 300, 499] {
            assert_eq!(trials.turn(at(ms), true, true), Turn::Others, "{ms}");
        }
        assert_eq!(trials.turn(at(500), true, true), Turn::Alone);
        // All is proved at once: one transaction of the others all the same.
        assert_eq!(trials.turn(at(501), true, true), Turn::Others);
        assert_eq!(trials.turn(at(502), true, true), Turn::Alone);
    }

    #[test]
    fn a_proof_that_does_not_come_does_not_keep_the_others() {
        let mut trials = Trials::default();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(trials.turn(at(0), false, true), Turn::Proof);
        assert_eq!(trials.turn(at(2), false, true), Turn::Others);
        assert_eq!(trials.turn(at(9), false, true), Turn::Others);
        assert_eq!(trials.turn(at(10), false, true), Turn::Proof);
        assert_eq!(trials.turn(at(13), false, true), Turn::Proof);
        assert_eq!(trials.turn(at(14), false, true), Turn::Others);
        assert_eq!(trials.turn(at(29), false, true), Turn::Others);
        // Without others there is nothing to lose.
        assert_eq!(trials.turn(at(29), false, false), Turn::Proof);
        assert_eq!(trials.turn(at(29), true, false), Turn::Alone);
    }
}
