//! The metrics of ingest.

use super::kind::{Metric, Unit};

/// Requests answered by ingest: by source ([`UNKNOWN_SOURCE`] where it is not configured) and HTTP status.
pub const INGEST_REQUESTS: Metric =
    Metric::counter("sluice_ingest_requests", "Requests answered").by(&["source", "status"]);

/// Requests that ended before their answer, by the part of them that was waited for: `head`, `body`,
/// `answer`.
pub const INGEST_BROKEN_OFF: Metric = Metric::counter(
    "sluice_ingest_requests_broken_off",
    "Requests that ended before their answer, by the part that was waited for: the sender ended them, or a \
     limit or the shutdown ended the connection",
)
.by(&["source", "at"]);

/// Requests answered with 503, by what was lacking.
pub const INGEST_UNAVAILABLE: Metric = Metric::counter(
    "sluice_ingest_unavailable",
    "Requests answered with 503, by what was lacking",
)
.by(&["reason"]);

/// From handing a record over until all in-sync replicas have it.
pub const INGEST_ACK: Metric = Metric::histogram(
    "sluice_ingest_ack",
    "Time until all in-sync replicas had a record",
)
.of(Unit::Seconds);

/// Bytes of heads and bodies held now.
pub const INGEST_BUFFERED: Metric =
    Metric::gauge("sluice_ingest_buffered", "Bodies held now").of(Unit::Bytes);

/// Connections open now.
pub const INGEST_CONNECTIONS: Metric =
    Metric::gauge("sluice_ingest_connections", "Connections open now");

/// Connections that ingest ended, by the limit that they met.
pub const INGEST_SHED: Metric = Metric::counter(
    "sluice_ingest_connections_shed",
    "Connections that were ended, by the limit that they met",
)
.by(&["reason"]);

/// How often the certificate could not be read again and the last good one stayed.
pub const INGEST_TLS_RELOAD_FAILURES: Metric = Metric::counter(
    "sluice_ingest_tls_reload_failures",
    "Times that the certificate could not be read again",
);

/// Requests made durable in the spool, by what was lacking at the brokers.
pub const INGEST_SPOOLED: Metric = Metric::counter(
    "sluice_ingest_spooled",
    "Requests made durable in the spool, by what was lacking, or behind those there",
)
.by(&["reason"]);

/// Records of the spool that Kafka took.
pub const INGEST_DRAINED: Metric = Metric::counter(
    "sluice_ingest_drained",
    "Records of the spool that Kafka took",
);

/// Records in the spool.
pub const INGEST_SPOOL_RECORDS: Metric =
    Metric::gauge("sluice_ingest_spool_records", "Records in the spool");

/// The bytes of the records in the spool.
pub const INGEST_SPOOL: Metric =
    Metric::gauge("sluice_ingest_spool", "What the records in the spool take").of(Unit::Bytes);

/// Records that Kafka refused for good, or that were damaged: operator action required.
pub const INGEST_SPOOL_REFUSED: Metric = Metric::gauge(
    "sluice_ingest_spool_refused",
    "Records set aside, refused for good or damaged",
);

/// Records that are older than `ingest.spool.max_age` and wait on the disk for the operator's decision. They
/// are in no other gauge of records.
pub const INGEST_SPOOL_OLDER: Metric = Metric::gauge(
    "sluice_ingest_spool_older",
    "Records on the spool that are older than max_age and wait for a decision",
);

/// 1 while the drain waits before a record until somebody acts, by what must be mended: `topic_limit` (raw
/// takes no record of its size), `newer_release` (a newer release wrote it).
pub const INGEST_DRAIN_HALTED: Metric = Metric::gauge(
    "sluice_ingest_drain_halted",
    "Whether the drain waits before a record until somebody acts, by what must be mended",
)
.by(&["reason"]);

/// When the oldest record of the spool came, seconds since 1970; 0 where it is empty.
pub const INGEST_SPOOL_OLDEST: Metric = Metric::gauge(
    "sluice_ingest_spool_oldest_timestamp",
    "When the oldest record of the spool came",
)
.of(Unit::Seconds);

/// An fsynced write of the spool.
pub const INGEST_SPOOL_COMMIT: Metric = Metric::histogram(
    "sluice_ingest_spool_commit",
    "Time of an fsynced write of the spool",
)
.of(Unit::Seconds);

/// Writes of the spool that failed, after which it was opened again.
pub const INGEST_SPOOL_FAILURES: Metric = Metric::counter(
    "sluice_ingest_spool_failures",
    "Writes of the spool that failed",
);

/// Requests made durable: `to` is `raw` (all in-sync replicas have the record, its sender answered or not)
/// or `spool`. A request that is spooled after its time-out and is acknowledged later counts in both, and is
/// two records of raw.
pub const INGEST_ACCEPTED: Metric = Metric::counter(
    "sluice_ingest_accepted",
    "Requests made durable, by where: raw or spool",
)
.by(&["to"]);

/// From the end of a request's head to its answer, for sources that are configured.
pub const INGEST_REQUEST: Metric = Metric::histogram(
    "sluice_ingest_request",
    "Time from the head of a request to its answer",
)
.of(Unit::Seconds)
.by(&["source"]);

/// Requests that a limit refused, by the limit's name in the settings.
pub const INGEST_LIMITS: Metric = Metric::counter(
    "sluice_ingest_limits",
    "Requests that a limit refused, by the name of the limit",
)
.by(&["limit"]);

/// When the certificate in use ends, seconds since 1970; absent without TLS.
pub const INGEST_CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "sluice_ingest_certificate_expiry_timestamp",
    "When the certificate in use ends, in seconds since 1970",
)
.of(Unit::Seconds);

/// The metrics of ingest alone.
pub const ALL: [Metric; 22] = [
    INGEST_REQUESTS,
    INGEST_BROKEN_OFF,
    INGEST_UNAVAILABLE,
    INGEST_ACK,
    INGEST_BUFFERED,
    INGEST_CONNECTIONS,
    INGEST_SHED,
    INGEST_TLS_RELOAD_FAILURES,
    INGEST_SPOOLED,
    INGEST_DRAINED,
    INGEST_SPOOL_RECORDS,
    INGEST_SPOOL,
    INGEST_SPOOL_REFUSED,
    INGEST_SPOOL_OLDER,
    INGEST_DRAIN_HALTED,
    INGEST_SPOOL_OLDEST,
    INGEST_SPOOL_COMMIT,
    INGEST_SPOOL_FAILURES,
    INGEST_ACCEPTED,
    INGEST_REQUEST,
    INGEST_LIMITS,
    INGEST_CERTIFICATE_EXPIRY,
];
