//! One recorded request of each provider, and what can be made of it without its secret.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::value::RawValue;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Site, Source};

/// Numbers of entities that good traffic never has.
const FIRST: u64 = 9_000_000;

/// A request that is sent again and again.
#[derive(Debug)]
pub struct Rewriting {
    pub source: String,
    /// What was done to the recorded request.
    pub name: &'static str,
    pub request: Outgoing,
    /// What must become of it.
    pub ends: Ends,
}

/// What may become of a rewriting, each time that it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// What was recorded proves itself, and its event is there: a duplicate. Bounded by time, and by
    /// `topics.duplicates_bytes`.
    Duplicate,
    /// Its signature does not fit, so it is on the topic that is bounded by bytes.
    Rejected,
}

/// The recorded requests, as they came.
pub fn recorded(site: &Site, at: i64) -> Result<Vec<Rewriting>> {
    let recorded = site.sources.iter().map(|source| {
        let event = event(source)?;
        Ok(Rewriting {
            source: source.name.clone(),
            name: "as it was recorded",
            request: source.signed(event, FIRST, at)?,
            ends: Ends::Duplicate,
        })
    });
    recorded.collect()
}

/// The event that is recorded: of those whose form can be rewritten, one that is.
fn event(source: &Source) -> Result<&'static str> {
    let samples = source.samples()?;
    let known = |name: &&&str| matches!(**name, "invitee.accepted" | "article.create");
    let found = samples.iter().find(known).or(samples.first());
    found.copied().context("a provider without events")
}

/// What is made of the recorded requests.
pub fn rewritten(recorded: &[Rewriting], site: &Site) -> Result<Vec<Rewriting>> {
    let of = |provider: &str| -> Result<&Rewriting> {
        let source = site.source(provider)?;
        let mut all = recorded.iter();
        let found = all.find(|rewriting| rewriting.source == source.name);
        found.context("no recorded request")
    };
    let (flock, flockler) = (of("flock")?, of("flockler")?);
    let rewritten = |from: &Rewriting, name, request| Rewriting {
        source: from.source.clone(),
        name,
        request,
        ends: Ends::Rejected,
    };
    let with_body = |from: &Rewriting, body: String| Outgoing {
        body: body.into(),
        ..from.request.clone()
    };
    let replaced = |one: &str, other: &str| -> Result<String> {
        let text = text(flockler)?;
        ensure!(text.contains(one), "the recorded body has no {one}");
        Ok(text.replacen(one, other, 1))
    };
    let signed = signed_text(text(flock)?)?;
    let null = replaced(":null", ":NULL")?;
    let member = replaced(r#""article":"#, r#""Article":"#)?;
    let mut action = flockler.request.clone();
    for (name, value) in &mut action.headers {
        if name.ends_with("action") {
            *value = value.to_uppercase();
        }
    }
    Ok(vec![
        rewritten(
            flock,
            "the signed text as the body",
            with_body(flock, signed),
        ),
        rewritten(flockler, "null as NULL", with_body(flockler, null)),
        rewritten(
            flockler,
            "a member in capitals",
            with_body(flockler, member),
        ),
        rewritten(flockler, "the action in capitals", action),
    ])
}

fn text(rewriting: &Rewriting) -> Result<&str> {
    Ok(std::str::from_utf8(&rewriting.request.body)?)
}

/// What Flock's signature is over: the time and the data, with a full stop between them.
fn signed_text(body: &str) -> Result<String> {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_str(body)?;
    let member = |name: &str| Ok(members.get(name).context("a member")?.get());
    let (time, data): (Result<&str>, Result<&str>) = (member("timestamp"), member("data"));
    Ok(format!("{}.{}", time?.trim_matches('"'), data?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_text_is_the_time_and_the_data() {
        let text = signed_text(r#"{"name":"a","data":{"b": 1},"timestamp":17}"#);
        assert_eq!(text.expect("a text"), r#"17.{"b": 1}"#);
    }
}
