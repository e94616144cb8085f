//! libFuzzer's way into the target that `SLUICE_FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("SLUICE_FUZZ_TARGET").unwrap_or_default();
    let targets = [sluice_schemas::fuzz::TARGETS, sluice_ingest::fuzz::TARGETS].concat();
    let found = targets.into_iter().find(|(known, _)| *known == name);
    let (_, target) =
        found.unwrap_or_else(|| panic!("SLUICE_FUZZ_TARGET names no target: {name:?}"));
    target
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
