//! Reads the topics for an audit, in the order in which their ends may be compared: first how far the
//! services have come, then raw, then how far the topics of fates reach, then these.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sluice_schemas::fate::Fate;
use sluice_schemas::providers::ALL;
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;
use sluice_schemas::timestamp::rfc3339;

use super::deleted::Deleted;
use super::ledger::Ledger;
use super::questions::Questions;
use super::report::{Partition, Report};
use crate::failure::Failure;
use crate::records::reader::{Opened, Range, Topics};
use crate::records::window::{Window, now};

/// How long is waited for transactions that are open.
const UNDECIDED: Duration = Duration::from_secs(30);

/// The pause between two looks at them.
const PAUSE: Duration = Duration::from_millis(200);

/// Progress is said so often.
const SAY: Duration = Duration::from_secs(10);

/// Where each partition of the topics of fates must be read to.
type Ends = BTreeMap<(String, i32), i64>;

/// Audits the raw records that were appended within a window.
pub fn audit(settings: &Settings, window: Window) -> Result<Report, Failure> {
    let names = &settings.topics.names;
    let mut report = Report {
        group: settings.group_id(),
        ..Report::default()
    };
    let topics = Topics::new(settings)?;
    let (partitions, ranges) = raw_ranges(&topics, settings, window)?;
    offsets(&partitions, &mut report);
    let mut ledger = Ledger::new(names, &partitions, Deleted::new(settings, now()));
    report.partitions = partitions;
    read(topics, &ranges, "raw", &mut |record| ledger.raw(record))?;

    let mut opened = Vec::new();
    let mut ids = BTreeSet::new();
    if let Some((appended, received)) = ledger.first() {
        let events = event_topics(settings)?;
        let ends = ends(settings, &events, &mut report)?;
        let kept = [names.rejected(), names.dead_letter(), names.duplicates()];
        let some = fates(settings, &kept, appended, &ends, &mut ledger, &mut report)?;
        opened.extend(some);
        // An event has the time of its receipt, and may be the original of a duplicate of the range.
        let window = i64::try_from(settings.longest_window().as_millis()).unwrap_or(i64::MAX);
        let originals = match ledger.ended.get(&Fate::Duplicate) {
            Some(_) => appended.saturating_sub(window),
            None => appended,
        };
        let since = received.min(originals);
        opened.extend(fates(
            settings,
            &events,
            since,
            &ends,
            &mut ledger,
            &mut report,
        )?);
        ids = ledger.sort();
        look_further_back(settings, &opened, &mut ledger)?;
    }
    let mut questions = Questions::new(settings, &ledger, ids);
    if questions.needs_fates() {
        let what = "fates again, to name what is there twice and what lacks its original";
        read(Topics::new(settings)?, &opened, what, &mut |record| {
            questions.fate(record);
        })?;
    }
    let again = again(&ranges, &questions.raw_ranges());
    if !again.is_empty() {
        let what = "raw again, to name what has no fate";
        read(Topics::new(settings)?, &again, what, &mut |record| {
            questions.raw(record);
        })?;
    }
    questions.finish(&mut report);
    sums(&ledger, &mut report);
    report.judge();
    Ok(report)
}

/// The committed offsets first, then what there is of raw.
fn raw_ranges(
    topics: &Topics,
    settings: &Settings,
    window: Window,
) -> Result<(Vec<Partition>, Vec<Range>), Failure> {
    let raw = settings.topics.names.raw();
    let mut committed = topics.committed(&raw)?;
    let since = (window.since > 0).then_some(window.since);
    let open = |since| {
        let opened = topics.open(std::slice::from_ref(&raw), since)?;
        match opened.lacking.into_iter().next() {
            Some(line) => Err(Failure::Failed(line)),
            None => Ok(opened.ranges),
        }
    };
    let until = match window.until {
        Some(until) => Some(open(Some(until))?),
        None => None,
    };
    let mut partitions = Vec::new();
    let mut ranges = open(since)?;
    for range in &mut ranges {
        let end = range.end;
        let until = until
            .iter()
            .flatten()
            .find(|one| one.partition == range.partition);
        range.end = until
            .map_or(end, |until| until.from.min(end))
            .max(range.from);
        partitions.push(Partition {
            number: range.partition,
            begin: range.begin,
            from: range.from,
            to: range.end,
            committed: committed.remove(&range.partition).flatten(),
            end,
        });
    }
    Ok((partitions, ranges))
}

/// What the offsets alone say.
fn offsets(partitions: &[Partition], report: &mut Report) {
    let group = &report.group;
    let bare = partitions
        .iter()
        .filter(|one| one.committed.is_none() && one.to > one.from);
    let bare: Vec<String> = bare.map(|one| one.number.to_string()).collect();
    if !bare.is_empty() {
        report.why.push(format!(
            "{group} has no committed offset for the partitions {} of raw, and records are there: has a \
             processor run under these settings (`processor.group`, `topics.prefix`)?",
            bare.join(", ")
        ));
    }
    for one in partitions {
        let Some(committed) = one.committed else {
            continue;
        };
        if committed > one.end {
            report.why.push(format!(
                "{group} has committed {committed} on partition {} of raw, which ends at {}: raw has lost \
                 records, or was made again",
                one.number, one.end
            ));
        }
        let gap = one.begin.saturating_sub(committed);
        report.deleted_unjudged += u64::try_from(gap).unwrap_or_default();
    }
}

/// The event topics of the settings, and those that are there of sources that were removed.
fn event_topics(settings: &Settings) -> Result<Vec<String>, Failure> {
    let names = &settings.topics.names;
    let mut events = settings.event_topics();
    let metadata = Topics::uncommitted(settings)?.metadata(None)?;
    let providers: Vec<String> = ALL
        .iter()
        .map(|provider| names.event(provider.spec().name, ""))
        .collect();
    for topic in metadata.topics() {
        if providers
            .iter()
            .any(|prefix| topic.name().starts_with(prefix))
        {
            events.insert(topic.name().to_owned());
        }
    }
    Ok(events.into_iter().collect())
}

/// Behind the last record of each partition, those of open transactions too: all fates of what is committed
/// stand before it.
fn ends(settings: &Settings, events: &[String], report: &mut Report) -> Result<Ends, Failure> {
    let names = &settings.topics.names;
    let mut all = events.to_vec();
    all.extend([names.rejected(), names.dead_letter(), names.duplicates()]);
    let opened = Topics::uncommitted(settings)?.open(&all, None)?;
    report.why.extend(opened.lacking);
    let ranges = opened.ranges.into_iter();
    Ok(ranges
        .map(|range| ((range.topic, range.partition), range.end))
        .collect())
}

/// Reads topics of fates from a time to these ends; what was read.
fn fates(
    settings: &Settings,
    names: &[String],
    since: i64,
    ends: &Ends,
    ledger: &mut Ledger,
    report: &mut Report,
) -> Result<Vec<Range>, Failure> {
    // What lacks is named already.
    let names: Vec<String> = names
        .iter()
        .filter(|name| ends.keys().any(|(topic, _)| topic == *name))
        .cloned()
        .collect();
    let topics = Topics::new(settings)?;
    let opened = decided(&topics, &names, since, ends, report)?;
    for range in opened.ranges.iter().filter(|range| range.begin > 0) {
        ledger.deleted.front(&range.topic, range.partition);
    }
    let what = match names.as_slice() {
        [] => return Ok(Vec::new()),
        [first, ..] => format!("{first} and {} more topics of fates", names.len() - 1),
    };
    read(topics, &opened.ranges, &what, &mut |record| {
        ledger.fate(record);
    })?;
    Ok(opened.ranges)
}

/// Waits until all that stood before these ends is decided.
fn decided(
    topics: &Topics,
    names: &[String],
    since: i64,
    ends: &Ends,
    report: &mut Report,
) -> Result<Opened, Failure> {
    let deadline = Instant::now() + UNDECIDED;
    loop {
        let opened = topics.open(names, Some(since))?;
        let behind = |range: &&Range| {
            let end = ends.get(&(range.topic.clone(), range.partition));
            end.is_some_and(|end| range.end < *end)
        };
        let Some(first) = opened.ranges.iter().find(behind) else {
            return Ok(opened);
        };
        if Instant::now() > deadline {
            report.why.push(format!(
                "an open transaction holds {}/{} back at offset {}, and what stands behind it was not seen: \
                 end it (docs/torn-transactions.md), then audit again",
                first.topic, first.partition, first.end
            ));
            return Ok(opened);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reads what stands before the range, where an original or a fate may be found or may be deleted.
fn look_further_back(
    settings: &Settings,
    opened: &[Range],
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    let names = &settings.topics.names;
    let originals = ledger.lacks_originals();
    let fates = ledger.open_total() > 0 && ledger.deleted.is_any();
    let is_event = |topic: &str| sluice_schemas::audit::fate_of(names, topic) == Fate::Event;
    let older: Vec<Range> = opened
        .iter()
        .filter(|range| range.begin < range.from)
        .filter(|range| (originals && is_event(&range.topic)) || (fates && range.begin > 0))
        .map(|range| Range {
            from: range.begin,
            end: range.from,
            ..range.clone()
        })
        .collect();
    if older.is_empty() {
        return Ok(());
    }
    let what = "what stands before the range, for originals and for what is deleted";
    read(Topics::new(settings)?, &older, what, &mut |record| {
        ledger.older(record);
    })
}

/// The parts of these ranges in which offsets are looked for.
fn again(ranges: &[Range], wanted: &BTreeMap<i32, (i64, i64)>) -> Vec<Range> {
    let part = |range: &Range| {
        let (first, last) = wanted.get(&range.partition)?;
        Some(Range {
            from: range.from.max(*first),
            end: range.end.min(last.saturating_add(1)),
            ..range.clone()
        })
    };
    ranges.iter().filter_map(part).collect()
}

/// Reads ranges, and says on standard error how far it has come.
fn read(
    topics: Topics,
    ranges: &[Range],
    what: &str,
    each: &mut dyn FnMut(&Record),
) -> Result<(), Failure> {
    eprintln!("reading {what}");
    let (mut count, mut said) = (0_u64, Instant::now());
    topics.read(ranges, &mut |record| {
        each(&record);
        count += 1;
        if count.is_multiple_of(1_000) && said.elapsed() > SAY {
            eprintln!("{count} records so far");
            said = Instant::now();
        }
    })
}

/// The numbers of the account.
pub fn sums(ledger: &Ledger, report: &mut Report) {
    let of = |fate| ledger.ended.get(&fate).copied().unwrap_or_default();
    report.raw = ledger.raw;
    report.events = of(Fate::Event);
    report.duplicates = of(Fate::Duplicate);
    report.rejected = of(Fate::Rejected);
    report.dead_letters = of(Fate::DeadLetter);
    report.in_flight = ledger.in_flight;
    report.in_flight_since = ledger.in_flight_since.and_then(rfc3339);
    report.fates_outside = ledger.outside;
    report.unreadable = ledger.unreadable;
    report.newer = ledger.newer;
    let (first, last) = ledger.appended.unzip();
    report.first = first.and_then(rfc3339);
    report.last = last.and_then(rfc3339);
}
