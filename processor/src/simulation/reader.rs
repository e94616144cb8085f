//! What a restore asks with, on brokers in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use super::state::{OUTSIDER, Stored};
use super::thread::{Thread, micros};
use crate::kafka::{BrokerUnavailable, HeaderOf, LogTopic, Outputs, Place, Read, Reader, View};

pub struct SimReader<'y> {
    thread: Thread<'y>,
    /// Topic, partition and next offset of what is being read, and the view of it.
    at: RefCell<(String, i32, i64, View)>,
}

impl<'y> SimReader<'y> {
    pub fn new(thread: Thread<'y>) -> Self {
        thread.world.borrow_mut().readers += 1;
        Self {
            thread,
            at: RefCell::new((String::new(), 0, 0, View::Stable)),
        }
    }

    /// Where a partition ends in a view; `None` where its leader does not know.
    fn end(&self, place: &Place, view: View) -> Option<i64> {
        let world = &mut *self.thread.world.borrow_mut();
        let now = world.now;
        let log = world.log(&place.topic, place.partition);
        if log.is_behind(now) {
            return None;
        }
        Some(match view {
            View::Stable => log.stable(),
            View::All => log.end,
        })
    }

    fn topic(&self, source: LogTopic) -> String {
        match source {
            LogTopic::Raw => self.thread.raw.clone(),
            LogTopic::DedupLog => self.thread.log.clone(),
        }
    }
}

fn header<'r>(record: &'r Stored, name: &str) -> Option<&'r [u8]> {
    let headers = record.headers.iter().rev();
    let mut named = headers.filter(|(found, _)| found == name);
    named.next()?.1.as_deref()
}

impl Reader for SimReader<'_> {
    type Member = (u64, u64);

    fn partitions(&self) -> Result<u32, BrokerUnavailable> {
        self.thread.ask()?;
        Ok(self.thread.world.borrow().partitions.unsigned_abs())
    }

    fn stable_bounds(
        &self,
        source: LogTopic,
        partition: i32,
    ) -> Result<(i64, i64), BrokerUnavailable> {
        Ok((0, self.thread.stable(&self.topic(source), partition)?))
    }

    fn watermarks(&self, partition: i32) -> Result<(i64, i64), BrokerUnavailable> {
        self.thread.ask()?;
        let world = &mut *self.thread.world.borrow_mut();
        let now = world.now;
        let log = world.log(&self.thread.log, partition);
        if log.is_behind(now) {
            return Err(BrokerUnavailable("offset not available".to_owned()));
        }
        Ok((0, log.end))
    }

    fn offset_for_time(
        &self,
        partition: i32,
        since_ms: i64,
    ) -> Result<Option<i64>, BrokerUnavailable> {
        let stable = self.thread.stable(&self.thread.log, partition)?;
        let world = &mut *self.thread.world.borrow_mut();
        let log = world.log(&self.thread.log, partition);
        let found = log
            .records
            .iter()
            .find(|record| record.appended_ms >= since_ms && record.offset < stable);
        Ok(found.map(|record| record.offset))
    }

    fn start(
        &self,
        source: LogTopic,
        partition: i32,
        offset: i64,
        view: View,
    ) -> Result<(), BrokerUnavailable> {
        *self.at.borrow_mut() = (self.topic(source), partition, offset, view);
        Ok(())
    }

    fn read(&self) -> Result<Read, BrokerUnavailable> {
        self.thread.ask()?;
        let world = &mut *self.thread.world.borrow_mut();
        let now = world.now;
        let mut at = self.at.borrow_mut();
        let (topic, partition, next, view) = &mut *at;
        let unreadable = world.unreadable.get(partition).copied();
        let log = world.log(topic, *partition);
        let found = match view {
            View::Stable => log.committed(*next, now).0,
            View::All => log.any(*next, now),
        };
        let Some(found) = found else {
            return Ok(Read::End);
        };
        let (offset, is_raw) = (found.offset, *topic == self.thread.raw);
        if is_raw && unreadable == Some(offset) {
            return Ok(Read::Unreadable("a bad batch".to_owned()));
        }
        *next = found.offset + 1;
        Ok(Read::Record {
            offset: found.offset,
            appended_ms: found.appended_ms,
            value: found.value.clone(),
            headers: found.headers.clone(),
        })
    }

    fn stop(&self) -> Result<(), BrokerUnavailable> {
        Ok(())
    }

    fn outputs(&self) -> Result<Outputs, BrokerUnavailable> {
        self.thread.ask()?;
        let world = self.thread.world.borrow();
        let names = world
            .logs
            .keys()
            .filter(|(topic, _)| *topic != self.thread.raw);
        let places = names.map(|(topic, partition)| Place {
            topic: topic.as_str().into(),
            partition: *partition,
        });
        Ok(Outputs {
            places: places.collect(),
            leaderless: Vec::new(),
        })
    }

    fn ends(
        &self,
        places: &[Place],
        view: View,
    ) -> Result<BTreeMap<Place, i64>, BrokerUnavailable> {
        self.thread.ask()?;
        let ends = places.iter();
        Ok(ends
            .filter_map(|place| Some((place.clone(), self.end(place, view)?)))
            .collect())
    }

    fn since(&self, places: &[Place], ms: i64) -> Result<BTreeMap<Place, i64>, BrokerUnavailable> {
        self.thread.ask()?;
        let mut since = BTreeMap::new();
        for place in places {
            let Some(stable) = self.end(place, View::Stable) else {
                return Err(BrokerUnavailable("offset not available".to_owned()));
            };
            let world = &mut *self.thread.world.borrow_mut();
            let log = world.log(&place.topic, place.partition);
            let mut records = log.records.iter();
            let found = records.find(|record| record.timestamp() >= ms && record.offset < stable);
            since.extend(found.map(|record| (place.clone(), record.offset)));
        }
        Ok(since)
    }

    fn scan(
        &self,
        topic: &str,
        from: &BTreeMap<i32, i64>,
        each: &mut dyn FnMut(&[u8], &HeaderOf<'_>) -> ControlFlow<()>,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        let mut next = from.clone();
        for (&partition, next) in &mut next {
            self.thread.ask()?;
            loop {
                let world = &mut *self.thread.world.borrow_mut();
                let now = world.now;
                let (found, _) = world.log(topic, partition).committed(*next, now);
                let Some(found) = found else {
                    break;
                };
                *next = found.offset + 1;
                if each(&found.value, &|name| header(found, name)).is_break() {
                    return Ok(from.clone());
                }
            }
        }
        Ok(next)
    }

    fn stable_offsets(
        &self,
        partitions: &[i32],
        wait: Duration,
    ) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        self.thread.ask()?;
        for partition in partitions {
            self.thread.until_decided(*partition, micros(wait))?;
        }
        let world = self.thread.world.borrow();
        let committed = world.committed.iter();
        let asked = committed.filter(|(partition, _)| partitions.contains(partition));
        Ok(asked
            .map(|(partition, offset)| (*partition, *offset))
            .collect())
    }

    fn last_offset(&self, partition: i32) -> Result<Option<i64>, BrokerUnavailable> {
        self.thread.ask()?;
        Ok(self
            .thread
            .world
            .borrow()
            .committed
            .get(&partition)
            .copied())
    }

    fn outsider(&self) -> Option<(u64, u64)> {
        Some(OUTSIDER)
    }
}
