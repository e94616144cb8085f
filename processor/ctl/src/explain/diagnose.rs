//! From why a request is refused to what brought that about.

use sluice_schemas::providers::signature::Key;
use sluice_schemas::providers::{ALL, Credentials, Provider};
use sluice_schemas::raw::Single;
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::settings::{Faults, Node};

use super::case::{Case, fits};
use super::cause::{Cause, Finding};
use super::guess::mac;
use super::search::search;
use super::seen::{body, empty, header, visible};
use super::time::{stale, time};

/// The cause of a refusal.
pub fn diagnose(case: &Case<'_>, refusal: &Refusal) -> Finding {
    match refusal.reason {
        Reason::RedriveLimit => Finding::proved(Cause::RedrivenTooOften, &refusal.detail),
        Reason::UnknownSource => Finding::proved(Cause::SourceUnknown, &refusal.detail),
        Reason::TokenMissing => token_missing(case, refusal),
        Reason::SignatureMissing | Reason::SignatureMalformed | Reason::SignatureMismatch => {
            signature(case, refusal)
        }
        Reason::TimestampMissing | Reason::TimestampMalformed => time(case, refusal),
        Reason::TimestampStale => stale(case),
        Reason::NotUtf8 | Reason::MalformedJson => body(case, refusal),
        Reason::ContradictoryHeaders => Finding::proved(Cause::HeadersContradict, &refusal.detail),
        Reason::EnvironmentNotAccepted => {
            Finding::proved(Cause::EnvironmentNotAccepted, &refusal.detail)
        }
        Reason::MissingField if case.body.trim_ascii().is_empty() => empty(),
        Reason::MissingField => Finding::proved(Cause::FieldMissing, &refusal.detail),
        Reason::TooLargeForTopic => Finding::proved(Cause::EventTooLarge, &refusal.detail),
        Reason::Duplicate => Finding::proved(Cause::Repetition, &refusal.detail),
    }
}

/// A signature may prove what a token does not.
fn token_missing(case: &Case<'_>, refusal: &Refusal) -> Finding {
    elsewhere(case)
        .or_else(|| search(case))
        .or_else(|| other_provider(case))
        .unwrap_or_else(|| Finding::proved(Cause::TokenMissing, &refusal.detail))
}

fn signature(case: &Case<'_>, refusal: &Refusal) -> Finding {
    elsewhere(case)
        .or_else(|| search(case))
        .or_else(|| mac::damaged(case))
        .or_else(|| other_provider(case))
        .or_else(|| header(case, refusal))
        .or_else(|| visible(case))
        .or_else(|| mac::of_no_object(case))
        .unwrap_or_else(|| nothing_fits(case))
}

/// Another source under which the request is authentic as it is.
fn elsewhere(case: &Case<'_>) -> Option<Finding> {
    let mut sources = case.settings.sources.values();
    let is_of = |name: &str| {
        let source = case.settings.sources.get(name)?;
        let credentials = case.all.get(name)?;
        fits(
            source.verifier.as_ref(),
            credentials.at(case.request.received_at),
            &case.request,
            &case.body,
        )
        .then_some(source)
    };
    let found = sources
        .find_map(|source| is_of(&source.name).filter(|_| source.name != case.source.name))?;
    let says = format!(
        "the secrets of the source {} ({}) fit: it was sent to the URL of {}",
        found.name,
        found.provider.spec().name,
        case.source.name
    );
    Some(Finding::proved(Cause::WrongSource, says))
}

/// The headers of another provider, where none of our own are there.
fn other_provider(case: &Case<'_>) -> Option<Finding> {
    let headers = &case.request.headers;
    let has = |provider: &dyn Provider| {
        let mut names = provider.spec().headers.iter();
        names.any(|name| headers.single(name) != Single::Absent)
    };
    let own = case.source.provider;
    if has(own) {
        return None;
    }
    let mut others = ALL
        .into_iter()
        .filter(|other| other.spec().name != own.spec().name);
    let other = others.find(|other| has(*other))?;
    let name = other.spec().name;
    let verifier = other.verifier(&mut Node::root(serde_json::json!({}), &Faults::default()));
    let keys: Vec<Key> = case
        .secrets
        .values()
        .filter_map(|content| verifier.key(content).ok())
        .collect();
    let credentials = Credentials {
        keys,
        ..Credentials::default()
    };
    let proved = fits(verifier.as_ref(), &credentials, &case.request, &case.body);
    let says = format!(
        "it carries the signature headers of {name}, and the source {} is of {}",
        case.source.name,
        own.spec().name
    );
    Some(Finding {
        cause: Cause::WrongProvider,
        proved,
        says,
    })
}

/// A signature in good form that nothing makes fit.
fn nothing_fits(case: &Case<'_>) -> Finding {
    if case.given.is_some() {
        let says = "neither a secret of the source nor the one in --secret-file gives this signature, over the \
                    request as it came or in any form that was tried: its content was changed, or another \
                    secret signed it";
        return Finding::likely(Cause::Unknown, says);
    }
    let says = "the request is in good form, and no configured secret gives its signature, over it as it came or \
                in any form that was tried: the secret is another one, or the content was changed; \
                --secret-file FILE tries a secret";
    Finding::likely(Cause::WrongSecret, says)
}
