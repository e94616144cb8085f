//! A stream that yields to other tasks after [`READ_BUDGET`] bytes, so that no connection waits for all that
//! another one sends.
//!
//! Frames and lines may be small and many, and the protocol's library reads them for as long as there are
//! any; it reads the extension of a chunk byte by byte. This stands above TLS: TLS does not report that its
//! socket pauses while it has decrypted bytes to give.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

/// What a connection may read before it yields, in bytes.
const READ_BUDGET: u64 = 4 << 10;

/// A stream whose reading yields once after each [`READ_BUDGET`].
#[derive(Debug)]
pub struct YieldingStream<S> {
    /// What it may still bring now is its limit.
    stream: Take<S>,
}

impl<S: AsyncRead> YieldingStream<S> {
    pub fn new(stream: S) -> Self {
        let stream = stream.take(READ_BUDGET);
        Self { stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for YieldingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stream.limit() == 0 {
            self.stream.set_limit(READ_BUDGET);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            self.stream.set_limit(READ_BUDGET);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for YieldingStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Always has more to give.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let room = buffer.remaining();
            buffer.put_slice(&vec![0; room]);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn an_endless_sender_yields_to_other_tasks() {
        let turn_bytes = usize::try_from(READ_BUDGET).expect("it is small");
        for buffer_bytes in [1_024, 3_000, 65_536] {
            let mut turns = YieldingStream::new(Endless);
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let mut cx = Context::from_waker(&waker);
            let (mut came, mut bytes) = (0, vec![0; buffer_bytes]);
            for turn in 1..=8 {
                loop {
                    let mut buffer = ReadBuf::new(&mut bytes);
                    match Pin::new(&mut turns).poll_read(&mut cx, &mut buffer) {
                        Poll::Ready(read) => {
                            read.expect("it is open");
                            assert_ne!(buffer.filled().len(), 0, "it would have ended");
                            came += buffer.filled().len();
                        }
                        Poll::Pending => break,
                    }
                }
                // It comes back by itself, and not only when more is there.
                let seen = (came, woken.0.load(Ordering::Relaxed));
                assert_eq!(seen, (turn * turn_bytes, turn), "{buffer_bytes}");
            }
        }
    }
}
