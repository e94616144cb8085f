//! The providers: how each signs, what identifies a delivery, how its payload becomes an event.
//!
//! # Adding a provider
//!
//! `CONTRIBUTING.md` has the steps. In short: a folder here with `spec.rs`, `mod.rs`, `sender.rs`,
//! `README.md` and `fixtures/`, which implements [`Provider`] (its name and its documented types),
//! [`Verifier`] (one source of it) and, for tests and the playground, `testing::Sender`; and a line in
//! [`ALL`]. How signatures are made is in [`schemes`]: take one, and add one only where none fits.

pub mod signature;

pub mod api;

pub mod schemes;

pub mod flock;

pub mod referralloop;

pub mod flowcode;

pub mod flockler;

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
