//! Every metric of both services: name, type, unit, labels and help. The registry of the process adds what
//! `OpenMetrics` demands on the wire: the unit, and `_total` behind a counter ([`Metric::exposed`]).

/// The label of a source that is not configured; no source may have this name.
pub const UNKNOWN_SOURCE: &str = "unknown";

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name, without unit and `_total`.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// What it counts, where the registry adds that to the name.
    pub unit: Option<Unit>,
    /// The names of its labels, in their order on the wire.
    pub labels: &'static [&'static str],
    /// One sentence for `/metrics`, without its full stop.
    pub help: &'static str,
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of OpenMetrics")]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of OpenMetrics")]
pub enum Unit {
    Seconds,
    Bytes,
}

impl Kind {
    /// The name in an exposition.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Unit {
    /// The name in an exposition.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

impl Metric {
    const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind,
            unit: None,
            labels: &[],
            help,
        }
    }

    const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Counter, name, help)
    }

    const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Gauge, name, help)
    }

    const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Histogram, name, help)
    }

    const fn of(self, unit: Unit) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    const fn by(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    /// The name of a sample: with the unit, and with `_total` behind a counter. A histogram's samples have
    /// `_sum`, `_count` and `_bucket` behind it.
    pub fn exposed(&self) -> String {
        let mut name = self.family();
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }

    /// The name of the family, as `# TYPE` has it: with the unit.
    pub fn family(&self) -> String {
        match self.unit {
            None => self.name.to_owned(),
            Some(unit) => format!("{}_{}", self.name, unit.name()),
        }
    }
}

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

/// Bytes of bodies held now.
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

/// How often a source's secrets could not be read again and the last good ones stayed.
pub const SECRET_RELOAD_FAILURES: Metric = Metric::counter(
    "sluice_secret_reload_failures",
    "Times that a source's secrets could not be read again",
);

/// The metrics of ingest alone.
pub const INGEST: [Metric; 16] = [
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
    INGEST_SPOOL_OLDEST,
    INGEST_SPOOL_COMMIT,
    INGEST_SPOOL_FAILURES,
];

/// The metrics of the processor alone. Secrets are read there.
pub const PROCESSOR: [Metric; 4] = [
    FATES,
    UNVERIFIED_SIGNATURES,
    HELD_BACK,
    SECRET_RELOAD_FAILURES,
];

/// The metrics of both services.
pub const BOTH: [Metric; 2] = [SETTINGS_RELOAD_FAILURES, SETTINGS_IN_FORCE];

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "golden files are files")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A family of an exposition: its type, its unit and its labels.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Family {
        kind: String,
        unit: String,
        labels: Vec<String>,
    }

    /// Reads a golden exposition of the guards, in which values are left out.
    fn golden(path: &str) -> BTreeMap<String, Family> {
        let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("a golden file");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                    families.entry(name.to_owned()).or_default().kind = kind.to_owned();
                }
                (Some("#"), Some("UNIT"), Some(name), Some(unit)) => {
                    families.entry(name.to_owned()).or_default().unit = unit.to_owned();
                }
                _ => {}
            }
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, labels)) = line.split_once('{') else {
                continue;
            };
            let name = name.trim_end_matches("_total").trim_end_matches("_bucket");
            let labels = labels
                .split("\",")
                .filter_map(|label| label.split_once('='));
            let labels = labels.map(|(label, _)| label.to_owned());
            let labels = labels.filter(|label| label != "le").collect();
            families.get_mut(name).expect("a family").labels = labels;
        }
        families
    }

    fn ours(metrics: &[Metric]) -> BTreeMap<String, Family> {
        let family = |metric: &Metric| Family {
            kind: metric.kind.name().to_owned(),
            unit: metric.unit.map_or("", Unit::name).to_owned(),
            labels: metric
                .labels
                .iter()
                .map(|&label| label.to_owned())
                .collect(),
        };
        let all = metrics.iter().chain(&BOTH);
        all.map(|metric| (metric.family(), family(metric)))
            .collect()
    }

    #[test]
    fn the_metrics_are_those_that_the_services_expose() {
        let ingest = golden("ingest/tests/guards/golden/metrics.txt");
        assert_eq!(ours(&INGEST), ingest);
        let processor = golden("tests/guards/golden/metrics-processor.txt");
        assert_eq!(ours(&PROCESSOR), processor);
    }

    #[test]
    fn a_sample_has_its_unit_and_its_kind_in_its_name() {
        assert_eq!(FATES.exposed(), "sluice_fates_total");
        assert_eq!(INGEST_ACK.exposed(), "sluice_ingest_ack_seconds");
        assert_eq!(INGEST_CONNECTIONS.exposed(), "sluice_ingest_connections");
    }
}
