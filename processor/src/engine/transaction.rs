//! The transaction: what became of a batch, its dedup-log records and its offsets, or none of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sluice_schemas::dedup_log::{DedupRecord, SEEN, UNTIL};
use sluice_schemas::fate::Fate;

use crate::dedup::index::BatchOverlay;
use crate::engine::batch::{Batch, Taken};
use crate::engine::halt::judge_safely;
use crate::engine::outcome::{
    BatchResult, JudgedPart, TxOutcome, aborted, broken, failed, in_doubt,
};
use crate::engine::partitions::{JudgedTo, Judging};
use crate::kafka::{CallError, Consumer, Kafka, Message, Producer, SendError};
use crate::pipeline::Rules;
use crate::pipeline::notes::Notes;
use crate::pipeline::outgoing::{FateLabels, FateTopics, Label, Outgoing};
use crate::record::{Headers, Record, record_size};
use crate::spans::Spans;

/// How long a record may wait for room in the queue, and the last of them for its acknowledgement:
/// longer than the client tries.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(26);

/// How long a commit is asked for again.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an abort is asked for again.
const ABORT_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause before a call is made again that the client says may be.
const CALL_RETRY_DELAY: Duration = Duration::from_millis(5);

/// What a transaction needs in addition to the batch.
pub struct Context<'a, K: Kafka> {
    /// Where and when.
    pub kafka: &'a K,
    /// The consumer whose offsets are committed.
    pub consumer: &'a K::Consumer,
    /// What judging depends on.
    pub rules: &'a Rules<'a>,
    /// Whether the rules are no longer what the settings file says. Asked at a source that they do not
    /// know.
    pub is_outdated: &'a dyn Fn() -> bool,
    /// The fates' topics.
    pub topics: &'a FateTopics,
    /// The dedup-log's full name.
    pub dedup_log: &'a str,
    /// Over how many of raw's partitions keys are placed.
    pub key_partitions: u32,
    /// Where spans go.
    pub spans: &'a Spans,
}

/// Judges what is taken of a batch and writes what becomes of it, in one transaction. `judging` gives what
/// each partition in the batch is judged with.
pub fn transact<'a, K: Kafka>(
    producer: &mut K::Producer,
    context: &Context<'a, K>,
    (batch, taken): (&'a Batch, &Taken),
    judging: &BTreeMap<i32, Judging<'_>>,
) -> (TxOutcome, BatchResult) {
    in_transaction(producer, context, |producer, result| {
        write(producer, context, (batch, taken), judging, result)
    })
}

/// One transaction around what `write` produces, with the offsets of what it judged.
fn in_transaction<K: Kafka>(
    producer: &mut K::Producer,
    context: &Context<'_, K>,
    write: impl FnOnce(&mut K::Producer, &mut BatchResult) -> Result<(), TxOutcome>,
) -> (TxOutcome, BatchResult) {
    let mut result = BatchResult::default();
    let ended = producer.begin().map_err(broken).and_then(|()| {
        let written = write(producer, &mut result)
            .and_then(|()| offsets(producer, context, &result))
            .and_then(|()| await_deliveries(producer, context.kafka));
        match written {
            Ok(()) if result.judged.is_empty() => {
                abort(producer, context.kafka, aborted("nothing to commit"))
            }
            Ok(()) => commit(producer, context.kafka),
            Err(outcome) => {
                let outcome = cause(producer, outcome);
                abort(producer, context.kafka, outcome)
            }
        }
    });
    (ended.err().unwrap_or(TxOutcome::Committed), result)
}

/// Why a transaction is aborted: a record that failed for good is the cause of what calls report after it.
fn cause(producer: &impl Producer, outcome: TxOutcome) -> TxOutcome {
    let TxOutcome::Aborted {
        permanent: false, ..
    } = outcome
    else {
        return outcome;
    };
    let failure = producer.take_failure();
    failure
        .filter(|failure| failure.permanent)
        .map_or(outcome, failed)
}

/// Produces the batch's outcomes and a dedup-log record for each of its partitions.
fn write<'a, K: Kafka>(
    producer: &mut K::Producer,
    context: &Context<'a, K>,
    (batch, taken): (&'a Batch, &Taken),
    judging: &BTreeMap<i32, Judging<'_>>,
    result: &mut BatchResult,
) -> Result<(), TxOutcome> {
    for (&partition, part) in &batch.parts {
        let Some(records) = taken.get(&partition) else {
            continue;
        };
        let records = part.records.get(..*records).unwrap_or(&part.records);
        // Never judged without what came before.
        let Some(judging) = judging.get(&partition) else {
            return Err(aborted("a partition of the batch has no dedup index"));
        };
        let mut judged = JudgedPart {
            epoch: part.epoch,
            to: part.base_offset,
            ..JudgedPart::default()
        };
        judge_part(
            producer,
            context,
            (partition, records),
            judging,
            (&mut judged, result),
        )?;
        if judged.to == part.base_offset {
            continue;
        }
        let record = DedupRecord {
            from: part.base_offset,
            to: judged.to,
            partitions: context.key_partitions,
            entries: std::mem::take(&mut judged.entries),
        };
        let marks = (judging.seen, judging.until);
        log(producer, context, partition, &record, marks)?;
        judged.entries = record.entries;
        result.judged.insert(partition, judged);
    }
    Ok(())
}

/// Writes a record of the dedup-log, with what is known of the fates before it.
fn log<K: Kafka>(
    producer: &mut K::Producer,
    context: &Context<'_, K>,
    partition: i32,
    record: &DedupRecord,
    (seen, until): (i64, Option<i64>),
) -> Result<(), TxOutcome> {
    let mark = |name, offset: i64| {
        let text = offset.to_string().into_bytes();
        (name, Some(Cow::Owned(text)))
    };
    let mut headers: Headers<'_> = vec![mark(SEEN, seen)];
    headers.extend(until.map(|until| mark(UNTIL, until)));
    let value = record.encode();
    let message = Message {
        topic: context.dedup_log,
        partition: Some(partition),
        key: None,
        value: &value,
        headers: &headers,
        timestamp_ms: None,
    };
    send(producer, context.kafka, &message)
}

/// Judges one partition's records and produces their fates, but for those that exist already.
fn judge_part<'a, K: Kafka>(
    producer: &mut K::Producer,
    context: &Context<'a, K>,
    (partition, records): (i32, &'a [Record]),
    judging: &Judging<'_>,
    (judged, result): (&mut JudgedPart, &mut BatchResult),
) -> Result<(), TxOutcome> {
    let mut overlay = BatchOverlay::default();
    let mut counts: HashMap<Label<'_>, u64> = HashMap::new();
    for record in records {
        let mut notes = Notes::default();
        let by = (context.rules, context.topics);
        let judged_as = judge_safely(record, by, (judging.index, &overlay), &mut notes);
        let (mut out, is_of_unknown_source) = match judged_as {
            Ok(judged) => judged,
            Err(halt) => {
                result.halted.insert(partition, halt);
                break;
            }
        };
        if is_of_unknown_source && (context.is_outdated)() {
            return Err(TxOutcome::Outdated);
        }
        if let Some(&is_event) = judging.existing.get(&record.offset) {
            if is_event != out.entry.is_some() {
                // The settings, a secret or the release has changed since: the visible fate stays.
                tracing::error!(
                    partition,
                    offset = record.offset,
                    is_event,
                    judged = out.label.fate.name(),
                    "a visible fate differs from the one judged now: repetitions of this record may become events"
                );
                out.entry = None;
            }
        } else {
            send(producer, context.kafka, &message(&out))?;
            *counts.entry(out.label).or_default() += 1;
            result
                .observed
                .record(record, out.label, notes, context.spans);
            if out.label.fate != Fate::Event {
                let (records, bytes) = result.bytes.entry(out.label.fate).or_default();
                *records += 1;
                *bytes += record_size(out.key, &out.value, &out.headers) as u64;
            }
            if out.unverified_signature {
                let source = out.label.source.to_owned();
                *result.unverified.entry(source).or_default() += 1;
            }
        }
        result.wrote(out.topic, out.timestamp_ms);
        if let Some(entry) = out.entry {
            overlay.insert(entry);
        }
        judged.offsets.push(record.offset);
        judged.to = record.offset + 1;
    }
    for (label, count) in counts {
        *result.counts.entry(FateLabels::from(label)).or_default() += count;
    }
    judged.entries = overlay.into_entries();
    Ok(())
}

/// What a record of the dedup-log says that judges nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Judging begins here, whatever was before: it vouches for no offset, its own included.
    Reposition,
    /// All before was judged, and seen to be visible.
    Checkpoint,
}

/// Writes positions down: the offsets, and in each one's log a record that says so and judges nothing.
pub fn write_positions<K: Kafka>(
    producer: &mut K::Producer,
    context: &Context<'_, K>,
    note: Note,
    positions: &BTreeMap<i32, JudgedTo>,
) -> (TxOutcome, BatchResult) {
    in_transaction(producer, context, |producer, result| {
        for (&partition, &JudgedTo { at, key_partitions }) in positions {
            let record = DedupRecord {
                from: at,
                to: at,
                partitions: key_partitions,
                entries: Vec::new(),
            };
            let judged = JudgedPart {
                to: at,
                ..JudgedPart::default()
            };
            result.judged.insert(partition, judged);
            let until = (note == Note::Reposition).then_some(at);
            log(producer, context, partition, &record, (at, until))?;
        }
        Ok(())
    })
}

fn message<'o>(out: &'o Outgoing<'_>) -> Message<'o> {
    Message {
        topic: out.topic,
        partition: None,
        key: out.key,
        value: out.value.as_ref(),
        headers: &out.headers,
        timestamp_ms: Some(out.timestamp_ms),
    }
}

/// Hands one record to the client. A full queue is waited for; any other error ends the attempt.
fn send<K: Kafka>(
    producer: &mut K::Producer,
    kafka: &K,
    message: &Message<'_>,
) -> Result<(), TxOutcome> {
    let deadline = kafka.now() + DELIVERY_TIMEOUT;
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err(SendError::Full) if kafka.now() < deadline => {
                producer.serve(Duration::from_millis(5));
            }
            Err(SendError::Full) => return Err(aborted("the client's queue stays full")),
            Err(SendError::Failed(failure)) => return Err(failed(failure)),
        }
    }
}

/// Adds the offsets. The group's metadata is taken before the assignment is looked at: a loss in
/// between is then seen either here or by the broker.
fn offsets<K: Kafka>(
    producer: &mut K::Producer,
    context: &Context<'_, K>,
    result: &BatchResult,
) -> Result<(), TxOutcome> {
    if result.judged.is_empty() {
        return Ok(());
    }
    let member = context.consumer.member();
    if context.consumer.assignment_lost() {
        return Err(TxOutcome::Lost);
    }
    let Some(member) = member else {
        return Err(aborted("the consumer is not in its group"));
    };
    let ends = result.ends();
    producer.send_offsets(&ends, member).map_err(broken)
}

/// Waits until nothing is in flight, then looks at what failed.
fn await_deliveries<K: Kafka>(producer: &mut K::Producer, kafka: &K) -> Result<(), TxOutcome> {
    let deadline = kafka.now() + DELIVERY_TIMEOUT;
    let mut pause = Duration::from_micros(100);
    loop {
        producer.serve(Duration::ZERO);
        let in_flight = producer.in_flight();
        if let Some(failure) = producer.take_failure() {
            return Err(failed(failure));
        }
        if in_flight == 0 {
            return Ok(());
        }
        if kafka.now() > deadline {
            return Err(aborted("records are still in flight after their time"));
        }
        kafka.sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}

fn commit<K: Kafka>(producer: &mut K::Producer, kafka: &K) -> Result<(), TxOutcome> {
    let deadline = kafka.now() + COMMIT_TIMEOUT;
    loop {
        match producer.commit() {
            Ok(()) => return Ok(()),
            Err(CallError::Again(_)) if kafka.now() < deadline => kafka.sleep(CALL_RETRY_DELAY),
            Err(CallError::Abort(failure)) => {
                let outcome = abort(producer, kafka, failed(failure));
                // The request to commit may have been obeyed: an abort that then fails proves nothing.
                return outcome.map_err(|outcome| match outcome {
                    TxOutcome::Broken { why, fenced, .. } => in_doubt(why, fenced),
                    other => other,
                });
            }
            Err(CallError::Again(why)) => return Err(in_doubt(why, false)),
            Err(CallError::Broken { why, fenced }) => return Err(in_doubt(why, fenced)),
        }
    }
}

/// Aborts and passes on why; an abort that fails needs a new producer, which aborts by taking over.
pub fn abort<K: Kafka>(
    producer: &mut K::Producer,
    kafka: &K,
    outcome: TxOutcome,
) -> Result<(), TxOutcome> {
    if let TxOutcome::Broken { .. } = outcome {
        return Err(outcome);
    }
    let deadline = kafka.now() + ABORT_TIMEOUT;
    loop {
        match producer.abort() {
            Ok(()) => return Err(outcome),
            Err(CallError::Again(_)) if kafka.now() < deadline => kafka.sleep(CALL_RETRY_DELAY),
            Err(CallError::Again(why)) => {
                return Err(TxOutcome::Broken {
                    why,
                    in_doubt: false,
                    fenced: false,
                });
            }
            Err(error) => return Err(broken(error)),
        }
    }
}
