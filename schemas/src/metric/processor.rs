//! The metrics of the processor.

use super::kind::{Metric, Unit};

/// Raw records that ended, counted after the commit. `reason` is empty for events.
pub const FATES: Metric =
    Metric::counter("sluice_fates", "Raw records that ended, after the commit")
        .by(&["source", "provider", "fate", "reason"]);

/// Events whose signature was passed over, for their source has no secret.
pub const UNVERIFIED_SIGNATURES: Metric = Metric::counter(
    "sluice_unverified_signatures",
    "Events whose signature was passed over, for their source has no secret",
)
.by(&["source"]);

/// For how long the last stable offset of a topic that the processor writes to has stood still behind its
/// end: a transaction that is not decided holds its `read_committed` readers back. The unit is part of the
/// name.
pub const HELD_BACK: Metric = Metric::gauge(
    "sluice_last_stable_offset_held_back_seconds",
    "For how long the last stable offset of a topic that we write to has stood still behind its end",
)
.by(&["topic"]);

/// How often a source's secrets could not be read again and the last good ones stayed.
pub const SECRET_RELOAD_FAILURES: Metric = Metric::counter(
    "sluice_secret_reload_failures",
    "Times that a source's secrets could not be read again",
);

/// Records of raw that no transaction has committed, of a partition that this process owns. The unit is part
/// of the name.
pub const RAW_LAG_RECORDS: Metric = Metric::gauge(
    "sluice_raw_lag_records",
    "Raw records that are not committed yet, by partition that this process owns",
)
.by(&["partition"]);

/// The age of the oldest of them by its append time; 0 without one.
pub const RAW_LAG: Metric = Metric::gauge(
    "sluice_raw_lag",
    "Age of the oldest raw record that is not committed yet; 0 where there is none",
)
.of(Unit::Seconds)
.by(&["partition"]);

/// From the receipt of a request by ingest to the commit of its fate.
pub const FRESHNESS: Metric = Metric::histogram(
    "sluice_freshness",
    "Time from the receipt of a request to the commit of its fate",
)
.of(Unit::Seconds)
.by(&["source"]);

/// Records of a batch that is to be judged.
pub const BATCH_RECORDS: Metric = Metric::histogram("sluice_batch_records", "Records of a batch");

/// Attempts of a transaction, by how they ended: `committed`, `aborted`, `outdated` (the settings change:
/// judged again), `lost` (the partitions went to another process), `broken` (a new producer is made),
/// `in_doubt` (the same, and the commit may have gone through: the audit finds out).
pub const TRANSACTIONS: Metric = Metric::counter(
    "sluice_transactions",
    "Attempts of a transaction, by how they ended",
)
.by(&["outcome"]);

/// From the begin of a transaction to its end.
pub const TRANSACTION: Metric = Metric::histogram(
    "sluice_transaction",
    "Time from the begin of a transaction to its end",
)
.of(Unit::Seconds);

/// Records of batches whose transaction did not commit, as far as is known at its end. They are judged again
/// where they are still ours; those of an outcome in doubt may have been committed.
pub const ABORTED_RECORDS: Metric = Metric::counter(
    "sluice_aborted_records",
    "Records of batches whose transaction did not commit, as far as was known at its end",
);

/// Producers that replaced one: `suspect` (an error or a slow call), `broken` (a transaction ended in an
/// error), `fenced` (another process took the name).
pub const PRODUCERS_RECREATED: Metric = Metric::counter(
    "sluice_producers_recreated",
    "Producers that replaced another, by the cause",
)
.by(&["cause"]);

/// Times that another producer took the name of ours.
pub const FENCES: Metric = Metric::counter(
    "sluice_fences",
    "Times that another producer took the name of ours",
);

/// Assignments and revocations.
pub const REBALANCES: Metric = Metric::counter(
    "sluice_rebalances",
    "Times that the group gave or took partitions",
);

/// Partitions of raw that this process owns: `restoring`, `waiting` (for the first record), `ready`,
/// `stopped` (operator action required), `suspended` (its next record cannot be committed, and is tried
/// again).
pub const PARTITIONS: Metric = Metric::gauge(
    "sluice_partitions",
    "Partitions that this process owns, by state",
)
.by(&["state"]);

/// From the request to restore a partition to its index.
pub const RESTORE: Metric = Metric::histogram(
    "sluice_restore",
    "Time to restore the dedup index of a partition",
)
.of(Unit::Seconds);

/// Identities in the dedup index of a partition.
pub const DEDUP_KEYS: Metric = Metric::gauge(
    "sluice_dedup_keys",
    "Identities in the dedup index, by partition",
)
.by(&["partition"]);

/// What the dedup indexes of all workers take, those that are being restored included.
pub const DEDUP: Metric =
    Metric::gauge("sluice_dedup", "Memory that the dedup indexes take").of(Unit::Bytes);

/// What the dedup index of a partition takes.
pub const DEDUP_PARTITION: Metric = Metric::gauge(
    "sluice_dedup_partition",
    "Memory that a dedup index takes, by partition",
)
.of(Unit::Bytes)
.by(&["partition"]);

/// What the dedup indexes may take together (`processor.dedup_memory`).
pub const DEDUP_LIMIT: Metric = Metric::gauge(
    "sluice_dedup_limit",
    "Memory that the dedup indexes may take; 0 where there is no bound",
)
.of(Unit::Bytes);

/// Times that a worker judged nothing any more, for the dedup indexes took all that they may.
pub const DEDUP_PAUSES: Metric = Metric::counter(
    "sluice_dedup_pauses",
    "Times that a worker paused consumption, for the dedup indexes took all that they may",
);

/// Events of a type that has no topic of its own: they go to the provider's `other`.
pub const UNKNOWN_TYPES: Metric = Metric::counter(
    "sluice_unknown_types",
    "Events of a type that has no topic of its own",
)
.by(&["source"]);

/// When a secret last verified a request that was committed, seconds since 1970.
pub const KEY_LAST_VERIFIED: Metric = Metric::gauge(
    "sluice_key_last_verified_timestamp",
    "When a secret last verified a request, in seconds since 1970; 0 for never in this process",
)
.of(Unit::Seconds)
.by(&["source", "key_id"]);

/// What a topic of refused or repeated records holds: the offsets that the brokers hold times the mean size
/// of the records that this process wrote there. No series before it has written one.
pub const FATE_TOPIC: Metric = Metric::gauge(
    "sluice_fate_topic",
    "Bytes that a topic of fates holds: its offsets times the mean size of what this process wrote there",
)
.of(Unit::Bytes)
.by(&["topic"]);

/// The metrics of the processor alone. Secrets are read there.
pub const ALL: [Metric; 24] = [
    FATES,
    UNVERIFIED_SIGNATURES,
    HELD_BACK,
    SECRET_RELOAD_FAILURES,
    RAW_LAG_RECORDS,
    RAW_LAG,
    FRESHNESS,
    BATCH_RECORDS,
    TRANSACTIONS,
    TRANSACTION,
    ABORTED_RECORDS,
    PRODUCERS_RECREATED,
    FENCES,
    REBALANCES,
    PARTITIONS,
    RESTORE,
    DEDUP_KEYS,
    DEDUP_PARTITION,
    DEDUP,
    DEDUP_LIMIT,
    DEDUP_PAUSES,
    UNKNOWN_TYPES,
    KEY_LAST_VERIFIED,
    FATE_TOPIC,
];
