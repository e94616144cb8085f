//! Why the topics are not verified.

use thiserror::Error;

/// Why the topics are not verified.
#[derive(Debug, Error)]
pub enum EnsureError {
    /// The brokers do not answer. The caller waits and tries again.
    #[error("Kafka cannot be asked about its topics: {0}")]
    Unreachable(String),
    /// What is missing or differs, a line each. Operator action required; exit 78.
    #[error("{} at fault in Kafka's topics: {}", count(.0), .0.join("; "))]
    Faults(Vec<String>),
}

fn count(lines: &[String]) -> String {
    format!(
        "{} thing{}",
        lines.len(),
        if lines.len() == 1 { " is" } else { "s are" }
    )
}
