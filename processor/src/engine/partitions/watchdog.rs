//! The watchdog over reading: raw that is ahead of a partition of which the client brings nothing.

use std::time::{Duration, Instant};

use super::Partitions;
use super::slot::{State, Watch};
use crate::kafka::Consumer;

/// How often one of the quiet partitions is compared with the broker's stable offset.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// For how long raw may be ahead without a record or an end-of-partition before the client counts as
/// stalled: longer than an election or a transaction's time-out takes.
const STALLED: Duration = Duration::from_secs(90);

impl Partitions {
    /// Checks one partition in turn: `Err` when raw is ahead and the client brings nothing of it, which was
    /// seen once, cause unknown. Only a new process helps.
    pub fn watch(&mut self, consumer: &impl Consumer, now: Instant) -> Result<(), String> {
        if now - self.watched_at < WATCH_EVERY {
            return Ok(());
        }
        self.watched_at = now;
        self.watched += 1;
        let reading = self.reading();
        if reading.is_empty() {
            return Ok(());
        }
        let partition = reading[self.watched % reading.len()];
        let Ok(stable) = consumer.last_stable_offset(partition) else {
            return Ok(());
        };
        let Some(slot) = self.slots.get_mut(&partition) else {
            return Ok(());
        };
        let end = match slot.state {
            State::Ready { to, .. } => to,
            _ => i64::MAX,
        };
        match slot.watch {
            Watch::Record if stable > end => slot.watch = Watch::Ahead(now),
            Watch::Record | Watch::End => slot.watch = Watch::Quiet(stable),
            Watch::Quiet(before) if stable > before => slot.watch = Watch::Ahead(now),
            Watch::Ahead(since) if now - since > STALLED => {
                return Err(format!(
                    "partition {partition} of raw is ahead, and nothing came of it for {} s",
                    (now - since).as_secs()
                ));
            }
            Watch::Quiet(_) | Watch::Ahead(_) => {}
        }
        Ok(())
    }
}
