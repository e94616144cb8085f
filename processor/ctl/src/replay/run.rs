//! One run: slice by slice, the fates first, then the records that they are of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sluice_processor::pipeline::Rules;
use sluice_processor::pipeline::outgoing::FateTopics;
use sluice_processor::record::Record as Raw;
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;

use super::difference::{Difference, Found, differs};
use super::fates::{Fates, Held, received};
use super::judge::{Judged, Partition};
use super::ranges::{Plan, Slice};
use super::redriven::{Redriven, Why, copies};
use super::summary::Summary;
use super::writer::Writer;
use crate::failure::Failure;
use crate::judging::{Judging, judged};
use crate::output;
use crate::records::Notes;
use crate::records::reader::{Range, Topics};

/// So many differences are held until their columns are read again,
const HELD: usize = 1_000;

/// or so many bytes of their events.
const HELD_BYTES: usize = 16 << 20;

/// How often progress is said.
const PROGRESS: Duration = Duration::from_secs(5);

/// How differences are printed.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// As objects.
    pub json: bool,
    /// With persons' columns.
    pub show_bodies: bool,
}

/// One run.
pub struct Run<'a> {
    settings: &'a Settings,
    judging: &'a Judging,
    plan: &'a Plan,
    writer: Option<&'a Writer<'a>>,
    shape: Shape,
    topics: &'a FateTopics,
    summary: Summary,
    redriven: Redriven,
    notes: Notes,
    cut: Option<i64>,
    held: Vec<Difference>,
    held_bytes: usize,
    said: Instant,
}

impl<'a> Run<'a> {
    /// A run of a plan.
    pub fn new(
        (settings, judging): (&'a Settings, &'a Judging),
        (plan, topics): (&'a Plan, &'a FateTopics),
        writer: Option<&'a Writer<'a>>,
        shape: Shape,
    ) -> Self {
        let in_flight = plan.parts.iter().map(|part| part.in_flight).sum();
        Self {
            settings,
            judging,
            plan,
            writer,
            shape,
            topics,
            summary: Summary::new(in_flight),
            redriven: Redriven::default(),
            notes: Notes::default(),
            cut: None,
            held: Vec::new(),
            held_bytes: 0,
            said: Instant::now(),
        }
    }

    /// What came of it: the numbers, what could not be read, and from when on raw is whole where it is not.
    pub fn end(self) -> (Summary, Notes, Option<i64>) {
        (self.summary, self.notes, self.cut)
    }

    /// Judges all slices.
    pub fn all(&mut self, topics: &Topics) -> Result<(), Failure> {
        let fates = Fates::new(self.settings, topics)?;
        let rules = self.judging.rules();
        let window = self.judging.settings().longest_window().as_secs();
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        let mut partition: Option<(i32, Partition)> = None;
        for group in self.plan.groups() {
            eprintln!("reading what is in the topics");
            let held = fates.read(self.plan, &group, &mut self.notes)?;
            self.summary.twice += held.table.twice;
            for slice in &group {
                let number = slice.part.partition;
                let mut state = match partition.take() {
                    Some((same, state)) if same == number => state,
                    _ => Partition::new(self.plan, slice.part, window),
                };
                if state.asks_for_events() {
                    state.events.extend(held.table.events(number));
                }
                self.slice(slice, &held, &rules, &mut state)?;
                if let Some(cut) = state.cut() {
                    self.cut = Some(self.cut.map_or(cut, |known| known.max(cut)));
                }
                partition = Some((number, state));
            }
        }
        Ok(())
    }

    fn slice(
        &mut self,
        slice: &Slice,
        held: &Held,
        rules: &Rules<'_>,
        state: &mut Partition,
    ) -> Result<(), Failure> {
        let range = Range {
            topic: self.plan.raw.clone(),
            partition: slice.part.partition,
            begin: slice.part.begin,
            from: slice.from,
            end: slice.end,
        };
        let mut failure = None;
        Topics::new(self.settings)?.read_while(&[range], &mut |record| {
            let record = judged(record);
            let done = self.record(slice, held, (&record, rules), state);
            let goes_on = done.is_ok();
            failure = done.err();
            goes_on
        })?;
        match failure {
            Some(failure) => Err(failure),
            None => self.flush(),
        }
    }

    fn record(
        &mut self,
        slice: &Slice,
        held: &Held,
        (record, rules): (&Raw, &Rules<'_>),
        state: &mut Partition,
    ) -> Result<(), Failure> {
        let known = held.table.get(record.partition, record.offset);
        let judged = state.judge(record, (rules, self.topics), known.as_ref());
        if let Some(judged) = &judged {
            self.redriven.take(known.as_ref(), &judged.out);
        }
        let is_ahead = record.offset < slice.part.since;
        self.progress();
        if is_ahead {
            self.summary.read_ahead += 1;
            return Ok(());
        }
        self.summary.judged += 1;
        let Some(Judged {
            out,
            original_is_out_of_sight: uncertain,
        }) = judged
        else {
            self.summary.not_judged += 1;
            return Ok(());
        };
        if let Some(writer) = self.writer {
            writer.write(&out)?;
            self.summary.written += 1;
        }
        let differs = match &known {
            Some(known) => differs(known, &out),
            None if is_expired(record, held) => {
                self.summary.expired += 1;
                return Ok(());
            }
            None => vec!["fate"],
        };
        if differs.is_empty() {
            self.summary.same += 1;
            return Ok(());
        }
        let request = record.header(REQUEST).map(RawRequest::decode);
        let request = request.and_then(Result::ok);
        let (settings, plan) = (self.settings, self.plan);
        let sides = (known.as_ref(), &out);
        let why = self
            .redriven
            .why((record, request.as_ref()), sides, || copies(settings, plan))?;
        if why == Why::Redriven {
            self.summary.redriven += 1;
            return Ok(());
        }
        let found = Found {
            place: (record.partition, record.offset),
            request: request.as_ref(),
            known,
            uncertain,
            overtaken: why == Why::Overtaken,
        };
        self.hold(Difference::new(&found, &out, differs))
    }

    fn hold(&mut self, difference: Difference) -> Result<(), Failure> {
        self.held_bytes += difference.value.as_ref().map_or(0, Vec::len);
        self.held.push(difference);
        if self.held.len() < HELD && self.held_bytes < HELD_BYTES {
            return Ok(());
        }
        self.flush()
    }

    /// Reads the events of what is held once more, for their columns, and prints all of it.
    fn flush(&mut self) -> Result<(), Failure> {
        let wanted: BTreeSet<(String, i32, i64)> =
            self.held.iter().filter_map(Difference::wants).collect();
        let events = self.again(&wanted)?;
        self.held_bytes = 0;
        for mut difference in std::mem::take(&mut self.held) {
            let event = difference.wants().and_then(|place| events.get(&place));
            if !difference.compare(event, self.shape.show_bodies) {
                self.summary.same += 1;
                continue;
            }
            self.summary.add(&difference);
            if self.shape.json {
                output::line(&serde_json::json!(difference).to_string());
            } else {
                for line in difference.lines() {
                    output::line(&line);
                }
            }
        }
        Ok(())
    }

    fn again(
        &self,
        wanted: &BTreeSet<(String, i32, i64)>,
    ) -> Result<BTreeMap<(String, i32, i64), Record>, Failure> {
        let mut ranges: Vec<Range> = Vec::new();
        for (topic, partition, offset) in wanted {
            match ranges.last_mut() {
                Some(last) if last.topic == *topic && last.partition == *partition => {
                    last.end = offset + 1;
                }
                _ => ranges.push(Range {
                    topic: topic.clone(),
                    partition: *partition,
                    begin: *offset,
                    from: *offset,
                    end: offset + 1,
                }),
            }
        }
        let mut events = BTreeMap::new();
        if !ranges.is_empty() {
            Topics::new(self.settings)?.read(&ranges, &mut |record| {
                let place = (record.topic.clone(), record.partition, record.offset);
                if wanted.contains(&place) {
                    events.insert(place, record);
                }
            })?;
        }
        Ok(events)
    }

    fn progress(&mut self) {
        if self.said.elapsed() < PROGRESS {
            return;
        }
        self.said = Instant::now();
        let done = self.summary.judged + self.summary.read_ahead;
        let (all, differences) = (self.plan.records(), self.summary.differences);
        eprintln!("{done} of {all} records judged, {differences} differences so far");
    }
}

/// Whether retention may have deleted the fate of a record.
fn is_expired(record: &Raw, held: &Held) -> bool {
    received(record.header(REQUEST)).min(record.appended_ms) < held.cut_ms
}
