//! Flock in words, for who is about to add a source of it.

use crate::providers::description::{Description, OptionOf};

/// The provider in words.
pub static DESCRIPTION: Description = Description {
    title: "Flock",
    about: "Referral campaigns: visits, shares, referrals and rewards.",
    signing: "HMAC-SHA256 in x-flock-signature over the time and the data of the body, \
        or over the body; what exactly is not documented, so that four readings \
        are tried.",
    secret: "The text from the provider's page, as it is.",
    retries: "None: what is not answered is lost.",
    identity: "The signature and the event's name.",
    options: &[
        OptionOf {
            name: "scheme",
            default: "auto",
            values: "auto, ts.data, raw, ts.raw or tsdata: what is under the signature",
        },
        OptionOf {
            name: "encoding",
            default: "auto",
            values: "auto, hex or base64: how the signature is written",
        },
        OptionOf {
            name: "max_age",
            default: "5m",
            values: "how far the body's time may be from the receipt, both ways; 0: \
                not judged",
        },
    ],
    signed_url: None,
};
