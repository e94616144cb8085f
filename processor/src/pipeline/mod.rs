//! The function to read first is [`judge`]: a raw record goes in, its one disposition comes out.
//!
//! Pure: the same record, settings, secrets and dedup index always give the same bytes. No I/O, no clock.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_schemas::providers::Keyring;
use sluice_schemas::raw::{REQUEST, RawError, RawRequest};
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::settings::{Settings, Source};

use crate::dedup::index::{BatchOverlay, DedupIndex};
use crate::pipeline::dedupe::{Repeats, dedupe};
use crate::pipeline::normalize::normalize;
use crate::pipeline::notes::{Notes, is_sampled};
use crate::pipeline::route::{Routed, Router, route};
use crate::pipeline::verify::{source, verify, within_redrive_limit};
use crate::record::Record;

pub mod verify;

pub mod dedupe;

pub mod normalize;

pub mod route;

pub mod outgoing;

pub mod notes;

/// What judging depends on, other than the record and the dedup index.
pub struct Rules<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// What the secret files hold now, by source.
    pub credentials: Arc<BTreeMap<String, Arc<Keyring>>>,
    /// Where events go.
    pub router: &'a Router,
}

impl Rules<'_> {
    /// The secrets of a source; none where it has none.
    fn credentials(&self, source: &Source) -> Arc<Keyring> {
        let found = self.credentials.get(&source.name);
        found.map(Arc::clone).unwrap_or_default()
    }
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
pub struct UnsupportedVersion {
    /// The version of the request header.
    pub version: u64,
}

/// What is known of a record before its provider is asked.
struct Origin<'a> {
    source: &'a Source,
    request: RawRequest,
}

/// Why a record does not go on to the next verb.
enum Stop {
    Duplicate(Repeats),
    Refused(Refusal),
}

impl From<Repeats> for Stop {
    fn from(of: Repeats) -> Self {
        Self::Duplicate(of)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Stop {
    fn at(self, source: &Source) -> Disposition<'_> {
        match self {
            Self::Duplicate(of) => Disposition::Duplicate { source, of },
            Self::Refused(refusal) => Disposition::Refused {
                source: Some(source),
                refusal,
            },
        }
    }
}

/// A record with this header is one that judging panics at: none is known, and there may be one.
#[cfg(test)]
pub const PANICS: &str = "test.panics";

/// Decides what becomes of a record. The `notes` are for metrics and spans.
pub fn judge<'a>(
    record: &'a Record,
    rules: &Rules<'a>,
    index: &DedupIndex,
    overlay: &BatchOverlay,
    notes: &mut Notes,
) -> Result<Disposition<'a>, UnsupportedVersion> {
    #[cfg(test)]
    assert!(record.header(PANICS).is_none(), "a record of the tests");
    let origin = match identify(record, rules.settings)? {
        Ok(origin) => origin,
        Err(refusal) => {
            return Ok(Disposition::Refused {
                source: None,
                refusal,
            });
        }
    };
    notes.request(&origin.request);
    let routed = judged(record, &origin, rules, (index, overlay), notes);
    Ok(routed.map_or_else(
        |stop| stop.at(origin.source),
        |routed| Disposition::Event(Box::new(routed)),
    ))
}

/// Verify, deduplicate, normalize, route.
fn judged<'a>(
    record: &'a Record,
    origin: &Origin<'a>,
    rules: &Rules<'a>,
    (index, overlay): (&DedupIndex, &BatchOverlay),
    notes: &mut Notes,
) -> Result<Routed<'a>, Stop> {
    within_redrive_limit(record)?;
    let credentials = rules.credentials(origin.source);
    let verified = verify(origin.source, &credentials, &origin.request, &record.value)?;
    if is_sampled(record) {
        notes.r#type = Some(verified.authentic.payload.fields().r#type);
        notes.key_id.clone_from(&verified.authentic.proof.key_id);
    }
    let fresh = dedupe(verified, record.appended_ms, index, overlay)?;
    let event = normalize(fresh, record)?;
    Ok(route(event, record, rules.router, notes)?)
}

/// Whose record it is. A record that was redriven too often is refused for that, in every source.
fn identify<'a>(
    record: &Record,
    settings: &'a Settings,
) -> Result<Result<Origin<'a>, Refusal>, UnsupportedVersion> {
    let request = match record.header(REQUEST).map(RawRequest::decode) {
        Some(Ok(request)) => Ok(request),
        Some(Err(RawError::Newer(version))) => return Err(UnsupportedVersion { version }),
        Some(Err(error @ RawError::Malformed(_))) => Err(error.to_string()),
        None => Err("the record has no request header".to_owned()),
    };
    let origin = request
        .map_err(|why| Reason::UnknownSource.because(why))
        .and_then(|request| {
            let source = source(settings, &request)?;
            Ok(Origin { source, request })
        });
    Ok(origin.map_err(|unknown| within_redrive_limit(record).err().unwrap_or(unknown)))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "secrets and settings are files")]
mod tests;
