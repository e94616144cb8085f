//! Sending as Flowcode does.

use serde_json::json;

use super::spec::SPEC;
use crate::identity::sha256;
use crate::providers::signature::base64_bytes;
use crate::providers::testing::{self, TestSource, Unsigned};

/// One type that a source in tests gives a topic of its own, and one that it does not know.
const EVENTS: &[&str] = &["scan.created", "code.never_heard_of"];

#[derive(Debug)]
pub struct Sender;

impl testing::Sender for Sender {
    fn source(&self, name: &str) -> TestSource {
        let secret = sha256(format!("{name}-flowcode-secret").as_bytes());
        TestSource {
            settings: json!({"provider": SPEC.name, "secrets": [name], "events": ["scan.created"]}),
            files: vec![(
                name.to_owned(),
                format!("whsec_{}", testing::base64(&secret)).into_bytes(),
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
            "timestamp": testing::iso8601(at),
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
        let (id, time) = (&request.delivery_id, at.to_string());
        let key = secret.strip_prefix(b"whsec_").and_then(base64_bytes);
        let parts: [&[u8]; 5] = [id.as_bytes(), b".", time.as_bytes(), b".", &request.body];
        let mac = testing::mac(key.as_deref().unwrap_or(secret), &parts);
        vec![
            ("webhook-id".to_owned(), id.clone()),
            ("webhook-timestamp".to_owned(), time),
            (
                "webhook-signature".to_owned(),
                format!("v1,{}", testing::base64(&mac)),
            ),
        ]
    }
}
