//! One installation of Sluice: its settings, its secrets, a source for every provider.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sluice_schemas::providers::testing::{Unsigned, verifier};
use sluice_schemas::providers::{ALL, Provider};
use sluice_schemas::topic::{OTHER, TopicNames};

use crate::harness::client::Outgoing;
use crate::harness::process::{Service, unlisted};
use crate::harness::{janitor, ports};

/// Settings, secrets and folders for one run. Services are started from it.
#[derive(Debug)]
pub struct Site {
    /// The settings as they will be written; tests change them before they start a service.
    pub settings: Value,
    /// A source for every provider, in the order of the registry.
    pub sources: Vec<Source>,
    /// The program that services run under, such as a profiler, with its arguments; none: they run alone.
    pub under: Vec<String>,
    /// The folder of another build's services; none: those of this build.
    pub build: Option<PathBuf>,
    dir: PathBuf,
    prefix: String,
    ingest_port: u16,
    starts: AtomicU32,
    logs: Mutex<Vec<PathBuf>>,
}

/// One source of a [`Site`].
#[derive(Debug, Clone)]
pub struct Source {
    /// The name in the URL. Not the provider's, so that nothing can take one for the other.
    pub name: String,
    /// The provider's name.
    pub provider: &'static str,
    /// The file of the secret that it signs with; `None` where the source has none.
    pub secret_file: Option<String>,
    /// The content of that file.
    pub secret: Vec<u8>,
    /// The token that the URL must carry.
    pub token: Option<String>,
    /// The types that have topics of their own in addition to the provider's catalogue.
    pub events: Vec<String>,
}

impl Site {
    /// A site on these brokers. Topics get the prefix and are made at start.
    pub fn new(prefix: &str, bootstrap: &str) -> Result<Self> {
        let dir = janitor::folder("site")?;
        let secrets = dir.join("secrets");
        std::fs::create_dir(&secrets)?;
        let mut sources = Vec::new();
        let mut settings = serde_json::Map::new();
        for provider in ALL {
            let spec = provider.spec();
            let name = format!("my-{}", spec.name);
            let test = provider.sender().source(&name);
            for (file, content) in &test.files {
                std::fs::write(secrets.join(file), content)?;
            }
            let first = test.files.into_iter().next();
            let (secret_file, secret) = first.map_or((None, Vec::new()), |(f, c)| (Some(f), c));
            let events = test.settings["events"].as_array().into_iter().flatten();
            let events = events
                .filter_map(|event| Some(event.as_str()?.to_owned()))
                .collect();
            settings.insert(name.clone(), test.settings);
            sources.push(Source {
                name,
                provider: spec.name,
                secret_file,
                secret,
                token: test.token,
                events,
            });
        }
        let ingest_port = ports::free()?;
        let settings = json!({
            "kafka": {"bootstrap_servers": bootstrap},
            "topics": {
                "prefix": prefix, "create": true,
                "partitions": 3, "event_partitions": 1, "replication": 1,
            },
            "secrets_dir": secrets,
            "sources": settings,
            "ingest": {
                "listen": ports::local(ingest_port),
                "admin_listen": ports::local(ports::free()?),
            },
            "processor": {"admin_listen": ports::local(ports::free()?), "member": "p0"},
            "telemetry": {"log_format": "json"},
        });
        Ok(Self {
            settings,
            sources,
            under: Vec::new(),
            build: None,
            dir,
            prefix: prefix.to_owned(),
            ingest_port,
            starts: AtomicU32::new(0),
            logs: Mutex::default(),
        })
    }

    /// Sets a value of the settings by its path, such as `["processor", "workers"]`; what lies on the
    /// way is made.
    pub fn set(&mut self, path: &[&str], value: Value) {
        let mut place = &mut self.settings;
        for key in path {
            place = &mut place[*key];
        }
        *place = value;
    }

    /// The settings of a second ingest: the same with ports of their own.
    pub fn settings_of_a_second(&self) -> Result<Value> {
        let mut settings = self.settings.clone();
        settings["ingest"]["listen"] = json!(ports::local(ports::free()?));
        settings["ingest"]["admin_listen"] = json!(ports::local(ports::free()?));
        Ok(settings)
    }

    /// Puts ingest at ports that a person expects, where they are free.
    pub fn listen_at(&mut self, port: u16, admin: u16) -> Result<()> {
        self.ingest_port = ports::preferred(port)?;
        self.settings["ingest"]["listen"] = json!(self.listen());
        self.settings["ingest"]["admin_listen"] = json!(ports::local(ports::preferred(admin)?));
        Ok(())
    }

    /// The names of the topics.
    pub fn names(&self) -> TopicNames {
        TopicNames {
            prefix: self.prefix.clone(),
        }
    }

    /// The bootstrap address that the clients of this site are given.
    pub fn bootstrap(&self) -> &str {
        self.settings["kafka"]["bootstrap_servers"]
            .as_str()
            .unwrap_or_default()
    }

    /// The consumer group, with the prefix.
    pub fn group(&self) -> String {
        let group = self.settings["processor"]["group"].as_str();
        format!("{}{}", self.prefix, group.unwrap_or("sluice-processor"))
    }

    /// Where webhooks go in.
    pub fn listen(&self) -> std::net::SocketAddr {
        ports::local(self.ingest_port)
    }

    /// Where a secret file stands.
    pub fn secret_path(&self, file: &str) -> PathBuf {
        self.dir.join("secrets").join(file)
    }

    /// The folder of this site, for what a test writes in addition.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The source of a provider.
    pub fn source(&self, provider: &str) -> Result<&Source> {
        self.sources
            .iter()
            .find(|source| source.provider == provider)
            .with_context(|| format!("no source of {provider}"))
    }

    /// Starts ingest, without waiting.
    pub fn ingest(&self) -> Result<Service> {
        self.start("sluice-ingest", "ingest", &self.settings)
    }

    /// Starts a processor of this member's name, without waiting. Each start has an admin port of its own.
    pub fn processor(&self, member: &str) -> Result<Service> {
        self.processor_on(member, ports::free()?)
    }

    /// Starts a processor with this admin port, without waiting.
    pub fn processor_on(&self, member: &str, admin: u16) -> Result<Service> {
        let mut settings = self.settings.clone();
        settings["processor"]["member"] = json!(member);
        settings["processor"]["admin_listen"] = json!(ports::local(admin));
        self.start("sluice-processor", "processor", &settings)
    }

    /// Starts a binary under settings that may be anything. `part` is the part of the settings that
    /// has its admin port.
    pub fn start(&self, binary: &str, part: &str, settings: &Value) -> Result<Service> {
        let n = self.starts.fetch_add(1, Ordering::Relaxed);
        let file = self.dir.join(format!("settings-{n}.yaml"));
        // JSON is YAML.
        std::fs::write(&file, serde_json::to_vec_pretty(settings)?)?;
        let log = self.dir.join(format!("{binary}-{n}.log"));
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(log.clone());
        let admin = settings[part]["admin_listen"].as_str().unwrap_or_default();
        let admin = admin.parse().ok();
        let folder = self.build.as_deref();
        Service::start_as(&self.under, folder, binary, &file, &log, admin)
    }

    /// Fails on a line of any service's log at WARN or ERROR, or that is not of the log's form,
    /// unless it contains one of these texts.
    pub fn check_logs(&self, allowed: &[&str]) -> Result<()> {
        let mut found = Vec::new();
        for log in self
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            found.extend(unlisted(&std::fs::read_to_string(log)?, allowed));
        }
        if found.is_empty() {
            return Ok(());
        }
        bail!(
            "the logs have unlisted warnings or errors:\n{}",
            found.join("\n")
        );
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // A failing test's logs are what its reader wants; the janitor removes them at the end.
        if !std::thread::panicking() {
            janitor::remove(&self.dir);
        }
    }
}

impl Source {
    /// The provider.
    pub fn provider(&self) -> Result<&'static dyn Provider> {
        sluice_schemas::providers::by_name(self.provider).context("a provider of the registry")
    }

    /// The topic of an event type of this source.
    pub fn topic(&self, names: &TopicNames, event: &str) -> Result<String> {
        let verifier = verifier(self.provider()?);
        let known = verifier.topic_types().contains(&event)
            || self.events.iter().any(|known| known == event);
        Ok(names.event(self.provider, if known { event } else { OTHER }))
    }

    /// The events that samples are made of.
    pub fn samples(&self) -> Result<&'static [&'static str]> {
        Ok(self.provider()?.sender().events())
    }

    /// Path of this source's endpoint, with its token.
    pub fn path(&self) -> String {
        match &self.token {
            Some(token) => format!("/v1/hooks/{}/{token}", self.name),
            None => format!("/v1/hooks/{}", self.name),
        }
    }

    /// A request for any event type, before it is signed.
    pub fn unsigned(&self, event: &str, n: u64, at: i64) -> Result<Unsigned> {
        Ok(self.provider()?.sender().sample(event, n, at))
    }

    /// A request for an event, made and signed as the provider would at `at` (seconds since 1970).
    pub fn signed(&self, event: &str, n: u64, at: i64) -> Result<Outgoing> {
        let unsigned = self.provider()?.sender().sample(event, n, at);
        self.sign(&unsigned, at)
    }

    /// Signs a request as the provider would at `at` (seconds since 1970).
    pub fn sign(&self, request: &Unsigned, at: i64) -> Result<Outgoing> {
        self.sign_with(request, &self.secret, at)
    }

    /// Signs a request with any secret.
    pub fn sign_with(&self, request: &Unsigned, secret: &[u8], at: i64) -> Result<Outgoing> {
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        headers.extend(request.headers.iter().cloned());
        headers.extend(self.provider()?.sender().sign(request, secret, at));
        Ok(Outgoing {
            path: self.path(),
            headers,
            body: request.body.clone().into(),
        })
    }
}

/// Where ingest listens under these settings.
pub fn listen_of(settings: &Value) -> Result<std::net::SocketAddr> {
    let listen = settings["ingest"]["listen"].as_str();
    Ok(listen.unwrap_or_default().parse()?)
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
