//! What `/metrics` says of a server.

use super::Ingest;

impl Ingest {
    /// Whether a connection was ended for this reason.
    pub fn shed(&self, reason: &str) -> bool {
        self.value(&format!(
            "sluice_ingest_connections_shed_total{{reason=\"{reason}\""
        )) > 0
    }

    /// The value of a series of whole numbers that is there.
    pub fn value(&self, series: &str) -> u64 {
        let page = self.metrics();
        let mut lines = page.lines().filter(|line| line.starts_with(series));
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("no {series}: {page}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// How many requests this limit refused.
    pub fn limited(&self, limit: &str) -> u64 {
        self.value(&format!("sluice_ingest_limits_total{{limit=\"{limit}\"}}"))
    }

    pub fn metrics(&self) -> String {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry).unwrap();
        page
    }
}
