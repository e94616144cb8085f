//! Why a record did not become an event: one closed list, which feeds the header `fate.reason`, the
//! metric's label and the log's field.

use std::fmt;

use crate::fate::Fate;

/// Why a record did not become an event.
///
/// The variants stand in the order in which they are looked for: of two that apply, the first is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It was redriven as often as it may be.
    RedriveLimit,
    /// No source of this name is configured, or the record does not say which source it is of.
    UnknownSource,
    /// The source's requests are proved by a token, and this one had none.
    TokenMissing,
    /// A signature is needed, and there is none.
    SignatureMissing,
    /// The signature header is empty, there twice, undecodable, over 4 KiB, or of mixed families.
    SignatureMalformed,
    /// The signed time is not there.
    TimestampMissing,
    /// The signed time cannot be read.
    TimestampMalformed,
    /// No configured secret gives this signature.
    SignatureMismatch,
    /// The signed time is too far from the time of receipt, in the past or in the future.
    TimestampStale,
    /// The body is authentic, but not UTF-8.
    NotUtf8,
    /// The body is authentic, but not JSON, or a key that we read stands twice.
    MalformedJson,
    /// Header and body disagree, or a header is outside its documented set.
    ContradictoryHeaders,
    /// The provider's environment is not one that the source accepts.
    EnvironmentNotAccepted,
    /// What the identity or the type needs is not there.
    MissingField,
    /// The event would be larger than its topic takes.
    TooLargeForTopic,
    /// It repeats an event that is there.
    Duplicate,
}

impl Reason {
    /// Every reason, in the order of looking.
    pub const ALL: [Self; 16] = [
        Self::RedriveLimit,
        Self::UnknownSource,
        Self::TokenMissing,
        Self::SignatureMissing,
        Self::SignatureMalformed,
        Self::TimestampMissing,
        Self::TimestampMalformed,
        Self::SignatureMismatch,
        Self::TimestampStale,
        Self::NotUtf8,
        Self::MalformedJson,
        Self::ContradictoryHeaders,
        Self::EnvironmentNotAccepted,
        Self::MissingField,
        Self::TooLargeForTopic,
        Self::Duplicate,
    ];

    /// The name in headers, metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RedriveLimit => "redrive_limit",
            Self::UnknownSource => "unknown_source",
            Self::TokenMissing => "token_missing",
            Self::SignatureMissing => "signature_missing",
            Self::SignatureMalformed => "signature_malformed",
            Self::TimestampMissing => "timestamp_missing",
            Self::TimestampMalformed => "timestamp_malformed",
            Self::SignatureMismatch => "signature_mismatch",
            Self::TimestampStale => "timestamp_stale",
            Self::NotUtf8 => "not_utf8",
            Self::MalformedJson => "malformed_json",
            Self::ContradictoryHeaders => "contradictory_headers",
            Self::EnvironmentNotAccepted => "environment_not_accepted",
            Self::MissingField => "missing_field",
            Self::TooLargeForTopic => "too_large_for_topic",
            Self::Duplicate => "duplicate",
        }
    }

    /// The fate that a record with this reason has.
    pub const fn fate(self) -> Fate {
        match self {
            Self::TokenMissing
            | Self::SignatureMissing
            | Self::SignatureMalformed
            | Self::TimestampMissing
            | Self::TimestampMalformed
            | Self::SignatureMismatch
            | Self::TimestampStale => Fate::Rejected,
            Self::RedriveLimit
            | Self::UnknownSource
            | Self::NotUtf8
            | Self::MalformedJson
            | Self::ContradictoryHeaders
            | Self::EnvironmentNotAccepted
            | Self::MissingField
            | Self::TooLargeForTopic => Fate::DeadLetter,
            Self::Duplicate => Fate::Duplicate,
        }
    }

    /// This reason with one sentence for the operator.
    pub fn because(self, detail: impl Into<String>) -> Refusal {
        Refusal {
            reason: self,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A reason and one sentence about this record, which names no secret and quotes no body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Refusal {
    /// Which of the closed list.
    pub reason: Reason,
    /// One sentence for the operator; [`crate::fate::detail`] bounds it when it is written.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_looking_is_the_order_of_the_list() {
        assert!(Reason::ALL.is_sorted());
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
