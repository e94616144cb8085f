//! Taking over partitions that the restorer has finished.

use std::time::Duration;

use super::Partitions;
use super::slot::{JudgedTo, State, Watch};
use crate::engine::restore::{Outcome, Restored};
use crate::kafka::Kafka;

/// How long to wait before a seek is tried again: the client may still be settling an assignment.
const SEEK_RETRY_DELAY: Duration = Duration::from_millis(20);

impl Partitions {
    /// Takes over what the restorer has finished, where it is still owned: how long each took that is read
    /// now.
    pub fn take_restored<K: Kafka>(&mut self, kafka: &K, consumer: &K::Consumer) -> Vec<Duration> {
        let mut read = Vec::new();
        while let Ok(Restored {
            partition,
            epoch,
            question,
            took,
            outcome,
        }) = self.restored.try_recv()
        {
            // An answer to an earlier question, or for a partition that is no longer owned, is dropped.
            let awaited = self
                .slots
                .get(&partition)
                .is_some_and(|slot| slot.question == question);
            if !awaited {
                continue;
            }
            tracing::debug!(partition, epoch, %outcome, "the restore is over");
            let (from, state) = match outcome {
                Outcome::Ready {
                    from,
                    index,
                    repair,
                } => {
                    let to = from;
                    let state = State::Ready { to, index, repair };
                    (from, state)
                }
                Outcome::Waiting { from } => (from, State::Waiting { from }),
                Outcome::Reposition {
                    from,
                    key_partitions,
                } => {
                    let at = from;
                    self.repositions
                        .insert(partition, JudgedTo { at, key_partitions });
                    continue;
                }
                Outcome::NeedsOperator(why) => {
                    self.stop(consumer, partition, &why);
                    continue;
                }
            };
            match Self::start_reading(consumer, partition, from) {
                Ok(()) => {
                    if let Some(slot) = self.slots.get_mut(&partition) {
                        slot.state = state;
                        slot.seen = from;
                        slot.position = from;
                        slot.watch = Watch::End;
                    }
                    read.push(took);
                }
                Err(error) => {
                    tracing::info!(partition, from, %error, "reading could not begin: trying again");
                    kafka.sleep(SEEK_RETRY_DELAY);
                    self.restore(partition, epoch, None);
                }
            }
        }
        read
    }
}
