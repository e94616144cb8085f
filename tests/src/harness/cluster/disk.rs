//! Disks that fill up, and where a partition's files are.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::Cluster;

/// What the ballast is written by: a page, so that none stays free.
const PAGE: usize = 4096;

impl Cluster {
    /// Fills the disk of a node with ballast, until not one page is free. The node ends soon after:
    /// it has no other folder for its logs. Needs a disk of [`super::Options::disks`].
    pub fn fill_disk(&self, n: usize) -> Result<()> {
        let path = self.ballast(n)?;
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        loop {
            match ballast.write_all(&[0; PAGE]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where a node has the segments of a partition.
    pub fn folder(&self, n: usize, topic: &str, partition: i32) -> PathBuf {
        self.nodes[n].data().join(format!("{topic}-{partition}"))
    }

    /// Removes the ballast, if there is any.
    pub fn free_disk(&self, n: usize) -> Result<()> {
        match std::fs::remove_file(self.ballast(n)?) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A file among the folders of a node's partitions, which it does not look at.
    fn ballast(&self, n: usize) -> Result<PathBuf> {
        let node = &self.nodes[n];
        if node.disk.is_none() {
            bail!("node {} has no disk of its own", node.id);
        }
        Ok(node.data().join("ballast"))
    }
}
