//! Attacks on one ingest, one after the other, under good traffic, and what came of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::load::open_loop::Window;

use super::attack::{self, Attack, Front, Seen};
use super::scene::{Attacked, Outcome, Scene, Span, ratio};
use super::smuggling::{self, Exchange};
use super::watch::Machine;

/// No attack on this ingest begins later than this after the first, so that the trial ends in its time: the
/// longest attack takes 150 s.
const LAST_START: Duration = Duration::from_secs(420);

/// Before anything is timed: connections, metadata, the first pages.
const WARM_UP: Duration = Duration::from_secs(8);

/// Between two attacks, so that what the first left to the kernel is not counted for the second.
const PAUSE: Duration = Duration::from_millis(1_500);

/// The last line of standard output.
#[derive(Default, Serialize)]
pub struct Report {
    pub holds: bool,
    pub tls: bool,
    /// Whether Kafka's disk is in memory: a real one that stands still would be timed too.
    pub in_memory: bool,
    /// Good traffic before the first attack.
    pub quiet: Option<Window>,
    /// The sleeping thread's at that time.
    pub machine_p99_ms: Option<f64>,
    pub attacks: Vec<Outcome>,
    pub good_requests: usize,
    pub faults: Vec<String>,
    pub elapsed_seconds: f64,
}

impl Report {
    /// Adds the faults of the attacks; whether there is none decides.
    pub fn judge(&mut self) {
        for outcome in &self.attacks {
            let named = outcome.seen.faults.iter();
            let named = named.map(|fault| format!("{:?}: {fault}", outcome.attack));
            self.faults.extend(named);
        }
        self.good_requests = self.attacks.iter().map(Outcome::good_sent).sum();
        self.holds = self.faults.is_empty();
    }
}

/// What was timed and watched so far.
pub struct Run {
    front: Front,
    scene: Scene,
    quiet: Span,
    attacked: Vec<Attacked>,
    faults: Vec<String>,
    /// What the corpus was answered, to be compared with raw.
    smuggled: Vec<Exchange>,
}

impl Run {
    pub fn start((rate, quiet): (u32, Duration), site: &Site, front: Front) -> Result<Self> {
        let second = site.settings_of_a_second()?;
        let scene = Scene::start(site, &second, &front.wire, rate)?;
        std::thread::sleep(WARM_UP);
        eprintln!("good traffic in quiet, {rate} requests a second");
        let from = Instant::now();
        std::thread::sleep(quiet);
        Ok(Self {
            front,
            scene,
            quiet: (from, Instant::now()),
            attacked: Vec::new(),
            faults: Vec::new(),
            smuggled: Vec::new(),
        })
    }

    /// Runs an attack. One that would begin too late is not run, which is a fault.
    pub fn under(&mut self, attack: Attack) -> Result<()> {
        if self.quiet.1.elapsed() > LAST_START {
            let sentence = format!("{attack:?}: not run, the attacks before it took too long");
            self.faults.push(sentence);
            return Ok(());
        }
        std::thread::sleep(PAUSE);
        let from = Instant::now();
        let Self {
            front,
            scene,
            smuggled,
            ..
        } = self;
        let attacked = scene.under(attack, |scene| once(attack, front, scene, smuggled))?;
        let good = scene.window((from, Instant::now()));
        let quiet = scene.window(self.quiet);
        let seen = &attacked.seen;
        eprintln!(
            "{attack:?}: {:.0?}; p99 {:.1} ms, {:.1} times that in quiet; {:?} {:?}",
            from.elapsed(),
            good.p99_ms,
            ratio(&good, &quiet),
            seen.answers,
            seen.figures,
        );
        for fault in &seen.faults {
            eprintln!("  fault: {fault}");
        }
        self.attacked.push(attacked);
        Ok(())
    }

    /// Ends the traffic and ingest, and reports; ingest's log.
    pub fn finish(self, site: &Site, machine: &Machine, report: &mut Report) -> Result<String> {
        let mut done = self.scene.finish()?;
        let all = done.good.window(self.quiet.0, Instant::now());
        let quiet = done.good.window(self.quiet.0, self.quiet.1);
        for mut attacked in self.attacked {
            let attack = attacked.attack();
            if attack == Attack::Smuggling {
                let raw = vec![site.names().raw()];
                let records = read(site.bootstrap(), &raw, Isolation::Committed)?;
                let path = &self.front.path;
                attacked.seen.faults = smuggling::faults(&self.smuggled, &records, path);
            }
            let path = site.source(attack.provider())?.path();
            report
                .attacks
                .push(done.outcome(attacked, &path, &quiet, machine));
        }
        report.faults.extend(self.faults);
        let within: usize = report.attacks.iter().map(Outcome::failed).sum();
        let between = all.failed.saturating_sub(within);
        if between > 0 {
            let fault = format!("{between} good requests failed outside of attacks");
            report.faults.push(fault);
        }
        if all.failed > 0 {
            eprintln!(
                "the first good requests that failed: {:?}",
                done.good.failures
            );
        }
        report.machine_p99_ms = Some(machine.p99_ms(self.quiet.0, self.quiet.1));
        report.quiet = Some(quiet);
        if let Err(error) = done.ingest.stop() {
            report.faults.push(format!("ingest did not end: {error:#}"));
        }
        done.ingest.log()
    }
}

fn once(
    attack: Attack,
    front: &Front,
    scene: &mut Scene,
    smuggled: &mut Vec<Exchange>,
) -> Result<Seen> {
    match attack {
        Attack::Smuggling => {
            *smuggled = attack::smuggle(front)?;
            Ok(attack::seen_of(smuggled))
        }
        Attack::ProbeHold => super::probe::run(scene, front.seconds),
        other => other.run(front),
    }
}
