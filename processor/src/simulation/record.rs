//! A record of every call that the engine makes to Kafka in a run: one compact line a call, without a
//! word that is free to change. The guard of the simulation compares its hash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_schemas::identity::sha256;

use super::brokers::World;
use super::thread::Thread;
use crate::kafka::assignment::Assignments;
use crate::kafka::{
    BrokerUnavailable, CallError, Consumer, Failure, HeaderOf, InitError, Kafka, LogTopic, Message,
    Outputs, Place, Polled, Producer, Read, Reader, SendError, View,
};

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

impl<R: Reader> Reader for Recorded<R> {
    type Member = R::Member;

    fn partitions(&self) -> Result<u32, BrokerUnavailable> {
        self.line("partitions", self.inner.partitions(), |found| {
            answer(found, u32::to_string)
        })
    }

    fn committed(&self, partition: i32) -> Result<Option<i64>, BrokerUnavailable> {
        self.line(
            "group_committed",
            self.inner.committed(partition),
            |found| format!("{partition} {}", answer(found, optional)),
        )
    }

    fn stable_bounds(
        &self,
        source: LogTopic,
        partition: i32,
    ) -> Result<(i64, i64), BrokerUnavailable> {
        let bounds = self.inner.stable_bounds(source, partition);
        self.line("stable_bounds", bounds, |bounds| {
            format!("{} {partition} {}", topic(source), answer(bounds, pair))
        })
    }

    fn watermarks(&self, partition: i32) -> Result<(i64, i64), BrokerUnavailable> {
        self.line("log_bounds", self.inner.watermarks(partition), |bounds| {
            format!("{partition} {}", answer(bounds, pair))
        })
    }

    fn offset_for_time(
        &self,
        partition: i32,
        since_ms: i64,
    ) -> Result<Option<i64>, BrokerUnavailable> {
        let found = self.inner.offset_for_time(partition, since_ms);
        self.line("log_since", found, |found| {
            format!("{partition} {since_ms} {}", answer(found, optional))
        })
    }

    fn start(
        &self,
        source: LogTopic,
        partition: i32,
        offset: i64,
        of: View,
    ) -> Result<(), BrokerUnavailable> {
        let started = self.inner.start(source, partition, offset, of);
        self.line("start", started, |started| {
            let (topic, view) = (topic(source), view(of));
            format!("{topic} {partition} {offset} {view} {}", done(started))
        })
    }

    fn read(&self) -> Result<Read, BrokerUnavailable> {
        self.line("read", self.inner.read(), |read| {
            answer(read, |read| match read {
                Read::Record { offset, .. } => offset.to_string(),
                Read::End => "end".to_owned(),
                Read::Transient => "news".to_owned(),
            })
        })
    }

    fn stop(&self) -> Result<(), BrokerUnavailable> {
        self.line("stop", self.inner.stop(), done)
    }

    fn outputs(&self) -> Result<Outputs, BrokerUnavailable> {
        self.line("outputs", self.inner.outputs(), |found| {
            answer(found, |found| {
                format!("{} {}", found.places.len(), found.leaderless.len())
            })
        })
    }

    fn ends(&self, places: &[Place], of: View) -> Result<BTreeMap<Place, i64>, BrokerUnavailable> {
        self.line("ends", self.inner.ends(places, of), |found| {
            format!("{} {} {}", places.len(), view(of), answer(found, ends))
        })
    }

    fn since(&self, places: &[Place], ms: i64) -> Result<BTreeMap<Place, i64>, BrokerUnavailable> {
        self.line("since", self.inner.since(places, ms), |found| {
            format!("{} {ms} {}", places.len(), answer(found, ends))
        })
    }

    fn scan(
        &self,
        topic: &str,
        from: &BTreeMap<i32, i64>,
        each: &mut dyn FnMut(&[u8], &HeaderOf<'_>) -> ControlFlow<()>,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        let mut records = 0;
        let scanned = self.inner.scan(topic, from, &mut |value, header| {
            records += 1;
            each(value, header)
        });
        self.line("scan", scanned, |next| {
            let from = offsets(from);
            format!("{topic} {from} {records} {}", answer(next, offsets))
        })
    }

    fn stable_offsets(
        &self,
        partitions: &[i32],
        wait: Duration,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        let found = self.inner.stable_offsets(partitions, wait);
        self.line("stable_offsets", found, |found| {
            let wait = wait.as_millis();
            format!("{partitions:?} {wait} {}", answer(found, offsets))
        })
    }

    fn last_offset(&self, partition: i32) -> Result<Option<i64>, BrokerUnavailable> {
        self.line("last_offset", self.inner.last_offset(partition), |found| {
            format!("{partition} {}", answer(found, optional))
        })
    }

    fn outsider(&self) -> Option<Self::Member> {
        self.line("outsider", self.inner.outsider(), |member| {
            member.is_some().to_string()
        })
    }
}

#[expect(clippy::ref_option, reason = "the answer is shown where it lies")]
fn optional(found: &Option<i64>) -> String {
    found.map_or_else(|| "none".to_owned(), |found| found.to_string())
}

fn pair((first, end): &(i64, i64)) -> String {
    format!("{first} {end}")
}
