//! Which events are there already. Comes in: the ids that are sought, and from when on. Goes out: those that
//! were found, and how far back the topics reach. One pass over the topics of the providers concerned.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rdkafka::admin::{AdminOptions, ResourceSpecifier};
use rdkafka::metadata::MetadataBroker;
use sluice_schemas::settings::Settings;
use uuid::Uuid;

use super::candidate::{Candidate, Sought};
use crate::client::{self, TIMEOUT};
use crate::failure::Failure;
use crate::records::reader::{Range, Topics};
use crate::records::view::read;
use crate::records::window::{now, shown};

/// What is known of the events that are sought.
#[derive(Debug, Default)]
pub struct Known {
    found: HashSet<Uuid>,
    /// By provider: from when on no event can have been deleted, milliseconds since 1970.
    whole_from: BTreeMap<&'static str, i64>,
}

impl Known {
    /// Whether the event is there.
    pub fn has(&self, sought: &Sought) -> bool {
        self.found.contains(&sought.id)
    }

    /// Whether it would have been found if it was ever there.
    pub fn reaches(&self, sought: &Sought) -> bool {
        let whole = self.whole_from.get(sought.provider);
        whole.is_none_or(|from| *from <= sought.from)
    }
}

/// Looks for the events of all candidates.
pub fn look<'c>(
    settings: &Settings,
    candidates: impl Iterator<Item = &'c Candidate>,
    stop: &Arc<AtomicBool>,
) -> Result<Known, Failure> {
    let mut ids: HashSet<Uuid> = HashSet::new();
    let mut earliest: BTreeMap<&'static str, i64> = BTreeMap::new();
    for sought in candidates.filter_map(|candidate| candidate.event.as_ref()) {
        ids.insert(sought.id);
        let from = earliest.entry(sought.provider).or_insert(sought.from);
        *from = sought.from.min(*from);
    }
    let mut known = Known::default();
    if ids.is_empty() {
        return Ok(known);
    }
    let topics = Topics::new(settings)?.until(stop);
    let mut places: Vec<(&'static str, Range)> = Vec::new();
    for (provider, since) in earliest {
        eprintln!(
            "looking for their events on the topics of {provider} from {} on",
            shown(since)
        );
        let names = event_topics(settings, &topics, provider)?;
        let opened = topics.open(&names, Some(since))?;
        if let Some(line) = opened.lacking.first() {
            return Err(Failure::Failed(format!(
                "{line}; whether records are events already cannot be seen, and nothing was sent"
            )));
        }
        places.extend(opened.ranges.into_iter().map(|range| (provider, range)));
    }
    let mut firsts: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let cut = places.iter().filter(|(_, range)| may_be_cut(range));
    for (_, range) in cut.clone() {
        firsts.insert((range.topic.clone(), range.partition), i64::MAX);
    }
    let cut: BTreeSet<String> = cut.map(|(_, range)| range.topic.clone()).collect();
    let kept = kept(settings, &topics, &cut);
    let ranges: Vec<Range> = places.iter().map(|(_, range)| range.clone()).collect();
    let mut unread = 0_u64;
    topics.read(&ranges, &mut |record| {
        let place = (record.topic.clone(), record.partition);
        let first = firsts.get_mut(&place);
        if let Some(first) = first.filter(|first| **first == i64::MAX) {
            *first = record.timestamp;
        }
        let event = read(&settings.topics.names, &record).view.event;
        match event.and_then(|id| id.parse::<Uuid>().ok()) {
            Some(id) if ids.contains(&id) => {
                known.found.insert(id);
            }
            Some(_) => {}
            None => unread += 1,
        }
    })?;
    if unread > 0 {
        eprintln!("{unread} records on event topics are no events of ours: who else writes there?");
    }
    for (provider, range) in places.iter().filter(|(_, range)| may_be_cut(range)) {
        let first = firsts.get(&(range.topic.clone(), range.partition));
        let from = whole_from(first.copied(), kept.get(&range.topic).copied());
        let whole = known.whole_from.entry(provider).or_insert(from);
        *whole = from.max(*whole);
    }
    Ok(known)
}

/// Whether something stood before the first record that is to be read, and is deleted.
fn may_be_cut(range: &Range) -> bool {
    range.begin > 0 && range.from == range.begin
}

/// From when on nothing of a partition can have been deleted: from its first record on, or for as long as its
/// topic keeps records, whichever is earlier. A partition that is empty has no first record.
fn whole_from(first: Option<i64>, kept_from: Option<i64>) -> i64 {
    let first = first.unwrap_or(i64::MAX);
    kept_from.map_or(first, |kept| kept.min(first))
}

/// All topics of a provider's events, those too of types that the settings do not name any more.
fn event_topics(
    settings: &Settings,
    topics: &Topics,
    provider: &str,
) -> Result<Vec<String>, Failure> {
    let beginning = settings.topics.names.event(provider, "");
    let mut names: BTreeSet<String> = settings.event_topics();
    let metadata = topics.metadata(None)?;
    let there = metadata.topics().iter();
    names.extend(there.map(|topic| topic.name().to_owned()));
    names.retain(|name| name.starts_with(&beginning));
    Ok(names.into_iter().collect())
}

/// From when on each of these topics keeps all its records, by its settings; absent where they cannot be read
/// or bound the size too.
fn kept(settings: &Settings, topics: &Topics, names: &BTreeSet<String>) -> BTreeMap<String, i64> {
    described(settings, topics, names).unwrap_or_default()
}

fn described(
    settings: &Settings,
    topics: &Topics,
    names: &BTreeSet<String>,
) -> Option<BTreeMap<String, i64>> {
    if names.is_empty() {
        return None;
    }
    let admin = client::admin(&client::config(settings).ok()?).ok()?;
    let metadata = topics.metadata(None).ok()?;
    let options = AdminOptions::new()
        .request_timeout(Some(TIMEOUT))
        .operation_timeout(Some(TIMEOUT))
        .broker_id(metadata.brokers().first().map(MetadataBroker::id));
    let resources: Vec<ResourceSpecifier<'_>> = names
        .iter()
        .map(|name| ResourceSpecifier::Topic(name))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let answers = runtime.block_on(admin.describe_configs(&resources, &options));
    let mut kept = BTreeMap::new();
    // The answers are in the order of the request.
    for (name, answer) in names.iter().zip(answers.ok()?) {
        let Ok(resource) = answer else { continue };
        let number = |key: &str| {
            let entry = resource.entries.iter().find(|entry| entry.name == key);
            entry?.value.as_ref()?.parse::<i64>().ok()
        };
        let from = match number("retention.ms")? {
            // For ever.
            ..0 => 0,
            millis => now().saturating_sub(millis),
        };
        if number("retention.bytes")? < 0 {
            kept.insert(name.clone(), from);
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(begin: i64, from: i64) -> Range {
        Range {
            topic: "events.flock.a".to_owned(),
            partition: 0,
            begin,
            from,
            end: 100,
        }
    }

    #[test]
    fn force_is_needed_only_where_retention_may_have_ended_before() {
        assert!(!may_be_cut(&range(0, 0)), "nothing was deleted");
        assert!(!may_be_cut(&range(5, 6)), "an older record is there");
        assert!(may_be_cut(&range(5, 5)));
        // The first record, or the topic's retention, whichever is earlier.
        assert_eq!(whole_from(Some(50), None), 50);
        assert_eq!(whole_from(Some(50), Some(20)), 20);
        assert_eq!(whole_from(Some(50), Some(70)), 50);
        assert_eq!(whole_from(None, None), i64::MAX);
        let sought = |from| Sought {
            id: Uuid::nil(),
            provider: "flock",
            from,
        };
        let mut known = Known::default();
        assert!(known.reaches(&sought(0)));
        known.whole_from.insert("flock", 50);
        assert!(known.reaches(&sought(50)) && !known.reaches(&sought(49)));
        known.whole_from.clear();
        known.whole_from.insert("flowcode", 50);
        assert!(known.reaches(&sought(49)), "another provider's topics");
        assert!(!known.has(&sought(0)));
        known.found.insert(Uuid::nil());
        assert!(known.has(&sought(0)));
    }
}
