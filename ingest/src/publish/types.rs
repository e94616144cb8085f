//! What a publisher takes and reports.

use std::fmt::Debug;
use std::sync::Arc;

use sluice_schemas::raw::{REQUEST, TRACEPARENT};
use tokio::sync::oneshot;

use super::handover::Handover;
use super::outcome::Outcome;
use crate::byte_budget::Permit;
use crate::clock;

/// What a record takes in addition to key, value and headers, in bytes: lengths, offsets and the head of the
/// batch it comes in, generously.
const RECORD_OVERHEAD: usize = 256;

/// A raw record in its parts.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The partition key.
    pub key: &'a [u8],
    /// The body.
    pub value: &'a [u8],
    /// The header `request`.
    pub request: &'a [u8],
    /// The header `traceparent`.
    pub traceparent: &'a str,
}

impl Record<'_> {
    /// The bytes that the record takes in the topic, at most.
    pub fn size(&self) -> usize {
        let headers =
            REQUEST.len() + self.request.len() + TRACEPARENT.len() + self.traceparent.len();
        self.key.len() + self.value.len() + headers + RECORD_OVERHEAD
    }
}

/// What waits for a record's delivery.
#[derive(Debug)]
pub struct Hold {
    /// Receives the outcome.
    pub reply: oneshot::Sender<Outcome>,
    /// The way to its receiver's thread, where that has one.
    pub handover: Option<Arc<Handover>>,
    /// The permit to hold the body's bytes: given back when the producer holds them no longer, even
    /// if the sender was answered before. What comes from the spool is bounded otherwise.
    pub permit: Option<Arc<Permit>>,
    /// When the record is handed over, in microseconds since 1970.
    pub since: i64,
}

impl Hold {
    /// For a record that is handed over now, by the thread that waits for the outcome.
    pub fn new(reply: oneshot::Sender<Outcome>, permit: Option<Arc<Permit>>) -> Box<Self> {
        let since = clock::now();
        Box::new(Self {
            reply,
            handover: Handover::here(),
            permit,
            since,
        })
    }

    /// The outcome is known.
    pub fn end(self, outcome: Outcome) {
        // First, so that the receiver of the outcome finds the room, and no thread that is stuck keeps it.
        drop(self.permit);
        match self.handover {
            Some(handover) => handover.put(self.reply, outcome),
            // The sender may have been answered already, or be gone.
            None => drop(self.reply.send(outcome)),
        }
    }
}

/// Why the producer refused a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The producer's queue is full.
    QueueFull,
    /// It is larger than the topic takes.
    TooLarge,
    /// The producer does not work.
    Broken,
}

/// Where raw records go. Returns at once; the hold receives the outcome.
pub trait Publish: Debug + Send + Sync + 'static {
    /// Accepts a record, or returns why not and drops the hold.
    fn publish(&self, record: &Record<'_>, hold: Box<Hold>) -> Result<(), Refused>;
}
