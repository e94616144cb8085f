//! An ingest that is attacked and one that nobody attacks, on one machine and one Kafka, under the same good
//! traffic, and what came of that traffic.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Site, listen_of};
use sluice_tests::harness::metrics::memory;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::wait::wait_for;
use sluice_tests::harness::wire::Wire;
use sluice_tests::load::mix;
use sluice_tests::load::open_loop::{OpenLoop, Sent, Window};

use super::attack::{Attack, Seen};
use super::peers::GOOD;
use super::watch::{Machine, Memory};

/// A good request that takes longer counts as slow,
const SLOW: Duration = Duration::from_secs(1);

/// where the ingest that nobody attacks was faster than this meanwhile.
const CALM: Duration = Duration::from_millis(500);

/// After an attack its connections are gone within this time: longer than each of ingest's own times.
const SHED: Duration = Duration::from_secs(30);

/// The allocator returns memory to the kernel a second or more after it is free. It is given this time,
const SETTLED: Duration = Duration::from_secs(5);

/// or less, once no more than this is left of what an attack took, in bytes.
const RETURNED: u64 = 16 << 20;

/// How often memory is read meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Connections that may be open in addition to those that good traffic keeps: its requests on their way.
const SPARE: usize = 16;

/// A quiet p99 below this counts as this, in milliseconds: less is the machine's noise, not ingest's.
const FLOOR_MS: f64 = 5.0;

/// A span of time.
pub type Span = (Instant, Instant);

/// Both, and the traffic.
pub struct Scene {
    pub ingest: Service,
    pub untouched: Service,
    good: OpenLoop,
    baseline: OpenLoop,
    memory: Memory,
    /// The path of each good request.
    paths: Vec<String>,
}

/// One attack, and when.
pub struct Attacked {
    attack: Attack,
    /// While it went on.
    span: Span,
    /// Until its connections were gone.
    gone: Instant,
    pub seen: Seen,
    memory: Held,
}

impl Attacked {
    pub fn attack(&self) -> Attack {
        self.attack
    }
}

/// An ingest's memory, in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Held {
    pub before: u64,
    pub peak: u64,
    pub after: u64,
    /// The peak may be above `before` by less than this.
    pub bound: u64,
}

/// Good requests of some kind.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Count {
    pub sent: usize,
    pub failed: usize,
    /// Over 1 s, where the ingest that nobody attacks took less than 0.5 s in the same seconds.
    pub slow: usize,
}

/// What came of one attack. Times are printed and not judged: attackers share the machine.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub attack: Attack,
    pub memory: Held,
    /// Good requests until the attack's connections were gone.
    good: Count,
    /// Those of them to the source that is attacked.
    good_attacked: Count,
    /// Whether those decide.
    attacked_judged: bool,
    /// The times of good traffic while the attack went on.
    times: Window,
    /// Its p99 divided by that in quiet, or by the floor.
    ratio: f64,
    /// The p99 at the ingest that nobody attacks, on the same machine with the same Kafka.
    untouched_p99_ms: f64,
    /// Good traffic's p99 divided by this one: what of it is the attacked ingest's own.
    untouched_ratio: f64,
    /// How late a thread woke that only sleeps, at the 99th percentile: what the machine and the attackers,
    /// who share it, add to every time.
    machine_p99_ms: f64,
    seconds: f64,
    #[serde(flatten)]
    pub seen: Seen,
}

impl Outcome {
    /// The good requests that failed, judged or not.
    pub fn failed(&self) -> usize {
        self.good.failed
    }

    pub fn good_sent(&self) -> usize {
        self.good.sent
    }

    /// Those that were answered with 200.
    pub fn good_taken(&self) -> usize {
        self.good.sent - self.good.failed
    }
}

impl Scene {
    /// Starts both services and the traffic. `wire` is the good senders'.
    pub fn start(site: &Site, second: &Value, wire: &Wire, rate: u32) -> Result<Self> {
        let mut ingest = site.ingest()?;
        ingest.wait_ready()?;
        let mut untouched = site.start("sluice-ingest", "ingest", second)?;
        untouched.wait_ready()?;
        let wire = wire.clone().from(GOOD);
        let requests = mix::events(site)?;
        let paths = requests
            .iter()
            .map(|request: &Outgoing| request.path.clone());
        let paths = paths.collect();
        let start = |address| OpenLoop::start(&[address], &wire, requests.clone(), rate);
        let (good, baseline) = (start(site.listen())?, start(listen_of(second)?)?);
        let memory = Memory::watch(ingest.id());
        Ok(Self {
            ingest,
            untouched,
            good,
            baseline,
            memory,
            paths,
        })
    }

    /// Good traffic at the attacked ingest so far.
    pub fn window(&self, span: Span) -> Window {
        self.good.window(span.0, span.1)
    }

    /// Runs an attack and waits until its connections are gone.
    pub fn under(
        &mut self,
        attack: Attack,
        run: impl FnOnce(&mut Self) -> Result<Seen>,
    ) -> Result<Attacked> {
        let before = memory(self.ingest.id(), "VmRSS")?;
        self.memory.peak();
        let from = Instant::now();
        let mut seen = run(self).unwrap_or_else(|error| Seen {
            faults: vec![format!("it could not be tried: {error:#}")],
            ..Seen::default()
        });
        let span = (from, Instant::now());
        if let Some(status) = self.ingest.ended()? {
            let log = self.ingest.log()?;
            anyhow::bail!("ingest ended under {attack:?}: {status}\n{log}");
        }
        if let Err(error) = self.shed() {
            seen.faults.push(format!("{error:#}"));
        }
        let peak = self.memory.peak().max(before);
        let memory = Held {
            before,
            peak,
            after: self.settled(before + RETURNED)?,
            bound: attack.growth(),
        };
        if memory.peak - before >= memory.bound {
            let [grown, bound] = [memory.peak - before, memory.bound].map(|bytes| bytes >> 20);
            seen.faults.push(format!(
                "ingest grew by {grown} MiB, and {bound} MiB is the bound"
            ));
        }
        Ok(Attacked {
            attack,
            span,
            gone: Instant::now(),
            seen,
            memory,
        })
    }

    /// The memory once it is below `goal`, or that after a while.
    fn settled(&self, goal: u64) -> Result<u64> {
        let by = Instant::now() + SETTLED;
        loop {
            let now = memory(self.ingest.id(), "VmRSS")?;
            if now < goal || Instant::now() >= by {
                return Ok(now);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until no connection of an attack is left.
    fn shed(&self) -> Result<()> {
        wait_for("the attack's connections to be gone", SHED, || {
            // An admin port that was held may not answer at once.
            let Ok(metrics) = self.ingest.metrics() else {
                return Ok(None);
            };
            let open = metrics.sum("sluice_ingest_connections", &[]);
            let ours = u32::try_from(self.good.kept() + SPARE)?;
            Ok((open <= f64::from(ours)).then_some(()))
        })
    }

    /// Ends the traffic.
    pub fn finish(self) -> Result<Finished> {
        Ok(Finished {
            good: self.good.finish()?,
            baseline: self.baseline.finish()?,
            ingest: self.ingest,
            paths: self.paths,
        })
    }
}

/// All good traffic of a scene, and the ingest, which still runs.
pub struct Finished {
    pub good: Sent,
    baseline: Sent,
    pub ingest: Service,
    paths: Vec<String>,
}

impl Finished {
    /// What came of an attack, with its faults. `path` is that of the source that is attacked.
    pub fn outcome(
        &self,
        attacked: Attacked,
        path: &str,
        quiet: &Window,
        machine: &Machine,
    ) -> Outcome {
        let Attacked {
            attack,
            span: (from, to),
            gone,
            mut seen,
            memory,
        } = attacked;
        let count = |which: &dyn Fn(usize) -> bool| {
            let window = self.good.window_of(from, gone, which);
            let other = (&self.baseline, CALM);
            Count {
                sent: window.requests,
                failed: window.failed,
                slow: self.good.slow((from, gone), SLOW, other, which),
            }
        };
        let to_attacked = |place: usize| self.paths[place] == path;
        let good = count(&|_| true);
        let good_attacked = count(&to_attacked);
        let judged = if attack.judges_its_source() {
            good
        } else {
            count(&|place| !to_attacked(place))
        };
        let Count { sent, failed, slow } = judged;
        if failed > 0 {
            seen.faults
                .push(format!("{failed} of {sent} good requests failed"));
        }
        if slow > 0 {
            seen.faults.push(format!(
                "{slow} of {sent} good requests took over 1 s while the ingest that nobody attacks took \
                 less than 0.5 s"
            ));
        }
        let times = self.good.window(from, to);
        let untouched_p99_ms = self.baseline.window(from, to).p99_ms;
        Outcome {
            attack,
            memory,
            good,
            good_attacked,
            attacked_judged: attack.judges_its_source(),
            ratio: ratio(&times, quiet),
            untouched_p99_ms,
            untouched_ratio: times.p99_ms / untouched_p99_ms,
            machine_p99_ms: machine.p99_ms(from, to),
            times,
            seconds: (to - from).as_secs_f64(),
            seen,
        }
    }
}

/// The p99 of good traffic divided by that in quiet, or by the floor.
pub fn ratio(good: &Window, quiet: &Window) -> f64 {
    good.p99_ms / quiet.p99_ms.max(FLOOR_MS)
}
