//! Whether a source that may be signed has become one that is, and who then strips the signature is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use sluice_schemas::settings::{Settings, Source};

use crate::engine::observed::SourceSeen;

/// What was seen of the signatures of each source in this process.
#[derive(Debug, Clone, Default)]
pub struct SigningSeen(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sources: BTreeMap<String, Seen>,
    /// Sources at whose signatures nobody is to look: there an unsigned event is what was asked for.
    off: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// A secret verified a request.
    Signed,
    /// And then an unsigned one became an event, which was reported.
    Reported,
}

impl SigningSeen {
    /// These settings are in force.
    pub fn configure(&self, settings: &Settings) {
        let is_off = |source: &&Source| {
            let signature = source.options.get("signature");
            signature.and_then(Value::as_str) == Some("off")
        };
        let off = settings.sources.values().filter(is_off);
        let off = off.map(|source| source.name.clone()).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).off = off;
    }

    /// A batch was committed. A source whose requests must be signed has no unsigned events, and one that
    /// looks at no signature has no signed ones.
    pub fn see(&self, source: &str, seen: &SourceSeen) {
        if seen.keys.is_empty() && seen.unsigned == 0 {
            return;
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { sources, off } = &mut *state;
        // What was signed before the settings changed says nothing of what comes after they change back.
        if off.contains(source) {
            sources.remove(source);
            return;
        }
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
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.sources.get(source) == Some(&Seen::Reported)
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

    fn settings(signature: &str) -> Settings {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("settings.yaml");
        let digest = "a".repeat(64);
        let text = format!(
            "kafka: {{bootstrap_servers: b}}\n\
             sources: {{s: {{provider: referralloop, token_sha256: [{digest}], secrets: [secret-of-s], \
             options: {{signature: '{signature}'}}}}}}\n"
        );
        std::fs::write(&file, text).expect("the settings");
        sluice_service::settings::load(&file).expect("settings without faults")
    }

    #[test]
    fn unsigned_events_are_not_reported_where_signatures_were_switched_off() {
        let signing = SigningSeen::default();
        signing.configure(&settings("required"));
        signing.see("s", &batch(true, 0));
        signing.configure(&settings("off"));
        // A batch that was judged before the change, and one after it.
        signing.see("s", &batch(true, 0));
        signing.see("s", &batch(false, 1));
        assert!(!signing.is_reported("s"), "it was switched off");
        signing.configure(&settings("optional"));
        signing.see("s", &batch(false, 1));
        assert!(!signing.is_reported("s"), "nothing was signed since then");
        signing.see("s", &batch(true, 0));
        signing.see("s", &batch(false, 1));
        assert!(signing.is_reported("s"));
    }
}
