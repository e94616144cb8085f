//! Flowcode: QR codes, sent by Svix under the Standard Webhooks specification. What is odd about it,
//! and where that is known from, stands in this folder's `README.md`.

use std::time::Duration;

use super::api::{
    Authentic, Credentials, Delivery, PartitionKey, Provider, Signing, Spec, Variants, Verifier,
};
use super::schemes::age::check_age;
use super::schemes::standard_webhooks::{self, Family, Signed};
use super::signature::Key;
use crate::json;
use crate::raw::Headers;
use crate::reason::Refusal;
use crate::settings::reader::Node;

mod spec;

mod payload;

mod normalize;

mod sender;

mod description;

pub use sender::Sender;

use payload::{Body, TypeMember};
use spec::SPEC;

/// How far the attempt's time may be from the receipt where the source does not say otherwise: what
/// Svix's own libraries allow.
const MAX_AGE: Duration = Duration::from_secs(300);

/// The largest body where the source does not say otherwise, in bytes.
const MAX_BODY_BYTES: u64 = 2 << 20;

/// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, and some room for the attempts themselves. A replay by hand
/// may come later than that.
const RETRY_HORIZON: Duration = Duration::from_secs(28 * 3600);

/// The provider.
#[derive(Debug)]
pub struct Flowcode;

impl Provider for Flowcode {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn verifier(&self, options: &mut Node) -> Box<dyn Verifier> {
        Box::new(Source::read(options))
    }

    fn variants(&self) -> Variants {
        Variants {
            options: &[("headers", &["auto", "webhook", "svix"])],
            urls: None,
            headers: &[],
        }
    }
}

/// One source, with its options.
#[derive(Debug)]
struct Source {
    /// Which families of headers are accepted.
    families: &'static [Family],
    /// Where the event's type is looked for, in this order.
    type_members: &'static [TypeMember],
    /// Zero: age is not judged.
    max_age: Duration,
}

impl Source {
    /// Reads the options.
    fn read(options: &mut Node) -> Self {
        Self {
            families: options.choice("headers", &standard_webhooks::FAMILIES, &Family::ALL),
            type_members: options.choice("type_field", &payload::TYPE_FIELDS, &TypeMember::ALL),
            max_age: options.duration("max_age", MAX_AGE),
        }
    }
}

impl Verifier for Source {
    fn key(&self, content: &[u8]) -> Result<Key, String> {
        standard_webhooks::key(content)
    }

    fn signing(&self) -> Signing {
        Signing::Required
    }

    fn max_body(&self) -> u64 {
        MAX_BODY_BYTES
    }

    fn retry_horizon(&self) -> Duration {
        RETRY_HORIZON
    }

    fn partition_key(&self, headers: &Headers, _body: &[u8]) -> Option<PartitionKey> {
        standard_webhooks::partition_key(headers)
    }

    fn signed_at(&self, delivery: Delivery<'_>) -> Option<i64> {
        let signed = Signed::read(&delivery.request.headers, &Family::ALL);
        signed.ok().map(|signed| signed.millis())
    }

    fn verify<'a>(
        &self,
        delivery: Delivery<'a>,
        credentials: &Credentials,
    ) -> Result<Authentic<'a>, Refusal> {
        let Delivery { request, body } = delivery;
        let signed = Signed::read(&request.headers, self.families)?;
        let proof = standard_webhooks::verify_signature(&signed, &credentials.keys, body)?;
        check_age(request.received_at, signed.millis(), self.max_age)?;
        let members = json::utf8(body).and_then(json::object::<Body<'_>>)?;
        let event =
            normalize::Event::read(signed.id, &members.unwrap_or_default(), self.type_members);
        Ok(Authentic {
            proof,
            payload: Box::new(event),
        })
    }
}
