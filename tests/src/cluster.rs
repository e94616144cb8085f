//! Real Kafka: one or three combined KRaft nodes on this machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::child::{Child, Signal};
use crate::wait::{PATIENCE, wait_for};
use crate::{janitor, ports};

/// What the nodes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Up in a second: the first compiler alone, 256 MB of heap.
    Tests,
    /// As fast as it gets once warm: both compilers, 512 MB of heap.
    Bench,
}

/// Nodes that run for as long as this value lives.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    purpose: Purpose,
    dir: PathBuf,
}

#[derive(Debug)]
struct Node {
    id: usize,
    broker: u16,
    controller: u16,
    dir: PathBuf,
    child: Mutex<Option<Child>>,
}

/// A node asked to stop that has not stopped after this long is killed: of three that stop at once,
/// one may hang.
const STOP: Duration = Duration::from_secs(10);

/// A node that was killed is back in the metadata after 3 to 33 s on a busy machine.
const BACK: Duration = Duration::from_secs(90);

/// The same for all nodes of all clusters; they never meet.
const CLUSTER_ID: &str = "AAAAAAAAQACAAAAAAAAAAA";

impl Cluster {
    /// Starts `nodes` (1 or 3) and waits until each is in the metadata.
    pub fn start(nodes: usize, purpose: Purpose) -> Result<Self> {
        if nodes != 1 && nodes != 3 {
            bail!("a cluster has 1 or 3 nodes, not {nodes}");
        }
        if !libs().is_dir() {
            bail!("Apache Kafka is missing: make kafka");
        }
        let dir = janitor::folder("kafka")?;
        let nodes = (1..=nodes)
            .map(|id| {
                let node = Node {
                    id,
                    broker: ports::free()?,
                    controller: ports::free()?,
                    dir: dir.join(format!("node-{id}")),
                    child: Mutex::new(None),
                };
                std::fs::create_dir_all(&node.dir)?;
                Ok(node)
            })
            .collect::<Result<Vec<_>>>()?;
        let cluster = Self {
            nodes,
            purpose,
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

    /// What clients are told: `host:port` of every node, separated by commas.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self
            .nodes
            .iter()
            .map(|node| ports::local(node.broker).to_string())
            .collect();
        addresses.join(",")
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

    /// Starts a node that was killed or stopped, on its ports and with its files. Does not wait.
    pub fn restart(&self, n: usize) -> Result<()> {
        let node = &self.nodes[n];
        let mut slot = self.child(n);
        if slot.is_some() {
            bail!("node {} is running", node.id);
        }
        let mut arguments = jvm(self.purpose, &node.dir);
        arguments.push("kafka.Kafka".into());
        arguments.push(node.config().display().to_string());
        let name = format!("Kafka node {}", node.id);
        *slot = Some(Child::start(
            &name,
            &java(),
            &arguments,
            &node.dir.join("log"),
        )?);
        Ok(())
    }

    /// Waits until the metadata names every node that is running, and no other, and each answers.
    pub fn wait_ready(&self) -> Result<()> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            // Refused connections are the normal case here, not news.
            .set("log_level", "0")
            .set("reconnect.backoff.max.ms", "200")
            .set("topic.metadata.refresh.interval.ms", "500")
            .create()?;
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
            std::fs::write(node.config(), self.properties(node))?;
            let child = Command::new(java())
                .args(jvm(Purpose::Tests, &node.dir))
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

    fn properties(&self, node: &Node) -> String {
        let replicas = self.nodes.len();
        let in_sync = if replicas == 1 { 1 } else { 2 };
        let voters: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("{}@{}", node.id, ports::local(node.controller)))
            .collect();
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners=PLAINTEXT://{broker},CONTROLLER://{controller}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={data}\n\
             default.replication.factor={replicas}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={replicas}\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n",
            id = node.id,
            voters = voters.join(","),
            broker = ports::local(node.broker),
            controller = ports::local(node.controller),
            data = node.dir.join("data").display(),
        );
        for (name, value) in FIXED {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}={value}");
        }
        text
    }
}

/// What all nodes have. The times are those at which a quorum on a busy machine was still steady;
/// half of them was not.
const FIXED: [(&str, &str); 13] = [
    ("offsets.topic.num.partitions", "3"),
    ("transaction.state.log.num.partitions", "3"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("auto.create.topics.enable", "false"),
    ("unclean.leader.election.enable", "false"),
    // A killed worker's transaction ends soon after its time-out, not within the usual 10 s.
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "2000",
    ),
    ("broker.heartbeat.interval.ms", "500"),
    ("broker.session.timeout.ms", "6000"),
    ("controller.quorum.election.timeout.ms", "1000"),
    ("controller.quorum.fetch.timeout.ms", "2000"),
    ("log.cleaner.dedupe.buffer.size", "8388608"),
    ("num.partitions", "1"),
];

impl Node {
    fn config(&self) -> PathBuf {
        self.dir.join("server.properties")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in 0..self.nodes.len() {
            // Nobody needs its files any more, so it need not write them in order.
            let _ = self.kill(n);
        }
        janitor::remove(&self.dir);
    }
}

/// The checkout that this harness was built in.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where `make` puts what it fetches.
pub fn cache() -> PathBuf {
    root().join(".cache")
}

fn libs() -> PathBuf {
    cache().join("kafka-4.4.0/libs")
}

fn java() -> PathBuf {
    match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin/java"),
        None => "java".into(),
    }
}

fn jvm(purpose: Purpose, dir: &Path) -> Vec<String> {
    let mut arguments = match purpose {
        Purpose::Tests => vec!["-Xmx256m".to_owned(), "-XX:TieredStopAtLevel=1".to_owned()],
        Purpose::Bench => vec!["-Xmx512m".to_owned()],
    };
    arguments.extend([
        "-XX:+UseSerialGC".to_owned(),
        format!(
            "-XX:SharedArchiveFile={}",
            cache().join("kafka-4.4.0/kafka.jsa").display()
        ),
        // Without the archive, or with one of another Java, it starts slower, and starts.
        "-Xshare:auto".to_owned(),
        "-Xlog:disable".to_owned(),
        // What a killed JVM would leave behind elsewhere: unpacked libraries and its statistics.
        format!("-Djava.io.tmpdir={}", dir.display()),
        "-XX:-UsePerfData".to_owned(),
        format!(
            "-Dlog4j2.configurationFile={}",
            root().join("tests/kafka/log4j2.properties").display()
        ),
        "-cp".to_owned(),
        class_path(),
    ]);
    arguments
}

/// The jars sorted by name: the class archive is good for this very text alone (tests/kafka/archive.sh).
fn class_path() -> String {
    let mut jars: Vec<String> = std::fs::read_dir(libs())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .collect();
    jars.sort_unstable();
    jars.join(":")
}
