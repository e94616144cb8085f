//! Brokers in memory: logs with transactions, a transaction coordinator and a group coordinator, and the
//! clients' half that lives in a process (queues, what a member knows).
//!
//! What is modelled is what the engine depends on: a commit is obeyed before its markers are written;
//! an open transaction holds back the stable offset; a new producer of a name fences the old one; offsets
//! of a transaction count when it commits, and are refused from a member of a past generation; a partition
//! is given away only when its owner let go of it or its session is over.

use std::collections::{BTreeMap, BTreeSet};

use super::chance::Chance;
use super::history::note;
use super::state::{Client, MS, Member, Name, SECOND, SESSION, Stored, TRANSACTION};

/// How often each fault happens, in a thousand; each seed has its own mixture, some with none of a kind.
#[derive(Debug, Clone, Default)]
pub struct Odds {
    /// A call is slow, for up to two seconds.
    pub slow: u64,
    /// A question is not answered.
    pub unanswered: u64,
    /// A request is obeyed or not, and its answer lost.
    pub lost: u64,
    /// A record cannot be queued or delivered.
    pub send: u64,
    /// Markers are written late, by up to three seconds.
    pub late_markers: u64,
    /// A new leader knows less than the old one for a moment.
    pub leader: u64,
    /// The first position of a partition is found late, and undoes a seek.
    pub late_reset: u64,
    /// A partition is revoked and comes straight back.
    pub give_back: u64,
    /// The consumer is of no more use.
    pub fatal: u64,
    /// The producer's connection had an error.
    pub suspect: u64,
    /// Brokers' clocks are up to seven minutes off, each way.
    pub clocks: bool,
    /// The coordinator drops a marker and calls the transaction complete.
    pub torn: u64,
}

/// One partition.
#[derive(Debug, Default)]
pub struct Log {
    pub records: Vec<Stored>,
    pub end: i64,
    /// The transactions that are decided here, and how.
    pub decided: BTreeMap<u64, bool>,
    /// By transactional id, transactions whose marker was dropped: its next marker here decides them.
    pub torn: BTreeMap<String, Vec<u64>>,
    /// A new leader says until then that the log ends there.
    behind: Option<(u64, i64)>,
    /// How far its leader's clock is off, milliseconds.
    skew_ms: Option<i64>,
}

impl Log {
    /// The first offset that is not stable: that of the first record whose transaction is open.
    pub fn stable(&self) -> i64 {
        let open = |record: &&Stored| {
            let transaction = record.transaction;
            transaction.is_some_and(|transaction| !self.decided.contains_key(&transaction))
        };
        self.records
            .iter()
            .find(open)
            .map_or(self.end, |record| record.offset)
    }

    /// Whether a reader of what is committed sees this record, once it is stable.
    fn is_committed(&self, record: &Stored) -> bool {
        record
            .transaction
            .is_none_or(|transaction| self.decided.get(&transaction) == Some(&true))
    }

    /// What a reader of what is committed has to read from `from` on, and where it may read to now.
    pub fn committed(&self, from: i64, now: u64) -> (Option<&Stored>, i64) {
        let end = self.readable(now);
        let found = self.records.iter().find(|record| {
            record.offset >= from && record.offset < end && self.is_committed(record)
        });
        (found, end)
    }

    /// The first record from `from` on that a reader of everything may read now.
    pub fn any(&self, from: i64, now: u64) -> Option<&Stored> {
        let end = match self.behind {
            Some((until, end)) if now < until => end,
            _ => self.end,
        };
        let mut records = self.records.iter();
        records.find(|record| record.offset >= from && record.offset < end)
    }

    /// All committed records, at the end of a run.
    pub fn all_committed(&self) -> impl Iterator<Item = &Stored> {
        self.records
            .iter()
            .filter(|record| self.is_committed(record))
    }

    fn readable(&self, now: u64) -> i64 {
        match self.behind {
            Some((until, end)) if now < until => end.min(self.stable()),
            _ => self.stable(),
        }
    }

    /// Whether a new leader does not know the log's end yet: it answers no question about it.
    pub fn is_behind(&self, now: u64) -> bool {
        self.behind.is_some_and(|(until, _)| now < until)
    }
}

/// The most hours of a run: nine tenths of seven days less some.
const MOST_HOURS: u64 = 145;

#[derive(Debug)]
pub struct World {
    pub chance: Chance,
    pub odds: Odds,
    pub now: u64,
    pub logs: BTreeMap<(String, i32), Log>,
    pub names: BTreeMap<String, Name>,
    pub clients: BTreeMap<u64, Client>,
    pub members: BTreeMap<u64, Member>,
    pub committed: BTreeMap<i32, i64>,
    /// By transactional id, offsets of transactions whose marker was dropped on the group's partition.
    pub torn_offsets: BTreeMap<String, BTreeMap<i32, i64>>,
    /// Markers that were dropped.
    pub dropped: u64,
    /// Who has each partition, until it lets go or is removed.
    pub owners: BTreeMap<i32, u64>,
    /// Who is to have it.
    pub targets: BTreeMap<i32, u64>,
    pub generation: u64,
    pub partitions: i32,
    next: u64,
    /// When the next thing happens here that no process asks for; 0 where that must be looked for.
    pub due: u64,
    /// The brokers' clock at the beginning, milliseconds since 1970.
    pub epoch_ms: i64,
    /// Topics that may not be written to.
    pub forbidden: BTreeSet<String>,
    /// Partitions of raw with a batch that cannot be read, and its offset.
    pub unreadable: BTreeMap<i32, i64>,
    /// Readers that were made.
    pub readers: u64,
    /// Hours that have passed without anything happening.
    passed: u64,
}

impl World {
    pub fn new(chance: Chance, partitions: i32, epoch_ms: i64) -> Self {
        Self {
            chance,
            odds: Odds::default(),
            now: 0,
            logs: BTreeMap::new(),
            names: BTreeMap::new(),
            clients: BTreeMap::new(),
            members: BTreeMap::new(),
            committed: BTreeMap::new(),
            torn_offsets: BTreeMap::new(),
            dropped: 0,
            owners: BTreeMap::new(),
            targets: BTreeMap::new(),
            generation: 0,
            partitions,
            next: 0,
            due: 0,
            epoch_ms,
            forbidden: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            readers: 0,
            passed: 0,
        }
    }

    /// Time in which nothing happens, which append times alone show. In all it is less than the fates are
    /// kept for: the audit does not look for older ones.
    pub fn pass(&mut self, hours: u64) {
        let hours = hours.min(MOST_HOURS - self.passed);
        self.passed += hours;
        self.epoch_ms += i64::try_from(hours * 3_600_000).expect("some days");
    }

    /// A number that nothing else has.
    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn clock_ms(&self) -> i64 {
        self.epoch_ms + i64::try_from(self.now / MS).expect("a short run")
    }

    pub fn log(&mut self, topic: &str, partition: i32) -> &mut Log {
        self.logs.entry((topic.to_owned(), partition)).or_default()
    }

    /// Appends a record; `gap` offsets before it stay empty, as markers leave them.
    pub fn append(&mut self, topic: &str, partition: i32, gap: i64, mut record: Stored) -> i64 {
        let now_ms = self.clock_ms();
        let skew = i64::try_from(self.chance.below(14 * 60_000)).expect("small") - 7 * 60_000;
        let skew = if self.odds.clocks { skew } else { 0 };
        let log = self.log(topic, partition);
        record.offset = log.end + gap;
        record.appended_ms = now_ms + *log.skew_ms.get_or_insert(skew);
        log.end = record.offset + 1;
        let offset = record.offset;
        log.records.push(record);
        offset
    }

    /// What stands where, for a run that does not settle.
    pub fn standing(&self) -> String {
        let ends: BTreeMap<_, _> = self
            .logs
            .iter()
            .map(|(name, log)| (name, (log.end, log.stable())))
            .collect();
        format!(
            "committed {:?}\nlogs (end, stable) {ends:?}\nowners {:?}\nnames {:#?}",
            self.committed, self.owners, self.names
        )
    }

    /// When the next thing happens that no process asks for.
    fn next_due(&self) -> u64 {
        let queues = self.clients.values().filter(|client| !client.frozen);
        let records = queues.filter_map(|client| Some(client.queue.front()?.due));
        let names = self.names.values();
        let markers = names
            .clone()
            .filter_map(|state| Some(state.ending.as_ref()?.next));
        let open = names.filter_map(|state| Some(state.open.as_ref()?.since + TRANSACTION + 1));
        let members = self.members.values().filter(|member| !member.removed);
        let sessions = members
            .clone()
            .filter_map(|member| Some(member.frozen_since? + SESSION + 1));
        let learning = members
            .filter(|member| member.frozen_since.is_none() && member.generation != self.generation)
            .map(|member| member.learns);
        records
            .chain(markers)
            .chain(open)
            .chain(sessions)
            .chain(learning)
            .min()
            .unwrap_or(u64::MAX)
            .max(self.now + 1)
    }

    /// Whether no transaction is open or ending, and none is undecided anywhere.
    pub fn is_settled_everywhere(&self) -> bool {
        self.names.keys().all(|name| self.is_settled(name))
            && self.torn_offsets.is_empty()
            && self.logs.values().all(|log| log.torn.is_empty())
    }

    /// All that goes on by itself.
    pub fn tick(&mut self) {
        if self.now < self.due {
            return;
        }
        self.tick_transactions();
        let clients: Vec<u64> = self.clients.keys().copied().collect();
        for client in clients {
            self.deliver(client, false);
        }
        self.tick_group();
        self.due = self.next_due();
    }

    /// One of the topics that are written to may not be any more, or all may be again.
    pub fn forbid_or_allow(&mut self) {
        if !self.forbidden.is_empty() || self.names.is_empty() {
            note(|| "all topics are allowed".to_owned());
            return self.forbidden.clear();
        }
        // What is written by transactions.
        let written = |log: &Log| {
            log.records
                .iter()
                .any(|record| record.transaction.is_some())
        };
        let logs = self.logs.iter().filter(|(_, log)| written(log));
        let topics: BTreeSet<String> = logs.map(|((topic, _), _)| topic.clone()).collect();
        let place = self.chance.place(topics.len().max(1));
        if let Some(topic) = topics.into_iter().nth(place) {
            note(|| format!("{topic} is forbidden"));
            self.forbidden.insert(topic);
        }
    }

    /// A log gets a new leader, which knows less for a moment and has another clock.
    pub fn elect(&mut self) {
        if self.logs.is_empty() {
            return;
        }
        let place = self.chance.place(self.logs.len());
        let time = self.chance.below(2 * SECOND);
        let (place, _) = self.logs.iter().nth(place).expect("it is there");
        let place = place.clone();
        self.elect_for(&place, time);
    }

    /// The same of one log, which knows less for so long.
    pub fn elect_for(&mut self, (topic, partition): &(String, i32), time: u64) {
        let until = self.now + time;
        let back = i64::try_from(self.chance.below(6)).expect("small");
        let log = self.log(topic, *partition);
        log.behind = Some((until, (log.end - back).max(0)));
        log.skew_ms = None;
    }
}
