//! Reading the topics of fates for a table, and what retention has taken from them.

use std::collections::BTreeMap;

use rdkafka::metadata::MetadataTopic;
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;

use super::ranges::{Plan, Slice};
use super::table::Table;
use crate::failure::Failure;
use crate::records::reader::{Range, Topics};
use crate::records::{Notes, fate_topics};

/// The topics of fates.
pub struct Fates<'a> {
    settings: &'a Settings,
    names: Vec<String>,
}

/// The fates of some slices.
pub struct Held {
    /// What is known.
    pub table: Table,
    /// Fates of an earlier time may be deleted, milliseconds since 1970.
    pub cut_ms: i64,
}

impl<'a> Fates<'a> {
    /// All topics that events are or were on, and those of the other fates.
    pub fn new(settings: &'a Settings, topics: &Topics) -> Result<Self, Failure> {
        let mut names = fate_topics(settings);
        let events = format!("{}events.", settings.topics.names.prefix);
        // A type that lost its topic has its former events there.
        let metadata = topics.metadata(None)?;
        let listed = metadata.topics().iter().map(MetadataTopic::name);
        for name in listed.filter(|name| name.starts_with(&events)) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Ok(Self { settings, names })
    }

    /// The fates of these slices.
    pub fn read(&self, plan: &Plan, slices: &[Slice], notes: &mut Notes) -> Result<Held, Failure> {
        let mut held = Held {
            table: Table::new(&self.settings.topics.names, slices),
            cut_ms: i64::MIN,
        };
        self.read_since(plan.ahead_ms, &mut held, notes)?;
        // An event has the time of its receipt: of a request that waited on a spool it may be days before the
        // append to raw. And a fate is seen a little after its offset is.
        if let Some(earliest) = self.earliest(plan, slices, &held)? {
            let mut again = Notes::default();
            self.read_since(earliest, &mut held, &mut again)?;
        }
        Ok(held)
    }

    fn read_since(&self, since: i64, held: &mut Held, notes: &mut Notes) -> Result<(), Failure> {
        let topics = Topics::new(self.settings)?;
        let opened = topics.open(&self.names, Some(since))?;
        notes.lacking.clone_from(&opened.lacking);
        let mut cut = Cut::new(&opened.ranges);
        topics.read(&opened.ranges, &mut |record| {
            cut.take(&record);
            held.table.take(&record, notes);
        })?;
        held.cut_ms = held.cut_ms.max(cut.millis());
        Ok(())
    }

    /// The earliest time that the fate of a compared record without one can have; `None` where each has one
    /// or may have lost it.
    fn earliest(&self, plan: &Plan, slices: &[Slice], held: &Held) -> Result<Option<i64>, Failure> {
        let lacking = slices.iter().filter_map(|slice| {
            let (low, high) = held.table.lacking(slice)?;
            Some(Range {
                topic: plan.raw.clone(),
                partition: slice.part.partition,
                begin: slice.part.begin,
                from: low,
                end: high + 1,
            })
        });
        let ranges: Vec<Range> = lacking.collect();
        let mut earliest: Option<i64> = None;
        if ranges.is_empty() {
            return Ok(None);
        }
        Topics::new(self.settings)?.read(&ranges, &mut |record| {
            let time = fate_time(&record);
            let is_lacking = held.table.get(record.partition, record.offset).is_none();
            if is_lacking && time >= held.cut_ms {
                earliest = Some(earliest.map_or(time, |known| known.min(time)));
            }
        })?;
        Ok(earliest)
    }
}

/// The earliest time that a raw record's fate can have, milliseconds since 1970.
pub fn fate_time(record: &Record) -> i64 {
    received(record.header(sluice_schemas::raw::REQUEST)).min(record.timestamp)
}

/// When a request was received, milliseconds since 1970.
pub fn received(header: Option<&[u8]>) -> i64 {
    let request = header.map(sluice_schemas::raw::RawRequest::decode);
    let request = request.and_then(Result::ok);
    request.map_or(i64::MAX, |request| request.received_at.div_euclid(1000))
}

/// Up to when retention has deleted fates: until the first record that a partition still has, where it has
/// lost any.
struct Cut(BTreeMap<(String, i32), i64>);

impl Cut {
    fn new(ranges: &[Range]) -> Self {
        let is_cut = |range: &&Range| range.begin > 0 && range.from == range.begin;
        let cut = ranges.iter().filter(is_cut);
        Self(
            cut.map(|range| ((range.topic.clone(), range.partition), i64::MAX))
                .collect(),
        )
    }

    fn take(&mut self, record: &Record) {
        if self.0.is_empty() {
            return;
        }
        let place = (record.topic.clone(), record.partition);
        if let Some(first) = self.0.get_mut(&place)
            && *first == i64::MAX
        {
            *first = record.timestamp;
        }
    }

    fn millis(&self) -> i64 {
        self.0.values().copied().max().unwrap_or(i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_deleted_is_what_is_older_than_the_first_that_is_left() {
        let range = |topic: &str, begin, from| Range {
            topic: topic.to_owned(),
            partition: 0,
            begin,
            from,
            end: 100,
        };
        let record = |topic: &str, timestamp| Record {
            topic: topic.to_owned(),
            partition: 0,
            offset: 0,
            timestamp,
            key: Vec::new(),
            value: Vec::new(),
            headers: Vec::new(),
        };
        let mut none = Cut::new(&[range("a", 0, 0), range("b", 5, 9)]);
        none.take(&record("a", 7));
        assert_eq!(none.millis(), i64::MIN);
        let mut cut = Cut::new(&[range("a", 0, 0), range("b", 5, 5), range("c", 3, 3)]);
        for (topic, millis) in [("b", 50), ("b", 10), ("c", 70)] {
            cut.take(&record(topic, millis));
        }
        assert_eq!(cut.millis(), 70);
        // All that was there is gone.
        assert_eq!(Cut::new(&[range("a", 5, 5)]).millis(), i64::MAX);
    }
}
