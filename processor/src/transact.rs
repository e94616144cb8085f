//! The transaction: what became of a batch, its dedup-log records and its offsets, or none of it.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaError};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use sluice_schemas::dedup_log::{DedupRecord, Entry};

use crate::consume::{Batch, Part, RawContext};
use crate::fate::{FateTopics, Label, Outgoing, outgoing};
use crate::memory::{Memory, Pending};
use crate::metrics::FateLabels;
use crate::pipeline::{Halt, Rules, judge};
use crate::producer::{MESSAGE_TIMEOUT, SLOW_CALL, Transactor, is_fenced};

/// How long one call of the transaction's protocol may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause before a call is made again that the client says may be.
const CALL_AGAIN: Duration = Duration::from_millis(5);

/// How long one piece of an abort may take.
const ABORT_PIECE: Duration = Duration::from_millis(100);

/// What a committed batch leaves to the worker.
#[derive(Debug, Default)]
pub struct Done {
    /// By partition: the offset after the last judged record, and the events to learn.
    pub learned: BTreeMap<i32, (i64, Vec<Entry>)>,
    /// By partition: the epoch in which its records were read.
    pub epochs: BTreeMap<i32, u64>,
    /// What to count.
    pub counts: HashMap<FateLabels, u64>,
    /// By source: events that carry a signature which no secret is configured for.
    pub unverified: BTreeMap<String, u64>,
    /// Partitions that stop before a record of a newer version.
    pub halted: BTreeMap<i32, Halt>,
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Ended {
    /// All of it is there.
    Committed,
    /// None of it is there, and the producer goes on. `trouble`: a person must look at the broker.
    Aborted {
        /// What failed.
        why: String,
        /// It will fail again until somebody mends it.
        trouble: bool,
    },
    /// The assignment is lost: none of it is there, and none of it is ours any more.
    Lost,
    /// A new producer is needed. `in_doubt`: the commit may have gone through.
    Broken {
        /// What failed.
        why: String,
        /// Only the committed offsets tell whether the batch went through.
        in_doubt: bool,
        /// Another producer took the name.
        fenced: bool,
    },
}

/// What a transaction needs besides the batch.
pub struct Context<'a> {
    /// The consumer whose offsets are committed.
    pub consumer: &'a BaseConsumer<RawContext>,
    /// What judging depends on.
    pub rules: &'a Rules<'a>,
    /// The fates' topics.
    pub topics: &'a FateTopics,
    /// Raw's full name.
    pub raw: &'a str,
    /// The dedup-log's full name.
    pub dedup_log: &'a str,
    /// Raw's partitions.
    pub partitions: u32,
}

/// Judges a batch and writes what becomes of it, in one transaction. `memory` gives the memory of
/// each partition in the batch.
pub fn transact<'a>(
    transactor: &mut Transactor,
    context: &Context<'a>,
    batch: &'a Batch,
    memory: &BTreeMap<i32, &Memory>,
) -> (Ended, Done) {
    let mut done = Done::default();
    let ended = attempt(transactor, context, batch, memory, &mut done)
        .err()
        .unwrap_or(Ended::Committed);
    (ended, done)
}

fn attempt<'a>(
    transactor: &mut Transactor,
    context: &Context<'a>,
    batch: &'a Batch,
    memory: &BTreeMap<i32, &Memory>,
    done: &mut Done,
) -> Result<(), Ended> {
    transactor.forget_failure();
    transactor
        .timed(Producer::begin_transaction)
        .map_err(|error| broken(&error, false))?;
    let written = write(transactor, context, batch, memory, done)
        .and_then(|()| offsets(transactor, context, done))
        .and_then(|()| settle(transactor));
    match written {
        Ok(()) if done.learned.is_empty() => abort(transactor, aborted("nothing to commit")),
        Ok(()) => commit(transactor),
        Err(ended) => abort(transactor, ended),
    }
}

/// Produces the batch's outcomes and a dedup-log record for each of its partitions.
fn write<'a>(
    transactor: &Transactor,
    context: &Context<'a>,
    batch: &'a Batch,
    memory: &BTreeMap<i32, &Memory>,
    done: &mut Done,
) -> Result<(), Ended> {
    for (&partition, part) in &batch.parts {
        // Never judged without what came before.
        let Some(memory) = memory.get(&partition) else {
            return Err(aborted("a partition of the batch has no memory"));
        };
        let mut pending = Pending::default();
        let to = judge_part(
            transactor,
            context,
            part,
            memory,
            &mut pending,
            done,
            partition,
        )?;
        if to == part.from {
            continue;
        }
        let entries = pending.into_entries();
        let record = DedupRecord {
            from: part.from,
            to,
            partitions: context.partitions,
            entries,
        };
        let value = record.encode();
        send(transactor, || {
            BaseRecord::<[u8], [u8]>::to(context.dedup_log)
                .partition(partition)
                .payload(&value)
        })?;
        done.learned.insert(partition, (to, record.entries));
        done.epochs.insert(partition, part.epoch);
    }
    Ok(())
}

/// Judges and produces one partition's records; returns the offset after the last one.
fn judge_part<'a>(
    transactor: &Transactor,
    context: &Context<'a>,
    part: &'a Part,
    memory: &Memory,
    pending: &mut Pending,
    done: &mut Done,
    partition: i32,
) -> Result<i64, Ended> {
    let mut to = part.from;
    let mut counts: HashMap<Label<'_>, u64> = HashMap::new();
    for record in &part.records {
        let disposition = match judge(record, context.rules, memory, pending) {
            Ok(disposition) => disposition,
            Err(halt) => {
                done.halted.insert(partition, halt);
                break;
            }
        };
        let out = outgoing(disposition, record, context.topics);
        send(transactor, || laid_out(&out))?;
        *counts.entry(out.label).or_default() += 1;
        if out.unverified_signature {
            let source = out.label.source.to_owned();
            *done.unverified.entry(source).or_default() += 1;
        }
        if let Some(entry) = out.entry {
            pending.insert(entry);
        }
        to = record.offset + 1;
    }
    for (label, count) in counts {
        *done.counts.entry(FateLabels::from(label)).or_default() += count;
    }
    Ok(to)
}

fn laid_out<'o>(out: &'o Outgoing<'_>) -> BaseRecord<'o, [u8], [u8]> {
    let mut headers = OwnedHeaders::new_with_capacity(out.headers.len());
    for (name, value) in &out.headers {
        headers = headers.insert(Header {
            key: name,
            value: value.as_deref(),
        });
    }
    let record = BaseRecord::to(out.topic)
        .payload(out.value.as_ref())
        .timestamp(out.timestamp_ms)
        .headers(headers);
    match out.key {
        Some(key) => record.key(key),
        None => record,
    }
}

/// Hands one record to the client. A full queue is waited for; any other error ends the attempt.
fn send<'r>(
    transactor: &Transactor,
    record: impl FnOnce() -> BaseRecord<'r, [u8], [u8]>,
) -> Result<(), Ended> {
    let deadline = Instant::now() + MESSAGE_TIMEOUT;
    let mut record = record();
    loop {
        match transactor.producer().send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                if Instant::now() < deadline =>
            {
                record = back;
                transactor.producer().poll(Duration::from_millis(5));
            }
            Err((error, back)) => return Err(failed(&error, back.topic)),
        }
    }
}

/// Adds the offsets. The group's metadata is taken before the assignment is looked at: a loss in
/// between is then seen either here or by the broker.
fn offsets(transactor: &mut Transactor, context: &Context<'_>, done: &Done) -> Result<(), Ended> {
    if done.learned.is_empty() {
        return Ok(());
    }
    let metadata = context.consumer.group_metadata();
    if context.consumer.assignment_lost() {
        return Err(Ended::Lost);
    }
    let Some(metadata) = metadata else {
        return Err(aborted("the consumer is not in its group"));
    };
    let mut list = TopicPartitionList::with_capacity(done.learned.len());
    for (&partition, (to, _)) in &done.learned {
        list.add_partition_offset(context.raw, partition, Offset::Offset(*to))
            .map_err(|error| aborted(&error.to_string()))?;
    }
    transactor
        .timed(|producer| producer.send_offsets_to_transaction(&list, &metadata, CALL_TIMEOUT))
        .map_err(|error| broken(&error, false))
}

/// Waits until nothing is in flight, then looks at what failed.
fn settle(transactor: &Transactor) -> Result<(), Ended> {
    let deadline = Instant::now() + MESSAGE_TIMEOUT + SLOW_CALL;
    let mut pause = Duration::from_micros(100);
    loop {
        transactor.producer().poll(Duration::ZERO);
        let failure = transactor.take_failure();
        if let Some((error, topic)) = failure {
            return Err(failed(&error, &topic));
        }
        if transactor.producer().in_flight_count() == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(aborted("records are still in flight after their time"));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}

fn commit(transactor: &mut Transactor) -> Result<(), Ended> {
    let deadline = Instant::now() + CALL_TIMEOUT * 2;
    loop {
        let result = transactor.timed(|producer| producer.commit_transaction(CALL_TIMEOUT));
        match result {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline =>
            {
                thread::sleep(CALL_AGAIN);
            }
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                let ended = abort(transactor, called(&error));
                // The request to commit may have been obeyed: an abort that then fails tells nothing.
                return ended.map_err(|ended| match ended {
                    Ended::Broken { why, fenced, .. } => Ended::Broken {
                        why,
                        in_doubt: true,
                        fenced,
                    },
                    other => other,
                });
            }
            Err(error) => return Err(broken(&error, true)),
        }
    }
}

/// Aborts and passes on why; an abort that fails needs a new producer, which aborts by taking over.
fn abort(transactor: &mut Transactor, ended: Ended) -> Result<(), Ended> {
    if let Ended::Broken { .. } = ended {
        return Err(ended);
    }
    let started = Instant::now();
    let deadline = started + CALL_TIMEOUT;
    loop {
        // The call waits for the reports of what it purged, and those come by polling alone: so it
        // is made in short pieces, which it is able to take up again.
        let result = transactor.timed(|producer| producer.abort_transaction(ABORT_PIECE));
        while transactor.producer().in_flight_count() > 0 && Instant::now() < deadline {
            transactor.producer().poll(Duration::from_millis(1));
        }
        match result {
            Ok(()) => {
                transactor.took(started.elapsed());
                return Err(ended);
            }
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline =>
            {
                thread::sleep(CALL_AGAIN);
            }
            Err(error) => return Err(broken(&error, false)),
        }
    }
}

fn aborted(why: &str) -> Ended {
    Ended::Aborted {
        why: why.to_owned(),
        trouble: false,
    }
}

/// A record that could not be written.
fn failed(error: &KafkaError, topic: &str) -> Ended {
    Ended::Aborted {
        why: format!("{topic}: {error}"),
        trouble: error.rdkafka_error_code().is_some_and(is_trouble),
    }
}

/// Whether a code stays until a person mends the broker.
fn is_trouble(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::PolicyViolation
    )
}

/// A call that failed abortably.
fn called(error: &RDKafkaError) -> Ended {
    Ended::Aborted {
        why: error.to_string(),
        trouble: is_trouble(error.code()),
    }
}

/// A failed call: abortable where the client says so, else only a new producer helps.
fn broken(error: &KafkaError, in_doubt: bool) -> Ended {
    if let KafkaError::Transaction(error) = error {
        if error.txn_requires_abort() {
            return called(error);
        }
        return Ended::Broken {
            why: error.to_string(),
            in_doubt,
            fenced: is_fenced(error),
        };
    }
    Ended::Broken {
        why: error.to_string(),
        in_doubt,
        fenced: false,
    }
}
