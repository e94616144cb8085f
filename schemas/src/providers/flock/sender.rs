//! Sending as Flock does.

use serde_json::json;

use super::spec::{SIGNATURE, SPEC};
use crate::json;
use crate::providers::testing::{self, TestSource, Unsigned};

#[derive(Debug)]
pub struct Sender;

impl testing::Sender for Sender {
    fn source(&self, name: &str) -> TestSource {
        TestSource {
            settings: json!({"provider": SPEC.name, "secrets": [name]}),
            files: vec![(name.to_owned(), format!("{name}-flock-secret").into_bytes())],
            token: None,
        }
    }

    fn events(&self) -> &'static [&'static str] {
        SPEC.documented
    }

    fn grows_old(&self) -> bool {
        true
    }

    fn sample(&self, event: &str, n: u64, at: i64) -> Unsigned {
        let entity = event.split('.').next().unwrap_or_default();
        let body = if event == "invitee.accepted" {
            // Shape A, its keys in the order of the documentation.
            format!(
                r#"{{"name":{name},"entity":"invitee","entityId":"customer_{n}","data":{{"campaignId":"campaign_12345","referrer":{{"id":"customer_r{n}"}},"invitee":{{"id":"customer_{n}"}},"inviteeReward":{{"id":"c_reward_i{n}"}},"referrerReward":{{"id":"c_reward_r{n}"}}}},"timestamp":{at}}}"#,
                name = json!(event),
            )
        } else {
            format!(
                r#"{{"entity":{entity},"entityId":"{entity_id}_{n}","organizationId":"org_12345","applicationId":"app_12345","campaignId":"campaign_12345","name":{name},"description":"One of Flock's events","timestamp":"{time}"}}"#,
                entity = json!(entity),
                entity_id = entity.replace(['"', '\\'], ""),
                name = json!(event),
                time = testing::iso8601(at),
            )
        };
        Unsigned {
            headers: Vec::new(),
            body: body.into_bytes(),
            delivery_id: String::new(),
        }
    }

    /// Shape A as its older documentation says, over the timestamp and `data`; shape B over the body.
    fn sign(&self, request: &Unsigned, secret: &[u8], _at: i64) -> Vec<(String, String)> {
        let body = request.body.as_slice();
        let members = json::utf8(body).and_then(json::object::<super::payload::Body<'_>>);
        let members = members.ok().flatten().unwrap_or_default();
        let mac = match (members.data(), json::token(members.timestamp)) {
            (Some(data), Some(time)) => {
                testing::mac(secret, &[time.as_bytes(), b".", data.get().as_bytes()])
            }
            _ => testing::mac(secret, &[body]),
        };
        vec![(SIGNATURE.to_owned(), hex::encode(mac))]
    }
}
