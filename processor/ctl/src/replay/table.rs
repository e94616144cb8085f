//! What the topics say became of raw records: a small entry for each, by its place on raw.

use std::collections::{BTreeMap, HashMap};

use sluice_schemas::audit::fate_of;
use sluice_schemas::event::{
    CONTENT_TYPE, CONTENT_TYPE_CONFLUENT, CONTENT_TYPE_SINGLE_OBJECT, decode_known,
};
use sluice_schemas::fate::{DUPLICATE_OF, Fate, RAW_OFFSET, RAW_PARTITION, REASON};
use sluice_schemas::identity::sha256;
use sluice_schemas::record::Record;
use sluice_schemas::topic::TopicNames;
use uuid::Uuid;

use super::ranges::Slice;
use crate::records::Notes;
use crate::records::view::Unread;

/// What is held of a fate.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Of an event, its id; of a duplicate, that of the event that it repeats.
    id: u128,
    /// Of an event, the digest of its columns.
    digest: u64,
    offset: i64,
    partition: i32,
    topic: u16,
    reason: u16,
    fate: Fate,
}

/// What the topics say of a raw record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<'a> {
    /// Where it ended.
    pub fate: Fate,
    /// Why; empty where it is an event.
    pub reason: &'a str,
    /// The topic of its fate.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// The event's id, or that of the event that is repeated.
    pub id: u128,
    /// The digest of an event's columns.
    pub digest: u64,
}

/// The entries of some raw partitions.
pub struct Table {
    names: TopicNames,
    parts: BTreeMap<i32, (i64, Vec<Option<Entry>>)>,
    texts: Texts,
    /// Records with another fate than the one that is held.
    pub twice: u64,
}

/// Texts by number: there are few.
#[derive(Debug, Default)]
pub struct Texts {
    all: Vec<String>,
    numbers: HashMap<String, u16>,
}

impl Texts {
    /// The number of a text.
    pub fn number(&mut self, text: &str) -> u16 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        // Reasons and topics are of closed lists: so many others come from nobody of ours.
        let number = u16::try_from(self.all.len()).unwrap_or(u16::MAX);
        if number < u16::MAX {
            self.all.push(text.to_owned());
            self.numbers.insert(text.to_owned(), number);
        }
        number
    }

    /// The text of a number.
    pub fn text(&self, number: u16) -> &str {
        self.all.get(usize::from(number)).map_or("", String::as_str)
    }
}

impl Table {
    /// An empty one for these slices, at most one of each partition.
    pub fn new(names: &TopicNames, slices: &[Slice]) -> Self {
        let part = |slice: &Slice| {
            let length = usize::try_from(slice.len()).unwrap_or_default();
            (slice.part.partition, (slice.from, vec![None; length]))
        };
        Self {
            names: names.clone(),
            parts: slices.iter().map(part).collect(),
            texts: Texts::default(),
            twice: 0,
        }
    }

    /// Takes a record of a fate, if it is of one of the slices.
    pub fn take(&mut self, record: &Record, notes: &mut Notes) {
        let fate = fate_of(&self.names, &record.topic);
        let found = if fate == Fate::Event {
            event(record, notes)
        } else {
            kept(record, notes)
        };
        let Some((place, id, digest)) = found else {
            return;
        };
        if self.slot(place).is_none() {
            return;
        }
        let reason = record.text(REASON).filter(|_| fate != Fate::Event);
        let entry = Entry {
            id,
            digest,
            offset: record.offset,
            partition: record.partition,
            topic: self.texts.number(&record.topic),
            reason: self.texts.number(reason.unwrap_or_default()),
            fate,
        };
        let mut is_other = false;
        if let Some(slot) = self.slot(place) {
            let stands = |one: &Entry| (one.topic, one.partition, one.offset);
            is_other = slot.is_some_and(|held| stands(&held) != stands(&entry));
            slot.get_or_insert(entry);
        }
        self.twice += u64::from(is_other);
    }

    fn slot(&mut self, (partition, offset): (i32, i64)) -> Option<&mut Option<Entry>> {
        let (from, entries) = self.parts.get_mut(&partition)?;
        let at = usize::try_from(offset.checked_sub(*from)?).ok()?;
        entries.get_mut(at)
    }

    /// What is known of a raw record.
    pub fn get(&self, partition: i32, offset: i64) -> Option<Known<'_>> {
        let (from, entries) = self.parts.get(&partition)?;
        let at = usize::try_from(offset.checked_sub(*from)?).ok()?;
        let entry = (*entries.get(at)?)?;
        Some(Known {
            fate: entry.fate,
            reason: self.texts.text(entry.reason),
            topic: self.texts.text(entry.topic),
            partition: entry.partition,
            offset: entry.offset,
            id: entry.id,
            digest: entry.digest,
        })
    }

    /// The first and the last offset of a slice of which nothing is known, from an offset on.
    pub fn lacking(&self, slice: &Slice) -> Option<(i64, i64)> {
        let (from, entries) = self.parts.get(&slice.part.partition)?;
        let first = usize::try_from(slice.part.since - from).unwrap_or_default();
        let compared = entries.get(first..)?;
        let lacks = |entry: &Option<Entry>| entry.is_none();
        let at = |index: usize| i64::try_from(first + index).unwrap_or_default() + from;
        let low = compared.iter().position(lacks)?;
        let high = compared.iter().rposition(lacks)?;
        Some((at(low), at(high)))
    }

    /// The ids of the events of a partition.
    pub fn events(&self, partition: i32) -> impl Iterator<Item = u128> + '_ {
        let part = self.parts.get(&partition);
        let entries = part.map_or(&[][..], |(_, entries)| entries.as_slice());
        let events = entries
            .iter()
            .flatten()
            .filter(|one| one.fate == Fate::Event);
        events.map(|one| one.id)
    }
}

/// What a record of an event says: its place on raw, its id, the digest of its columns.
fn event(record: &Record, notes: &mut Notes) -> Option<((i32, i64), u128, u64)> {
    let content_type = record.text(CONTENT_TYPE);
    match decode_known(content_type, &record.value) {
        Ok((event, more)) => {
            notes.unread((more > 0).then_some(&Unread::Newer));
            let digest = digest(content_type, &record.value);
            Some((
                (event.raw_partition, event.raw_offset),
                number(&event.id),
                digest,
            ))
        }
        Err(error) => {
            notes.unread(Some(&Unread::Malformed(error.to_string())));
            None
        }
    }
}

fn kept(record: &Record, notes: &mut Notes) -> Option<((i32, i64), u128, u64)> {
    let place = record.number(RAW_PARTITION).zip(record.number(RAW_OFFSET));
    let place =
        place.and_then(|(partition, offset)| Some((i32::try_from(partition).ok()?, offset)));
    if place.is_none() {
        notes.unread(Some(&Unread::Malformed(
            "it names no raw record".to_owned(),
        )));
    }
    Some((
        place?,
        number(record.text(DUPLICATE_OF).unwrap_or_default()),
        0,
    ))
}

/// An id as a number. What is no id of ours is its digest.
pub fn number(id: &str) -> u128 {
    if id.is_empty() {
        return 0;
    }
    id.parse::<Uuid>().map_or_else(
        |_| {
            let mut first = [0; 16];
            first.copy_from_slice(&sha256(id.as_bytes())[..16]);
            u128::from_be_bytes(first)
        },
        |id| id.as_u128(),
    )
}

/// The digest of an event's columns: of its value, without what frames it.
pub fn digest(content_type: Option<&str>, value: &[u8]) -> u64 {
    let framing = match content_type {
        Some(CONTENT_TYPE_SINGLE_OBJECT) => 10,
        Some(CONTENT_TYPE_CONFLUENT) => 5,
        _ => 0,
    };
    let mut first = [0; 8];
    first.copy_from_slice(&sha256(value.get(framing..).unwrap_or_default())[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::super::ranges::Part;
    use super::*;

    fn slice(partition: i32, from: i64, since: i64, end: i64) -> Slice {
        let part = Part {
            partition,
            begin: from,
            ahead: from,
            since,
            end,
            in_flight: 0,
        };
        Slice { part, from, end }
    }

    fn rejected(place: (i32, i64), offset: i64) -> Record {
        let header = |name: &str, value: String| (name.to_owned(), value.into_bytes());
        Record {
            topic: "webhooks.rejected".to_owned(),
            partition: 2,
            offset,
            timestamp: 0,
            key: Vec::new(),
            value: Vec::new(),
            headers: vec![
                header(REASON, "signature_mismatch".to_owned()),
                header(RAW_PARTITION, place.0.to_string()),
                header(RAW_OFFSET, place.1.to_string()),
            ],
        }
    }

    #[test]
    fn an_entry_is_under_a_hundred_bytes_and_others_partitions_are_left_out() {
        assert!(size_of::<Option<Entry>>() <= 64);
        let slices = [slice(0, 10, 12, 20), slice(3, 0, 0, 5)];
        let (mut table, mut notes) = (
            Table::new(&TopicNames::default(), &slices),
            Notes::default(),
        );
        for (place, offset) in [
            ((0, 9), 0),
            ((0, 13), 1),
            ((0, 20), 2),
            ((1, 13), 3),
            ((3, 4), 4),
        ] {
            table.take(&rejected(place, offset), &mut notes);
        }
        let known = table.get(0, 13).expect("it is of a slice");
        assert_eq!(
            (
                known.fate,
                known.reason,
                known.topic,
                known.partition,
                known.offset
            ),
            (
                Fate::Rejected,
                "signature_mismatch",
                "webhooks.rejected",
                2,
                1
            )
        );
        assert!(table.get(3, 4).is_some());
        for place in [(0, 9), (0, 12), (0, 20), (1, 13)] {
            assert!(table.get(place.0, place.1).is_none());
        }
        // What is read ahead need not have a fate.
        assert_eq!(table.lacking(&slices[0]), Some((12, 19)));
        assert_eq!(table.lacking(&slices[1]), Some((0, 3)));
        // The same record again is one; another one of the same raw record is not.
        table.take(&rejected((0, 13), 1), &mut notes);
        assert_eq!(table.twice, 0);
        table.take(&rejected((0, 13), 7), &mut notes);
        assert_eq!(table.twice, 1);
        assert_eq!(notes.unreadable, 0);
        table.take(
            &Record {
                headers: Vec::new(),
                ..rejected((0, 13), 8)
            },
            &mut notes,
        );
        assert_eq!(notes.unreadable, 1);
    }

    #[test]
    fn columns_have_one_digest_in_either_framing() {
        let single = [&[0xc3, 0x01, 1, 2, 3, 4, 5, 6, 7, 8], b"columns".as_slice()].concat();
        let confluent = [&[0, 0, 0, 0, 7], b"columns".as_slice()].concat();
        let of_single = digest(Some(CONTENT_TYPE_SINGLE_OBJECT), &single);
        assert_eq!(of_single, digest(Some(CONTENT_TYPE_CONFLUENT), &confluent));
        assert_ne!(
            of_single,
            digest(Some(CONTENT_TYPE_SINGLE_OBJECT), &confluent)
        );
        let id = Uuid::from_u128(7).to_string();
        assert_eq!((number(&id), number("")), (7, 0));
        assert_ne!(number("x"), number("y"));
    }
}
