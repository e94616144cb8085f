//! From Flowcode's headers and payload to the event's columns.

use std::borrow::Cow;

use super::payload::{Body, TypeMember};
use crate::event::Fields;
use crate::identity::Identity;
use crate::json;
use crate::providers::api::Payload;
use crate::timestamp;

/// The type where the payload has none.
const UNKNOWN: &str = "unknown";

/// A delivery that is authentic. Nothing in its body is needed.
#[derive(Debug)]
pub struct Event<'a> {
    id: &'a str,
    kind: Cow<'a, str>,
    occurred_at: Option<i64>,
}

impl<'a> Event<'a> {
    /// Reads the type and the time of the body.
    pub fn read(id: &'a str, members: &Body<'a>, type_members: &[TypeMember]) -> Self {
        let mut kinds = type_members.iter();
        let kind = kinds.find_map(|member| json::filled(members.member(*member)));
        // A number would be the time of the attempt or of something else: nobody says.
        let time = json::string(members.timestamp);
        Self {
            id,
            kind: kind.unwrap_or(Cow::Borrowed(UNKNOWN)),
            occurred_at: time
                .and_then(|text| timestamp::iso8601(&text))
                .and_then(timestamp::showable),
        }
    }
}

impl Payload for Event<'_> {
    /// Each attempt has a new time under the same id.
    fn identity(&self) -> Identity {
        Identity {
            parts: vec![self.id.as_bytes().to_vec()],
            sequence: None,
        }
    }

    fn fields(&self) -> Fields {
        Fields {
            r#type: self.kind.clone().into_owned(),
            occurred_at: self.occurred_at,
            delivery_id: Some(self.id.to_owned()),
            ..Fields::default()
        }
    }
}
