//! ReferralLoop's names: what it is called, its headers and its documented types.

use crate::providers::api::Spec;

/// The header that will carry the MAC: announced, not sent yet.
pub const SIGNATURE: &str = "x-webhook-signature";

/// What holds whatever the source.
pub static SPEC: Spec = Spec {
    name: "referralloop",
    documented: &[
        "signup.created",
        "signup.position_changed",
        "signup.deleted",
    ],
    headers: &[SIGNATURE],
};
