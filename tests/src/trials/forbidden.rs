//! One event topic may not be written for minutes, under a steady load on three brokers: the partitions of
//! raw whose records would go there are suspended and say why, and the others go on. Then the checker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use sluice_schemas::audit::{Verdict, digest};
use sluice_schemas::metric::processor::{ABORTED_RECORDS, FATES, PARTITIONS as STATES};
use sluice_tests::checker::check;
use sluice_tests::expected::Expected;
use sluice_tests::harness::client::{Client, Outgoing};
use sluice_tests::harness::cluster::Denied;
use sluice_tests::harness::deployment::{Source, now};
use sluice_tests::harness::topics::{Isolation, read, with_prefix};
use sluice_tests::harness::wait::{PATIENCE, wait_for};
use sluice_tests::load::ledger::{Answer, Line, Told, now_micros};

use super::faults::fleet::Role;
use super::faults::world::{LANES, Setup, World};
use crate::trials::frame;

/// Whose events may not be written. Its raw keys are entities, which are chosen here, so the load leaves it
/// out.
const PROVIDER: &str = "flockler";

/// Partitions of raw, and those that its keys fall into.
const PARTITIONS: usize = 12;
const SUSPENDED: usize = 3;

/// What the other partitions keep of their rate, at least.
const SHARE: f64 = 0.7;

/// How long the rate before is measured.
const BEFORE: Duration = Duration::from_secs(30);

/// A suspended partition is tried again after a minute at the most.
const SETTLED: Duration = Duration::from_secs(240);

/// What the run is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long the topic may not be written, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Requests a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Choices repeat with the seed; without one the clock gives it.
    #[arg(long)]
    seed: Option<u64>,
}

/// The report.
#[derive(Debug, Serialize)]
struct Report {
    holds: bool,
    seed: u64,
    suspended: BTreeSet<i32>,
    /// Records a second of each other partition, before and while the topic was forbidden.
    rates: BTreeMap<i32, (f64, f64)>,
    /// The sum of those while it was forbidden by the sum before.
    share: f64,
    /// Records of aborted transactions, and records with a fate, while it was forbidden.
    aborted: f64,
    committed: f64,
    verdict: Verdict,
    elapsed_seconds: f64,
}

/// Runs it; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    let seed = options.seed.unwrap_or_else(|| now_micros() / 1_000);
    let dir = frame::folder("forbidden", seed)?;
    eprintln!("seed {seed}; three brokers and the services start");
    let setup = Setup {
        names: &[
            ("ingest-0", Role::Ingest),
            ("processor-0", Role::Processor),
            ("processor-1", Role::Processor),
        ],
        settings: vec![(&["topics", "partitions"], json!(PARTITIONS))],
        rate: options.rate,
        lanes: LANES,
        authorizer: true,
        left_out: Some(PROVIDER),
        ..Setup::default()
    };
    let world = World::start(setup, seed, &dir)?;
    let mut trial = Trial::new(world)?;
    let keys = trial.keys()?;
    let suspended: BTreeSet<i32> = keys.keys().copied().collect();
    let others: BTreeSet<i32> = (0..i32::try_from(PARTITIONS)?)
        .filter(|partition| !suspended.contains(partition))
        .collect();
    let before = trial.rates(&others, BEFORE, |_| Ok(()))?;
    let topic = trial.topic()?;
    eprintln!("{topic} may not be written: raw's partitions {suspended:?}");
    trial.world.cluster.deny(&topic, Denied::Write)?;
    let counted = trial.counted()?;
    let forbidden = Duration::from_secs(options.seconds);
    let during = trial.rates(&others, forbidden, |trial| trial.one_of_each(&keys))?;
    let now = trial.counted()?;
    trial.suspended_are(&suspended)?;
    eprintln!("it may be written again");
    trial.world.cluster.deny(&topic, Denied::Nothing)?;
    trial.world.heal();
    let (mut faults, verdict) = trial.finish(&dir)?;
    let sum = |rates: &BTreeMap<i32, f64>| rates.values().sum::<f64>();
    let share = sum(&during) / sum(&before);
    if share < SHARE {
        faults.push(format!("the others kept {share:.2} of their rate"));
    }
    let [aborted, committed] = [now.0 - counted.0, now.1 - counted.1];
    if aborted >= 2.0 * committed {
        faults.push(format!(
            "{aborted} records of aborted transactions, {committed} committed"
        ));
    }
    faults.extend(verdict.faults.clone());
    let rates = before.iter();
    let report = Report {
        holds: faults.is_empty() && verdict.holds(),
        seed,
        suspended,
        rates: rates.map(|(at, rate)| (*at, (*rate, during[at]))).collect(),
        share,
        aborted,
        committed,
        verdict,
        elapsed_seconds: start.elapsed().as_secs_f64(),
    };
    frame::conclude(&report, report.holds, &faults, Some(&dir))
}

/// What is sent in addition to the load.
struct Trial {
    world: World,
    source: Source,
    client: Client,
    runtime: tokio::runtime::Runtime,
    lines: Vec<Line>,
    sent: u64,
}

/// Numbers of requests that the load does not reach.
const FIRST: u64 = 1 << 40;

impl Trial {
    fn new(world: World) -> Result<Self> {
        let ingest = world.fleet.slot("ingest-0")?;
        Ok(Self {
            source: world.site.source(PROVIDER)?.clone(),
            client: Client::new(ingest.listen()),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            world,
            lines: Vec::new(),
            sent: 0,
        })
    }

    fn event(&self) -> Result<&'static str> {
        let samples = self.source.samples()?;
        samples.first().copied().context("an event")
    }

    fn topic(&self) -> Result<String> {
        self.source.topic(&self.world.site.names(), self.event()?)
    }

    /// Sends an event of an entity, which has never been sent; its id.
    fn send(&mut self, entity: u64) -> Result<String> {
        self.sent += 1;
        let number = FIRST + self.sent;
        let at = now() + i64::try_from(self.sent % 60)?;
        // Alternating, for the same delivery twice in a row is a duplicate.
        let events = self.source.samples()?;
        let round = self.sent / u64::try_from(SUSPENDED)?;
        let event = events[usize::try_from(round % 2)?];
        let request: Outgoing = self.source.signed(event, entity, at)?;
        self.lines.push(Line::Intent {
            number,
            attempt: 1,
            source: self.source.name.clone(),
            sha256: hex::encode(digest(&request.body)),
            expected: Expected::Authentic,
            process: "ingest-0 #1".to_owned(),
            at: now_micros(),
        });
        let answer = self.runtime.block_on(self.client.post(&request))?;
        if answer.status != 200 {
            bail!("an event was answered with {}", answer.status);
        }
        let id = answer.id()?;
        self.lines.push(Line::Ack {
            id: id.clone(),
            number,
            attempt: 1,
        });
        Ok(id)
    }

    /// What was sent here, as a ledger has it. Its lines follow all lines of the load.
    fn ledger(&self) -> Result<Told> {
        let mut ledger = Told::of(self.lines.clone())?;
        for attempt in &mut ledger.attempts {
            let first = usize::try_from(FIRST)?;
            attempt.intent += first;
            if let Answer::Acked { line, .. } = &mut attempt.answer {
                *line += first;
            }
        }
        Ok(ledger)
    }

    /// Entities by the partition of raw that their key falls into.
    fn keys(&mut self) -> Result<BTreeMap<i32, u64>> {
        let mut ids = BTreeMap::new();
        for entity in 1..=40 {
            ids.insert(self.send(entity)?, entity);
        }
        self.world.rest(PATIENCE)?;
        let site = &self.world.site;
        let raw = read(
            site.bootstrap(),
            &[site.names().raw()],
            Isolation::Committed,
        )?;
        let mut keys = BTreeMap::new();
        for record in raw {
            let request = record.header(sluice_schemas::raw::REQUEST);
            let request =
                request.and_then(|text| sluice_schemas::raw::RawRequest::decode(text).ok());
            let id = request.map(|request| request.id.to_string());
            if let Some(&entity) = id.and_then(|id| ids.get(&id))
                && keys.len() < SUSPENDED
            {
                keys.entry(record.partition).or_insert(entity);
            }
        }
        Ok(keys)
    }

    /// Waits until all is committed, reads all topics and checks them: what went wrong on the way, and the
    /// verdict.
    fn finish(&mut self, dir: &Path) -> Result<(Vec<String>, Verdict)> {
        let settled = self.world.settle(SETTLED);
        let paused = self.world.load.pause(SETTLED);
        let rest = paused.and_then(|()| self.world.rest(SETTLED));
        let errors = settled.err().into_iter().chain(rest.err());
        let faults = errors.map(|error| format!("it did not settle: {error:#}"));
        let faults: Vec<String> = faults.collect();
        let mut ledger = Told::read(&dir.join("ledger"))?;
        ledger.attempts.extend(self.ledger()?.attempts);
        let site = &self.world.site;
        let topics = with_prefix(site.bootstrap(), "")?;
        let records = read(site.bootstrap(), &topics, Isolation::Committed)?;
        let verdict = check(&site.names(), &records, &ledger);
        drop(records);
        self.world.fleet.stop()?;
        Ok((faults, verdict))
    }

    fn one_of_each(&mut self, keys: &BTreeMap<i32, u64>) -> Result<()> {
        for entity in keys.values() {
            self.send(*entity)?;
        }
        Ok(())
    }

    /// Records a second that are committed of each of these partitions, over some time, in which something is
    /// done every two seconds.
    fn rates(
        &mut self,
        partitions: &BTreeSet<i32>,
        time: Duration,
        mut each: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<BTreeMap<i32, f64>> {
        let offsets = |trial: &Self| {
            wait_for("the group's offsets", PATIENCE, || {
                Ok(trial.world.eyes.offsets())
            })
        };
        let (start, before) = (Instant::now(), offsets(self)?);
        while start.elapsed() < time {
            self.world.fleet.must_run()?;
            each(self)?;
            std::thread::sleep(Duration::from_secs(2));
        }
        let after = offsets(self)?;
        let seconds = start.elapsed().as_secs_f64();
        let rate = |partition: &i32| {
            let at = |offsets: &BTreeMap<i32, i64>| offsets.get(partition).copied().unwrap_or(0);
            let records = u32::try_from(at(&after) - at(&before)).unwrap_or(0);
            (*partition, f64::from(records) / seconds)
        };
        Ok(partitions.iter().map(rate).collect())
    }

    /// Records of aborted transactions, and records with a fate, as the processors count them.
    fn counted(&self) -> Result<(f64, f64)> {
        let mut sums = (0.0, 0.0);
        for slot in self.world.fleet.of(Role::Processor) {
            let samples = slot.metrics()?;
            sums.0 += samples.sum(&ABORTED_RECORDS.exposed(), &[]);
            sums.1 += samples.sum(&FATES.exposed(), &[]);
        }
        Ok(sums)
    }

    /// The processors say which partitions are suspended, in their metrics and in their logs.
    fn suspended_are(&self, suspended: &BTreeSet<i32>) -> Result<()> {
        let processors = self.world.fleet.of(Role::Processor);
        let mut count = 0.0;
        let mut logs = String::new();
        for slot in processors {
            count += slot
                .metrics()?
                .sum(&STATES.exposed(), &[("state", "suspended")]);
            logs += &slot.log_since(0);
        }
        let named = |partition: &i32| {
            let number = format!("\"partition\":{partition},");
            logs.lines()
                .any(|line| line.contains("this partition is suspended") && line.contains(&number))
        };
        let silent: Vec<&i32> = suspended
            .iter()
            .filter(|partition| !named(partition))
            .collect();
        if !silent.is_empty() || (count - 3.0).abs() > 0.5 {
            bail!("{count} partitions are suspended, and nothing is said of {silent:?}");
        }
        Ok(())
    }
}
