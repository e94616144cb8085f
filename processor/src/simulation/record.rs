//! A record of every call that the engine makes to Kafka in a run: one compact line a call, without a
//! word that is free to change. The guard of the simulation compares its hash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_schemas::identity::sha256;

use super::brokers::World;
use super::thread::Thread;
use crate::kafka::assignment::Assignments;
use crate::kafka::{
    BrokerUnavailable, CallError, Consumer, Failure, InitError, Kafka, LogTopic, Message, Place,
    Polled, Producer, SendError, View,
};

mod reader;

thread_local! {
    static LINES: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Begins a record of this thread.
pub fn begin() {
    LINES.set(Some(String::new()));
}

/// The record, and no more from now on.
pub fn end() -> String {
    LINES.take().unwrap_or_default()
}

/// Who calls, and the time of the run.
#[derive(Clone)]
struct Scribe {
    world: Rc<RefCell<World>>,
    who: Rc<str>,
}

impl Scribe {
    /// Adds a line: microseconds, who, the call, its arguments and result. Without a record it costs a look.
    fn line(&self, call: &str, rest: impl FnOnce() -> String) {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                let now = self.world.borrow().now;
                // Writing to a String cannot fail.
                let _ = writeln!(lines, "{now} {} {call} {}", self.who, rest());
            }
        });
    }
}

/// A client whose calls are recorded.
pub struct Recorded<T> {
    inner: T,
    scribe: Scribe,
}

impl<'y> Recorded<Thread<'y>> {
    /// The cluster as this thread of a process sees it.
    pub fn new(thread: Thread<'y>, who: &str) -> Self {
        let world = Rc::clone(&thread.world);
        let who = who.into();
        Self {
            inner: thread,
            scribe: Scribe { world, who },
        }
    }
}

impl<T> Recorded<T> {
    fn of<U>(&self, inner: U) -> Recorded<U> {
        Recorded {
            inner,
            scribe: self.scribe.clone(),
        }
    }

    fn line<R>(&self, call: &str, result: R, rest: impl FnOnce(&R) -> String) -> R {
        self.scribe.line(call, || rest(&result));
        result
    }
}

/// `ok` with what the call brought, or that it brought nothing; never the text of the error.
fn answer<T>(result: &Result<T, BrokerUnavailable>, shown: impl FnOnce(&T) -> String) -> String {
    match result {
        Ok(found) => format!("ok {}", shown(found)),
        Err(BrokerUnavailable(_)) => "unanswered".to_owned(),
    }
}

fn done(result: &Result<(), BrokerUnavailable>) -> String {
    answer(result, |()| String::new())
}

fn called(result: &Result<(), CallError>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(CallError::Again(_)) => "again".to_owned(),
        Err(CallError::Abort(Failure { permanent, .. })) => format!("abort trouble={permanent}"),
        Err(CallError::Broken { fenced, .. }) => format!("broken fenced={fenced}"),
    }
}

fn offsets(offsets: &BTreeMap<i32, i64>) -> String {
    let one = |(partition, offset): (&i32, &i64)| format!("{partition}={offset}");
    offsets.iter().map(one).collect::<Vec<_>>().join(",")
}

fn ends(ends: &BTreeMap<Place, i64>) -> String {
    let one = |(place, end): (&Place, &i64)| format!("{}/{}={end}", place.topic, place.partition);
    ends.iter().map(one).collect::<Vec<_>>().join(",")
}

fn topic(source: LogTopic) -> &'static str {
    match source {
        LogTopic::Raw => "raw",
        LogTopic::DedupLog => "log",
    }
}

fn view(view: View) -> &'static str {
    match view {
        View::Stable => "stable",
        View::All => "all",
    }
}

/// The first four bytes of a value's hash.
fn digest(bytes: &[u8]) -> String {
    let [first, second, third, fourth, ..] = sha256(bytes);
    format!("{first:02x}{second:02x}{third:02x}{fourth:02x}")
}

impl<K: Kafka> Kafka for Recorded<K> {
    type Consumer = Recorded<K::Consumer>;
    type Producer = Recorded<K::Producer>;
    type Reader = Recorded<K::Reader>;

    fn consumer(&self, assignments: Arc<Assignments>) -> Result<Self::Consumer, String> {
        let made = self.line("consumer", self.inner.consumer(assignments), |made| {
            if made.is_ok() { "ok" } else { "failed" }.to_owned()
        });
        Ok(self.of(made?))
    }

    fn producer(&self) -> Result<Self::Producer, InitError> {
        let made = self.line("producer", self.inner.producer(), |made| {
            let made = match made {
                Ok(_) => "ok",
                Err(InitError::Later(_)) => "later",
                Err(InitError::Fenced(_)) => "fenced",
            };
            made.to_owned()
        });
        Ok(self.of(made?))
    }

    fn reader(&self) -> Result<Self::Reader, BrokerUnavailable> {
        let made = self.line("reader", self.inner.reader(), |made| {
            answer(made, |_| String::new())
        });
        Ok(self.of(made?))
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wall_ms(&self) -> i64 {
        self.inner.wall_ms()
    }

    fn sleep(&self, time: Duration) {
        self.inner.sleep(time);
    }
}

impl<C: Consumer> Consumer for Recorded<C> {
    type Member = C::Member;

    fn poll(&self, wait: Duration) -> Polled {
        self.line("poll", self.inner.poll(wait), |polled| {
            let polled = match polled {
                Polled::Nothing => "nothing".to_owned(),
                Polled::Record(record) => format!("{} {}", record.partition, record.offset),
                Polled::End(partition) => format!("{partition} end"),
                Polled::Transient => "news".to_owned(),
                Polled::Fatal(_) => "fatal".to_owned(),
            };
            format!("{} {polled}", wait.as_millis())
        })
    }

    fn seek(&self, partition: i32, offset: i64) -> Result<(), BrokerUnavailable> {
        let sought = self.inner.seek(partition, offset);
        self.line("seek", sought, |sought| {
            format!("{partition} {offset} {}", done(sought))
        })
    }

    fn pause(&self, partitions: &[i32]) -> Result<(), BrokerUnavailable> {
        self.line("pause", self.inner.pause(partitions), |paused| {
            format!("{partitions:?} {}", done(paused))
        })
    }

    fn resume(&self, partitions: &[i32]) -> Result<(), BrokerUnavailable> {
        self.line("resume", self.inner.resume(partitions), |resumed| {
            format!("{partitions:?} {}", done(resumed))
        })
    }

    fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        self.line("committed", self.inner.committed(partitions), |found| {
            format!("{partitions:?} {}", answer(found, offsets))
        })
    }

    fn last_stable_offset(&self, partition: i32) -> Result<i64, BrokerUnavailable> {
        self.line(
            "stable_end",
            self.inner.last_stable_offset(partition),
            |end| format!("{partition} {}", answer(end, i64::to_string)),
        )
    }

    fn member(&self) -> Option<Self::Member> {
        self.line("member", self.inner.member(), |member| {
            member.is_some().to_string()
        })
    }

    fn assignment_lost(&self) -> bool {
        self.line(
            "assignment_lost",
            self.inner.assignment_lost(),
            bool::to_string,
        )
    }

    fn close(self) {
        self.inner.close();
        self.scribe.line("leave", String::new);
    }
}

impl<P: Producer> Producer for Recorded<P> {
    type Member = P::Member;

    fn begin(&mut self) -> Result<(), CallError> {
        let begun = self.inner.begin();
        self.line("begin", begun, called)
    }

    fn send(&mut self, message: &Message<'_>) -> Result<(), SendError> {
        let sent = self.inner.send(message);
        self.line("send", sent, |sent| {
            let sent = match sent {
                Ok(()) => "ok".to_owned(),
                Err(SendError::Full) => "full".to_owned(),
                Err(SendError::Failed(failure)) => format!("failed trouble={}", failure.permanent),
            };
            let (place, value) = (message.partition.unwrap_or(-1), digest(message.value));
            let count = message.headers.len();
            format!("{} {place} {value} {count} {sent}", message.topic)
        })
    }

    fn serve(&self, wait: Duration) {
        self.inner.serve(wait);
        self.scribe.line("serve", || wait.as_millis().to_string());
    }

    fn in_flight(&self) -> usize {
        self.line("in_flight", self.inner.in_flight(), usize::to_string)
    }

    fn take_failure(&self) -> Option<Failure> {
        self.line("take_failure", self.inner.take_failure(), |failure| {
            let trouble = failure.as_ref().map(|failure| failure.permanent);
            trouble.map_or_else(|| "none".to_owned(), |trouble| format!("trouble={trouble}"))
        })
    }

    fn send_offsets(
        &mut self,
        of: &BTreeMap<i32, i64>,
        member: Self::Member,
    ) -> Result<(), CallError> {
        let sent = self.inner.send_offsets(of, member);
        self.line("send_offsets", sent, |sent| {
            format!("{} {}", offsets(of), called(sent))
        })
    }

    fn commit(&mut self) -> Result<(), CallError> {
        let committed = self.inner.commit();
        self.line("commit", committed, called)
    }

    fn abort(&mut self) -> Result<(), CallError> {
        let aborted = self.inner.abort();
        self.line("abort", aborted, called)
    }

    fn is_suspect(&self) -> bool {
        self.line("is_suspect", self.inner.is_suspect(), bool::to_string)
    }
}
