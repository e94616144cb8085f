//! What runs: Kafka with an authorizer, a Collector, Prometheus, and both services.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::json;
use sluice_tests::harness::cluster::{Cluster, Options as Nodes, root};
use sluice_tests::harness::collector::Collector;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::prometheus::{Job, Prometheus, faster};
use sluice_tests::harness::wire::{Wire, write_certificate};

/// How often Prometheus scrapes and evaluates.
const INTERVAL: &str = "1s";

/// The alerts that are waited for, by the divisor of their times. One looks back a day, and one counts what
/// comes every two seconds.
const FASTER: [(u32, &[&str]); 3] = [
    (
        60,
        &[
            "SluiceSignatureFailuresRise",
            "SluiceSpoolFilling",
            "SluiceSpoolFull",
        ],
    ),
    (10, &["SluiceTransactionsAbort", "SluiceWorkerStuck"]),
    (720, &["SluiceSourceSilent"]),
];

/// What runs.
pub struct World {
    pub cluster: Cluster,
    pub site: Site,
    pub ingest: Service,
    pub processor: Service,
    pub prometheus: Prometheus,
    pub wire: Wire,
    _collector: Collector,
}

impl World {
    /// Starts all of it.
    pub fn start() -> Result<Self> {
        let cluster = Cluster::start_with(&Nodes {
            nodes: 1,
            authorizer: true,
            ..Nodes::default()
        })?;
        let collector = Collector::start()?;
        let mut site = Site::new("", &cluster.bootstrap())?;
        site.set(&["topics", "partitions"], json!(4));
        site.set(&["telemetry", "otlp_endpoint"], json!(collector.grpc()));
        site.set(&["telemetry", "trace_ratio"], json!(0.2));
        site.set(&["ingest", "ack_timeout"], json!("1s"));
        site.set(
            &["ingest", "spool"],
            json!({"dir": site.dir().join("spool"), "max_bytes": "48MiB"}),
        );
        let (certificate, key) = (site.dir().join("tls.crt"), site.dir().join("tls.key"));
        write_certificate(&certificate, &key)?;
        site.set(
            &["ingest", "tls"],
            json!({"cert_file": certificate, "key_file": key}),
        );
        let wire = Wire::tls(&certificate, "http/1.1")?;
        let mut ingest = site.ingest()?;
        let mut processor = site.processor("p0")?;
        ingest.wait_ready()?;
        processor.wait_ready()?;
        let target = |service: &Service| service.admin().context("an admin port");
        let jobs = [
            Job {
                name: "sluice-ingest",
                targets: vec![target(&ingest)?],
            },
            Job {
                name: "sluice-processor",
                targets: vec![target(&processor)?],
            },
            Job {
                name: "collector",
                targets: vec![collector.span_metrics()],
            },
        ];
        let mut rules = vec![std::fs::read_to_string(
            root().join("helm/alerts/slo.yaml"),
        )?];
        for (divisor, alerts) in FASTER {
            rules.push(faster(divisor, alerts)?);
        }
        let prometheus = Prometheus::start(0, INTERVAL, &jobs, &rules)?;
        Ok(Self {
            cluster,
            site,
            ingest,
            processor,
            prometheus,
            wire,
            _collector: collector,
        })
    }

    /// The names of the alerts that fire.
    pub fn firing(&self) -> Result<BTreeSet<String>> {
        let labels = self.prometheus.firing()?;
        let names = labels
            .iter()
            .filter_map(|labels| labels["alertname"].as_str());
        Ok(names.map(str::to_owned).collect())
    }
}
