//! The byte budget: permits to hold bytes of heads and bodies, of all that may be held and of one source's
//! share.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More than the largest head holds, which has 64 KiB in 100 headers. So much is there in addition to the
/// largest body, so that one request always fits.
pub const LARGEST_HEAD: usize = 80 << 10;

/// What the heads of an HTTP/2 connection may take for each of its streams: one of 4 KiB in 20 headers, with
/// what is added to it. A sender exceeds it for its own connection alone: 503. It writes a header once and
/// refers to it from then on, so that heads take far more than it sends.
const H2_HEAD: usize = 8 << 10;

/// One permit a byte of the heads of an HTTP/2 connection with so many streams. One request always fits.
pub fn heads(streams: u32) -> Arc<Semaphore> {
    let streams = usize::try_from(streams).unwrap_or(usize::MAX);
    let most = streams.saturating_mul(H2_HEAD).max(LARGEST_HEAD);
    Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
}

/// A share of some bytes.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is not exact to the byte, and a negative one there is not"
)]
pub fn share_of(bytes: u64, share: f64) -> u64 {
    (bytes as f64 * share) as u64
}

/// One permit a byte. The budget can change while permits are out.
#[derive(Debug)]
pub struct ByteBudget {
    permits: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    /// Permits that are available or out.
    is: usize,
    /// The budget: less than `is`, until enough permits came back.
    wanted: usize,
}

impl ByteBudget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        let (is, wanted) = (bytes, bytes);
        Self {
            permits: Arc::new(Semaphore::new(bytes)),
            size: Mutex::new(Size { is, wanted }),
        }
    }

    /// Changes the budget. Permits that are out stay valid.
    pub fn resize(&self, bytes: usize) {
        let mut size = self.size.lock();
        size.wanted = bytes;
        self.settle(&mut size);
    }

    /// The budget.
    pub fn size(&self) -> usize {
        self.size.lock().wanted
    }

    /// A permit for so many bytes, where there is room.
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

/// A permit to hold so many bytes, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    all: OwnedSemaphorePermit,
    source: OwnedSemaphorePermit,
    /// Of what the heads of its connection may take.
    heads: Option<OwnedSemaphorePermit>,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The budget of all sources is used up.
    All,
    /// The source's share is used up.
    Source,
    /// The heads of the HTTP/2 connection take what they may.
    Connection,
}

impl Permit {
    /// A permit for so many bytes of both budgets.
    pub fn take(all: &ByteBudget, source: &ByteBudget, bytes: usize) -> Result<Self, Full> {
        let source = source.take(bytes).ok_or(Full::Source)?;
        let all = all.take(bytes).ok_or(Full::All)?;
        let heads = None;
        Ok(Self { all, source, heads })
    }

    /// Takes what the head has from its connection's bound too.
    pub fn of_connection(mut self, heads: &Arc<Semaphore>, head: usize) -> Result<Self, Full> {
        let count = u32::try_from(head).map_err(|_| Full::Connection)?;
        let heads = Arc::clone(heads).try_acquire_many_owned(count);
        self.heads = Some(heads.map_err(|_| Full::Connection)?);
        Ok(self)
    }

    /// The bytes that may be held.
    pub fn bytes(&self) -> usize {
        self.all.num_permits()
    }

    /// Merges two permits of the same budgets.
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
