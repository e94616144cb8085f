//! An incoming body: counted, and ended where it comes too slowly.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use thiserror::Error;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep};

use crate::http::hangup::Input;
use crate::token_bucket::TokenBucket;

/// For how long after its head a body may be slower than the least rate: as long as one lost packet may take.
/// A sender, or a slow network, exceeds it for its own request alone.
const RATE_GRACE: Duration = Duration::from_secs(3);

/// Why a body does not come whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unread {
    /// It came too slowly.
    #[error("the body comes too slowly")]
    Slow,
    /// Its framing is broken.
    #[error("the body is malformed")]
    Broken,
    /// Its sender ended it before it was whole.
    #[error("the body broke off")]
    Ended,
}

/// The body of a request as it comes in.
#[derive(Debug)]
pub struct Inbound {
    body: Incoming,
    /// The least bytes a second on average; 0: none.
    rate: u64,
    since: Instant,
    read: u64,
    late: Option<Pin<Box<Sleep>>>,
    account: Option<Arc<TokenBucket>>,
    counted: Arc<AtomicU64>,
    input: Arc<Input>,
    ended: Option<Pin<Box<OwnedNotified>>>,
    has_trailers: bool,
}

impl Inbound {
    /// Its time begins now. It must have `rate` bytes a second on average. `account` is charged with what
    /// comes, and `counted` grows by it; where `input` ends, the body ends.
    pub fn new(
        body: Incoming,
        rate: u64,
        account: Option<Arc<TokenBucket>>,
        counted: Arc<AtomicU64>,
        input: Arc<Input>,
    ) -> Self {
        if body.size_hint().exact().is_none() {
            input.begin_chunks();
        }
        Self {
            has_trailers: false,
            counted,
            input,
            ended: None,
            body,
            rate,
            since: Instant::now(),
            read: 0,
            late: None,
            account,
        }
    }

    /// Resolves when the body falls below its least average rate.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(millis) = (self.read.saturating_mul(1000)).checked_div(self.rate) else {
            return Poll::Pending;
        };
        let due = self.since + RATE_GRACE + Duration::from_millis(millis);
        let late = self
            .late
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if late.deadline() != due {
            late.as_mut().reset(due);
        }
        late.as_mut().poll(cx)
    }

    /// Ready once the input has ended. All bytes of the input were given to this body before.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { input, ended, .. } = self;
        let waiter = ended.get_or_insert_with(|| input.waiter());
        input.poll_ended(waiter.as_mut(), cx)
    }

    fn broken(&self, error: &hyper::Error) -> Unread {
        let reset = error
            .source()
            .and_then(|source| source.downcast_ref::<h2::Error>())
            .is_some_and(|error| error.is_reset() && error.is_remote());
        if reset || self.input.has_ended() {
            Unread::Ended
        } else {
            Unread::Broken
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Unread;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unread>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() && self.poll_ended(cx).is_ready() {
            // The last chunks may have come between the two polls.
            polled = Pin::new(&mut self.body).poll_frame(cx);
            if polled.is_pending() {
                return Poll::Ready(Some(Err(Unread::Ended)));
            }
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.has_trailers |= frame.is_trailers();
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.read += length as u64;
                self.counted.fetch_add(length as u64, Ordering::Relaxed);
                if let Some(account) = &self.account {
                    account.charge(length, Instant::now().into_std());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.broken(&error)))),
            Poll::Ready(None) => {
                if !self.has_trailers {
                    self.input.end_chunks();
                }
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_late(cx).map(|()| Some(Err(Unread::Slow))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
