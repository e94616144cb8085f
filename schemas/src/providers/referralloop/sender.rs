//! Sending as ReferralLoop does, and signing as it says that it will.

use serde_json::json;

use super::spec::{SIGNATURE, SPEC};
use crate::identity::sha256;
use crate::providers::testing::{self, TestSource, Unsigned};

#[derive(Debug)]
pub struct Sender;

impl testing::Sender for Sender {
    fn source(&self, name: &str) -> TestSource {
        let token = format!("{name}-token-5b0e7a31");
        TestSource {
            settings: json!({
                "provider": SPEC.name,
                "secrets": [name],
                "token_sha256": [hex::encode(sha256(token.as_bytes()))],
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
        let time = testing::iso8601(at);
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
        let mac = testing::mac(secret, &[&request.body]);
        vec![(SIGNATURE.to_owned(), format!("sha256={}", hex::encode(mac)))]
    }
}
