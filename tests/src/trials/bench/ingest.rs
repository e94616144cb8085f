//! Ingest next to a bare hyper server with a threaded producer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::metrics::{cpu_time, peak_memory};
use sluice_tests::harness::offsets::create_topic;
use sluice_tests::harness::{ports, wait};

use super::children::{Floor, FloorProcess};
use super::load;
use super::measure::{Measure, Options};

/// Distinct requests that are sent again and again.
const REQUESTS: u64 = 4_000;

/// Before the clock runs: connections, metadata, the first pages.
const WARM_UP: Duration = Duration::from_secs(2);

/// Ours, then the floor.
pub fn round(bootstrap: &str, round: u32, options: &Options) -> Result<(Measure, Measure)> {
    let site = Site::new(&format!("ingest{round}."), bootstrap)?;
    let requests = requests(&site)?;

    let floor = {
        let address = ports::local(ports::free()?);
        let topic = format!("floor{round}.raw");
        create_topic(bootstrap, &topic, 3, &[])?;
        let floor = FloorProcess::start(&Floor::Ingest {
            bootstrap: bootstrap.to_owned(),
            topic,
            listen: address,
        })?;
        wait::wait_for("the floor to listen", wait::PATIENCE, || {
            Ok(std::net::TcpStream::connect(address).ok())
        })?;
        measure(address, floor.id(), &requests, options)?
    };
    let ours = ours(&site, &requests, options)?;
    Ok((ours, floor))
}

/// Ours alone, on a site of its own.
pub fn alone(site: &mut Site, options: &Options) -> Result<Measure> {
    let requests = requests(site)?;
    ours(site, &requests, options)
}

fn ours(site: &Site, requests: &Arc<Vec<Vec<u8>>>, options: &Options) -> Result<Measure> {
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    measure(site.listen(), ingest.id(), requests, options)
}

/// Requests of all sources, laid out.
pub(super) fn requests(site: &Site) -> Result<Arc<Vec<Vec<u8>>>> {
    let mut requests = Vec::new();
    let at = now();
    for n in 0..REQUESTS {
        let source = &site.sources[usize::try_from(n)? % site.sources.len()];
        let events = source.samples()?;
        let event = events[usize::try_from(n)? / site.sources.len() % events.len()];
        requests.push(load::laid_out(&source.signed(event, n, at)?));
    }
    Ok(Arc::new(requests))
}

fn measure(
    address: SocketAddr,
    pid: u32,
    requests: &Arc<Vec<Vec<u8>>>,
    options: &Options,
) -> Result<Measure> {
    load::run(address, requests, options.connections, WARM_UP)?;
    let (cpu, started) = (cpu_time(pid)?, Instant::now());
    let time = Duration::from_secs(options.load_seconds);
    let answered = load::run(address, requests, options.connections, time)?;
    Ok(super::children::measure_of(
        answered,
        started.elapsed(),
        cpu_time(pid)?.saturating_sub(cpu),
        peak_memory(pid)?,
    ))
}
