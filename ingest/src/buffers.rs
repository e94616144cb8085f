//! The right to hold bytes of bodies: of all that may be held, and of what one source may hold; and a
//! body that is gathered under it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit a byte. How many there may be can change while some are out.
#[derive(Debug)]
pub struct Buffers {
    permits: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    /// As many permits are there or out.
    is: usize,
    /// As many there shall be: fewer, until enough came back.
    wanted: usize,
}

impl Buffers {
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
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        size.wanted = bytes;
        self.settle(&mut size);
    }

    /// The right to hold so many bytes more, where there is room.
    pub fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        {
            let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
            self.settle(&mut size);
        }
        Arc::clone(&self.permits).try_acquire_many_owned(bytes).ok()
    }

    /// The bytes that are held now.
    pub fn held(&self) -> usize {
        let size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub fn take(all: &Buffers, source: &Arc<Semaphore>, bytes: usize) -> Result<Self, Full> {
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

/// The memory that a body takes as it grows, in bytes; past the last, all that it may need. A sender who
/// announces much and sends little costs little. Each step is new memory, which the system has to clear.
const STEPS: [usize; 2] = [16 << 10, 64 << 10];

/// A body as it comes, which never takes more memory than it has the right to.
#[derive(Debug)]
pub struct Gathered {
    permit: Permit,
    /// Most bodies come in one part, which is then the body and is not copied.
    whole: Bytes,
    parts: Vec<u8>,
    /// It will not be longer.
    most: usize,
}

impl Gathered {
    /// With the right to hold what is announced of it. `most`: its length, or what that may be.
    pub fn new(permit: Permit, most: usize) -> Self {
        Self {
            permit,
            whole: Bytes::new(),
            parts: Vec::new(),
            most,
        }
    }

    /// How much of it is here, in bytes.
    pub fn length(&self) -> usize {
        self.whole.len() + self.parts.len()
    }

    /// Takes the next part. `more` gives the right to hold so many bytes more.
    pub fn push<E>(
        &mut self,
        part: Bytes,
        more: impl FnOnce(usize) -> Result<Permit, E>,
    ) -> Result<(), E> {
        let length = self.length() + part.len();
        let alone = self.length() == 0;
        let room = if alone { length } else { self.room(length) };
        if room > self.permit.bytes() {
            self.permit.merge(more(room - self.permit.bytes())?);
        }
        if alone {
            self.whole = part;
            return Ok(());
        }
        self.parts.reserve_exact(room - self.parts.len());
        if !self.whole.is_empty() {
            self.parts
                .extend_from_slice(&std::mem::take(&mut self.whole));
        }
        self.parts.extend_from_slice(&part);
        Ok(())
    }

    /// The memory for so many bytes.
    fn room(&self, length: usize) -> usize {
        let now = self.parts.capacity();
        if length <= now {
            return now;
        }
        let step = STEPS.into_iter().find(|step| length <= *step);
        length.max(step.unwrap_or(self.most).min(self.most))
    }

    /// All of it, and the right to hold it.
    pub fn whole(self) -> (Bytes, Permit) {
        let body = if self.parts.is_empty() {
            self.whole
        } else {
            self.parts.into()
        };
        (body, self.permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gathers `sizes`, of which so many bytes are announced; what was held at the end.
    fn gather(announced: usize, most: usize, sizes: &[usize]) -> usize {
        let (all, source) = (Buffers::new(1 << 30), Arc::new(Semaphore::new(1 << 30)));
        let permit = |bytes| Permit::take(&all, &source, bytes);
        let mut gathered = Gathered::new(permit(announced).expect("room"), most);
        let mut expected = Vec::new();
        for (size, fill) in sizes.iter().zip((0..=255).cycle()) {
            let part = vec![fill; *size];
            expected.extend_from_slice(&part);
            gathered.push(part.into(), permit).expect("room");
            let taken = gathered.whole.len() + gathered.parts.capacity();
            assert!(taken <= gathered.permit.bytes(), "{taken}");
            assert_eq!(gathered.permit.bytes(), all.held());
        }
        assert_eq!(gathered.length(), expected.len());
        let held = all.held();
        let (body, permit) = gathered.whole();
        assert_eq!(body, expected);
        drop(permit);
        assert_eq!(all.held(), 0);
        held
    }

    #[test]
    fn a_body_takes_no_more_memory_than_it_has_the_right_to() {
        // In chunks, of which nobody knows how many come.
        for (sizes, held) in [
            (&[][..], 0),
            (&[5], 5),
            (&[1 << 20], 1 << 20),
            (&[5, 5], 16 << 10),
            (&[4_096; 5], 64 << 10),
            (&[4_096; 17], 1 << 20),
            (&[0, 5, 0, 1 << 19, 1 << 18], 1 << 20),
            (&[9; 2_000], 64 << 10),
        ] {
            assert_eq!(gather(0, 1 << 20, sizes), held);
        }
        // As announced, and not a byte more.
        assert_eq!(gather(300_000, 300_000, &[3_000; 100]), 300_000);
        assert_eq!(gather(3_000, 3_000, &[1_000; 3]), 3_000);
    }

    #[test]
    fn a_body_without_room_is_not_held() {
        let (all, source) = (Buffers::new(100), Arc::new(Semaphore::new(1_000)));
        let permit = |bytes| Permit::take(&all, &source, bytes);
        let mut gathered = Gathered::new(permit(0).expect("room"), 1_000);
        gathered.push(vec![1; 80].into(), permit).expect("room");
        let refused = gathered.push(vec![1; 80].into(), permit);
        assert_eq!(refused.err(), Some(Full::All));
        assert_eq!((gathered.length(), all.held()), (80, 80));
    }

    #[test]
    fn fewer_bytes_are_owed_until_they_come_back() {
        let buffers = Buffers::new(100);
        let held = buffers.take(80).expect("room");
        buffers.resize(50);
        assert_eq!(buffers.held(), 80);
        assert!(buffers.take(1).is_none());
        drop(held);
        assert!(buffers.take(51).is_none());
        let held = buffers.take(50).expect("room");
        buffers.resize(60);
        assert!(buffers.take(11).is_none());
        assert!(buffers.take(10).is_some());
        drop(held);
        assert_eq!(buffers.held(), 0);
    }
}
