//! Flowcode's names: what it is called, its headers and its documented types.

use crate::providers::api::Spec;
use crate::providers::schemes::standard_webhooks;

/// What holds whatever the source.
pub static SPEC: Spec = Spec {
    name: "flowcode",
    // Its catalogue is not public: a source's `events` names the types that have topics of their own.
    documented: &[],
    headers: &standard_webhooks::HEADERS,
};
