//! How far a signed time may be from the receipt.

use std::time::Duration;

use crate::json::{self, RawField};
use crate::reason::{Reason, Refusal};
use crate::timestamp;

/// Refuses what was signed too long before or after its receipt. The bound itself is good; zero turns
/// the check off.
pub fn check_age(received_at_us: i64, signed_ms: i64, max_age: Duration) -> Result<(), Refusal> {
    // In 128 bits, for the signed time may be any number.
    let apart = i128::from(received_at_us) - i128::from(signed_ms) * 1000;
    if max_age.is_zero() || apart.unsigned_abs() <= max_age.as_micros() {
        return Ok(());
    }
    let side = if apart > 0 { "before" } else { "after" };
    let (seconds, micros) = (
        apart.unsigned_abs() / 1_000_000,
        apart.unsigned_abs() % 1_000_000,
    );
    Err(Reason::TimestampStale.because(format!(
        "it was signed {seconds}.{micros:06} s {side} its receipt, and {} s are allowed",
        max_age.as_secs_f64(),
    )))
}

/// A body's own time in milliseconds since 1970; `None` where it is not there or cannot be read.
pub fn body_time(time: RawField<'_>) -> Option<i64> {
    json::token(time).and_then(|text| timestamp::read(&text))
}

/// Refuses a body whose own time is not there, cannot be read, or is too far from its receipt. Zero
/// turns all of it off.
pub fn check_body_time(
    time: RawField<'_>,
    received_at_us: i64,
    max_age: Duration,
) -> Result<(), Refusal> {
    if max_age.is_zero() {
        return Ok(());
    }
    if time.is_none() {
        return Err(Reason::TimestampMissing.because("the body has no timestamp"));
    }
    match body_time(time) {
        Some(signed) => check_age(received_at_us, signed, max_age),
        None => Err(Reason::TimestampMalformed
            .because("the body's timestamp is neither a number nor ISO 8601 with an offset")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_judged_both_ways_and_its_bound_is_good() {
        let max = Duration::from_secs(300);
        assert_eq!(check_age(300_000_000, 0, max), Ok(()));
        assert_eq!(check_age(-300_000_000, 0, max), Ok(()));
        for received in [300_000_001, -300_000_001, i64::MAX, i64::MIN] {
            let refusal = check_age(received, 0, max).expect_err("too far");
            assert_eq!(refusal.reason, Reason::TimestampStale);
        }
        for signed in [i64::MAX, i64::MIN] {
            assert!(check_age(0, signed, max).is_err());
            assert_eq!(check_age(0, signed, Duration::ZERO), Ok(()));
        }
    }
}
