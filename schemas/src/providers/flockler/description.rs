//! Flockler in words, for who is about to add a source of it.

use crate::providers::description::{Description, OptionOf, SignedUrl};

/// The provider in words.
pub static DESCRIPTION: Description = Description {
    title: "Flockler",
    about: "Social content: articles that are published, updated and taken back.",
    signing: "HMAC-SHA256 in x-flockler-signature over verb, action, environment, the \
        URL as it was typed there, and the body, all in lower case.",
    secret: "The text from the provider's page, as it is.",
    retries: "Nothing is said.",
    identity: "The signature, where it is that of the article's last event: the same \
        content may come again on purpose.",
    options: &[
        OptionOf {
            name: "webhook_urls",
            default: "none",
            values: "the URL exactly as it was typed at the provider; several: all \
                are tried",
        },
        OptionOf {
            name: "webhook_url_files",
            default: "none",
            values: "names of files under secrets_dir with one such URL each, for \
                URLs with a token; this or webhook_urls is needed",
        },
        OptionOf {
            name: "environments",
            default: "[production]",
            values: "some of development, sandbox, staging, production; others are \
                dead letters",
        },
        OptionOf {
            name: "encoding",
            default: "auto",
            values: "auto, hex, base64 or base64_hex: how the signature is written",
        },
        OptionOf {
            name: "lowercase",
            default: "auto",
            values: "auto, unicode, simple, final_sigma or ascii: how the text was \
                lower-cased",
        },
    ],
    signed_url: Some(SignedUrl {
        plain: "webhook_urls",
        files: "webhook_url_files",
    }),
};
