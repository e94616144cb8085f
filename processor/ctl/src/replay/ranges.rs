//! Which records of raw are judged: those of the window, and before them one longest window that is read
//! ahead for the dedup index.

use std::collections::BTreeMap;

use sluice_processor::dedup::index::CLOCK_SLACK_SECONDS;
use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::records::reader::{Opened, Topics};
use crate::records::window::Window;

/// The most raw records whose fates are held at once. Each takes 64 bytes.
const SLICE: i64 = 4_000_000;

/// One partition of raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub partition: i32,
    /// The first offset that is still there.
    pub begin: i64,
    /// The first that is read.
    pub ahead: i64,
    /// The first that is compared.
    pub since: i64,
    /// Behind the last that is compared.
    pub end: i64,
    /// How many of the window the processor has not judged yet.
    pub in_flight: i64,
}

impl Part {
    /// Whether records that are asked for by the dedup index are deleted.
    pub fn is_cut(&self) -> bool {
        self.begin > 0 && self.ahead == self.begin
    }

    /// Whether there is nothing before what is read, and never was.
    pub fn is_whole(&self) -> bool {
        self.ahead == 0
    }
}

/// Records of a partition whose fates are held together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The partition.
    pub part: Part,
    /// The first offset.
    pub from: i64,
    /// Behind the last.
    pub end: i64,
}

impl Slice {
    /// How many offsets it has.
    pub fn len(&self) -> i64 {
        self.end - self.from
    }
}

/// All partitions.
#[derive(Debug)]
pub struct Plan {
    /// Full name of raw.
    pub raw: String,
    /// In their order.
    pub parts: Vec<Part>,
    /// From when on raw is read, milliseconds since 1970.
    pub ahead_ms: i64,
    /// How far back a record may ask, in milliseconds.
    pub reach_ms: i64,
}

impl Plan {
    /// Asks where raw's records of the window are, and what is judged of them. `judging` says how far back
    /// the dedup index asks.
    pub fn new(
        topics: &Topics,
        (settings, judging): (&Settings, &Settings),
        window: Window,
    ) -> Result<Self, Failure> {
        let raw = settings.topics.names.raw();
        let longest = i64::try_from(judging.longest_window().as_secs()).unwrap_or(i64::MAX);
        let reach = longest.saturating_add(i64::from(CLOCK_SLACK_SECONDS));
        let reach_ms = reach.saturating_mul(1000);
        let ahead_ms = window.since.saturating_sub(reach_ms).max(0);
        let names = [raw.clone()];
        let open = |millis| topics.open(&names, Some(millis));
        let since = open(window.since)?;
        if let Some(line) = since.lacking.first() {
            return Err(Failure::Failed(line.clone()));
        }
        let committed = topics.committed(&raw)?;
        let ahead = froms(&open(ahead_ms)?);
        let until = match window.until {
            Some(until) => froms(&open(until)?),
            None => since
                .ranges
                .iter()
                .map(|one| (one.partition, one.end))
                .collect(),
        };
        let part = |range: &crate::records::reader::Range| {
            let of = |found: &BTreeMap<i32, i64>| found.get(&range.partition).copied();
            part(
                (range.partition, range.begin),
                (of(&ahead), range.from, of(&until).unwrap_or(range.end)),
                committed.get(&range.partition).copied().flatten(),
            )
        };
        Ok(Self {
            raw,
            parts: since.ranges.iter().map(part).collect(),
            ahead_ms,
            reach_ms,
        })
    }

    /// Slices that are held together, in the order of raw.
    pub fn groups(&self) -> Vec<Vec<Slice>> {
        let mut groups: Vec<Vec<Slice>> = Vec::new();
        let mut held = SLICE;
        for slice in self.parts.iter().flat_map(|part| slices(*part, SLICE)) {
            if held + slice.len() > SLICE {
                groups.push(Vec::new());
                held = 0;
            }
            held += slice.len();
            if let Some(group) = groups.last_mut() {
                group.push(slice);
            }
        }
        groups
    }

    /// How many records are to be judged, those that are read ahead too.
    pub fn records(&self) -> i64 {
        let records = |part: &Part| {
            if part.end > part.since {
                part.end - part.ahead
            } else {
                0
            }
        };
        self.parts.iter().map(records).sum()
    }
}

fn froms(opened: &Opened) -> BTreeMap<i32, i64> {
    let ranges = opened.ranges.iter();
    ranges.map(|range| (range.partition, range.from)).collect()
}

/// A partition's offsets: where it begins; where reading, comparing and the window begin and end by time;
/// and what is judged.
fn part(
    (partition, begin): (i32, i64),
    (ahead, since, until): (Option<i64>, i64, i64),
    committed: Option<i64>,
) -> Part {
    let since = since.max(begin);
    let until = until.max(since);
    let end = until.min(committed.unwrap_or(begin)).max(since);
    Part {
        partition,
        begin,
        ahead: ahead.unwrap_or(begin).max(begin).min(since),
        since,
        end,
        in_flight: until - end,
    }
}

fn slices(part: Part, most: i64) -> Vec<Slice> {
    let mut slices = Vec::new();
    // Where nothing is compared, nothing is read ahead.
    let mut from = if part.end > part.since {
        part.ahead
    } else {
        part.end
    };
    while from < part.end {
        let end = part.end.min(from.saturating_add(most));
        slices.push(Slice { part, from, end });
        from = end;
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_judged_is_compared_and_what_is_not_is_in_flight() {
        let all = part((0, 5), (Some(7), 10, 20), Some(15));
        assert_eq!(
            (all.ahead, all.since, all.end, all.in_flight),
            (7, 10, 15, 5)
        );
        assert!(!all.is_cut() && !all.is_whole());
        // Raw begins later than what is asked for.
        assert!(part((0, 5), (Some(5), 10, 20), Some(15)).is_cut());
        assert!(part((0, 0), (Some(0), 10, 20), Some(15)).is_whole());
        // Nothing is judged of the window, or nothing at all.
        let none = part((0, 0), (Some(0), 10, 20), Some(3));
        assert_eq!((none.end, none.in_flight), (10, 10));
        assert!(slices(none, 4).is_empty());
        assert_eq!(part((0, 0), (Some(0), 10, 20), None).in_flight, 10);
        // A window in which raw has nothing.
        let empty = part((0, 5), (Some(20), 20, 20), Some(20));
        assert_eq!((empty.end - empty.since, empty.in_flight), (0, 0));
    }

    #[test]
    fn a_partition_is_cut_into_slices_without_gaps() {
        let part = part((0, 0), (Some(3), 5, 12), Some(12));
        let cut: Vec<_> = slices(part, 4)
            .iter()
            .map(|one| (one.from, one.end))
            .collect();
        assert_eq!(cut, [(3, 7), (7, 11), (11, 12)]);
        let plan = Plan {
            raw: String::new(),
            parts: vec![part, part],
            ahead_ms: 0,
            reach_ms: 0,
        };
        assert_eq!((plan.groups().len(), plan.groups()[0].len()), (1, 2));
        assert_eq!(plan.records(), 18);
    }
}
