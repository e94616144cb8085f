//! The processor's own judging, for the commands that ask what would become of a record: the same stages
//! under the settings and secrets of now. Nothing is written.

use sluice_processor::dedup::index::{BatchOverlay, DedupIndex};
use sluice_processor::pipeline::notes::Notes;
use sluice_processor::pipeline::route::{Framing, Router};
use sluice_processor::pipeline::{Disposition, Rules, UnsupportedVersion, judge};
use sluice_processor::record::Record as Judged;
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;
use sluice_service::secrets::Store;

use crate::failure::Failure;

/// Settings with their secrets, ready to judge.
pub struct Judging {
    settings: Settings,
    store: Store,
    router: Router,
}

impl Judging {
    /// Reads the secrets of every source. Events are framed as without a registry: values differ from the
    /// topics' in their first bytes alone.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let store = Store::load(&settings).map_err(|faults| Failure::config(&faults))?;
        let router = Router::new(&settings, |_| Framing::SingleObject)
            .map_err(|error| Failure::Failed(format!("the event's schema: {error}")))?;
        Ok(Self {
            settings,
            store,
            router,
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What records are judged under.
    pub fn rules(&self) -> Rules<'_> {
        Rules {
            settings: &self.settings,
            credentials: self.store.snapshot(),
            router: &self.router,
        }
    }
}

/// Judges one record as if it were the first of its identity.
pub fn alone<'a>(
    record: &'a Judged,
    rules: &Rules<'a>,
) -> Result<Disposition<'a>, UnsupportedVersion> {
    let (index, overlay) = (DedupIndex::new(0), BatchOverlay::default());
    judge(record, rules, &index, &overlay, &mut Notes::default())
}

/// A record of raw as the processor holds it.
pub fn judged(record: Record) -> Judged {
    let headers = record.headers.into_iter();
    Judged {
        partition: record.partition,
        offset: record.offset,
        appended_ms: record.timestamp,
        key: (!record.key.is_empty()).then_some(record.key),
        value: record.value,
        headers: headers.map(|(name, value)| (name, Some(value))).collect(),
    }
}
