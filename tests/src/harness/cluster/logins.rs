//! What a client of a secured cluster needs to log in, and what changes who may.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::Cluster;
use super::jvm::{self, Purpose, root};
use super::options::Listener;
use super::secured::{Rules, Secured};
use crate::harness::ports;

impl Cluster {
    /// What clients of a secured listener are given.
    pub fn bootstrap_by(&self, listener: Listener) -> String {
        let place = match listener {
            Listener::Sasl => 0,
            Listener::MutualTls => 1,
        };
        let ports = self.nodes.iter().filter_map(|node| node.secured.get(place));
        let addresses: Vec<String> = ports.map(|port| ports::local(*port).to_string()).collect();
        addresses.join(",")
    }

    /// The authority that signed the nodes' certificate, PEM. The cluster must be a secured one.
    pub fn ca(&self) -> Result<PathBuf> {
        Ok(self.secured()?.ca())
    }

    /// A certificate and its key for this principal, PEM each.
    pub fn certificate_of(&self, principal: &str) -> Result<(String, String)> {
        self.secured()?.certificate_of(principal)
    }

    fn secured(&self) -> Result<&Secured> {
        self.secured.as_ref().context("the cluster is not secured")
    }

    /// What changes its rules and users.
    pub fn rules(&self) -> Result<Rules> {
        let mut command = Command::new(jvm::java());
        command
            .args(jvm::jvm(self.release, Purpose::Tests, &self.dir))
            .arg(root().join("tests/kafka/Rules.java"))
            .arg(self.bootstrap());
        Rules::start(command)
    }
}
