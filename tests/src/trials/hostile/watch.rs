//! What is measured of the machine and of ingest while attacks go on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_tests::harness::metrics;

use sluice_tests::load::times::Times;

/// How often ingest's memory is read.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A thread that only sleeps, and how late it wakes: what of a p99 is the machine's, attackers included.
pub struct Machine {
    /// When it should have woken, and how late it was.
    late: Arc<Mutex<Vec<(Instant, Duration)>>>,
    ending: Arc<AtomicBool>,
}

impl Machine {
    pub fn watch() -> Self {
        const NAP: Duration = Duration::from_millis(5);
        let late = Arc::<Mutex<Vec<(Instant, Duration)>>>::default();
        let ending = Arc::<AtomicBool>::default();
        let (samples, end) = (Arc::clone(&late), Arc::clone(&ending));
        std::thread::spawn(move || {
            while !end.load(Relaxed) {
                let due = Instant::now() + NAP;
                std::thread::sleep(NAP);
                let sample = (due, due.elapsed());
                samples
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(sample);
            }
        });
        Self { late, ending }
    }

    /// How late it woke between two moments, at the 99th percentile, in milliseconds.
    pub fn p99_ms(&self, from: Instant, to: Instant) -> f64 {
        let samples = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let within = samples.iter().filter(|(due, _)| (from..to).contains(due));
        let late: Times = within.map(|(_, late)| *late).collect();
        late.percentile_ms(99.0)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.ending.store(true, Relaxed);
    }
}

/// Reads a process's memory on a thread.
pub struct Memory {
    peak: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
}

impl Memory {
    pub fn watch(pid: u32) -> Self {
        let peak = Arc::<AtomicU64>::default();
        let ending = Arc::<AtomicBool>::default();
        let (most, end) = (Arc::clone(&peak), Arc::clone(&ending));
        std::thread::spawn(move || {
            while !end.load(Relaxed) {
                // A process that ended holds nothing, and is missed elsewhere.
                most.fetch_max(metrics::memory(pid, "VmRSS").unwrap_or(0), Relaxed);
                std::thread::sleep(POLL_INTERVAL);
            }
        });
        Self { peak, ending }
    }

    /// The most since the last call, in bytes.
    pub fn peak(&self) -> u64 {
        self.peak.swap(0, Relaxed)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.ending.store(true, Relaxed);
    }
}
