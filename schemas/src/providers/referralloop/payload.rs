//! What ReferralLoop sends: an envelope and, under `data`, the signup.

use serde::Deserialize;

use crate::json::{self, Span};
use crate::providers::PartitionKey;

/// The envelope.
#[derive(Debug, Default, Deserialize)]
pub struct Body<'a> {
    #[serde(borrow)]
    pub event_type: Span<'a>,
    #[serde(borrow)]
    pub waitlist_id: Span<'a>,
    #[serde(borrow)]
    pub data: Span<'a>,
    #[serde(borrow)]
    pub timestamp: Span<'a>,
}

/// The signup, as far as the event tells it.
#[derive(Debug, Default, Deserialize)]
pub struct Signup<'a> {
    #[serde(borrow)]
    pub id: Span<'a>,
    #[serde(borrow)]
    pub email: Span<'a>,
    #[serde(borrow)]
    pub name: Span<'a>,
    #[serde(borrow)]
    pub position: Span<'a>,
    #[serde(borrow)]
    pub new_position: Span<'a>,
    #[serde(borrow)]
    pub old_position: Span<'a>,
    #[serde(borrow)]
    pub referral_code: Span<'a>,
}

/// The waitlist and the signup.
pub fn partition_key(body: &[u8]) -> Option<PartitionKey> {
    let members: Body<'_> = json::object(json::utf8(body).ok()?).ok()??;
    let signup: Signup<'_> = json::inner(members.data).ok()?;
    let (waitlist, id) = (json::id(members.waitlist_id)?, json::id(signup.id)?);
    Some(PartitionKey::Text(format!("{waitlist}/{id}")))
}
