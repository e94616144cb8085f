//! A token bucket: a bound on a rate, with a burst.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A rate a second and a burst. An amount that is charged in excess is a debt, which later charges wait for.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: f64,
    most: f64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    saved: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket. `most` is the burst.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a bound on a flow needs no exact number"
    )]
    pub fn new(per_second: u64, most: u64, now: Instant) -> Self {
        let most = most as f64;
        Self {
            per_second: per_second as f64,
            most,
            level: Mutex::new(Level {
                saved: most,
                at: now,
            }),
        }
    }

    /// Takes one token, if there is one.
    pub fn take_one(&self, now: Instant) -> bool {
        self.with(now, |saved| {
            let one = *saved >= 1.0;
            if one {
                *saved -= 1.0;
            }
            one
        })
    }

    /// Charges an amount that has come already, and returns how long to wait before more is read.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a bound on a flow needs no exact number"
    )]
    pub fn charge(&self, amount: usize, now: Instant) -> Duration {
        let debt = self.with(now, |saved| {
            *saved -= amount as f64;
            -*saved
        });
        if debt <= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(debt / self.per_second).unwrap_or(Duration::MAX)
    }

    /// Whether there is a debt.
    pub fn in_debt(&self, now: Instant) -> bool {
        self.with(now, |saved| *saved < 0.0)
    }

    /// Whether the bucket is full, so that a new one would be the same.
    pub fn is_full(&self, now: Instant) -> bool {
        self.with(now, |saved| *saved >= self.most)
    }

    fn with<R>(&self, now: Instant, act: impl FnOnce(&mut f64) -> R) -> R {
        let mut level = self.level.lock();
        let passed = now.saturating_duration_since(level.at).as_secs_f64();
        level.saved = (level.saved + passed * self.per_second).min(self.most);
        level.at = level.at.max(now);
        act(&mut level.saved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_is_bounded_and_a_debt_is_repaid() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let bucket = TokenBucket::new(10, 2, start);
        assert!(bucket.is_full(start));
        assert!(bucket.take_one(start) && bucket.take_one(start));
        assert!(!bucket.take_one(start));
        assert!(bucket.take_one(after(100)));
        assert!(!bucket.take_one(after(100)));
        // However long the quiet time, the burst is two.
        assert!(bucket.is_full(after(10_000)));
        assert_eq!(bucket.charge(2, after(10_000)), Duration::ZERO);
        assert_eq!(bucket.charge(5, after(10_000)), Duration::from_millis(500));
        assert!(bucket.in_debt(after(10_400)));
        assert!(!bucket.in_debt(after(10_600)));
        // An earlier time than the last removes no tokens.
        assert!(!bucket.in_debt(after(10_000)));
    }
}
