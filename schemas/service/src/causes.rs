//! Errors of the HTTP client, for the log.

use std::error::Error as _;

/// An error with the chain of its causes, in one line. Without the URL, which may have a token.
pub fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}
