//! A real one-node Kafka and both services, for trials by hand.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::ports;

use crate::trials::{hints, until_ctrl_c};

/// What the trial is asked for.
#[derive(clap::Args)]
pub struct Options {
    /// Worker threads of the processor.
    #[arg(long, default_value_t = 1)]
    workers: u32,
}

/// Runs until Ctrl-C.
pub fn run(options: &Options) -> Result<bool> {
    eprintln!("starting Kafka");
    let cluster = Cluster::start(1, Purpose::Tests)?;
    let mut site = Site::new("", &cluster.bootstrap())?;
    site.listen_at(8080, 9090)?;
    site.set(&["processor", "workers"], json!(options.workers));
    eprintln!("starting both services");
    let mut ingest = site.ingest()?;
    let mut processor = site.processor_on("dev", ports::preferred(9091)?)?;
    ingest.wait_ready()?;
    processor.wait_ready()?;
    let admin = hints::admin_ports(&[&ingest, &processor]);
    println!("Kafka:       {}", cluster.bootstrap());
    println!("Webhooks:    http://{}", site.listen());
    println!("Admin ports: {admin}");
    println!(
        "Files:       {} (settings, secrets, logs; gone at the end)\n",
        site.dir().display()
    );
    println!("{}", hints::curl(&site)?);
    println!("Ctrl-C ends it.");
    until_ctrl_c::until_interrupted(&mut [&mut ingest, &mut processor], || {
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    })?;
    eprintln!("stopping");
    ingest.stop()?;
    processor.stop()?;
    println!("{}", json!({"dev": "stopped"}));
    Ok(true)
}
