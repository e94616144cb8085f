//! How many records, by reason, source and hour.

use std::collections::BTreeMap;

use serde_json::json;

use crate::output::plain;
use crate::records::view::View;
use crate::records::window::shown;

const HOUR_MS: i64 = 3_600_000;

/// The longest bar.
const BAR: u64 = 40;

/// What has no source that can be read.
const UNKNOWN: &str = "unknown";

/// The numbers.
#[derive(Debug, Default)]
pub struct Stats {
    /// By reason and source, by hour since 1970.
    counts: BTreeMap<(String, String), BTreeMap<i64, u64>>,
}

impl Stats {
    /// Counts a record.
    pub fn count(&mut self, view: &View) {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        let key = (text(&view.reason), text(&view.source));
        let hour = view.millis.div_euclid(HOUR_MS);
        *self.counts.entry(key).or_default().entry(hour).or_default() += 1;
    }

    /// The numbers, a line each.
    pub fn lines(&self, as_json: bool) -> Vec<String> {
        let most = self.counts.values().flat_map(BTreeMap::values).max();
        let most = most.copied().unwrap_or(1);
        let mut lines = Vec::new();
        for ((reason, source), hours) in &self.counts {
            if !as_json {
                let sum: u64 = hours.values().sum();
                lines.push(plain(&format!("{reason}  {source}  {sum}")));
            }
            for (hour, count) in hours {
                let hour = shown(hour.saturating_mul(HOUR_MS));
                lines.push(if as_json {
                    let line = json!({
                        "reason": reason, "source": source, "hour": hour, "count": count,
                    });
                    line.to_string()
                } else {
                    // Every hour that has a record has a mark.
                    let marks = (count * BAR).div_ceil(most);
                    let bar = "#".repeat(usize::try_from(marks).unwrap_or_default());
                    format!("  {}  {count:>8}  {bar}", &hour[..16.min(hour.len())])
                });
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(reason: &str, source: Option<&str>, millis: i64) -> View {
        View {
            reason: Some(reason.to_owned()),
            source: source.map(str::to_owned),
            millis,
            ..View::default()
        }
    }

    #[test]
    fn numbers_are_by_reason_source_and_hour() {
        let mut stats = Stats::default();
        for (reason, source, millis) in [
            ("b", Some("s"), 0),
            ("b", Some("s"), HOUR_MS - 1),
            ("b", Some("s"), HOUR_MS),
            ("a", None, 5),
        ] {
            stats.count(&view(reason, source, millis));
        }
        let bar = "#".repeat(20);
        assert_eq!(
            stats.lines(false),
            [
                "a  unknown  1".to_owned(),
                format!("  1970-01-01T00:00         1  {bar}"),
                "b  s  3".to_owned(),
                format!("  1970-01-01T00:00         2  {bar}{bar}"),
                format!("  1970-01-01T01:00         1  {bar}"),
            ]
        );
        let lines = stats.lines(true);
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            r#"{"count":2,"hour":"1970-01-01T00:00:00.000Z","reason":"b","source":"s"}"#
        );
        assert!(Stats::default().lines(true).is_empty());
    }
}
