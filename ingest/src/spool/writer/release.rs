//! Records that leave the quarantine.

use super::super::held::Held;
use super::super::record;
use super::super::store::{Batch, StoreError};
use super::{REFUSED, Writer};

impl Writer {
    /// Makes records again of what is in this process's quarantine, behind all others: how many. What cannot
    /// be read stays there.
    pub(super) fn release(&mut self) -> Result<u64, StoreError> {
        let Some(store) = self.shared.store(self.shared.live) else {
            return Err(StoreError::InUse);
        };
        let (mut from, mut count) = (0, 0);
        loop {
            let quarantined = store.quarantined(from, REFUSED)?;
            let Some((last, ..)) = quarantined.last() else {
                return Ok(count);
            };
            from = last + 1;
            let (mut puts, mut released) = (Vec::new(), Vec::new());
            let (mut back, mut next) = (Held::default(), self.next);
            for (number, bytes, _) in &quarantined {
                let Some((source, mut bytes)) = record::renewed(bytes) else {
                    continue;
                };
                back.add_record(&source, bytes.len() as u64);
                record::seal(next, self.shared.folder.key(), &mut bytes);
                puts.push((next, bytes));
                released.push(*number);
                next += 1;
            }
            if !self.has_room(back.bytes) {
                return Ok(count);
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
    }
}
