//! How many records a second are sent. Comes in: a time. Goes out: how long to wait.

use std::time::{Duration, Instant};

/// What was held up is made good in a burst of at most this long.
const BURST: Duration = Duration::from_millis(100);

/// When the next record may be sent.
#[derive(Debug)]
pub struct Pace {
    gap: Duration,
    next: Instant,
}

impl Pace {
    /// So many a second, at least one.
    pub fn new(rate: u32, now: Instant) -> Self {
        Self {
            gap: Duration::from_secs(1) / rate.max(1),
            next: now,
        }
    }

    /// How long to wait for the next one.
    pub fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// One was sent.
    pub fn sent(&mut self, now: Instant) {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.next = self.next.max(earliest) + self.gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_spread_and_a_pause_is_not_made_good_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(100, start);
        let mut now = start;
        for _ in 0..100 {
            now += pace.wait(now);
            pace.sent(now);
        }
        assert_eq!(now - start, Duration::from_millis(990));
        now += Duration::from_secs(60);
        let mut burst = 0;
        while pace.wait(now).is_zero() {
            pace.sent(now);
            burst += 1;
        }
        assert_eq!(burst, 11);
    }
}
