//! What Flock sends: two shapes, one with `data` (A), one flat (B).

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::identity::sha256;
use crate::json::{self, Span};
use crate::providers::PartitionKey;
use crate::reason::Refusal;

/// The members of both shapes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Body<'a> {
    #[serde(borrow)]
    pub name: Span<'a>,
    #[serde(borrow)]
    pub entity: Span<'a>,
    #[serde(borrow)]
    pub entity_id: Span<'a>,
    #[serde(borrow)]
    pub organization_id: Span<'a>,
    #[serde(borrow)]
    pub application_id: Span<'a>,
    #[serde(borrow)]
    pub campaign_id: Span<'a>,
    #[serde(borrow)]
    pub data: Span<'a>,
    #[serde(borrow)]
    pub timestamp: Span<'a>,
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
    pub campaign_id: Span<'a>,
    pub referrer: Party<'a>,
    pub invitee: Party<'a>,
    pub referrer_reward: Party<'a>,
    pub invitee_reward: Party<'a>,
}

impl<'a> Data<'a> {
    /// Reads it; empty where it is absent or no object.
    pub fn read(span: Span<'a>) -> Result<Self, Refusal> {
        let members: DataMembers<'_> = json::inner(span)?;
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
    campaign_id: Span<'a>,
    #[serde(borrow)]
    referrer: Span<'a>,
    #[serde(borrow)]
    invitee: Span<'a>,
    #[serde(borrow)]
    referrer_reward: Span<'a>,
    #[serde(borrow)]
    invitee_reward: Span<'a>,
}

/// A customer or a reward in `data`.
#[derive(Debug, Default, Deserialize)]
pub struct Party<'a> {
    #[serde(borrow)]
    pub id: Span<'a>,
    #[serde(borrow)]
    pub email: Span<'a>,
    #[serde(borrow)]
    pub name: Span<'a>,
}

/// For shape A what `data` alone tells, since nothing beside it may be proved; for shape B the entity.
pub fn partition_key(body: &[u8]) -> Option<PartitionKey> {
    let members: Body<'_> = json::object(json::utf8(body).ok()?).ok()??;
    let text = |span| Some(PartitionKey::Text(json::id(span)?.into_owned()));
    let Some(span) = members.data() else {
        return text(members.entity_id);
    };
    let data = Data::read(Some(span)).unwrap_or_default();
    text(data.invitee.id)
        .or_else(|| text(data.referrer.id))
        .or_else(|| Some(PartitionKey::Hashed(sha256(span.get().as_bytes()))))
}
