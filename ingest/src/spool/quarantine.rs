//! What the operator can do with the quarantine: look at it, and bring it to Kafka after all.

use tokio::sync::oneshot;

use super::Spool;
use super::store::{Quarantined, StoreError};
use super::types::{Command, Released};

impl Spool {
    /// Makes records again of what is in quarantine and can be read; how many. To be called when nothing
    /// else is here and nothing comes.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn release(&self, of: Released) -> Result<u64, String> {
        // What the files of earlier processes have in quarantine moves to this one's, once they are found
        // empty.
        self.read(0, 1, 1).map_err(|error| error.to_string())?;
        for _ in 0..2 {
            let _ = self.remove(Vec::new(), None).await;
        }
        let (done, count) = oneshot::channel();
        self.send(Command::Release { released: of, done });
        count.await.unwrap_or(Ok(0))
    }

    /// What is in quarantine: each record's number, its bytes, and why. Blocks for the disk.
    ///
    /// # Errors
    /// Where a store cannot be read.
    pub fn quarantine(&self, each: &mut dyn FnMut(&Quarantined)) -> Result<(), StoreError> {
        for file in self.shared.to_drain(0) {
            let Some(store) = self.shared.open(file)? else {
                continue;
            };
            let mut from = 0;
            loop {
                let found = store.quarantined(from, 1)?;
                let Some(one) = found.first() else {
                    break;
                };
                from = one.0 + 1;
                each(one);
            }
        }
        Ok(())
    }
}
