//! How long things took, by share.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Three digits of each value are kept.
const DIGITS: u8 = 3;

/// A histogram of times, to a thousandth of each.
#[derive(Debug, Clone)]
pub struct Times(Option<Histogram<u64>>);

impl Times {
    /// The time that so much of a hundred do not exceed, in milliseconds; 0 where there is none.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of minutes are far below 2 to the 52nd"
    )]
    pub fn percentile_ms(&self, percentile: f64) -> f64 {
        let Some(all) = &self.0 else { return 0.0 };
        // A histogram gives the upper end of the value's range, which may lie above the longest.
        all.value_at_percentile(percentile).min(all.max()) as f64 / 1e3
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        // This number of digits is valid, and the range grows by itself.
        let mut all = Histogram::new(DIGITS).ok();
        for time in times {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            if let Some(all) = &mut all {
                // It grows with its values; only one that no memory could hold is left out.
                let _ = all.record(micros);
            }
        }
        Self(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds_and_zero_where_nothing_was_measured() {
        let times: Times = (1..=1_000).map(Duration::from_millis).collect();
        for (percentile, expected) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1_000.0)] {
            let found = times.percentile_ms(percentile);
            assert!(
                (found - expected).abs() <= expected / 500.0,
                "{percentile}: {found}"
            );
        }
        let none: Times = [].into_iter().collect();
        assert!(none.percentile_ms(99.0).abs() < 1e-9);
    }
}
