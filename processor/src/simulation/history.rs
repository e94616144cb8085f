//! What happened in a run: the brokers' doings and the engine's own log, in one order.

use std::cell::RefCell;
use std::fmt::Write as _;

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use super::state::SECOND;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    static STOPPED: RefCell<Option<String>> = const { RefCell::new(None) };
    static NOW: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Begins a history of this thread, or none.
pub fn begin(recorded: bool) {
    LINES.with_borrow_mut(|lines| *lines = recorded.then(Vec::new));
    STOPPED.set(None);
}

/// Who acts now, and when, microseconds.
pub fn at(now: u64, who: impl FnOnce() -> String) {
    if LINES.with_borrow(Option::is_some) {
        NOW.set((now, who()));
    }
}

/// Adds a line.
pub fn note(line: impl FnOnce() -> String) {
    LINES.with_borrow_mut(|lines| {
        if let Some(lines) = lines {
            NOW.with_borrow(|(now, who)| {
                let (seconds, micros) = (now / SECOND, now % SECOND);
                lines.push(format!("{seconds:>4}.{micros:06} {who:>9}  {}", line()));
            });
        }
    });
}

/// All lines, and no more from now on.
pub fn end() -> String {
    LINES.take().unwrap_or_default().join("\n")
}

/// Why operator action was required, if so. Nothing in the simulation needs the operator.
pub fn called_the_operator() -> Option<String> {
    STOPPED.take()
}

/// Takes the engine's log into the history, where there is one, and watches for operator action required.
pub struct Log;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}

impl Subscriber for Log {
    // What is enabled differs by thread and time, so nothing about a call may be kept.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let recorded = LINES.with_borrow(Option::is_some);
        metadata.target().starts_with("sluice_processor")
            && (recorded || *metadata.level() == Level::ERROR)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(format!("{}: ", event.metadata().level()));
        event.record(&mut text);
        if text
            .0
            .contains("this partition stops: operator action required")
        {
            STOPPED.set(Some(text.0.clone()));
        }
        note(|| text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
