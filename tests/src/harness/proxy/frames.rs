//! Kafka's frames in a stream of bytes: where each begins, and which request it is of.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};

use super::traps::Side;

/// A broker takes no request beyond 100 MiB (its `socket.request.max.bytes`), so a larger length is
/// no length: the stream is something else.
const LARGEST: usize = 100 * 1024 * 1024;

/// Requests whose replies are not seen yet. A client has a few in flight; those that get no reply at
/// all (`acks=0`) leave when a later one is answered.
const UNANSWERED: usize = 10_000;

/// Length, key and version of the API, correlation id.
const REQUEST_HEAD: usize = 12;

/// Length, correlation id.
const REPLY_HEAD: usize = 8;

/// The requests of one connection that are not answered yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<VecDeque<(i32, i16)>>);

impl Unanswered {
    fn ask(&self, correlation: i32, api: i16) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() == UNANSWERED {
            asked.pop_front();
        }
        asked.push_back((correlation, api));
    }

    /// What is answered by this reply. A broker answers in order, so what was asked before it gets no
    /// answer any more.
    fn answer(&self, correlation: i32) -> Option<i16> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = asked.iter().position(|(found, _)| *found == correlation)?;
        asked.drain(..=at).next_back().map(|(_, api)| api)
    }
}

/// A run of bytes that belongs together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub bytes: Bytes,
    /// Where these bytes begin a frame: the key of its API.
    pub api: Option<i16>,
}

/// One direction of a connection, as far as it was read.
#[derive(Debug)]
pub(super) struct Frames {
    side: Side,
    unanswered: Arc<Unanswered>,
    /// The head of a frame, not complete yet.
    head: Vec<u8>,
    /// Bytes of the current frame that are still to come.
    left: usize,
    /// It was not understood once; from then on nothing is read out of it.
    plain: bool,
}

impl Frames {
    pub fn new(side: Side, unanswered: Arc<Unanswered>) -> Self {
        Self {
            side,
            unanswered,
            head: Vec::with_capacity(REQUEST_HEAD),
            left: 0,
            plain: false,
        }
    }

    /// Takes the next piece off what was read; `None` when more must be read first.
    pub fn next(&mut self, input: &mut Bytes) -> Option<Piece> {
        if input.is_empty() {
            return None;
        }
        if self.plain || self.left > 0 {
            let n = if self.plain {
                input.len()
            } else {
                self.left.min(input.len())
            };
            self.left = self.left.saturating_sub(n);
            return Some(Piece {
                bytes: input.split_to(n),
                api: None,
            });
        }
        let whole = match self.side {
            Side::Request => REQUEST_HEAD,
            Side::Reply => REPLY_HEAD,
        };
        let n = (whole - self.head.len()).min(input.len());
        self.head.extend_from_slice(&input.split_to(n));
        let mut head = self.head.as_slice();
        // A length that cannot be is found before a whole head is there: it may be all that comes.
        let length = head.try_get_i32().ok()?;
        let Some(length) = usize::try_from(length)
            .ok()
            .filter(|length| (whole - size_of::<i32>()..=LARGEST).contains(length))
        else {
            self.plain = true;
            return Some(self.take_head(None));
        };
        if self.head.len() < whole {
            return None;
        }
        let api = self.api(head);
        self.plain = api.is_none();
        self.left = length + size_of::<i32>() - whole;
        Some(self.take_head(api))
    }

    /// What is left when the stream ends in the middle of a head.
    pub fn rest(&mut self) -> Bytes {
        self.take_head(None).bytes
    }

    /// The API that a head, without its length, names.
    fn api(&self, mut head: &[u8]) -> Option<i16> {
        match self.side {
            Side::Request => {
                let api = head.try_get_i16().ok()?;
                let _version = head.try_get_i16().ok()?;
                self.unanswered.ask(head.try_get_i32().ok()?, api);
                Some(api)
            }
            Side::Reply => self.unanswered.answer(head.try_get_i32().ok()?),
        }
    }

    fn take_head(&mut self, api: Option<i16>) -> Piece {
        Piece {
            bytes: Bytes::from(std::mem::take(&mut self.head)),
            api,
        }
    }
}
