//! What ReferralLoop sends: an envelope and, under `data`, the signup.

use serde::Deserialize;

use crate::json::{self, Inner, RawField};
use crate::providers::api::PartitionKey;

/// The envelope, with what is made of the signup.
#[derive(Debug, Default, Deserialize)]
pub struct Body<'a, D = RawField<'a>> {
    #[serde(borrow)]
    pub event_type: RawField<'a>,
    #[serde(borrow)]
    pub waitlist_id: RawField<'a>,
    pub data: D,
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
    let text = json::utf8(body).ok()?;
    let at_once = json::at_once(text);
    let (waitlist_id, signup) = if let Some(Body {
        waitlist_id, data, ..
    }) = at_once
    {
        let data: Option<Inner<Signup<'_>>> = data;
        (waitlist_id, data.unwrap_or_default().0)
    } else {
        let members: Body<'_> = json::object(text).ok()??;
        (members.waitlist_id, json::inner(members.data).ok()?)
    };
    let (waitlist, id) = (json::id(waitlist_id)?, json::id(signup.id)?);
    Some(PartitionKey::Text([&waitlist, "/", &id].concat()))
}
