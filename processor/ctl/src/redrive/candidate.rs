//! A record that may be sent, and the event that it would be.

use uuid::Uuid;

/// A partition and an offset of the topic of the fate.
pub type Place = (i32, i64);

/// A record that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its row of the tally.
    pub row: usize,
    /// Ingest's id of its request.
    pub request: Uuid,
    /// How often it was redriven.
    pub count: u64,
    /// The event that it would be; `None`: it would be none.
    pub event: Option<Sought>,
}

/// An event that may be there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// Its id.
    pub id: Uuid,
    /// The provider's name, which names its topics.
    pub provider: &'static str,
    /// The earliest time that it can have, milliseconds since 1970.
    pub from: i64,
}
