//! Judging the records of one raw partition in their order, with the processor's own functions and its own
//! dedup index.

use std::collections::HashSet;

use sluice_processor::dedup::index::{BatchOverlay, DedupIndex};
use sluice_processor::pipeline::notes::Notes;
use sluice_processor::pipeline::outgoing::{FateTopics, Outgoing, outgoing};
use sluice_processor::pipeline::{Rules, judge};
use sluice_processor::record::Record;
use sluice_schemas::fate::Fate;
use sluice_service::panics::contained;

use super::ranges::{Part, Plan};
use super::table::Known;

/// One partition on its way.
pub struct Partition {
    index: DedupIndex,
    /// Raw is read from this time on; `None` before the first record. Milliseconds since 1970.
    begins_ms: Option<i64>,
    part: Part,
    ahead_ms: i64,
    reach_ms: i64,
    /// The ids of events that are in the topics and of records that were read.
    pub events: HashSet<u128>,
}

/// A judged record.
pub struct Judged<'a> {
    /// What would be written.
    pub out: Outgoing<'a>,
    /// The topics have it as a repetition of an event whose raw record is before all that was read.
    pub original_is_out_of_sight: bool,
}

impl Partition {
    /// A partition of which nothing was judged, with an index for windows of so many seconds.
    pub fn new(plan: &Plan, part: Part, window: u32) -> Self {
        Self {
            index: DedupIndex::new(window),
            begins_ms: None,
            part,
            ahead_ms: plan.ahead_ms,
            reach_ms: plan.reach_ms,
            events: HashSet::new(),
        }
    }

    /// From when on its records are read, where records that count are deleted.
    pub fn cut(&self) -> Option<i64> {
        self.begins_ms.filter(|_| self.part.is_cut())
    }

    /// Whether what a record repeats may be before all that was read.
    fn is_at_edge(&self, appended_ms: i64) -> bool {
        let begins = self.begins_ms.unwrap_or(self.ahead_ms);
        !self.part.is_whole() && appended_ms < begins.saturating_add(self.reach_ms)
    }

    /// Whether the ids of events may be asked for.
    pub fn asks_for_events(&self) -> bool {
        !self.part.is_whole()
    }

    /// Judges the next record; `None` where this build cannot. What is known of it counts where raw does not
    /// reach back far enough: a repetition of what is not seen any more makes no entry in the index.
    ///
    /// Each record is a batch of its own. What a batch is changes no verdict: what the processor's overlay
    /// knows is what its index knows after the commit.
    pub fn judge<'a>(
        &mut self,
        record: &'a Record,
        (rules, topics): (&Rules<'a>, &'a FateTopics),
        known: Option<&Known<'_>>,
    ) -> Option<Judged<'a>> {
        if self.begins_ms.is_none() {
            let first = record.appended_ms;
            self.begins_ms = Some(if self.part.is_cut() {
                first
            } else {
                self.ahead_ms
            });
        }
        let (index, overlay) = (&self.index, BatchOverlay::default());
        // Before such a record the processor stops, as it does before one of a newer release.
        let out = contained(|| {
            let judged = judge(record, rules, index, &overlay, &mut Notes::default());
            judged.map(|disposition| outgoing(disposition, record, topics))
        });
        let out = out?.ok()?;
        let is_repetition = known.filter(|known| known.fate == Fate::Duplicate);
        let original_is_out_of_sight = out.entry.is_some()
            && self.is_at_edge(record.appended_ms)
            && is_repetition.is_some_and(|known| !self.events.contains(&known.id));
        if let Some(entry) = out.entry.as_ref().filter(|_| !original_is_out_of_sight) {
            self.index.insert(entry);
        }
        Some(Judged {
            out,
            original_is_out_of_sight,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use sluice_schemas::providers::by_name;
    use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest};
    use sluice_schemas::topic::TopicNames;
    use uuid::Uuid;

    use super::super::table::number;
    use super::*;
    use crate::judging::Judging;

    const SECRET: &[u8] = b"a secret of the tests";

    /// When all of it happens, seconds since 1970.
    const AT: i64 = 1_800_000_000;

    fn judging() -> Judging {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("settings.yaml");
        std::fs::write(dir.path().join("a"), SECRET).expect("a secret");
        let text = format!(
            "kafka: {{bootstrap_servers: b}}\nsecrets_dir: {}\n\
             sources: {{s: {{provider: flock, secrets: [a]}}}}\n",
            dir.path().display()
        );
        std::fs::write(&file, text).expect("the settings");
        let settings = sluice_service::settings::load(&file).expect("settings without faults");
        Judging::new(settings).expect("secrets")
    }

    /// A delivery that was signed at [`AT`], appended so many seconds later.
    fn record(offset: i64, n: u64, later: i64) -> Record {
        let sender = by_name("flock").expect("a provider").sender();
        let sample = sender.sample("referral.accepted", n, AT);
        let headers = sender.sign(&sample, SECRET, AT).into_iter();
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.into_bytes()));
        let request = RawRequest {
            id: Uuid::from_u128(1),
            source: "s".to_owned(),
            provider: "flock".to_owned(),
            received_at: AT * 1_000_000,
            method: "POST".to_owned(),
            target: "/v1/hooks/s".to_owned(),
            peer: IpAddr::from([127, 0, 0, 1]),
            token: false,
            ack: Ack::Broker,
            headers: Headers(headers.collect()),
        };
        Record {
            partition: 0,
            offset,
            appended_ms: (AT + later) * 1000,
            key: None,
            value: sample.body,
            headers: vec![(REQUEST.to_owned(), Some(request.encode()))],
        }
    }

    fn partition(judging: &Judging, begin: i64) -> (Partition, i64) {
        let window = judging.settings().longest_window().as_secs();
        let part = Part {
            partition: 0,
            begin,
            ahead: begin,
            since: begin,
            end: 100,
            in_flight: 0,
        };
        let plan = Plan {
            raw: "webhooks.raw".to_owned(),
            parts: vec![part],
            ahead_ms: 0,
            reach_ms: i64::try_from(window).expect("small") * 1000 + 900_000,
        };
        let window = u32::try_from(window).expect("small");
        (Partition::new(&plan, part, window), i64::from(window))
    }

    /// The fate, and whether the original is out of sight.
    fn ends(
        partition: &mut Partition,
        judging: &Judging,
        record: &Record,
        known: Option<&Known<'_>>,
    ) -> (Fate, bool) {
        let topics = FateTopics::new(&TopicNames::default());
        let rules = judging.rules();
        let judged = partition
            .judge(record, (&rules, &topics), known)
            .expect("it is of this release");
        (judged.out.label.fate, judged.original_is_out_of_sight)
    }

    const REPETITION: Known<'_> = Known {
        fate: Fate::Duplicate,
        reason: "duplicate",
        topic: "webhooks.duplicates",
        partition: 0,
        offset: 0,
        id: 42,
        digest: 0,
    };

    #[test]
    fn what_repeats_is_judged_as_the_processor_does() {
        let judging = judging();
        let (mut partition, window) = partition(&judging, 0);
        let mut judge = |record: &Record, known| ends(&mut partition, &judging, record, known);
        assert_eq!(judge(&record(0, 1, 0), None), (Fate::Event, false));
        // Whatever the topics say: all of raw was read.
        let known = Some(&REPETITION);
        assert_eq!(judge(&record(1, 2, 0), known), (Fate::Event, false));
        assert_eq!(
            judge(&record(2, 1, window - 1), None),
            (Fate::Duplicate, false)
        );
        assert_eq!(judge(&record(3, 1, window), None), (Fate::Event, false));
        let mut forged = record(4, 5, 0);
        forged.value.push(b' ');
        assert_eq!(judge(&forged, None), (Fate::Rejected, false));
    }

    #[test]
    fn a_repetition_of_what_is_deleted_makes_no_entry_in_the_index() {
        let judging = judging();
        let (mut partition, window) = partition(&judging, 7);
        partition.events.insert(number("another event"));
        assert_eq!(partition.cut(), None);
        let mut judge = |record: &Record, known| ends(&mut partition, &judging, record, known);
        let known = Some(&REPETITION);
        assert_eq!(judge(&record(7, 1, 0), known), (Fate::Event, true));
        assert_eq!(judge(&record(8, 1, 60), known), (Fate::Event, true));
        // Beyond the window of the original, and within that of its repetitions.
        assert_eq!(
            judge(&record(9, 1, window - 30), None),
            (Fate::Event, false)
        );
        // An original that is in the topics would have been seen, and was refused: this one is the event.
        let seen = Known {
            id: number("another event"),
            ..REPETITION
        };
        assert_eq!(judge(&record(10, 2, 0), Some(&seen)), (Fate::Event, false));
        assert_eq!(judge(&record(11, 2, 60), None), (Fate::Duplicate, false));
        // Raw reaches back as far as a record may ask from here on.
        assert_eq!(
            judge(&record(12, 3, window + 901), known),
            (Fate::Event, false)
        );
        assert_eq!(partition.cut(), Some(AT * 1000));
    }
}
