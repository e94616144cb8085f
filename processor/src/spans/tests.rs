//! Which records and attempts have a span, and what stands in it.

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
    match spans.judged(&record, label(reason), &notes) {
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
    let mut take = |source: &str, reason, offset, now| roots.take(source, reason, (0, offset), now);
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
