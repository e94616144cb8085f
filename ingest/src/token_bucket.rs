//! A bound on how much comes in a second: what was not used is saved up, to a limit.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So much a second, and so much at once after a quiet time. What is taken beyond is a debt, which
/// the next wait for.
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
    /// Full at first. `most` is what may be saved up.
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

    /// Takes one, if there is one.
    pub fn take_one(&self, now: Instant) -> bool {
        self.with(now, |saved| {
            let one = *saved >= 1.0;
            if one {
                *saved -= 1.0;
            }
            one
        })
    }

    /// Takes what has come already, there or not, and says how long to wait before taking more.
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

    /// Whether more was taken than came.
    pub fn in_debt(&self, now: Instant) -> bool {
        self.with(now, |saved| *saved < 0.0)
    }

    /// Whether it is as if nothing had been taken, so that it can be forgotten.
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
        // However long it was quiet, no more than two are saved.
        assert!(bucket.is_full(after(10_000)));
        assert_eq!(bucket.charge(2, after(10_000)), Duration::ZERO);
        assert_eq!(bucket.charge(5, after(10_000)), Duration::from_millis(500));
        assert!(bucket.in_debt(after(10_400)));
        assert!(!bucket.in_debt(after(10_600)));
        // A clock that is read late takes nothing back.
        assert!(!bucket.in_debt(after(10_000)));
    }
}
