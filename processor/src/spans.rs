//! The spans of the processor: `batch`, one for each attempt of a transaction, and `process`, one for each
//! record that is sampled or refused, made when its fate is committed.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use sluice_schemas::reason::Reason;
use sluice_schemas::trace::TraceContext;
use sluice_service::telemetry::{KeyValue, Kind, Span, Traces};

use crate::pipeline::notes::{Notes, is_sampled, trace};
use crate::pipeline::outgoing::Label;
use crate::record::Record;

/// Root spans of refused records in a second, in all.
const ROOTS: usize = 20;

/// The longest event type in a span, in bytes: a sender chooses it.
const TYPE_BYTES: usize = 256;

/// The most links of a batch's span.
const LINKS: usize = 128;

/// How long an interval of the limit lasts.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where spans go, and how many root spans of refused records are made.
#[derive(Debug, Default)]
pub struct Spans {
    traces: Traces,
    roots: Mutex<Roots>,
}

/// The root spans of an interval: at most one for each source and reason, and [`ROOTS`] in all.
#[derive(Debug, Default)]
struct Roots {
    since: Option<Instant>,
    made: Vec<Root>,
}

/// A root span that may be made.
#[derive(Debug)]
struct Root {
    reason: Reason,
    source: String,
    /// The partition and the offset of its record, which may be judged more than once.
    place: (i32, i64),
}

impl Roots {
    fn take(&mut self, source: &str, reason: Reason, place: (i32, i64), now: Instant) -> bool {
        let lasts = |since| now.saturating_duration_since(since) < INTERVAL;
        if !self.since.is_some_and(lasts) {
            self.since = Some(now);
            self.made.clear();
        }
        let same = |root: &&Root| root.reason == reason && root.source == source;
        if let Some(made) = self.made.iter().find(same) {
            return made.place == place;
        }
        if self.made.len() >= ROOTS {
            return false;
        }
        self.made.push(Root {
            reason,
            source: source.to_owned(),
            place,
        });
        true
    }
}

/// Whether a record gets a span.
#[derive(Debug)]
pub enum Decision {
    /// This one, once it is committed.
    Span(Box<Pending>),
    /// None, for there were too many of its kind.
    Limited,
    /// None.
    Nothing,
}

/// The span of a record that waits for its commit.
#[derive(Debug)]
pub struct Pending {
    /// Its own context.
    context: TraceContext,
    /// Ingest's span, which is above it where the trace is sampled, else a link.
    raw: Option<TraceContext>,
    attributes: Vec<KeyValue>,
    start: SystemTime,
    /// When ingest received the request, microseconds since 1970.
    pub received_at: Option<i64>,
    /// The source's name.
    pub source: String,
}

impl Pending {
    /// The trace that ingest sampled; `None` for a root span.
    pub fn sampled(&self) -> Option<TraceContext> {
        self.raw.filter(|raw| raw.sampled)
    }
}

impl Spans {
    /// Spans go there.
    pub fn new(traces: Traces) -> Self {
        Self {
            traces,
            roots: Mutex::default(),
        }
    }

    /// Whether spans go anywhere.
    pub fn is_on(&self) -> bool {
        self.traces.is_on()
    }

    /// Whether a record that was judged gets a span.
    pub fn judged(&self, record: &Record, label: Label<'_>, notes: &Notes) -> Decision {
        // Most are of this kind, and need no more than a look at their flags.
        let follows_ratio = matches!(label.reason, None | Some(Reason::Duplicate));
        if follows_ratio && !is_sampled(record) {
            return Decision::Nothing;
        }
        let raw = trace(record);
        let context = match (raw.filter(|raw| raw.sampled), label.reason) {
            (Some(raw), _) => raw.with_span(span_id()),
            // Duplicates follow the ratio, as events do.
            (None, None | Some(Reason::Duplicate)) => return Decision::Nothing,
            (None, Some(reason)) => {
                let place = (record.partition, record.offset);
                let mut roots = self.roots.lock();
                if !roots.take(label.source, reason, place, Instant::now()) {
                    return Decision::Limited;
                }
                root()
            }
        };
        Decision::Span(Box::new(Pending {
            context,
            raw,
            attributes: attributes(record, label, notes),
            start: SystemTime::now(),
            received_at: notes.received_at,
            source: label.source.to_owned(),
        }))
    }

    /// The fates are committed, and so many records of them had no span for want of room.
    pub fn committed(&self, pending: Vec<Pending>, limited: u64, batch: Option<TraceContext>) {
        let end = SystemTime::now();
        self.traces.limited(limited);
        for one in pending {
            let sampled = one.sampled();
            let links = batch.into_iter();
            let links = links.chain(one.raw.filter(|_| sampled.is_none()));
            self.traces.emit(Span {
                context: one.context,
                parent: sampled.map(|raw| raw.span_id),
                kind: Kind::Consumer,
                name: Cow::Borrowed("process"),
                start: one.start,
                end,
                attributes: one.attributes,
                links: links.collect(),
                error: None,
            });
        }
    }

    /// The span of an attempt that begins; `None` where spans go nowhere.
    pub fn begin(&self) -> Option<TraceContext> {
        self.is_on().then(root)
    }

    /// An attempt of a transaction is over. Its span is exported where a record of it is sampled, or where it
    /// did not commit: its context then.
    pub fn attempted(&self, attempt: &Attempt<'_>) -> Option<TraceContext> {
        let is_committed = attempt.outcome == "committed";
        let links: Vec<TraceContext> = attempt
            .pending
            .iter()
            .filter_map(Pending::sampled)
            .take(LINKS)
            .collect();
        let context = attempt.context?;
        if links.is_empty() && is_committed {
            return None;
        }
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.traces.emit(Span {
            context,
            parent: None,
            kind: Kind::Internal,
            name: Cow::Borrowed("batch"),
            start: attempt.start,
            end: SystemTime::now(),
            attributes: vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.batch.message_count", number(attempt.records)),
                KeyValue::new("sluice.outcome", attempt.outcome),
                KeyValue::new("sluice.worker", i64::from(attempt.worker)),
            ],
            links,
            error: (!is_committed).then_some(Cow::Borrowed(attempt.outcome)),
        });
        Some(context)
    }
}

/// An attempt of a transaction that is over.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Its own span.
    pub context: Option<TraceContext>,
    /// Since when.
    pub start: SystemTime,
    /// The worker's number.
    pub worker: u32,
    /// The batch's records.
    pub records: usize,
    /// How it ended, as [`sluice_schemas::metric::processor::TRANSACTIONS`] names it.
    pub outcome: &'static str,
    /// The spans of its records.
    pub pending: &'a [Pending],
}

fn attributes(record: &Record, label: Label<'_>, notes: &Notes) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.system", "kafka"),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new(
            "messaging.destination.partition.id",
            record.partition.to_string(),
        ),
        KeyValue::new("messaging.kafka.offset", record.offset),
        KeyValue::new("sluice.source", label.source.to_owned()),
        KeyValue::new("sluice.provider", label.provider),
        KeyValue::new("sluice.fate", label.fate.name()),
        KeyValue::new("sluice.reason", label.reason.map_or("", Reason::name)),
    ];
    let texts = [
        ("sluice.type", notes.r#type.as_deref().map(cut)),
        ("sluice.key_id", notes.key_id.clone()),
        (
            "sluice.request_id",
            notes.request_id.map(|id| id.to_string()),
        ),
    ];
    let texts = texts.into_iter();
    attributes.extend(texts.filter_map(|(name, text)| Some(KeyValue::new(name, text?))));
    attributes
}

/// A text cut to [`TYPE_BYTES`].
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TYPE_BYTES)].to_owned()
}

/// The context of a span that begins a trace of its own.
fn root() -> TraceContext {
    TraceContext {
        trace_id: fastrand::u128(1..).to_be_bytes(),
        span_id: span_id(),
        sampled: true,
    }
}

fn span_id() -> [u8; 8] {
    fastrand::u64(1..).to_be_bytes()
}

#[cfg(test)]
mod tests;
