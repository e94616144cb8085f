//! The closed list of causes: names for scripts, and what mends each.

/// Why a request becomes no event, as far as that can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    ReserialisedBody,
    BodyTruncated,
    BodyEmpty,
    BodyChanged,
    CompressedBody,
    Charset,
    FormEncoded,
    BodyWrapped,
    WrongSecret,
    SecretNotValid,
    SecretEncoding,
    WrongSource,
    WrongProvider,
    WrongOptions,
    ProxyUrl,
    WrongMethod,
    HeaderMissing,
    HeaderEmpty,
    HeaderRepeated,
    HeaderFolded,
    HeaderTruncated,
    HeaderChanged,
    HeaderRenamed,
    SignatureEncoding,
    OtherAlgorithm,
    TimestampMissing,
    TimestampMalformed,
    TimestampUnit,
    Clock,
    Replay,
    TokenMissing,
    TokenWrong,
    RequiredHeader,
    SourceUnknown,
    SourceDisabled,
    ProviderChanged,
    NoRawRecord,
    NotPost,
    BodyTooLarge,
    RedrivenTooOften,
    NotJson,
    KeyTwice,
    HeadersContradict,
    EnvironmentNotAccepted,
    FieldMissing,
    EventTooLarge,
    Repetition,
    Unknown,
}

/// Each cause with its name and what to do, in their order.
const KNOWN: [(Cause, &str, &str); 48] = [
    (
        Cause::ReserialisedBody,
        "reserialised_body",
        "let what stands before ingest pass the body on byte for byte, without a parse of its JSON",
    ),
    (
        Cause::BodyTruncated,
        "body_truncated",
        "look for a limit or a time-out on bodies in what stands before ingest",
    ),
    (
        Cause::BodyEmpty,
        "body_empty",
        "look for what drops bodies before ingest, such as a redirect that a client follows",
    ),
    (
        Cause::BodyChanged,
        "body_changed",
        "let what stands before ingest pass the body on byte for byte",
    ),
    (
        Cause::CompressedBody,
        "compressed_body",
        "turn compression of requests off before ingest: no content coding is decoded, and what is \
                 signed is what was sent",
    ),
    (
        Cause::Charset,
        "charset",
        "let sender and proxies send UTF-8 as it is: text was taken for another character set",
    ),
    (
        Cause::FormEncoded,
        "form_encoded",
        "set the content type application/json at the provider, and no form around the body",
    ),
    (
        Cause::BodyWrapped,
        "body_wrapped",
        "let the gateway pass the body itself, without an envelope, a string or base64 around it",
    ),
    (
        Cause::WrongSecret,
        "wrong_secret",
        "copy the secret of this webhook at the provider again into the source's secret file, or find what \
                 changed the content",
    ),
    (
        Cause::SecretNotValid,
        "secret_not_valid",
        "correct not_before or not_after of the secret, so that the time of receipt is within",
    ),
    (
        Cause::SecretEncoding,
        "secret_encoding",
        "write the secret file in the form that is named",
    ),
    (
        Cause::WrongSource,
        "wrong_source",
        "set the URL of the named source at the provider",
    ),
    (
        Cause::WrongProvider,
        "wrong_provider",
        "set the provider of this source, or the URL at the provider, to the other one",
    ),
    (
        Cause::WrongOptions,
        "wrong_options",
        "set the option that is named, or leave it at its default",
    ),
    (
        Cause::ProxyUrl,
        "proxy_url",
        "add the URL that is named to the source's option",
    ),
    (
        Cause::WrongMethod,
        "wrong_method",
        "let the provider, and what stands before ingest, send POST",
    ),
    (
        Cause::HeaderMissing,
        "header_missing",
        "let what stands before ingest pass the header on; if the provider sends none, turn its signing \
                 on",
    ),
    (
        Cause::HeaderEmpty,
        "header_empty",
        "let what stands before ingest pass the header's value on; the provider may lack a secret",
    ),
    (
        Cause::HeaderRepeated,
        "header_repeated",
        "let what stands before ingest pass the header on once",
    ),
    (
        Cause::HeaderFolded,
        "header_folded",
        "let what stands before ingest not join headers into one",
    ),
    (
        Cause::HeaderTruncated,
        "header_truncated",
        "look for a limit on headers in what stands before ingest",
    ),
    (
        Cause::HeaderChanged,
        "header_changed",
        "let what stands before ingest pass the header's value on as it is",
    ),
    (
        Cause::HeaderRenamed,
        "header_renamed",
        "let what stands before ingest keep the header's name",
    ),
    (
        Cause::SignatureEncoding,
        "signature_encoding",
        "let the signature come as the provider writes it, in the encoding that the source accepts",
    ),
    (
        Cause::OtherAlgorithm,
        "other_algorithm",
        "set HMAC-SHA256 at the sender: no other algorithm is verified",
    ),
    (
        Cause::TimestampMissing,
        "timestamp_missing",
        "let the sender write its time; max_age: 0s turns the check off where the provider has none",
    ),
    (
        Cause::TimestampMalformed,
        "timestamp_malformed",
        "let the sender write a number or ISO 8601 with an offset",
    ),
    (
        Cause::TimestampUnit,
        "timestamp_unit",
        "let the sender write its time in the unit that is named",
    ),
    (
        Cause::Clock,
        "clock",
        "correct the clock that is named (sluicectl check compares ours)",
    ),
    (
        Cause::Replay,
        "replay",
        "nothing, if nobody here sent it again: it was refused as it must be; a late retry is let \
                 through by a larger max_age",
    ),
    (
        Cause::TokenMissing,
        "token_missing",
        "set the URL with its token at the provider",
    ),
    (
        Cause::TokenWrong,
        "token_wrong",
        "set the URL with the token of today at the provider, or add its SHA-256 to token_sha256",
    ),
    (
        Cause::RequiredHeader,
        "required_header",
        "set the header and its value at the sender, as require_headers has it",
    ),
    (
        Cause::SourceUnknown,
        "source_unknown",
        "add the source to the settings, then redrive",
    ),
    (
        Cause::SourceDisabled,
        "source_disabled",
        "set enabled: true, or delete the webhook at the provider",
    ),
    (
        Cause::ProviderChanged,
        "provider_changed",
        "give the other provider a source of another name",
    ),
    (
        Cause::NoRawRecord,
        "no_raw_record",
        "look for who else writes to the raw topic: it has not the header that ingest writes",
    ),
    (
        Cause::NotPost,
        "not_post",
        "send it by POST: ingest takes nothing else",
    ),
    (
        Cause::BodyTooLarge,
        "body_too_large",
        "set the source's max_body larger, if the provider sends such bodies",
    ),
    (
        Cause::RedrivenTooOften,
        "redriven_too_often",
        "find out why each redrive failed before another one",
    ),
    (
        Cause::NotJson,
        "not_json",
        "ask the provider what it sends: it is no JSON",
    ),
    (
        Cause::KeyTwice,
        "key_twice",
        "ask the provider: a key that is read must stand once",
    ),
    (
        Cause::HeadersContradict,
        "headers_contradict",
        "look for what changes headers or body before ingest",
    ),
    (
        Cause::EnvironmentNotAccepted,
        "environment_not_accepted",
        "add the environment to the source's environments, if its events are wanted",
    ),
    (
        Cause::FieldMissing,
        "field_missing",
        "ask the provider: the body lacks what the identity or the type needs",
    ),
    (
        Cause::EventTooLarge,
        "event_too_large",
        "raise max.message.bytes of the event topics (sluicectl topics plan)",
    ),
    (
        Cause::Repetition,
        "repetition",
        "nothing: the event is there",
    ),
    (
        Cause::Unknown,
        "unknown",
        "compare the request with what the provider says that it sent, byte for byte",
    ),
];

impl Cause {
    /// The name in JSON and in the documentation.
    pub const fn name(self) -> &'static str {
        KNOWN[self as usize].1
    }

    /// What to do.
    pub const fn mend(self) -> &'static str {
        KNOWN[self as usize].2
    }
}

/// A cause with what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of the closed list.
    pub cause: Cause,
    /// It was shown by a computation, or it follows from the request itself; else it is the likeliest.
    pub proved: bool,
    /// One sentence for people: no secret, no body.
    pub says: String,
}

impl Finding {
    /// What was shown.
    pub fn proved(cause: Cause, says: impl Into<String>) -> Self {
        Self {
            cause,
            proved: true,
            says: says.into(),
        }
    }

    /// What is likely, and could be otherwise.
    pub fn likely(cause: Cause, says: impl Into<String>) -> Self {
        Self {
            cause,
            proved: false,
            says: says.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_cause_has_a_name_of_its_own_and_a_line_in_the_documentation() {
        let docs = include_str!("../../../../docs/sluicectl.md");
        let names: BTreeSet<&str> = KNOWN.iter().map(|(cause, ..)| cause.name()).collect();
        assert_eq!(names.len(), KNOWN.len());
        for (at, (cause, name, mend)) in KNOWN.into_iter().enumerate() {
            assert_eq!(
                (cause as usize, cause.name(), cause.mend()),
                (at, name, mend)
            );
        }
        for name in names {
            assert!(docs.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
