//! `sluicectl referralloop`: the subscriptions of a source at ReferralLoop, as the settings want them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sluice_schemas::providers::{Provider, Subscribe, referralloop};
use sluice_schemas::settings::{Settings, Source};

use super::Calling;
use crate::failure::Failure;
use crate::records;

mod client;

mod ledger;

mod options;

mod plan;

mod store;

mod sync;

mod target;

pub use options::Options;

use client::Api;
use ledger::{Key, Ledger};
use options::{Command, Only};
use plan::{Action, Step, steps};
use sync::Doing;
use target::Target;

/// What the settings want.
#[derive(Default)]
struct Wanted {
    keys: BTreeSet<Key>,
    /// By source.
    targets: BTreeMap<String, Target>,
}

/// Carries the command out; whether the provider has what it must have.
pub async fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let settings = records::settings(file)?;
    match &options.command {
        Command::Sync {
            sources,
            dry_run,
            api_key_file,
            calling,
        } => {
            let is_chosen =
                |name: &str| sources.is_empty() || sources.iter().any(|one| one == name);
            let wanted = wanted(&settings, &is_chosen)?;
            let ledger = store::read(&settings)?;
            for name in sources {
                is_known(&settings, &ledger, name)?;
            }
            let steps = steps(&wanted.keys, &ledger, &|key| is_chosen(&key.source), false);
            if *dry_run {
                return Ok(dry(&ledger, &steps, calling));
            }
            let run = Run::new(&settings, calling, api_key_file.as_deref());
            run.all(&ledger, &wanted, &steps, false).await
        }
        Command::Subscribe { only, calling } => {
            let (source, _) = subscribed(&settings, &only.source)?;
            if !source.enabled {
                let name = &source.name;
                let line = format!("sources.{name}.enabled is false, so ingest answers 404");
                return Err(Failure::Usage(line));
            }
            let mut wanted = wanted(&settings, &|name| name == only.source)?;
            wanted.keys.retain(|key| only.has(key));
            if wanted.keys.is_empty() {
                let name = &only.source;
                return Err(Failure::Usage(format!(
                    "sources.{name}.options.subscribe names no such event or waitlist"
                )));
            }
            let ledger = store::read(&settings)?;
            let is_wanted = |key: &Key| wanted.keys.contains(key);
            let steps = steps(&wanted.keys, &ledger, &is_wanted, true);
            let run = Run::new(&settings, calling, None);
            run.all(&ledger, &wanted, &steps, false).await
        }
        Command::Unsubscribe {
            only,
            forget,
            api_key_file,
            calling,
        } => {
            let ledger = store::read(&settings)?;
            is_known(&settings, &ledger, &only.source)?;
            let steps = unwanted(&ledger, only);
            let run = Run::new(&settings, calling, api_key_file.as_deref());
            run.all(&ledger, &Wanted::default(), &steps, *forget).await
        }
    }
}

/// Every subscription that the topic knows of these, as one that is not wanted.
fn unwanted(ledger: &Ledger, only: &Only) -> Vec<Step> {
    let steps = steps(&BTreeSet::new(), ledger, &|key| only.has(key), false);
    if steps.is_empty() {
        eprintln!("the topic knows of none of these: nothing is to be done");
    }
    steps
}

/// Prints what would be done; whether that is nothing.
fn dry(ledger: &Ledger, steps: &[Step], calling: &Calling) -> bool {
    let lines = sync::dry(ledger, steps);
    for line in &lines {
        line.print(calling.json);
    }
    lines.iter().all(|line| line.holds)
}

/// How the provider is called.
struct Run<'a> {
    settings: &'a Settings,
    calling: &'a Calling,
    api_key_file: Option<&'a str>,
}

impl<'a> Run<'a> {
    fn new(settings: &'a Settings, calling: &'a Calling, api_key_file: Option<&'a str>) -> Self {
        Self {
            settings,
            calling,
            api_key_file,
        }
    }

    async fn all(
        &self,
        ledger: &Ledger,
        wanted: &Wanted,
        steps: &[Step],
        forget: bool,
    ) -> Result<bool, Failure> {
        let does = |step: &Step| step.action != Action::Nothing;
        if steps.iter().any(does) {
            eprintln!("calling ReferralLoop; one such command at a time");
        }
        let mut store = store::Store::new(self.settings)?;
        let mut doing = Doing {
            ledger,
            targets: &wanted.targets,
            api: &|source| self.api(source),
            keep: &mut store,
            forget,
            json: self.calling.json,
        };
        doing.all(steps).await
    }

    /// The API under the key of a source; where the settings have it no more, under that of the command line.
    fn api(&self, source: &str) -> Result<Option<Api>, Failure> {
        let own = subscribed(self.settings, source).ok();
        let own = own.map(|(_, subscribe)| subscribe.api_key_file.as_str());
        let file = own.or(self.api_key_file);
        file.map(|file| Api::new(self.settings, self.calling, file))
            .transpose()
    }
}

/// A source that the settings subscribe.
fn subscribed<'s>(
    settings: &'s Settings,
    name: &str,
) -> Result<(&'s Source, &'s Subscribe), Failure> {
    let ours = referralloop::ReferralLoop.spec().name;
    let source = settings.sources.get(name);
    let source = source.filter(|source| source.provider.spec().name == ours);
    let found = source.and_then(|source| Some((source, source.verifier.subscribe()?)));
    found.ok_or_else(|| {
        Failure::Usage(format!(
            "the settings have no source {name} of {ours} with options.subscribe"
        ))
    })
}

/// A source is one of the settings', or one that was.
fn is_known(settings: &Settings, ledger: &Ledger, name: &str) -> Result<(), Failure> {
    if ledger.entries.keys().any(|key| key.source == name) {
        return Ok(());
    }
    subscribed(settings, name).map(|_| ())
}

/// What the enabled sources of these want. A disabled one wants nothing, for ingest answers it 404.
fn wanted(settings: &Settings, is_chosen: &dyn Fn(&str) -> bool) -> Result<Wanted, Failure> {
    let mut wanted = Wanted::default();
    let chosen = settings.sources.keys().filter(|name| is_chosen(name));
    for name in chosen {
        let Ok((source, subscribe)) = subscribed(settings, name) else {
            continue;
        };
        if source.enabled {
            let target = Target::read(settings, source, subscribe)?;
            wanted.keys.extend(target.keys(name, subscribe));
            wanted.targets.insert(name.clone(), target);
        }
    }
    Ok(wanted)
}
