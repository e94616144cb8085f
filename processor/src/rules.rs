//! The rules that a batch is judged under: the settings, and what is made of them. They change between
//! batches, never within one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::topics::{EnsureError, ensure_these};
use sluice_service::reload::{ApplyError, SettingsProbe, Watcher};
use sluice_service::secrets::Store;
use tokio::runtime::Handle;

use crate::metrics::Metrics;
use crate::pipeline::route::{Framing, Router};
use crate::registry::{self, RegistryError};

/// The schema id of each event topic; `None` without a registry.
pub type SchemaIds = Option<HashMap<String, u32>>;

/// One whole set of rules.
pub struct ActiveRules {
    /// The settings. Those that wait for a restart are as they were at the start.
    pub settings: Arc<Settings>,
    /// The sources' secrets.
    pub credentials: Arc<Store>,
    /// Where events go.
    pub router: Router,
}

/// The rules of the next batch.
pub struct RulesHandle {
    active: ArcSwap<ActiveRules>,
    /// Whether a change of the settings file is pending.
    has_pending_change: Box<dyn Fn() -> bool + Send + Sync>,
}

impl RulesHandle {
    /// Begins with these; without a probe nothing changes them.
    pub fn new(first: ActiveRules, probe: Option<SettingsProbe>) -> Self {
        Self::probing(Arc::new(first), move || {
            probe
                .as_ref()
                .is_some_and(SettingsProbe::has_pending_change)
        })
    }

    /// Begins with these, and asks so whether a change is pending.
    pub fn probing(
        first: Arc<ActiveRules>,
        has_pending_change: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            active: ArcSwap::new(first),
            has_pending_change: Box::new(has_pending_change),
        }
    }

    /// The rules now, for a batch to keep.
    pub fn get(&self) -> Arc<ActiveRules> {
        self.active.load_full()
    }

    /// Goes over to other rules.
    #[cfg(test)]
    pub fn replace(&self, rules: Arc<ActiveRules>) {
        self.active.store(rules);
    }

    /// Whether other rules than `held` are active or may soon be. Asked before a record of an unknown source
    /// is judged, because ingest may have read the settings file earlier. The file is asked first: its
    /// settings are active before they stop being a pending change.
    pub fn is_newer_than(&self, held: &Arc<ActiveRules>) -> bool {
        (self.has_pending_change)() || !Arc::ptr_eq(held, &self.get())
    }
}

/// How the events of a topic are framed. With a registry every event topic has an id, because the ids were
/// requested for the same list of topics.
pub fn framed(ids: &SchemaIds) -> impl Fn(&str) -> Framing {
    move |topic| {
        let id = ids.as_ref().and_then(|ids| ids.get(topic));
        id.map_or(Framing::SingleObject, |id| Framing::Confluent(*id))
    }
}

/// Makes rules of changed settings. Must be called within a tokio runtime.
pub fn follow(watcher: Watcher, rules: &Arc<RulesHandle>, mut ids: SchemaIds, metrics: Metrics) {
    let runtime = Handle::current();
    // The watcher ends with the probe, so it must not keep the probe's owner alive.
    let rules = Arc::downgrade(rules);
    watcher.spawn(move |settings| match rules.upgrade() {
        Some(rules) => {
            rules.apply(settings, &mut ids, &runtime)?;
            metrics.sources(settings);
            Ok(())
        }
        None => Ok(()),
    });
}

impl RulesHandle {
    fn apply(
        &self,
        settings: &Arc<Settings>,
        ids: &mut SchemaIds,
        runtime: &Handle,
    ) -> Result<(), ApplyError> {
        let before = self.get();
        let credentials = before.credentials.renewed(settings);
        let credentials = Arc::new(credentials.map_err(ApplyError::Faults)?);
        let known = before.settings.event_topics();
        let new: BTreeSet<String> = settings
            .event_topics()
            .difference(&known)
            .cloned()
            .collect();
        if !new.is_empty() {
            // The topics must exist before an event is routed to them.
            runtime
                .block_on(ensure_these(settings, &new))
                .map_err(topics)?;
            if let Some(registry) = &settings.schema_registry {
                let found = runtime.block_on(registry::ids(settings, registry));
                *ids = Some(found.map_err(schemas)?);
            }
        }
        let router = Router::new(settings, framed(ids))
            .map_err(|error| fault("events", error.to_string()))?;
        self.active.store(Arc::new(ActiveRules {
            settings: Arc::clone(settings),
            credentials,
            router,
        }));
        Ok(())
    }
}

fn fault(path: &str, message: String) -> ApplyError {
    let path = path.to_owned();
    ApplyError::Faults(vec![Fault { path, message }])
}

fn topics(error: EnsureError) -> ApplyError {
    match error {
        EnsureError::Unreachable(error) => {
            ApplyError::Unavailable(format!("Kafka does not answer: {error}"))
        }
        EnsureError::Faults(lines) => {
            let fault = |message| Fault {
                path: "topics".to_owned(),
                message,
            };
            ApplyError::Faults(lines.into_iter().map(fault).collect())
        }
    }
}

fn schemas(error: RegistryError) -> ApplyError {
    match error {
        RegistryError::Away(_) => ApplyError::Unavailable(error.to_string()),
        RegistryError::Mismatch(message) => fault("schema_registry", message),
    }
}
