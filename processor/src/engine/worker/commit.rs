//! A batch's transaction, and what its end means for the worker.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use super::state::Task;
use super::trials::{Trials, Turn};
use super::{BACKOFF, Exit, Shared, Worker};
use crate::engine::batch::{Batch, Selection};
use crate::engine::outcome::{BatchResult, TxOutcome};
use crate::engine::partitions::Failed;
use crate::engine::transaction::{Context, Note, transact, write_positions};
use crate::kafka::{Consumer, Kafka, TRANSACTION_TIMEOUT};
use crate::metrics::Replaced;
use crate::pipeline::Rules;
use crate::spans::Attempt;

/// How long the worker waits after a failure that may pass by itself, such as a rebalance.
const BACKOFF_SHORT: Duration = Duration::from_millis(50);

/// How long it waits after a failure that only an operator can repair.
const BACKOFF_LONG: Duration = Duration::from_secs(2);

/// The pause before the brokers are asked again whether all is visible.
const LOOK_DELAY: Duration = Duration::from_millis(10);

/// So many aborts without a commit count as permanent: a rebalance costs one, rarely two.
const ABORTS_IN_A_ROW: u32 = 8;

/// A fence of a transaction that is older is nobody's: the coordinator ended it for its age. Two seconds less
/// than that, which the way to the coordinator may take.
const OWN_TIMEOUT: Duration = TRANSACTION_TIMEOUT.saturating_sub(Duration::from_secs(2));

/// A transaction that was tried.
struct Attempted {
    /// What of the batch.
    selection: Selection,
    /// When it began, by the engine's clock.
    began: Instant,
}

impl<K: Kafka> Worker<'_, K> {
    /// What the next transaction is for, if there is anything.
    pub(super) fn task(&mut self, batch: &Batch) -> Option<Task> {
        let repositions = self.partitions.repositions();
        if !repositions.is_empty() {
            return Some(Task::Write(Note::Reposition, repositions.clone()));
        }
        if !batch.is_empty() && !self.room.is_lacking() {
            return self.judging(batch);
        }
        let checkpoint = self.checkpoint(false);
        (!checkpoint.is_empty()).then_some(Task::Write(Note::Checkpoint, checkpoint))
    }

    /// What to do with a batch that is not empty.
    pub(super) fn judging(&mut self, batch: &Batch) -> Option<Task> {
        let (troubled, others) = self.partitions.troubled(batch);
        if !troubled {
            self.trials = Trials::default();
            return Some(Task::Judge { alone: false });
        }
        let checkpoint = self.checkpoint(true);
        // What was seen and is not ours to prove any more, its new owner audits.
        let proved = self.unconfirmed.is_empty() && checkpoint.is_empty();
        let alone = match self.trials.turn(self.kafka.now(), proved, others) {
            Turn::Others => false,
            Turn::Alone => true,
            Turn::Proof => {
                self.unconfirmed.look_now();
                if checkpoint.is_empty() {
                    self.kafka.sleep(LOOK_DELAY);
                }
                return (!checkpoint.is_empty())
                    .then_some(Task::Write(Note::Checkpoint, checkpoint));
            }
        };
        Some(Task::Judge { alone })
    }

    /// Runs a transaction for the task. What is not committed of the batch stays in it.
    pub(super) fn commit(&mut self, batch: &mut Batch, task: &Task) -> Result<(), Exit> {
        if self.partitions.begins_elsewhere(&self.consumer, batch) {
            return Ok(());
        }
        let Some(mut producer) = self.producer.take() else {
            return Ok(());
        };
        let selection = match task {
            Task::Judge { alone } => {
                let most = self.size.records();
                self.partitions.select(batch, most, *alone)
            }
            Task::Write(..) => Selection::default(),
        };
        let began = self.kafka.now();
        self.size.begins(began);
        let started = (Instant::now(), SystemTime::now());
        let context = self.shared.spans.begin();
        let logged = context.map(|context| {
            let (trace_id, span_id) = (context.trace(), context.span());
            tracing::error_span!("batch", trace_id, span_id).entered()
        });
        let (outcome, mut result) = self.transact(&mut producer, (batch, &selection), task);
        result.observed.batch = context;
        self.attempted(selection.records(), (&outcome, &mut result), started);
        let broken = match outcome {
            TxOutcome::Broken { fenced: true, .. } => Some(Replaced::Fenced),
            TxOutcome::Broken { .. } => Some(Replaced::Broken),
            _ => None,
        };
        let concluded = self.conclude(
            batch,
            task,
            (outcome, result),
            &Attempted { selection, began },
        );
        drop(logged);
        if broken.is_none() {
            self.producer = Some(producer);
        } else {
            self.replaces = broken;
        }
        concluded
    }

    /// Metrics and the span of an attempt.
    fn attempted(
        &self,
        records: usize,
        (outcome, result): (&TxOutcome, &mut BatchResult),
        (started, start): (Instant, SystemTime),
    ) {
        let Shared { metrics, spans, .. } = self.shared;
        if records > 0 {
            metrics.batch(records);
        }
        let aborted = match outcome {
            TxOutcome::Committed => 0,
            _ => records,
        };
        let name = outcome.name();
        let context = spans.attempted(&Attempt {
            context: result.observed.batch,
            start,
            worker: self.number,
            records,
            outcome: name,
            pending: &result.observed.spans,
        });
        metrics.transaction(name, started.elapsed(), aborted, context.as_ref());
        result.observed.batch = context;
    }

    /// Runs it, under the rules as they are now.
    fn transact(
        &mut self,
        producer: &mut K::Producer,
        (batch, selection): (&Batch, &Selection),
        task: &Task,
    ) -> (TxOutcome, BatchResult) {
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
            key_partitions: self.shared.settings.topics.key_partitions.unsigned_abs(),
            spans: &self.shared.spans,
        };
        match task {
            Task::Judge { .. } => {
                let judging = self.partitions.judging();
                transact(producer, &context, (batch, &selection.taken), &judging)
            }
            Task::Write(note, positions) => {
                let tried = write_positions(producer, &context, *note, positions);
                if *note == Note::Reposition {
                    let committed = matches!(tried.0, TxOutcome::Committed);
                    self.partitions.tried_repositions(committed);
                }
                tried
            }
        }
    }

    /// What the end of the transaction means for the worker.
    fn conclude(
        &mut self,
        batch: &mut Batch,
        task: &Task,
        (outcome, mut result): (TxOutcome, BatchResult),
        attempted: &Attempted,
    ) -> Result<(), Exit> {
        let Attempted { selection, began } = attempted;
        let judges = matches!(task, Task::Judge { .. });
        if !matches!(outcome, TxOutcome::Committed) {
            self.unsettle("a transaction was aborted");
        }
        match outcome {
            TxOutcome::Committed => {
                self.unconfirmed.proved();
                self.unconfirmed.add(&mut result, self.kafka.now());
                self.aborts = 0;
                self.abort_log.over();
                self.report("transaction", None);
                if judges {
                    self.passed(batch, selection);
                    self.apply(&mut result);
                    batch.advance(result.ends());
                    batch.retain(|partition, _| !result.halted.contains_key(&partition));
                }
            }
            TxOutcome::Aborted { .. } if judges && nothing_before_halts(selection, &result) => {
                self.stop_halted(&result);
                batch.retain(|partition, _| !result.halted.contains_key(&partition));
            }
            TxOutcome::Aborted { why, permanent } => {
                let why = why.as_str();
                self.aborted(batch, selection, Failed { why, permanent });
            }
            TxOutcome::Outdated => {
                tracing::debug!("a source is not known yet: the batch waits for the settings file");
                self.back_off(BACKOFF);
            }
            TxOutcome::Lost => {
                tracing::info!("the assignment was lost before the commit");
                self.partitions.clear();
                *batch = Batch::default();
            }
            TxOutcome::Broken {
                why,
                in_doubt,
                fenced,
            } => {
                self.in_doubt = (in_doubt && judges).then_some(result);
                tracing::warn!(
                    error = why,
                    in_doubt,
                    "the transaction broke: a new producer is made"
                );
                if fenced && self.kafka.now() - *began < OWN_TIMEOUT {
                    self.fenced(&why)?;
                }
                let records = selection.records();
                if records > 0 {
                    // It may have been too much for its time.
                    self.size.aborted(records);
                }
                let (why, permanent) = (why.as_str(), false);
                self.aborted(batch, &Selection::default(), Failed { why, permanent });
            }
        }
        Ok(())
    }

    /// What was selected is committed.
    fn passed(&mut self, batch: &Batch, selection: &Selection) {
        match selection.alone {
            None => self.size.committed(batch.is_full(&self.size.bounds())),
            Some(partition) => {
                let all = batch.parts.get(&partition).map(|part| part.records.len());
                let whole = all == selection.taken.get(&partition).copied();
                self.partitions.passed_alone(partition, whole);
            }
        }
    }

    fn aborted(&mut self, batch: &mut Batch, selection: &Selection, failed: Failed<'_>) {
        self.aborts += 1;
        if let Some(partition) = selection.alone {
            let failed = (failed, self.kafka.now());
            self.partitions
                .failed_alone(&self.consumer, batch, partition, failed);
            self.back_off(BACKOFF_SHORT);
            return;
        }
        let records = selection.records();
        if records > 0 {
            self.size.aborted(records);
        }
        let why = failed.why;
        // What fails again and again does not pass by itself, whatever its code says.
        let lasts = failed.permanent || self.aborts >= ABORTS_IN_A_ROW;
        self.partitions.failed_together(&selection.taken, failed);
        if lasts && records == 0 {
            if let Some(repeated) = self.abort_log.came(Instant::now()) {
                tracing::error!(
                    error = why,
                    repeated,
                    "the transaction was aborted: operator action required"
                );
            }
            self.report("transaction", Some(why.to_owned()));
            self.back_off(BACKOFF_LONG);
        } else {
            tracing::info!(
                error = why,
                "the transaction was aborted and is tried again"
            );
            self.back_off(BACKOFF_SHORT);
        }
    }

    /// Counts a commit in doubt that the group's offsets show to have been obeyed. Those of a range that is
    /// judged again were committed before.
    pub(super) fn count_if_through(&self, result: &mut BatchResult) {
        if self.partitions.is_repairing() {
            return;
        }
        let asked: Vec<i32> = result.judged.keys().copied().collect();
        let Ok(committed) = self.consumer.committed(&asked) else {
            return;
        };
        let mut judged = result.judged.iter();
        if judged.any(|(partition, part)| committed.get(partition) == Some(&part.to)) {
            self.count(result);
        }
    }

    fn count(&self, result: &mut BatchResult) {
        let Shared { metrics, spans, .. } = self.shared;
        for (labels, &count) in &result.counts {
            metrics.count(labels, count);
        }
        for (&fate, &(records, bytes)) in &result.bytes {
            metrics.fate_bytes.wrote(fate, records, bytes);
        }
        for (source, &count) in &result.unverified {
            metrics.unverified(source, count);
        }
        metrics.observed(&result.observed);
        let pending = std::mem::take(&mut result.observed.spans);
        let limited = std::mem::take(&mut result.observed.limited);
        spans.committed(pending, limited, result.observed.batch);
    }

    /// Counts and remembers what is committed.
    fn apply(&mut self, result: &mut BatchResult) {
        self.count(result);
        for (&partition, part) in &result.judged {
            self.partitions.apply(partition, part.to, &part.entries);
        }
        self.stop_halted(result);
    }

    fn stop_halted(&mut self, result: &BatchResult) {
        for (&partition, halt) in &result.halted {
            self.partitions
                .stop(&self.consumer, partition, &halt.to_string());
        }
    }
}

/// Whether each part of what was taken begins with a record that may not be judged: then there is nothing to
/// commit, and nothing to try again.
fn nothing_before_halts(selection: &Selection, result: &BatchResult) -> bool {
    let halted = |partition| result.halted.contains_key(partition);
    result.judged.is_empty() && selection.taken.keys().all(halted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::halt::Halt;
    use crate::engine::outcome::JudgedPart;

    #[test]
    fn a_halt_speaks_for_its_own_partition_and_for_nothing_that_was_judged() {
        let mut selection = Selection::default();
        selection.taken.insert(0, 1);
        let mut result = BatchResult::default();
        assert!(!nothing_before_halts(&selection, &result));
        result.halted.insert(0, Halt::Panic { offset: 5 });
        assert!(nothing_before_halts(&selection, &result));
        // Another partition's records were taken: an abort must not drop them.
        selection.taken.insert(1, 1);
        assert!(!nothing_before_halts(&selection, &result));
        selection.taken.remove(&1);
        // Records before the halt were judged, and are not committed.
        result.judged.insert(0, JudgedPart::default());
        assert!(!nothing_before_halts(&selection, &result));
    }
}
