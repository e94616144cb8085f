//! What the parts of the spool give each other.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

use super::record::{RecordError, Stored};
use crate::byte_budget::Permit;

/// Where a request is written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WritePath {
    /// To Kafka: there is nothing here.
    Broker,
    /// Here, behind what is here already.
    Spool,
    /// Neither, for a moment: the last records are on their way to Kafka.
    Hold,
}

/// Why earlier releases quarantined what raw found too large. As it stands in their stores.
pub const TOO_LARGE: &str = "it is larger than the raw topic takes";

/// Why a record is quarantined that the brokers find invalid. As it stands in the stores.
pub const INVALID: &str = "the brokers find it invalid";

/// What comes out of the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// All that can be read.
    All,
    /// What Kafka refused, and nothing that is damaged or not proved.
    Refused,
}

impl Released {
    /// Whether a record that is there for this reason is meant.
    pub fn includes(self, why: &str) -> bool {
        self == Self::All || [TOO_LARGE, INVALID].contains(&why)
    }
}

/// What holds the drain before a record until somebody acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// Raw takes no record of its size.
    TopicLimit,
    /// A newer release wrote it.
    NewerRelease,
}

impl Halt {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::TopicLimit, Self::NewerRelease];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::TopicLimit => "topic_limit",
            Self::NewerRelease => "newer_release",
        }
    }

    /// What an operator reads of it.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::TopicLimit => "raw takes no record of this size: raise its max.message.bytes",
            Self::NewerRelease => "a newer release wrote this record: run that release",
        }
    }
}

/// Why a record is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoRoom {
    /// `max_bytes` are used, or the disk is full.
    #[error("the spool is full")]
    Full,
    /// The source has its share, or what is left is reserved for sources with a guard.
    #[error("the source's share of the spool is used up")]
    Share,
    /// The store does not work.
    #[error("the spool does not work")]
    Broken,
}

/// The record may be on disk or not: no answer may rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the record was not made durable")]
pub struct NotDurable;

/// A record that is removed from the spool.
#[derive(Debug, Clone)]
pub struct Removal {
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub size: u64,
    /// Its source, as far as that can be read.
    pub source: Arc<str>,
    /// Why it goes to the quarantine: Kafka refuses it for good, or it is damaged. `None`: Kafka has it.
    pub quarantine: Option<String>,
}

/// A record as the drain finds it.
#[derive(Debug)]
pub struct SpooledRecord {
    /// Its number: the records are in the order of their numbers.
    pub number: u64,
    /// Its bytes.
    pub size: u64,
    /// Its source, as far as that can be read.
    pub source: Arc<str>,
    /// The record, decoded.
    pub stored: Result<Stored, RecordError>,
}

impl Removal {
    /// Of a record that was found.
    pub fn of(found: &SpooledRecord) -> Self {
        Self {
            number: found.number,
            size: found.size,
            source: Arc::clone(&found.source),
            quarantine: None,
        }
    }
}

/// What the writer is asked for.
pub enum Command {
    /// To store a record.
    Put {
        /// The record.
        bytes: Vec<u8>,
        /// Hears when it is durable.
        reply: oneshot::Sender<Result<(), NotDurable>>,
        // The right to hold the bytes, given back once they are written.
        _permit: Option<Arc<Permit>>,
    },
    /// To make records again of what is in quarantine.
    Release {
        /// Of what is there.
        released: Released,
        /// Hears how many, when that is durable.
        done: oneshot::Sender<Result<u64, String>>,
    },
    /// To take records out.
    Remove {
        /// Those.
        removals: Vec<Removal>,
        /// Hears when that is durable.
        done: oneshot::Sender<()>,
    },
}

/// Whether what came at `received_at` is older than `age`. Both times are microseconds since 1970.
pub fn is_older(received_at: i64, now: i64, age: Duration) -> bool {
    u128::try_from(now.saturating_sub(received_at)).is_ok_and(|old| old > age.as_micros())
}
