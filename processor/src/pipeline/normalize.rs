//! Third verb: the provider's payload becomes the one event.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use sluice_schemas::dedup_log::Entry;
use sluice_schemas::event::{Envelope, WebhookEvent};
use sluice_schemas::identity::event_id;
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::settings::Source;
use uuid::Uuid;

use crate::pipeline::dedupe::Fresh;
use crate::record::Record;

/// An event that is ready to be routed. Only [`normalize`] makes one.
pub struct Event<'a> {
    pub(crate) source: &'a Source,
    pub(crate) columns: WebhookEvent,
    pub(crate) entry: Entry,
    pub(crate) unverified_signature: bool,
    _only_here: (),
}

/// Fills the event's columns. The body of an authentic payload is UTF-8, for its provider has read
/// it as JSON; one that is not is refused all the same.
pub fn normalize<'s>(fresh: Fresh<'s, '_>, record: &Record) -> Result<Event<'s>, Refusal> {
    let Fresh {
        verified, entry, ..
    } = fresh;
    let (request, proof) = (verified.request, verified.authentic.proof);
    let fields = verified.authentic.payload.fields().without_nul();
    let data = std::str::from_utf8(&record.value)
        .map_err(|_| Reason::NotUtf8.because("the body is not UTF-8"))?
        .to_owned();
    let subject = match (&fields.entity_type, &fields.entity_id) {
        (Some(kind), Some(id)) => Some([kind, "/", id].concat()),
        _ => None,
    };
    let columns = fields.into_event(Envelope {
        id: text(event_id(&entry.identity)),
        source: request.source.clone(),
        provider: request.provider.clone(),
        subject,
        received_at: request.received_at.div_euclid(1000),
        authenticity: proof.authenticity.name().to_owned(),
        signature_scheme: proof.scheme.map(str::to_owned),
        key_id: proof.key_id,
        request_id: text(request.id),
        raw_partition: record.partition,
        raw_offset: record.offset,
        data,
    });
    Ok(Event {
        source: verified.source,
        columns,
        entry,
        unverified_signature: proof.unverified_signature,
        _only_here: (),
    })
}

/// The id as text.
fn text(id: Uuid) -> String {
    let mut digits = Uuid::encode_buffer();
    id.hyphenated().encode_lower(&mut digits).to_owned()
}
