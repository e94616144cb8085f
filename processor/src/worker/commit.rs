//! A batch's transaction, and what its end means for the worker.

use std::cell::Cell;
use std::time::Duration;

use super::{BACKOFF, Exit, Worker};
use crate::consume::Batch;
use crate::kafka::{Consumer, Kafka};
use crate::pipeline::Rules;
use crate::transact::{Context, Done, Ended, reposition, transact};

/// How long the worker waits after a failure that may pass by itself, such as a rebalance.
const BACKOFF_SHORT: Duration = Duration::from_millis(50);

/// How long it waits after a failure that only a person can mend.
const BACKOFF_LONG: Duration = Duration::from_secs(2);

/// So many aborts without a commit are trouble: a rebalance costs one, rarely two.
const ABORTS_IN_A_ROW: u32 = 8;

impl<K: Kafka> Worker<'_, K> {
    /// Judges and commits the batch; what is not committed stays in it.
    pub(super) fn commit(&mut self, batch: &mut Batch) -> Result<(), Exit> {
        if self.partitions.begins_elsewhere(&self.consumer, batch) {
            return Ok(());
        }
        let Some(mut producer) = self.producer.take() else {
            return Ok(());
        };
        let in_force = self.shared.current.get();
        let rules = Rules {
            settings: &in_force.settings,
            credentials: in_force.credentials.snapshot(),
            router: &in_force.router,
        };
        // Once a batch: what was collected before the question is answered by it.
        let asked = Cell::new(false);
        let is_outdated = || !asked.replace(true) && self.shared.current.is_newer_than(&in_force);
        let context = Context {
            kafka: self.kafka,
            consumer: &self.consumer,
            rules: &rules,
            is_outdated: &is_outdated,
            topics: &self.topics,
            dedup_log: &self.dedup_log,
            partitions: self.shared.settings.topics.partitions.unsigned_abs(),
        };
        let repositions = self.partitions.repositions();
        let repositions_only = !repositions.is_empty();
        let (ended, mut done) = if repositions_only {
            let tried = reposition(&mut producer, &context, repositions);
            self.partitions.tried_repositions();
            tried
        } else {
            let judging = self.partitions.judging();
            transact(&mut producer, &context, batch, &judging)
        };
        let mut keep = true;
        if !matches!(ended, Ended::Committed) {
            self.unsettle("a transaction was aborted");
        }
        if matches!(ended, Ended::Committed) {
            self.unconfirmed.proved();
        }
        match ended {
            // The batch is as it was.
            Ended::Committed if repositions_only => {
                self.unconfirmed.add(&mut done, self.kafka.now());
            }
            Ended::Committed => {
                self.unconfirmed.add(&mut done, self.kafka.now());
                self.learn(&done);
                *batch = Batch::default();
                self.aborts = 0;
                self.trouble("transaction", None);
            }
            Ended::Aborted { .. } if nothing_before_halts(batch, &done) => {
                self.stop_halted(&done);
                *batch = Batch::default();
            }
            Ended::Aborted { why, trouble } => self.aborted(&why, trouble),
            Ended::Outdated => {
                tracing::debug!("a source is not known yet: the batch waits for the settings file");
                self.back_off(BACKOFF);
            }
            Ended::Lost => {
                tracing::info!("the assignment was lost before the commit");
                self.partitions.forget();
                *batch = Batch::default();
            }
            Ended::Broken {
                why,
                in_doubt,
                fenced,
            } => {
                keep = false;
                self.in_doubt = (in_doubt && !repositions_only).then_some(done);
                if self.in_doubt.is_some() && self.partitions.is_repairing() {
                    // The offset of a range that is judged again was committed before: it proves nothing.
                    self.in_doubt = None;
                    tracing::info!("the commit in doubt is left to the audit");
                    self.partitions.restore_all(&self.consumer, batch);
                }
                tracing::warn!(
                    why,
                    in_doubt,
                    "the transaction broke: a new producer is made"
                );
                if fenced {
                    self.fenced(&why)?;
                }
                self.aborted(&why, false);
            }
        }
        if keep {
            self.producer = Some(producer);
        }
        Ok(())
    }

    fn aborted(&mut self, why: &str, trouble: bool) {
        self.aborts += 1;
        // What fails again and again does not pass by itself, whatever its code says.
        if trouble || self.aborts >= ABORTS_IN_A_ROW {
            tracing::error!(
                why,
                "the transaction was aborted, and will be until this is mended"
            );
            self.trouble("transaction", Some(why.to_owned()));
            self.back_off(BACKOFF_LONG);
        } else {
            tracing::info!(why, "the transaction was aborted and is tried again");
            self.back_off(BACKOFF_SHORT);
        }
    }

    /// Counts a commit in doubt that the group's offsets show to have been obeyed.
    pub(super) fn count_if_through(&self, done: &Done) {
        let asked: Vec<i32> = done.learned.keys().copied().collect();
        let Ok(committed) = self.consumer.committed(&asked) else {
            return;
        };
        let mut judged = done.learned.iter();
        if judged.any(|(partition, learned)| committed.get(partition) == Some(&learned.to)) {
            self.count(done);
        }
    }

    fn count(&self, done: &Done) {
        for (labels, &count) in &done.counts {
            self.shared.metrics.count(labels, count);
        }
        for (source, &count) in &done.unverified {
            self.shared.metrics.unverified(source, count);
        }
    }

    /// Counts and remembers what is committed.
    fn learn(&mut self, done: &Done) {
        self.count(done);
        for (&partition, learned) in &done.learned {
            self.partitions
                .learn(partition, learned.to, &learned.entries);
        }
        self.stop_halted(done);
    }

    fn stop_halted(&mut self, done: &Done) {
        for (&partition, halt) in &done.halted {
            self.partitions
                .stop(&self.consumer, partition, &halt.to_string());
        }
    }

    /// After a commit in doubt: the committed offsets say whether the batch went through. All of it
    /// did or nothing, so a partition that is still owned speaks for all.
    pub(super) fn resolve(&mut self, batch: &mut Batch, mut done: Done) {
        let asked: Vec<i32> = done.learned.keys().copied().collect();
        let committed = match self.consumer.committed(&asked) {
            Ok(committed) => committed,
            Err(error) => {
                tracing::info!(%error, "asking for the committed offsets again");
                self.in_doubt = Some(done);
                self.back_off(BACKOFF);
                return;
            }
        };
        // A partition that came back in another epoch was restored, speaks for itself, and says
        // nothing of this batch.
        let parts = &batch.parts;
        done.learned.retain(|partition, learned| {
            let part = parts.get(partition);
            part.is_some_and(|part| part.epoch == learned.epoch)
        });
        let through = done
            .learned
            .iter()
            .any(|(partition, learned)| committed.get(partition) == Some(&learned.to));
        if through {
            tracing::info!("the commit in doubt went through");
            // Records that were polled since are read again: the batch and the memory must meet.
            let ends = done.ends();
            self.unconfirmed.add(&mut done, self.kafka.now());
            self.learn(&done);
            batch.advance(&ends);
        } else {
            tracing::info!("the commit in doubt did not go through: the batch is tried again");
        }
    }
}

/// Whether each part of a batch begins with a record that may not be judged: then there is nothing to
/// commit, and nothing to try again.
fn nothing_before_halts(batch: &Batch, done: &Done) -> bool {
    let halted = |partition| done.halted.contains_key(partition);
    done.learned.is_empty() && batch.parts.keys().all(halted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::Part;
    use crate::pipeline::Halt;
    use crate::transact::Learned;

    #[test]
    fn a_halt_speaks_for_its_own_partition_and_for_nothing_that_was_judged() {
        let part = || Part {
            epoch: 1,
            from: 5,
            follows: 5,
            records: Vec::new(),
        };
        let mut batch = Batch::default();
        batch.parts.insert(0, part());
        let mut done = Done::default();
        assert!(!nothing_before_halts(&batch, &done));
        done.halted.insert(0, Halt { version: 2 });
        assert!(nothing_before_halts(&batch, &done));
        // Another partition's records are in the batch: an abort must not drop them.
        batch.parts.insert(1, part());
        assert!(!nothing_before_halts(&batch, &done));
        batch.parts.remove(&1);
        // Records before the halt were judged, and are not committed.
        done.learned.insert(0, Learned::default());
        assert!(!nothing_before_halts(&batch, &done));
    }
}
