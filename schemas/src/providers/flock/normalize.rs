//! From Flock's payload to the event's columns.

use std::borrow::Cow;

use super::payload::{Body, Data};
use crate::event::Fields;
use crate::identity::Identity;
use crate::json::{self, RawField};
use crate::providers::api::Payload;
use crate::timestamp;

/// A delivery that is authentic and has a name.
#[derive(Debug)]
pub struct Event<'a> {
    pub mac: [u8; 32],
    pub name: Cow<'a, str>,
    pub members: Body<'a>,
    /// Empty in shape B.
    pub data: Data<'a>,
}

impl Payload for Event<'_> {
    /// Two events of one second may share their `data`, and so their MAC: the name belongs to it.
    fn identity(&self) -> Identity {
        Identity {
            parts: vec![self.mac.to_vec(), self.name.as_bytes().to_vec()],
            sequence: None,
        }
    }

    fn fields(&self) -> Fields {
        let Self {
            name,
            members,
            data,
            ..
        } = self;
        let entity = json::string(members.entity);
        let person = match entity.as_deref() {
            Some("invitee") => Some(&data.invitee),
            Some("referrer") => Some(&data.referrer),
            _ => None,
        };
        let scope_id = id(data.campaign_id.or(members.campaign_id));
        let occurred_at = json::token(members.timestamp)
            .and_then(|text| timestamp::read(&text))
            .and_then(timestamp::showable);
        Fields {
            r#type: name.clone().into_owned(),
            occurred_at,
            entity_type: entity.map(Cow::into_owned),
            entity_id: id(members.entity_id),
            scope_type: scope_id.is_some().then(|| "campaign".to_owned()),
            scope_id,
            organization_id: id(members.organization_id),
            application_id: id(members.application_id),
            person_id: person.and_then(|person| id(person.id)),
            person_email: person.and_then(|person| text(person.email)),
            person_name: person.and_then(|person| text(person.name)),
            referrer_id: id(data.referrer.id),
            invitee_id: id(data.invitee.id),
            referrer_reward_id: id(data.referrer_reward.id),
            invitee_reward_id: id(data.invitee_reward.id),
            ..Fields::default()
        }
    }
}

fn id(field: RawField<'_>) -> Option<String> {
    json::id(field).map(Cow::into_owned)
}

fn text(field: RawField<'_>) -> Option<String> {
    json::string(field).map(Cow::into_owned)
}
