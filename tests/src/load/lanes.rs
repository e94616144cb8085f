//! A steady load of all providers, as senders are: each waits for its answer, sends again what was not
//! answered with 200, byte for byte, and writes all of it into the ledger.
//!
//! A lane is a sender that sends one request after the other. It lets an entity live for a few steps, the
//! next of which it sends only when the one before is acknowledged: these chains are what the order of
//! I5 is judged by. Among them come exact repetitions, two copies at the same moment through both
//! processes of ingest, forgeries, and bodies that are no event.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::expected::Expected;
use crate::harness::client::{Client, Outgoing};
use crate::harness::deployment::{Source, now};
use crate::harness::wait::wait_for;
use crate::load::ledger::{Ledger, Line, now_micros};
use crate::load::mix::{forged, unreadable};
use anyhow::{Context, Result};
use fastrand::Rng;
use sluice_schemas::audit::digest;

/// The longest that a sender waits for an answer: longer than ingest may take by its settings.
const ANSWER: Duration = Duration::from_secs(10);

/// The shortest time that a sender waits before it sends again; up to three times as long.
const RETRY_DELAY_MS: u64 = 150;

/// The longest life of an entity, in steps.
const STEPS: u64 = 8;

/// Of the last requests of a lane, so many may be repeated.
const KEPT: usize = 12;

/// Odd answers that are kept as text.
const ODD_ANSWERS: usize = 5;

/// A process of ingest.
#[derive(Debug, Clone)]
pub struct Target {
    /// The slot's name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// How often it was started.
    pub starts: Arc<AtomicU32>,
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts that were sent.
    pub attempts: u64,
    /// Answered with 200.
    pub acked: u64,
    /// Answered with 503.
    pub refused: u64,
    /// Not answered.
    pub unanswered: u64,
}

/// The load. Dropping it ends it.
pub struct Load {
    runtime: tokio::runtime::Runtime,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    sources: Vec<Source>,
    targets: Vec<(Target, Client)>,
    ledger: Ledger,
    period: Duration,
    paused: AtomicBool,
    stopping: AtomicBool,
    busy: AtomicU32,
    /// Numbers of requests and of entities.
    next: AtomicU64,
    attempts: AtomicU64,
    acked: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    odd: Mutex<Vec<String>>,
    answers: Mutex<Vec<Answered>>,
}

/// An attempt that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// When it was sent.
    pub sent: Instant,
    /// How long its answer took.
    pub took: Duration,
}

impl Load {
    /// Starts sending, `rate` requests a second in all, in so many lanes.
    pub fn start(
        sources: &[Source],
        targets: Vec<Target>,
        ledger: Ledger,
        rate: u32,
        lanes: u32,
        random: &mut Rng,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let targets = targets
            .into_iter()
            .map(|target| {
                let client = Client::new(target.address);
                (target, client)
            })
            .collect();
        let shared = Arc::new(Shared {
            sources: sources.to_vec(),
            targets,
            ledger,
            period: Duration::from_secs(1) * lanes / rate.max(1),
            paused: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            busy: AtomicU32::new(0),
            next: AtomicU64::new(1),
            attempts: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            odd: Mutex::default(),
            answers: Mutex::default(),
        });
        let tasks = (0..lanes)
            .map(|_| runtime.spawn(lane(Arc::clone(&shared), random.fork())))
            .collect();
        Ok(Self {
            runtime,
            tasks,
            shared,
        })
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            attempts: shared.attempts.load(Relaxed),
            acked: shared.acked.load(Relaxed),
            refused: shared.refused.load(Relaxed),
            unanswered: shared.unanswered.load(Relaxed),
        }
    }

    /// Answers that no sender of these requests should get, in words.
    pub fn odd(&self) -> Vec<String> {
        lock(&self.shared.odd).clone()
    }

    /// The attempts that were answered so far, by when they ended.
    pub fn answers(&self) -> Vec<Answered> {
        lock(&self.shared.answers).clone()
    }

    /// Lets every lane finish its request, to the 200, and wait.
    pub fn pause(&self, patience: Duration) -> Result<()> {
        self.shared.paused.store(true, Relaxed);
        wait_for("the senders to have their answers", patience, || {
            self.must_run()?;
            Ok((self.shared.busy.load(Relaxed) == 0).then_some(()))
        })
    }

    /// Goes on after [`Load::pause`].
    pub fn resume(&self) {
        self.shared.paused.store(false, Relaxed);
    }

    /// A lane ends early with an error of the harness alone.
    fn must_run(&self) -> Result<()> {
        anyhow::ensure!(
            !self.tasks.iter().any(tokio::task::JoinHandle::is_finished),
            "a sender ended"
        );
        Ok(())
    }

    /// Ends it; requests that are not acknowledged yet are given up.
    pub fn finish(self) -> Result<()> {
        self.shared.stopping.store(true, Relaxed);
        for task in self.tasks {
            self.runtime.block_on(task).context("a sender panicked")??;
        }
        Ok(())
    }
}

/// An entity on its way.
struct Chain {
    source: usize,
    entity: u64,
    steps: u64,
    left: u64,
    at: i64,
}

impl Chain {
    fn new(shared: &Shared, random: &mut Rng) -> Self {
        let steps = 1 + random.u64(..STEPS);
        Self {
            source: random.usize(..shared.sources.len()),
            entity: shared.next.fetch_add(1, Relaxed),
            steps,
            left: steps,
            at: 0,
        }
    }

    /// The next step. No two steps of an entity have the same bytes, for their times differ; they run
    /// ahead of the clock by a few seconds at most, which every provider allows.
    fn step(&mut self, shared: &Shared) -> Result<Outgoing> {
        let source = &shared.sources[self.source];
        self.at = now().max(self.at + 1);
        let events = source.samples()?;
        let place = usize::try_from(self.steps - self.left)? % events.len();
        self.left = self.left.saturating_sub(1);
        source.signed(events[place], self.entity, self.at)
    }
}

async fn lane(shared: Arc<Shared>, mut random: Rng) -> Result<()> {
    let mut chain = Chain::new(&shared, &mut random);
    let mut kept: Vec<(Outgoing, usize)> = Vec::new();
    // Lanes begin one after the other, within one period.
    let period = u64::try_from(shared.period.as_micros())?;
    let mut due = Instant::now() + Duration::from_micros(random.u64(..period.max(1)));
    loop {
        tokio::time::sleep_until(due.into()).await;
        // After a wait nothing is made up for: the load is steady, not as much as possible.
        due = (due + shared.period).max(Instant::now());
        if shared.stopping.load(Relaxed) {
            return Ok(());
        }
        shared.busy.fetch_add(1, Relaxed);
        if !shared.paused.load(Relaxed) {
            if chain.left == 0 {
                chain = Chain::new(&shared, &mut random);
            }
            turn(&shared, &mut chain, &mut kept, &mut random).await?;
        }
        shared.busy.fetch_sub(1, Relaxed);
    }
}

/// One turn of a lane: of every hundred some six repetitions, four pairs, two forgeries, and three
/// that are no event.
async fn turn(
    shared: &Shared,
    chain: &mut Chain,
    kept: &mut Vec<(Outgoing, usize)>,
    random: &mut Rng,
) -> Result<()> {
    let choice = random.u64(..100);
    let source = chain.source;
    let request = match choice {
        0..6 if !kept.is_empty() => {
            let (request, source) = kept[random.usize(..kept.len())].clone();
            let request = (&request, Expected::Authentic);
            return deliver(shared, request, source, random).await;
        }
        6..8 => match forgery(shared, random)? {
            Some((request, source)) => {
                return deliver(shared, (&request, Expected::Forged), source, random).await;
            }
            None => chain.step(shared)?,
        },
        8..11 => {
            let request = poison(shared, chain, random)?;
            let request = (&request, Expected::Unreadable);
            return deliver(shared, request, source, random).await;
        }
        11..15 => {
            let request = chain.step(shared)?;
            let (mut one, mut other) = (random.fork(), random.fork());
            let request = (&request, Expected::Authentic);
            let (first, second) = tokio::join!(
                deliver(shared, request, source, &mut one),
                deliver(shared, request, source, &mut other),
            );
            first?;
            second?;
            return Ok(());
        }
        _ => chain.step(shared)?,
    };
    deliver(shared, (&request, Expected::Authentic), source, random).await?;
    if kept.len() == KEPT {
        kept.remove(0);
    }
    kept.push((request, source));
    Ok(())
}

/// A forgery of any source; `None` where the source chosen does not sign.
fn forgery(shared: &Shared, random: &mut Rng) -> Result<Option<(Outgoing, usize)>> {
    let place = random.usize(..shared.sources.len());
    let source = &shared.sources[place];
    let event = random
        .choice(source.samples()?)
        .context("a provider without events")?;
    let forged = forged(source, event, shared.next.fetch_add(1, Relaxed), now())?;
    Ok(forged.map(|request| (request, place)))
}

/// A signed body that is no event, of the chain's source.
fn poison(shared: &Shared, chain: &Chain, random: &mut Rng) -> Result<Outgoing> {
    let source = &shared.sources[chain.source];
    let event = random
        .choice(source.samples()?)
        .context("a provider without events")?;
    unreadable(
        source,
        event,
        shared.next.fetch_add(1, Relaxed),
        now(),
        random,
    )
}

/// Sends a request until it is answered with 200, and writes all of it down.
async fn deliver(
    shared: &Shared,
    (request, expected): (&Outgoing, Expected),
    source: usize,
    random: &mut Rng,
) -> Result<()> {
    let number = shared.next.fetch_add(1, Relaxed);
    let sha256 = hex::encode(digest(&request.body));
    let source = &shared.sources[source].name;
    let mut attempt = 0;
    while !shared.stopping.load(Relaxed) {
        attempt += 1;
        let (target, client) = &shared.targets[random.usize(..shared.targets.len())];
        shared.ledger.write(&Line::Intent {
            number,
            attempt,
            source: source.clone(),
            sha256: sha256.clone(),
            expected,
            process: format!("{} #{}", target.name, target.starts.load(Relaxed)),
            at: now_micros(),
        })?;
        shared.attempts.fetch_add(1, Relaxed);
        let sent = Instant::now();
        let answer = tokio::time::timeout(ANSWER, client.post(request)).await;
        let took = sent.elapsed();
        let Ok(Ok(answer)) = answer else {
            shared.unanswered.fetch_add(1, Relaxed);
            shared.ledger.write(&Line::Unanswered { number, attempt })?;
            pause(random).await;
            continue;
        };
        lock(&shared.answers).push(Answered { sent, took });
        if answer.status == 200 {
            let id = answer.id()?;
            shared.ledger.write(&Line::Ack {
                id,
                number,
                attempt,
            })?;
            shared.acked.fetch_add(1, Relaxed);
            return Ok(());
        }
        shared.ledger.write(&Line::Refused {
            status: answer.status,
            number,
            attempt,
        })?;
        if answer.status != 503 {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let mut odd = lock(&shared.odd);
            if odd.len() < ODD_ANSWERS {
                odd.push(format!("{source} answered {}: {text}", answer.status));
            }
            return Ok(());
        }
        shared.refused.fetch_add(1, Relaxed);
        pause(random).await;
    }
    Ok(())
}

async fn pause(random: &mut Rng) {
    let wait = RETRY_DELAY_MS + random.u64(..(2 * RETRY_DELAY_MS));
    tokio::time::sleep(Duration::from_millis(wait)).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
