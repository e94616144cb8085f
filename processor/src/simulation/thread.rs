//! One thread of a process: every call lets others go first, and may fail.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corosensei::Yielder;

use super::brokers::World;
use super::state::{MS, SECOND};
use crate::kafka::BrokerUnavailable;

/// What a process has at the brokers, for the run that kills or stops it.
#[derive(Debug, Default)]
pub struct Held {
    pub clients: Vec<u64>,
    pub members: Vec<u64>,
}

/// One thread of a process: the time at which it wants to go on is what it yields.
pub struct Thread<'y> {
    pub world: Rc<RefCell<World>>,
    pub held: Rc<RefCell<Held>>,
    pub yielder: &'y Yielder<(), u64>,
    pub base: Instant,
    /// The transactional id.
    pub name: String,
    pub raw: String,
    pub log: String,
}

impl Clone for Thread<'_> {
    fn clone(&self) -> Self {
        Self {
            world: Rc::clone(&self.world),
            held: Rc::clone(&self.held),
            yielder: self.yielder,
            base: self.base,
            name: self.name.clone(),
            raw: self.raw.clone(),
            log: self.log.clone(),
        }
    }
}

/// A time in the simulation's unit.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a short time")
}

impl Thread<'_> {
    pub fn wait(&self, micros: u64) {
        let now = self.world.borrow().now;
        self.yielder.suspend(now + micros);
    }

    /// A request on its way to a broker and back.
    pub fn call(&self) {
        let time = {
            let world = &mut *self.world.borrow_mut();
            let slow = world.chance.in_thousand(world.odds.slow);
            world.chance.below(if slow { 2 * SECOND } else { MS })
        };
        self.wait(time);
    }

    pub fn is_lost(&self) -> bool {
        let world = &mut *self.world.borrow_mut();
        world.chance.in_thousand(world.odds.lost)
    }

    pub fn coin(&self) -> bool {
        self.world.borrow_mut().chance.in_thousand(500)
    }

    /// A question: answered, or not.
    pub fn ask(&self) -> Result<(), BrokerUnavailable> {
        self.call();
        let world = &mut *self.world.borrow_mut();
        if world.chance.in_thousand(world.odds.unanswered) {
            return Err(BrokerUnavailable("no answer".to_owned()));
        }
        Ok(())
    }

    /// The committed offset of a partition, once no transaction is about to change it.
    pub fn committed_offset(&self, partition: i32) -> Result<Option<i64>, BrokerUnavailable> {
        self.ask()?;
        self.until_decided(partition, 5 * SECOND)?;
        Ok(self.world.borrow().committed.get(&partition).copied())
    }

    /// Waits so long until no transaction is about to change the offset of a partition.
    pub fn until_decided(&self, partition: i32, wait: u64) -> Result<(), BrokerUnavailable> {
        let until = self.world.borrow().now + wait;
        while self.world.borrow().has_pending_offsets(partition) {
            if self.world.borrow().now > until {
                return Err(BrokerUnavailable("unstable offset".to_owned()));
            }
            self.wait(10 * MS);
        }
        Ok(())
    }

    /// A log's first stable offset; a new leader does not say.
    pub fn stable(&self, topic: &str, partition: i32) -> Result<i64, BrokerUnavailable> {
        self.ask()?;
        let world = &mut *self.world.borrow_mut();
        let now = world.now;
        let log = world.log(topic, partition);
        if log.is_behind(now) {
            return Err(BrokerUnavailable("offset not available".to_owned()));
        }
        Ok(log.stable())
    }
}
