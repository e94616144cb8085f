//! The consumer of raw, on brokers in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::state::{OUTSIDER, SECOND};
use super::thread::{Thread, micros};
use crate::kafka::assignment::Assignments;
use crate::kafka::{BrokerUnavailable, Consumer, Polled};
use crate::record::Record;

/// Where a consumer stands in a partition.
#[derive(Debug)]
struct Place {
    position: i64,
    paused: bool,
    end_told: bool,
    /// The answer to where the partition begins comes then, and moves the position.
    reset: Option<u64>,
}

pub struct SimConsumer<'y> {
    thread: Thread<'y>,
    member: Cell<u64>,
    assignments: Arc<Assignments>,
    places: RefCell<BTreeMap<i32, Place>>,
}

impl<'y> SimConsumer<'y> {
    pub fn new(thread: Thread<'y>, member: u64, assignments: Arc<Assignments>) -> Self {
        Self {
            thread,
            member: Cell::new(member),
            assignments,
            places: RefCell::default(),
        }
    }

    fn rebalance(&self) {
        let world = &mut *self.thread.world.borrow_mut();
        let mut places = self.places.borrow_mut();
        let (removed, known) = {
            let member = &world.members[&self.member.get()];
            (member.removed, world.now >= member.removal_known)
        };
        if removed && known {
            // The client calls nothing back where it owned nothing.
            if !places.is_empty() {
                self.assignments.lose(places.keys().copied());
            }
            places.clear();
            let member = world.join();
            self.thread.held.borrow_mut().members.push(member);
            self.member.set(member);
            return;
        }
        if removed {
            return;
        }
        let (revoked, assigned) = world.sync(self.member.get());
        self.assignments.revoke(revoked.iter().copied());
        for partition in &revoked {
            places.remove(partition);
        }
        self.assignments.assign(assigned.iter().copied());
        for partition in assigned {
            let late = world.chance.in_thousand(world.odds.late_reset);
            let reset = late.then(|| world.now + world.chance.below(SECOND));
            places.insert(
                partition,
                Place {
                    position: 0,
                    paused: true,
                    end_told: false,
                    reset,
                },
            );
        }
    }

    fn next(&self) -> Option<Polled> {
        let world = &mut *self.thread.world.borrow_mut();
        let mut places = self.places.borrow_mut();
        let count = places.len();
        let first = world.chance.place(count.max(1));
        let now = world.now;
        let unreadable = world.unreadable.clone();
        for n in 0..count {
            let (&partition, place) = places.iter_mut().nth((first + n) % count)?;
            if place.reset.is_some_and(|reset| now >= reset) {
                place.reset = None;
                place.position = 0;
            }
            if place.paused {
                continue;
            }
            let (found, end) = world
                .log(&self.thread.raw, partition)
                .committed(place.position, now);
            if let Some(found) = found {
                if unreadable.get(&partition) == Some(&found.offset) {
                    return Some(Polled::Fatal("a bad batch".to_owned()));
                }
                place.position = found.offset + 1;
                place.end_told = false;
                return Some(Polled::Record(Record {
                    partition,
                    offset: found.offset,
                    appended_ms: found.appended_ms,
                    key: found.key.clone(),
                    value: found.value.clone(),
                    headers: found.headers.clone(),
                }));
            }
            if !place.end_told {
                place.position = place.position.max(end);
                place.end_told = true;
                return Some(Polled::End(partition));
            }
        }
        None
    }
}

impl Consumer for SimConsumer<'_> {
    /// The member's id and the generation that it knows.
    type Member = (u64, u64);

    fn poll(&self, wait: Duration) -> Polled {
        self.thread.wait(10);
        self.rebalance();
        let fatal = {
            let world = &mut *self.thread.world.borrow_mut();
            world.chance.in_thousand(world.odds.fatal)
        };
        if fatal {
            return Polled::Fatal("a fault of the simulation".to_owned());
        }
        if let Some(polled) = self.next() {
            return polled;
        }
        if wait.is_zero() {
            return Polled::Nothing;
        }
        self.thread.wait(micros(wait));
        self.rebalance();
        self.next().unwrap_or(Polled::Nothing)
    }

    fn seek(&self, partition: i32, offset: i64) -> Result<(), BrokerUnavailable> {
        self.thread.ask()?;
        match self.places.borrow_mut().get_mut(&partition) {
            Some(place) => {
                place.position = offset;
                place.end_told = false;
                Ok(())
            }
            None => Err(BrokerUnavailable("not assigned".to_owned())),
        }
    }

    fn pause(&self, partitions: &[i32]) -> Result<(), BrokerUnavailable> {
        for partition in partitions {
            if let Some(place) = self.places.borrow_mut().get_mut(partition) {
                place.paused = true;
            }
        }
        Ok(())
    }

    fn resume(&self, partitions: &[i32]) -> Result<(), BrokerUnavailable> {
        for partition in partitions {
            if let Some(place) = self.places.borrow_mut().get_mut(partition) {
                place.paused = false;
                place.end_told = false;
            }
        }
        Ok(())
    }

    fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, BrokerUnavailable> {
        let mut committed = BTreeMap::new();
        for &partition in partitions {
            if let Some(offset) = self.thread.committed_offset(partition)? {
                committed.insert(partition, offset);
            }
        }
        Ok(committed)
    }

    fn last_stable_offset(&self, partition: i32) -> Result<i64, BrokerUnavailable> {
        self.thread.stable(&self.thread.raw, partition)
    }

    fn member(&self) -> Option<(u64, u64)> {
        // A client that knows that it was removed is nobody, whose offsets are taken as those of an outsider.
        if self.assignment_lost() {
            return Some(OUTSIDER);
        }
        let member = self.member.get();
        let generation = self.thread.world.borrow().members[&member].generation;
        Some((member, generation))
    }

    fn assignment_lost(&self) -> bool {
        let world = self.thread.world.borrow();
        let member = &world.members[&self.member.get()];
        member.removed && world.now >= member.removal_known
    }

    fn close(self) {
        self.thread
            .world
            .borrow_mut()
            .leave(self.member.get(), true);
    }
}
