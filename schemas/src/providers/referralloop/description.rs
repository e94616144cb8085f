//! ReferralLoop in words, for who is about to add a source of it.

use crate::providers::description::{Description, OptionOf};

/// The provider in words.
pub static DESCRIPTION: Description = Description {
    title: "ReferralLoop",
    about: "Waitlists: sign-ups and their positions.",
    signing: "Unsigned today: the token of the URL, or a required header, proves the \
        sender. A signature (HMAC-SHA256 in x-webhook-signature) is announced, \
        and verified where it comes and there is a secret.",
    secret: "The text from the provider's page, as it is; none is needed while \
        requests are unsigned.",
    retries: "After 1, 5, 15 and 60 minutes.",
    identity: "The event's type, the waitlist, the id and all of the data, and the time.",
    options: &[
        OptionOf {
            name: "signature",
            default: "optional",
            values: "optional: verified where it is there; off; required",
        },
        OptionOf {
            name: "signed",
            default: "auto",
            values: "auto, raw or compact: the body as it came, or as JavaScript \
                writes it again",
        },
        OptionOf {
            name: "subscribe",
            default: "none",
            values: "{events, waitlists, target_url_file, api_key_file}: what \
                `sluicectl referralloop` subscribes",
        },
        OptionOf {
            name: "max_age",
            default: "0",
            values: "how far the body's time may be from the receipt, both ways; 0: \
                not judged",
        },
    ],
    signed_url: None,
};
