//! A Prometheus that scrapes this machine's services, with rules of our own time scale.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::harness::child::{Child, tail};
use crate::harness::cluster::{cache, root};
use crate::harness::wait::wait_for;
use crate::harness::{client, janitor, ports};

/// It is ready in a second when nothing else runs.
const START: Duration = Duration::from_secs(60);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    _child: Child,
}

/// What is scraped under one name.
#[derive(Debug, Clone)]
pub struct Job {
    /// The name.
    pub name: &'static str,
    /// The addresses, at `/metrics`.
    pub targets: Vec<SocketAddr>,
}

impl Prometheus {
    /// Starts it on a port, a free one where that is 0, with rules in files of their own.
    pub fn start(port: u16, interval: &str, jobs: &[Job], rules: &[String]) -> Result<Self> {
        let home = cache().join("prometheus-2.42");
        let program = home.join("prometheus");
        if !program.is_file() {
            bail!("Prometheus is missing: make prometheus");
        }
        let dir = janitor::folder("prometheus")?;
        let port = if port == 0 { ports::free()? } else { port };
        for (n, text) in rules.iter().enumerate() {
            std::fs::write(dir.join(format!("rules-{n}.yaml")), text)?;
        }
        let mut config = format!(
            "global: {{scrape_interval: {interval}, evaluation_interval: {interval}}}\n\
             rule_files: ['{}/rules-*.yaml']\nscrape_configs:\n",
            dir.display()
        );
        for job in jobs {
            let targets: Vec<String> = job.targets.iter().map(|one| format!("'{one}'")).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(
                config,
                "  - {{job_name: {}, static_configs: [{{targets: [{}]}}]}}",
                job.name,
                targets.join(", ")
            );
        }
        let settings = dir.join("prometheus.yaml");
        std::fs::write(&settings, config)?;
        let arguments = [
            format!("--config.file={}", settings.display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            format!("--web.listen-address={}", ports::local(port)),
            format!("--web.local-assets={}/", home.join("web").display()),
            "--enable-feature=exemplar-storage".to_owned(),
            "--log.level=warn".to_owned(),
        ];
        let log = dir.join("log");
        let mut child = Child::start("Prometheus", &program, &arguments, &log)?;
        wait_for("Prometheus", START, || {
            child.must_run()?;
            let answer = client::get(ports::local(port), "/-/ready");
            let ready = answer.is_ok_and(|answer| answer.status == 200);
            Ok(ready.then_some(()))
        })
        .with_context(|| tail(&log))?;
        Ok(Self {
            port,
            _child: child,
        })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        ports::local(self.port)
    }

    /// The names of the alerts that fire now, each with its labels.
    pub fn firing(&self) -> Result<Vec<Value>> {
        let answer = client::get(self.address(), "/api/v1/alerts")?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let alerts = answer["data"]["alerts"].as_array().into_iter().flatten();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        Ok(firing.map(|alert| alert["labels"].clone()).collect())
    }
}

/// Alerts with all their times divided: those of these names, of `helm/alerts/causes.yaml`. Needs
/// `make dashboards`.
pub fn faster(divisor: u32, alerts: &[&str]) -> Result<String> {
    let output = python("faster.py")
        .arg(divisor.to_string())
        .arg(root().join("helm/alerts/causes.yaml"))
        .args(alerts)
        .output()
        .context("Python is missing: make dashboards")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A script of `tests/telemetry`.
pub fn python(script: &str) -> Command {
    let mut command = Command::new(cache().join("telemetry/bin/python"));
    command.arg(root().join("tests/telemetry").join(script));
    command
}
