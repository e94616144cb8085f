//! Sources of the providers for tests and the playground. Never in a binary that ships.

pub use super::sending::{Sender, TestSource, Unsigned};

use super::api::{Provider, Verifier};
use crate::settings::reader::{Faults, Node};

/// The verifier of a provider under the options of its source in tests.
pub fn verifier(provider: &dyn Provider) -> Box<dyn Verifier> {
    let options = provider.sender().source("site").settings["options"].take();
    provider.verifier(&mut Node::root(options, &Faults::default()))
}
