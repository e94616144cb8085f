//! Spans: made whole once they are over, and exported in batches by OTLP.
//!
//! A collector that is away, slow or hostile costs spans, which are counted, and nothing else.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor,
};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use sluice_schemas::trace::TraceContext;
use tokio::runtime::Handle;

use super::otlp::Collector;
use super::repeated::Repeated;
use crate::RELEASE;

/// Spans that wait for the collector or are on their way; more are dropped.
const QUEUE: usize = 2048;

/// Spans of one export.
const BATCH: usize = 512;

/// How often spans are exported.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts spans by what became of them.
pub type SpanCounter = Family<[(&'static str, &'static str); 1], Counter>;

/// What became of spans: the label of [`sluice_schemas::metric::service::SPANS`].
pub(super) const RESULTS: [&str; 4] = ["exported", "failed", "dropped", "limited"];

/// The role of a span.
pub type Kind = SpanKind;

/// A span that is over.
#[derive(Debug)]
pub struct Span {
    /// The span, of a trace that is sampled.
    pub context: TraceContext,
    /// The span above it; `None` at the root.
    pub parent: Option<[u8; 8]>,
    /// Its role.
    pub kind: Kind,
    /// Its name, one of few.
    pub name: Cow<'static, str>,
    /// Since when.
    pub start: SystemTime,
    /// Until when.
    pub end: SystemTime,
    /// What is known of it.
    pub attributes: Vec<KeyValue>,
    /// Spans that it has to do with.
    pub links: Vec<TraceContext>,
    /// What failed, if it did.
    pub error: Option<Cow<'static, str>>,
}

/// Takes spans. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Sink>>);

/// Where spans go.
enum Sink {
    Collector(Box<Exporter>),
    Function(Box<dyn Fn(Span) + Send + Sync>),
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collector(exporter) => exporter.fmt(f),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

#[derive(Debug)]
struct Exporter {
    processor: BatchSpanProcessor,
    pending: Arc<AtomicUsize>,
    spans: SpanCounter,
    scope: InstrumentationScope,
}

impl Traces {
    /// Exports to the collector. Within a runtime, which the exports run on.
    pub fn new(
        collector: &Collector,
        resource: &Resource,
        spans: SpanCounter,
    ) -> Result<Self, String> {
        let exporter = collector.spans().map_err(|error| error.to_string())?;
        let pending = Arc::new(AtomicUsize::new(0));
        let mut counted = Counted {
            exporter: Arc::new(exporter),
            runtime: Handle::current(),
            timeout: collector.timeout(),
            pending: Arc::clone(&pending),
            spans: spans.clone(),
            failures: Mutex::default(),
        };
        counted.set_resource(resource);
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(INTERVAL)
            .build();
        let scope = InstrumentationScope::builder("sluice")
            .with_version(RELEASE)
            .with_schema_url(SCHEMA_URL)
            .build();
        Ok(Self(Some(Arc::new(Sink::Collector(Box::new(Exporter {
            processor: BatchSpanProcessor::new(counted, config),
            pending,
            spans,
            scope,
        }))))))
    }

    /// Gives each span to a function, for tests that look at spans.
    pub fn to(function: impl Fn(Span) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Sink::Function(Box::new(function)))))
    }

    /// Whether spans go anywhere: where they do not, none need to be made.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a span.
    pub fn emit(&self, span: Span) {
        let exporter = match self.0.as_deref() {
            Some(Sink::Collector(exporter)) => exporter,
            Some(Sink::Function(function)) => return function(span),
            None => return,
        };
        if exporter.pending.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            exporter.pending.fetch_sub(1, Ordering::Relaxed);
            exporter.count("dropped", 1);
            return;
        }
        exporter
            .processor
            .on_end(data(span, exporter.scope.clone()));
    }

    /// Counts spans that were not made, for there would be too many of their kind.
    pub fn limited(&self, spans: u64) {
        if let Some(Sink::Collector(exporter)) = self.0.as_deref() {
            exporter.count("limited", spans);
        }
    }

    /// Exports what waits, within a time.
    pub async fn close(&self, within: Duration) {
        let Some(sink) = self.0.clone() else {
            return;
        };
        let closed = tokio::task::spawn_blocking(move || {
            if let Sink::Collector(exporter) = &*sink {
                // What is left is counted as failed where the exporter sees it.
                let _ = exporter.processor.shutdown_with_timeout(within);
            }
        });
        if tokio::time::timeout(within, closed).await.is_err() {
            tracing::info!("the last spans were not exported in time");
        }
    }
}

impl Exporter {
    fn count(&self, result: &'static str, spans: u64) {
        self.spans
            .get_or_create(&[("result", result)])
            .inc_by(spans);
    }
}

/// The semantic conventions that names of spans and attributes follow.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

fn data(span: Span, scope: InstrumentationScope) -> SpanData {
    let mut links = opentelemetry_sdk::trace::SpanLinks::default();
    links.links = span
        .links
        .iter()
        .map(|context| Link::new(span_context(context, true), Vec::new(), 0))
        .collect();
    SpanData {
        span_context: span_context(&span.context, false),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: false,
        span_kind: span.kind,
        name: span.name,
        start_time: span.start,
        end_time: span.end,
        attributes: span.attributes,
        dropped_attributes_count: 0,
        events: opentelemetry_sdk::trace::SpanEvents::default(),
        links,
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope,
    }
}

fn span_context(context: &TraceContext, is_remote: bool) -> SpanContext {
    let flags = if context.sampled {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::default()
    };
    SpanContext::new(
        TraceId::from_bytes(context.trace_id),
        SpanId::from_bytes(context.span_id),
        flags,
        is_remote,
        TraceState::NONE,
    )
}

/// The exporter of spans, with its results counted and its failures logged now and then.
#[derive(Debug)]
struct Counted {
    exporter: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: Handle,
    timeout: Duration,
    pending: Arc<AtomicUsize>,
    spans: SpanCounter,
    failures: Mutex<Repeated>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let (exporter, timeout) = (Arc::clone(&self.exporter), self.timeout);
        // On the runtime: the thread that asks has none.
        let export = async move { tokio::time::timeout(timeout, exporter.export(batch)).await };
        let error = match self.runtime.spawn(export).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()),
            Ok(Err(_)) => Some(format!("no answer within {timeout:?}")),
            Err(_) => Some("the process ends".to_owned()),
        };
        self.pending.fetch_sub(count, Ordering::Relaxed);
        let result = if error.is_none() {
            "exported"
        } else {
            "failed"
        };
        self.spans
            .get_or_create(&[("result", result)])
            .inc_by(count as u64);
        let mut failures = self.failures.lock();
        let Some(error) = error else {
            failures.over();
            return Ok(());
        };
        if let Some(repeated) = failures.came(Instant::now()) {
            tracing::warn!(error, repeated, "spans were not exported and are lost");
        }
        Err(OTelSdkError::InternalFailure(error))
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}
