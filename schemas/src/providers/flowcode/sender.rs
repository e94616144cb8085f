//! Sending as Flowcode does.

use serde_json::{Value, json};

use super::Source;
use super::description::DESCRIPTION;
use super::spec::SPEC;
use crate::identity::sha256;
use crate::providers::api::Spec;
use crate::providers::description::Description;
use crate::providers::schemes::standard_webhooks::Family;
use crate::providers::sending::{self, SendingSource, Unsigned};
use crate::providers::signature::base64_bytes;

/// One type that a source in tests gives a topic of its own, and one that it does not know.
const EVENTS: &[&str] = &["scan.created", "code.never_heard_of"];

/// Sends as the provider does.
#[derive(Debug)]
pub struct Sender;

impl sending::Sender for Sender {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    #[cfg(feature = "testing")]
    fn source(&self, name: &str) -> sending::TestSource {
        let secret = sha256(format!("{name}-flowcode-secret").as_bytes());
        sending::TestSource {
            settings: json!({"provider": SPEC.name, "secrets": [name], "events": ["scan.created"]}),
            files: vec![(
                name.to_owned(),
                format!("whsec_{}", sending::base64(&secret)).into_bytes(),
            )],
            token: None,
        }
    }

    fn events(&self) -> &'static [&'static str] {
        EVENTS
    }

    fn grows_old(&self) -> bool {
        true
    }

    fn sample(&self, event: &str, n: u64, at: i64) -> Unsigned {
        let body = json!({
            "type": event,
            "timestamp": sending::iso8601(at),
            "data": {"code_id": format!("code_{n}"), "scans": n},
        });
        // Letters and digits, as Svix's ids: a full stop would not be accepted.
        let id = hex::encode(&sha256(format!("{event} {n} {at}").as_bytes())[..12]);
        Unsigned {
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
            delivery_id: format!("msg_{id}"),
        }
    }

    fn sign(&self, request: &Unsigned, secret: &[u8], at: i64) -> Vec<(String, String)> {
        signed(Family::Webhook, request, secret, at)
    }

    fn sign_for(
        &self,
        mut sample: Unsigned,
        source: &SendingSource<'_>,
        at: i64,
    ) -> Result<Unsigned, String> {
        let mut node = source.options();
        // The member that has the type is as the source expects it.
        let member = node.peek("type_field").and_then(Value::as_str);
        if let Some(member) = member.filter(|member| *member != "auto") {
            let body = String::from_utf8_lossy(&sample.body);
            let named = body.replacen(r#""type":"#, &format!(r#""{member}":"#), 1);
            sample.body = named.into_bytes();
        }
        let families = Source::read(&mut node).families;
        let family = families.first().copied().unwrap_or(Family::Webhook);
        let mut secrets = source.secrets.iter();
        let secret = secrets.find(|secret| secret.starts_with(SHARED));
        let secret = secret.ok_or(
            "no secret of the source is a shared one (whsec_): with a public key nothing can be signed",
        )?;
        let headers = signed(family, &sample, secret, at);
        Ok(sample.with(headers))
    }
}

/// What a shared secret begins with.
const SHARED: &[u8] = b"whsec_";

/// The three headers under the names of a family.
fn signed(family: Family, request: &Unsigned, secret: &[u8], at: i64) -> Vec<(String, String)> {
    let (id, time) = (&request.delivery_id, at.to_string());
    let key = secret.strip_prefix(SHARED).and_then(base64_bytes);
    let parts: [&[u8]; 5] = [id.as_bytes(), b".", time.as_bytes(), b".", &request.body];
    let mac = sending::mac(key.as_deref().unwrap_or(secret), &parts);
    vec![
        (family.id().to_owned(), id.clone()),
        (family.timestamp().to_owned(), time),
        (
            family.signature().to_owned(),
            format!("v1,{}", sending::base64(&mac)),
        ),
    ]
}
