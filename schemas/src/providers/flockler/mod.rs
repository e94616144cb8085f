//! Flockler: social content. What is odd about it, and where that is known from, stands in this
//! folder's `README.md`.

use std::borrow::Cow;

use super::api::{
    Authentic, Credentials, Delivery, PartitionKey, Provider, Signing, Spec, Variants, Verifier,
};
use super::signature::{Key, header, text_key};
use crate::json;
use crate::raw::Headers;
use crate::reason::{Reason, Refusal};
use crate::settings::reader::Node;

mod spec;

mod lowercase;

mod options;

mod signature;

mod payload;

mod normalize;

mod sender;

mod description;

#[cfg(test)]
mod rewrite_tests;

pub use sender::Sender;

use options::Source;
use payload::{Article, Body};
use signature::SignedHeaders;
use spec::{ACTION, ACTIONS, ENVIRONMENT, ENVIRONMENTS, SIGNATURE, SPEC};

/// The provider.
#[derive(Debug)]
pub struct Flockler;

impl Provider for Flockler {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn verifier(&self, options: &mut Node) -> Box<dyn Verifier> {
        Box::new(Source::read(options))
    }

    fn variants(&self) -> Variants {
        Variants {
            options: &[
                ("encoding", &["auto", "hex", "base64", "base64_hex"]),
                (
                    "lowercase",
                    &["auto", "unicode", "simple", "final_sigma", "ascii"],
                ),
            ],
            urls: Some("webhook_urls"),
            headers: &[(ACTION, &ACTIONS), (ENVIRONMENT, &ENVIRONMENTS)],
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

    fn by_sequence(&self) -> bool {
        true
    }

    fn topic_types(&self) -> Vec<&str> {
        SPEC.documented.to_vec()
    }

    fn partition_key(&self, _headers: &Headers, body: &[u8]) -> Option<PartitionKey> {
        payload::partition_key(body)
    }

    fn files(&self) -> &[String] {
        &self.webhook_url_files
    }

    fn check_file(&self, content: &[u8]) -> Result<(), String> {
        match std::str::from_utf8(content) {
            Ok("") => Err("the webhook URL is empty".into()),
            Ok(_) => Ok(()),
            Err(_) => Err("the webhook URL is not UTF-8 text".into()),
        }
    }

    fn verify<'a>(
        &self,
        delivery: Delivery<'a>,
        credentials: &Credentials,
    ) -> Result<Authentic<'a>, Refusal> {
        let Delivery { request, body } = delivery;
        let value = header(&request.headers, SIGNATURE)?;
        let mac = signature::decode(value, self.encoding)?;
        let (proof, way) = signature::verify_signature(self, credentials, delivery, &mac)?;
        let headers = SignedHeaders::of(request);
        let said = self.said(headers, body).map_err(|refusal| {
            let (action, environment) = (way.apply(headers.action), way.apply(headers.environment));
            let lowered = SignedHeaders {
                action: &action,
                environment: &environment,
            };
            let body = way.apply(body);
            as_signed(refusal, self.said(lowered, &body).err())
        })?;
        Ok(Authentic {
            proof,
            payload: Box::new(normalize::Event {
                mac,
                request_id: request.id,
                action: said.action,
                environment: said.environment,
                id: said.id,
                article: said.article,
            }),
        })
    }
}

/// What an authentic request says.
struct Said<'a> {
    action: &'static str,
    environment: &'static str,
    id: Cow<'a, str>,
    article: Article<'a>,
}

impl Source {
    fn said<'a>(&self, headers: SignedHeaders<'_>, body: &'a [u8]) -> Result<Said<'a>, Refusal> {
        let Body { action, article } = json::utf8(body).and_then(Body::read)?;
        let named = json::string(action);

        // The signature ignores case, so these are as they should be only once they are in their sets.
        let action = one_of(headers.action, ACTION, &ACTIONS)?;
        let environment = one_of(headers.environment, ENVIRONMENT, &ENVIRONMENTS)?;
        if named.as_deref().is_some_and(|named| named != action) {
            return Err(Reason::ContradictoryHeaders
                .because(format!("{ACTION} and the body tell different actions")));
        }
        if !self.environments.contains(&environment) {
            return Err(Reason::EnvironmentNotAccepted.because(format!(
                "the source does not accept the environment {environment}"
            )));
        }
        let missing = |what| Reason::MissingField.because(format!("the body has no {what}"));
        named.ok_or_else(|| missing("action"))?;
        let id = json::id(article.id).ok_or_else(|| missing("article.id"))?;
        Ok(Said {
            action,
            environment,
            id,
            article,
        })
    }
}

/// Why an authentic request is refused, next to why it would be as it was signed: in lower case. Where the
/// two differ, somebody changed the case of a request that he recorded, which proves nothing about its
/// sender.
fn as_signed(refusal: Refusal, lowered: Option<Refusal>) -> Refusal {
    if lowered.is_some_and(|lowered| lowered.reason == refusal.reason) {
        return refusal;
    }
    Reason::SignatureMismatch.because(format!(
        "the signature fits in lower case alone; as it came the request would be {}",
        refusal.reason
    ))
}

/// The header's value, which must be one of a documented set.
fn one_of(value: &[u8], name: &str, set: &[&'static str]) -> Result<&'static str, Refusal> {
    let mut known = set.iter().filter(|known| known.as_bytes() == value);
    known.next().copied().ok_or_else(|| {
        Reason::ContradictoryHeaders.because(if value.is_empty() {
            format!("{name} is missing, or stands more than once")
        } else {
            format!("{name} is none of {}", set.join(", "))
        })
    })
}
