//! What is sent to show every fate: for each provider of the registry, each of its events, a
//! repetition, a forgery, a stale one and a broken one, with what must become of it.

use anyhow::Result;
use sluice_schemas::fate::Fate;
use sluice_schemas::reason::Reason;

use crate::harness::client::Outgoing;
use crate::harness::deployment::{Site, Source};

use super::{broken, forged};

/// A request and what must become of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// The provider's name.
    pub provider: &'static str,
    /// What it is, in words for a person.
    pub what: String,
    /// The request.
    pub outgoing: Outgoing,
    /// What must become of it.
    pub expected: Expected,
}

/// What must become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// An event on this topic.
    Event {
        /// Full name of the topic.
        topic: String,
    },
    /// Another fate.
    Ended(Fate, Reason),
    /// Ingest answers with this status, and nothing is written.
    Refused(u16),
}

/// Far beyond every replay window.
const STALE_SECONDS: i64 = 3_600;

/// All cases of all sources of a site, in an order in which each repetition follows its original.
/// `at` is now, in seconds since 1970; `first` numbers the entities, so that runs do not meet.
pub fn all(site: &Site, first: u64, at: i64) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for source in &site.sources {
        let mut n = first;
        for event in source.samples()? {
            let topic = source.topic(&site.names(), event)?;
            let signed = source.signed(event, n, at)?;
            let original = case(source, event, signed, Expected::Event { topic });
            let mut again = original.clone();
            again.what = format!("{event}, again");
            again.expected = Expected::Ended(Fate::Duplicate, Reason::Duplicate);
            cases.extend([original, again]);
            n += 1;
        }
        cases.extend(refused(source, n, at)?);
    }
    Ok(cases)
}

/// A forgery, a stale one where the provider's deliveries grow old, and a broken one.
fn refused(source: &Source, n: u64, at: i64) -> Result<Vec<Case>> {
    let Some(event) = source.samples()?.first().copied() else {
        return Ok(Vec::new());
    };
    let unsigned = source.provider()?.sender().sample(event, n, at);
    let mut cases = Vec::new();
    if let Some(forged) = forged(source, event, n, at)? {
        let expected = Expected::Ended(Fate::Rejected, Reason::SignatureMismatch);
        let what = "a forgery, signed with a guess";
        cases.push(case(source, what, forged, expected));
    }
    if source.token.is_some() {
        let mut forged = source.sign(&unsigned, at)?;
        forged.path = format!("/v1/hooks/{}/a-guess", source.name);
        cases.push(case(
            source,
            "a forgery, with a guessed token",
            forged,
            Expected::Refused(404),
        ));
    }
    if source.provider()?.sender().grows_old() {
        let old = at - STALE_SECONDS;
        let stale = source.signed(event, n + 1, old)?;
        let expected = Expected::Ended(Fate::Rejected, Reason::TimestampStale);
        cases.push(case(source, "a stale one, of an hour ago", stale, expected));
    }
    let broken = source.sign(&broken(source, event, n + 2, at)?, at)?;
    let expected = Expected::Ended(Fate::DeadLetter, Reason::MalformedJson);
    cases.push(case(source, "a broken one, signed", broken, expected));
    Ok(cases)
}

fn case(source: &Source, what: &str, outgoing: Outgoing, expected: Expected) -> Case {
    Case {
        provider: source.provider,
        what: what.to_owned(),
        outgoing,
        expected,
    }
}
