//! Which records of a fate: by time, source, provider, reason, type and id.

use sluice_schemas::fate::Fate;
use sluice_schemas::raw::RawRequest;
use sluice_schemas::reason::Reason;

use super::view::{Read, View};
use super::window::Window;
use crate::failure::Failure;
use crate::output;

/// What a record must be; an empty list stands for any.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Its time.
    pub window: Window,
    /// Sources by name.
    pub sources: Vec<String>,
    /// Providers by name.
    pub providers: Vec<String>,
    /// Reasons by name.
    pub reasons: Vec<String>,
    /// Types, which events alone have.
    pub types: Vec<String>,
    /// Fates by name.
    pub fates: Vec<String>,
    /// A request, event or delivery id.
    pub id: Option<String>,
}

/// The options that pick records of a fate.
#[derive(Debug, clap::Args)]
pub struct Of {
    /// Of these reasons alone; several with commas, or given again
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    reason: Vec<String>,
    /// Of these sources alone; several with commas, or given again
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    source: Vec<String>,
    /// Of these providers alone; several with commas, or given again
    #[arg(long, value_name = "PROVIDER", value_delimiter = ',')]
    provider: Vec<String>,
}

impl Of {
    /// Those of a fate within a window, which must have the reasons.
    pub fn filter(&self, fate: Fate, window: Window) -> Result<Filter, Failure> {
        Ok(Filter {
            reasons: reasons(fate, &self.reason)?,
            sources: self.source.clone(),
            providers: self.provider.clone(),
            ..Filter::all(window)
        })
    }
}

impl Filter {
    /// All within a window.
    pub fn all(window: Window) -> Self {
        Self {
            window,
            sources: Vec::new(),
            providers: Vec::new(),
            reasons: Vec::new(),
            types: Vec::new(),
            fates: Vec::new(),
            id: None,
        }
    }

    /// Whether a record is one of these.
    pub fn takes(&self, read: &Read) -> bool {
        let view = &read.view;
        let any = |wanted: &[String], has: Option<&str>| {
            wanted.is_empty() || has.is_some_and(|has| wanted.iter().any(|one| one == has))
        };
        self.window.has(view.millis)
            && any(&self.sources, view.source.as_deref())
            && any(&self.providers, view.provider.as_deref())
            && any(&self.reasons, view.reason.as_deref())
            && any(&self.types, view.r#type.as_deref())
            && any(&self.fates, view.fate)
            && self.id.as_ref().is_none_or(|id| has_id(read, id))
    }
}

/// Reasons from the command line, which must be those of a fate.
fn reasons(fate: Fate, wanted: &[String]) -> Result<Vec<String>, Failure> {
    let known = Reason::ALL.iter().filter(|reason| reason.fate() == fate);
    let known: Vec<&str> = known.map(|reason| reason.name()).collect();
    let unknown = |reason: &&String| !known.contains(&reason.as_str());
    match wanted.iter().find(unknown) {
        Some(reason) => Err(Failure::Usage(format!(
            "{} is no reason of these records; theirs are {}",
            output::plain(reason),
            known.join(", ")
        ))),
        None => Ok(wanted.to_vec()),
    }
}

/// Whether a record is of this request, event or delivery.
pub fn has_id(read: &Read, id: &str) -> bool {
    let View {
        request_id,
        event,
        delivery_id,
        ..
    } = &read.view;
    let ours = [request_id, event].into_iter().flatten();
    ours.into_iter().any(|one| one.eq_ignore_ascii_case(id))
        || delivery_id.as_deref() == Some(id)
        || read
            .request
            .as_ref()
            .is_some_and(|request| names(request, id))
}

/// Whether a header of the request has this value: providers that name a delivery do so in a header.
fn names(request: &RawRequest, id: &str) -> bool {
    let mut values = request.headers.0.iter().map(|(_, value)| value.as_slice());
    values.any(|value| value == id.as_bytes())
}
