//! A real one-node Kafka and both services, for trials by hand.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sluice_tests::harness::cluster::{Cluster, Purpose, root};
use sluice_tests::harness::collector::Collector;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::ports;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::prometheus::{Job, Prometheus};

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
    // Built by `make collector`, which takes minutes: traces are shown where it is there.
    let collector = Collector::start().ok();
    if let Some(collector) = &collector {
        site.set(&["telemetry", "otlp_endpoint"], json!(collector.grpc()));
        site.set(&["telemetry", "trace_ratio"], json!(1.0));
    }
    eprintln!("starting both services");
    let mut ingest = site.ingest()?;
    let mut processor = site.processor_on("dev", ports::preferred(9091)?)?;
    ingest.wait_ready()?;
    processor.wait_ready()?;
    let prometheus = start_prometheus(&ingest, &processor, collector.as_ref())?;
    let admin = hints::admin_ports(&[&ingest, &processor]);
    println!("Kafka:       {}", cluster.bootstrap());
    println!("Webhooks:    http://{}", site.listen());
    println!("Admin ports: {admin}");
    println!(
        "Prometheus:  http://{0}/classic/graph, http://{0}/classic/alerts",
        prometheus.address()
    );
    match &collector {
        Some(collector) => println!(
            "Collector:   {} (every request is traced)",
            collector.grpc()
        ),
        None => println!("Collector:   none, so no traces: make collector"),
    }
    println!("Dashboards:  {}", dashboards());
    println!(
        "Files:       {} (settings, secrets, logs; gone at the end)\n",
        site.dir().display()
    );
    println!("{}", hints::sluicectl(&site)?);
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

/// Scrapes both services, and the metrics of spans where there is a Collector.
fn start_prometheus(
    ingest: &Service,
    processor: &Service,
    collector: Option<&Collector>,
) -> Result<Prometheus> {
    let job = |name, targets| Job { name, targets };
    let mut jobs = vec![
        job("sluice-ingest", ingest.admin().into_iter().collect()),
        job("sluice-processor", processor.admin().into_iter().collect()),
    ];
    jobs.extend(collector.map(|collector| job("spans", vec![collector.span_metrics()])));
    let mut rules = Vec::new();
    for file in ["slo.yaml", "causes.yaml"] {
        rules.push(std::fs::read_to_string(
            root().join("helm/alerts").join(file),
        )?);
    }
    Prometheus::start(ports::preferred(9095)?, "5s", &jobs, &rules)
}

/// How the dashboards are loaded.
fn dashboards() -> String {
    let files = root().join("helm/dashboards");
    let is_there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let guide = "docs/dashboards.md";
    if is_there("grafana") || is_there("grafana-server") {
        format!(
            "{}: import them in Grafana, as {guide} says",
            files.display()
        )
    } else {
        format!("{} (no Grafana here; {guide})", files.display())
    }
}
