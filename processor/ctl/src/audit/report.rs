//! What an audit found, for people and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::fated::RawPlace;
use crate::output::plain;
use crate::records::view::Place;
use crate::records::window::shown;

/// How many entries each list has at most.
pub const LISTED: usize = 100;

/// A list that is bounded, and how many there are.
#[derive(Debug, Default)]
pub struct Bounded {
    /// The first.
    pub list: Vec<Finding>,
    /// All.
    pub total: u64,
}

impl Bounded {
    /// Counts an entry, and keeps it if it is one of the first.
    pub fn add(&mut self, finding: impl FnOnce() -> Finding) {
        self.total += 1;
        if self.list.len() < LISTED {
            self.list.push(finding());
        }
    }
}

/// Something that is not as it must be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `fate` or `original` of what is missing, `fate` or `event` of what is there twice.
    pub kind: &'static str,
    /// Where to look: a raw record without a fate, a duplicate without its original, the later of two fates.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// The raw record.
    pub raw: Option<Place>,
    /// Ingest's id of the request.
    pub request_id: Option<String>,
    /// The source's name.
    pub source: Option<String>,
    /// The event's id.
    pub event: Option<String>,
    /// When it was appended to raw, RFC 3339.
    pub appended_at: Option<String>,
    /// Of what is there twice, all of its records.
    pub records: Vec<Stand>,
    /// The topic from which it may be deleted.
    pub deleted_from: Option<String>,
    /// The command that looks at it.
    pub look: String,
}

/// Where a fate stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Stand {
    /// The full name of the topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Its raw record.
    pub raw: Option<Place>,
}

/// A partition of raw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number.
    #[serde(rename = "partition")]
    pub number: i32,
    /// The first offset that is still there.
    pub begin: i64,
    /// The first that was audited.
    pub from: i64,
    /// Behind the last that was audited.
    pub to: i64,
    /// The committed offset of the group.
    pub committed: Option<i64>,
    /// Behind the last record.
    pub end: i64,
}

/// What an audit found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Nothing is missing, nothing is there twice, and all of it was seen.
    pub balanced: bool,
    /// Raw records that must have a fate.
    pub raw: u64,
    /// Those of them that became an event.
    pub events: u64,
    /// That repeat one.
    pub duplicates: u64,
    /// That were rejected.
    pub rejected: u64,
    /// That are dead letters.
    pub dead_letters: u64,
    /// Whose fate may be deleted.
    pub expired: u64,
    /// Raw records that are not judged yet.
    pub in_flight: u64,
    /// When the oldest of them was appended.
    pub in_flight_since: Option<String>,
    /// Raw records without a fate, and duplicates without the event that they repeat.
    pub missing: Vec<Finding>,
    /// How many there are.
    pub missing_total: u64,
    /// Of them, raw records without a fate.
    pub missing_fates: u64,
    /// Raw records with two fates, and identities with two events.
    pub twice: Vec<Finding>,
    /// How many there are.
    pub twice_total: u64,
    /// Of what is expired, what the retention of the settings does not explain.
    pub unexplained: Vec<Finding>,
    /// How many there are.
    pub unexplained_total: u64,
    /// Duplicates whose original may be deleted.
    pub expired_originals: u64,
    /// Offsets that raw's retention deleted before the group came to them.
    pub deleted_unjudged: u64,
    /// Fates of raw records that are not in the range, or not on raw any more.
    pub fates_outside: u64,
    /// Records that no release writes.
    pub unreadable: u64,
    /// Records that a newer release wrote.
    pub newer: u64,
    /// Why it is not balanced, where that is not missing or there twice: a sentence each.
    pub why: Vec<String>,
    /// The group whose offsets were asked for.
    pub group: String,
    /// When the first audited raw record was appended.
    pub first: Option<String>,
    /// When the last one was.
    pub last: Option<String>,
    /// The partitions of raw.
    pub partitions: Vec<Partition>,
}

impl Report {
    /// Sets [`Report::balanced`].
    pub fn judge(&mut self) {
        if self.deleted_unjudged > 0 {
            self.why.push(format!(
                "retention has deleted {} offsets of raw before {} came to them: they are lost; compare with \
                 the providers' own records",
                self.deleted_unjudged, self.group
            ));
        }
        if self.unexplained_total > 0 {
            self.why.push(format!(
                "{} records may be deleted from a topic whose retention would still keep them: were records \
                 deleted by hand, or is its retention shorter than the settings say (`sluicectl topics plan`)?",
                self.unexplained_total
            ));
        }
        if self.newer > 0 {
            self.why.push(format!(
                "{} records are of a newer release than this sluicectl: use the sluicectl of that release",
                self.newer
            ));
        }
        let found = self.missing_total + self.twice_total;
        self.balanced = found == 0 && self.why.is_empty();
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{:>12}  raw records to the offsets of {}",
            self.raw, self.group
        )];
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            // Writing to a String cannot fail.
            let _ = write!(lines[0], ", appended from {first} to {last}");
        }
        let mut count = |count: u64, what: &str| lines.push(format!("{count:>12}  {what}"));
        count(self.events, "events");
        count(self.duplicates, "duplicates");
        count(self.rejected, "rejected");
        count(self.dead_letters, "dead letters");
        count(self.expired, "expired: their fates may be deleted");
        count(self.missing_fates, "missing: raw records without a fate");
        if let Some(since) = &self.in_flight_since {
            let since = format!("in flight, the oldest appended at {since}");
            count(self.in_flight, &since);
        }
        for (number, what) in [
            (
                self.missing_total.saturating_sub(self.missing_fates),
                "missing originals: events that duplicates repeat",
            ),
            (
                self.expired_originals,
                "duplicates whose original may be deleted",
            ),
            (
                self.fates_outside,
                "fates of raw records outside of the range, or not there any more",
            ),
            (
                self.unreadable,
                "records that no release writes: who else writes to these topics?",
            ),
        ] {
            if number > 0 {
                count(number, what);
            }
        }
        let lists = [
            ("missing", &self.missing, self.missing_total),
            ("twice", &self.twice, self.twice_total),
            ("unexplained", &self.unexplained, self.unexplained_total),
        ];
        for (name, list, total) in lists {
            lines.extend(
                list.iter()
                    .map(|finding| format!("{name}  {}", finding.line())),
            );
            let more = total.saturating_sub(list.len().try_into().unwrap_or_default());
            if more > 0 {
                lines.push(format!("{name}  and {more} more"));
            }
        }
        lines.extend(self.why.iter().map(|why| format!("not balanced: {why}")));
        lines.push(
            if self.balanced {
                "balanced"
            } else {
                "NOT balanced"
            }
            .to_owned(),
        );
        lines.iter().map(|line| plain(line)).collect()
    }
}

impl Finding {
    fn line(&self) -> String {
        let at = format!("{}/{}/{}", self.topic, self.partition, self.offset);
        let places: Vec<String> = self
            .records
            .iter()
            .map(|one| format!("{}/{}/{}", one.topic, one.partition, one.offset))
            .collect();
        let raw = self.raw.map(|raw| raw.to_string()).unwrap_or_default();
        let event = self.event.as_deref().unwrap_or("(unknown)");
        let mut text = match (self.kind, places.is_empty()) {
            ("original", _) => format!("{at} repeats event {event}, which is not there"),
            ("event", _) => format!("event {event} is there twice: {}", places.join(", ")),
            (_, true) => format!("{at} has no fate"),
            (_, false) => format!("raw {raw} has more than one fate: {}", places.join(", ")),
        };
        if let Some(request) = &self.request_id {
            let _ = write!(text, "; request {request}");
        }
        if let Some(source) = &self.source {
            let _ = write!(text, " of {source}");
        }
        if let Some(topic) = &self.deleted_from {
            let _ = write!(text, "; may be deleted from {topic}");
        }
        format!("{text}; {}", self.look)
    }
}

/// A raw place as it is printed.
pub fn place(raw: RawPlace) -> Place {
    Place {
        partition: i64::from(raw.0),
        offset: raw.1,
    }
}

/// `sluicectl find`, from a time on.
pub fn find(id: &str, since: i64) -> String {
    format!("sluicectl find {id} --since {}", shown(since.max(0)))
}
