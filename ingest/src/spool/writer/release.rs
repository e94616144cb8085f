//! Records that leave the quarantine.

use std::sync::atomic::Ordering;

use super::super::held::Held;
use super::super::record::{self, Renewed};
use super::super::store::{Batch, StoreError};
use super::super::types::{Released, is_older};
use super::{REFUSED, Writer};
use crate::clock;

impl Writer {
    /// What is replied to a release. A writer that failed has no store: that is reported already, and whether
    /// the store may be opened again is decided by that first failure.
    pub(in crate::spool) fn on_release(&mut self, released: Released) -> Result<u64, String> {
        if self.failed.is_some() {
            return Err("the spool cannot be written".to_owned());
        }
        self.release(released).map_err(|error| {
            self.fail(&error);
            error.to_string()
        })
    }

    /// Makes records again of what is in this process's quarantine, behind all others: how many. What cannot
    /// be read stays there, and so do records older than `max_age`, which would wait aside, unless the
    /// operator decided to drain those.
    fn release(&mut self, of: Released) -> Result<u64, StoreError> {
        let Some(store) = self.shared.store(self.shared.live) else {
            return Err(StoreError::InUse);
        };
        let (mut from, mut count, mut older) = (0, 0, 0_u64);
        loop {
            let quarantined = store.quarantined(from, REFUSED)?;
            let Some((last, ..)) = quarantined.last() else {
                break;
            };
            from = last + 1;
            let (mut puts, mut released) = (Vec::new(), Vec::new());
            let (mut back, mut next) = (Held::default(), self.next);
            for (number, bytes, why) in &quarantined {
                let renewed = record::renewed(bytes).filter(|_| of.includes(why));
                let Some(renewed) = renewed else {
                    continue;
                };
                if self.is_too_old(&renewed) {
                    older += 1;
                    continue;
                }
                let mut bytes = renewed.bytes;
                back.add_record(&renewed.source, bytes.len() as u64);
                record::seal(next, self.shared.folder.key(), &mut bytes);
                puts.push((next, bytes));
                released.push(*number);
                next += 1;
            }
            if released.is_empty() {
                continue;
            }
            if !self.has_room(back.bytes) {
                break;
            }
            store.commit(&Batch {
                puts: &puts,
                released: &released,
                ..Batch::default()
            })?;
            self.next = next;
            count += back.records;
            let mut state = self.shared.state();
            state.quarantined = state.quarantined.saturating_sub(back.records);
            state.here.add(&back);
            self.shared.show(&state);
            drop(state);
            self.shared.more.notify_one();
        }
        if older > 0 {
            tracing::warn!(
                records = older,
                "records in quarantine are older than max_age and stay there: drain --older brings them to Kafka"
            );
        }
        Ok(count)
    }

    /// Whether a record would wait aside.
    fn is_too_old(&self, renewed: &Renewed) -> bool {
        is_older(
            renewed.received_at,
            clock::now(),
            self.shared.settings.max_age,
        ) && !self.shared.drain_older.load(Ordering::Relaxed)
    }
}
