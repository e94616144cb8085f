//! The calls of a restore's reader.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use super::{Recorded, answer, done, ends, offsets, topic, view};
use crate::kafka::{BrokerUnavailable, HeaderOf, LogTopic, Outputs, Place, Read, Reader, View};

impl<R: Reader> Reader for Recorded<R> {
    type Member = R::Member;

    fn partitions(&self) -> Result<u32, BrokerUnavailable> {
        self.line("partitions", self.inner.partitions(), |found| {
            answer(found, u32::to_string)
        })
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
                Read::Unreadable(why) => format!("unreadable: {why}"),
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
