//! The names of the metrics that are contracts. Counters carry `_total` on the wire.

/// Requests answered by ingest. Labels: `source` ([`UNKNOWN_SOURCE`] where it is not configured) and
/// `status` (the HTTP status).
pub const INGEST_REQUESTS: &str = "sluice_ingest_requests";

/// Raw records that ended, counted after the commit. Labels: `source`, `provider`, `fate`, `reason`
/// (empty for events).
pub const FATES: &str = "sluice_fates";

/// For how long the last stable offset of a topic that the processor writes to has stood still behind its end,
/// in seconds: a transaction that is not decided holds its `read_committed` readers back. Label: `topic`.
pub const HELD_BACK: &str = "sluice_last_stable_offset_held_back_seconds";

/// The label of a source that is not configured; no source may have this name.
pub const UNKNOWN_SOURCE: &str = "unknown";
