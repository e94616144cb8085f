//! A failure that repeats is logged once an interval, with how often it came meanwhile.

use std::time::{Duration, Instant};

/// How often a failure that repeats is logged.
const INTERVAL: Duration = Duration::from_secs(30);

/// One kind of failure.
#[derive(Debug, Default)]
pub struct Repeated {
    logged: Option<Instant>,
    since: u64,
}

impl Repeated {
    /// The failure came. `Some` where it is to be logged now: how often it came since it was logged last,
    /// this time included.
    pub fn came(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        let is_due = self
            .logged
            .is_none_or(|logged| now.saturating_duration_since(logged) >= INTERVAL);
        if !is_due {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.since))
    }

    /// It is over: the next one is logged at once.
    pub fn over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_repeats_is_logged_with_its_count() {
        let start = Instant::now();
        let mut repeated = Repeated::default();
        assert_eq!(repeated.came(start), Some(1));
        assert_eq!(repeated.came(start), None);
        assert_eq!(repeated.came(start + INTERVAL / 2), None);
        assert_eq!(repeated.came(start + INTERVAL), Some(3));
        repeated.over();
        assert_eq!(repeated.came(start + INTERVAL), Some(1));
    }
}
