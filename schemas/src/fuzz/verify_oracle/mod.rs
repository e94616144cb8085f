//! All four providers against a second reading of how they sign, written from their documentation: the same
//! requests are accepted, under the same scheme, and the others are refused for the same reason.

use super::input::Input;

mod flock;

mod flockler;

mod flowcode;

mod referralloop;

mod shared;

/// Letters that choose the provider, its options, what is signed and how it is written; on the rest of the
/// line and the next ones what each header holds (`$` is the signature); then the body.
pub fn fuzz_verify_oracle(bytes: &[u8]) {
    let Some(mut input) = Input::new(bytes) else {
        return;
    };
    match input.choice(4) {
        0 => flock::run(&mut input),
        1 => referralloop::run(&mut input),
        2 => flowcode::run(&mut input),
        _ => flockler::run(&mut input),
    }
}
