//! ReferralLoop's calls: an event, a URL and a waitlist in, the id of the subscription out.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::provider_apis::http::{Answer, Call, Client, Ended};
use crate::provider_apis::{Calling, authorization};

/// Where the API is.
const BASE: &str = "https://www.referralloop.dev";

/// The longest id that is kept, in bytes.
const ID_BYTES: usize = 128;

/// ReferralLoop's API under one key.
pub struct Api(Client);

/// What came of a call to subscribe.
#[derive(Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// It is new, under this id.
    Made(String),
    /// It is new, and the answer has no id that can be read.
    Nameless,
    /// It was there, under this id where the answer has one; whether an attempt before may have made it.
    There(Option<String>, bool),
}

/// What came of a call to unsubscribe.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsubscribed {
    /// It is deleted.
    Deleted,
    /// It was not there.
    Gone,
}

#[derive(Serialize)]
struct Request<'a> {
    event_type: &'a str,
    target_url: &'a str,
    waitlist_id: &'a str,
}

#[derive(Deserialize)]
struct Reply {
    subscription: Subscription,
}

#[derive(Deserialize)]
struct Subscription {
    id: String,
}

impl Api {
    /// The API under the key of this file.
    pub fn new(settings: &Settings, calling: &Calling, key_file: &str) -> Result<Self, Failure> {
        let key = authorization(&settings.secrets_dir, key_file, "Bearer ")?;
        Client::new("ReferralLoop", BASE, calling, (key, key_file)).map(Self)
    }

    /// Subscribes a URL to an event of a waitlist. Twice is once: the second answer is 409.
    pub async fn subscribe(
        &self,
        event: &str,
        target_url: &str,
        waitlist: &str,
    ) -> Result<Subscribed, Ended> {
        let request = Request {
            event_type: event,
            target_url,
            waitlist_id: waitlist,
        };
        let call = Call {
            method: Method::POST,
            path: &["api", "v1", "webhooks", "subscribe"],
            query: &[],
            body: serde_json::to_vec(&request).ok(),
            is_repeatable: true,
        };
        let answer = self.0.call(&call).await?;
        let id = id(&answer.body);
        match answer.status {
            409 => Ok(Subscribed::There(id, answer.doubted)),
            _ if answer.is_success() => Ok(id.map_or(Subscribed::Nameless, Subscribed::Made)),
            _ => Err(self.refused(&answer, "the event or the waitlist may be none of its own")),
        }
    }

    /// Deletes a subscription. Twice is once: the second answer is 404.
    pub async fn unsubscribe(&self, id: &str) -> Result<Unsubscribed, Ended> {
        let call = Call {
            method: Method::DELETE,
            path: &["api", "v1", "webhooks", "unsubscribe", id],
            query: &[],
            body: None,
            is_repeatable: true,
        };
        let answer = self.0.call(&call).await?;
        match answer.status {
            404 => Ok(Unsubscribed::Gone),
            _ if answer.is_success() => Ok(Unsubscribed::Deleted),
            _ => Err(self.refused(&answer, "is --api-url its API?")),
        }
    }

    fn refused(&self, answer: &Answer, hint: &str) -> Ended {
        let (who, status) = (self.0.who(), answer.status);
        Ended {
            failure: Failure::Failed(format!("{who} refuses it ({status}): {hint}")),
            doubted: answer.doubted,
        }
    }
}

/// The id in an answer.
fn id(body: &[u8]) -> Option<String> {
    let reply: Reply = serde_json::from_slice(body).ok()?;
    Some(reply.subscription.id).filter(|id| is_id(id))
}

/// Whether a text may be an id: it stands in the path of a call.
pub fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=ID_BYTES).contains(&text.len()) && text.bytes().all(plain)
}
