//! Tries guesses against a signature that does not fit: one at a time, then two. What fits is proved, for
//! nobody makes a MAC by chance.

use sluice_schemas::providers::signature::Key;
use sluice_schemas::providers::{Credentials, Verifier};
use sluice_schemas::raw::RawRequest;
use sluice_schemas::settings::Secret;

use super::case::{Case, fits, only};
use super::cause::{Cause, Finding};
use super::guess::urls::{self, Urls};
use super::guess::{Guess, body, headers, json, options, secrets};
use super::last;
use crate::records::window::shown;

/// How many bytes are hashed for all pairs at most.
const BUDGET: usize = 512 << 20;

/// All guesses about one case.
struct Guesses {
    requests: Vec<Guess<RawRequest>>,
    bodies: Vec<Guess<Vec<u8>>>,
    readings: Vec<Guess<Box<dyn Verifier>>>,
    urls: Option<Urls>,
    keys: Vec<Guess<Key>>,
    /// The source's own secrets, and all of `keys`.
    wide: Credentials,
}

/// One try: what of it is not as it came.
#[derive(Clone, Copy, Default)]
struct Try<'g> {
    request: Option<&'g Guess<RawRequest>>,
    body: Option<&'g Guess<Vec<u8>>>,
    reading: Option<&'g Guess<Box<dyn Verifier>>>,
}

/// What of a request, its source or the secrets makes its signature fit; `None`: no guess does.
pub fn search(case: &Case<'_>) -> Option<Finding> {
    let orders = orders(case);
    let guesses = Guesses::of(case, &orders);
    let plain = Try::default();
    guesses
        .with_a_secret(case, plain)
        .or_else(|| guesses.alone(case))
        .or_else(|| guesses.urls.as_ref()?.fit(case))
        .or_else(|| guesses.pairs(case))
        .or_else(|| last::in_another_order(case, &orders))
        .or_else(|| last::at_another_time(case))
}

/// The orders of keys in bodies that the provider's samples have.
fn orders(case: &Case<'_>) -> json::Orders {
    let sender = case.source.provider.sender();
    let samples: Vec<Vec<u8>> = sender
        .events()
        .iter()
        .map(|event| sender.sample(event, 1, 0).body)
        .collect();
    json::orders(samples.iter().map(Vec::as_slice))
}

/// Secrets of the source that were not valid when the request was received.
fn outside_their_time(case: &Case<'_>) -> Vec<Guess<Key>> {
    let received = case.request.received_at;
    let outside = case
        .source
        .secrets
        .iter()
        .filter(|secret| !secret.validity.contains(received));
    let guess = |secret: &Secret| {
        let key = secrets::plain(case.verifier(), case.secrets.get(&secret.file)?)?;
        let says = format!(
            "the secret {} fits, and was not valid at the time of receipt, {}",
            secret.key_id,
            shown(received.div_euclid(1000))
        );
        Some(Guess::new(Cause::SecretNotValid, says, key))
    };
    outside.filter_map(guess).collect()
}

/// Secrets that may have signed: the source's in other forms, the given one, those of other sources.
fn keys(case: &Case<'_>) -> Vec<Guess<Key>> {
    let verifier = case.verifier();
    let mut all = outside_their_time(case);
    if let Some(given) = &case.given {
        let says = "the secret in --secret-file fits, and the source's secrets do not";
        if let Some(key) = secrets::plain(verifier, given) {
            all.push(Guess::new(Cause::WrongSecret, says, key));
        }
        all.extend(secrets::keys("in --secret-file", given));
    }
    for (name, content) in &case.secrets {
        all.extend(secrets::keys(name, content));
    }
    let others = case
        .all
        .iter()
        .filter(|(name, _)| **name != case.source.name);
    for (name, credentials) in others {
        let valid = credentials.at(case.request.received_at);
        for key in valid.keys.iter().filter(|key| !key.is_never()) {
            let says = format!(
                "the secret {} of the source {name} fits: it was sent to another URL",
                key.name
            );
            all.push(Guess::new(Cause::WrongSource, says, key.clone()));
        }
    }
    all
}

impl Guesses {
    fn of(case: &Case<'_>, orders: &json::Orders) -> Self {
        let keys = keys(case);
        let mut wide = Credentials::clone(&case.credentials);
        wide.keys
            .extend(keys.iter().map(|guess| guess.part.clone()));
        Self {
            requests: headers::requests(case),
            bodies: body::bodies(&case.body, orders),
            readings: options::readings(case.source),
            urls: urls::urls(case),
            keys,
            wide,
        }
    }

    /// A secret that fits where none of the source's does, in an otherwise unchanged or changed request.
    fn with_a_secret(&self, case: &Case<'_>, one: Try<'_>) -> Option<Finding> {
        if !try_fits(case, one, &self.wide) {
            return None;
        }
        if try_fits(case, one, &case.credentials) {
            return Some(finding(one, None));
        }
        let mut keys = self.keys.iter();
        let key = keys.find(|guess| try_fits(case, one, &only(&guess.part, &self.wide)))?;
        Some(finding(one, Some(key)))
    }

    /// Each guess by itself.
    fn alone(&self, case: &Case<'_>) -> Option<Finding> {
        let own = &case.credentials;
        let fitting = |one: Try<'_>| try_fits(case, one, own).then(|| finding(one, None));
        let requests = self.requests.iter().map(|guess| Try {
            request: Some(guess),
            ..Try::default()
        });
        let bodies = self.bodies.iter().map(|guess| Try {
            body: Some(guess),
            ..Try::default()
        });
        let readings = self.readings.iter().map(|guess| Try {
            reading: Some(guess),
            ..Try::default()
        });
        readings.chain(requests).chain(bodies).find_map(fitting)
    }

    /// Two guesses together, as far as the bytes to hash allow.
    fn pairs(&self, case: &Case<'_>) -> Option<Finding> {
        let mut left = BUDGET;
        let mut takes = |bytes: usize, keys: usize| {
            let cost = (bytes + 300).saturating_mul(keys.max(1));
            let is_in = cost <= left;
            left = left.saturating_sub(cost);
            is_in
        };
        let (own, all) = (case.credentials.keys.len(), self.wide.keys.len());
        for request in maybe(&self.requests) {
            for reading in maybe(&self.readings) {
                let one = Try {
                    request,
                    reading,
                    body: None,
                };
                if takes(case.body.len(), all)
                    && let Some(found) = self.with_a_secret(case, one)
                {
                    return Some(found);
                }
            }
        }
        for body in &self.bodies {
            let one = Try {
                body: Some(body),
                ..Try::default()
            };
            if takes(body.part.len(), all)
                && let Some(found) = self.with_a_secret(case, one)
            {
                return Some(found);
            }
        }
        for body in &self.bodies {
            for request in maybe(&self.requests) {
                for reading in maybe(&self.readings) {
                    let body = Some(body);
                    let one = Try {
                        request,
                        body,
                        reading,
                    };
                    let is_new = request.is_none() || reading.is_none();
                    if is_new
                        && takes(case.body.len(), own)
                        && try_fits(case, one, &case.credentials)
                    {
                        return Some(finding(one, None));
                    }
                }
            }
        }
        self.with_urls(case, &mut takes)
    }

    /// Another URL, together with one more guess.
    fn with_urls(
        &self,
        case: &Case<'_>,
        takes: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Option<Finding> {
        let urls = self.urls.as_ref()?;
        let nearest = urls.all.get(..200).unwrap_or(&urls.all);
        let verifier = urls.verifier(case, nearest);
        let cost = case.body.len().saturating_mul(nearest.len());
        let with = |one: Try<'_>, credentials: &Credentials, verifier: &dyn Verifier| {
            let request = one.request.map_or(&case.request, |guess| &guess.part);
            let body = one.body.map_or(&case.body, |guess| &guess.part);
            fits(verifier, credentials, request, body)
        };
        let found = |one: Try<'_>, credentials: &Credentials, also: &str| {
            let fitting = |verifier: &dyn Verifier| with(one, credentials, verifier);
            let mut found = urls.finding(case, &fitting);
            found.says = format!("{}; and {also}", found.says);
            found
        };
        let plain = Try::default();
        if takes(cost, self.wide.keys.len()) && with(plain, &self.wide, verifier.as_ref()) {
            let mut keys = self.keys.iter();
            let key =
                keys.find(|key| with(plain, &only(&key.part, &self.wide), verifier.as_ref()))?;
            return Some(found(plain, &self.wide, &key.says));
        }
        for body in &self.bodies {
            let one = Try {
                body: Some(body),
                ..plain
            };
            if takes(cost, 1) && with(one, &case.credentials, verifier.as_ref()) {
                return Some(found(one, &case.credentials, &body.says));
            }
        }
        for request in &self.requests {
            let one = Try {
                request: Some(request),
                ..plain
            };
            if takes(cost, 1) && with(one, &case.credentials, verifier.as_ref()) {
                return Some(found(one, &case.credentials, &request.says));
            }
        }
        None
    }
}

/// Whether the signature fits under these secrets.
fn try_fits(case: &Case<'_>, one: Try<'_>, credentials: &Credentials) -> bool {
    let verifier = one
        .reading
        .map_or(case.verifier(), |guess| guess.part.as_ref());
    let request = one.request.map_or(&case.request, |guess| &guess.part);
    let body = one.body.map_or(&case.body, |guess| &guess.part);
    fits(verifier, credentials, request, body)
}

/// None of them, then each.
fn maybe<T>(all: &[T]) -> impl Iterator<Item = Option<&T>> {
    std::iter::once(None).chain(all.iter().map(Some))
}

/// What fitted, in words: the first of its parts is the cause.
fn finding(one: Try<'_>, key: Option<&Guess<Key>>) -> Finding {
    let parts = [
        one.request.map(|guess| (guess.cause, &guess.says)),
        key.map(|guess| (guess.cause, &guess.says)),
        one.reading.map(|guess| (guess.cause, &guess.says)),
        one.body.map(|guess| (guess.cause, &guess.says)),
    ];
    let parts: Vec<(Cause, &String)> = parts.into_iter().flatten().collect();
    let cause = parts.first().map_or(Cause::Unknown, |(cause, _)| *cause);
    let says: Vec<&str> = parts.iter().map(|(_, says)| says.as_str()).collect();
    Finding::proved(cause, says.join("; and "))
}
