//! The way of a record through the processor, one step after the other.

use serde::Serialize;
use sluice_schemas::fate::{REDRIVE_COUNT, REDRIVE_LIMIT};
use sluice_schemas::providers::Delivery;
use sluice_schemas::raw::{RawRequest, Single};
use sluice_schemas::reason::Reason;
use sluice_schemas::record::Record;

use super::case::{Case, fits, is_compared, only};
use super::guess::mac::signs_no_object;
use super::guess::secrets::plain;
use crate::records::window::shown;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It holds.
    Ok,
    /// It ends here.
    Fail,
    /// It was not reached, or says nothing of this request.
    Skip,
}

/// A step.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Of a closed list, in this order.
    #[serde(rename = "step")]
    pub name: &'static str,
    pub state: State,
    /// For people.
    pub says: String,
    /// Of the step `signature` alone: each secret that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<Tried>>,
}

/// A secret that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    pub key_id: String,
    pub matches: bool,
}

/// All steps, in order.
pub const STEPS: [&str; 11] = [
    "source",
    "redrive_limit",
    "token",
    "signature_headers",
    "timestamp",
    "signature",
    "body",
    "identity",
    "dedup",
    "normalize",
    "route",
];

/// The step that looks for an event of the same identity.
const DEDUP: usize = 8;

/// At which step a refusal ends a record.
pub const fn failing(reason: Reason) -> usize {
    match reason {
        Reason::UnknownSource => 0,
        Reason::RedriveLimit => 1,
        Reason::TokenMissing => 2,
        Reason::SignatureMissing | Reason::SignatureMalformed => 3,
        Reason::TimestampMissing | Reason::TimestampMalformed | Reason::TimestampStale => 4,
        Reason::SignatureMismatch => 5,
        Reason::NotUtf8 | Reason::MalformedJson => 6,
        Reason::ContradictoryHeaders | Reason::EnvironmentNotAccepted | Reason::MissingField => 7,
        Reason::Duplicate => DEDUP,
        Reason::TooLargeForTopic => 10,
    }
}

/// What is known where the way ends.
pub struct Way<'w> {
    pub record: &'w Record,
    pub request: Option<&'w RawRequest>,
    /// `None`: the source is not known.
    pub case: Option<&'w Case<'w>>,
    /// The step at which it ends, with why; `None`: it is an event.
    pub fails: Option<(usize, String)>,
    /// How the identity was looked for.
    pub dedup: String,
    /// The topic of the event.
    pub topic: Option<String>,
}

impl Way<'_> {
    /// Each step.
    pub fn steps(&self) -> Vec<Step> {
        let step = |(at, name): (usize, &&'static str)| {
            let mut step = self.step(at, name);
            if let Some((end, why)) = &self.fails {
                if *end == at {
                    // A repetition is what the step is for.
                    step.state = if at == DEDUP { State::Ok } else { State::Fail };
                    step.says = match step.says.as_str() {
                        "" => why.clone(),
                        says => format!("{why}; {says}"),
                    };
                } else if at > *end && step.secrets.is_none() {
                    step.state = State::Skip;
                    "not reached".clone_into(&mut step.says);
                }
            }
            step
        };
        STEPS.iter().enumerate().map(step).collect()
    }

    fn step(&self, at: usize, name: &'static str) -> Step {
        let (mut state, mut secrets) = (State::Ok, None);
        let says = match (at, self.request, self.case) {
            (0, Some(request), _) => format!("{} ({})", request.source, request.provider),
            (1, ..) => self.redriven(),
            (2, Some(request), _) if request.token => {
                "a token or required header of the source".to_owned()
            }
            (2, ..) => {
                state = State::Skip;
                "the request had none".to_owned()
            }
            (3, _, Some(case)) => headers(case),
            (4, _, Some(case)) => {
                let (has_time, says) = time(case);
                if !has_time {
                    state = State::Skip;
                }
                says
            }
            (5, _, Some(case)) => {
                let (fits, says, tried) = self.signature(case);
                if !fits {
                    state = State::Skip;
                }
                secrets = Some(tried);
                says
            }
            (6, _, Some(case)) if self.ends_at(6) => format!("{} bytes", case.body.len()),
            (6, _, Some(case)) => format!("{} bytes of UTF-8 and JSON", case.body.len()),
            (DEDUP, ..) => self.dedup.clone(),
            (10, ..) => self.topic.clone().unwrap_or_default(),
            _ => String::new(),
        };
        Step {
            name,
            state,
            says,
            secrets,
        }
    }

    fn ends_at(&self, at: usize) -> bool {
        self.fails.as_ref().is_some_and(|(end, _)| *end == at)
    }

    /// Whether a secret fits, what is to be said of it, and each that was tried.
    fn signature(&self, case: &Case<'_>) -> (bool, String, Vec<Tried>) {
        let tried = tried(case);
        let fitting: Vec<&str> = tried
            .iter()
            .filter(|one| one.matches)
            .map(|one| one.key_id.as_str())
            .collect();
        if !fitting.is_empty() {
            let names = fitting.join(", ");
            let says = if self.ends_at(5) {
                format!("{names} gives it over this body, which is no JSON object")
            } else {
                format!("fits under {names}")
            };
            return (true, says, tried);
        }
        if self.fails.is_none() {
            return (false, "no signature was needed".to_owned(), tried);
        }
        let (verifier, own) = (case.verifier(), &case.credentials);
        if !self.ends_at(5) && !is_compared(verifier, own, &case.request, &case.body) {
            return (false, "not reached".to_owned(), Vec::new());
        }
        (false, "fits under no secret".to_owned(), tried)
    }

    fn redriven(&self) -> String {
        match self.record.text(REDRIVE_COUNT) {
            Some(count) => format!(
                "redriven {} times of {REDRIVE_LIMIT}",
                crate::output::plain(count)
            ),
            None => "not redriven".to_owned(),
        }
    }
}

/// The headers that the provider signs or reads, and how often each stands there.
fn headers(case: &Case<'_>) -> String {
    let names = case.source.provider.spec().headers.iter();
    let here = names.filter_map(|name| match case.request.headers.single(name) {
        Single::Absent => None,
        Single::Once(value) => Some(format!("{name} ({} bytes)", value.len())),
        Single::Repeated => Some(format!("{name} (more than once)")),
    });
    let here: Vec<String> = here.collect();
    if here.is_empty() {
        "none of the provider's headers".to_owned()
    } else {
        here.join(", ")
    }
}

/// Whether the request says when it was signed, and what is to be said of that.
fn time(case: &Case<'_>) -> (bool, String) {
    let delivery = Delivery {
        request: &case.request,
        body: &case.body,
    };
    let received = shown(case.request.received_at.div_euclid(1000));
    match case.verifier().signed_at(delivery) {
        Some(signed) => (true, format!("says {}, received {received}", shown(signed))),
        None => (
            false,
            format!("none, or none that can be read; received {received}"),
        ),
    }
}

fn tried(case: &Case<'_>) -> Vec<Tried> {
    let of_no_object = |key_id: &str| {
        let mut secrets = case.source.secrets.iter();
        let secret = secrets.find(|secret| secret.key_id == key_id);
        let content = secret.and_then(|secret| case.secrets.get(&secret.file));
        content.is_some_and(|content| signs_no_object(case, content))
    };
    let own = case.secrets_tried().into_iter();
    let own = own.map(|(key_id, matches)| Tried {
        matches: matches || of_no_object(&key_id),
        key_id,
    });
    let given = case.given.as_ref().map(|content| {
        let key = plain(case.verifier(), content);
        let matches = key.is_some_and(|key| {
            fits(
                case.verifier(),
                &only(&key, &case.credentials),
                &case.request,
                &case.body,
            )
        });
        Tried {
            key_id: "--secret-file".to_owned(),
            matches,
        }
    });
    own.chain(given).collect()
}
