//! OAUTHBEARER with client credentials: the token's endpoint is asked by ours, not by librdkafka, which is
//! built without an HTTP client.
//!
//! A client asks for a token by an event, and only polling serves events. So each client is polled once
//! before its first call that blocks ([`log_in`]), and from then on as often as it is used. All clients with
//! the same credentials share one token: most of them find it there.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;
use sluice_schemas::identity::sha256;
use sluice_schemas::settings::{Fault, OIDC};

use crate::telemetry::Repeated;

mod endpoint;

use endpoint::{Endpoint, Token};

/// The property by which a client carries the name of its token, to the callback that asks for it.
const CARRIER: &str = "sasl.oauthbearer.config";

/// The property that says that there is an endpoint.
const METHOD: &str = OIDC[0];

/// What the name begins with.
const NAME: &str = "sluice-token-";

/// How many tokens are remembered: one for each set of credentials, of which a rotation makes another.
const MAX_SOURCES: usize = 16;

/// For how long a failed question to the endpoint is the answer to all clients that ask.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// A token that is good for less than this is not worth giving out where the endpoint fails.
const LAST: Duration = Duration::from_secs(30);

/// A client asks again after four fifths of what it was given; it gets a new token from there on.
const RENEW_PERCENT: u32 = 25;

/// What a client's context returns when it is asked for a token.
pub type Issued = Result<OAuthToken, Box<dyn Error>>;

/// How many events of a client are served for its login: the question for a token comes first.
const EVENTS: usize = 4;

static SOURCES: Mutex<BTreeMap<String, Arc<Source>>> = Mutex::new(BTreeMap::new());

/// Where the token of some clients comes from.
struct Source {
    used: Mutex<Instant>,
    endpoint: Endpoint,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<(Token, Instant)>,
    failed: Option<(Instant, String)>,
    log: Repeated,
}

/// Takes the endpoint out of a client's properties, where it has one, and remembers it under a name that the
/// client brings along. Reads `https.ca.location`; connects nowhere.
pub(super) fn take(config: &mut ClientConfig) -> Result<(), Fault> {
    let mut found = BTreeMap::new();
    for property in OIDC {
        if let Some(value) = config.get(property) {
            found.insert(property, value.to_owned());
            config.remove(property);
        }
    }
    // A secret alone, of a file that several deployments share, is not used.
    if !found.contains_key(METHOD) {
        return Ok(());
    }
    let endpoint = Endpoint::new(&found)?;
    let name = endpoint.digest(|text| sha256(text.as_bytes()));
    let name = name
        .iter()
        .fold(NAME.to_owned(), |name, byte| name + &format!("{byte:02x}"));
    let mut sources = SOURCES.lock();
    if !sources.contains_key(&name) {
        if sources.len() >= MAX_SOURCES {
            let oldest = sources.iter().min_by_key(|(_, source)| *source.used.lock());
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                sources.remove(&oldest);
            }
        }
        let source = Source {
            used: Mutex::new(Instant::now()),
            endpoint,
            state: Mutex::default(),
        };
        sources.insert(name.clone(), Arc::new(source));
    }
    config.set(CARRIER, name);
    Ok(())
}

/// The token of a client, as its context returns it. `carried` is what the client brings along.
pub fn token(carried: Option<&str>) -> Issued {
    let source = carried.and_then(|name| SOURCES.lock().get(name).cloned());
    let Some(source) = source else {
        return Err("there is no endpoint for this client's token".into());
    };
    *source.used.lock() = Instant::now();
    let token = source.token(Instant::now())?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let left = token.1.saturating_duration_since(Instant::now());
    Ok(OAuthToken {
        token: token.0.text,
        principal_name: source.endpoint.client_id().to_owned(),
        lifetime_ms: i64::try_from((since + left).as_millis())?,
    })
}

/// Whether clients of these properties ask for a token.
pub fn needs_token(config: &ClientConfig) -> bool {
    config
        .get(CARRIER)
        .is_some_and(|name| name.starts_with(NAME))
}

/// Lets a new client ask for its token, where it needs one, before its first call that blocks. `poll` polls
/// it once, without waiting.
pub fn log_in(config: &ClientConfig, mut poll: impl FnMut()) {
    if needs_token(config) {
        for _ in 0..EVENTS {
            poll();
        }
    }
}

impl Source {
    /// The token and when it ends. One thread asks the endpoint, and the others wait for its answer.
    fn token(&self, now: Instant) -> Result<(Token, Instant), String> {
        let mut state = self.state.lock();
        let left = |end: Instant| end.saturating_duration_since(now);
        if let Some((token, end)) = &state.token
            && left(*end) > token.lifetime * RENEW_PERCENT / 100
        {
            return Ok((token.clone(), *end));
        }
        let failed = state.failed.as_ref();
        let failed = failed.filter(|(at, _)| now.saturating_duration_since(*at) < FAILED_FOR);
        let error = match failed {
            Some((_, error)) => error.clone(),
            None => match self.endpoint.ask() {
                Ok(token) => {
                    let end = now + token.lifetime;
                    state.token = Some((token.clone(), end));
                    state.failed = None;
                    state.log.over();
                    tracing::info!(
                        seconds = token.lifetime.as_secs(),
                        "a token for Kafka was issued"
                    );
                    return Ok((token, end));
                }
                Err(error) => {
                    state.failed = Some((Instant::now(), error.clone()));
                    if let Some(repeated) = state.log.came(Instant::now()) {
                        let endpoint = self.endpoint.shown();
                        tracing::error!(
                            endpoint,
                            error,
                            repeated,
                            "no token for Kafka: clients cannot log in until the endpoint issues one; \
                             it is asked again"
                        );
                    }
                    error
                }
            },
        };
        match &state.token {
            Some((token, end)) if left(*end) > LAST => Ok((token.clone(), *end)),
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
