//! From ReferralLoop's payload to the event's columns.

use std::borrow::Cow;

use super::payload::{Body, Signup};
use crate::event::Fields;
use crate::identity::Identity;
use crate::json::{self, RawField};
use crate::providers::api::Payload;
use crate::reason::{Reason, Refusal};
use crate::timestamp;

/// A delivery that is authentic and has all that identifies it.
#[derive(Debug)]
pub struct Event<'a> {
    kind: Cow<'a, str>,
    waitlist_id: Cow<'a, str>,
    id: Cow<'a, str>,
    timestamp: Cow<'a, str>,
    /// `data` in its one form, whatever the order of its keys.
    canonical: String,
    signup: Signup<'a>,
}

impl<'a> Event<'a> {
    /// Looks for what identity and type need.
    pub fn read(members: &Body<'a>) -> Result<Self, Refusal> {
        let signup: Signup<'_> = json::inner(members.data)?;
        // A body that cannot be read is reported before one that lacks something.
        let canonical = match members.data.map(json::canonical) {
            Some(None) => {
                return Err(Reason::MalformedJson.because(format!(
                    "data is nested deeper than {} levels",
                    json::MAX_DEPTH
                )));
            }
            Some(Some(canonical)) => canonical,
            None => String::new(),
        };
        Ok(Self {
            kind: needed(json::filled(members.event_type), "event_type")?,
            waitlist_id: needed(json::id(members.waitlist_id), "waitlist_id")?,
            id: needed(json::id(signup.id), "data.id")?,
            timestamp: needed(json::id(members.timestamp), "timestamp")?,
            canonical,
            signup,
        })
    }
}

fn needed<'a>(found: Option<Cow<'a, str>>, name: &str) -> Result<Cow<'a, str>, Refusal> {
    found.ok_or_else(|| Reason::MissingField.because(format!("the body has no {name}")))
}

impl Payload for Event<'_> {
    /// There is no id of the delivery, so all that it says is its identity.
    fn identity(&self) -> Identity {
        let parts = [
            self.kind.as_ref(),
            self.waitlist_id.as_ref(),
            self.id.as_ref(),
            self.timestamp.as_ref(),
            self.canonical.as_str(),
        ];
        Identity {
            parts: parts.map(|part| part.as_bytes().to_vec()).to_vec(),
            sequence: None,
        }
    }

    fn fields(&self) -> Fields {
        let signup = &self.signup;
        Fields {
            r#type: self.kind.clone().into_owned(),
            occurred_at: timestamp::read(&self.timestamp).and_then(timestamp::showable),
            entity_type: Some("signup".to_owned()),
            entity_id: Some(self.id.clone().into_owned()),
            scope_type: Some("waitlist".to_owned()),
            scope_id: Some(self.waitlist_id.clone().into_owned()),
            person_id: Some(self.id.clone().into_owned()),
            person_email: text(signup.email),
            person_name: text(signup.name),
            referral_code: text(signup.referral_code),
            position: json::integer(signup.position.or(signup.new_position)),
            previous_position: json::integer(signup.old_position),
            ..Fields::default()
        }
    }
}

fn text(field: RawField<'_>) -> Option<String> {
    json::string(field).map(Cow::into_owned)
}
