//! The end of a run: faults heal, and all of raw must be judged and stay right.

use super::super::brokers::Odds;
use super::super::check::{Sums, check};
use super::super::history::note;
use super::super::state::SECOND;
use super::{NAMES, Run};
use crate::simulation::process::Process;

/// All must be quiet so long after the last fault: a session, a restart and late markers, but less than
/// a transaction's time-out. The next process under a name ends what was left open under it.
const SETTLE: u64 = 25 * SECOND;

/// The same where two processes had one name: one may idle while the other's transaction is open.
const SETTLE_DOUBLED: u64 = 60 * SECOND;

/// The same where topics were forbidden: a suspended partition is tried again after a minute at the most.
const SETTLE_SUSPENDED: u64 = 90 * SECOND;

/// The same where markers were dropped: a commit counts as torn after 20 s.
const SETTLE_TORN: u64 = 90 * SECOND;

/// How long all must stay right then: longer than a commit may be invisible.
const STAYS: u64 = 25 * SECOND;

impl Run {
    /// All that was broken heals.
    pub(super) fn heal(&mut self) {
        self.world.borrow_mut().odds = Odds::default();
        self.world.borrow_mut().forbidden.clear();
        note(|| "the faults end".to_owned());
        for at in 0..self.processes.len() {
            if self.processes[at].frozen {
                self.freeze(at, false);
            }
        }
        for name in 0..NAMES {
            let its = |process: &Process| process.name == name;
            // Two under one name: a process must follow the one that has an open transaction.
            if self.processes.iter().filter(|process| its(process)).count() > 1 {
                while let Some(at) = self.processes.iter().position(its) {
                    self.end(at, "one too many");
                }
            }
        }
    }

    /// Waits until all of raw is judged and nothing is open.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let healed = self.world.borrow().now;
        let patience = match (self.torn > 0, self.doubled) {
            (true, _) => SETTLE_TORN,
            _ if self.forbids => SETTLE_SUSPENDED,
            (false, true) => SETTLE_DOUBLED,
            (false, false) => SETTLE,
        };
        // Where markers were dropped, what was lost with them is made again in its own time, and what stands
        // there must stay right.
        let torn = self.torn > 0;
        let mut right_since = None;
        let (mut checked, mut was_right) = (0, false);
        loop {
            let now = self.world.borrow().now;
            let quiet = self.is_quiet();
            if quiet && torn && now >= checked + SECOND {
                (checked, was_right) = (now, self.check().is_ok());
            }
            let right = quiet && (!torn || was_right);
            if right && now >= *right_since.get_or_insert(now) + if torn { STAYS } else { 0 } {
                return Ok(());
            }
            if !right {
                right_since = None;
            }
            if now > healed + patience {
                if self.is_quiet() {
                    self.check()?;
                }
                let standing = self.world.borrow().standing();
                let seconds = patience / SECOND;
                return Err(format!("not settled after {seconds} s\n{standing}"));
            }
            self.step(now + SECOND)?;
        }
    }

    fn check(&self) -> Result<Sums, String> {
        check(&self.world.borrow(), &self.site.shared.settings)
    }
}
