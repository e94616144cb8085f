//! Sending as ReferralLoop does, and signing as it says that it will.

use serde_json::json;

use super::Source;
use super::description::DESCRIPTION;
use super::spec::{SIGNATURE, SPEC};
use crate::providers::api::{Signing, Spec};
use crate::providers::description::Description;
use crate::providers::sending::{self, SendingSource, Unsigned};

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
        let token = format!("{name}-token-5b0e7a31");
        sending::TestSource {
            settings: json!({
                "provider": SPEC.name,
                "secrets": [name],
                "token_sha256": [hex::encode(crate::identity::sha256(token.as_bytes()))],
                "options": {"signature": "optional"},
            }),
            files: vec![(
                name.to_owned(),
                format!("{name}-referralloop-secret").into_bytes(),
            )],
            token: Some(token),
        }
    }

    fn events(&self) -> &'static [&'static str] {
        SPEC.documented
    }

    fn sample(&self, event: &str, n: u64, at: i64) -> Unsigned {
        let (id, email) = (format!("signup-{n}"), format!("person{n}@example.com"));
        let time = sending::iso8601(at);
        let data = match event {
            "signup.created" => json!({
                "id": id, "email": email, "name": "John Doe", "position": 10,
                "referral_code": format!("CODE{n}"), "created_at": time,
            }),
            "signup.position_changed" => json!({
                "id": id, "email": email, "old_position": 10, "new_position": 5, "position_change": -5,
            }),
            _ => json!({"id": id, "email": email}),
        };
        let body = json!({
            "event_type": event,
            "waitlist_id": "123e4567-e89b-12d3-a456-426614174000",
            "data": data,
            "timestamp": time,
        });
        Unsigned {
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
            delivery_id: String::new(),
        }
    }

    fn sign(&self, request: &Unsigned, secret: &[u8], _at: i64) -> Vec<(String, String)> {
        let mac = sending::mac(secret, &[&request.body]);
        vec![(SIGNATURE.to_owned(), format!("sha256={}", hex::encode(mac)))]
    }

    /// The sample is as JavaScript writes it, so that its bytes are the same in each of the readings of what
    /// is signed. Without a secret, or where no signature is looked at, the token alone proves it.
    fn sign_for(
        &self,
        sample: Unsigned,
        source: &SendingSource<'_>,
        at: i64,
    ) -> Result<Unsigned, String> {
        let options = Source::read(&mut source.options());
        if options.signing == Signing::Off || source.secrets.is_empty() {
            return Ok(sample);
        }
        let signature = self.sign(&sample, source.secret()?, at);
        Ok(sample.with(signature))
    }
}
