//! Partitions in trouble: a transaction with their records fails again and again. Each is tried alone, with
//! fewer records each time, until what is before the record that fails is committed. Then the partition is
//! suspended: it is not read, the others go on, and its first record is tried from time to time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Partitions;
use super::slot::{Failed, Slot, State, Trouble, Watch};
use crate::engine::batch::{Batch, Selection, Taken};
use crate::kafka::Consumer;

/// The first pause of a suspended partition.
const PAUSE: Duration = Duration::from_secs(2);

/// The longest, where an operator must repair what fails,
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// and where it may pass by itself, as far as the client says.
const LONGEST_OTHER_PAUSE: Duration = Duration::from_secs(8);

/// After so many aborts since its last commit a partition is tried alone: of a topic that may not be written
/// the client often reports the effects alone, which might pass by themselves.
const ABORTS_TOGETHER: u32 = 2;

impl Partitions {
    /// Whether a batch has records of partitions in trouble, and whether of others.
    pub fn troubled(&self, batch: &Batch) -> (bool, bool) {
        let slots = batch
            .parts
            .keys()
            .map(|partition| self.slots.get(partition));
        let has_trouble = |slot: Option<&Slot>| slot.is_some_and(|slot| slot.trouble.is_some());
        let troubled = slots.filter(|slot| has_trouble(*slot)).count();
        (troubled > 0, troubled < batch.parts.len())
    }

    /// Which records the next transaction takes: at most so many of the partitions that have no trouble, in
    /// turns that begin with another partition each time, or those of one partition in trouble `alone`.
    pub fn select(&mut self, batch: &Batch, most: usize, alone: bool) -> Selection {
        let troubled = |partition: &i32| {
            let trouble = self.slots.get(partition)?.trouble.as_ref()?;
            Some((*partition, trouble.size))
        };
        let in_trouble: Vec<(i32, usize)> = batch.parts.keys().filter_map(troubled).collect();
        let others: Vec<i32> = batch
            .parts
            .keys()
            .filter(|partition| troubled(partition).is_none())
            .copied()
            .collect();
        let among = |turn: usize, count: usize| turn.checked_rem(count).unwrap_or(0);
        if alone || others.is_empty() {
            self.trials += 1;
            let one = in_trouble.get(among(self.trials, in_trouble.len()));
            let one = one.and_then(|(partition, size)| {
                let part = batch.parts.get(partition)?;
                Some((*partition, part.records.len().min(*size)))
            });
            return Selection {
                taken: one.into_iter().collect(),
                alone: one.map(|(partition, _)| partition),
            };
        }
        self.turn += 1;
        let first = among(self.turn, others.len());
        let mut left = most;
        let mut taken = Taken::new();
        for partition in others[first..].iter().chain(&others[..first]) {
            let count = batch.parts[partition].records.len().min(left);
            if count == 0 {
                break;
            }
            taken.insert(*partition, count);
            left -= count;
        }
        Selection { taken, alone: None }
    }

    /// A transaction with records of these partitions was aborted: those with which that is so for good, or
    /// again and again, are tried alone from now on.
    pub fn failed_together(&mut self, taken: &Taken, failed: Failed<'_>) {
        for (partition, &size) in taken {
            let Some(slot) = self.slots.get_mut(partition) else {
                continue;
            };
            slot.aborts += 1;
            if failed.permanent || slot.aborts >= ABORTS_TOGETHER {
                slot.trouble.get_or_insert_with(|| Trouble {
                    size,
                    suspended: false,
                    until: None,
                    pause: PAUSE,
                    why: failed.why.to_owned(),
                });
            }
        }
    }

    /// A transaction with this partition's records alone was aborted: it is tried with half as many, or,
    /// where that was one, suspended.
    pub fn failed_alone(
        &mut self,
        consumer: &impl Consumer,
        batch: &mut Batch,
        partition: i32,
        (failed, now): (Failed<'_>, Instant),
    ) {
        let Some((slot, trouble)) = self.slots.get_mut(&partition).and_then(|slot| {
            let trouble = slot.trouble.take()?;
            Some((slot, trouble))
        }) else {
            return;
        };
        let part = batch.parts.get(&partition);
        let tried = part.map_or(1, |part| part.records.len().min(trouble.size));
        let mut trouble = Trouble {
            size: (tried / 2).max(1),
            why: failed.why.to_owned(),
            ..trouble
        };
        if tried > 1 {
            slot.trouble = Some(trouble);
            return;
        }
        let longest = if failed.permanent {
            LONGEST_PAUSE
        } else {
            LONGEST_OTHER_PAUSE
        };
        let wait = trouble.pause.min(longest);
        trouble.suspended = true;
        trouble.until = Some(now + wait);
        trouble.pause = (wait * 2).min(LONGEST_PAUSE);
        let offset = part.map(|part| part.base_offset);
        tracing::error!(
            partition,
            offset,
            seconds = wait.as_secs(),
            error = trouble.why,
            "this partition is suspended: its next record cannot be committed, and is tried again"
        );
        slot.trouble = Some(trouble);
        batch.retain(|other, _| other != partition);
        Self::pause(consumer, partition);
    }

    /// A transaction with this partition's records alone was committed. `whole`: all that there were.
    pub fn passed_alone(&mut self, partition: i32, whole: bool) {
        let Some(slot) = self.slots.get_mut(&partition) else {
            return;
        };
        if whole {
            if slot.trouble.take().is_some() {
                tracing::info!(partition, "this partition is committed again");
            }
        } else if let Some(trouble) = &mut slot.trouble {
            trouble.suspended = false;
            trouble.size = trouble.size.saturating_mul(2);
            trouble.pause = PAUSE;
        }
    }

    /// Reads suspended partitions again whose pause is over.
    pub fn try_suspended(&mut self, consumer: &impl Consumer, now: Instant) {
        for (&partition, slot) in &mut self.slots {
            let (State::Ready { to, .. }, Some(trouble)) = (&slot.state, &mut slot.trouble) else {
                continue;
            };
            if trouble.until.is_none_or(|until| now < until) {
                continue;
            }
            match Self::start_reading(consumer, partition, *to) {
                Ok(()) => {
                    trouble.until = None;
                    slot.position = *to;
                    slot.watch = Watch::End;
                }
                Err(error) => {
                    tracing::info!(partition, %error, "reading could not begin: trying again");
                    trouble.until = Some(now + PAUSE);
                }
            }
        }
    }

    /// Why each suspended partition is.
    pub(super) fn suspended(&self) -> BTreeMap<i32, &str> {
        let mut suspended = BTreeMap::new();
        for (&partition, slot) in &self.slots {
            if let Some(trouble) = slot.trouble.as_ref().filter(|trouble| trouble.suspended) {
                suspended.insert(partition, trouble.why.as_str());
            }
        }
        suspended
    }
}
