//! Looking at the brokers from outside: where topics end, what is stable of them, and how far the
//! group is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice_tests::harness::topics::with_prefix;
use sluice_tests::harness::wait::wait_for;

/// One question to a broker. Short, for it may be one that is gone.
const ASK: Duration = Duration::from_secs(3);

/// Until a question is answered by the leader of then: a killed node may be missed for half a minute.
const ANSWER: Duration = Duration::from_secs(90);

/// How often is looked whether all has settled.
const LOOK: Duration = Duration::from_millis(250);

/// How often it prints what has not settled yet.
const TELL: Duration = Duration::from_secs(15);

/// By topic and partition, an offset.
pub type Ends = BTreeMap<(String, i32), i64>;

/// Clients that only look.
pub struct Observer {
    /// Sees where topics end, and asks for the group's offsets.
    all: BaseConsumer,
    /// Sees where the stable part of topics ends.
    stable: BaseConsumer,
    raw: String,
    partitions: Vec<(String, i32)>,
}

impl Observer {
    /// Looks at all topics that exist now.
    pub fn new(bootstrap: &str, group: &str, raw: &str) -> Result<Self> {
        let client = |isolation: &str| -> Result<BaseConsumer> {
            Ok(ClientConfig::new()
                .set("bootstrap.servers", bootstrap)
                .set("group.id", group)
                .set("enable.auto.commit", "false")
                .set("isolation.level", isolation)
                .set("reconnect.backoff.max.ms", "500")
                // Leaders move all the time here.
                .set("topic.metadata.refresh.interval.ms", "1000")
                .set("log_level", "0")
                .create()?)
        };
        let all = client("read_uncommitted")?;
        let mut partitions = Vec::new();
        for topic in with_prefix(bootstrap, "")? {
            let metadata = all.fetch_metadata(Some(&topic), ANSWER)?;
            let found = metadata.topics().first().context("a topic went")?;
            let numbers = found.partitions().iter();
            partitions.extend(numbers.map(|partition| (topic.clone(), partition.id())));
        }
        Ok(Self {
            all,
            stable: client("read_committed")?,
            raw: raw.to_owned(),
            partitions,
        })
    }

    /// Where each topic ends now, open transactions included.
    pub fn ends(&self) -> Result<Ends> {
        self.ends_where(|_| true)
    }

    /// The same of raw alone.
    pub fn raw_ends(&self) -> Result<Ends> {
        self.ends_where(|topic| topic == self.raw)
    }

    /// Where the stable part of each topic ends, of those that answer.
    pub fn stable_ends(&self) -> Ends {
        ends_now(&self.stable, self.partitions.iter())
    }

    fn ends_where(&self, wanted: impl Fn(&str) -> bool) -> Result<Ends> {
        let partitions = self.partitions.iter();
        let partitions = partitions.filter(|(topic, _)| wanted(topic)).cloned();
        let all: BTreeSet<(String, i32)> = partitions.collect();
        wait_for("the ends of the topics", ANSWER, || {
            let ends = ends_now(&self.all, all.iter());
            Ok((ends.len() == all.len()).then_some(ends))
        })
    }

    /// Whether the group has committed all of raw up to these ends.
    ///
    /// Asked as a `read_uncommitted` client: what is committed is returned all the same, and the other kind
    /// must ask again whenever a transaction of any partition is open, which is most of the time.
    pub fn committed(&self, ends: &Ends) -> bool {
        let wanted: Vec<(i32, i64)> = ends
            .iter()
            .filter(|((topic, _), end)| *topic == self.raw && **end > 0)
            .map(|((_, partition), end)| (*partition, *end))
            .collect();
        let Some(found) = self.offsets_as(&self.all) else {
            return false;
        };
        wanted
            .iter()
            .all(|(partition, end)| found.get(partition).is_some_and(|at| at >= end))
    }

    /// The group's committed offsets on raw by partition, pending ones apart; `None` without an answer.
    pub fn offsets(&self) -> Option<BTreeMap<i32, i64>> {
        self.offsets_as(&self.all)
    }

    /// What the coordinator says of the group, in words: its state, and its members.
    pub fn describe(&self, group: &str) -> String {
        let list = match self.all.fetch_group_list(Some(group), ANSWER) {
            Ok(list) => list,
            Err(error) => return format!("the group {group} could not be asked for: {error}"),
        };
        let found = list.groups().iter().map(|group| {
            let members = group.members().iter();
            let members: Vec<String> = members
                .map(|member| {
                    let assignment = member.assignment().map_or(0, <[u8]>::len);
                    format!("{} with {assignment} bytes of assignment", member.id())
                })
                .collect();
            format!(
                "the group {} is {}: {members:?}",
                group.name(),
                group.state()
            )
        });
        found.collect::<Vec<_>>().join("; ")
    }

    /// Waits until no offset of the group is pending: with nothing under way, one that is belongs to a
    /// transaction that nobody ends.
    pub fn wait_none_pending(&self, patience: Duration) -> Result<()> {
        // The brokers have this client ask again as long as one is, and it does until its time is over.
        wait_for("no offset of the group to be pending", patience, || {
            Ok(self.offsets_as(&self.stable).map(drop))
        })
    }

    fn offsets_as(&self, client: &BaseConsumer) -> Option<BTreeMap<i32, i64>> {
        let mut list = TopicPartitionList::new();
        for (_, partition) in self
            .partitions
            .iter()
            .filter(|(topic, _)| *topic == self.raw)
        {
            list.add_partition(&self.raw, *partition);
        }
        let found = client.committed_offsets(list, ASK).ok()?;
        let elements = found.elements();
        if elements.iter().any(|element| element.error().is_err()) {
            return None;
        }
        let offsets = elements
            .iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(at) => Some((element.partition(), at)),
                _ => None,
            });
        Some(offsets.collect())
    }

    /// Waits until the group has committed raw up to these ends.
    pub fn wait_committed(&self, ends: &Ends, patience: Duration) -> Result<()> {
        wait_for("the group to commit", patience, || {
            Ok(self.committed(ends).then_some(()))
        })
    }

    /// Waits until the group has committed raw up to these ends, and every topic is stable up to them.
    pub fn wait_settled(&self, all: &Ends, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        let (mut open, mut behind) = (all.clone(), true);
        let mut told = Instant::now();
        loop {
            behind = behind && !self.committed(all);
            let stable = ends_now(&self.stable, open.keys());
            open.retain(|at, wanted| stable.get(at).is_none_or(|stable| stable < wanted));
            if !behind && open.is_empty() {
                return Ok(());
            }
            let late = Instant::now() >= until;
            if late || told.elapsed() > TELL {
                told = Instant::now();
                let open: Vec<String> = open
                    .iter()
                    .map(|((topic, partition), end)| format!("{topic}/{partition} below {end}"))
                    .collect();
                let sentence = format!("the group is behind: {behind}; not stable: {open:?}");
                if late {
                    bail!(sentence);
                }
                eprintln!("      not settled: {sentence}");
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Where partitions end as this client sees it, all asked at once; those without an answer are left out.
fn ends_now<'p>(
    client: &BaseConsumer,
    partitions: impl Iterator<Item = &'p (String, i32)>,
) -> Ends {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        // Where a time is expected, this is the end; adding it to a list of our own cannot fail.
        let _ = list.add_partition_offset(topic, *partition, Offset::End);
    }
    if list.count() == 0 {
        return Ends::new();
    }
    let Ok(found) = client.offsets_for_times(list, ASK) else {
        return Ends::new();
    };
    let elements = found.elements();
    let answered = elements.iter().filter(|element| element.error().is_ok());
    answered
        .filter_map(|element| match element.offset() {
            Offset::Offset(end) => Some(((element.topic().to_owned(), element.partition()), end)),
            _ => None,
        })
        .collect()
}
