//! What a metric is: name, type, unit, labels and help.

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
    pub(super) const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind,
            unit: None,
            labels: &[],
            help,
        }
    }

    pub(super) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Counter, name, help)
    }

    pub(super) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Gauge, name, help)
    }

    pub(super) const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Histogram, name, help)
    }

    pub(super) const fn of(self, unit: Unit) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    pub(super) const fn by(self, labels: &'static [&'static str]) -> Self {
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
