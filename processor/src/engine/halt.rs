//! Records before which a partition stops: what is not for this release to judge, and what it panics at.

use sluice_service::panics::contained;

use crate::dedup::index::{BatchOverlay, DedupIndex};
use crate::pipeline::notes::Notes;
use crate::pipeline::outgoing::{FateTopics, Outgoing, outgoing};
use crate::pipeline::{Rules, UnsupportedVersion, judge};
use crate::record::Record;

/// Why a partition stops before a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// It is not for this release to judge.
    #[error("offset {offset}: {newer}: run that release")]
    NewerVersion {
        /// The record's.
        offset: i64,
        /// What it says.
        newer: UnsupportedVersion,
    },
    /// Judging it panics, which is a fault of this release.
    #[error(
        "offset {offset}: judging this record panicked: report it, and run a release that mends it"
    )]
    Panic {
        /// The record's.
        offset: i64,
    },
}

/// What becomes of a record, and whether settings that know more sources might have it otherwise. A panic
/// stops the partition before the record, as a newer version does: the next worker would panic at it too.
pub fn judge_safely<'a>(
    record: &'a Record,
    (rules, topics): (&Rules<'a>, &'a FateTopics),
    (index, overlay): (&DedupIndex, &BatchOverlay),
    notes: &mut Notes,
) -> Result<(Outgoing<'a>, bool), Halt> {
    // What a panic leaves half done is dropped with the transaction's part of this record.
    let judged = contained(|| {
        let disposition = judge(record, rules, index, overlay, notes)?;
        let is_unknown = disposition.is_of_unknown_source();
        Ok((outgoing(disposition, record, topics), is_unknown))
    });
    let offset = record.offset;
    match judged {
        Some(judged) => judged.map_err(|newer| Halt::NewerVersion { offset, newer }),
        None => Err(Halt::Panic { offset }),
    }
}
