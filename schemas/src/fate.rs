//! The four ends of a raw record, and the headers that say why.

use std::fmt;

/// Where a raw record ends. Each ends in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It became an event on `events.{provider}.{type}`.
    Event,
    /// It repeats an event: `webhooks.duplicates`.
    Duplicate,
    /// It did not prove who sent it: `webhooks.rejected`.
    Rejected,
    /// It is authentic, but no event: `webhooks.dead-letter`.
    DeadLetter,
}

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 4] = [
        Self::Event,
        Self::Duplicate,
        Self::Rejected,
        Self::DeadLetter,
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::DeadLetter => "dead_letter",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Header: the [`crate::reason::Reason`].
pub const REASON: &str = "fate.reason";
/// Header: one sentence for the operator, at most [`DETAIL_BYTES`].
pub const DETAIL: &str = "fate.detail";
/// Header: the full name of the raw topic.
pub const RAW_TOPIC: &str = "raw.topic";
/// Header: the raw record's partition, ASCII decimal.
pub const RAW_PARTITION: &str = "raw.partition";
/// Header: the raw record's offset, ASCII decimal.
pub const RAW_OFFSET: &str = "raw.offset";
/// Header, on raw and from there on every fate: how often the record was redriven, ASCII decimal.
pub const REDRIVE_COUNT: &str = "redrive.count";
/// Header, on duplicates: the id of the event that the record repeats.
pub const DUPLICATE_OF: &str = "duplicate.of";

/// The most bytes that `fate.detail` takes.
pub const DETAIL_BYTES: usize = 512;

/// How often a record may be redriven before it stays a dead letter: enough for a person who mends
/// a setting in steps, few enough that a loop of redrives ends.
pub const REDRIVE_LIMIT: u64 = 10;

/// A sentence cut to [`DETAIL_BYTES`], at a character's boundary.
pub fn detail(sentence: &str) -> &str {
    let mut end = sentence.len().min(DETAIL_BYTES);
    while !sentence.is_char_boundary(end) {
        end -= 1;
    }
    &sentence[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_cut_between_characters() {
        let long = "é".repeat(DETAIL_BYTES);
        assert_eq!(detail(&long).len(), DETAIL_BYTES);
        assert_eq!(detail(&format!("a{long}")).len(), DETAIL_BYTES - 1);
        assert_eq!(detail("short"), "short");
    }
}
