//! Flowcode in words, for who is about to add a source of it.

use crate::providers::description::{Description, OptionOf};

/// The provider in words.
pub static DESCRIPTION: Description = Description {
    title: "Flowcode",
    about: "QR codes and their scans.",
    signing: "Standard Webhooks, by Svix: HMAC-SHA256 (v1) or Ed25519 (v1a) over id, \
        time and body.",
    secret: "whsec_ and the shared secret in base64, of 24 bytes at least, or whpk_ \
        and the public key in base64.",
    retries: "After 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, and by hand at any time.",
    identity: "The id of the delivery.",
    options: &[
        OptionOf {
            name: "headers",
            default: "auto",
            values: "auto, webhook or svix: under which names the three headers stand",
        },
        OptionOf {
            name: "type_field",
            default: "auto",
            values: "auto, type, event_type, eventType or event: the member that has \
                the event's type",
        },
        OptionOf {
            name: "max_age",
            default: "5m",
            values: "how far the attempt's time may be from the receipt, both ways; \
                0: not judged",
        },
    ],
    signed_url: None,
};
