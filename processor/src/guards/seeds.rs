//! The calls that the engine makes in 200 seeds of the simulation, each seed's as one hash. `GUARD_SEED=7`
//! prints the calls of one seed.

use std::fmt::Write as _;

use sluice_schemas::identity::sha256;

use super::golden::compare;
use crate::simulation::guard::{calls, site};

#[test]
fn each_seed_makes_the_same_calls() {
    let site = site();
    let chosen = std::env::var("GUARD_SEED").ok();
    if let Some(seed) = chosen.and_then(|seed| seed.parse().ok()) {
        print!("{}", calls(seed, &site));
        return;
    }
    let mut text = String::new();
    for seed in 0..200 {
        // Writing to a String cannot fail.
        let _ = write!(text, "{seed} ");
        for byte in sha256(calls(seed, &site).as_bytes()) {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    compare("simulation.txt", &text);
}
