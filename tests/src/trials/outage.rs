//! All brokers are gone for minutes under a steady load: ingest must take what comes all the same, keep
//! it on its own disk, and hand it over when they are back. Then the checker over all that was ever sent.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;
use sluice_schemas::audit::Verdict;
use sluice_tests::checker::check;
use sluice_tests::harness::topics::{Isolation, read, with_prefix};
use sluice_tests::harness::wait::PATIENCE;
use sluice_tests::load::ledger::{Told, now_micros};

use super::faults::fleet::Role;
use super::faults::fsync::Floor;
use super::faults::spool::{SPOOL_RECORDS, Spool};
use super::faults::world::{Setup, World};
use sluice_tests::load::lanes::Answered;
use sluice_tests::load::times::Times;

use crate::trials::frame;

mod report;

use report::{DRAINED, P99_MS, Report, SHARE, share};

/// What the run is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long all brokers are gone, in seconds.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Requests a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// `kill -9` of ingest so often while the brokers are gone, in seconds; 0: never.
    #[arg(long, default_value_t = 0)]
    kill_ingest_every: u64,
    /// Choices repeat with the seed; without one the clock gives it.
    #[arg(long)]
    seed: Option<u64>,
    /// Brokers are asked to stop; without it they are killed.
    #[arg(long)]
    graceful: bool,
    /// Without a spool: nothing is taken while the brokers are gone, so nothing holds but the checker.
    #[arg(long)]
    no_spool: bool,
}

/// Beyond that, so much longer is waited before the run gives up.
const LATE: u32 = 2;

/// So many lanes for a request a second: a lane waits for its answer, and with a turn every two seconds
/// no answer within them keeps a lane from sending in time. So the load does not follow the answers.
const LANES_PER_RATE: u32 = 2;

/// Load before the brokers go, and how often a question is asked again.
const BEFORE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);

/// How often it prints how much is left in the spool.
const TELL: Duration = Duration::from_secs(5);

/// One question to a broker.
const ASK: Duration = Duration::from_millis(500);

/// Runs the outage; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    let seed = options.seed.unwrap_or_else(|| now_micros() / 1_000);
    let dir = frame::folder("outage", seed)?;
    eprintln!(
        "seed {seed}; three brokers and the services start, under {}",
        dir.display()
    );
    let start = Instant::now();
    let world = World::start(setup(options, &dir), seed, &dir)?;
    eprintln!("all is up; {} requests a second", options.rate);
    let mut report = Run::new(options, world).finish(&dir)?;
    report.seed = seed;
    report.elapsed_seconds = start.elapsed().as_secs_f64();
    frame::conclude(&report, report.holds, &report.verdict.faults, Some(&dir))
}

fn setup(options: &Options, dir: &Path) -> Setup {
    let spool: &[&str] = &["ingest", "spool"];
    // The folder stays when ingest is killed, as a pod's volume does.
    let value = json!({
        "dir": dir.join("spool"), "max_bytes": "1GiB", "max_age": "24h", "wait": "1s",
    });
    Setup {
        names: &[
            ("ingest-0", Role::Ingest),
            ("processor-0", Role::Processor),
            ("processor-1", Role::Processor),
        ],
        settings: if options.no_spool {
            Vec::new()
        } else {
            vec![(spool, value)]
        },
        rate: options.rate,
        lanes: options.rate.saturating_mul(LANES_PER_RATE).max(1),
        outage: Duration::from_secs(options.seconds),
        ..Setup::default()
    }
}

/// What was seen on the way.
struct Run<'a> {
    options: &'a Options,
    world: World,
    kills: u64,
    spool: Spool,
    spooled_before: f64,
    faults: Vec<String>,
}

/// When the brokers were back.
struct Back {
    first: Duration,
    all: Duration,
    /// From `all` on.
    empty: Option<Duration>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, world: World) -> Self {
        Self {
            options,
            world,
            kills: 0,
            spool: Spool::default(),
            spooled_before: 0.0,
            faults: Vec::new(),
        }
    }

    fn finish(mut self, dir: &Path) -> Result<Report> {
        std::thread::sleep(BEFORE);
        self.wait_direct();
        self.spooled_before = self.spool.spooled();
        let gone = Instant::now();
        self.stop_brokers()?;
        eprintln!("all brokers are gone; {:?}", self.world.load.counts());
        let floor = Floor::start(dir)?;
        self.sit_out(Instant::now())?;
        let back = Instant::now();
        let fsyncs = floor.finish()?;
        eprintln!("the brokers start; {:?}", self.world.load.counts());
        let times = self.come_back()?;
        eprintln!(
            "first answer after {:.1?}, all after {:.1?}, the spool empty {:.1?} later",
            times.first, times.all, times.empty
        );
        self.world.heal();
        let patience = PATIENCE * 4;
        let settled = self.world.settle(patience);
        let paused = self.world.load.pause(patience);
        let rest = paused.and_then(|()| self.world.rest(patience));
        for error in [settled.as_ref().err(), rest.as_ref().err()]
            .into_iter()
            .flatten()
        {
            self.faults.push(format!("it did not settle: {error:#}"));
        }
        eprintln!("checking; {:?}", self.world.load.counts());
        let site = &self.world.site;
        let topics = with_prefix(site.bootstrap(), "")?;
        let records = read(site.bootstrap(), &topics, Isolation::Committed)?;
        let told = Told::read(&dir.join("ledger"))?;
        let verdict = check(&site.names(), &records, &told);
        drop(records);
        self.look();
        if let Err(error) = self.world.fleet.stop() {
            self.faults.push(format!(
                "a service did not end when it was asked to: {error:#}"
            ));
        }
        let settled = settled.unwrap_or(patience);
        self.write_answers(gone, dir)?;
        self.report(verdict, (gone, back), &times, (settled, &fsyncs))
    }

    /// Waits until requests go straight to the brokers: those on the way when they go are among what is
    /// looked at. Cold brokers may have been too slow before.
    fn wait_direct(&mut self) {
        let until = Instant::now() + DRAINED;
        loop {
            self.look();
            if self.options.no_spool || self.spool.now == Some(0.0) {
                return;
            }
            if Instant::now() > until {
                let left = self.spool.now;
                let fault = format!("{left:?} records in the spool before the brokers went");
                return self.faults.push(fault);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn stop_brokers(&self) -> Result<()> {
        for node in 0..self.world.cluster.len() {
            if self.options.graceful {
                self.world.cluster.stop(node)?;
            } else {
                self.world.cluster.kill(node)?;
            }
        }
        Ok(())
    }

    /// Waits until the outage, which begins with the last broker's end, is over; reads the spool's metrics,
    /// and kills ingest where that is asked for.
    fn sit_out(&mut self, gone: Instant) -> Result<()> {
        let every = Duration::from_secs(self.options.kill_ingest_every);
        let mut killed = Instant::now();
        while gone.elapsed() < self.world.outage {
            self.world.fleet.must_run()?;
            if !every.is_zero() && killed.elapsed() >= every {
                self.look();
                self.world.fleet.slot("ingest-0")?.kill()?;
                self.kills += 1;
                killed = Instant::now();
            }
            self.look();
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn look(&mut self) {
        let slot = self.world.fleet.slot("ingest-0");
        let samples = slot.and_then(|slot| slot.metrics()).ok();
        self.spool.look(samples.as_ref());
    }

    /// Starts the brokers and waits until they are there and the spool is empty.
    fn come_back(&mut self) -> Result<Back> {
        let start = Instant::now();
        for node in 0..self.world.cluster.len() {
            self.world.cluster.restart(node)?;
        }
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.world.site.bootstrap())
            .set("reconnect.backoff.max.ms", "200")
            .set("log_level", "0")
            .create()?;
        let (mut first, mut all) = (None, None);
        let mut told = start;
        loop {
            if all.is_none()
                && let Ok(metadata) = client.fetch_metadata(None, ASK)
            {
                first.get_or_insert_with(|| start.elapsed());
                if metadata.brokers().len() == self.world.cluster.len() {
                    all = Some(start.elapsed());
                }
            }
            self.look();
            if told.elapsed() > TELL {
                told = Instant::now();
                let after = start.elapsed();
                eprintln!(
                    "{after:.0?} after the brokers' start: {:?} in the spool",
                    self.spool.now
                );
            }
            let late = start.elapsed() > DRAINED * LATE;
            let empty = self.options.no_spool || self.spool.now == Some(0.0);
            if (all.is_some() && empty) || late {
                let all_back = all.unwrap_or_else(|| start.elapsed());
                return Ok(Back {
                    first: first.unwrap_or(all_back),
                    all: all_back,
                    empty: empty.then(|| start.elapsed().saturating_sub(all_back)),
                });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Writes down when each answered attempt was sent, and how long its answer took, both in
    /// milliseconds, the first from the brokers' end on: for who asks what a slow moment had in common.
    fn write_answers(&self, gone: Instant, dir: &Path) -> Result<()> {
        let mut text = String::from("sent_ms,took_ms\n");
        for Answered { sent, took } in self.world.load.answers() {
            let sent = sent.saturating_duration_since(gone).as_millis();
            let _ = writeln!(text, "{sent},{}", took.as_millis());
        }
        Ok(std::fs::write(dir.join("answers.csv"), text)?)
    }

    fn report(
        self,
        mut verdict: Verdict,
        (gone, back): (Instant, Instant),
        times: &Back,
        (settled, fsyncs): (Duration, &[Duration]),
    ) -> Result<Report> {
        let counts = self.world.load.counts();
        let answers = self.world.load.answers();
        let within = answers.iter().filter(|a| a.sent >= gone && a.sent < back);
        let took: Vec<Duration> = within.map(|answered| answered.took).collect();
        let answered = took.len();
        let took: Times = took.into_iter().collect();
        let fsyncs: Times = fsyncs.iter().copied().collect();
        let p99_ms = took.percentile_ms(99.0);
        let share = share(&counts, self.kills > 0);
        let mut faults = self.faults;
        faults.extend(self.world.fleet.faults());
        faults.extend(self.world.load.odd());
        faults.extend(self.world.faults);
        if share < SHARE {
            faults.push(format!("{:.3} % were answered with 200", share * 100.0));
        }
        if p99_ms > P99_MS {
            faults.push(format!("p99 was {p99_ms:.0} ms during the outage"));
        }
        match times.empty {
            Some(took) if took <= DRAINED => {}
            Some(took) => faults.push(format!("the spool was empty after {took:.0?}")),
            None => faults.push("the spool was never empty".into()),
        }
        if !self.options.no_spool && self.spool.most <= 0.0 {
            faults.push(format!("{SPOOL_RECORDS} never reported a record"));
        }
        for fault in faults {
            verdict.remark(fault);
        }
        let report = Report {
            holds: verdict.holds(),
            seed: 0,
            rate: self.options.rate,
            outage_seconds: (back - gone).as_secs_f64(),
            attempts: counts.attempts,
            share,
            refused: counts.refused,
            unanswered: counts.unanswered,
            kills: self.kills,
            answers: answered,
            p50_ms: took.percentile_ms(50.0),
            p99_ms,
            max_ms: took.percentile_ms(100.0),
            fsync_p50_ms: fsyncs.percentile_ms(50.0),
            fsync_p99_ms: fsyncs.percentile_ms(99.0),
            fsync_max_ms: fsyncs.percentile_ms(100.0),
            spool_most: self.spool.most,
            spooled: self.spool.spooled(),
            spooled_before: self.spooled_before,
            brokers_first_seconds: times.first.as_secs_f64(),
            brokers_all_seconds: times.all.as_secs_f64(),
            spool_empty_seconds: times.empty.map(|took| took.as_secs_f64()),
            settled_seconds: settled.as_secs_f64(),
            ingest_peak_bytes: self.world.fleet.peak(Role::Ingest),
            ends: self.world.fleet.ends(),
            verdict,
            elapsed_seconds: 0.0,
        };
        self.world.load.finish()?;
        Ok(report)
    }
}
