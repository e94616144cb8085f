//! What the internet sends: good traffic is timed in quiet, then under one attack after the other.
//!
//! It holds where ingest stays as small and, for the good, as quick as it was, where every bad request
//! got its answer, and where nothing stands on raw that was smuggled in. Attackers come from 127.0.0.1,
//! good traffic from another address, so that bounds by peer tell them apart.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use sluice_tests::cluster::{Cluster, Purpose};
use sluice_tests::ledger::now_micros;
use sluice_tests::metrics::memory;
use sluice_tests::process::Service;
use sluice_tests::site::Site;
use sluice_tests::topics::{Isolation, read};
use sluice_tests::wait::wait_for;
use sluice_tests::wire::{Wire, write_certificate};

use crate::steady::{self, Sent, Steady, Window};

mod attack;

mod corpus;

pub mod flood;

mod idle;

mod smuggling;

mod tools;

use attack::{Attack, Front, Seen};

/// What the run is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long each attack goes on, in seconds; those that wait for the server's times take longer.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// How long good traffic is timed in quiet, in seconds.
    #[arg(long, default_value_t = 20)]
    quiet: u64,
    /// Good requests a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Connections of an attack that holds them: more than ingest takes in all.
    #[arg(long, default_value_t = 1_200)]
    connections: usize,
    /// Everything over TLS.
    #[arg(long)]
    tls: bool,
    /// These attacks alone; may be repeated.
    #[arg(long = "attack", value_enum)]
    attacks: Vec<Attack>,
    /// A setting besides, as PATH=JSON; may be repeated.
    #[arg(long = "set", value_parser = setting)]
    settings: Vec<(String, Value)>,
    /// Without the settings that this run gives by itself, for a build that does not know them.
    #[arg(long)]
    bare: bool,
}

/// Attackers are one peer, and so are told from the good ones; the bound leaves room for everyone else.
const PEER_CONNECTIONS: u32 = 256;

/// Ingest may grow by less than this, in bytes.
const GROWTH: u64 = 64 << 20;

/// Good traffic's p99 may be so many times that in quiet.
const SLOWER: f64 = 2.0;

/// A quiet p99 below this counts as this, in milliseconds: less is the machine's noise, not ingest's.
const FLOOR_MS: f64 = 5.0;

/// Before anything is timed: connections, metadata, the first pages.
const WARM_UP: Duration = Duration::from_secs(4);

/// How often ingest's memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// After an attack its connections are gone within this time: longer than each of ingest's own times.
const SHED: Duration = Duration::from_secs(30);

/// Connections that may be open: those of good traffic, which keeps as many as it once needed at a time.
const SPARE: f64 = 64.0;

/// Where good traffic comes from.
const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// What came of one attack.
#[derive(Debug, Serialize)]
struct Outcome {
    attack: Attack,
    good: Window,
    /// Good traffic's p99 beside that in quiet, or beside the floor.
    ratio: f64,
    /// The most memory that ingest held meanwhile, in bytes.
    memory: u64,
    seconds: f64,
    #[serde(flatten)]
    seen: Seen,
}

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    tls: bool,
    quiet: Window,
    attacks: Vec<Outcome>,
    memory_before: u64,
    memory_growth: u64,
    memory_bound: u64,
    good_requests: usize,
    faults: Vec<String>,
    elapsed_seconds: f64,
}

/// Runs all attacks; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    eprintln!("starting Kafka and ingest");
    let cluster = Cluster::start(1, Purpose::Tests)?;
    let site = site(options, &cluster.bootstrap())?;
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let dir = crate::faults::folder("hostile", now_micros() / 1_000)?;
    let front = front(options, &site, dir.clone())?;
    let mut run = Run::start(options, &site, front, &ingest)?;
    for attack in Attack::all() {
        if options.attacks.is_empty() || options.attacks.contains(&attack) {
            run.under(attack, &mut ingest)?;
        }
    }
    let mut report = run.finish(options, &site)?;
    if let Err(error) = ingest.stop() {
        report.faults.push(format!("ingest did not end: {error:#}"));
    }
    let log = ingest.log()?;
    let panics = log.lines().filter(|line| line.contains("panicked at"));
    report.faults.extend(panics.map(str::to_owned));
    report.holds = report.faults.is_empty();
    report.elapsed_seconds = start.elapsed().as_secs_f64();
    for fault in &report.faults {
        eprintln!("  fault: {fault}");
    }
    println!("{}", serde_json::to_string(&report)?);
    if report.holds {
        std::fs::remove_dir_all(&dir)?;
    } else {
        std::fs::write(dir.join("ingest.log"), log)?;
        eprintln!("what the tools and ingest told is in {}", dir.display());
    }
    Ok(report.holds)
}

fn setting(text: &str) -> Result<(String, Value)> {
    let (path, value) = text.split_once('=').context("not PATH=JSON")?;
    Ok((path.to_owned(), serde_json::from_str(value)?))
}

fn site(options: &Options, bootstrap: &str) -> Result<Site> {
    let mut site = Site::new("", bootstrap)?;
    if !options.bare {
        site.set(
            &["ingest", "limits", "peer_connections"],
            json!(PEER_CONNECTIONS),
        );
    }
    if options.tls {
        let (certificate, key) = (certificate(&site), site.dir().join("tls.key"));
        write_certificate(&certificate, &key)?;
        let files = json!({"cert_file": certificate, "key_file": key});
        site.set(&["ingest", "tls"], files);
    }
    for (path, value) in &options.settings {
        let path: Vec<&str> = path.split('.').collect();
        site.set(&path, value.clone());
    }
    Ok(site)
}

fn certificate(site: &Site) -> PathBuf {
    site.dir().join("tls.crt")
}

fn front(options: &Options, site: &Site, dir: PathBuf) -> Result<Front> {
    // Its requests are proved by the path alone, so whatever has that path could become a record.
    let path = site.source("referralloop")?.path();
    let certificate = options.tls.then(|| certificate(site));
    let wire = match &certificate {
        Some(certificate) => Wire::tls(certificate, "http/1.1")?,
        None => Wire::plain(),
    };
    Ok(Front {
        address: site.listen(),
        path,
        wire,
        certificate,
        dir,
        seconds: options.seconds,
        connections: options.connections,
    })
}

/// What was timed and looked at so far.
struct Run {
    front: Front,
    good: Steady,
    memory: Memory,
    quiet: (Instant, Instant),
    memory_before: u64,
    spans: Vec<(Attack, Instant, Instant, Seen, u64)>,
    faults: Vec<String>,
    smuggled: Vec<smuggling::Exchange>,
}

impl Run {
    fn start(options: &Options, site: &Site, front: Front, ingest: &Service) -> Result<Self> {
        let wire = front.wire.clone().from(GOOD);
        let requests = steady::requests(site)?;
        let good = Steady::start(&[front.address], &wire, requests, options.rate)?;
        std::thread::sleep(WARM_UP);
        eprintln!("good traffic in quiet, {} requests a second", options.rate);
        let from = Instant::now();
        std::thread::sleep(Duration::from_secs(options.quiet));
        let quiet = (from, Instant::now());
        let memory_before = memory(ingest.id(), "VmRSS")?;
        Ok(Self {
            front,
            good,
            memory: Memory::watch(ingest.id()),
            quiet,
            memory_before,
            spans: Vec::new(),
            faults: Vec::new(),
            smuggled: Vec::new(),
        })
    }

    fn under(&mut self, attack: Attack, ingest: &mut Service) -> Result<()> {
        self.memory.peak();
        let from = Instant::now();
        let mut seen = match attack {
            Attack::Smuggling => {
                self.smuggled = attack::smuggle(&self.front)?;
                attack::seen_of(&self.smuggled)
            }
            _ => attack.run(&self.front).unwrap_or_else(|error| Seen {
                told: BTreeMap::new(),
                faults: vec![format!("it could not be tried: {error:#}")],
            }),
        };
        let to = Instant::now();
        if let Some(status) = ingest.ended()? {
            anyhow::bail!("ingest ended under {attack:?}: {status}\n{}", ingest.log()?);
        }
        if let Err(error) = shed(ingest) {
            seen.faults.push(format!("{error:#}"));
        }
        let memory = self.memory.peak();
        eprintln!(
            "{attack:?}: {:.0?}, {} MiB; {:?}",
            from.elapsed(),
            memory >> 20,
            seen.told
        );
        for fault in &seen.faults {
            eprintln!("  fault: {fault}");
        }
        self.spans.push((attack, from, to, seen, memory));
        Ok(())
    }

    fn finish(self, options: &Options, site: &Site) -> Result<Report> {
        let sent = self.good.finish()?;
        let quiet = sent.window(self.quiet.0, self.quiet.1);
        let all = sent.window(self.quiet.0, Instant::now());
        let mut faults = self.faults;
        let mut attacks = Vec::new();
        for (attack, from, to, mut seen, memory) in self.spans {
            if attack == Attack::Smuggling {
                let raw = vec![site.names().raw()];
                let records = read(site.bootstrap(), &raw, Isolation::Committed)?;
                seen.faults = smuggling::faults(&self.smuggled, &records);
            }
            let outcome = outcome(attack, (from, to), seen, memory, &sent, &quiet);
            let named = outcome.seen.faults.iter();
            faults.extend(named.map(|fault| format!("{attack:?}: {fault}")));
            eprintln!(
                "{attack:?}: p99 {:.1} ms, {:.1} times that in quiet, of {}",
                outcome.good.p99_ms, outcome.ratio, outcome.good.requests
            );
            if outcome.ratio > SLOWER && attack != Attack::Neighbour {
                faults.push(format!(
                    "{attack:?}: good traffic's p99 is {:.1} ms, {:.1} times that in quiet",
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
        Ok(Report {
            holds: false,
            tls: options.tls,
            quiet,
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

fn outcome(
    attack: Attack,
    (from, to): (Instant, Instant),
    seen: Seen,
    memory: u64,
    sent: &Sent,
    quiet: &Window,
) -> Outcome {
    let good = sent.window(from, to);
    Outcome {
        attack,
        ratio: good.p99_ms / quiet.p99_ms.max(FLOOR_MS),
        good,
        memory,
        seconds: (to - from).as_secs_f64(),
        seen,
    }
}

/// Waits until no connection of an attack is left.
fn shed(ingest: &Service) -> Result<()> {
    wait_for("the attack's connections to be gone", SHED, || {
        let open = ingest.metrics()?.sum("sluice_ingest_connections", &[]);
        Ok((open <= SPARE).then_some(()))
    })
}

/// Looks at a process's memory on a thread.
struct Memory {
    peak: Arc<std::sync::atomic::AtomicU64>,
    ending: Arc<AtomicBool>,
}

impl Memory {
    fn watch(pid: u32) -> Self {
        let peak = Arc::<std::sync::atomic::AtomicU64>::default();
        let ending = Arc::<AtomicBool>::default();
        let (most, end) = (Arc::clone(&peak), Arc::clone(&ending));
        std::thread::spawn(move || {
            while !end.load(Relaxed) {
                // A process that ended holds nothing, and is missed elsewhere.
                most.fetch_max(memory(pid, "VmRSS").unwrap_or(0), Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        Self { peak, ending }
    }

    /// The most since the last call, in bytes.
    fn peak(&self) -> u64 {
        self.peak.swap(0, Relaxed)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.ending.store(true, Relaxed);
    }
}
