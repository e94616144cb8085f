//! Ingest next to a bare hyper server with a threaded producer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::metrics::{cpu_time, peak_memory};
use sluice_tests::harness::offsets::create_topic;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::{ports, wait};

use super::case::{Case, Maker};
use super::children::{Floor, FloorProcess};
use super::load::{Load, Requests};
use super::measure::{Bench, Compared, Measure, PARTITIONS, mebibytes, print_round};
use super::options::Options;

/// Distinct requests that are sent again and again, at most.
const REQUESTS: usize = 4_000;

/// Their bytes, about and at most.
const REQUESTS_BYTES: usize = 64 << 20;

/// Bytes of all connections' bodies from which on ingest is allowed to hold more than by default.
const HELD: usize = 16 << 20;

/// Before the clock runs for the first time: metadata, the first pages.
const WARM_UP: Duration = Duration::from_secs(1);

/// For how long each side loads brokers that have just started.
const WARM_BROKERS: Duration = Duration::from_secs(8);

/// A service and its floor, both up and loaded in turns.
pub struct Both {
    pub floor: Side,
    pub ours: Side,
    // They end when this is dropped.
    _floor: FloorProcess,
    _ours: Service,
}

/// A process under load.
pub struct Side {
    id: u32,
    pub load: Load,
}

impl Side {
    fn warm_up(&mut self) -> Result<()> {
        self.round(WARM_UP).map(drop)
    }

    /// What it does with as many requests as it takes.
    pub fn round(&mut self, time: Duration) -> Result<Measure> {
        let window = self.load.closed(time, || cpu_time(self.id))?;
        Ok(Measure::new(
            window.answered,
            window.time,
            window.cpu,
            (peak_memory(self.id)?, 0),
        ))
    }

    /// The most memory that it has held, in MiB.
    pub fn peak_mebibytes(&self) -> Result<f64> {
        Ok(mebibytes(peak_memory(self.id)?))
    }
}

impl Both {
    /// Starts both, and loads each for a moment.
    pub fn start(bench: &Bench<'_>, site: &mut Site, case: Case) -> Result<Self> {
        let mut both = Self::at_rest(bench, site, case)?;
        both.floor.warm_up()?;
        both.ours.warm_up()?;
        Ok(both)
    }

    /// Starts both, and sends nothing yet.
    pub fn at_rest(bench: &Bench<'_>, site: &mut Site, case: Case) -> Result<Self> {
        let connections = bench.options.connections;
        if case.least_body_bytes.saturating_mul(connections) > HELD {
            site.set(&["ingest", "max_buffered"], json!("512MiB"));
        }
        let requests = requests(&Maker::new(case, site)?, case)?;
        let address = ports::local(ports::free()?);
        let topic = format!("{}floor", site.names().prefix);
        create_topic(&bench.bootstrap, &topic, PARTITIONS, &[])?;
        let floor = Floor::Ingest {
            bootstrap: bench.bootstrap.clone(),
            topic,
            listen: address,
        };
        let floor = FloorProcess::start(&floor, &bench.under())?;
        wait::wait_for("the floor to listen", wait::PATIENCE, || {
            Ok(std::net::TcpStream::connect(address).ok())
        })?;
        let mut ours = site.ingest()?;
        ours.wait_ready()?;
        let loaded = |id, address| {
            let load = Load::connect(address, connections, &requests)?;
            anyhow::Ok(Side { id, load })
        };
        Ok(Self {
            floor: loaded(floor.id(), address)?,
            ours: loaded(ours.id(), site.listen())?,
            _floor: floor,
            _ours: ours,
        })
    }
}

/// Rounds of the floor and ours in turns.
pub fn point(bench: &Bench<'_>, case: Case, rounds: u32) -> Result<Compared> {
    let mut site = bench.site(&format!("ingest-{}.", case.label()))?;
    let mut both = Both::start(bench, &mut site, case)?;
    let time = bench.options.load_time();
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for number in 1..=rounds {
        let measured = (both.floor.round(time)?, both.ours.round(time)?);
        print_round(number, &measured.0, &measured.1);
        floor.push(measured.0);
        ours.push(measured.1);
    }
    drop(both);
    let body_bytes = Maker::new(case, &site)?.body_bytes()?;
    bench.clear(&site)?;
    Ok(Compared::of(case, body_bytes, &ours, &floor))
}

/// Loads both before anything is measured: young brokers compile as they go, on the core of the load.
pub fn warm_brokers(bench: &Bench<'_>) -> Result<()> {
    let mut site = bench.site("warm.")?;
    let mut both = Both::start(bench, &mut site, Case::HEADLINE)?;
    both.floor.round(WARM_BROKERS)?;
    both.ours.round(WARM_BROKERS)?;
    drop(both);
    bench.clear(&site)
}

/// Ours alone, on a site of its own.
pub fn alone(site: &mut Site, options: &Options) -> Result<Measure> {
    let requests = small_mixed(site)?;
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let load = Load::connect(site.listen(), options.connections, &requests)?;
    let id = ingest.id();
    let mut ours = Side { id, load };
    ours.warm_up()?;
    ours.round(options.load_time())
}

/// Requests of all sources, laid out.
pub fn small_mixed(site: &Site) -> Result<Requests> {
    requests(&Maker::new(Case::SMALL_MIXED, site)?, Case::SMALL_MIXED)
}

fn requests(maker: &Maker, case: Case) -> Result<Requests> {
    let count = REQUESTS.min(REQUESTS_BYTES / case.least_body_bytes.max(1));
    let requests = (0..count as u64).map(|n| Ok(maker.make(n)?.1.on_the_wire()));
    Ok(Arc::new(requests.collect::<Result<_>>()?))
}
