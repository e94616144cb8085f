//! What a restore asks with, on brokers in memory.

use std::cell::RefCell;

use super::clients::Thread;
use crate::kafka::{Read, Reader, Source, Unanswered};

pub struct SimReader<'y> {
    thread: Thread<'y>,
    /// Topic, partition and next offset of what is being read.
    at: RefCell<(String, i32, i64)>,
}

impl<'y> SimReader<'y> {
    pub fn new(thread: Thread<'y>) -> Self {
        Self {
            thread,
            at: RefCell::new((String::new(), 0, 0)),
        }
    }

    fn topic(&self, source: Source) -> String {
        match source {
            Source::Raw => self.thread.raw.clone(),
            Source::DedupLog => self.thread.log.clone(),
        }
    }
}

impl Reader for SimReader<'_> {
    fn partitions(&self) -> Result<u32, Unanswered> {
        self.thread.ask()?;
        Ok(self.thread.world.borrow().partitions.unsigned_abs())
    }

    fn committed(&self, partition: i32) -> Result<Option<i64>, Unanswered> {
        self.thread.committed_offset(partition)
    }

    fn stable_bounds(&self, source: Source, partition: i32) -> Result<(i64, i64), Unanswered> {
        Ok((0, self.thread.stable(&self.topic(source), partition)?))
    }

    fn log_bounds(&self, partition: i32) -> Result<(i64, i64), Unanswered> {
        self.thread.ask()?;
        let world = &mut *self.thread.world.borrow_mut();
        let now = world.now;
        let log = world.log(&self.thread.log, partition);
        if log.is_behind(now) {
            return Err(Unanswered("offset not available".to_owned()));
        }
        Ok((0, log.end))
    }

    fn log_since(&self, partition: i32, since_ms: i64) -> Result<Option<i64>, Unanswered> {
        let stable = self.thread.stable(&self.thread.log, partition)?;
        let world = &mut *self.thread.world.borrow_mut();
        let log = world.log(&self.thread.log, partition);
        let found = log
            .records
            .iter()
            .find(|record| record.appended_ms >= since_ms && record.offset < stable);
        Ok(found.map(|record| record.offset))
    }

    fn start(&self, source: Source, partition: i32, offset: i64) -> Result<(), Unanswered> {
        *self.at.borrow_mut() = (self.topic(source), partition, offset);
        Ok(())
    }

    fn read(&self) -> Result<Read, Unanswered> {
        self.thread.ask()?;
        let world = &mut *self.thread.world.borrow_mut();
        let now = world.now;
        let mut at = self.at.borrow_mut();
        let (topic, partition, next) = &mut *at;
        let (found, _) = world.log(topic, *partition).committed(*next, now);
        let Some(found) = found else {
            return Ok(Read::End);
        };
        *next = found.offset + 1;
        Ok(Read::Record {
            offset: found.offset,
            appended_ms: found.appended_ms,
            value: found.value.clone(),
        })
    }

    fn stop(&self) -> Result<(), Unanswered> {
        Ok(())
    }
}
