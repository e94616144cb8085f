//! What the schedules act on: the brokers, the services, the load, and what is looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use sluice_tests::harness::cluster::{self, Cluster, Purpose, Release};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::offsets::topic_setting;
use sluice_tests::harness::wait::{PATIENCE, wait_for};
use sluice_tests::load::ledger::Ledger;

use super::fleet::{Fleet, Role, Slot};
use super::observer::Observer;
use fastrand::Rng;
use sluice_tests::load::lanes::{Load, Target};

/// Partitions of raw: one for each worker.
const PARTITIONS: u32 = 6;

/// Answers with 200 that count as a sign of life.
const LIFE: u64 = 50;

/// Senders at once. Each waits for its answers, so this bounds what is on the way.
pub const LANES: u32 = 48;

/// The node whose disk can be filled.
pub const SMALL_DISK: usize = 2;

/// Its size in MiB, in addition to what a minute of load takes.
pub const DISK_MIB: u64 = 1024;
pub const DISK_MIB_A_MINUTE: u64 = 48;

/// A member that comes and goes.
pub const EXTRA: &str = "extra";

/// What a world is made of.
pub struct Setup {
    /// How many nodes there are: 1 or 3.
    pub nodes: usize,
    /// What they run.
    pub release: Release,
    /// The services by name. What is named [`LATE`] joins under load, [`EXTRA`] when it is asked to.
    pub names: &'static [(&'static str, Role)],
    /// The size in MiB of the disk of [`SMALL_DISK`], if it has one of its own.
    pub disk: Option<u64>,
    /// Further settings, by path.
    pub settings: Vec<(&'static [&'static str], Value)>,
    /// Requests a second.
    pub rate: u32,
    /// Senders at once.
    pub lanes: u32,
    /// How long all brokers are gone where a schedule asks for that.
    pub outage: Duration,
    /// The binaries of an older build.
    pub old: Option<PathBuf>,
    /// The binaries that the services begin with; `None` for those of this build.
    pub binaries: Option<PathBuf>,
    /// What is done to the brokers before the first service starts.
    pub before: Option<Before>,
    /// Whether the nodes have an authorizer, for topics that may not be written.
    pub authorizer: bool,
    /// A provider that the load has no requests of.
    pub left_out: Option<&'static str>,
}

/// See [`Setup::before`].
pub type Before = fn(&Cluster, &Site) -> Result<()>;

impl Default for Setup {
    /// Three nodes, no service, one request a second.
    fn default() -> Self {
        Self {
            nodes: 3,
            release: Release::Current,
            names: &[],
            disk: None,
            settings: Vec::new(),
            rate: 1,
            lanes: 1,
            outage: Duration::ZERO,
            old: None,
            binaries: None,
            before: None,
            authorizer: false,
            left_out: None,
        }
    }
}

/// A member that joins when all others work.
const LATE: &str = "processor-2";

/// All that a schedule may touch. The services end before the brokers do.
pub struct World {
    pub load: Load,
    pub fleet: Fleet,
    pub eyes: Observer,
    pub random: Rng,
    pub outage: Duration,
    /// The binaries of an older build.
    pub old: Option<PathBuf>,
    /// When the last fault was healed.
    healed: Instant,
    /// What a schedule saw and should not have, in words.
    pub faults: Vec<String>,
    group: String,
    pub site: Site,
    pub cluster: Cluster,
}

impl World {
    /// Starts everything and waits until all of it works.
    pub fn start(setup: Setup, seed: u64, dir: &Path) -> Result<Self> {
        let mut random = Rng::with_seed(seed);
        let slots = setup.names.iter().map(|(name, _)| (*name).to_owned());
        let cluster = Cluster::start_with(&cluster::Options {
            nodes: setup.nodes,
            release: setup.release,
            purpose: Purpose::Tests,
            slots: slots.collect(),
            disks: setup
                .disk
                .map(|mib| (SMALL_DISK, mib))
                .into_iter()
                .collect(),
            authorizer: setup.authorizer,
            ..cluster::Options::default()
        })?;
        let site = site(&setup, &cluster)?;
        if let Some(before) = setup.before {
            before(&cluster, &site)?;
        }
        let fleet = fleet(&setup, dir, &site, &cluster)?;
        let raw = site.names().raw();
        let wanted = if setup.nodes == 1 { "1" } else { "2" };
        let replicas = topic_setting(site.bootstrap(), &raw, "min.insync.replicas")?;
        if replicas.as_deref() != Some(wanted) {
            bail!("{raw} has min.insync.replicas {replicas:?}, not {wanted}");
        }
        let eyes = Observer::new(site.bootstrap(), &site.group(), &raw)?;
        let targets = fleet.of(Role::Ingest);
        let targets = targets.iter().map(|slot| Target {
            name: slot.name.clone(),
            address: slot.listen(),
            starts: Arc::clone(&slot.starts),
        });
        let ledger = Ledger::create(&dir.join("ledger"))?;
        let mut sources = site.sources.clone();
        sources.retain(|source| Some(source.provider) != setup.left_out);
        let load = Load::start(
            &sources,
            targets.collect(),
            ledger,
            setup.rate,
            setup.lanes,
            &mut random,
        )?;
        let world = Self {
            load,
            fleet,
            eyes,
            random,
            outage: setup.outage,
            old: setup.old,
            healed: Instant::now(),
            faults: Vec::new(),
            group: site.group(),
            site,
            cluster,
        };
        world.wait_life(PATIENCE)?;
        for late in world.fleet.slots().iter().filter(|slot| slot.name == LATE) {
            late.start()?;
            late.wait_ready(PATIENCE)?;
        }
        // Faults begin when the group has come to rest.
        world.settle(PATIENCE * 2)?;
        Ok(world)
    }

    /// One of the processors.
    pub fn processor(&mut self) -> Arc<Slot> {
        let mut all = self.fleet.of(Role::Processor);
        all.retain(|slot| slot.name != EXTRA);
        Arc::clone(&all[self.random.usize(..all.len())])
    }

    /// One of the processes of ingest.
    pub fn ingest(&mut self) -> Arc<Slot> {
        let all = self.fleet.of(Role::Ingest);
        Arc::clone(&all[self.random.usize(..all.len())])
    }

    /// The member that comes and goes; it is not running between schedules.
    pub fn extra(&self) -> Result<Arc<Slot>> {
        self.fleet.slot(EXTRA)
    }

    /// One of the nodes.
    pub fn node(&mut self) -> usize {
        self.random.usize(..self.cluster.len())
    }

    /// The consumer group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Lets a fault last for some time between two bounds, in milliseconds. The length of a fault is
    /// a choice, not a wait for anything.
    pub fn last(&mut self, from: u64, to: u64) {
        let length = from + self.random.u64(..=to.saturating_sub(from));
        std::thread::sleep(Duration::from_millis(length));
    }

    /// The fault is over now.
    pub fn heal(&mut self) {
        self.healed = Instant::now();
    }

    /// What should not have been.
    pub fn fault(&mut self, sentence: String) {
        eprintln!("  fault: {sentence}");
        self.faults.push(sentence);
    }

    /// Waits until requests are answered with 200 again.
    pub fn wait_life(&self, patience: Duration) -> Result<()> {
        let wanted = self.load.counts().acked + LIFE;
        wait_for("requests to be answered with 200", patience, || {
            self.fleet.must_run()?;
            Ok((self.load.counts().acked >= wanted).then_some(()))
        })
    }

    /// Waits until all works again and all that was there when it did is committed and stable, no longer
    /// than this in all. Gives the time since the last heal.
    pub fn settle(&self, patience: Duration) -> Result<Duration> {
        let until = Instant::now() + patience;
        let left = || until.saturating_duration_since(Instant::now());
        self.wait_life(left())?;
        for slot in self.fleet.slots().iter().filter(|slot| slot.is_running()) {
            slot.wait_ready(left())?;
        }
        self.rest(left())?;
        Ok(self.healed.elapsed())
    }

    /// Waits until all that is there is committed and stable.
    pub fn rest(&self, patience: Duration) -> Result<()> {
        self.eyes.wait_settled(&self.eyes.ends()?, patience)
    }

    /// Waits until a node that was started again is in use: in the metadata, and all replicas in sync.
    pub fn wait_whole(&self) -> Result<()> {
        self.cluster.wait_ready()?;
        self.cluster.wait_in_sync(PATIENCE * 2)
    }
}

/// The settings of a world.
fn site(setup: &Setup, cluster: &Cluster) -> Result<Site> {
    let mut site = Site::new("", &cluster.bootstrap())?;
    site.set(&["topics", "replication"], json!(setup.nodes));
    site.set(&["topics", "partitions"], json!(PARTITIONS));
    site.set(&["topics", "event_partitions"], json!(2));
    site.set(&["processor", "workers"], json!(2));
    for (path, value) in &setup.settings {
        site.set(path, value.clone());
    }
    Ok(site)
}

/// Starts the services that are there from the beginning, and waits until they are ready.
fn fleet(setup: &Setup, dir: &Path, site: &Site, cluster: &Cluster) -> Result<Fleet> {
    let slots = setup.names.iter();
    let slots = slots
        .map(|(name, role)| Slot::new(name, *role, dir, &site.settings, cluster))
        .collect::<Result<Vec<_>>>()?;
    let fleet = Fleet::new(slots);
    for slot in fleet.slots() {
        slot.run_from(setup.binaries.as_deref());
    }
    let at_once = |slot: &&Arc<Slot>| slot.name != LATE && slot.name != EXTRA;
    for slot in fleet.slots().iter().filter(at_once) {
        slot.start()?;
    }
    for slot in fleet.slots().iter().filter(|slot| slot.is_running()) {
        slot.wait_ready(PATIENCE)?;
    }
    Ok(fleet)
}
