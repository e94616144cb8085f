//! The calls of a seed as text, for the guard that compares their hashes.

use std::fmt::Write as _;
use std::rc::Rc;

use super::run::PARTITIONS;
use super::webhooks::Site;
use super::{record, run_seed};

/// The settings and webhooks that seeds run on.
pub fn site() -> Rc<Site> {
    Rc::new(Site::new(PARTITIONS))
}

/// The calls of a seed, one a line, and what it came to.
pub fn calls(seed: u64, site: &Rc<Site>) -> String {
    record::begin();
    let (outcome, _) = run_seed(seed, site, false);
    let mut calls = record::end();
    let sums = outcome.unwrap_or_else(|why| panic!("{why}"));
    // Writing to a String cannot fail.
    let _ = writeln!(
        calls,
        "end raw={} events={} duplicates={} refused={}",
        sums.raw, sums.events, sums.duplicates, sums.refused
    );
    calls
}
