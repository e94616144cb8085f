//! Rounds of attacks beside good traffic, and what came of them.

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

use super::attack::{self, Attack, Front, Seen};
use super::judge::{Machine, Memory, best, quickest, ratio};
use super::{Options, smuggling};
use sluice_tests::load::mix;
use sluice_tests::load::open_loop::{Sent, Steady, Window};

/// Ingest may grow by less than this, in bytes.
const GROWTH: u64 = 64 << 20;

/// Good traffic's p99 may be so many times that in quiet.
const SLOWER: f64 = 2.0;

/// Longer than `ingest.limits.peer_pause` by default.
const PEER_PAUSE: Duration = Duration::from_millis(1_500);

/// Before anything is timed: connections, metadata, the first pages.
const WARM_UP: Duration = Duration::from_secs(8);

/// After an attack its connections are gone within this time: longer than each of ingest's own times.
const SHED: Duration = Duration::from_secs(30);

/// Connections that may be open beside those that good traffic keeps: its requests that are on their way.
const SPARE: usize = 16;

/// Where good traffic comes from.
const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// An attack under which good traffic was slow is tried again, so often in all: a machine that stands
/// still for a tenth of a second spoils one round, ingest's own fault spoils each.
const ROUNDS: usize = 3;

/// For how long in all it is waited for a calm machine, before each window that is timed: others, who share
/// its processors, come and go by the minute.
const PATIENCE: Duration = Duration::from_secs(600);

/// What came of one attack.
#[derive(Debug, Serialize)]
struct Outcome {
    attack: Attack,
    /// Of all rounds, the one in which good traffic was quickest.
    good: Window,
    /// Good traffic's p99 in each round, in milliseconds.
    rounds: Vec<f64>,
    /// Its p99 in the best of them beside the best in quiet, or beside the floor.
    ratio: f64,
    /// The p99 at an ingest that nobody attacks, on the same machine with the same Kafka, in the same best
    /// round.
    beside_p99_ms: f64,
    /// Good traffic's p99 in that round beside this one: what of it is the attacked ingest's own.
    beside_ratio: f64,
    /// Of a thread that only sleeps, how late it woke at the 99th percentile in the same best round: what
    /// the machine and the attackers, who share it, add to anybody's time.
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
    /// How long it was waited for a calm machine.
    waited_seconds: f64,
    /// The best of all quiet windows.
    quiet: Window,
    quiet_rounds: Vec<f64>,
    /// The same thread's in the best quiet window.
    machine_p99_ms: f64,
    attacks: Vec<Outcome>,
    memory_before: u64,
    memory_growth: u64,
    memory_bound: u64,
    good_requests: usize,
    pub faults: Vec<String>,
    pub elapsed_seconds: f64,
}

/// What was timed and looked at so far.
pub struct Run {
    front: Front,
    good: Steady,
    /// The same traffic to an ingest that is not attacked.
    beside: Steady,
    memory: Memory,
    machine: Machine,
    /// What is left of [`PATIENCE`].
    patience: Duration,
    quiet_seconds: u64,
    quiet: Vec<(Instant, Instant)>,
    memory_before: u64,
    spans: Vec<Span>,
    faults: Vec<String>,
    smuggled: Vec<Vec<smuggling::Exchange>>,
}

/// One attack, and when.
struct Span {
    attack: Attack,
    rounds: Vec<(Instant, Instant)>,
    seen: Seen,
    memory: u64,
}

impl Run {
    /// `beside` is where the ingest listens that nobody attacks.
    pub fn start(
        options: &Options,
        site: &Site,
        front: Front,
        ingest: &Service,
        beside: SocketAddr,
    ) -> Result<Self> {
        let wire = front.wire.clone().from(GOOD);
        let requests = mix::events(site)?;
        let start = |address| Steady::start(&[address], &wire, requests.clone(), options.rate);
        let (good, beside) = (start(front.address)?, start(beside)?);
        let machine = Machine::watch();
        std::thread::sleep(WARM_UP);
        eprintln!("good traffic in quiet, {} requests a second", options.rate);
        let mut quiet = Vec::new();
        let mut patience = PATIENCE;
        for _ in 0..ROUNDS {
            machine.wait_calm(&mut patience);
            let from = Instant::now();
            std::thread::sleep(Duration::from_secs(options.quiet));
            quiet.push((from, Instant::now()));
        }
        let memory_before = memory(ingest.id(), "VmRSS")?;
        Ok(Self {
            front,
            good,
            beside,
            memory: Memory::watch(ingest.id()),
            patience,
            quiet_seconds: options.quiet,
            machine,
            quiet,
            memory_before,
            spans: Vec::new(),
            faults: Vec::new(),
            smuggled: Vec::new(),
        })
    }

    /// Runs an attack, and again where good traffic was slow.
    pub fn under(&mut self, attack: Attack, ingest: &mut Service) -> Result<()> {
        let mut span = Span {
            attack,
            rounds: Vec::new(),
            seen: Seen::default(),
            memory: 0,
        };
        self.round(&mut span, ingest)?;
        self.rounds(&mut span, ingest)?;
        self.spans.push(span);
        Ok(())
    }

    /// What seemed quick beside the quiet windows until then may not be beside those that came later, with
    /// the rounds of another attack too.
    pub fn again(&mut self, ingest: &mut Service) -> Result<()> {
        loop {
            let looked_at = self.quiet.len();
            for mut span in std::mem::take(&mut self.spans) {
                self.rounds(&mut span, ingest)?;
                self.spans.push(span);
            }
            if self.quiet.len() == looked_at {
                return Ok(());
            }
        }
    }

    /// More rounds, each after a quiet window, as long as good traffic was slow in all.
    fn rounds(&mut self, span: &mut Span, ingest: &mut Service) -> Result<()> {
        while span.attack.judged() && span.rounds.len() < ROUNDS && self.ratio(span) > SLOWER {
            self.machine.wait_calm(&mut self.patience);
            let from = Instant::now();
            std::thread::sleep(Duration::from_secs(self.quiet_seconds));
            self.quiet.push((from, Instant::now()));
            self.round(span, ingest)?;
        }
        Ok(())
    }

    fn ratio(&self, span: &Span) -> f64 {
        ratio(&self.windows(&span.rounds), &self.windows(&self.quiet))
    }

    fn round(&mut self, span: &mut Span, ingest: &mut Service) -> Result<()> {
        // Attackers are one peer, which has to wait after a flood.
        std::thread::sleep(PEER_PAUSE);
        self.machine.wait_calm(&mut self.patience);
        self.memory.peak();
        let from = Instant::now();
        let mut seen = self.once(span.attack, ingest)?;
        span.rounds.push((from, Instant::now()));
        self.shed(ingest)
            .unwrap_or_else(|error| seen.faults.push(format!("{error:#}")));
        span.memory = span.memory.max(self.memory.peak());
        for fault in &seen.faults {
            eprintln!("  fault: {fault}");
        }
        span.seen.told.extend(seen.told);
        span.seen.faults.extend(seen.faults);
        let good = self.windows(&span.rounds);
        eprintln!(
            "{:?}: {:.0?}; p99 {:.1} ms, {:.1} times that in quiet; {:?}",
            span.attack,
            from.elapsed(),
            good.last().map_or(0.0, |window| window.p99_ms),
            self.ratio(span),
            span.seen.told
        );
        Ok(())
    }

    fn once(&mut self, attack: Attack, ingest: &mut Service) -> Result<Seen> {
        let seen = match attack {
            Attack::Smuggling => {
                self.smuggled.push(attack::smuggle(&self.front)?);
                self.smuggled
                    .last()
                    .map(|exchanges| attack::seen_of(exchanges))
                    .unwrap_or_default()
            }
            _ => attack.run(&self.front).unwrap_or_else(|error| Seen {
                told: BTreeMap::new(),
                faults: vec![format!("it could not be tried: {error:#}")],
            }),
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

    fn windows(&self, spans: &[(Instant, Instant)]) -> Vec<Window> {
        let window = |(from, to): &(Instant, Instant)| self.good.window(*from, *to);
        spans.iter().map(window).collect()
    }

    pub fn finish(self, options: &Options, site: &Site) -> Result<Report> {
        let sent = self.good.finish()?;
        let beside = self.beside.finish()?;
        let windows = |spans: &[(Instant, Instant)]| -> Vec<Window> {
            let spans = spans.iter();
            spans.map(|(from, to)| sent.window(*from, *to)).collect()
        };
        let quiet = windows(&self.quiet);
        let all = sent.window(self.quiet[0].0, Instant::now());
        let mut faults = self.faults;
        let mut attacks = Vec::new();
        for mut span in self.spans {
            let attack = span.attack;
            if attack == Attack::Smuggling {
                let raw = vec![site.names().raw()];
                let records = read(site.bootstrap(), &raw, Isolation::Committed)?;
                span.seen.faults = smuggling::faults(&self.smuggled, &records, &self.front.path);
            }
            let good = windows(&span.rounds);
            let outcome = span.outcome(good, &beside, &quiet, &self.machine);
            let named = outcome.seen.faults.iter();
            faults.extend(named.map(|fault| format!("{attack:?}: {fault}")));
            if outcome.ratio > SLOWER && attack.judged() {
                faults.push(format!(
                    "{attack:?}: good traffic's p99 is {:.1} ms at best, {:.1} times that in quiet",
                    outcome.good.p99_ms, outcome.ratio
                ));
            }
            attacks.push(outcome);
        }
        if all.failed > 0 {
            let told = &sent.failures;
            faults.push(format!("{} good requests failed: {told:?}", all.failed));
        }
        let most = attacks.iter().map(|outcome| outcome.memory).max();
        let growth = most.unwrap_or(0).saturating_sub(self.memory_before);
        if growth >= GROWTH {
            faults.push(format!("ingest grew by {} MiB", growth >> 20));
        }
        let quiet_machine = self.quiet.get(quickest(&quiet));
        Ok(Report {
            holds: false,
            tls: options.tls,
            in_memory: false,
            waited_seconds: PATIENCE.saturating_sub(self.patience).as_secs_f64(),
            quiet_rounds: quiet.iter().map(|window| window.p99_ms).collect(),
            quiet: best(quiet),
            machine_p99_ms: quiet_machine.map_or(0.0, |(from, to)| self.machine.p99_ms(*from, *to)),
            attacks,
            memory_before: self.memory_before,
            memory_growth: growth,
            memory_bound: GROWTH,
            good_requests: all.requests,
            faults,
            elapsed_seconds: 0.0,
        })
    }
}

impl Span {
    fn outcome(
        self,
        good: Vec<Window>,
        beside: &Sent,
        quiet: &[Window],
        machine: &Machine,
    ) -> Outcome {
        let (from, to) = self.rounds[quickest(&good)];
        let beside_p99_ms = beside.window(from, to).p99_ms;
        let good_rounds = good.iter().map(|window| window.p99_ms).collect();
        let ratio = ratio(&good, quiet);
        let good = best(good);
        let seconds = |(from, to): &(Instant, Instant)| (*to - *from).as_secs_f64();
        Outcome {
            attack: self.attack,
            rounds: good_rounds,
            ratio,
            beside_p99_ms,
            beside_ratio: good.p99_ms / beside_p99_ms,
            machine_p99_ms: machine.p99_ms(from, to),
            good,
            memory: self.memory,
            seconds: self.rounds.iter().map(seconds).sum(),
            seen: self.seen,
        }
    }
}
