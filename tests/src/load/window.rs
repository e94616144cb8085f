//! What became of requests that were due in some span of time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::load::times::Times;

/// The slowest requests that are kept of a window.
const SLOWEST: usize = 8;

/// What became of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// The request's place in the list of requests.
    pub place: usize,
    pub due: Instant,
    pub took: Duration,
    pub fresh: bool,
    /// It was sent again because its connection was closed under it, or could not be made.
    pub resent: Option<Closed>,
    pub good: bool,
}

/// How a connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// Nobody listened.
    Refused,
    /// It was there and was closed.
    Broken,
}

/// Requests that were due in some span of time. Times are in milliseconds, those of failures included.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Window {
    /// How many were due.
    pub requests: usize,
    /// Of those, not answered with 200.
    pub failed: usize,
    /// Sent again because the connection was closed under them.
    pub resent: usize,
    /// Sent again because nobody listened.
    pub refused: usize,
    /// The median of all.
    pub p50_ms: f64,
    /// The 99th percentile of all.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Of those that came on connections of their own.
    pub fresh_p99_ms: f64,
    /// The slowest: milliseconds since the window began, and how long it took.
    pub slowest: Vec<(u64, u64)>,
}

/// What became of those of these places that were due between two moments.
pub(super) fn window(
    samples: &[Sample],
    from: Instant,
    to: Instant,
    which: impl Fn(usize) -> bool,
) -> Window {
    let within = |sample: &&Sample| sample.due >= from && sample.due < to && which(sample.place);
    let within: Vec<&Sample> = samples.iter().filter(within).collect();
    let count = |which: fn(&Sample) -> bool| within.iter().filter(|s| which(s)).count();
    let times = |fresh_only: bool| {
        let chosen = within.iter().filter(|s| s.fresh || !fresh_only);
        chosen.map(|s| s.took).collect::<Times>()
    };
    let all = times(false);
    let mut slowest = within.clone();
    slowest.sort_unstable_by_key(|sample| std::cmp::Reverse(sample.took));
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let slowest = slowest.iter().take(SLOWEST);
    Window {
        requests: within.len(),
        failed: count(|sample| !sample.good),
        resent: count(|sample| sample.resent == Some(Closed::Broken)),
        refused: count(|sample| sample.resent == Some(Closed::Refused)),
        p50_ms: all.percentile_ms(50.0),
        p99_ms: all.percentile_ms(99.0),
        max_ms: all.percentile_ms(100.0),
        fresh_p99_ms: times(true).percentile_ms(99.0),
        slowest: slowest
            .map(|sample| (millis(sample.due - from), millis(sample.took)))
            .collect(),
    }
}

/// How many of those that were due between two moments took longer than `bound`, while all of `other` that
/// was due in the same seconds took less than `calm`. A second of `other` without a request is not calm.
pub(super) fn slow(
    samples: &[Sample],
    (from, to): (Instant, Instant),
    bound: Duration,
    (other, calm): (&[Sample], Duration),
    which: impl Fn(usize) -> bool,
) -> usize {
    let second = |at: Instant| at.saturating_duration_since(from).as_secs();
    let mut longest: HashMap<u64, Duration> = HashMap::new();
    for sample in other.iter().filter(|sample| sample.due >= from) {
        let most = longest.entry(second(sample.due)).or_default();
        *most = sample.took.max(*most);
    }
    let is_calm = |second: u64| longest.get(&second).is_some_and(|most| *most < calm);
    let within = |sample: &&Sample| sample.due >= from && sample.due < to;
    let slow = samples.iter().filter(within).filter(|sample| {
        let mut seconds = second(sample.due)..=second(sample.due + sample.took);
        which(sample.place) && sample.took > bound && seconds.all(is_calm)
    });
    slow.count()
}
