//! What is measured while attacks go on, and what it is held against.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_tests::harness::metrics;

use sluice_tests::load::open_loop::Window;
use sluice_tests::load::times::Times;

/// How often ingest's memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A quiet p99 below this counts as this, in milliseconds: less is the machine's noise, not ingest's.
const FLOOR_MS: f64 = 5.0;

/// A machine is calm where a thread that only sleeps was no later than this at the 99th percentile, in
/// milliseconds, for so long.
const CALM_MS: f64 = 1.0;
const CALM_FOR: Duration = Duration::from_secs(4);

/// The place of the one with the least p99.
pub fn quickest(windows: &[Window]) -> usize {
    let p99 = |place: &usize| windows[*place].p99_ms;
    let places = 0..windows.len();
    places
        .min_by(|one, other| p99(one).total_cmp(&p99(other)))
        .unwrap_or(0)
}

/// The one with the least p99.
pub fn best(windows: Vec<Window>) -> Window {
    let place = quickest(&windows);
    windows.into_iter().nth(place).unwrap_or_default()
}

/// The best p99 beside the best in quiet, or beside the floor.
pub fn ratio(good: &[Window], quiet: &[Window]) -> f64 {
    let least = |windows: &[Window]| {
        let p99 = windows.iter().map(|window| window.p99_ms);
        p99.fold(f64::INFINITY, f64::min)
    };
    least(good) / least(quiet).max(FLOOR_MS)
}

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

    /// Waits until the machine is calm, for no longer than this in all; what is left of it is kept.
    pub fn wait_calm(&self, patience: &mut Duration) {
        let start = Instant::now();
        while start.elapsed() < *patience {
            let from = Instant::now();
            std::thread::sleep(CALM_FOR);
            if self.p99_ms(from, Instant::now()) <= CALM_MS {
                break;
            }
        }
        *patience = patience.saturating_sub(start.elapsed());
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

/// Looks at a process's memory on a thread.
pub struct Memory {
    peak: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
}

impl Memory {
    pub fn watch(pid: u32) -> Self {
        let peak = Arc::<std::sync::atomic::AtomicU64>::default();
        let ending = Arc::<AtomicBool>::default();
        let (most, end) = (Arc::clone(&peak), Arc::clone(&ending));
        std::thread::spawn(move || {
            while !end.load(Relaxed) {
                // A process that ended holds nothing, and is missed elsewhere.
                most.fetch_max(metrics::memory(pid, "VmRSS").unwrap_or(0), Relaxed);
                std::thread::sleep(LOOK);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_round_is_held_against_the_best_in_quiet() {
        let window = |p99_ms| Window {
            p99_ms,
            ..Window::default()
        };
        let windows = |all: &[f64]| all.iter().copied().map(window).collect::<Vec<_>>();
        let quiet = windows(&[40.0, 10.0]);
        assert!((ratio(&windows(&[300.0, 15.0]), &quiet) - 1.5).abs() < 1e-9);
        assert!((ratio(&windows(&[30.0, 25.0, 28.0]), &quiet) - 2.5).abs() < 1e-9);
        // Less than the floor is noise.
        assert!((ratio(&windows(&[4.0]), &windows(&[1.0])) - 0.8).abs() < 1e-9);
        assert!((best(windows(&[3.0, 2.0])).p99_ms - 2.0).abs() < 1e-9);
    }
}
