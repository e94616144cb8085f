//! Which records of a fate: by time, source, provider, reason, type and id.

use std::collections::BTreeSet;

use sluice_schemas::fate::Fate;
use sluice_schemas::raw::RawRequest;
use sluice_schemas::reason::Reason;
use sluice_schemas::settings::{Settings, Source};

use super::view::{Read, View};
use super::window::Window;
use crate::failure::Failure;
use crate::output;
use crate::providers::provider;

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
    /// Those of a fate within a window, which must have the reasons. Providers must be known.
    pub fn filter(&self, fate: Fate, window: Window) -> Result<Filter, Failure> {
        for name in &self.provider {
            provider(name)?;
        }
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

    /// Says which names are in no settings. Records may have them all the same: those of a source that the
    /// settings have no more, and those of a type that no page of its provider names.
    pub fn warn(&self, settings: &Settings) {
        for line in self.unknown(settings) {
            eprintln!("warning: {line}");
        }
    }

    fn unknown(&self, settings: &Settings) -> Vec<String> {
        let sources: BTreeSet<&str> = settings.sources.keys().map(String::as_str).collect();
        let all = settings.sources.values();
        let types: BTreeSet<&str> = all.flat_map(Source::topic_types).collect();
        let unknown = |wanted: &[String], known: &BTreeSet<&str>, what: &str| {
            let unknown = wanted.iter().filter(|one| !known.contains(one.as_str()));
            let names: Vec<&str> = known.iter().copied().collect();
            let line = |one: &String| {
                let (one, names) = (output::plain(one), names.join(", "));
                format!("the settings have no {what} {one}; they have {names}")
            };
            unknown.map(line).collect::<Vec<String>>()
        };
        [
            unknown(&self.sources, &sources, "source"),
            unknown(&self.types, &types, "source with the type"),
        ]
        .concat()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_settings_have_are_named_with_those_that_they_have() {
        let settings = crate::redrive::testing::settings();
        let mut filter = Filter::all(Window {
            since: 0,
            until: None,
        });
        assert!(filter.unknown(&settings).is_empty());
        filter.sources = vec!["nowhere".to_owned()];
        filter.types = vec!["scan.creatd".to_owned()];
        let lines = filter.unknown(&settings);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("the settings have no source nowhere; they have "));
        assert!(
            lines[1].starts_with("the settings have no source with the type scan.creatd; they")
        );
    }
}
