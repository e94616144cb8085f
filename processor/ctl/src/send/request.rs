//! The requests: samples of the provider, signed for the source, and what must become of each.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use sluice_schemas::fate::Fate;
use sluice_schemas::providers::Delivery;
use sluice_schemas::providers::sending::{SendingSource, Unsigned};
use sluice_schemas::raw::{Ack, Headers, RawRequest};
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::settings::{Settings, Source};
use sluice_schemas::topic::OTHER;
use uuid::Uuid;

use super::options::Options;
use super::target::Target;
use crate::failure::Failure;
use crate::records::window::now_us;

/// How old a stale request is, in seconds: a day.
const STALE: i64 = 86_400;

/// The largest number of a sample: it is exact wherever JSON's numbers are floating-point ones.
const MAX_NUMBER: u64 = 1 << 53;

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Good,
    /// Its signature is that of another request.
    Forged,
    /// It was signed too long ago.
    Stale,
}

impl Kind {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Forged => "forged",
            Self::Stale => "stale",
        }
    }
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub struct Request {
    /// What is wrong with it.
    pub kind: Kind,
    /// Its event type.
    pub event: String,
    /// The full name of the topic of such events.
    pub topic: String,
    /// All its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// What must become of it.
    pub expected: Expected,
}

/// A fate, and why where it is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The fate.
    pub fate: Fate,
    /// The reason.
    pub reason: Option<Reason>,
}

impl Expected {
    const EVENT: Self = Self {
        fate: Fate::Event,
        reason: None,
    };
}

/// The event that the options ask for.
pub fn event(target: &Target<'_>, options: &Options) -> Result<String, Failure> {
    let events = events(target.source);
    match &options.event {
        Some(event) if events.contains(&event.as_str()) => Ok(event.clone()),
        Some(event) => Err(unknown(target.source, event, &events)),
        None => first(target, &events),
    }
}

fn kind(options: &Options) -> Kind {
    match (options.forge, options.stale) {
        (true, _) => Kind::Forged,
        (false, true) => Kind::Stale,
        (false, false) => Kind::Good,
    }
}

/// The events of a source: the provider's, and those that it is given topics for.
fn events(source: &Source) -> Vec<&str> {
    let documented = source.provider.spec().documented.iter().copied();
    let mut seen = BTreeSet::new();
    let mut events: Vec<&str> = documented
        .chain(source.topic_types())
        .filter(|event| seen.insert(*event))
        .collect();
    if events.is_empty() {
        // A provider without a catalogue, and a source without topics of its own: any type serves.
        events.extend(source.provider.sender().events().first());
    }
    events
}

fn unknown(source: &Source, event: &str, events: &[&str]) -> Failure {
    let (name, provider) = (&source.name, source.provider.spec().name);
    Failure::Usage(format!(
        "{event} is no event of {name} ({provider}); its events are {}",
        events.join(", ")
    ))
}

/// The first event that the source's options accept: some name a scheme that not each event can have.
fn first(target: &Target<'_>, events: &[&str]) -> Result<String, Failure> {
    let mut refusal = String::new();
    for event in events {
        match signed(target, event, now())
            .and_then(|request| judged(target, &request).map_err(|refusal| in_words(&refusal)))
        {
            Ok(()) => return Ok((*event).to_owned()),
            Err(reason) => refusal = reason,
        }
    }
    Err(Failure::Failed(format!(
        "no request for {} would be authentic: {refusal}",
        target.source.name
    )))
}

/// One request, to be sent now: its time is that of its signing.
pub fn one(
    settings: &Settings,
    target: &Target<'_>,
    event: &str,
    options: &Options,
) -> Result<Request, Failure> {
    let kind = kind(options);
    let name = &target.source.name;
    let failed =
        |reason: String| Failure::Failed(format!("{event} cannot be sent to {name}: {reason}"));
    let at = match kind {
        Kind::Good | Kind::Forged => now(),
        Kind::Stale => now() - STALE,
    };
    let mut request = signed(target, event, at).map_err(failed)?;
    if kind == Kind::Forged {
        request.body = sample(target, event, at).body;
    }
    let expected = match (judged(target, &request), kind) {
        (Ok(()), Kind::Good) => Expected::EVENT,
        (Err(refusal), Kind::Good) => return Err(failed(in_words(&refusal))),
        (Ok(()), Kind::Forged) => {
            return Err(Failure::Usage(format!(
                "{name} looks at no signature, so that a forged request would be an event: its token is \
                 what proves a request"
            )));
        }
        (Ok(()), Kind::Stale) => {
            eprintln!("{name} judges no age, or allows a day: a stale request becomes an event");
            Expected::EVENT
        }
        (Err(refusal), Kind::Forged | Kind::Stale) => Expected {
            fate: refusal.reason.fate(),
            reason: Some(refusal.reason),
        },
    };
    let provider = target.source.provider.spec().name;
    let has_topic = target.source.topic_types().any(|known| known == event);
    let names = &settings.topics.names;
    Ok(Request {
        kind,
        event: event.to_owned(),
        topic: names.event(provider, if has_topic { event } else { OTHER }),
        headers: request.headers,
        body: request.body,
        expected,
    })
}

/// A sample that no other is the same as.
fn sample(target: &Target<'_>, event: &str, at: i64) -> Unsigned {
    let sender = target.source.provider.sender();
    sender.sample(event, fastrand::u64(1..MAX_NUMBER), at)
}

/// A sample, signed for the source, with the headers that it needs.
fn signed(target: &Target<'_>, event: &str, at: i64) -> Result<Unsigned, String> {
    let source = SendingSource {
        options: &target.source.options,
        secrets: &target.secrets,
        files: &target.files,
    };
    let sender = target.source.provider.sender();
    let mut request = sender.sign_for(sample(target, event, at), &source, at)?;
    let json = ("content-type".to_owned(), "application/json".to_owned());
    request.headers.push(json);
    request.headers.extend(target.headers.iter().cloned());
    Ok(request)
}

/// What the processor would say of the request, by its very code.
fn judged(target: &Target<'_>, request: &Unsigned) -> Result<(), Refusal> {
    let headers = request.headers.iter();
    let raw = RawRequest {
        id: Uuid::nil(),
        source: target.source.name.clone(),
        provider: target.source.provider.spec().name.to_owned(),
        received_at: now_us(),
        method: "POST".to_owned(),
        target: format!("/v1/hooks/{}", target.source.name),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        token: target.is_guarded(),
        ack: Ack::Broker,
        headers: Headers(
            headers
                .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
                .collect(),
        ),
    };
    let delivery = Delivery {
        request: &raw,
        body: &request.body,
    };
    let verifier = target.source.verifier.as_ref();
    target.keyring.verify(verifier, delivery).map(|_| ())
}

fn in_words(refusal: &Refusal) -> String {
    format!("{} ({})", refusal.reason, refusal.detail)
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
