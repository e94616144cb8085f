//! The way of a record through the processor, one step after the other.

use serde::Serialize;
use sluice_schemas::fate::{REDRIVE_COUNT, REDRIVE_LIMIT};
use sluice_schemas::providers::Delivery;
use sluice_schemas::raw::{RawRequest, Single};
use sluice_schemas::reason::Reason;
use sluice_schemas::record::Record;

use super::case::{Case, fits, only};
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
        Reason::Duplicate => 8,
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
                    step.state = State::Fail;
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
            (4, _, Some(case)) => time(case),
            (5, _, Some(case)) => {
                let tried = tried(case);
                let fitting: Vec<&str> = tried
                    .iter()
                    .filter(|one| one.matches)
                    .map(|one| one.key_id.as_str())
                    .collect();
                let says = match (fitting.is_empty(), self.fails.is_none()) {
                    (false, _) => format!("fits under {}", fitting.join(", ")),
                    (true, true) => {
                        state = State::Skip;
                        "no signature was needed".to_owned()
                    }
                    (true, false) => {
                        state = State::Skip;
                        "fits under no secret".to_owned()
                    }
                };
                secrets = Some(tried);
                says
            }
            (6, _, Some(case)) => format!("{} bytes of UTF-8 and JSON", case.body.len()),
            (8, ..) => self.dedup.clone(),
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

fn time(case: &Case<'_>) -> String {
    let delivery = Delivery {
        request: &case.request,
        body: &case.body,
    };
    let received = case.request.received_at.div_euclid(1000);
    match case.verifier().signed_at(delivery) {
        Some(signed) => format!("says {}, received {}", shown(signed), shown(received)),
        None => format!(
            "none, or none that can be read; received {}",
            shown(received)
        ),
    }
}

fn tried(case: &Case<'_>) -> Vec<Tried> {
    let own = case.secrets_tried().into_iter();
    let own = own.map(|(key_id, matches)| Tried { key_id, matches });
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
