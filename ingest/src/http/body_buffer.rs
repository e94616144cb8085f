//! A body on its way into memory, or out of the way: gathered under the right to hold it, at a pace that
//! leaves the others theirs.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;

use crate::byte_budget::Permit;
use crate::token_bucket::Bucket;

/// What is read and thrown away of a body that is refused, at most: a sender that is still writing
/// when the connection closes may never see its answer.
const DISCARD_BYTES: usize = 4 << 20;

/// For how long at most.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// What is thrown away of all refused bodies together, in bytes a second: reading it is the least of
/// what there is to do.
const DISCARD_RATE: u64 = 32 << 20;

/// So much of it at once after a quiet time, in bytes: some milliseconds' work, which others wait for.
const DISCARD_BURST: u64 = 1 << 20;

/// Parts of bodies that are looked at a second, of all that are crumbs: each takes some half a microsecond,
/// even where it brings a byte.
const PARTS_RATE: u64 = 200_000;

/// So many of them at once after a quiet time.
const PARTS_BURST: u64 = 10_000;

/// So many parts of a body are reckoned together; most bodies have one, and never come to that.
const PARTS_TOGETHER: usize = 64;

/// What a part must bring on average, in bytes, to be no crumb: whoever sends that is bounded by his bytes.
const PART_WORTH: usize = 256;

/// What it costs to throw away a part besides its bytes, in bytes.
const PART_BYTES: usize = 16;

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

/// What is done in all for bodies that are more work than they are worth.
#[derive(Debug)]
pub struct Work {
    /// In bytes.
    discarded: Bucket,
    parts: Bucket,
}

impl Work {
    /// Nothing was done yet.
    pub fn new(now: Instant) -> Self {
        Self {
            discarded: Bucket::new(DISCARD_RATE, DISCARD_BURST, now),
            parts: Bucket::new(PARTS_RATE, PARTS_BURST, now),
        }
    }

    /// Reads on, within bounds, so that the answer arrives.
    pub async fn discard(&self, mut body: impl Body<Data = Bytes> + Unpin) {
        let reading = async {
            let mut left = DISCARD_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len) + PART_BYTES;
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
                pause(self.discarded.charge(length, Instant::now())).await;
            }
        };
        // Either way the connection is closed behind the answer.
        let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
    }

    /// Counts a part of a body, of so many bytes. Where many brought little, they are charged, and the next
    /// waits for what all such bodies owe.
    pub async fn after_part(&self, parts: &mut Parts, bytes: usize) {
        parts.count += 1;
        parts.bytes += bytes;
        if parts.count < PARTS_TOGETHER {
            return;
        }
        let crumbs = parts.bytes < parts.count * PART_WORTH;
        *parts = Parts::default();
        if crumbs {
            pause(self.parts.charge(PARTS_TOGETHER, Instant::now())).await;
        }
    }
}

/// The parts of a body that came since they were last reckoned.
#[derive(Debug, Default)]
pub struct Parts {
    count: usize,
    bytes: usize,
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use hyper::body::Frame;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::byte_budget::{Buffers, Full};

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

    /// A body that does not end, in parts of so many bytes, and how many of them were read.
    struct Endless<'a>(usize, &'a mut usize);

    impl Body for Endless<'_> {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let part = Bytes::from_static(&[0; 8192]).slice(..self.0);
            *self.1 += 1;
            Poll::Ready(Some(Ok(Frame::data(part))))
        }
    }

    /// Goes on until it has to wait.
    fn until_it_waits(what: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let mut what = std::pin::pin!(what);
        runtime.block_on(std::future::poll_fn(|cx| {
            let _ = what.as_mut().poll(cx);
            Poll::Ready(())
        }));
    }

    /// How many parts of an endless body are thrown away until that has to wait.
    fn discarded(size: usize, work: &Work) -> usize {
        let mut read = 0;
        until_it_waits(work.discard(Endless(size, &mut read)));
        read
    }

    /// So many bytes may be thrown away, and so many parts looked at, and then one a second.
    fn work(bytes: u64, parts: u64) -> Work {
        let now = Instant::now();
        Work {
            discarded: Bucket::new(1, bytes, now),
            parts: Bucket::new(1, parts, now),
        }
    }

    #[test]
    fn what_is_thrown_away_is_bounded_for_one_and_for_all() {
        let bytes = discarded(8192, &work(1 << 40, 0)) * (8192 + PART_BYTES);
        let bound = DISCARD_BYTES..DISCARD_BYTES + 16_384;
        assert!(bound.contains(&bytes), "{bytes}");
        // The second finds nothing left by the first.
        let tight = work(1 << 20, 0);
        assert_eq!([8192; 2].map(|size| discarded(size, &tight)), [128, 1]);
    }

    #[test]
    fn a_part_is_thrown_away_for_more_than_its_bytes() {
        let parts = discarded(1, &work(1 << 20, 0));
        assert_eq!(parts, (1 << 20) / (1 + PART_BYTES) + 1);
    }

    #[test]
    fn bodies_in_crumbs_wait_for_one_another_and_others_do_not() {
        const MANY: usize = 10_000;
        let tight = work(0, 640);
        // How many parts of so many bytes are looked at until the next has to wait.
        let looked_at = |bytes, most: usize| {
            let (mut parts, mut count) = (Parts::default(), 0);
            until_it_waits(async {
                while count < most {
                    count += 1;
                    tight.after_part(&mut parts, bytes).await;
                }
            });
            count
        };
        assert_eq!(looked_at(1, MANY), 704);
        assert_eq!(looked_at(PART_WORTH - 1, MANY), PARTS_TOGETHER);
        // Neither who brings enough nor who has few is charged.
        assert_eq!(looked_at(PART_WORTH, MANY), MANY);
        assert_eq!(looked_at(1, PARTS_TOGETHER - 1), PARTS_TOGETHER - 1);
    }
}
