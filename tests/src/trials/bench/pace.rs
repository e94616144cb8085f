//! An even pace, which does not wait for anything but the time.

use std::time::{Duration, Instant};

/// The least that is slept: several requests that are due within it go together.
const STEP: Duration = Duration::from_micros(250);

/// Calls `send` for each of `count` numbers when it is due, `rate` a second from `start` on. Blocks.
pub fn pace(start: Instant, rate: u32, count: u32, mut send: impl FnMut(u32, Instant)) {
    for n in 0..count {
        let due = start + Duration::from_secs(1) * n / rate.max(1);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.max(STEP));
        }
        send(n, due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_before_it_is_due_and_a_slow_send_delays_no_due_time() {
        let (start, mut dues) = (Instant::now(), Vec::new());
        pace(start, 1_000, 20, |n, due| {
            assert!(Instant::now() >= due);
            if n == 3 {
                std::thread::sleep(Duration::from_millis(5));
            }
            dues.push(due - start);
        });
        let even = (0..20).map(Duration::from_millis);
        assert!(dues.into_iter().eq(even));
    }
}
