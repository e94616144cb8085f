//! What is to be done: what the settings want and what the topic knows in, a step for each subscription out.

use std::collections::BTreeSet;

use super::ledger::{Key, Ledger, State};

/// What is to be done about one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is there and wanted.
    Nothing,
    /// It lacks, or is asked for again.
    Subscribe {
        /// An earlier run asked for it and did not learn what came of that.
        asked: bool,
    },
    /// It is ours under this id, and is not wanted.
    Unsubscribe(String),
    /// It is not wanted, and others made it: it is left, and not known of any more.
    Leave,
    /// It is not wanted, and may be there under an id that is not known.
    Unknown,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The subscription.
    pub key: Key,
    /// What is to be done.
    pub action: Action,
}

/// What is wanted, each source's keys, with what the topic knows of these sources. What is new comes first:
/// no event is between two subscriptions. `again`: what is known to be there is asked for once more.
pub fn steps(
    wanted: &BTreeSet<Key>,
    ledger: &Ledger,
    is_meant: &dyn Fn(&Key) -> bool,
    again: bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for key in wanted.iter().filter(|key| is_meant(key)) {
        let state = ledger.entries.get(key).map(|entry| entry.state);
        let action = match state {
            Some(State::Subscribed | State::Others) if !again => Action::Nothing,
            state => Action::Subscribe {
                asked: state == Some(State::Asked),
            },
        };
        steps.push(Step {
            key: key.clone(),
            action,
        });
    }
    let left = ledger.entries.iter();
    let left = left.filter(|(key, _)| is_meant(key) && !wanted.contains(key));
    steps.extend(left.map(|(key, entry)| Step {
        key: key.clone(),
        action: match (entry.state, &entry.id) {
            (State::Subscribed, Some(id)) => Action::Unsubscribe(id.clone()),
            (State::Others, _) => Action::Leave,
            (State::Subscribed | State::Asked, _) => Action::Unknown,
        },
    }));
    steps
}
