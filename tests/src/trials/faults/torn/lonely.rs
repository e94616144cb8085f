//! Event partitions that one node alone has: when it is gone, nobody leads them.

use std::path::Path;

use anyhow::{Context, Result};
use sluice_schemas::settings::Settings;
use sluice_service::kafka::topics::wanted;
use sluice_tests::harness::cluster::Cluster;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::offsets::create_topic_on;

/// Makes the event topics before the services do, as those would, but for the replicas: each partition has
/// one, on a node that coordinates no transaction of [`VICTIM`], so that commits go on without it. All of
/// them, for a transaction under a steady load has a few events, and one of them must be there.
pub fn make(cluster: &Cluster, site: &Site) -> Result<()> {
    let lonely = node(cluster, &site.group())?;
    // Nodes are counted from 1 there.
    let alone = [i32::try_from(lonely + 1)?];
    let file = site.dir().join("topics.yaml");
    std::fs::write(&file, serde_json::to_vec(&site.settings)?)?;
    let settings = load(&file)?;
    let topics = settings.event_topics();
    for spec in wanted(&settings) {
        if !topics.contains(&spec.name) {
            continue;
        }
        let replicas = vec![alone.as_slice(); usize::try_from(spec.partitions)?];
        let configs = spec.configs.iter().map(|(key, value, _)| match *key {
            // One replica could not be two in sync.
            "min.insync.replicas" => (*key, "1"),
            _ => (*key, value.as_str()),
        });
        let configs: Vec<(&str, &str)> = configs.collect();
        create_topic_on(site.bootstrap(), &spec.name, &replicas, &configs)?;
    }
    Ok(())
}

/// One of the event topics.
pub fn topic(site: &Site) -> Result<String> {
    let source = site.sources.first().context("a site has sources")?;
    let event = source.samples()?.first().context("a provider has events")?;
    source.topic(&site.names(), event)
}

/// The processor whose transactions are to be committed.
pub const VICTIM: &str = "processor-0";

/// A node, counted from 0, that coordinates no transaction of [`VICTIM`]'s two workers.
fn node(cluster: &Cluster, group: &str) -> Result<usize> {
    let busy = [0, 1].map(|worker| {
        let id = format!("{group}.{VICTIM}.{worker}");
        cluster.transaction_coordinator(&id)
    });
    let busy = busy.into_iter().collect::<Result<Vec<_>>>()?;
    let mut nodes = 0..cluster.len();
    nodes
        .find(|node| !busy.contains(node))
        .context("two workers have two coordinators at most")
}

fn load(file: &Path) -> Result<Settings> {
    sluice_service::settings::load(file)
        .map_err(|faults| anyhow::anyhow!("the site's settings: {faults:?}"))
}
