//! Flock's names: what it is called, its headers and its documented types.

use crate::providers::api::Spec;

/// The header that carries the MAC.
pub const SIGNATURE: &str = "x-flock-signature";

/// What holds whatever the source.
pub static SPEC: Spec = Spec {
    name: "flock",
    documented: &[
        "campaign.launched",
        "campaign.ended",
        "campaign.archived",
        "referrer.visited",
        "referrer.shared",
        "referrer.copied",
        "referrer.reward_claimed",
        "invitee.visited",
        "invitee.reward_claimed",
        "invitee.accepted",
        "referral.accepted",
        "referral.flagged",
        "referral.rejected",
        "reward.provisioned",
        "reward.fulfilled",
    ],
    headers: &[SIGNATURE],
};
