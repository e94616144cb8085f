//! A connection's socket: its bytes are reported, and it is read no faster than its peer may send.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::activity::Activity;
use crate::token_bucket::TokenBucket;

/// A connection's socket, which reports its bytes and reads no faster than its peer may send.
#[derive(Debug)]
pub struct Socket<S = TcpStream> {
    stream: S,
    activity: Arc<Activity>,
    account: Option<Arc<TokenBucket>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    /// `account` is charged with what comes, and reading waits for what it owes.
    pub fn new(stream: S, activity: Arc<Activity>, account: Option<Arc<TokenBucket>>) -> Self {
        Self {
            stream,
            activity,
            account,
            pause: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            self.activity.read(bytes);
            let now = Instant::now();
            let wait = self.account.as_ref().map_or(Duration::ZERO, |account| {
                account.charge(bytes.len(), now.into_std())
            });
            if !wait.is_zero() {
                self.pause = Some(Box::pin(tokio::time::sleep(wait)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        // A sender that reads a byte now and then is stalled all the same.
        self.activity.wrote(wrote_all(&written, bytes.len()));
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.activity.wrote(wrote_all(&written, length));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether the other end took all that there was to send. A failed write is not waited for.
fn wrote_all(written: &Poll<io::Result<usize>>, length: usize) -> bool {
    match written {
        Poll::Ready(Ok(count)) => *count == length,
        Poll::Ready(Err(_)) => true,
        Poll::Pending => false,
    }
}
