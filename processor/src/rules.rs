//! What is in force: the settings, and what is made of them. It changes between batches, never within
//! one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::topics::{EnsureError, ensure_these};
use sluice_service::reload::{Outlook, Refused, Watcher};
use sluice_service::secrets::Store;
use tokio::runtime::Handle;

use crate::pipeline::route::{Framing, Router};
use crate::registry::{self, RegistryError};

/// The schema id of each event topic; `None` without a registry.
pub type SchemaIds = Option<HashMap<String, u32>>;

/// One set of rules, whole.
pub struct InForce {
    /// The settings. Those parts that wait for a restart are as they were at the start.
    pub settings: Arc<Settings>,
    /// The sources' secrets.
    pub credentials: Arc<Store>,
    /// Where events go.
    pub router: Router,
}

/// The set that the next batch is judged under.
pub struct Current {
    now: ArcSwap<InForce>,
    /// What may be asked about the file that changes it; `None` where nothing does.
    outlook: Option<Outlook>,
}

impl Current {
    /// Begins with these.
    pub fn new(first: InForce, outlook: Option<Outlook>) -> Self {
        Self {
            now: ArcSwap::from_pointee(first),
            outlook,
        }
    }

    /// What is in force now, for a batch to hold on to.
    pub fn get(&self) -> Arc<InForce> {
        self.now.load_full()
    }

    /// Whether another set is in force or may soon be: ingest takes in what the file names, so who does
    /// not know a source looks there before judging its record. The file is asked first: what was
    /// found in it is in force before it counts as seen.
    pub fn is_newer_than(&self, held: &Arc<InForce>) -> bool {
        self.outlook.as_ref().is_some_and(Outlook::has_news) || !Arc::ptr_eq(held, &self.get())
    }
}

/// With a registry every event topic has an id, for they were asked for by the same list.
pub fn framed(ids: &SchemaIds) -> impl Fn(&str) -> Framing {
    move |topic| {
        let id = ids.as_ref().and_then(|ids| ids.get(topic));
        id.map_or(Framing::SingleObject, |id| Framing::Confluent(*id))
    }
}

/// Puts what the watcher finds in force, from the runtime that this is called in.
pub fn follow(watcher: Watcher, current: &Arc<Current>, mut ids: SchemaIds) {
    let runtime = Handle::current();
    // The outlook ends the watching, so its holder is not kept alive from there.
    let current = Arc::downgrade(current);
    watcher.spawn(move |settings| match current.upgrade() {
        Some(current) => current.put_in_force(settings, &mut ids, &runtime),
        None => Ok(()),
    });
}

impl Current {
    fn put_in_force(
        &self,
        settings: &Arc<Settings>,
        ids: &mut SchemaIds,
        runtime: &Handle,
    ) -> Result<(), Refused> {
        let before = self.get();
        let credentials = before.credentials.renewed(settings);
        let credentials = Arc::new(credentials.map_err(Refused::Faults)?);
        let known = before.settings.event_topics();
        let new: BTreeSet<String> = settings
            .event_topics()
            .difference(&known)
            .cloned()
            .collect();
        if !new.is_empty() {
            // Before anything is routed to them.
            runtime
                .block_on(ensure_these(settings, &new))
                .map_err(topics)?;
            if let Some(registry) = &settings.schema_registry {
                let asked = runtime.block_on(registry::ids(settings, registry));
                *ids = Some(asked.map_err(schemas)?);
            }
        }
        let router = Router::new(settings, framed(ids))
            .map_err(|error| fault("events", error.to_string()))?;
        self.now.store(Arc::new(InForce {
            settings: Arc::clone(settings),
            credentials,
            router,
        }));
        Ok(())
    }
}

fn fault(path: &str, message: String) -> Refused {
    let path = path.to_owned();
    Refused::Faults(vec![Fault { path, message }])
}

fn topics(error: EnsureError) -> Refused {
    match error {
        EnsureError::Unreachable(why) => Refused::Later(format!("Kafka does not answer: {why}")),
        EnsureError::Faults(lines) => {
            let fault = |message| Fault {
                path: "topics".to_owned(),
                message,
            };
            Refused::Faults(lines.into_iter().map(fault).collect())
        }
    }
}

fn schemas(error: RegistryError) -> Refused {
    match error {
        RegistryError::Away(_) => Refused::Later(error.to_string()),
        RegistryError::Mismatch(why) => fault("schema_registry", why),
    }
}
