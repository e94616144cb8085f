//! The spans of the processor: `batch`, one for each attempt of a transaction, and `process`, one for each
//! record that is sampled or refused, made when its fate is committed.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use sluice_schemas::reason::Reason;
use sluice_schemas::trace::TraceContext;
use sluice_service::telemetry::{KeyValue, Kind, Span, Traces};

use crate::pipeline::notes::Notes;
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
    pub fn judged(
        &self,
        record: &Record,
        raw: Option<TraceContext>,
        label: Label<'_>,
        notes: &Notes,
    ) -> Decision {
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
mod tests {
    use std::sync::Arc;

    use sluice_schemas::fate::Fate;
    use sluice_schemas::raw::TRACEPARENT;

    use super::*;
    use crate::pipeline::notes::trace;

    /// Spans that end here.
    fn recorded() -> (Spans, Arc<Mutex<Vec<Span>>>) {
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let sink = Arc::clone(&spans);
        let traces = Traces::to(move |span| sink.lock().push(span));
        (Spans::new(traces), spans)
    }

    fn record(flags: &str) -> Record {
        let trace = format!("00-{}-{}-{flags}", "ab".repeat(16), "cd".repeat(8));
        Record {
            partition: 3,
            offset: 70,
            appended_ms: 0,
            key: None,
            value: Vec::new(),
            headers: vec![(TRACEPARENT.to_owned(), Some(trace.into_bytes()))],
        }
    }

    fn label(reason: Option<Reason>) -> Label<'static> {
        Label {
            source: "s",
            provider: "flock",
            fate: reason.map_or(Fate::Event, Reason::fate),
            reason,
        }
    }

    fn judged(spans: &Spans, flags: &str, reason: Option<Reason>) -> Option<Pending> {
        let record = record(flags);
        let notes = Notes::default();
        match spans.judged(&record, trace(&record), label(reason), &notes) {
            Decision::Span(span) => Some(*span),
            Decision::Limited | Decision::Nothing => None,
        }
    }

    #[test]
    fn a_sampled_record_has_a_child_of_its_raw_span_once_it_is_committed() {
        let (spans, seen) = recorded();
        let pending = judged(&spans, "01", Some(Reason::Duplicate)).expect("a span");
        let attempt = |outcome: &'static str, pending: &[Pending]| {
            spans.attempted(&Attempt {
                context: spans.begin(),
                start: SystemTime::now(),
                worker: 0,
                records: 1,
                outcome,
                pending,
            })
        };
        let pending = [pending];
        // The first attempt has a span of its own, and nothing is said of the record.
        let first = attempt("aborted", &pending).expect("a span");
        assert_eq!(seen.lock().len(), 1);
        let second = attempt("committed", &pending).expect("a span");
        spans.committed(pending.into(), 0, Some(second));
        let seen = std::mem::take(&mut *seen.lock());
        let [aborted, committed, process] = seen.as_slice() else {
            panic!("three spans");
        };
        assert_eq!((aborted.context, committed.context), (first, second));
        assert_eq!(aborted.error.as_deref(), Some("aborted"));
        assert_eq!(committed.error, None);
        let raw = trace(&record("01")).expect("a context");
        assert_eq!(committed.links, [raw]);
        assert_eq!(process.name, "process");
        assert_eq!(process.context.trace_id, raw.trace_id);
        assert_eq!(process.parent, Some(raw.span_id));
        assert_eq!(process.links, [second]);
        // Without a sampled record, only an attempt that fails has a span.
        assert_eq!(attempt("committed", &[]), None);
        assert!(attempt("in_doubt", &[]).is_some());
    }

    #[test]
    fn of_records_that_are_not_sampled_only_refused_ones_have_a_span() {
        let (spans, seen) = recorded();
        assert!(judged(&spans, "00", None).is_none());
        assert!(judged(&spans, "00", Some(Reason::Duplicate)).is_none());
        let refused = judged(&spans, "00", Some(Reason::SignatureMismatch)).expect("a span");
        // Its record is judged again within the second: it keeps its span, and another one gets none.
        assert!(judged(&spans, "00", Some(Reason::SignatureMismatch)).is_some());
        spans.committed(vec![refused], 0, None);
        let raw = trace(&record("00")).expect("a context");
        let seen = seen.lock();
        let [root] = seen.as_slice() else {
            panic!("one span");
        };
        assert_eq!((root.parent, root.links.as_slice()), (None, &[raw][..]));
        assert_ne!(root.context.trace_id, raw.trace_id);
        assert!(root.context.sampled);
    }

    #[test]
    fn without_a_collector_there_are_no_spans() {
        let spans = Spans::default();
        assert!(spans.begin().is_none() && !spans.is_on());
    }

    #[test]
    fn root_spans_are_one_a_second_for_a_source_and_reason_and_twenty_in_all() {
        let (start, mut roots) = (Instant::now(), Roots::default());
        let stale = Reason::TimestampStale;
        let mut take =
            |source: &str, reason, offset, now| roots.take(source, reason, (0, offset), now);
        assert!(take("a", stale, 1, start));
        assert!(!take("a", stale, 2, start));
        // The same record is judged again.
        assert!(take("a", stale, 1, start));
        assert!(take("a", Reason::MissingField, 3, start));
        assert!(take("b", stale, 4, start));
        let more = (0..100).filter(|n| take(&n.to_string(), stale, *n, start));
        assert_eq!(more.count(), ROOTS - 3);
        assert!(!take("a", stale, 5, start + INTERVAL / 2));
        assert!(take("a", stale, 6, start + INTERVAL));
    }
}
