//! Senders that hang up: a request that came whole before the end of a connection is served.
//!
//! Over HTTP/1.1, hyper serves a request to its end when the other side is half-closed (`half_close`).
//! Over HTTP/2, h2 breaks off every stream at the end of its input and at a failed write, so [`HangUp`]
//! keeps both from it while streams are served.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use hyper::rt::Executor;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Whether a connection's input has ended, shared by the connection and its requests.
#[derive(Debug, Default)]
pub struct Input {
    ended: AtomicBool,
    /// Over HTTP/1.1, the last body came in chunks and has not ended, or has ended with trailers.
    chunks: AtomicBool,
    /// Notified at the end, for bodies that wait for more.
    end: Arc<Notify>,
    streams: Mutex<Streams>,
}

/// The streams of an HTTP/2 connection.
#[derive(Debug, Default)]
struct Streams {
    /// Streams served now: from the request until h2 has the answer.
    open: usize,
    /// All streams so far.
    begun: u64,
    /// The task that reads the connection, while the end is kept from it.
    reader: Option<Waker>,
}

impl Input {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock()
    }

    /// Whether no more comes. All that came before was then read by the protocol's library.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A body begins whose end is in its chunks.
    pub fn begin_chunks(&self) {
        self.chunks.store(true, Ordering::Relaxed);
    }

    /// It has ended, without trailers.
    pub fn end_chunks(&self) {
        self.chunks.store(false, Ordering::Relaxed);
    }

    /// Whether another server may see the end of the last body elsewhere: hyper ends trailers at an empty
    /// line that CR LF ends, others at one that LF ends. What stands behind them may be a part of a body
    /// there, and a request here. For HTTP/1.1 alone.
    pub fn has_two_ends(&self) -> bool {
        self.chunks.load(Ordering::Relaxed)
    }

    /// For [`Input::poll_ended`], one for each body that waits.
    pub fn waiter(&self) -> Pin<Box<OwnedNotified>> {
        Box::pin(Arc::clone(&self.end).notified_owned())
    }

    /// Ready once no more comes.
    pub fn poll_ended(&self, waiter: Pin<&mut OwnedNotified>, cx: &mut Context<'_>) -> Poll<()> {
        // The waiter was made before this look, so that an end after it is not failure.
        if self.has_ended() {
            return Poll::Ready(());
        }
        waiter.poll(cx)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.end.notify_waiters();
    }
}

/// Runs the streams of an HTTP/2 connection, and counts them.
#[derive(Debug, Clone)]
pub struct Spawn(pub Arc<Input>);

impl<F> Executor<F> for Spawn
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut streams = self.0.streams();
        streams.open += 1;
        streams.begun += 1;
        drop(streams);
        let open = Open(Arc::clone(&self.0));
        tokio::spawn(async move {
            stream.await;
            drop(open);
        });
    }
}

/// A stream that counts until it is dropped.
struct Open(Arc<Input>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut streams = self.0.streams();
        streams.open -= 1;
        if streams.open == 0
            && let Some(reader) = streams.reader.take()
        {
            reader.wake();
        }
    }
}

/// A stream that reports its end when no HTTP/2 stream is served any more. After a failed write, further
/// writes are discarded and reading goes on: what the other end sent before it closed can still be read,
/// and reading then ends too.
#[derive(Debug)]
pub struct HangUp<S> {
    stream: S,
    input: Arc<Input>,
    /// How the input ended, until that is reported.
    end: Option<io::Result<()>>,
    /// The number of all streams when the end was last asked for and not reported.
    looked: Option<u64>,
    /// A write failed, so that the other end takes nothing any more.
    gone: bool,
}

impl<S> HangUp<S> {
    /// The end of `stream` is set in `input`.
    pub fn new(stream: S, input: Arc<Input>) -> Self {
        Self {
            stream,
            input,
            end: None,
            looked: None,
            gone: false,
        }
    }

    /// Reports the end when no stream is served and none has begun since the last call. The second call is
    /// needed because h2 reads all input before it begins a stream, and writes answers after it has read.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut streams = self.input.streams();
        if streams.open > 0 {
            streams.reader = Some(cx.waker().clone());
            self.looked = None;
            return Poll::Pending;
        }
        if self.looked != Some(streams.begun) {
            self.looked = Some(streams.begun);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.end.take().unwrap_or(Ok(())))
    }

    /// Takes a failed write of so many bytes for done.
    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(_)) => {
                self.gone = true;
                Poll::Ready(Ok(length))
            }
            other => other,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HangUp<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.input.has_ended() {
            let before = buffer.filled().len();
            let wanted = buffer.remaining() > 0;
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
            if read.is_ok() && (buffer.filled().len() > before || !wanted) {
                return Poll::Ready(Ok(()));
            }
            self.end = Some(read);
            self.input.end();
        }
        self.poll_end(cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HangUp<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.gone {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        if self.gone {
            return Poll::Ready(Ok(length));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.written(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gone && ready!(Pin::new(&mut self.stream).poll_flush(cx)).is_err() {
            self.gone = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
