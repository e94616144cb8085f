//! The transactional producer, on brokers in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{Client, MS, Refused, SECOND, Stored};
use super::thread::{Thread, micros};
use crate::kafka::{CallError, Failure, Message, Producer, SendError};

pub struct SimProducer<'y> {
    thread: Thread<'y>,
    id: u64,
}

impl<'y> SimProducer<'y> {
    pub fn new(thread: Thread<'y>, id: u64) -> Self {
        Self { thread, id }
    }

    fn with<T>(&self, of: impl FnOnce(&mut Client) -> T) -> T {
        let mut world = self.thread.world.borrow_mut();
        of(world
            .clients
            .get_mut(&self.id)
            .expect("it lives as long as this"))
    }

    fn fail(refused: Refused) -> CallError {
        match refused {
            Refused::Fenced => CallError::Broken {
                why: "fenced".to_owned(),
                fenced: true,
            },
            Refused::Concurrent => CallError::Again("concurrent transactions".to_owned()),
            Refused::Generation => abort("illegal generation"),
            Refused::State => CallError::Broken {
                why: "invalid state".to_owned(),
                fenced: false,
            },
        }
    }

    /// The answer was lost: what a client may make of that.
    fn lost(&self, may_abort: bool) -> CallError {
        match self.thread.world.borrow_mut().chance.below(3) {
            0 => CallError::Again("timed out".to_owned()),
            1 if may_abort => abort("the transaction must be aborted"),
            _ => CallError::Broken {
                why: "a fatal error".to_owned(),
                fenced: false,
            },
        }
    }
}

fn abort(why: &str) -> CallError {
    CallError::Abort(Failure {
        why: why.to_owned(),
        permanent: false,
    })
}

impl Producer for SimProducer<'_> {
    type Member = (u64, u64);

    fn begin(&mut self) -> Result<(), CallError> {
        let id = self.thread.world.borrow_mut().fresh();
        self.with(|client| {
            client.transaction = id;
            client.failure = None;
            client.poisoned = false;
        });
        Ok(())
    }

    fn send(&mut self, message: &Message<'_>) -> Result<(), SendError> {
        let world = &mut *self.thread.world.borrow_mut();
        if world.chance.in_thousand(world.odds.send) {
            return Err(SendError::Full);
        }
        if world.chance.in_thousand(world.odds.send) {
            return Err(SendError::Failed(Failure {
                why: format!("{}: cannot be queued", message.topic),
                permanent: false,
            }));
        }
        let fails = world.chance.in_thousand(world.odds.send);
        let headers = message.headers.iter();
        let record = Stored {
            offset: 0,
            appended_ms: 0,
            created_ms: message.timestamp_ms,
            key: message.key.map(<[u8]>::to_vec),
            value: message.value.to_vec(),
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), value.as_deref().map(<[u8]>::to_vec)))
                .collect(),
            transaction: None,
        };
        let partition = message.partition.unwrap_or(0);
        world.queue(self.id, message.topic, partition, record, fails);
        Ok(())
    }

    fn serve(&self, wait: Duration) {
        self.thread.wait(micros(wait).max(1));
    }

    fn in_flight(&self) -> usize {
        self.with(|client| client.queue.len())
    }

    fn take_failure(&self) -> Option<Failure> {
        self.with(|client| client.failure.take())
    }

    fn send_offsets(
        &mut self,
        offsets: &BTreeMap<i32, i64>,
        member: (u64, u64),
    ) -> Result<(), CallError> {
        self.thread.call();
        if self.with(|client| client.poisoned) {
            return Err(abort("a record was lost"));
        }
        let lost = self.thread.is_lost();
        if lost && self.thread.coin() {
            return Err(self.lost(true));
        }
        let until = self.thread.world.borrow().now + 30 * SECOND;
        loop {
            let added = self
                .thread
                .world
                .borrow_mut()
                .add_offsets(self.id, offsets, member);
            match added {
                Ok(()) => break,
                Err(Refused::Concurrent) if self.thread.world.borrow().now < until => {
                    self.thread.wait(5 * MS);
                }
                Err(refused) => return Err(Self::fail(refused)),
            }
        }
        self.thread.call();
        if lost { Err(self.lost(true)) } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), CallError> {
        self.thread.call();
        while self.in_flight() > 0 {
            self.thread.wait(100);
        }
        if self.with(|client| client.poisoned) {
            return Err(abort("a record was lost"));
        }
        let lost = self.thread.is_lost();
        if lost && self.thread.coin() {
            return Err(self.lost(true));
        }
        let ended = self.thread.world.borrow_mut().end(self.id, true);
        self.thread.call();
        match ended {
            Ok(()) if lost => Err(self.lost(true)),
            Ok(()) => Ok(()),
            Err(refused) => Err(Self::fail(refused)),
        }
    }

    fn abort(&mut self) -> Result<(), CallError> {
        self.thread.call();
        // What is on its way already arrives or does not.
        self.thread.world.borrow_mut().deliver(self.id, true);
        self.with(|client| client.queue.clear());
        let lost = self.thread.is_lost();
        if lost && self.thread.coin() {
            return Err(self.lost(false));
        }
        let ended = self.thread.world.borrow_mut().end(self.id, false);
        self.thread.call();
        match ended {
            Ok(()) if lost => Err(self.lost(false)),
            Ok(()) => Ok(()),
            Err(refused) => Err(Self::fail(refused)),
        }
    }

    fn is_suspect(&self) -> bool {
        let world = &mut *self.thread.world.borrow_mut();
        world.chance.in_thousand(world.odds.suspect)
    }
}

impl Drop for SimProducer<'_> {
    fn drop(&mut self) {
        let world = &mut *self.thread.world.borrow_mut();
        world.deliver(self.id, true);
        world.clients.remove(&self.id);
    }
}
