//! A request until its answer: what it counts as, whatever becomes of it.

use std::sync::Arc;
use std::time::Instant;

use crate::answer::Answer;
use crate::auth::Route;
use crate::metrics::{Metrics, Part};
use crate::spans::ServerSpan;

/// A request that has no answer yet. Where the work on it is dropped, its sender reset it or its connection
/// was ended, which is counted.
pub struct OpenRequest<'a> {
    metrics: &'a Metrics,
    source: Option<&'a Arc<str>>,
    /// When its head was there.
    since: Instant,
    /// What it waits for: its sender, or us.
    pub waits_for: Part,
    answered: bool,
    /// Where one is to be exported.
    pub span: Option<Box<ServerSpan>>,
}

impl<'a> OpenRequest<'a> {
    /// Its head is there. It counts for the source of its route, where it has one.
    pub fn new(metrics: &'a Metrics, route: Option<&'a Route>) -> Self {
        Self {
            metrics,
            source: route.map(|route| &route.name),
            since: Instant::now(),
            waits_for: Part::Body,
            answered: false,
            span: None,
        }
    }

    /// What log lines of it carry: nothing, where it is not traced.
    pub fn log(&self) -> tracing::Span {
        let span = self.span.as_ref();
        span.map_or_else(tracing::Span::none, |span| span.log())
    }

    /// It has its answer, and counts.
    pub fn answered(mut self, answer: Answer) {
        self.answered = true;
        let (log, span) = (self.log(), self.span.take());
        log.in_scope(|| self.metrics.answered(self.source, answer));
        let is_whole = answer != Answer::BrokenOff;
        if let Some(source) = self.source.filter(|_| is_whole) {
            let trace = span.as_ref().map(|span| span.trace_id());
            self.metrics.took(source, self.since.elapsed(), trace);
        }
        if let Some(span) = span {
            span.end(is_whole.then_some(answer));
        }
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.metrics.broken_off(self.source, self.waits_for);
            if let Some(span) = self.span.take() {
                span.end(None);
            }
        }
    }
}
