//! Raw records: what the processor and its floor work through.

use std::ops::Range;

use anyhow::Result;
use sluice_tests::harness::deployment::Site;
use sluice_tests::load::raw::{Raw, Writer};

use super::case::{Case, Maker};

/// Writes the records of these numbers, and returns when the brokers have them all.
pub fn fill(site: &Site, case: Case, numbers: Range<u64>) -> Result<()> {
    let writer = Writer::new(site.bootstrap())?;
    let raw = site.names().raw();
    let maker = Maker::new(case, site)?;
    for n in numbers {
        let (source, request) = maker.make(n)?;
        writer.write(&raw, Raw::new(source, request, n, maker.at())?)?;
    }
    writer.flush()
}
