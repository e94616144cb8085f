//! Guards of what needs private items: what they record must survive every move of the code. See
//! `tests/guards/README.md`.

#[path = "../../tests/guards/golden.rs"]
pub mod golden;

mod clients;

mod metrics;

mod seeds;
