//! Sources of the providers for tests and the playground. Never in a binary that ships.

pub use super::sending::{Sender, TestSource, Unsigned};

use super::api::{Provider, Verifier};
use crate::settings::reader::{Faults, Node};

/// The verifier of a provider under the options of its source in tests.
pub fn verifier(provider: &dyn Provider) -> Box<dyn Verifier> {
    let options = provider.sender().source("site").settings["options"].take();
    provider.verifier(&mut Node::root(options, &Faults::default()))
}

/// A request of `source` as it may come in, with all its headers: the provider's n-th sample of its first
/// event type, with further members up to a body of `length` bytes or a little more, signed.
pub fn request(
    provider: &dyn Provider,
    source: &TestSource,
    (n, at): (u64, i64),
    length: usize,
) -> Unsigned {
    let sender = provider.sender();
    let mut sample = sender.sample(sender.events()[0], n, at);
    // Every sample is an object: the members go before its last brace.
    let end = sample.body.pop();
    for member in 0.. {
        if sample.body.len() >= length {
            break;
        }
        let text = format!(r#","member_{member}":{{"id":{member},"text":"one of several"}}"#);
        sample.body.extend_from_slice(text.as_bytes());
    }
    sample.body.extend(end);
    let secret = source.files.first();
    let secret = secret.map_or(&[][..], |(_, content)| content.as_slice());
    let signature = sender.sign(&sample, secret, at);
    let length = sample.body.len().to_string();
    let ordinary = [
        ("host", "hooks.example.com"),
        ("user-agent", "Webhooks/1.0"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("content-length", &length),
        ("x-forwarded-for", "203.0.113.7"),
    ];
    let ordinary = ordinary.map(|(name, value)| (name.to_owned(), value.to_owned()));
    sample.with(ordinary.into_iter().chain(signature))
}
