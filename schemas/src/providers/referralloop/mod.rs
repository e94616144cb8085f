//! ReferralLoop: waitlists. What is odd about it, and where that is known from, stands in this
//! folder's `README.md`.

use std::time::Duration;

use super::api::{
    Authentic, Credentials, Delivery, PartitionKey, Proof, Provider, Signing, Spec, Subscribe,
    Variants, Verifier,
};
use super::schemes::age::{body_time, check_body_time};
use super::schemes::hmac::Template;
use super::signature::{Key, header, text_key};
use crate::json;
use crate::raw::{Headers, RawRequest};
use crate::reason::{Reason, Refusal};
use crate::settings::reader::Node;

mod spec;

mod signature;

mod payload;

mod normalize;

mod sender;

mod description;

mod subscribe;

pub use sender::Sender;

use payload::Body;
use signature::Field;
use spec::{SIGNATURE, SPEC};

/// 1 + 5 + 15 + 60 minutes between five attempts that may each hang for a while.
const RETRY_HORIZON: Duration = Duration::from_secs(90 * 60);

/// The provider.
#[derive(Debug)]
pub struct ReferralLoop;

impl Provider for ReferralLoop {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn verifier(&self, options: &mut Node) -> Box<dyn Verifier> {
        Box::new(Source::read(options))
    }

    fn variants(&self) -> Variants {
        Variants {
            options: &[("signed", &["auto", "raw", "compact"])],
            urls: None,
            headers: &[],
        }
    }
}

/// One source, with its options.
#[derive(Debug)]
struct Source {
    signing: Signing,
    /// What may be under a signature, in the order of trying.
    contents: &'static [Template<Field>],
    /// Zero: age is not judged.
    max_age: Duration,
    /// What the provider is to send here, where the operator's command line sees to that.
    subscribe: Option<Subscribe>,
}

impl Source {
    /// Reads the options.
    fn read(options: &mut Node) -> Self {
        let signing = [
            ("off", Signing::Off),
            ("optional", Signing::Optional),
            ("required", Signing::Required),
        ];
        Self {
            signing: options.choice("signature", &signing, Signing::Optional),
            contents: options.choice("signed", &signature::CONTENTS, &signature::ALL),
            // A retry may carry the time of the first attempt, so age is judged only where asked.
            max_age: options.duration("max_age", Duration::ZERO),
            subscribe: subscribe::read(options),
        }
    }

    /// Whether this request is to be proved by its signature. Else its token proves it.
    fn by_signature(&self, request: &RawRequest, credentials: &Credentials) -> bool {
        match self.signing {
            Signing::Required => true,
            // Without a secret nothing can be said of a signature, so it is passed over.
            Signing::Optional => !credentials.keys.is_empty() && carries_signature(request),
            Signing::Off => false,
        }
    }

    fn verify_request(
        &self,
        delivery: Delivery<'_>,
        credentials: &Credentials,
        is_json: bool,
    ) -> Result<Proof, Refusal> {
        let Delivery { request, body } = delivery;
        if self.by_signature(request, credentials) {
            let mac = signature::decode(header(&request.headers, SIGNATURE)?)?;
            signature::verify_signature(self.contents, &credentials.keys, body, is_json, &mac)
        } else if request.token {
            let passed_over = self.signing == Signing::Optional && carries_signature(request);
            Ok(Proof::token(passed_over))
        } else {
            Err(Reason::TokenMissing
                .because("neither a signature nor a token or required header proves the request"))
        }
    }
}

/// An empty header, as a sender without a secret may write it, is none: who could send it could leave it
/// out.
fn carries_signature(request: &RawRequest) -> bool {
    let mut values = request.headers.all(SIGNATURE);
    values.any(|value| !value.trim_ascii().is_empty())
}

impl Verifier for Source {
    fn key(&self, content: &[u8]) -> Result<Key, String> {
        text_key(content)
    }

    fn signing(&self) -> Signing {
        self.signing
    }

    fn retry_horizon(&self) -> Duration {
        RETRY_HORIZON
    }

    fn topic_types(&self) -> Vec<&str> {
        SPEC.documented.to_vec()
    }

    fn subscribe(&self) -> Option<&Subscribe> {
        self.subscribe.as_ref()
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
        let parsed = json::utf8(delivery.body).and_then(json::object::<Body<'_>>);
        let proof = self.verify_request(delivery, credentials, parsed.is_ok())?;

        // What does not parse has no time that could be judged.
        let members = parsed?.unwrap_or_default();
        check_body_time(
            members.timestamp,
            delivery.request.received_at,
            self.max_age,
        )?;
        let event = normalize::Event::read(&members)?;
        Ok(Authentic {
            proof,
            payload: Box::new(event),
        })
    }
}
