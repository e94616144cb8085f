//! What became of a record that was handed over to the producer.

/// Where it stands, or why that is not known.
pub type Outcome = Result<Delivered, Undelivered>;

/// Where a record stands in the raw topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Why a record is not known to be durable. It may be all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelivered {
    /// The brokers did not acknowledge in time.
    TimedOut,
    /// The brokers found it too large.
    TooLarge,
    /// The brokers find it invalid, and will again.
    Invalid,
    /// The brokers refused it, or it was given up.
    Refused,
}
