//! What a record of raw or of a fate says of itself, from its headers or its event.

use serde::Serialize;
use sluice_schemas::audit::fate_of;
use sluice_schemas::event::{CONTENT_TYPE, WebhookEvent, decode_known};
use sluice_schemas::fate::{
    DETAIL, DUPLICATE_OF, Fate, RAW_OFFSET, RAW_PARTITION, REASON, REDRIVE_COUNT,
};
use sluice_schemas::raw::{REQUEST, RawError, RawRequest, TRACEPARENT};
use sluice_schemas::record::Record;
use sluice_schemas::timestamp::rfc3339;
use sluice_schemas::topic::TopicNames;
use sluice_schemas::trace::TraceContext;

use super::window::shown;
use crate::output::{counted, plain};

/// The place of a raw record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// Partition.
    pub partition: i64,
    /// Offset.
    pub offset: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

/// Why a record says less of itself than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// A newer release wrote it.
    Newer,
    /// No release did.
    Malformed(String),
}

/// A record of raw or of a fate. What it does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct View {
    /// When it was appended to raw; of an event, when it was received. RFC 3339.
    pub time: Option<String>,
    /// Where it ended; `None` for a record of raw.
    pub fate: Option<&'static str>,
    /// Why, unless it is an event.
    pub reason: Option<String>,
    /// The same in one sentence.
    pub detail: Option<String>,
    /// The source's name.
    pub source: Option<String>,
    /// The provider's name.
    pub provider: Option<String>,
    /// The type, which events alone say.
    pub r#type: Option<String>,
    /// Ingest's id of the request.
    pub request_id: Option<String>,
    /// The event's id; on duplicates, that of the event that they repeat.
    pub event: Option<String>,
    /// The provider's own id of the delivery, which events alone say.
    pub delivery_id: Option<String>,
    /// The raw record.
    pub raw: Option<Place>,
    /// The topic it stands on, with its place there.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// When ingest received the request. RFC 3339.
    pub received_at: Option<String>,
    /// How often it was redriven.
    pub redrive_count: u64,
    /// The trace that ingest began, in hex.
    pub trace_id: Option<String>,
    /// The time as a number, for windows.
    #[serde(skip)]
    pub millis: i64,
    /// The time of receipt as a number, milliseconds since 1970.
    #[serde(skip)]
    pub received: Option<i64>,
    /// What of it cannot be read.
    #[serde(skip)]
    pub unread: Option<Unread>,
}

/// A record with what it holds.
#[derive(Debug)]
pub struct Read {
    /// What it says of itself.
    pub view: View,
    /// The request, on all but events.
    pub request: Option<RawRequest>,
    /// The event.
    pub event: Option<WebhookEvent>,
}

/// Reads a record of raw or of a fate.
pub fn read(names: &TopicNames, record: &Record) -> Read {
    let is_raw = record.topic == names.raw();
    let fate = (!is_raw).then(|| fate_of(names, &record.topic));
    let trace = record.header(TRACEPARENT).and_then(TraceContext::parse);
    let view = View {
        time: rfc3339(record.timestamp),
        fate: fate.map(Fate::name),
        topic: record.topic.clone(),
        partition: record.partition,
        offset: record.offset,
        redrive_count: number(record, REDRIVE_COUNT)
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or_default(),
        trace_id: trace.map(|trace| trace.trace()),
        millis: record.timestamp,
        ..View::default()
    };
    if fate == Some(Fate::Event) {
        event(view, record)
    } else {
        kept(view, record, is_raw)
    }
}

fn number(record: &Record, name: &str) -> Option<i64> {
    record.number(name)
}

fn event(mut view: View, record: &Record) -> Read {
    let (event, more) = match decode_known(record.text(CONTENT_TYPE), &record.value) {
        Ok(known) => known,
        Err(error) => {
            view.unread = Some(Unread::Malformed(error.to_string()));
            return Read {
                view,
                request: None,
                event: None,
            };
        }
    };
    view.unread = (more > 0).then_some(Unread::Newer);
    let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    view.source = filled(&event.source);
    view.provider = filled(&event.provider);
    view.r#type = filled(&event.r#type);
    view.request_id = filled(&event.request_id);
    view.event = filled(&event.id);
    view.delivery_id.clone_from(&event.delivery_id);
    view.received = Some(event.received_at);
    view.received_at = rfc3339(event.received_at);
    view.raw = Some(Place {
        partition: i64::from(event.raw_partition),
        offset: event.raw_offset,
    });
    Read {
        view,
        request: None,
        event: Some(event),
    }
}

/// A record as it came, with the headers of its fate.
fn kept(mut view: View, record: &Record, is_raw: bool) -> Read {
    let text = |name| record.text(name).map(str::to_owned);
    view.reason = text(REASON);
    view.detail = text(DETAIL);
    view.event = text(DUPLICATE_OF);
    view.raw = if is_raw {
        Some(Place {
            partition: i64::from(record.partition),
            offset: record.offset,
        })
    } else {
        let place = record.number(RAW_PARTITION).zip(record.number(RAW_OFFSET));
        place.map(|(partition, offset)| Place { partition, offset })
    };
    let request = match record.header(REQUEST).map(RawRequest::decode) {
        Some(Ok(request)) => Some(request),
        Some(Err(RawError::Newer(_))) => {
            view.unread = Some(Unread::Newer);
            None
        }
        Some(Err(RawError::Malformed(reason))) => {
            view.unread = Some(Unread::Malformed(reason));
            None
        }
        None => {
            view.unread = Some(Unread::Malformed("it has no request header".to_owned()));
            None
        }
    };
    if let Some(request) = &request {
        view.source = Some(request.source.clone());
        view.provider = Some(request.provider.clone());
        view.request_id = Some(request.id.to_string());
        let received = request.received_at.div_euclid(1000);
        view.received = Some(received);
        view.received_at = rfc3339(received);
    }
    Read {
        view,
        request,
        event: None,
    }
}

impl View {
    /// As one line.
    pub fn line(&self) -> String {
        let or =
            |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
        let fate = match (self.fate, &self.reason) {
            (Some(fate), Some(reason)) if fate != reason => format!("{fate} {reason}"),
            (Some(fate), _) => fate.to_owned(),
            (None, _) => "raw".to_owned(),
        };
        let mut parts = vec![
            shown(self.millis),
            fate,
            or(&self.source, "(unknown source)"),
        ];
        parts.extend(self.r#type.clone());
        parts.extend(self.request_id.as_ref().map(|id| format!("request {id}")));
        parts.extend(self.event.as_ref().map(|id| match self.fate {
            Some("duplicate") => format!("repeats {id}"),
            _ => format!("event {id}"),
        }));
        parts.extend(self.raw.map(|place| format!("raw {place}")));
        parts.push(format!("{}/{}/{}", self.topic, self.partition, self.offset));
        if self.redrive_count > 0 {
            let times = counted(self.redrive_count, "time");
            parts.push(format!("redriven {times}"));
        }
        parts.extend(self.detail.clone());
        parts.extend(self.unread.as_ref().map(|unread| match unread {
            Unread::Newer => "of a newer release".to_owned(),
            Unread::Malformed(reason) => format!("cannot be read: {reason}"),
        }));
        plain(&parts.join("  "))
    }
}

#[cfg(test)]
mod tests;
