//! The function to read first: a raw record goes in, its one disposition comes out.
//!
//! Pure: the same record, settings, secrets and memory always give the same bytes. No I/O, no clock.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_schemas::providers::Credentials;
use sluice_schemas::raw::{REQUEST, RawError, RawRequest};
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::settings::{Settings, Source};

use crate::dedup::index::{Memory, Pending};
use crate::pipeline::dedupe::{Repeats, dedupe};
use crate::pipeline::normalize::normalize;
use crate::pipeline::route::{Routed, Router, route};
use crate::pipeline::verify::{redriven, source, verify};
use crate::record::Record;

pub mod verify;

pub mod dedupe;

pub mod normalize;

pub mod route;

pub mod outgoing;

/// What judging depends on, besides the record and the memory.
pub struct Rules<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// What the secret files hold now, by source.
    pub credentials: Arc<BTreeMap<String, Arc<Credentials>>>,
    /// Where events go.
    pub router: &'a Router,
}

/// What becomes of a raw record: exactly one of these.
#[must_use]
pub enum Disposition<'a> {
    /// It is an event.
    Event(Box<Routed<'a>>),
    /// It repeats one.
    Duplicate {
        /// The source it is of.
        source: &'a Source,
        /// The event it repeats.
        of: Repeats,
    },
    /// It is rejected or a dead letter, as the reason says.
    Refused {
        /// The source it is of; `None` where that is not known.
        source: Option<&'a Source>,
        /// Why.
        refusal: Refusal,
    },
}

impl Disposition<'_> {
    /// Whether settings that know more sources might have it otherwise.
    pub fn is_of_unknown_source(&self) -> bool {
        matches!(self, Self::Refused { refusal, .. } if refusal.reason == Reason::UnknownSource)
    }
}

/// The record may not be judged by this build: its partition stops here, before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a newer release wrote this record (request header of version {version})")]
pub struct Halt {
    /// The version of the request header.
    pub version: u64,
}

/// Verify, deduplicate, normalize, route.
pub fn judge<'a>(
    record: &'a Record,
    rules: &Rules<'a>,
    memory: &Memory,
    pending: &Pending,
) -> Result<Disposition<'a>, Halt> {
    let request = match record.header(REQUEST).map(RawRequest::decode) {
        Some(Ok(request)) => Ok(request),
        Some(Err(RawError::Newer(version))) => return Err(Halt { version }),
        Some(Err(error @ RawError::Malformed(_))) => Err(error.to_string()),
        None => Err("the record has no request header".to_owned()),
    };
    let found = match &request {
        Ok(request) => source(rules.settings, request),
        Err(why) => Err(Reason::UnknownSource.because(why.clone())),
    };
    let refused = |refusal| {
        Ok(Disposition::Refused {
            source: found.as_ref().ok().copied(),
            refusal,
        })
    };
    if let Err(refusal) = redriven(record) {
        return refused(refusal);
    }
    let (source, request) = match (&found, &request) {
        (Ok(source), Ok(request)) => (*source, request),
        (Err(refusal), _) => return refused(refusal.clone()),
        (Ok(_), Err(why)) => return refused(Reason::UnknownSource.because(why.clone())),
    };
    let none = Credentials::default();
    let credentials = rules
        .credentials
        .get(&source.name)
        .map_or(&none, Arc::as_ref);

    let verified = match verify(source, credentials, request, &record.value) {
        Ok(verified) => verified,
        Err(refusal) => return refused(refusal),
    };
    let fresh = match dedupe(verified, record.appended_ms, memory, pending) {
        Ok(fresh) => fresh,
        Err(of) => return Ok(Disposition::Duplicate { source, of }),
    };
    let event = match normalize(fresh, record) {
        Ok(event) => event,
        Err(refusal) => return refused(refusal),
    };
    match route(event, record, rules.router) {
        Ok(routed) => Ok(Disposition::Event(Box::new(routed))),
        Err(refusal) => refused(refusal),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "secrets and settings are files")]
mod tests;
