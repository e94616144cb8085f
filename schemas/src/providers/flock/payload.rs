//! What Flock sends: two shapes, one with `data` (A), one flat (B).

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::identity::sha256;
use crate::json::{self, RawField};
use crate::providers::api::PartitionKey;
use crate::reason::Refusal;

/// The members of both shapes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Body<'a> {
    #[serde(borrow)]
    pub name: RawField<'a>,
    #[serde(borrow)]
    pub entity: RawField<'a>,
    #[serde(borrow)]
    pub entity_id: RawField<'a>,
    #[serde(borrow)]
    pub organization_id: RawField<'a>,
    #[serde(borrow)]
    pub application_id: RawField<'a>,
    #[serde(borrow)]
    pub campaign_id: RawField<'a>,
    #[serde(borrow)]
    pub data: RawField<'a>,
    #[serde(borrow)]
    pub timestamp: RawField<'a>,
}

impl<'a> Body<'a> {
    /// `data`, where it is an object that says something: this is shape A.
    pub fn data(&self) -> Option<&'a RawValue> {
        self.data.filter(|data| json::has_members(data))
    }
}

/// Shape A's `data`, read.
#[derive(Debug, Default)]
pub struct Data<'a> {
    pub campaign_id: RawField<'a>,
    pub referrer: Party<'a>,
    pub invitee: Party<'a>,
    pub referrer_reward: Party<'a>,
    pub invitee_reward: Party<'a>,
}

impl<'a> Data<'a> {
    /// Reads it; empty where it is absent or no object.
    pub fn read(field: RawField<'a>) -> Result<Self, Refusal> {
        let members: DataMembers<'_> = json::inner(field)?;
        Ok(Self {
            campaign_id: members.campaign_id,
            referrer: json::inner(members.referrer)?,
            invitee: json::inner(members.invitee)?,
            referrer_reward: json::inner(members.referrer_reward)?,
            invitee_reward: json::inner(members.invitee_reward)?,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataMembers<'a> {
    #[serde(borrow)]
    campaign_id: RawField<'a>,
    #[serde(borrow)]
    referrer: RawField<'a>,
    #[serde(borrow)]
    invitee: RawField<'a>,
    #[serde(borrow)]
    referrer_reward: RawField<'a>,
    #[serde(borrow)]
    invitee_reward: RawField<'a>,
}

/// A customer or a reward in `data`.
#[derive(Debug, Default, Deserialize)]
pub struct Party<'a> {
    #[serde(borrow)]
    pub id: RawField<'a>,
    #[serde(borrow)]
    pub email: RawField<'a>,
    #[serde(borrow)]
    pub name: RawField<'a>,
}

/// For shape A what is in `data`, since nothing next to it may be proved; for shape B the entity.
pub fn partition_key(body: &[u8]) -> Option<PartitionKey> {
    let members: Body<'_> = json::object(json::utf8(body).ok()?).ok()??;
    let text = |field| Some(PartitionKey::Text(json::id(field)?.into_owned()));
    let Some(data) = members.data() else {
        return text(members.entity_id);
    };
    let read = Data::read(Some(data)).unwrap_or_default();
    text(read.invitee.id)
        .or_else(|| text(read.referrer.id))
        .or_else(|| Some(PartitionKey::Hashed(sha256(data.get().as_bytes()))))
}
