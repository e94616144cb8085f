//! Real Kafka: one or three combined KRaft nodes on this machine, and what may go wrong with them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::harness::child::{Child, Signal};
use crate::harness::proxy::{Proxy, Sprung, Trap};
use crate::harness::wait::{PATIENCE, wait_for};
use crate::harness::{janitor, ports};

mod options;

mod node;

mod properties;

mod jvm;

mod disk;

mod leaders;

mod secured;

mod logins;

pub use jvm::{Purpose, Release, cache, root};
pub use options::{Denied, Listener, Options};
pub use secured::{PLAIN_USERS, Rules};

use node::{Node, Slot};
use secured::Secured;

/// Nodes that run for as long as this value lives.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    release: Release,
    purpose: Purpose,
    authorizer: bool,
    secured: Option<Secured>,
    dir: PathBuf,
}

/// A node asked to stop that has not stopped after this long is killed: of three that stop at once,
/// one may hang.
const STOP: Duration = Duration::from_secs(10);

/// A node that was killed is back in the metadata after 3 to 33 s on a busy machine.
const BACK: Duration = Duration::from_secs(90);

/// The same for all nodes of all clusters; they never meet.
const CLUSTER_ID: &str = "AAAAAAAAQACAAAAAAAAAAA";

impl Cluster {
    /// Starts `nodes` (1 or 3) with nothing special and waits until each is in the metadata.
    pub fn start(nodes: usize, purpose: Purpose) -> Result<Self> {
        Self::start_with(&Options {
            nodes,
            purpose,
            ..Options::default()
        })
    }

    /// Starts nodes and waits until each is in the metadata.
    pub fn start_with(options: &Options) -> Result<Self> {
        if options.nodes != 1 && options.nodes != 3 {
            bail!("a cluster has 1 or 3 nodes, not {}", options.nodes);
        }
        if !jvm::libs(options.release).is_dir() {
            let (version, target) = (options.release.version(), options.release.target());
            bail!("Apache Kafka {version} is missing: make {target}");
        }
        let dir = janitor::folder("kafka")?;
        let nodes = (0..options.nodes)
            .map(|n| Node::new(n, &dir, options))
            .collect::<Result<Vec<_>>>()?;
        let slots = options.slots.iter().enumerate();
        let slots = slots
            .map(|(n, name)| Slot::new(name, nodes.iter().filter_map(|node| node.slots.get(n))))
            .collect::<Result<Vec<_>>>()?;
        let cluster = Self {
            nodes,
            slots,
            release: options.release,
            purpose: options.purpose,
            authorizer: options.authorizer,
            secured: options.secured.then(|| Secured::new(&dir)).transpose()?,
            dir,
        };
        cluster.format()?;
        for n in 0..cluster.nodes.len() {
            cluster.restart(n)?;
        }
        cluster.wait_ready()?;
        cluster.warm_up()?;
        Ok(cluster)
    }

    /// What clients are given: `host:port` of every node, separated by commas.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self
            .nodes
            .iter()
            .map(|node| ports::local(node.broker).to_string())
            .collect();
        addresses.join(",")
    }

    /// What the client of one slot is given: the addresses of its proxies. The slot must exist.
    pub fn bootstrap_of(&self, slot: &str) -> String {
        let links = self.slot(slot).links.iter();
        let addresses: Vec<String> = links.map(|link| link.address().to_string()).collect();
        addresses.join(",")
    }

    /// The link between a slot and a node; both must exist.
    pub fn link(&self, slot: &str, node: usize) -> &Proxy {
        &self.slot(slot).links[node]
    }

    /// Sets a trap on all links of a slot, which must exist.
    pub fn trap(&self, slot: &str, trap: Trap) -> Sprung {
        self.slot(slot).traps.set(trap)
    }

    fn slot(&self, name: &str) -> &Slot {
        let found = self.slots.iter().find(|slot| slot.name == name);
        found.unwrap_or_else(|| panic!("the cluster was started without a slot {name}"))
    }

    /// Sets what everybody is denied at a topic. The nodes must have an authorizer.
    pub fn deny(&self, topic: &str, denied: Denied) -> Result<()> {
        let output = Command::new(jvm::java())
            .args(jvm::jvm(self.release, Purpose::Tests, &self.dir))
            .arg(root().join("tests/kafka/Acl.java"))
            .args([&self.bootstrap(), topic])
            .arg(denied.name())
            .output()?;
        if !output.status.success() {
            bail!("no rule: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// How many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A cluster has nodes.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// `kill -9` of a node, counted from 0.
    pub fn kill(&self, n: usize) -> Result<()> {
        match self.child(n).take() {
            Some(mut child) => child.kill(),
            None => Ok(()),
        }
    }

    /// Asks a node to stop, waits for it, and kills it if it hangs.
    pub fn stop(&self, n: usize) -> Result<()> {
        if let Some(mut child) = self.child(n).take() {
            child.signal(Signal::Term)?;
            if child.wait(STOP).is_err() {
                child.kill()?;
            }
        }
        Ok(())
    }

    /// Lets a node stand still (SIGSTOP): its connections stay open and nothing answers.
    pub fn pause(&self, n: usize) -> Result<()> {
        self.signal(n, Signal::Stop)
    }

    /// Lets a paused node go on.
    pub fn resume(&self, n: usize) -> Result<()> {
        self.signal(n, Signal::Continue)
    }

    /// Whether a node runs, be it paused or not.
    pub fn is_running(&self, n: usize) -> Result<bool> {
        match self.child(n).as_mut() {
            Some(child) => Ok(child.ended()?.is_none()),
            None => Ok(false),
        }
    }

    /// Waits until a node has ended by itself. After that it counts as stopped; before, its end is an
    /// error to [`Cluster::wait_ready`].
    pub fn wait_end(&self, n: usize, patience: Duration) -> Result<()> {
        if let Some(mut child) = self.child(n).take() {
            child.wait(patience)?;
        }
        Ok(())
    }

    /// Starts a node that was killed or stopped, or has ended by itself, on its ports and with its
    /// files. Does not wait.
    pub fn restart(&self, n: usize) -> Result<()> {
        let node = &self.nodes[n];
        if self.is_running(n)? {
            bail!("node {} is running", node.id);
        }
        let mut arguments = jvm::jvm(self.release, self.purpose, &node.dir);
        arguments.push("kafka.Kafka".into());
        arguments.push(node.config().display().to_string());
        let name = format!("Kafka node {}", node.id);
        let (java, log) = (jvm::java(), node.log());
        let clock = node.clock.lock();
        let child = match &*clock.unwrap_or_else(PoisonError::into_inner) {
            None => Child::start(&name, &java, &arguments, &log),
            Some(offset) => Child::start_off(&name, &java, &arguments, &log, offset),
        }?;
        *self.child(n) = Some(child);
        Ok(())
    }

    /// Gives a node another wall clock from its next start on, `None` for the right one. An offset is
    /// as in [`Options::clocks`].
    pub fn set_clock(&self, n: usize, offset: Option<&str>) {
        let clock = self.nodes[n].clock.lock();
        *clock.unwrap_or_else(PoisonError::into_inner) = offset.map(str::to_owned);
    }

    /// Waits until the metadata names every node that is running, and no other, and each answers.
    pub fn wait_ready(&self) -> Result<()> {
        let client = self.observer()?;
        wait_for("the nodes of Kafka", BACK.max(PATIENCE), || {
            let mut running = Vec::new();
            for (n, node) in self.nodes.iter().enumerate() {
                if let Some(child) = self.child(n).as_mut() {
                    child.must_run()?;
                    running.push(i32::try_from(node.id)?);
                }
            }
            let Ok(metadata) = client.fetch_metadata(None, Duration::from_millis(500)) else {
                return Ok(None);
            };
            let mut known: Vec<i32> = metadata
                .brokers()
                .iter()
                .map(rdkafka::metadata::MetadataBroker::id)
                .collect();
            known.sort_unstable();
            Ok((known == running).then_some(()))
        })
    }

    /// Has the nodes make and load the topics of their coordinators, which they do at the first
    /// question and answer with "load in progress" meanwhile: a node in use has long done so.
    fn warm_up(&self) -> Result<()> {
        let bootstrap = self.bootstrap();
        // Enough names that each of the coordinators' few partitions is asked.
        for n in 0..8 {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", &bootstrap)
                .set("transactional.id", format!("warm-{n}"))
                .set("retry.backoff.ms", "10")
                .set("log_level", "0")
                .create()?;
            producer.init_transactions(PATIENCE)?;
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", &bootstrap)
                .set("group.id", format!("warm-{n}"))
                .set("log_level", "0")
                .create()?;
            let mut list = TopicPartitionList::new();
            list.add_partition("warm", 0);
            // While the coordinator moves in, it says that it is none.
            wait_for("the group coordinators", PATIENCE, || {
                Ok(consumer.committed_offsets(list.clone(), PATIENCE).ok())
            })?;
        }
        Ok(())
    }

    /// What the nodes have written, a file each.
    pub fn logs(&self) -> Vec<PathBuf> {
        self.nodes.iter().map(Node::log).collect()
    }

    /// The process ids of the nodes that run.
    pub fn pids(&self) -> Vec<u32> {
        (0..self.nodes.len())
            .filter_map(|n| self.child(n).as_ref().map(Child::id))
            .collect()
    }

    fn signal(&self, n: usize, signal: Signal) -> Result<()> {
        match self.child(n).as_mut() {
            Some(child) => child.signal(signal),
            None => bail!("node {} is not running", self.nodes[n].id),
        }
    }

    fn child(&self, n: usize) -> MutexGuard<'_, Option<Child>> {
        self.nodes[n]
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes every node's settings and formats its folder, all at once: each is a JVM of its own.
    fn format(&self) -> Result<()> {
        let mut running = Vec::new();
        for node in &self.nodes {
            if let Some(mib) = node.disk {
                janitor::mount(&node.data(), mib)?;
            }
            let mut text = properties::properties(&self.nodes, &self.slots, node, self.authorizer);
            text.extend(self.secured.as_ref().map(Secured::properties));
            std::fs::write(node.config(), text)?;
            let child = Command::new(jvm::java())
                .args(jvm::jvm(self.release, Purpose::Tests, &node.dir))
                .args(["kafka.tools.StorageTool", "format", "--ignore-formatted"])
                .args(["-t", CLUSTER_ID, "-c"])
                .arg(node.config())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("cannot start java: apt-get install openjdk-17-jdk-headless")?;
            running.push(child);
        }
        for child in running {
            let output = child.wait_with_output()?;
            if !output.status.success() {
                bail!("cannot format: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in 0..self.nodes.len() {
            // Nobody needs its files any more, so it need not write them in order.
            let _ = self.kill(n);
        }
        // A disk that would not go is the janitor's, and so is all that is with it.
        let disks = self.nodes.iter().filter(|node| node.disk.is_some());
        if disks
            .map(|node| janitor::unmount(&node.data()))
            .all(|gone| gone.is_ok())
        {
            janitor::remove(&self.dir);
        }
    }
}
