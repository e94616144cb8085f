//! What ReferralLoop sends: an envelope and, under `data`, the signup.

use serde::Deserialize;

use crate::json::{self, RawField};
use crate::providers::api::PartitionKey;

/// The envelope.
#[derive(Debug, Default, Deserialize)]
pub struct Body<'a> {
    #[serde(borrow)]
    pub event_type: RawField<'a>,
    #[serde(borrow)]
    pub waitlist_id: RawField<'a>,
    #[serde(borrow)]
    pub data: RawField<'a>,
    #[serde(borrow)]
    pub timestamp: RawField<'a>,
}

/// The signup, as far as the event has it.
#[derive(Debug, Default, Deserialize)]
pub struct Signup<'a> {
    #[serde(borrow)]
    pub id: RawField<'a>,
    #[serde(borrow)]
    pub email: RawField<'a>,
    #[serde(borrow)]
    pub name: RawField<'a>,
    #[serde(borrow)]
    pub position: RawField<'a>,
    #[serde(borrow)]
    pub new_position: RawField<'a>,
    #[serde(borrow)]
    pub old_position: RawField<'a>,
    #[serde(borrow)]
    pub referral_code: RawField<'a>,
}

/// The waitlist and the signup.
pub fn partition_key(body: &[u8]) -> Option<PartitionKey> {
    let members: Body<'_> = json::object(json::utf8(body).ok()?).ok()??;
    let signup: Signup<'_> = json::inner(members.data).ok()?;
    let (waitlist, id) = (json::id(members.waitlist_id)?, json::id(signup.id)?);
    Some(PartitionKey::Text(format!("{waitlist}/{id}")))
}
