//! What became of each request, as the topics have it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use sluice_schemas::audit::fate_of;
use sluice_schemas::fate::{DETAIL, Fate, REASON};
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;
use sluice_schemas::topic::TopicNames;
use sluice_service::kafka::client::base_config;
use sluice_service::kafka::read::{Isolation, Reader};
use uuid::Uuid;

use super::request::Request;
use crate::failure::Failure;

/// The longest wait for one record.
const POLL: Duration = Duration::from_millis(100);

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its fate.
    pub fate: Fate,
    /// Why; empty for events.
    pub reason: String,
    /// One sentence; empty for events.
    pub detail: String,
    /// Full name of the topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// The topics that such requests may end on.
pub fn topics(settings: &Settings, request: &Request) -> Vec<String> {
    let names = &settings.topics.names;
    let event = request.topic.clone();
    vec![
        event,
        names.duplicates(),
        names.rejected(),
        names.dead_letter(),
    ]
}

/// The client's properties. It bears the name of the processor's group, which it never joins: the operator
/// may see that one.
pub fn base(settings: &Settings) -> Result<ClientConfig, Failure> {
    let mut config = base_config(settings).map_err(|faults| Failure::config(&faults))?;
    config.set("group.id", settings.group_id());
    Ok(config)
}

/// A reader of what comes to the topics from its making on.
pub struct Fates {
    reader: Reader,
    names: TopicNames,
}

impl Fates {
    /// Opens the topics at their ends.
    pub fn new(base: &ClientConfig, names: TopicNames, topics: &[String]) -> Result<Self, Failure> {
        let reader = Reader::from_ends(base, topics, Isolation::Committed)
            .map_err(|error| Failure::Failed(format!("the topics cannot be read: {error}")))?;
        Ok(Self { reader, names })
    }

    /// Looks for the fates of these requests until all are found or the patience ends.
    pub fn find(
        &self,
        mut open: BTreeSet<Uuid>,
        patience: Duration,
    ) -> Result<BTreeMap<Uuid, Found>, Failure> {
        let mut found = BTreeMap::new();
        let end = Instant::now() + patience;
        while !open.is_empty() && Instant::now() < end {
            let record = self
                .reader
                .next(POLL)
                .map_err(|error| Failure::Failed(format!("the topics cannot be read: {error}")))?;
            if let Some(record) = record
                && let Some((id, fate)) = self.fate(&record)
                && open.remove(&id)
            {
                found.insert(id, fate);
            }
        }
        Ok(found)
    }

    /// Which request a record is of; `None` where that cannot be read.
    fn fate(&self, record: &Record) -> Option<(Uuid, Found)> {
        let fate = fate_of(&self.names, &record.topic);
        let id = match fate {
            Fate::Event => record.event().ok()?.request_id.parse().ok()?,
            Fate::Duplicate | Fate::Rejected | Fate::DeadLetter => {
                RawRequest::decode(record.header(REQUEST)?).ok()?.id
            }
        };
        let text = |name| record.text(name).unwrap_or_default().to_owned();
        let found = Found {
            fate,
            reason: text(REASON),
            detail: text(DETAIL),
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
        };
        Some((id, found))
    }
}
