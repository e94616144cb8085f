//! How far a redrive has come: the offsets of a group of its own, which no consumer joins. Comes in: what the
//! group has committed. Goes out: which records are left, and commits.
//!
//! With each offset the group holds the run that it is of: its window, and where the partition ended when
//! it began. So a run that goes on never reads what it sent itself, and a run that was completed is known as
//! one: the next one looks at all records again, for other rules may judge them otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use sluice_schemas::acl::redrive_groups;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client::base_config;

use crate::client::{self, Heard, TIMEOUT, ask};
use crate::failure::Failure;
use crate::records::reader::Range;
use crate::records::window::Window;

/// The form of what stands with an offset.
const FORM: &str = "sluice-redrive/1";

/// How long the group's coordinator is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// What stands with the offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A run that is not completed: its window, and where the partition ended.
    Open(Window, i64),
    /// A run that is.
    Done,
}

impl State {
    fn text(self) -> String {
        match self {
            Self::Done => format!("{FORM} done"),
            Self::Open(Window { since, until }, end) => {
                let until = until.map_or_else(|| "-".to_owned(), |until| until.to_string());
                format!("{FORM} {since} {until} {end}")
            }
        }
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        if words.next() != Some(FORM) {
            return None;
        }
        let first = words.next()?;
        if first == "done" {
            return Some(Self::Done);
        }
        let since = first.parse().ok()?;
        let until = match words.next()? {
            "-" => None,
            until => Some(until.parse().ok()?),
        };
        Some(Self::Open(
            Window { since, until },
            words.next()?.parse().ok()?,
        ))
    }
}

/// What a run is to read.
#[derive(Debug)]
pub struct Run {
    /// Whether it goes on where one was interrupted.
    pub is_resumed: bool,
    /// The window of the run, which one that goes on takes over.
    pub window: Window,
    /// The records, by partition.
    pub ranges: Vec<Range>,
    /// How many offsets that were left retention has deleted.
    pub deleted: i64,
}

impl Run {
    /// Of what the group has committed, and of the topic as it is.
    pub fn new(stood: &BTreeMap<i32, (i64, State)>, ranges: &[Range], window: Window) -> Self {
        let open = stood.values().find_map(|(_, state)| match state {
            State::Open(window, _) => Some(*window),
            State::Done => None,
        });
        let Some(window) = open else {
            return Self {
                is_resumed: false,
                window,
                ranges: ranges.to_vec(),
                deleted: 0,
            };
        };
        let (mut left, mut deleted) = (Vec::new(), 0);
        for range in ranges {
            // A partition that came later is of the next run.
            let Some((offset, State::Open(_, end))) = stood.get(&range.partition) else {
                continue;
            };
            let end = range.end.min(*end);
            let from = range.begin.max(*offset).min(end);
            deleted += (range.begin.min(end) - *offset).max(0);
            left.push(Range {
                from,
                end,
                ..range.clone()
            });
        }
        Self {
            is_resumed: true,
            window,
            ranges: left,
            deleted,
        }
    }

    /// What stands with the offsets of this run while it is not completed.
    pub fn open(&self, partition: i32) -> State {
        let range = self.ranges.iter().find(|one| one.partition == partition);
        State::Open(self.window, range.map_or(0, |range| range.end))
    }
}

/// The records of a partition, as far as they are dealt with.
#[derive(Debug, Default)]
pub struct Position {
    next: i64,
    unacknowledged: BTreeSet<i64>,
}

impl Position {
    /// From this offset on.
    pub fn at(next: i64) -> Self {
        Self {
            next,
            unacknowledged: BTreeSet::new(),
        }
    }

    /// A record was read, and is to be sent or not.
    pub fn read(&mut self, offset: i64, is_sent: bool) {
        self.next = offset + 1;
        if is_sent {
            self.unacknowledged.insert(offset);
        }
    }

    /// The brokers have it.
    pub fn acknowledged(&mut self, offset: i64) {
        self.unacknowledged.remove(&offset);
    }

    /// Before this offset nothing is left to do.
    pub fn done(&self) -> i64 {
        self.unacknowledged.first().copied().unwrap_or(self.next)
    }
}

/// The group, by a client that never joins it.
pub struct Group {
    name: String,
    topic: String,
    rule: String,
    consumer: BaseConsumer<Heard>,
    heard: Heard,
}

impl Group {
    /// The group of this name, which stands on one topic.
    pub fn new(settings: &Settings, name: &str, topic: &str) -> Result<Self, Failure> {
        let base = base_config(settings).map_err(|faults| Failure::config(&faults))?;
        let mut config = client::looking(settings, base);
        config.set("group.id", name);
        // They bound how long a commit waits for a coordinator that is away.
        for (property, millis) in [
            ("session.timeout.ms", "6000"),
            ("socket.timeout.ms", "10000"),
        ] {
            config.set(property, millis);
        }
        let made = client::consumer(&config);
        let (consumer, heard) = made.map_err(|error| {
            Failure::config(&[format!("kafka.properties: no client can be made: {error}")])
        })?;
        Ok(Self {
            name: name.to_owned(),
            topic: topic.to_owned(),
            rule: redrive_groups(settings).to_string(),
            consumer,
            heard,
        })
    }

    /// What it has committed of its partitions; what others left there, and nothing, is not listed.
    pub fn stood(&self, ranges: &[Range]) -> Result<BTreeMap<i32, (i64, State)>, Failure> {
        let mut list = TopicPartitionList::new();
        for range in ranges {
            list.add_partition(&self.topic, range.partition);
        }
        let found = self.retried(|consumer| consumer.committed_offsets(list.clone(), TIMEOUT))?;
        let mut stood = BTreeMap::new();
        for element in found.elements() {
            element.error().map_err(|error| self.failure(&error))?;
            if let Offset::Offset(offset) = element.offset()
                && let Some(state) = State::read(element.metadata())
            {
                stood.insert(element.partition(), (offset, state));
            }
        }
        Ok(stood)
    }

    /// Commits offsets with what stands with them, all or none, and waits for the answer.
    pub fn commit(&self, offsets: &[(i32, i64, State)]) -> Result<(), Failure> {
        let list = self.list(offsets)?;
        self.retried(|consumer| consumer.commit(&list, CommitMode::Sync))
    }

    /// The same, tried once: the next one makes good what this one could not.
    pub fn try_commit(&self, offsets: &[(i32, i64, State)]) -> Result<(), Failure> {
        let list = self.list(offsets)?;
        let tried = ask(&self.consumer, |consumer| {
            consumer.commit(&list, CommitMode::Sync)
        });
        tried.map_err(|error| self.failure(&error))
    }

    fn list(&self, offsets: &[(i32, i64, State)]) -> Result<TopicPartitionList, Failure> {
        let mut list = TopicPartitionList::new();
        for (partition, offset, state) in offsets {
            let mut element = list.add_partition(&self.topic, *partition);
            element
                .set_offset(Offset::Offset(*offset))
                .map_err(|error| Failure::Failed(error.to_string()))?;
            element.set_metadata(state.text());
        }
        Ok(list)
    }

    /// Asks again while the coordinator moves.
    fn retried<T: Send>(
        &self,
        request: impl Fn(&BaseConsumer<Heard>) -> Result<T, KafkaError> + Sync,
    ) -> Result<T, Failure> {
        let end = Instant::now() + PATIENCE;
        self.heard.take_all_down();
        loop {
            let error = match ask(&self.consumer, &request) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let failure = self.failure(&error);
            let is_over = Instant::now() > end || self.heard.take_all_down();
            if is_over || matches!(failure, Failure::Failed(_)) {
                return Err(failure);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn failure(&self, error: &KafkaError) -> Failure {
        let is_refused =
            error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed);
        if is_refused || self.heard.is_group_refused() {
            return Failure::Failed(format!("Kafka refuses {}", self.rule));
        }
        let heard = self.heard.reasons();
        let reasons = if heard.is_empty() {
            error.to_string()
        } else {
            heard
        };
        Failure::TryAgain(format!(
            "the offsets of {} cannot be had: {reasons}",
            self.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        since: 5,
        until: Some(9),
    };

    fn range(partition: i32, from: i64, end: i64) -> Range {
        Range {
            topic: "t".to_owned(),
            partition,
            begin: 3,
            from,
            end,
        }
    }

    #[test]
    fn what_stands_with_an_offset_is_read_as_it_was_written() {
        let whole = Window {
            since: 0,
            until: None,
        };
        for state in [
            State::Done,
            State::Open(WINDOW, 70),
            State::Open(whole, i64::MAX),
        ] {
            assert_eq!(State::read(&state.text()), Some(state));
        }
        for strange in [
            "",
            "x",
            "sluice-redrive/2 done",
            "sluice-redrive/1",
            "sluice-redrive/1 5 9",
            "sluice-redrive/1 a - 9",
        ] {
            assert_eq!(State::read(strange), None, "{strange}");
        }
    }

    #[test]
    fn a_run_that_was_interrupted_goes_on_and_one_that_was_completed_begins_again() {
        let ranges = [range(0, 4, 100), range(1, 4, 100), range(2, 4, 100)];
        let other = Window {
            since: 6,
            until: None,
        };
        let fresh = Run::new(&BTreeMap::new(), &ranges, other);
        assert_eq!(
            (fresh.is_resumed, fresh.window, fresh.ranges.len()),
            (false, other, 3)
        );
        let done = BTreeMap::from([(0, (90, State::Done)), (1, (90, State::Done))]);
        assert_eq!(Run::new(&done, &ranges, other).ranges, ranges);

        // To the end as it was; retention has deleted one offset; one partition is new.
        let stood = BTreeMap::from([
            (0, (50, State::Open(WINDOW, 60))),
            (1, (2, State::Open(WINDOW, 200))),
        ]);
        let resumed = Run::new(&stood, &ranges, other);
        assert_eq!(
            (resumed.is_resumed, resumed.window, resumed.deleted),
            (true, WINDOW, 1)
        );
        assert_eq!(resumed.ranges, [range(0, 50, 60), range(1, 3, 100)]);
        assert_eq!(resumed.open(0), State::Open(WINDOW, 60));
    }

    #[test]
    fn an_offset_is_done_when_all_before_it_are_acknowledged() {
        let mut position = Position::at(5);
        assert_eq!(position.done(), 5);
        position.read(5, true);
        position.read(6, false);
        position.read(7, true);
        assert_eq!(position.done(), 5);
        position.acknowledged(7);
        assert_eq!(position.done(), 5);
        position.acknowledged(5);
        assert_eq!(position.done(), 8);
    }
}
