//! Producers that were replaced, until they have delivered what they have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::producer::{Producer, ThreadedProducer};

use super::deliveries::Deliveries;

/// How long a producer that was replaced may take for its last records.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often to look whether it has none left.
pub(super) const RETIRE_POLL: Duration = Duration::from_millis(20);

/// A producer that was replaced, counted until this is dropped.
pub(super) struct Retiring(Arc<AtomicUsize>);

impl Retiring {
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Retiring {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until nobody hands records to a producer any more, and it has delivered those that it has. What it
/// could not deliver in time fails, and is refused or spooled, when it is dropped.
pub(super) fn retire(old: Arc<ThreadedProducer<Deliveries>>) {
    let until = Instant::now() + RETIRE_TIMEOUT;
    // A report of statistics counts as in flight until the producer's thread has taken it.
    while (Arc::strong_count(&old) > 1 || old.in_flight_count() > 0) && Instant::now() < until {
        std::thread::sleep(RETIRE_POLL);
    }
    let left = old.in_flight_count();
    if left > 0 {
        tracing::warn!(
            left,
            "the producer that is replaced could not deliver all records in time"
        );
    }
    drop(old);
}
