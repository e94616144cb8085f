//! Sending as Flock does.

use std::borrow::Cow;

use serde_json::json;

use super::Source;
use super::description::DESCRIPTION;
use super::payload::Body;
use super::signature::{self, Encoding, Field};
use super::spec::{SIGNATURE, SPEC};
use crate::json;
use crate::providers::api::Spec;
use crate::providers::description::Description;
use crate::providers::schemes::hmac::Template;
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
        sending::TestSource {
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
                time = sending::iso8601(at),
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
        let mac = mac(&signature::ALL, &request.body, secret);
        vec![(SIGNATURE.to_owned(), hex::encode(mac))]
    }

    /// As the first of the accepted schemes has it whose fields the body has.
    fn sign_for(
        &self,
        sample: Unsigned,
        source: &SendingSource<'_>,
        _at: i64,
    ) -> Result<Unsigned, String> {
        let options = Source::read(&mut source.options());
        let mac = mac(options.schemes, &sample.body, source.secret()?);
        let value = match options.encoding {
            Encoding::Auto | Encoding::Hex => hex::encode(mac),
            Encoding::Base64 => sending::base64(&mac),
        };
        Ok(sample.with([(SIGNATURE.to_owned(), value)]))
    }
}

/// The MAC over what the first scheme signs whose fields the body has; over the body, where none has them.
fn mac(schemes: &[Template<Field>], body: &[u8], secret: &[u8]) -> [u8; 32] {
    let members = json::utf8(body).and_then(json::object::<Body<'_>>);
    let members = members.ok().flatten().unwrap_or_default();
    let time = signature::time(&members);
    let field = |field| match field {
        Field::Time => time.as_deref().map(|time| Cow::Borrowed(time.as_bytes())),
        Field::Data => members
            .data()
            .map(|data| Cow::Borrowed(data.get().as_bytes())),
        Field::Body | Field::Object => Some(Cow::Borrowed(body)),
    };
    let message = schemes.iter().find_map(|scheme| scheme.message(field));
    let parts: Vec<&[u8]> = match &message {
        Some(parts) => parts.iter().map(AsRef::as_ref).collect(),
        None => vec![body],
    };
    sending::mac(secret, &parts)
}
