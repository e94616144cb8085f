//! The metrics of both services.

use super::kind::{Metric, Unit};

/// How often a settings file was refused and the settings stayed as they were.
pub const SETTINGS_RELOAD_FAILURES: Metric = Metric::counter(
    "sluice_settings_reload_failures",
    "Times that a settings file was refused",
);

/// 1 where what the settings file says is in force, all of it.
pub const SETTINGS_IN_FORCE: Metric = Metric::gauge(
    "sluice_settings_in_force",
    "Whether all that the settings file says is in force",
);

/// Times that files could not be read again and the last good content stayed: `settings`, `secrets`,
/// `certificate`, `kafka`, `otlp_headers`. The same events as the counter of each of them, where it has one.
pub const RELOAD_FAILURES: Metric = Metric::counter(
    "sluice_reload_failures",
    "Times that files could not be read again, by what they hold",
)
.by(&["what"]);

/// 1 where a condition of `/readyz` is met, else 0.
pub const READY: Metric = Metric::gauge(
    "sluice_ready",
    "Whether a condition of readiness is met, by condition",
)
.by(&["condition"]);

/// When the process started, seconds since 1970. All counters begin at 0 with it.
pub const START: Metric = Metric::gauge(
    "sluice_start_timestamp",
    "When the process started, in seconds since 1970",
)
.of(Unit::Seconds);

/// 1, with the release as labels.
pub const BUILD: Metric =
    Metric::gauge("sluice_build", "The release that runs").by(&["version", "commit"]);

/// Spans, by what became of them: `exported`, `failed` (the collector is away, slow or refused them),
/// `dropped` (too many wait), `limited` (a refused record beyond the rate of its root spans).
pub const SPANS: Metric =
    Metric::counter("sluice_spans", "Spans, by what became of them").by(&["result"]);

/// Exports of metrics by OTLP, by what became of them: `exported`, `failed`.
pub const METRIC_EXPORTS: Metric = Metric::counter(
    "sluice_metric_exports",
    "Exports of metrics by OTLP, by what became of them",
)
.by(&["result"]);

/// Records that a Kafka client has queued to send.
pub const KAFKA_QUEUE_RECORDS: Metric = Metric::gauge(
    "sluice_kafka_queue_records",
    "Records that a Kafka client has queued to send",
)
.by(&["client"]);

/// What they take.
pub const KAFKA_QUEUE: Metric = Metric::gauge(
    "sluice_kafka_queue",
    "What the records take that a Kafka client has queued to send",
)
.of(Unit::Bytes)
.by(&["client"]);

/// Records that a Kafka client has fetched ahead.
pub const KAFKA_FETCHED_RECORDS: Metric = Metric::gauge(
    "sluice_kafka_fetched_records",
    "Records that a Kafka client has fetched ahead",
)
.by(&["client"]);

/// The 99th percentile of a request's round trip to a broker, over the last interval of the client's
/// statistics.
pub const KAFKA_ROUND_TRIP: Metric = Metric::gauge(
    "sluice_kafka_round_trip",
    "Round trip of a request to a broker, 99th percentile of the last seconds",
)
.of(Unit::Seconds)
.by(&["client", "broker"]);

/// Requests to a broker that failed or timed out.
pub const KAFKA_ERRORS: Metric = Metric::counter(
    "sluice_kafka_errors",
    "Requests of a Kafka client that failed or timed out, by broker",
)
.by(&["client", "broker"]);

/// For how long a broker asked a client to hold back, the longest of the last interval.
pub const KAFKA_THROTTLE: Metric = Metric::gauge(
    "sluice_kafka_throttle",
    "For how long a broker asked a client to hold back, the longest of the last seconds",
)
.of(Unit::Seconds)
.by(&["client", "broker"]);

/// By how much a broker's clock is ahead of this process's, where the append time of a record lies outside
/// the time in which it was appended by our clock: between sending it and its acknowledgement in ingest,
/// between two looks at raw in the processor. 0 where it lies within.
pub const CLOCK_DIFFERENCE: Metric = Metric::gauge(
    "sluice_clock_difference",
    "By how much the clock of a broker is ahead of ours; negative where it is behind",
)
.of(Unit::Seconds)
.by(&["broker"]);

/// The metrics of both services.
pub const ALL: [Metric; 15] = [
    SETTINGS_RELOAD_FAILURES,
    SETTINGS_IN_FORCE,
    RELOAD_FAILURES,
    READY,
    START,
    BUILD,
    SPANS,
    METRIC_EXPORTS,
    KAFKA_QUEUE_RECORDS,
    KAFKA_QUEUE,
    KAFKA_FETCHED_RECORDS,
    KAFKA_ROUND_TRIP,
    KAFKA_ERRORS,
    KAFKA_THROTTLE,
    CLOCK_DIFFERENCE,
];
