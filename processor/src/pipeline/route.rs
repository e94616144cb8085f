//! Fourth verb: which topic, in which framing, with which headers.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;
use std::collections::HashMap;

use apache_avro::writer::datum::GenericDatumWriter;
use sluice_schemas::cloudevents::{SPECVERSION, attributes};
use sluice_schemas::dedup_log::Entry;
use sluice_schemas::event::{
    CONTENT_TYPE, CONTENT_TYPE_CONFLUENT, CONTENT_TYPE_SINGLE_OBJECT, FINGERPRINT, InOrder, PARSED,
    WebhookEvent,
};
use sluice_schemas::identity::Fingerprint;
use sluice_schemas::raw::TRACEPARENT;
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::settings::{Settings, Source};
use sluice_schemas::topic::OTHER;

use crate::pipeline::normalize::Event;
use crate::pipeline::notes::Notes;
use crate::record::Record;
use crate::record::{Headers, record_size};

/// How the values of a topic are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A zero byte and the registry's schema id.
    Confluent(u32),
    /// Avro's single-object encoding: a marker and the schema's Rabin fingerprint.
    SingleObject,
}

/// An event topic.
#[derive(Debug)]
struct EventTopic {
    name: String,
    prefix: Vec<u8>,
    content_type: &'static str,
}

/// Where each source's events go. A sender's text never becomes a topic's name: types are looked up
/// here, and what is not found goes to the provider's `other`.
pub struct Router {
    topics: HashMap<String, SourceTopics>,
    /// `max.message.bytes` of the event topics.
    max_message_bytes: usize,
    cloudevents: bool,
    writer: GenericDatumWriter<'static>,
}

struct SourceTopics {
    by_type: HashMap<String, EventTopic>,
    other: EventTopic,
}

/// An event with its topic and its bytes. Only [`route`] makes one.
pub struct Routed<'a> {
    pub(crate) source: &'a Source,
    pub(crate) entry: Entry,
    pub(crate) unverified_signature: bool,
    pub(crate) topic: &'a str,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Headers<'a>,
    pub(crate) timestamp_ms: i64,
    _only_here: (),
}

impl Routed<'_> {
    /// The source that it is of.
    pub fn source(&self) -> &Source {
        self.source
    }

    /// What makes it the same event as another one.
    pub fn identity(&self) -> Fingerprint {
        self.entry.identity
    }
}

impl Router {
    /// Lays out the topics of all sources. `framing` says how a topic (by its full name) is framed.
    pub fn new(
        settings: &Settings,
        framing: impl Fn(&str) -> Framing,
    ) -> Result<Self, apache_avro::Error> {
        let topic = |provider: &str, r#type: &str| {
            let name = settings.topics.names.event(provider, r#type);
            let (prefix, content_type) = match framing(&name) {
                Framing::Confluent(id) => {
                    let mut prefix = vec![0];
                    prefix.extend(id.to_be_bytes());
                    (prefix, CONTENT_TYPE_CONFLUENT)
                }
                Framing::SingleObject => {
                    let mut prefix = vec![0xc3, 0x01];
                    prefix.extend(FINGERPRINT);
                    (prefix, CONTENT_TYPE_SINGLE_OBJECT)
                }
            };
            EventTopic {
                name,
                prefix,
                content_type,
            }
        };
        let source_topics = |source: &Source| {
            let provider = source.provider.spec().name;
            let by_type = |r#type: &str| (r#type.to_owned(), topic(provider, r#type));
            SourceTopics {
                by_type: source.topic_types().map(by_type).collect(),
                other: topic(provider, OTHER),
            }
        };
        let largest = settings.output_max_message_bytes();
        Ok(Self {
            topics: settings
                .sources
                .iter()
                .map(|(name, source)| (name.clone(), source_topics(source)))
                .collect(),
            max_message_bytes: usize::try_from(largest).unwrap_or(usize::MAX),
            cloudevents: settings.processor.cloudevents_headers,
            writer: GenericDatumWriter::builder(&PARSED).build()?,
        })
    }

    /// The topic, and whether it is the one of all other types.
    fn topic(&self, source: &str, r#type: &str) -> Option<(&EventTopic, bool)> {
        let topics = self.topics.get(source)?;
        let own = topics.by_type.get(r#type);
        Some((own.unwrap_or(&topics.other), own.is_none()))
    }
}

/// Picks the topic and encodes the event for it.
pub fn route<'a>(
    event: Event<'a>,
    record: &'a Record,
    router: &'a Router,
    notes: &mut Notes,
) -> Result<Routed<'a>, Refusal> {
    let Event {
        source,
        columns,
        entry,
        unverified_signature,
        ..
    } = event;
    let too_large = |why: &str| Reason::TooLargeForTopic.because(why);
    let Some((topic, is_other)) = router.topic(&source.name, &columns.r#type) else {
        return Err(Reason::UnknownSource.because("the source has no topics"));
    };
    let mut value = Vec::with_capacity(topic.prefix.len() + columns.data.len() + 512);
    value.extend(&topic.prefix);
    // The struct has the schema's columns in their order, and writing to memory cannot fail: should the
    // library refuse all the same, the record is kept as a dead letter.
    if router
        .writer
        .write_ser(&mut value, &InOrder(&columns))
        .is_err()
    {
        return Err(too_large("the event cannot be encoded"));
    }
    let headers = headers(&columns, topic.content_type, record, router.cloudevents);
    if record_size(record.key.as_deref(), &value, &headers) > router.max_message_bytes {
        return Err(too_large(
            "the event is larger than max.message.bytes of its topic",
        ));
    }
    notes.unknown_type = is_other;
    notes.r#type = Some(columns.r#type);
    notes.key_id = columns.key_id;
    Ok(Routed {
        source,
        entry,
        unverified_signature,
        topic: &topic.name,
        value,
        headers,
        timestamp_ms: columns.received_at,
        _only_here: (),
    })
}

/// `content-type`, `CloudEvents` 1.0 in binary mode, and the trace of the request.
fn headers<'a>(
    event: &WebhookEvent,
    content_type: &'static str,
    record: &'a Record,
    cloudevents: bool,
) -> Headers<'a> {
    let mut headers: Headers<'a> = Vec::with_capacity(8);
    headers.push((CONTENT_TYPE, Some(Cow::Borrowed(content_type.as_bytes()))));
    if cloudevents {
        let (name, version) = SPECVERSION;
        headers.push((name, Some(Cow::Borrowed(version.as_bytes()))));
        let owned = |text: Cow<'_, str>| Some(Cow::Owned(text.into_owned().into_bytes()));
        headers.extend(attributes(event).map(|(name, value)| (name, owned(value))));
    }
    if let Some(trace) = record.header(TRACEPARENT) {
        headers.push((TRACEPARENT, Some(Cow::Borrowed(trace))));
    }
    headers
}
