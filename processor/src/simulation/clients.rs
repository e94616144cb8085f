//! The engine's clients of the brokers in memory, as a thread makes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::consumer::SimConsumer;
use super::producer::SimProducer;
use super::reader::SimReader;
use super::state::{Client, MS, SECOND};
use super::thread::{Thread, micros};
use crate::kafka::assignment::Assignments;
use crate::kafka::{BrokerUnavailable, InitError, Kafka};

impl<'y> Kafka for Thread<'y> {
    type Consumer = SimConsumer<'y>;
    type Producer = SimProducer<'y>;
    type Reader = SimReader<'y>;

    fn consumer(&self, assignments: Arc<Assignments>) -> Result<SimConsumer<'y>, String> {
        let member = self.world.borrow_mut().join();
        self.held.borrow_mut().members.push(member);
        Ok(SimConsumer::new(self.clone(), member, assignments))
    }

    fn producer(&self) -> Result<SimProducer<'y>, InitError> {
        if let Err(BrokerUnavailable(why)) = self.ask() {
            return Err(InitError::Later(why));
        }
        let until = self.world.borrow().now + 5 * SECOND;
        let epoch = loop {
            let epoch = self.world.borrow_mut().take_over(&self.name);
            if let Ok(epoch) = epoch {
                break epoch;
            }
            while !self.world.borrow().is_settled(&self.name) {
                if self.world.borrow().now > until {
                    return Err(InitError::Later("concurrent transactions".to_owned()));
                }
                self.wait(5 * MS);
            }
        };
        let world = &mut *self.world.borrow_mut();
        let id = world.fresh();
        world.clients.insert(
            id,
            Client {
                name: self.name.clone(),
                epoch,
                transaction: 0,
                queue: VecDeque::new(),
                failure: None,
                poisoned: false,
                frozen: false,
            },
        );
        self.held.borrow_mut().clients.push(id);
        Ok(SimProducer::new(self.clone(), id))
    }

    fn reader(&self) -> Result<SimReader<'y>, BrokerUnavailable> {
        self.ask()?;
        Ok(SimReader::new(self.clone()))
    }

    fn now(&self) -> Instant {
        self.base + Duration::from_micros(self.world.borrow().now)
    }

    fn wall_ms(&self) -> i64 {
        self.world.borrow().clock_ms()
    }

    fn sleep(&self, time: Duration) {
        self.wait(micros(time));
    }
}
