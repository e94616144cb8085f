//! A schema registry not of our making: Apicurio, with the API that Confluent's clients speak.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::child::{Child, tail};
use crate::cluster::{cache, root};
use crate::wait::wait_for;
use crate::{janitor, ports, send};

/// A running registry, with its schemas in memory.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    _child: Child,
}

/// It needs some 7 s when nothing else runs.
const START: Duration = Duration::from_secs(120);

impl Registry {
    /// Starts it and waits until it answers.
    pub fn start() -> Result<Self> {
        let home = cache().join("apicurio-3.3.3");
        if !home.join(".done").is_file() {
            bail!("the schema registry is missing: make registry");
        }
        let found = Command::new(root().join("tests/registry/java.sh")).output()?;
        if !found.status.success() {
            bail!("{}", String::from_utf8_lossy(&found.stderr));
        }
        let java = String::from_utf8(found.stdout)?;
        let (port, management) = (ports::free()?, ports::free()?);
        let dir = janitor::folder("registry")?;
        let arguments = [
            "-Xmx256m".to_owned(),
            "-XX:-UsePerfData".to_owned(),
            format!("-Djava.io.tmpdir={}", dir.display()),
            "-Dquarkus.http.host=127.0.0.1".to_owned(),
            format!("-Dquarkus.http.port={port}"),
            "-Dquarkus.management.host=127.0.0.1".to_owned(),
            format!("-Dquarkus.management.port={management}"),
            "-jar".to_owned(),
            home.join("quarkus-run.jar").display().to_string(),
        ];
        let log = dir.join("log");
        let mut child = Child::start("the schema registry", Path::new(java.trim()), &arguments, &log)?;
        wait_for("the schema registry", START, || {
            child.must_run()?;
            let answer = send::get(ports::local(port), "/apis/ccompat/v7/subjects");
            Ok(answer.is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .with_context(|| tail(&log))?;
        Ok(Self {
            port,
            _child: child,
        })
    }

    /// The base of the API, as `schema_registry.url` takes it.
    pub fn url(&self) -> String {
        format!("http://{}/apis/ccompat/v7", ports::local(self.port))
    }

    /// What the registry answers to a GET below the base, as JSON.
    pub fn get(&self, path: &str) -> Result<serde_json::Value> {
        let answer = send::get(ports::local(self.port), &format!("/apis/ccompat/v7{path}"))?;
        if answer.status != 200 {
            bail!("{path} answered {}", answer.status);
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }
}
