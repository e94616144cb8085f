//! The axes, and the point of each: an installation that differs from the ordinary one in one number.

use anyhow::Result;
use serde_json::json;
use sluice_schemas::providers::ALL;
use sluice_tests::harness::deployment::{Site, Source};

/// An installation and its traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scene {
    /// Serving threads of ingest, and workers of the processor.
    pub threads: u32,
    /// Partitions of raw and of each event topic.
    pub partitions: u32,
    /// KiB of a body.
    pub body: u32,
    /// Event topics that the events of one source go to; 0: those of all providers' types.
    pub topics: u32,
    /// Millions of keys that the dedup indexes hold.
    pub keys: u32,
    /// Sources, of all providers in turn.
    pub sources: u32,
}

/// What the other points differ from.
pub const ORDINARY: Scene = Scene {
    threads: 1,
    partitions: 3,
    body: 1,
    topics: 0,
    keys: 0,
    sources: 4,
};

/// One number that grows.
pub struct Axis {
    /// Its name on the command line and in file names.
    pub name: &'static str,
    /// What the plot says under the axis.
    pub label: &'static str,
    pub points: &'static [u32],
    /// Whether a request costs ingest more when it grows, as far as one may think.
    pub ingest: bool,
    /// The greatest point that is measured of the processor.
    pub processor_until: u32,
    pub at: fn(u32) -> Scene,
}

/// Whose cost grows with it by nature.
pub const BODY: &str = "body";

/// The number that ingest may not know yet.
pub const THREADS: &str = "threads";

pub const AXES: [Axis; 6] = [
    Axis {
        name: THREADS,
        label: "threads of ingest, workers of the processor",
        points: &[1, 2, 4],
        ingest: true,
        processor_until: 2,
        at: |threads| Scene {
            threads,
            ..ORDINARY
        },
    },
    Axis {
        name: "partitions",
        label: "partitions of raw and of each event topic",
        points: &[3, 6, 12, 24, 48],
        ingest: true,
        processor_until: u32::MAX,
        at: |partitions| Scene {
            partitions,
            ..ORDINARY
        },
    },
    Axis {
        name: BODY,
        label: "KiB of a body",
        points: &[1, 4, 16, 64, 256],
        ingest: true,
        processor_until: u32::MAX,
        at: |body| Scene { body, ..ORDINARY },
    },
    Axis {
        name: "topics",
        label: "event topics of one source",
        points: &[1, 10, 50, 200],
        ingest: false,
        processor_until: u32::MAX,
        at: |topics| Scene { topics, ..ORDINARY },
    },
    Axis {
        name: "keys",
        label: "millions of keys in the dedup indexes",
        points: &[1, 5, 10, 20],
        ingest: false,
        processor_until: u32::MAX,
        at: |keys| Scene { keys, ..ORDINARY },
    },
    Axis {
        name: "sources",
        label: "sources",
        points: &[4, 20, 100, 400],
        ingest: true,
        processor_until: u32::MAX,
        at: |sources| Scene {
            sources,
            ..ORDINARY
        },
    },
];

/// The provider whose event types are the operator's own.
const OWN_TYPES: &str = "flowcode";

impl Scene {
    /// A site under this scene.
    pub fn site(&self, prefix: &str, bootstrap: &str) -> Result<Site> {
        let mut site = Site::new(prefix, bootstrap)?;
        site.set(&["topics", "partitions"], json!(self.partitions));
        site.set(&["topics", "event_partitions"], json!(self.partitions));
        site.set(&["processor", "workers"], json!(self.threads));
        site.set(&["ingest", "threads"], json!(self.threads));
        for number in ALL.len()..usize::try_from(self.sources)? {
            add_source(&mut site, number)?;
        }
        if self.topics > 0 {
            let types: Vec<String> = (0..self.topics).map(own_type).collect();
            let name = site.source(OWN_TYPES)?.name.clone();
            site.set(&["sources", &name, "events"], json!(types));
        }
        Ok(site)
    }

    /// The n-th request's source and event type.
    pub fn nth<'a>(&self, site: &'a Site, n: u64) -> Result<(&'a Source, String)> {
        let n = usize::try_from(n)?;
        if self.topics > 0 {
            let number = n % usize::try_from(self.topics)?;
            return Ok((site.source(OWN_TYPES)?, own_type(u32::try_from(number)?)));
        }
        let source = &site.sources[n % site.sources.len()];
        let events = source.samples()?;
        let event = events[n / site.sources.len() % events.len()];
        Ok((source, event.to_owned()))
    }
}

fn own_type(number: u32) -> String {
    format!("scan.kind_{number}")
}

/// One more source of a provider, with a secret of its own.
fn add_source(site: &mut Site, number: usize) -> Result<()> {
    let provider = ALL[number % ALL.len()];
    let spec = provider.spec();
    let name = format!("my-{}-{number}", spec.name);
    let test = provider.sender().source(&name);
    for (file, content) in &test.files {
        std::fs::write(site.secret_path(file), content)?;
    }
    site.set(&["sources", &name], test.settings);
    let first = test.files.into_iter().next();
    let (secret_file, secret) = first.map_or((None, Vec::new()), |(f, c)| (Some(f), c));
    site.sources.push(Source {
        name,
        provider: spec.name,
        secret_file,
        secret,
        token: test.token,
        events: Vec::new(),
    });
    Ok(())
}
