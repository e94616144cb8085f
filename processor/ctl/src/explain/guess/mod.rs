//! Guesses: what a request, a secret or a setting may have been otherwise. A guess says nothing until it was
//! tried.

pub mod body;

pub mod charset;

pub mod headers;

pub mod json;

pub mod orders;

pub mod inflate;

pub mod secrets;

pub mod options;

pub mod urls;

pub mod mac;

pub mod encodings;

use super::cause::Cause;

/// A guess about one part of a request.
pub struct Guess<T> {
    /// What it would show.
    pub cause: Cause,
    /// One sentence for people: no secret, no body.
    pub says: String,
    /// The part as it may have been.
    pub part: T,
}

impl<T> Guess<T> {
    pub fn new(cause: Cause, says: impl Into<String>, part: T) -> Self {
        Self {
            cause,
            says: says.into(),
            part,
        }
    }
}
