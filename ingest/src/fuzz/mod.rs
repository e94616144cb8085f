//! Fuzzing: functions of bytes, each with an oracle, that panic where our reading of an input is wrong.
//!
//! `tests/fuzz/` runs them under libFuzzer, and the tests here replay what is kept of its inputs.

#![expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    reason = "a target that finds something says so by panicking"
)]

use sluice_schemas::fuzz::Target;

mod forwarded_for;

mod http_edge;

mod kept_headers;

mod proxy_v2;

pub(crate) mod server;

mod spool_salvage;

pub use forwarded_for::fuzz_forwarded_for;
pub use http_edge::fuzz_http_edge;
pub use kept_headers::fuzz_kept_headers;
pub use proxy_v2::fuzz_proxy_v2;
pub use spool_salvage::fuzz_spool_salvage;

/// Those of this crate.
pub const TARGETS: &[Target] = &[
    ("forwarded_for", fuzz_forwarded_for),
    ("http_edge", fuzz_http_edge),
    ("kept_headers", fuzz_kept_headers),
    ("proxy_v2", fuzz_proxy_v2),
    ("spool_salvage", fuzz_spool_salvage),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_inputs_and_all_inputs_a_target() {
        let targets = TARGETS.iter().chain(sluice_schemas::fuzz::TARGETS);
        let mut targets: Vec<&str> = targets.map(|(name, _)| *name).collect();
        targets.sort_unstable();
        assert_eq!(sluice_schemas::fuzz::replay::folders(), targets);
    }

    #[test]
    fn every_kept_input_is_read_as_it_should_be() {
        sluice_schemas::fuzz::replay::all(TARGETS);
    }
}
