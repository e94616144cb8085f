//! Flock: referral campaigns. What is odd about it, and where that is known from, stands in this
//! folder's `README.md`.

use std::time::Duration;

use super::api::{
    Authentic, Credentials, Delivery, PartitionKey, Provider, Signing, Spec, Variants, Verifier,
};
use super::schemes::age::{body_time, check_body_time};
use super::schemes::hmac::Template;
use super::signature::{Key, header, text_key};
use crate::json;
use crate::raw::Headers;
use crate::reason::{Reason, Refusal};
use crate::settings::reader::Node;

mod spec;

mod signature;

mod payload;

mod normalize;

mod sender;

mod description;

#[cfg(test)]
mod rewrite_tests;

pub use sender::Sender;

use normalize::Event;
use payload::{Body, Data};
use signature::{Encoding, Field};
use spec::{SIGNATURE, SPEC};

/// How far the body's time may be from the receipt where the source does not say otherwise: the
/// documentation's example allows five minutes.
const MAX_AGE: Duration = Duration::from_secs(300);

/// The provider.
#[derive(Debug)]
pub struct Flock;

impl Provider for Flock {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn verifier(&self, options: &mut Node) -> Box<dyn Verifier> {
        Box::new(Source::read(options))
    }

    fn variants(&self) -> Variants {
        Variants {
            options: &[
                ("scheme", &["auto", "ts.data", "raw", "ts.raw", "tsdata"]),
                ("encoding", &["auto", "hex", "base64"]),
            ],
            urls: None,
            headers: &[],
        }
    }
}

/// One source, with its options.
#[derive(Debug)]
struct Source {
    /// What is tried, in this order.
    schemes: &'static [Template<Field>],
    encoding: Encoding,
    /// Zero: age is not judged.
    max_age: Duration,
}

impl Source {
    /// Reads the options.
    fn read(options: &mut Node) -> Self {
        Self {
            schemes: options.choice("scheme", &signature::SCHEMES, &signature::ALL),
            encoding: options.choice("encoding", &signature::ENCODINGS, Encoding::Auto),
            max_age: options.duration("max_age", MAX_AGE),
        }
    }
}

impl Verifier for Source {
    fn key(&self, content: &[u8]) -> Result<Key, String> {
        text_key(content)
    }

    fn signing(&self) -> Signing {
        Signing::Required
    }

    fn topic_types(&self) -> Vec<&str> {
        SPEC.documented.to_vec()
    }

    fn partition_key(&self, _headers: &Headers, body: &[u8]) -> Option<PartitionKey> {
        payload::partition_key(body)
    }

    fn signed_at(&self, delivery: Delivery<'_>) -> Option<i64> {
        let text = json::utf8(delivery.body).ok()?;
        body_time(json::object::<Body<'_>>(text).ok()??.timestamp)
    }

    fn verify<'a>(
        &self,
        delivery: Delivery<'a>,
        credentials: &Credentials,
    ) -> Result<Authentic<'a>, Refusal> {
        let Delivery { request, body } = delivery;
        let mac = signature::decode(header(&request.headers, SIGNATURE)?, self.encoding)?;
        let parsed = json::utf8(body).and_then(json::object::<Body<'_>>);
        let readable = match &parsed {
            Ok(members) => members.as_ref(),
            Err(_) => None,
        };
        let proof =
            signature::verify_signature(self.schemes, &credentials.keys, body, readable, &mac)?;

        // What does not parse has no time that could be judged.
        let members = parsed?.unwrap_or_default();
        check_body_time(members.timestamp, request.received_at, self.max_age)?;
        let data = Data::read(members.data)?;
        let name = json::filled(members.name)
            .ok_or_else(|| Reason::MissingField.because("the body has no name of its event"))?;
        Ok(Authentic {
            proof,
            payload: Box::new(Event {
                mac,
                name,
                members,
                data,
            }),
        })
    }
}
