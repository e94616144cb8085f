//! The time of day, as records carry it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 (UTC). 0 before it, as a clock shows that was never set.
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
