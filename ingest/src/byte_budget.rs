//! The right to hold bytes of bodies: of all that may be held, and of what one source may hold.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit a byte. How many there may be can change while some are out.
#[derive(Debug)]
pub struct ByteBudget {
    permits: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    /// As many permits are there or out.
    is: usize,
    /// As many there must be: fewer than there are, until enough came back.
    wanted: usize,
}

impl ByteBudget {
    /// For so many bytes.
    pub fn new(bytes: usize) -> Self {
        let (is, wanted) = (bytes, bytes);
        Self {
            permits: Arc::new(Semaphore::new(bytes)),
            size: Mutex::new(Size { is, wanted }),
        }
    }

    /// From now on for so many bytes. What is held beyond that is not taken back.
    pub fn resize(&self, bytes: usize) {
        let mut size = self.size.lock();
        size.wanted = bytes;
        self.settle(&mut size);
    }

    /// The right to hold so many bytes more, where there is room.
    pub fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        {
            let mut size = self.size.lock();
            self.settle(&mut size);
        }
        Arc::clone(&self.permits).try_acquire_many_owned(bytes).ok()
    }

    /// The bytes that are held now.
    pub fn held(&self) -> usize {
        let size = self.size.lock();
        size.is.saturating_sub(self.permits.available_permits())
    }

    fn settle(&self, size: &mut Size) {
        if size.is > size.wanted {
            size.is -= self.permits.forget_permits(size.is - size.wanted);
        } else if size.is < size.wanted {
            self.permits.add_permits(size.wanted - size.is);
            size.is = size.wanted;
        }
    }
}

/// The right to hold so many bytes, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    all: OwnedSemaphorePermit,
    source: OwnedSemaphorePermit,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// As much is held as may be in all.
    All,
    /// This source holds as much as one may.
    Source,
}

impl Permit {
    /// For so many bytes of both.
    pub fn take(all: &ByteBudget, source: &Arc<Semaphore>, bytes: usize) -> Result<Self, Full> {
        let count = u32::try_from(bytes).map_err(|_| Full::All)?;
        let source = Arc::clone(source).try_acquire_many_owned(count);
        let source = source.map_err(|_| Full::Source)?;
        let all = all.take(bytes).ok_or(Full::All)?;
        Ok(Self { all, source })
    }

    /// As many bytes as may be held.
    pub fn bytes(&self) -> usize {
        self.all.num_permits()
    }

    /// Makes one of two that were taken of the same.
    pub fn merge(&mut self, other: Self) {
        self.all.merge(other.all);
        self.source.merge(other.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_budget_holds_once_permits_come_back() {
        let budget = ByteBudget::new(100);
        let held = budget.take(80).expect("room");
        budget.resize(50);
        assert_eq!(budget.held(), 80);
        assert!(budget.take(1).is_none());
        drop(held);
        assert!(budget.take(51).is_none());
        let held = budget.take(50).expect("room");
        budget.resize(60);
        assert!(budget.take(11).is_none());
        assert!(budget.take(10).is_some());
        drop(held);
        assert_eq!(budget.held(), 0);
    }
}
