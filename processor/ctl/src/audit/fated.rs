//! What a record of a fate topic says, as far as an audit of very many needs it.

use sluice_schemas::audit::fate_of;
use sluice_schemas::event::{self, CONTENT_TYPE, Named};
use sluice_schemas::fate::{DUPLICATE_OF, Fate, RAW_OFFSET, RAW_PARTITION, RAW_TOPIC};
use sluice_schemas::identity::fingerprint;
use sluice_schemas::record::Record;
use sluice_schemas::topic::TopicNames;
use uuid::Uuid;

/// The partition and the offset of a raw record.
pub type RawPlace = (i32, i64);

/// What a record of a fate topic says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fated {
    /// Where it ended.
    pub fate: Fate,
    /// The raw record.
    pub raw: RawPlace,
    /// The event's id in 16 bytes; on duplicates, that of the event that they repeat.
    pub event: Option<u128>,
    /// The same of events, and what else they say.
    pub named: Option<Named>,
}

/// Reads a record; `None` where no release wrote it.
pub fn read(names: &TopicNames, record: &Record) -> Option<Fated> {
    let fate = fate_of(names, &record.topic);
    if fate == Fate::Event {
        let event = event::named(record.text(CONTENT_TYPE), &record.value).ok()?;
        return Some(Fated {
            fate,
            raw: (event.raw_partition, event.raw_offset),
            event: Some(key(&event.id)),
            named: Some(event),
        });
    }
    let topic = record.text(RAW_TOPIC)?;
    if topic != names.raw() {
        return None;
    }
    let (partition, offset) = (record.number(RAW_PARTITION)?, record.number(RAW_OFFSET)?);
    let of = record.text(DUPLICATE_OF).map(key);
    Some(Fated {
        fate,
        raw: (i32::try_from(partition).ok()?, offset),
        event: of.filter(|_| fate == Fate::Duplicate),
        named: None,
    })
}

/// An event's id in 16 bytes. None of ours is anything but a UUID.
fn key(id: &str) -> u128 {
    let other = |_| u128::from_be_bytes(fingerprint("", [id.as_bytes()]));
    id.parse().map_or_else(other, |id: Uuid| id.as_u128())
}
