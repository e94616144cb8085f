//! A schema registry not of our making: Apicurio, with the API that Confluent's clients speak.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::harness::child::{Child, tail};
use crate::harness::client::Hurry;
use crate::harness::cluster::{cache, root};
use crate::harness::wait::wait_for;
use crate::harness::{client, janitor, ports};

/// A running registry, with its schemas in memory.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    _child: Child,
}

/// The API that Confluent's clients speak.
const API: &str = "/apis/ccompat/v7";

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
        let mut child = Child::start(
            "the schema registry",
            Path::new(java.trim()),
            &arguments,
            &log,
        )?;
        wait_for("the schema registry", START, || {
            child.must_run()?;
            let answer = client::get(ports::local(port), &format!("{API}/subjects"));
            Ok(answer
                .is_ok_and(|answer| answer.status == 200)
                .then_some(()))
        })
        .with_context(|| tail(&log))?;
        // As production has it; the default differs between registries and their versions.
        let rule = br#"{"compatibility":"FULL_TRANSITIVE"}"#;
        let head = format!(
            "PUT {API}/config HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            rule.len()
        );
        let address = ports::local(port);
        let answer = client::raw(address, &[head.as_bytes(), rule], Hurry::UntilClosed)?;
        let answer = client::parse(&answer)?;
        if answer.status != 200 {
            bail!("the compatibility rule was answered with {}", answer.status);
        }
        Ok(Self {
            port,
            _child: child,
        })
    }

    /// The base of the API, as `schema_registry.url` takes it.
    pub fn url(&self) -> String {
        format!("http://{}{API}", ports::local(self.port))
    }

    /// What the registry answers to a GET below the base, as JSON.
    pub fn get(&self, path: &str) -> Result<serde_json::Value> {
        let answer = client::get(ports::local(self.port), &format!("{API}{path}"))?;
        if answer.status != 200 {
            bail!("{path} answered {}", answer.status);
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }
}
