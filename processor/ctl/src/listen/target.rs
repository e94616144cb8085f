//! The address that is sent to: one request at a time, tried again while the target is away, within a bound.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::redirect::Policy;
use serde::Serialize;
use sluice_service::causes::in_words;

use super::outgoing::Outgoing;
use crate::failure::Failure;
use crate::output::plain;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before the second try; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// Whether the target answered that it has it: 200 to 299.
    pub delivered: bool,
    /// The status of the last answer.
    pub status: Option<u16>,
    /// How long the last try took, milliseconds.
    pub ms: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// Why there was no answer, or nothing was sent.
    pub error: Option<String>,
}

impl Delivery {
    /// Of what was not sent.
    pub fn none(why: &str) -> Self {
        Self {
            delivered: false,
            status: None,
            ms: 0,
            attempts: 0,
            error: Some(why.to_owned()),
        }
    }

    /// Whether the same request may get another answer soon. A redirect and what the target says of the
    /// request itself stay as they are.
    fn may_change(&self) -> bool {
        self.status
            .is_none_or(|status| matches!(status, 408 | 429 | 500..))
    }

    /// In a few words.
    pub fn words(&self) -> String {
        match (self.status, &self.error) {
            (Some(status), _) => format!("{status} in {} ms", self.ms),
            (None, Some(error)) => plain(error),
            (None, None) => "no answer".to_owned(),
        }
    }
}

/// The address, and the client for it.
pub struct Target {
    http: reqwest::Client,
    url: Url,
    shown: String,
    retry: Duration,
}

impl Target {
    /// A client for an address: how long it may take to answer, and for how long a request is tried again.
    pub fn new(address: &str, timeout: Duration, retry: Duration) -> Result<Self, Failure> {
        let usage = |message: &str| Failure::Usage(message.to_owned());
        let url = Url::parse(address).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url =
            url.ok_or_else(|| usage("--forward must be a URL such as http://localhost:3000"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(usage(
                "--forward must not have a name or a password: command lines are seen by others",
            ));
        }
        let mut shown = url.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            // Bodies go to this address and to no proxy that a variable of the environment names.
            .no_proxy()
            .build();
        Ok(Self {
            http: http.map_err(|error| Failure::Failed(error.to_string()))?,
            shown: shown.to_string(),
            url,
            retry,
        })
    }

    /// The address without its query, which may have a token.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What the operator should know of an address that is not this machine.
    pub fn warning(&self) -> Option<String> {
        let host = self.url.host_str().unwrap_or_default();
        if is_loopback(host) {
            return None;
        }
        let open = if self.url.scheme() == "http" {
            ", and nothing encrypts them on their way"
        } else {
            ""
        };
        Some(format!(
            "{host} is not this machine: bodies with persons' data go there{open}"
        ))
    }

    /// Sends a request until it has an answer that stays, or the time for tries is over.
    pub async fn deliver(&self, request: &Outgoing) -> Delivery {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut delivery = self.once(request).await;
            delivery.attempts = attempts;
            if !delivery.may_change() || begun.elapsed() + pause > self.retry {
                return delivery;
            }
            let (shown, words) = (&self.shown, delivery.words());
            eprintln!("{shown}: {words}; again in {} ms", pause.as_millis());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, request: &Outgoing) -> Delivery {
        let begun = Instant::now();
        let made = self.http.request(request.method.clone(), self.url.clone());
        let made = made.headers(request.headers.clone());
        let answer = made.body(request.body.clone()).send().await;
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, error) = match answer {
            Ok(answer) => (Some(answer.status().as_u16()), None),
            Err(error) => (None, Some(in_words(error))),
        };
        Delivery {
            delivered: status.is_some_and(|status| (200..300).contains(&status)),
            status,
            ms,
            attempts: 1,
            error,
        }
    }
}

/// Whether a host is this machine by its name or address.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_named = host == "localhost" || host.ends_with(".localhost");
    is_named || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[path = "../../../../tests/src/harness/target.rs"]
mod server;

#[cfg(test)]
mod tests;
