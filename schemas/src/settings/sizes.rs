//! How large bodies and records may be, and what they must fit.

use super::reader::Node;
use crate::providers::{DEFAULT_MAX_BODY_BYTES, Verifier};

/// What a raw record may take in addition to the largest body, in bytes: request header and key.
pub const RAW_OVERHEAD: u64 = 256 * 1024;

/// What a record of an output topic may take in addition to the raw record, in bytes: the event's
/// columns, or the fate's headers.
pub(super) const OUTPUT_OVERHEAD: u64 = 64 * 1024;

/// What the processor's producer queues, in bytes: a record that is larger never fits.
pub const OUTPUT_QUEUE_BYTES: u64 = 64 << 20;

/// The largest body that a source may allow, in bytes: what is made of it must fit the queue of the
/// processor's producer, or its record would be tried for ever.
const MAX_BODY_BYTES: u64 = 63 << 20;

const _: () = assert!(MAX_BODY_BYTES + RAW_OVERHEAD + OUTPUT_OVERHEAD <= OUTPUT_QUEUE_BYTES);

/// Reads `max_body` of a source.
pub(super) fn max_body(node: &mut Node, verifier: Option<&dyn Verifier>) -> u64 {
    let default = verifier.map_or(DEFAULT_MAX_BODY_BYTES, Verifier::max_body);
    let found = node.size("max_body", default);
    if found > MAX_BODY_BYTES {
        let most = MAX_BODY_BYTES >> 20;
        let message = format!(
            "must be at most {most}MiB, for an event must fit the queue of a Kafka client: set {most}MiB \
             or less, and have the provider send less, or links"
        );
        node.fault("max_body", message);
    }
    found
}
