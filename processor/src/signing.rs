//! Whether a source that may be signed has become one that is, and who then strips the signature is seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::observed::SourceSeen;

/// What was seen of the signatures of each source in this process.
#[derive(Debug, Clone, Default)]
pub struct SigningSeen(Arc<Mutex<BTreeMap<String, Seen>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// A secret verified a request.
    Signed,
    /// And then an unsigned one became an event, which was reported.
    Reported,
}

impl SigningSeen {
    /// A batch was committed. A source whose requests must be signed has no unsigned events, and one that
    /// looks at no signature has no signed ones.
    pub fn see(&self, source: &str, seen: &SourceSeen) {
        if seen.keys.is_empty() && seen.unsigned == 0 {
            return;
        }
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match sources.get_mut(source) {
            None if !seen.keys.is_empty() => {
                sources.insert(source.to_owned(), Seen::Signed);
            }
            // Within one batch nothing says which came first.
            Some(known @ Seen::Signed) if seen.unsigned > 0 => {
                *known = Seen::Reported;
                tracing::warn!(
                    source,
                    "an unsigned request was accepted by its token after signed ones were verified: who has the \
                     token can leave the signature out; set options.signature to required"
                );
            }
            None | Some(_) => {}
        }
    }

    #[cfg(test)]
    fn is_reported(&self, source: &str) -> bool {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get(source) == Some(&Seen::Reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(signed: bool, unsigned: u64) -> SourceSeen {
        let mut seen = SourceSeen {
            unsigned,
            ..SourceSeen::default()
        };
        if signed {
            seen.keys.insert("k".to_owned(), 1);
        }
        seen
    }

    #[test]
    fn an_unsigned_event_is_reported_once_a_signed_one_was_verified() {
        let signing = SigningSeen::default();
        signing.see("s", &batch(false, 1));
        signing.see("s", &batch(true, 1));
        assert!(!signing.is_reported("s"));
        signing.see("other", &batch(false, 1));
        signing.see("s", &batch(true, 0));
        assert!(!signing.is_reported("s") && !signing.is_reported("other"));
        signing.see("s", &batch(false, 1));
        assert!(signing.is_reported("s"));
        signing.see("s", &batch(true, 1));
        assert!(signing.is_reported("s") && !signing.is_reported("other"));
    }
}
