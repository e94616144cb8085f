//! What is written for a disposition: topic, value and headers, and what is counted after the commit.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;

use sluice_schemas::dedup_log::Entry;
use sluice_schemas::fate::{
    DETAIL, DUPLICATE_OF, Fate, RAW_OFFSET, RAW_PARTITION, RAW_TOPIC, REASON, detail,
};
use sluice_schemas::identity::event_id;
use sluice_schemas::metric::UNKNOWN_SOURCE;
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::settings::Source;
use sluice_schemas::topic::TopicNames;

use crate::pipeline::Disposition;
use crate::record::{Headers, Record};

/// The names that every fate needs, made once.
#[derive(Debug)]
pub struct FateTopics {
    raw: String,
    duplicates: String,
    rejected: String,
    dead_letter: String,
}

impl FateTopics {
    /// The topics under a prefix.
    pub fn new(names: &TopicNames) -> Self {
        Self {
            raw: names.raw(),
            duplicates: names.duplicates(),
            rejected: names.rejected(),
            dead_letter: names.dead_letter(),
        }
    }
}

/// What is counted when the transaction is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label<'a> {
    /// The source's name, or `unknown`.
    pub source: &'a str,
    /// The provider's name, or `unknown`.
    pub provider: &'static str,
    /// Where it ended.
    pub fate: Fate,
    /// Why, unless it is an event.
    pub reason: Option<Reason>,
}

/// A label as text: source, provider, fate, reason.
pub type FateLabels = [(&'static str, String); 4];

impl From<Label<'_>> for FateLabels {
    fn from(label: Label<'_>) -> Self {
        let reason = label.reason.map_or("", Reason::name);
        [
            ("source", label.source.to_owned()),
            ("provider", label.provider.to_owned()),
            ("fate", label.fate.name().to_owned()),
            ("reason", reason.to_owned()),
        ]
    }
}

/// A record on its way out.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The topic's full name.
    pub topic: &'a str,
    /// The raw record's key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Cow<'a, [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
    /// Milliseconds since 1970. Never this process's clock: the same raw record gives the same bytes.
    pub timestamp_ms: i64,
    /// What is counted.
    pub label: Label<'a>,
    /// What enters the dedup index: present for events alone.
    pub entry: Option<Entry>,
    /// It carries a signature that its source has no secret for.
    pub unverified_signature: bool,
}

/// Lays out the record that a disposition asks for.
pub fn outgoing<'a>(
    disposition: Disposition<'a>,
    record: &'a Record,
    topics: &'a FateTopics,
) -> Outgoing<'a> {
    match disposition {
        Disposition::Event(routed) => Outgoing {
            topic: routed.topic,
            key: record.key.as_deref(),
            value: Cow::Owned(routed.value),
            headers: routed.headers,
            timestamp_ms: routed.timestamp_ms,
            label: label(Some(routed.source), None),
            entry: Some(routed.entry),
            unverified_signature: routed.unverified_signature,
        },
        Disposition::Duplicate { source, of } => {
            let refusal = Reason::Duplicate.because("an event of this identity is there");
            let mut out = kept(Some(source), &refusal, record, topics);
            let id = event_id(&of.0).to_string().into_bytes();
            out.headers.push((DUPLICATE_OF, Some(Cow::Owned(id))));
            out
        }
        Disposition::Refused { source, refusal } => kept(source, &refusal, record, topics),
    }
}

/// The raw record as it came, with headers that say why it is where it is.
fn kept<'a>(
    source: Option<&'a Source>,
    refusal: &Refusal,
    record: &'a Record,
    topics: &'a FateTopics,
) -> Outgoing<'a> {
    let label = label(source, Some(refusal.reason));
    let topic = match label.fate {
        Fate::Duplicate => &topics.duplicates,
        Fate::Rejected => &topics.rejected,
        // An event has no refusal: the first arm of `outgoing` has taken it.
        Fate::DeadLetter | Fate::Event => &topics.dead_letter,
    };
    let owned = |text: String| Some(Cow::Owned(text.into_bytes()));
    let mut headers: Headers<'a> = Vec::with_capacity(record.headers.len() + 6);
    for (name, value) in &record.headers {
        headers.push((name, value.as_deref().map(Cow::Borrowed)));
    }
    headers.extend([
        (
            REASON,
            Some(Cow::Borrowed(refusal.reason.name().as_bytes())),
        ),
        (DETAIL, owned(detail(&refusal.detail).to_owned())),
        (RAW_TOPIC, Some(Cow::Borrowed(topics.raw.as_bytes()))),
        (RAW_PARTITION, owned(record.partition.to_string())),
        (RAW_OFFSET, owned(record.offset.to_string())),
    ]);
    Outgoing {
        topic,
        key: record.key.as_deref(),
        value: Cow::Borrowed(&record.value),
        headers,
        timestamp_ms: record.appended_ms,
        label,
        entry: None,
        unverified_signature: false,
    }
}

/// What is counted for a source and a reason; an event has none.
pub fn label(source: Option<&Source>, reason: Option<Reason>) -> Label<'_> {
    Label {
        source: source.map_or(UNKNOWN_SOURCE, |source| source.name.as_str()),
        provider: source.map_or(UNKNOWN_SOURCE, |source| source.provider.spec().name),
        fate: reason.map_or(Fate::Event, Reason::fate),
        reason,
    }
}
