//! Gathers a body in memory under a permit, or discards it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;

use crate::byte_budget::Permit;

/// The most chunks of a body of up to 16 MiB: each takes hyper some half a microsecond, even where it has one
/// byte. A sender exceeds it for its own request alone, with chunks of less than 64 bytes in a body of 1 MiB.
pub const MAX_CHUNKS: usize = 16_384;

/// What the chunks of a larger body must have on average, in bytes. Without a chunked coding a chunk is what
/// one read of the socket brings, so that this is less than one packet.
const MEAN_CHUNK: usize = 1 << 10;

/// The most chunks of a body of at most so many bytes.
pub fn max_chunks(max_body: usize) -> usize {
    MAX_CHUNKS.max(max_body / MEAN_CHUNK)
}

/// What is read and discarded of a refused body, at most: a sender that is still writing when the connection
/// closes may never see its answer. A sender exceeds it for its own request alone.
const DISCARD_BYTES: usize = 4 << 20;

/// The longest time for which a refused body is read. As [`DISCARD_BYTES`].
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// That time over HTTP/2 where memory is short: round trips enough for what is on its way, which would else
/// meet a stream that h2 has forgotten, and end its connection.
const DISCARD_TIME_FULL: Duration = Duration::from_millis(300);

/// The least memory that a body of several chunks takes, in bytes. As it fills, twice what has come, whatever
/// is announced: a sender holds no more than twice what it sends.
const LEAST_ROOM: usize = 1 << 10;

/// A first chunk of less is copied, in bytes: it keeps the buffer that the socket was read into, which has up
/// to 64 KiB and for which no permit is held.
const SMALL: usize = 8 << 10;

/// A body as it comes, which never takes more memory than its permit.
#[derive(Debug)]
pub struct BodyBuffer {
    permit: Permit,
    /// What of the permit is not for the body.
    other: usize,
    /// Most bodies come in one chunk, which is then the body, and not copied unless it is [`SMALL`].
    whole: Bytes,
    parts: Vec<u8>,
    /// The largest length that it can have.
    most: usize,
}

impl BodyBuffer {
    /// An empty buffer, whose permit is merged with that of the rest of the request. `most`: the largest
    /// length.
    pub fn new(permit: Permit, most: usize) -> Self {
        Self {
            other: permit.bytes(),
            permit,
            whole: Bytes::new(),
            parts: Vec::new(),
            most,
        }
    }

    /// The bytes gathered so far.
    pub fn length(&self) -> usize {
        self.whole.len() + self.parts.len()
    }

    /// Appends the next chunk. `more` returns a permit for so many bytes more.
    pub fn push<E>(
        &mut self,
        part: Bytes,
        more: impl FnOnce(usize) -> Result<Permit, E>,
    ) -> Result<(), E> {
        let length = self.length() + part.len();
        let alone = self.length() == 0;
        let room = if alone { length } else { self.room(length) };
        let permitted = self.permit.bytes() - self.other;
        if room > permitted {
            self.permit.merge(more(room - permitted)?);
        }
        if alone {
            self.whole = if part.len() < SMALL {
                Bytes::copy_from_slice(&part)
            } else {
                part
            };
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

    /// The memory to reserve for so many bytes.
    fn room(&self, length: usize) -> usize {
        let now = self.parts.capacity();
        if length <= now {
            return now;
        }
        let room = length.saturating_mul(2).max(LEAST_ROOM);
        length.max(room.min(self.most))
    }

    /// The whole body, and its permit.
    pub fn into_body(self) -> (Bytes, Permit) {
        let body = if self.parts.is_empty() {
            self.whole
        } else {
            self.parts.into()
        };
        (body, self.permit)
    }
}

/// Reads on, within bounds, so that the answer arrives: the connection is closed after it. `briefly`: memory
/// is short, and an HTTP/2 stream need not be open until its answer is seen.
pub async fn discard(mut body: impl Body<Data = Bytes> + Unpin, briefly: bool) {
    let time = if briefly {
        DISCARD_TIME_FULL
    } else {
        DISCARD_TIME
    };
    let reading = async {
        let mut rest = DISCARD_BYTES;
        for _ in 0..MAX_CHUNKS {
            let Some(Ok(frame)) = body.frame().await else {
                return;
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            match rest.checked_sub(length) {
                Some(left) => rest = left,
                None => return,
            }
        }
    };
    // Within the time or not, reading ends here.
    let _ = tokio::time::timeout(time, reading).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;
    use crate::byte_budget::{ByteBudget, Full};

    /// Gathers `sizes`, of `most` bytes in all at the most; what was held at the end.
    fn gather(most: usize, sizes: &[usize]) -> usize {
        const HEAD: usize = 700;
        let (all, source) = (ByteBudget::new(1 << 30), ByteBudget::new(1 << 30));
        let permit = |bytes| Permit::take(&all, &source, bytes);
        let mut buffer = BodyBuffer::new(permit(HEAD).expect("room"), most);
        let mut expected = Vec::new();
        for (size, fill) in sizes.iter().zip((0..=255).cycle()) {
            let part = vec![fill; *size];
            expected.extend_from_slice(&part);
            buffer.push(part.into(), permit).expect("room");
            let taken = buffer.whole.len() + buffer.parts.capacity();
            let held = all.held() - HEAD;
            assert!(taken <= held, "{taken} of {held}");
            assert!(held <= LEAST_ROOM.max(2 * expected.len()), "{held}");
        }
        assert_eq!(buffer.length(), expected.len());
        let held = all.held() - HEAD;
        let (body, permit) = buffer.into_body();
        assert_eq!(body, expected);
        drop(permit);
        assert_eq!(all.held(), 0);
        held
    }

    #[test]
    fn a_body_holds_no_more_memory_than_its_permit_and_twice_what_came() {
        for (sizes, held) in [
            (&[][..], 0),
            (&[5], 5),
            (&[1 << 20], 1 << 20),
            (&[5, 5], 1 << 10),
            (&[4_096; 5], 40 << 10),
            (&[4_096; 17], 88 << 10),
            (&[0, 5, 0, 1 << 19, 1 << 18], 1 << 20),
            (&[9; 2_000], 33_102),
        ] {
            assert_eq!(gather(1 << 20, sizes), held);
        }
        // As announced, and not a byte more.
        assert_eq!(gather(300_000, &[3_000; 100]), 300_000);
        assert_eq!(gather(3_000, &[1_000; 3]), 3_000);
    }

    #[test]
    fn a_chunk_without_a_permit_is_not_held() {
        let (all, source) = (ByteBudget::new(100), ByteBudget::new(1_000));
        let permit = |bytes| Permit::take(&all, &source, bytes);
        let mut buffer = BodyBuffer::new(permit(0).expect("room"), 1_000);
        buffer.push(vec![1; 80].into(), permit).expect("room");
        let refused = buffer.push(vec![1; 80].into(), permit);
        assert_eq!(refused.err(), Some(Full::All));
        assert_eq!((buffer.length(), all.held()), (80, 80));
    }

    #[test]
    fn a_small_chunk_keeps_no_large_buffer() {
        let (all, source) = (ByteBudget::new(100), ByteBudget::new(100));
        let permit = |bytes| Permit::take(&all, &source, bytes);
        let mut buffer = BodyBuffer::new(permit(0).expect("room"), 1_000);
        let read = Bytes::from(vec![1; 64 << 10]);
        buffer.push(read.slice(..5), permit).expect("room");
        assert!(read.is_unique(), "the buffer of the socket is kept");
        assert_eq!(buffer.into_body().0, [1; 5].as_slice());
    }

    /// A body that does not end, in chunks of this size, and how many of them were read.
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

    #[tokio::test]
    async fn discarded_bytes_and_chunks_are_bounded() {
        // As many chunks of each size are read of a body that does not end.
        for (size, expected) in [
            (8192, DISCARD_BYTES / 8192 + 1),
            (1, MAX_CHUNKS),
            (0, MAX_CHUNKS),
        ] {
            let mut read = 0;
            discard(Endless(size, &mut read), false).await;
            assert_eq!(read, expected, "chunks of {size} bytes");
        }
    }
}
