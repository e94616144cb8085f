//! Fuzzing: functions of bytes, each with an oracle, that panic where our reading of an input is wrong.
//!
//! `tests/fuzz/` runs them under libFuzzer, and the tests here replay what is kept of its inputs.

#![expect(
    clippy::expect_used,
    reason = "a target that finds something says so by panicking"
)]

mod canonical_json;

mod flock_schemes;

pub mod input;

mod json_spans;

mod lowercase;

mod raw_decode;

mod reading;

pub mod replay;

mod settings;

mod signing;

mod verify_oracle;

pub use canonical_json::fuzz_canonical_json;
pub use flock_schemes::fuzz_flock_schemes;
pub use json_spans::fuzz_json_spans;
pub use lowercase::fuzz_lowercase;
pub use raw_decode::fuzz_raw_decode;
pub use settings::fuzz_settings;
pub use verify_oracle::fuzz_verify_oracle;

/// A target: bytes in, a panic where something is wrong.
pub type Target = (&'static str, fn(&[u8]));

/// Those of this crate.
pub const TARGETS: &[Target] = &[
    ("canonical_json", fuzz_canonical_json),
    ("flock_schemes", fuzz_flock_schemes),
    ("json_spans", fuzz_json_spans),
    ("lowercase", fuzz_lowercase),
    ("raw_decode", fuzz_raw_decode),
    ("settings", fuzz_settings),
    ("verify_oracle", fuzz_verify_oracle),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_input_is_read_as_it_should_be() {
        replay::all(TARGETS);
    }
}
