//! What the engine asks of Kafka, and no more than that.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::assignment::Assignments;
use crate::record::{Headers, Record};

/// How long the broker keeps a transaction open for a process that is gone. While it does, readers
/// wait; a restart under the same name ends it at once.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster, as one worker sees it, and the time.
pub trait Kafka {
    /// The worker's consumer of raw.
    type Consumer: Consumer;
    /// The worker's transactional producer.
    type Producer: Producer<Member = <Self::Consumer as Consumer>::Member>;
    /// What a restore asks with.
    type Reader: Reader<Member = <Self::Consumer as Consumer>::Member>;

    /// Joins the group. Partitions come and go in `assignments` while the consumer is polled.
    fn consumer(&self, assignments: Arc<Assignments>) -> Result<Self::Consumer, String>;

    /// Makes the producer and takes over its name: an open transaction of a predecessor is ended.
    fn producer(&self) -> Result<Self::Producer, InitError>;

    /// Makes the clients of a restore.
    fn reader(&self) -> Result<Self::Reader, BrokerUnavailable>;

    /// A clock that never goes back.
    fn now(&self) -> Instant;

    /// The wall clock, milliseconds since 1970: what retention has taken is judged by it, and nothing else.
    fn wall_ms(&self) -> i64;

    /// Lets time pass.
    fn sleep(&self, time: Duration);
}

/// What a poll brought.
#[derive(Debug)]
pub enum Polled {
    /// Nothing within the time.
    Nothing,
    /// A record of raw.
    Record(Record),
    /// The client has read this partition to its end.
    End(i32),
    /// An event that the client handles by itself.
    Transient,
    /// The consumer is of no more use; the sentence says why.
    Fatal(String),
}

/// The consumer of raw, a member of the group. Its partitions are raw's.
pub trait Consumer {
    /// The group membership under which offsets are committed.
    type Member;

    /// Waits for one thing. Rebalances happen in here and nowhere else.
    fn poll(&self, wait: Duration) -> Polled;

    /// Goes to an offset of a partition.
    fn seek(&self, partition: i32, offset: i64) -> Result<(), BrokerUnavailable>;

    /// Brings no more of these partitions; they stay assigned.
    fn pause(&self, partitions: &[i32]) -> Result<(), BrokerUnavailable>;

    /// Brings them again.
    fn resume(&self, partitions: &[i32]) -> Result<(), BrokerUnavailable>;

    /// The group's committed offsets; those that a transaction is about to change are waited for.
    fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, BrokerUnavailable>;

    /// The first offset of a partition that is not stable yet.
    fn last_stable_offset(&self, partition: i32) -> Result<i64, BrokerUnavailable>;

    /// The membership as it is now; `None` outside of the group.
    fn member(&self) -> Option<Self::Member>;

    /// Whether the group has given the partitions away, be it that the next poll has yet to say so.
    fn assignment_lost(&self) -> bool;

    /// Leaves the group, within a bound.
    fn close(self);
}

/// A record on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The topic's full name.
    pub topic: &'a str,
    /// The partition; `None` chooses by the key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: &'a [u8],
    /// The headers.
    pub headers: &'a Headers<'a>,
    /// Milliseconds since 1970; `None` leaves it to the broker.
    pub timestamp_ms: Option<i64>,
}

/// A transactional producer. Its name fences the producer that had it before.
pub trait Producer {
    /// The group membership under which offsets are committed.
    type Member;

    /// Begins a transaction; failures of the one before are forgotten.
    fn begin(&mut self) -> Result<(), CallError>;

    /// Queues a record. That it arrived is known once nothing is in flight and nothing failed.
    fn send(&mut self, message: &Message<'_>) -> Result<(), SendError>;

    /// Lets reports of failed records come in, for this long at most.
    fn serve(&self, wait: Duration);

    /// How many records are queued or on their way.
    fn in_flight(&self) -> usize;

    /// The first record of the transaction that could not be delivered, returned once.
    fn take_failure(&self) -> Option<Failure>;

    /// Adds raw's offsets, by partition the one after the last judged record.
    fn send_offsets(
        &mut self,
        offsets: &BTreeMap<i32, i64>,
        member: Self::Member,
    ) -> Result<(), CallError>;

    /// Commits. Nothing may be in flight.
    fn commit(&mut self) -> Result<(), CallError>;

    /// Aborts, or a part of it: to be called again while it says so.
    fn abort(&mut self) -> Result<(), CallError>;

    /// Whether something happened after which a new producer is the safer one.
    fn is_suspect(&self) -> bool;
}

/// What a read of raw or of the dedup-log brought.
#[derive(Debug)]
pub enum Read {
    /// A record of the view that was asked for.
    Record {
        /// Its offset.
        offset: i64,
        /// When the broker appended it, milliseconds since 1970.
        appended_ms: i64,
        /// Its value.
        value: Vec<u8>,
        /// Its Kafka headers.
        headers: Vec<(String, Option<Vec<u8>>)>,
    },
    /// All that was stable when the read was answered has been read.
    End,
    /// What comes next cannot be read, now or later; the sentence says why.
    Unreadable(String),
    /// An event that the client handles by itself.
    Transient,
}

/// The topics that a restore reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTopic {
    /// `webhooks.raw`.
    Raw,
    /// `webhooks.dedup-log`.
    DedupLog,
}

/// Which part of a log a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// What a `read_committed` reader sees: committed records below the last stable offset.
    Stable,
    /// All records, aborted and undecided ones too.
    All,
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The topic's full name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Every partition that a transaction of a worker may write to: those of the fates' topics and of the
/// dedup-log, of sources that are no longer configured too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Those with a leader.
    pub places: Vec<Place>,
    /// Those without one.
    pub leaderless: Vec<Place>,
}

/// A header's value by its name; of several, the last one.
pub type HeaderOf<'h> = dyn Fn(&str) -> Option<&'h [u8]> + 'h;

/// What restores and settling ask the brokers, apart from the worker's own clients.
pub trait Reader {
    /// The group membership under which offsets are committed.
    type Member;

    /// How many partitions raw has now.
    fn partitions(&self) -> Result<u32, BrokerUnavailable>;

    /// A topic's first offset, and the first that is not stable yet.
    fn stable_bounds(
        &self,
        source: LogTopic,
        partition: i32,
    ) -> Result<(i64, i64), BrokerUnavailable>;

    /// The dedup-log's first and next offset, decided or not.
    fn watermarks(&self, partition: i32) -> Result<(i64, i64), BrokerUnavailable>;

    /// The dedup-log's first offset appended at or after a time; `None` where there is none.
    fn offset_for_time(
        &self,
        partition: i32,
        since_ms: i64,
    ) -> Result<Option<i64>, BrokerUnavailable>;

    /// Begins to read a view of a partition, from an offset on.
    fn start(
        &self,
        source: LogTopic,
        partition: i32,
        offset: i64,
        view: View,
    ) -> Result<(), BrokerUnavailable>;

    /// Waits for the next thing of what [`Reader::start`] began.
    fn read(&self) -> Result<Read, BrokerUnavailable>;

    /// Reads no more of it.
    fn stop(&self) -> Result<(), BrokerUnavailable>;

    /// The partitions that a worker's transactions may write to.
    fn outputs(&self) -> Result<Outputs, BrokerUnavailable>;

    /// Where partitions end in a view: the last stable offset, or the next offset. Partitions without a
    /// known leader are left out; a leader that fails to answer is an error.
    fn ends(&self, places: &[Place], view: View)
    -> Result<BTreeMap<Place, i64>, BrokerUnavailable>;

    /// The first offsets whose record has this timestamp or a later one; partitions without such a record
    /// are left out.
    fn since(&self, places: &[Place], ms: i64) -> Result<BTreeMap<Place, i64>, BrokerUnavailable>;

    /// Gives the committed records of some partitions of a topic, each from an offset to the partition's
    /// end, until `each` breaks. Returns where a further scan goes on.
    fn scan(
        &self,
        topic: &str,
        from: &BTreeMap<i32, i64>,
        each: &mut dyn FnMut(&[u8], &HeaderOf<'_>) -> ControlFlow<()>,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable>;

    /// The group's offsets of these partitions of raw; an error where a transaction is about to change one
    /// of them, for all that time.
    fn stable_offsets(
        &self,
        partitions: &[i32],
        wait: Duration,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable>;

    /// The group's offset of a partition, whatever an open transaction is about to make of it.
    fn last_offset(&self, partition: i32) -> Result<Option<i64>, BrokerUnavailable>;

    /// The metadata of a client that has not joined the group. Brokers take offsets under it from
    /// anybody: for a transaction that is aborted, and never for one that is committed.
    fn outsider(&self) -> Option<Self::Member>;
}

/// No broker returned a usable answer: ask again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BrokerUnavailable(pub String);

/// Why a new producer is not ready.
#[derive(Debug)]
pub enum InitError {
    /// The coordinator is not there yet: try again.
    Later(String),
    /// Another process has taken the name.
    Fenced(String),
}

/// A record that could not be written, or a call that failed for its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub why: String,
    /// It fails again until an operator repairs the broker.
    pub permanent: bool,
}

/// Why a record was not queued.
#[derive(Debug)]
pub enum SendError {
    /// The queue is full: serve, and send again.
    Full,
    /// It cannot be written.
    Failed(Failure),
}

/// Why a call of the transaction's protocol failed.
#[derive(Debug)]
pub enum CallError {
    /// It may be made again.
    Again(String),
    /// The transaction must be aborted.
    Abort(Failure),
    /// The producer is of no more use.
    Broken {
        /// What failed.
        why: String,
        /// Another producer took the name.
        fenced: bool,
    },
}
