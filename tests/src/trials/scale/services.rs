//! Both services under a scene: what one request or one record costs each.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sluice_schemas::metric::processor::TRANSACTIONS;
use sluice_tests::harness::child::Signal;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::offsets::wait_caught_up;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::wait::wait_for;
use sluice_tests::load::raw::Writer;

use super::cost::{Cost, Rounds, Spent};
use super::counted::{Counted, number};
use super::options::Options;
use super::results::folder;
use super::scene::Scene;
use super::traffic;
use super::{keys, load};

/// How long a service under callgrind may need for its start or its work.
const PATIENCE: Duration = Duration::from_secs(300);

/// Bytes of the distinct requests that are sent to ingest again and again.
const DISTINCT: u64 = 32 << 20;

/// How many requests or records of one KiB: to warm up, to take the time of, and to count.
struct Amounts {
    warm: u64,
    timed: u64,
    counted: u64,
}

const INGEST: Amounts = Amounts {
    warm: 3_000,
    timed: 40_000,
    counted: 6_000,
};

const PROCESSOR: Amounts = Amounts {
    warm: 6_000,
    timed: 40_000,
    counted: 10_000,
};

impl Amounts {
    /// Of larger bodies fewer, but so many that one batch more or less does not matter.
    fn of(&self, scene: &Scene, options: &Options) -> Self {
        let share = u64::from(scene.body) * if options.quick { 4 } else { 1 };
        Self {
            warm: (self.warm / share).max(200),
            timed: (self.timed / share).max(400),
            counted: (self.counted / share).max(200),
        }
    }
}

/// What a request costs ingest.
pub fn ingest(scene: &Scene, site: &mut Site, options: &Options) -> Result<Cost> {
    let amounts = INGEST.of(scene, options);
    let distinct = (DISTINCT / u64::from(scene.body) / 1024).min(4_000);
    let requests = Arc::new(traffic::on_the_wire(scene, site, distinct)?);
    // A request that takes longer than this would be answered 503.
    site.set(&["ingest", "ack_timeout"], json!("30s"));
    let send = |site: &Site, count| load::run(site.listen(), &requests, usize::try_from(count)?);

    let mut rounds = Rounds::default();
    let mut service = site.ingest()?;
    service.wait_ready()?;
    send(site, amounts.warm)?;
    for _ in 0..options.rounds() {
        let before = Spent::now(service.id())?;
        send(site, amounts.timed)?;
        rounds.add(&before, &Spent::now(service.id())?, amounts.timed);
    }
    let cost = rounds.cost(service.id())?;
    service.stop()?;

    let counted = Counted::on(site, options.valgrind.as_deref())?;
    let service = site.ingest()?;
    wait_ready(&service)?;
    send(site, amounts.warm / 4)?;
    counted.begin(&service)?;
    send(site, amounts.counted)?;
    let counts = counted.end(&service, &kept(site)?)?;
    Ok(cost.counted(counts, amounts.counted))
}

/// Where the counts of a site's service stay.
fn kept(site: &Site) -> Result<PathBuf> {
    Ok(folder()?.join(format!("{}callgrind", site.names().prefix)))
}

fn wait_ready(service: &Service) -> Result<()> {
    wait_for("the service to be ready", PATIENCE, || {
        Ok(service.is_ready().then_some(()))
    })
}

/// Raw, which is filled on and on.
struct Raw<'a> {
    scene: &'a Scene,
    site: &'a Site,
    writer: &'a Writer,
    next: &'a mut u64,
}

impl Raw<'_> {
    /// Gives the processor so many records at once, and returns when all are committed: it stands still while
    /// they are written, so that batches are not cut by the pace of who writes.
    fn work(&mut self, service: &mut Service, count: u64) -> Result<()> {
        let numbers = *self.next..*self.next + count;
        let records = traffic::raw(self.scene, self.site, numbers)?;
        *self.next += count;
        let raw = self.site.names().raw();
        service.signal(Signal::Stop)?;
        for record in records {
            self.writer.write(&raw, record)?;
        }
        self.writer.flush()?;
        service.signal(Signal::Continue)?;
        let (bootstrap, group) = (self.site.bootstrap(), self.site.group());
        wait_caught_up(bootstrap, &group, &raw, PATIENCE)
    }
}

/// What a record costs the processor.
pub fn processor(scene: &Scene, site: &mut Site, options: &Options) -> Result<Cost> {
    let amounts = PROCESSOR.of(scene, options);
    let writer = Writer::new(site.bootstrap())?;
    let mut next = 0;
    make(site)?;
    if scene.keys > 0 {
        let mut service = site.processor("first")?;
        wait_ready(&service)?;
        raw(scene, site, &writer, &mut next).work(&mut service, amounts.warm)?;
        service.stop()?;
        keys::add(site, &writer, u64::from(scene.keys) * 1_000_000)?;
    }

    let mut rounds = Rounds::default();
    let mut service = site.processor("timed")?;
    wait_ready(&service)?;
    raw(scene, site, &writer, &mut next).work(&mut service, amounts.warm)?;
    for _ in 0..options.rounds() {
        let before = Spent::now(service.id())?;
        raw(scene, site, &writer, &mut next).work(&mut service, amounts.timed)?;
        rounds.add(&before, &Spent::now(service.id())?, amounts.timed);
    }
    let cost = rounds.cost(service.id())?;
    service.stop()?;

    let counted = Counted::on(site, options.valgrind.as_deref())?;
    let mut service = site.processor("counted")?;
    wait_ready(&service)?;
    raw(scene, site, &writer, &mut next).work(&mut service, amounts.warm / 4)?;
    let before = transactions(&service)?;
    counted.begin(&service)?;
    raw(scene, site, &writer, &mut next).work(&mut service, amounts.counted)?;
    let counts = counted.end(&service, &kept(site)?)?;
    let transactions = transactions(&service)? - before;
    Ok(Cost {
        records_per_transaction: Some(number(amounts.counted) / transactions),
        ..cost.counted(counts, amounts.counted)
    })
}

fn raw<'a>(scene: &'a Scene, site: &'a Site, writer: &'a Writer, next: &'a mut u64) -> Raw<'a> {
    Raw {
        scene,
        site,
        writer,
        next,
    }
}

/// Has ingest and the processor make their topics.
fn make(site: &Site) -> Result<()> {
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    ingest.stop()
}

fn transactions(service: &Service) -> Result<f64> {
    let committed = [("outcome", "committed")];
    let samples = service.metrics()?;
    Ok(samples.sum(&TRANSACTIONS.exposed(), &committed))
}
