//! Two processes of ingest are restarted in turn under a steady load. Its senders keep their connections
//! and, where one is closed, send again, as behind a balancer that looks now and then who is ready: none
//! may fail. What the balancer still sends to a process that leaves must find it listening.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use sluice_tests::harness::client;
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::{Site, listen_of};
use sluice_tests::harness::process::Service;
use sluice_tests::harness::wire::Wire;

use sluice_tests::load::mix;
use sluice_tests::load::open_loop::{OpenLoop, Rotation, Window};

use crate::trials::frame;

/// What the run is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Requests a second.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// How often each process is restarted.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Threads on which each process serves.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// `kill -9` in place of SIGTERM, which a load that does not know of it may notice: for trials.
    #[arg(long, hide = true)]
    kill: bool,
}

/// Before the first restart, after the last, and between two: connections and latencies come to rest.
const CALM: Duration = Duration::from_secs(3);

/// How often the balancer looks: well within the grace time of 5 s that a process gives it.
const PROBE: Duration = Duration::from_secs(1);

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    rate: u32,
    restarts: u32,
    /// The longest that a process took from SIGTERM to its end.
    longest_end_seconds: f64,
    /// All that was sent.
    sent: Window,
    faults: Vec<String>,
    elapsed_seconds: f64,
}

/// Runs it; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    eprintln!("starting Kafka and two processes of ingest");
    let cluster = Cluster::start(1, Purpose::Tests)?;
    let mut site = Site::new("", &cluster.bootstrap())?;
    site.set(&["topics", "partitions"], json!(6));
    site.set(&["ingest", "threads"], json!(options.threads));
    let settings = [site.settings.clone(), site.settings_of_a_second()?];
    let mut services = Vec::new();
    for settings in &settings {
        let mut service = site.start("sluice-ingest", "ingest", settings)?;
        service.wait_ready()?;
        services.push(service);
    }
    let addresses = settings.iter().map(listen_of).collect::<Result<Vec<_>>>()?;
    let requests = mix::events(&site)?;
    let from = Instant::now();
    let good = OpenLoop::start(&addresses, &Wire::plain(), requests, options.rate)?;
    let _balancer = Balancer::start(
        good.rotation(),
        services.iter().map(Service::admin).collect(),
    );
    std::thread::sleep(CALM);
    let mut longest = Duration::ZERO;
    let mut faults = Vec::new();
    for round in 1..=options.rounds {
        for (service, settings) in services.iter_mut().zip(&settings) {
            let asked = Instant::now();
            if let Err(error) = end(service, options.kill) {
                faults.push(format!("round {round}: {error:#}"));
            }
            longest = longest.max(asked.elapsed());
            *service = site.start("sluice-ingest", "ingest", settings)?;
            service.wait_ready()?;
            eprintln!(
                "round {round}: ended after {:.1?}, and is back",
                asked.elapsed()
            );
            std::thread::sleep(CALM);
        }
    }
    let sent = good.finish()?;
    let window = sent.window(from, Instant::now());
    if window.refused > 0 {
        let many = window.refused;
        faults.push(format!(
            "{many} connections were refused to a balancer in its grace time"
        ));
    }
    if window.failed > 0 {
        faults.push(format!("{} failed: {:?}", window.failed, sent.failures));
    }
    let report = Report {
        holds: faults.is_empty(),
        rate: options.rate,
        restarts: options.rounds * 2,
        longest_end_seconds: longest.as_secs_f64(),
        sent: window,
        faults,
        elapsed_seconds: start.elapsed().as_secs_f64(),
    };
    frame::conclude(&report, report.holds, &report.faults, None)
}

/// Looks who is ready, on a thread, and sends there alone.
struct Balancer {
    ending: Arc<AtomicBool>,
}

impl Balancer {
    fn start(rotation: Rotation, admins: Vec<Option<SocketAddr>>) -> Self {
        let ending = Arc::<AtomicBool>::default();
        let end = Arc::clone(&ending);
        std::thread::spawn(move || {
            while !end.load(Relaxed) {
                for (place, admin) in admins.iter().enumerate() {
                    let answer = admin.and_then(|admin| client::get(admin, "/readyz").ok());
                    rotation.set(place, answer.is_some_and(|answer| answer.status == 200));
                }
                std::thread::sleep(PROBE);
            }
        });
        Self { ending }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.ending.store(true, Relaxed);
    }
}

fn end(service: &mut Service, kill: bool) -> Result<()> {
    if kill {
        return service.kill();
    }
    service.stop()
}
