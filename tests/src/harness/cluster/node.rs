//! A node and a slot: what a cluster knows of each.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Result;

use super::options::Options;
use crate::harness::child::Child;
use crate::harness::ports;
use crate::harness::proxy::{Proxy, Traps};

/// One node: its ports, its folder and its process.
#[derive(Debug)]
pub(super) struct Node {
    /// Counted from 1.
    pub(super) id: usize,
    pub(super) broker: u16,
    pub(super) controller: u16,
    /// The listener behind the proxy of each slot.
    pub(super) slots: Vec<u16>,
    /// The listeners that ask who is there.
    pub(super) secured: Vec<u16>,
    pub(super) dir: PathBuf,
    /// MiB of its disk, if it has one of its own.
    pub(super) disk: Option<u64>,
    pub(super) clock: Mutex<Option<String>>,
    pub(super) child: Mutex<Option<Child>>,
}

/// The way of one service process to the nodes.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) traps: Arc<Traps>,
    /// One for each node.
    pub(super) links: Vec<Proxy>,
}

impl Node {
    /// The node of this number, counted from 0.
    pub(super) fn new(n: usize, cluster: &Path, options: &Options) -> Result<Self> {
        let id = n + 1;
        let dir = cluster.join(format!("node-{id}"));
        std::fs::create_dir_all(&dir)?;
        Ok(Self {
            id,
            broker: ports::free()?,
            controller: ports::free()?,
            slots: options
                .slots
                .iter()
                .map(|_| ports::free())
                .collect::<Result<_>>()?,
            secured: (0..if options.secured { 2 } else { 0 })
                .map(|_| ports::free())
                .collect::<Result<_>>()?,
            dir,
            disk: options.disks.get(&n).copied(),
            clock: Mutex::new(options.clocks.get(&n).cloned()),
            child: Mutex::new(None),
        })
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
}

impl Slot {
    /// A slot whose proxies lead to these ports, one of each node.
    pub(super) fn new<'a>(name: &str, ports: impl Iterator<Item = &'a u16>) -> Result<Self> {
        let traps = Arc::new(Traps::default());
        let links = ports.map(|port| Proxy::start(ports::local(*port), &traps));
        Ok(Self {
            name: name.to_owned(),
            links: links.collect::<Result<_>>()?,
            traps,
        })
    }
}
