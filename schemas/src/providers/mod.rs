//! The providers: how each signs, what identifies a delivery, how its payload becomes an event.
//!
//! # Adding a provider
//!
//! `CONTRIBUTING.md` has the steps. In short: a folder here with `spec.rs`, `mod.rs`, `sender.rs`,
//! `README.md` and `fixtures/`, which implements [`Provider`] (its name and its documented types),
//! [`Verifier`] (one source of it) and [`sending::Sender`] (who sends as it does); and a line in each of
//! [`ALL`] and [`SENDERS`]. How signatures are made is in [`schemes`]: take one, and add one only where none
//! fits.

pub mod signature;

pub mod api;

pub mod keyring;

pub mod schemes;

pub mod flock;

pub mod referralloop;

pub mod flowcode;

pub mod flockler;

pub mod sending;

pub mod description;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "fixtures are files")]
mod fixture;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "fixtures are files")]
mod tests;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the golden file is a file")]
mod golden_tests;

#[cfg(test)]
mod vector_tests;

#[cfg(test)]
mod hostile_tests;

#[cfg(all(test, feature = "testing"))]
mod sender_tests;

#[cfg(all(test, feature = "testing"))]
mod field_tests;

pub use api::*;
pub use keyring::{Keyring, Validity};

use sending::Sender;

/// Every provider. A test holds this list against the folders next to this file.
pub const ALL: [&dyn Provider; 4] = [
    &flock::Flock,
    &referralloop::ReferralLoop,
    &flowcode::Flowcode,
    &flockler::Flockler,
];

/// The provider of a name.
pub fn by_name(name: &str) -> Option<&'static dyn Provider> {
    ALL.into_iter()
        .find(|provider| provider.spec().name == name)
}

/// Who sends as each provider does, in the order of [`ALL`].
pub const SENDERS: [&dyn Sender; ALL.len()] = [
    &flock::Sender,
    &referralloop::Sender,
    &flowcode::Sender,
    &flockler::Sender,
];

impl dyn Provider + '_ {
    /// Who sends as this provider does. No method of the trait, so that a binary that never calls it holds
    /// no sender.
    pub fn sender(&self) -> &'static dyn Sender {
        let name = self.spec().name;
        let found = SENDERS
            .into_iter()
            .find(|sender| sender.spec().name == name);
        #[expect(
            clippy::expect_used,
            reason = "a test compares the two lists, and their lengths are one type"
        )]
        found.expect("each provider has a sender")
    }
}
