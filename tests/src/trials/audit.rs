//! The audit run: many requests of all providers through real Kafka while the processor is killed,
//! then both ends counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use sluice_schemas::audit::{Acked, Invariant, Verdict, audit_seen, digest};
use sluice_schemas::record::Record;
use sluice_tests::expected::{Expected, Sent, check_expected};
use sluice_tests::harness::client::Client;
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::offsets;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::topics::{Isolation, read, with_prefix};
use sluice_tests::harness::wait::{PATIENCE, wait_for};
use sluice_tests::load::mix::numbered::{Sums, expected, must_become, request};

use crate::trials::frame;

mod ctl;

/// What the audit is asked for.
#[derive(clap::Args)]
pub struct Options {
    /// Requests to send.
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// How often the processor is killed on the way.
    #[arg(long, default_value_t = 3)]
    kills: u64,
    /// Worker threads of the processor.
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Requests a second, at most: slow enough that every kill falls into the sending, since a member
    /// that was killed is missed for ten seconds before its partitions are given away.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Requests on the way at once.
    #[arg(long, default_value_t = 64)]
    concurrency: u64,
    /// Tries `sluicectl audit` over that many raw records, and nothing else.
    #[arg(long)]
    ctl: bool,
    /// The raw records of --ctl.
    #[arg(long, default_value_t = 1_000_000, requires = "ctl")]
    records: u64,
}

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    requests: u64,
    retried: u64,
    kills: u64,
    expected: Sums,
    #[serde(flatten)]
    verdict: Verdict,
    send_seconds: f64,
    requests_per_second: f64,
    catch_up_seconds: f64,
    elapsed_seconds: f64,
}

/// All but the sending, once the last answer came, must be over by then.
const CATCH_UP: Duration = Duration::from_secs(180);

/// Runs the audit; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    if options.ctl {
        return ctl::run(options.records);
    }
    run_killed(options)
}

/// With the processor killed on the way.
fn run_killed(options: &Options) -> Result<bool> {
    if options.requests < 200 {
        bail!("--requests must be at least 200, so that each kind of request is among them");
    }
    let start = Instant::now();
    eprintln!("starting Kafka and both services");
    let cluster = Cluster::start(1, Purpose::Bench)?;
    let mut site = Site::new("", &cluster.bootstrap())?;
    site.set(&["processor", "workers"], json!(options.workers));
    site.set(&["topics", "partitions"], json!(6));
    let site = Arc::new(site);
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let mut processor = site.processor("audit")?;
    processor.wait_ready()?;

    eprintln!(
        "sending {} requests; {} kills on the way",
        options.requests, options.kills
    );
    let sending = Sending::start(&site, options)?;
    let kills = kill_on_the_way(&site, &mut processor, &sending, options)?;
    let (acked, sent, retried, sent_in) = sending.finish()?;
    eprintln!(
        "{} answered with 200 after {sent_in:.1?}; waiting for the processor",
        acked.len()
    );
    let since = Instant::now();
    offsets::wait_caught_up(
        site.bootstrap(),
        &site.group(),
        &site.names().raw(),
        CATCH_UP,
    )?;
    let catch_up = since.elapsed();
    processor.stop()?;
    ingest.stop()?;

    eprintln!("reading all topics");
    let topics = with_prefix(site.bootstrap(), "")?;
    let records = read(site.bootstrap(), &topics, Isolation::Committed)?;
    let mut verdict = judged(&site, &records, &acked, &sent);
    let expected = expected(options.requests);
    let found = found(&verdict);
    // A request that was answered with 503 may stand on raw all the same, and its retry too.
    if retried == 0 && found != expected {
        verdict.fault(
            Invariant::I2,
            format!("expected {expected:?}, found {found:?}"),
        );
    }
    if kills != options.kills {
        verdict.fault(Invariant::I2, format!("only {kills} kills took place"));
    }
    let report = Report {
        holds: verdict.holds(),
        requests: options.requests,
        retried,
        kills,
        expected,
        verdict,
        send_seconds: sent_in.as_secs_f64(),
        #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
        requests_per_second: options.requests as f64 / sent_in.as_secs_f64(),
        catch_up_seconds: catch_up.as_secs_f64(),
        elapsed_seconds: start.elapsed().as_secs_f64(),
    };
    frame::conclude(&report, report.holds, &report.verdict.faults, None)
}

/// The audit, and each fate against what is known of its request.
fn judged(site: &Site, records: &[Record], acked: &[Acked], sent: &Sent) -> Verdict {
    let (mut verdict, seen) = audit_seen(&site.names(), records, acked);
    check_expected(&seen, sent, &mut verdict);
    verdict
}

fn found(verdict: &Verdict) -> Sums {
    let sum = |counts: &std::collections::BTreeMap<String, usize>| {
        counts.values().map(|count| *count as u64).sum()
    };
    Sums {
        events: sum(&verdict.events),
        duplicates: verdict.duplicates as u64,
        rejected: sum(&verdict.rejected),
        dead_letters: sum(&verdict.dead_letters),
    }
}

/// What one sender did: what was answered with 200, and how often it sent again.
type Part = (Vec<Acked>, Vec<Expected>, u64);

/// Requests on their way, in threads of their own. What must become of all is counted beforehand, so each
/// number is sent until its 200, which gives its id: the open loop neither keeps ids nor retries, and the
/// lanes choose their requests at random.
struct Sending {
    runtime: tokio::runtime::Runtime,
    tasks: Vec<tokio::task::JoinHandle<Result<Part>>>,
    done: Arc<AtomicU64>,
    since: Instant,
}

impl Sending {
    fn start(site: &Arc<Site>, options: &Options) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let next = Arc::new(AtomicU64::new(0));
        let done = Arc::new(AtomicU64::new(0));
        let at = now();
        let client = Arc::new(Client::new(site.listen()));
        let (requests, rate) = (options.requests, options.rate.max(1));
        let since = Instant::now();
        let tasks = (0..options.concurrency)
            .map(|_| {
                let (site, client) = (Arc::clone(site), Arc::clone(&client));
                let (next, done) = (Arc::clone(&next), Arc::clone(&done));
                runtime.spawn(async move {
                    let (mut acked, mut must, mut retried) = (Vec::new(), Vec::new(), 0);
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= requests {
                            return Ok((acked, must, retried));
                        }
                        let outgoing = request(&site, n, at)?;
                        let due = since + Duration::from_secs(n) / rate;
                        tokio::time::sleep_until(due.into()).await;
                        let mut answer = client.post(&outgoing).await?;
                        while answer.status == 503 {
                            retried += 1;
                            tokio::time::sleep(Duration::from_millis(100)).await;
                            answer = client.post(&outgoing).await?;
                        }
                        acked.push(Acked {
                            id: answer.id()?,
                            digest: digest(&outgoing.body),
                        });
                        must.push(must_become(n));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Ok(Self {
            runtime,
            tasks,
            done,
            since,
        })
    }

    fn finish(self) -> Result<(Vec<Acked>, Sent, u64, Duration)> {
        let (mut acked, mut sent, mut retried) = (Vec::new(), Sent::default(), 0);
        for task in self.tasks {
            let (some, must, again) =
                self.runtime.block_on(task).context("a sender panicked")??;
            for (acked, must) in some.iter().zip(must) {
                // What is sent by number is sent within the time that signatures are good for.
                sent.add(acked.digest, must, u64::MAX);
            }
            acked.extend(some);
            retried += again;
        }
        Ok((acked, sent, retried, self.since.elapsed()))
    }
}

/// Kills the processor at even parts of the way and starts it at once; each kill falls into its work,
/// for it must have ended records since its start.
fn kill_on_the_way(
    site: &Site,
    processor: &mut Service,
    sending: &Sending,
    options: &Options,
) -> Result<u64> {
    for kill in 1..=options.kills {
        let threshold = options.requests * kill / (options.kills + 1);
        wait_for("the sending to go on", CATCH_UP, || {
            if sending
                .tasks
                .iter()
                .any(tokio::task::JoinHandle::is_finished)
                && sending.done.load(Ordering::Relaxed) < options.requests
            {
                // A sender that ended early has an error, which finish() returns.
                return Ok(Some(()));
            }
            Ok((sending.done.load(Ordering::Relaxed) >= threshold).then_some(()))
        })?;
        wait_for("the processor to work", PATIENCE, || {
            let ended = processor
                .metrics()
                .map(|samples| samples.sum("sluice_fates_total", &[]));
            Ok(ended.is_ok_and(|ended| ended > 0.0).then_some(()))
        })?;
        processor.kill()?;
        *processor = site.processor("audit")?;
        eprintln!(
            "kill {kill} after {} answers",
            sending.done.load(Ordering::Relaxed)
        );
    }
    Ok(options.kills)
}
