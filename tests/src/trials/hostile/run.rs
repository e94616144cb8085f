//! Attacks, one after the other, under good traffic, and what came of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::metrics::memory;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::harness::wait::wait_for;
use sluice_tests::load::mix;
use sluice_tests::load::open_loop::{OpenLoop, Sent, Window};

use super::attack::{self, Attack, Front, Seen};
use super::smuggling::{self, Exchange};
use super::watch::{Machine, Memory};

/// Ingest may grow by less than this, in bytes.
const GROWTH: u64 = 64 << 20;

/// No attack begins later than this after the first, so that the trial ends within 10 minutes: the longest
/// attack takes 150 s.
const LAST_START: Duration = Duration::from_secs(400);

/// Before anything is timed: connections, metadata, the first pages.
const WARM_UP: Duration = Duration::from_secs(8);

/// After an attack its connections are gone within this time: longer than each of ingest's own times.
const SHED: Duration = Duration::from_secs(30);

/// Between two attacks, so that what the first left to the kernel is not counted for the second.
const PAUSE: Duration = Duration::from_millis(1_500);

/// Connections that may be open in addition to those that good traffic keeps: its requests on their way.
const SPARE: usize = 16;

/// Where good traffic comes from.
const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A quiet p99 below this counts as this, in milliseconds: less is the machine's noise, not ingest's.
const FLOOR_MS: f64 = 5.0;

/// What came of one attack. Times are printed and not judged: attackers share the machine.
#[derive(Debug, Serialize)]
struct Outcome {
    attack: Attack,
    /// Good traffic meanwhile.
    good: Window,
    /// Its p99 divided by that in quiet, or by the floor.
    ratio: f64,
    /// The p99 at an ingest that nobody attacks, on the same machine with the same Kafka.
    #[serde(rename = "beside_p99_ms")]
    baseline_p99_ms: f64,
    /// Good traffic's p99 divided by this one: what of it is the attacked ingest's own.
    #[serde(rename = "beside_ratio")]
    baseline_ratio: f64,
    /// How late a thread woke that only sleeps, at the 99th percentile: what the machine and the attackers,
    /// who share it, add to every time.
    machine_p99_ms: f64,
    /// The most memory that ingest held meanwhile, in bytes.
    memory: u64,
    seconds: f64,
    #[serde(flatten)]
    seen: Seen,
}

/// The last line of standard output.
#[derive(Serialize)]
pub struct Report {
    pub holds: bool,
    tls: bool,
    /// Whether Kafka's disk is in memory: a real one that stands still would be timed too.
    pub in_memory: bool,
    /// Good traffic before the first attack.
    quiet: Window,
    /// The sleeping thread's at that time.
    machine_p99_ms: f64,
    attacks: Vec<Outcome>,
    memory_before: u64,
    memory_growth: u64,
    memory_bound: u64,
    good_requests: usize,
    pub faults: Vec<String>,
    pub elapsed_seconds: f64,
}

/// A span of time.
type Span = (Instant, Instant);

/// One attack, and when.
struct Attacked {
    attack: Attack,
    span: Span,
    seen: Seen,
    memory: u64,
}

/// What was timed and watched so far.
pub struct Run {
    front: Front,
    good: OpenLoop,
    /// The same traffic to an ingest that is not attacked.
    baseline: OpenLoop,
    memory: Memory,
    machine: Machine,
    quiet: Span,
    memory_before: u64,
    attacked: Vec<Attacked>,
    faults: Vec<String>,
    /// What the corpus was answered, to be compared with raw.
    smuggled: Vec<Exchange>,
}

impl Run {
    /// `baseline` is where the ingest listens that nobody attacks.
    pub fn start(
        (rate, quiet): (u32, Duration),
        site: &Site,
        front: Front,
        ingest: &Service,
        baseline: SocketAddr,
    ) -> Result<Self> {
        let wire = front.wire.clone().from(GOOD);
        let requests = mix::events(site)?;
        let start = |address| OpenLoop::start(&[address], &wire, requests.clone(), rate);
        let (good, baseline) = (start(front.address)?, start(baseline)?);
        let machine = Machine::watch();
        std::thread::sleep(WARM_UP);
        eprintln!("good traffic in quiet, {rate} requests a second");
        let from = Instant::now();
        std::thread::sleep(quiet);
        let quiet = (from, Instant::now());
        let memory_before = memory(ingest.id(), "VmRSS")?;
        Ok(Self {
            front,
            good,
            baseline,
            memory: Memory::watch(ingest.id()),
            machine,
            quiet,
            memory_before,
            attacked: Vec::new(),
            faults: Vec::new(),
            smuggled: Vec::new(),
        })
    }

    /// Runs an attack. One that would begin too late is not run, which is a fault.
    pub fn under(&mut self, attack: Attack, ingest: &mut Service) -> Result<()> {
        if self.quiet.1.elapsed() > LAST_START {
            let sentence = format!("{attack:?}: not run, the attacks before it took too long");
            self.faults.push(sentence);
            return Ok(());
        }
        std::thread::sleep(PAUSE);
        self.memory.peak();
        let from = Instant::now();
        let seen = self.once(attack, ingest)?;
        let span = (from, Instant::now());
        if let Err(error) = self.shed(ingest) {
            self.faults.push(format!("{attack:?}: {error:#}"));
        }
        let good = self.good.window(span.0, span.1);
        let quiet = self.good.window(self.quiet.0, self.quiet.1);
        eprintln!(
            "{attack:?}: {:.0?}; p99 {:.1} ms, {:.1} times that in quiet; {:?}",
            from.elapsed(),
            good.p99_ms,
            ratio(&good, &quiet),
            seen.told
        );
        for fault in &seen.faults {
            eprintln!("  fault: {fault}");
        }
        self.attacked.push(Attacked {
            attack,
            span,
            seen,
            memory: self.memory.peak(),
        });
        Ok(())
    }

    fn once(&mut self, attack: Attack, ingest: &mut Service) -> Result<Seen> {
        let seen = if attack == Attack::Smuggling {
            self.smuggled = attack::smuggle(&self.front)?;
            attack::seen_of(&self.smuggled)
        } else {
            attack.run(&self.front).unwrap_or_else(|error| Seen {
                told: BTreeMap::new(),
                faults: vec![format!("it could not be tried: {error:#}")],
            })
        };
        if let Some(status) = ingest.ended()? {
            anyhow::bail!("ingest ended under {attack:?}: {status}\n{}", ingest.log()?);
        }
        Ok(seen)
    }

    /// Waits until no connection of an attack is left.
    fn shed(&self, ingest: &Service) -> Result<()> {
        wait_for("the attack's connections to be gone", SHED, || {
            let open = ingest.metrics()?.sum("sluice_ingest_connections", &[]);
            let ours = u32::try_from(self.good.kept() + SPARE)?;
            Ok((open <= f64::from(ours)).then_some(()))
        })
    }

    /// Ends the traffic and reports.
    pub fn finish(mut self, tls: bool, site: &Site) -> Result<Report> {
        let (sent, baseline) = (self.good.finish()?, self.baseline.finish()?);
        let quiet = sent.window(self.quiet.0, self.quiet.1);
        let all = sent.window(self.quiet.0, Instant::now());
        let mut attacks = Vec::new();
        for mut attacked in self.attacked {
            let attack = attacked.attack;
            if attack == Attack::Smuggling {
                let raw = vec![site.names().raw()];
                let records = read(site.bootstrap(), &raw, Isolation::Committed)?;
                let path = &self.front.path;
                attacked.seen.faults = smuggling::faults(&self.smuggled, &records, path);
            }
            let named = attacked.seen.faults.iter();
            let named = named.map(|fault| format!("{attack:?}: {fault}"));
            self.faults.extend(named);
            attacks.push(attacked.outcome(&sent, &baseline, &quiet, &self.machine));
        }
        if all.failed > 0 {
            let words = &sent.failures;
            let fault = format!("{} good requests failed: {words:?}", all.failed);
            self.faults.push(fault);
        }
        let most = attacks.iter().map(|outcome| outcome.memory).max();
        let growth = most.unwrap_or(0).saturating_sub(self.memory_before);
        if growth >= GROWTH {
            let fault = format!("ingest grew by {} MiB", growth >> 20);
            self.faults.push(fault);
        }
        Ok(Report {
            holds: false,
            tls,
            in_memory: false,
            quiet,
            machine_p99_ms: self.machine.p99_ms(self.quiet.0, self.quiet.1),
            attacks,
            memory_before: self.memory_before,
            memory_growth: growth,
            memory_bound: GROWTH,
            good_requests: all.requests,
            faults: self.faults,
            elapsed_seconds: 0.0,
        })
    }
}

impl Attacked {
    fn outcome(self, sent: &Sent, baseline: &Sent, quiet: &Window, machine: &Machine) -> Outcome {
        let (from, to) = self.span;
        let good = sent.window(from, to);
        let baseline_p99_ms = baseline.window(from, to).p99_ms;
        Outcome {
            attack: self.attack,
            ratio: ratio(&good, quiet),
            baseline_p99_ms,
            baseline_ratio: good.p99_ms / baseline_p99_ms,
            machine_p99_ms: machine.p99_ms(from, to),
            good,
            memory: self.memory,
            seconds: (to - from).as_secs_f64(),
            seen: self.seen,
        }
    }
}

/// The p99 of good traffic divided by that in quiet, or by the floor.
fn ratio(good: &Window, quiet: &Window) -> f64 {
    good.p99_ms / quiet.p99_ms.max(FLOOR_MS)
}
