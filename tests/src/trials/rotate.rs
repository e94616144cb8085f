//! Certificate and URL token are changed again and again under a steady load over TLS that must not
//! notice. Both change at once, as a hand under pressure would do it, and each must be seen to be in
//! force: a run in which nothing changed would hold too.

use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};
use sluice_schemas::identity::sha256;
use sluice_tests::harness::client::{Client, Outgoing};
use sluice_tests::harness::cluster::{Cluster, Purpose};
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::harness::process::Service;
use sluice_tests::harness::wait::wait_for;
use sluice_tests::harness::wire::{Authority, Handshakes, Wire};

use sluice_tests::load::mix;
use sluice_tests::load::open_loop::{OpenLoop, Window};

use crate::trials::frame;

/// What the run is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Requests a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// For how long certificate and token are changed, in seconds.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(5..=180))]
    seconds: u64,
    /// How often they are, in seconds; two settings files one after the other take 3 s to be in force.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(5..=60))]
    every: u64,
    /// Connections go on with the TLS session of an earlier one where ingest lets them, as a sender's that
    /// keeps sessions; otherwise each has a whole handshake.
    #[arg(long)]
    resume: bool,
    /// The new token without the old one, which a load that has the old one must notice: for
    /// trials.
    #[arg(long, hide = true)]
    abrupt: bool,
}

/// After the last change: what it broke shows within this time.
const CALM: Duration = Duration::from_secs(3);

/// A change is in force within 2 s; longer, for a busy machine.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(15);

/// Between the two files of a pair: ingest looks each second, so it most often finds a pair that does
/// not fit, and never finds it twice, which it would report as a fault.
const BETWEEN: Duration = Duration::from_millis(900);

/// One request in so many goes to the source with the token. It shares no divisor with the one in ten
/// that comes on a connection of its own, so that either kind of connection carries the token.
const TOKENED_EVERY: usize = 3;

const IN_FORCE: &str = "sluice_settings_in_force";

const SETTINGS_REFUSED: &str = "sluice_settings_reload_failures_total";

const PAIRS_REFUSED: &str = "sluice_ingest_tls_reload_failures_total";

/// The last line of standard output.
#[derive(Serialize)]
struct Report {
    holds: bool,
    rate: u32,
    every_seconds: u64,
    /// All that was sent, without what asked whether a token is good.
    sent: Window,
    certificates_rotated: usize,
    /// Of these, the ones of which the certificate was written first, and the key later.
    file_by_file: usize,
    certificates_seen: usize,
    tokens_rotated: usize,
    handshakes: usize,
    /// Of these, the ones that went on with an earlier session.
    resumed: usize,
    handshakes_failed: usize,
    /// From the first file that was written to the old token's 404.
    longest_rotation_seconds: f64,
    faults: Vec<String>,
    elapsed_seconds: f64,
}

/// Runs it; whether it holds.
pub fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    eprintln!("starting Kafka and ingest");
    let cluster = Cluster::start(1, Purpose::Tests)?;
    let mut site = Site::new("", &cluster.bootstrap())?;
    let door = Door::new(&site.dir().join("tls"))?;
    site.set(&["ingest", "tls"], door.settings());
    let mut ingest = site.ingest()?;
    ingest.wait_ready()?;
    let handshakes = Arc::<Handshakes>::default();
    let wire = Wire::tls(&door.root(), "http/1.1")?;
    let tokens = Tokens::new(site, &wire)?;
    let wire = if options.resume { wire } else { wire.unknown() };
    let from = Instant::now();
    let good = OpenLoop::start(
        &[tokens.site.listen()],
        &wire.noted(&handshakes),
        tokens.requests()?,
        options.rate,
    )?;
    let mut run = Run {
        door,
        tokens,
        handshakes,
        longest: Duration::ZERO,
        rotated: 0,
        faults: Vec::new(),
    };
    run.rotate(options, &ingest, &good, from);
    std::thread::sleep(CALM);
    let sent = good.finish()?;
    let window = sent.window(from, Instant::now());
    run.judge(&window, &sent.failures);
    run.end(&mut ingest);
    let (made, resumed, failed) = run.handshakes.counts();
    let report = Report {
        holds: run.faults.is_empty(),
        rate: options.rate,
        every_seconds: options.every,
        sent: window,
        certificates_rotated: run.door.written.len() - 1,
        file_by_file: run.door.file_by_file,
        certificates_seen: run.seen(),
        tokens_rotated: run.rotated,
        handshakes: made,
        resumed,
        handshakes_failed: failed,
        longest_rotation_seconds: run.longest.as_secs_f64(),
        faults: run.faults,
        elapsed_seconds: start.elapsed().as_secs_f64(),
    };
    frame::conclude(&report, report.holds, &report.faults, None)
}

/// What was changed so far, and what came of it.
struct Run {
    door: Door,
    tokens: Tokens,
    handshakes: Arc<Handshakes>,
    longest: Duration,
    /// Tokens that are in force, and the one before no more.
    rotated: usize,
    faults: Vec<String>,
}

impl Run {
    /// Changes both every so often, until the time is over or a change is not seen.
    fn rotate(&mut self, options: &Options, ingest: &Service, good: &OpenLoop, from: Instant) {
        let every = Duration::from_secs(options.every);
        for round in 1..=options.seconds / options.every {
            let due = from + Duration::from_secs(round * options.every);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let began = Instant::now();
            if let Err(error) = self.once(round, options.abrupt, ingest, good) {
                self.faults.push(format!("round {round}: {error:#}"));
                return;
            }
            let took = began.elapsed();
            eprintln!("round {round}: both are in force after {took:.1?}");
            self.longest = self.longest.max(took);
            if took > every {
                // The next one is late, and so is not what was asked for.
                self.faults.push(format!("round {round} took {took:.1?}"));
            }
        }
    }

    fn once(&mut self, round: u64, abrupt: bool, ingest: &Service, good: &OpenLoop) -> Result<()> {
        let (old, new) = (self.tokens.now.clone(), format!("rotated-{round}"));
        if abrupt {
            self.tokens.allow(&[&new])?;
        } else {
            self.tokens.allow(&[&old, &new])?;
        }
        let digest = if round.is_multiple_of(2) {
            self.door.replace_files()?
        } else {
            self.door.swap_folder()?
        };
        self.tokens.wait(ingest, &new, 200)?;
        self.tokens.now.clone_from(&new);
        good.replace(self.tokens.requests()?)?;
        self.tokens.allow(&[&new])?;
        self.tokens.wait(ingest, &old, 404)?;
        self.rotated += 1;
        wait_for("the new certificate", IN_FORCE_WITHIN, || {
            let shown = self.handshakes.certificates();
            Ok(shown.contains(&digest).then_some(()))
        })
    }

    /// How many certificates were seen, of those that were written.
    fn seen(&self) -> usize {
        let shown = self.handshakes.certificates();
        self.door.written.intersection(&shown).count()
    }

    fn judge(&mut self, sent: &Window, failures: &[String]) {
        let mut none = |many: usize, what: &str| {
            if many > 0 {
                self.faults.push(format!("{many} {what}"));
            }
        };
        none(sent.failed, &format!("failed: {failures:?}"));
        none(sent.refused, "connections were refused");
        // Sent again they may be good, and a sender that does not would have lost them.
        none(sent.resent, "were closed under a request");
        none(self.handshakes.counts().2, "handshakes failed");
        let (seen, written) = (self.seen(), self.door.written.len());
        if seen < written {
            let unseen = format!("{seen} of {written} certificates were seen");
            self.faults.push(unseen);
        }
    }

    /// Ends ingest, which must have found nothing wrong.
    fn end(&mut self, ingest: &mut Service) {
        let ended = quiet(ingest)
            .and_then(|()| ingest.stop())
            .and_then(|()| self.tokens.site.check_logs(&[]));
        if let Err(error) = ended {
            self.faults.push(format!("ingest: {error:#}"));
        }
    }
}

fn quiet(ingest: &Service) -> Result<()> {
    let metrics = ingest.metrics()?;
    for name in [SETTINGS_REFUSED, PAIRS_REFUSED] {
        let count = metrics.sum(name, &[]);
        if count > 0.0 {
            bail!("{name} is {count}");
        }
    }
    Ok(())
}

/// The files of the certificate, as Kubernetes lays out a secret: each is a link into a folder that is
/// itself behind a link, which is swapped.
struct Door {
    dir: PathBuf,
    authority: Authority,
    /// The digests of all certificates that were written.
    written: HashSet<[u8; 32]>,
    file_by_file: usize,
}

impl Door {
    fn new(dir: &Path) -> Result<Self> {
        std::fs::create_dir(dir)?;
        let authority = Authority::new()?;
        let mut door = Self {
            dir: dir.to_owned(),
            authority,
            written: HashSet::new(),
            file_by_file: 0,
        };
        std::fs::write(door.root(), door.authority.certificate())?;
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), dir.join(name))?;
        }
        door.swap_folder()?;
        Ok(door)
    }

    /// What clients trust.
    fn root(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    fn settings(&self) -> Value {
        let file = |name: &str| self.dir.join(name);
        json!({"cert_file": file("tls.crt"), "key_file": file("tls.key")})
    }

    /// A new pair in the place of the old one, at once. Returns the digest of the certificate.
    fn swap_folder(&mut self) -> Result<[u8; 32]> {
        let pair = self.authority.sign()?;
        let folder = format!("..{}", self.written.len());
        let inside = self.dir.join(&folder);
        std::fs::create_dir(&inside)?;
        std::fs::write(inside.join("tls.crt"), &pair.certificate)?;
        std::fs::write(inside.join("tls.key"), &pair.key)?;
        let (next, link) = (self.dir.join("..next"), self.dir.join("..data"));
        symlink(&folder, &next)?;
        std::fs::rename(&next, &link)?;
        self.written.insert(pair.digest);
        Ok(pair.digest)
    }

    /// The same with a time in which the key is still that of the certificate before.
    fn replace_files(&mut self) -> Result<[u8; 32]> {
        let pair = self.authority.sign()?;
        std::fs::write(self.dir.join("tls.crt"), &pair.certificate)?;
        std::thread::sleep(BETWEEN);
        std::fs::write(self.dir.join("tls.key"), &pair.key)?;
        self.written.insert(pair.digest);
        self.file_by_file += 1;
        Ok(pair.digest)
    }
}

/// The source whose URL has a token, in the settings and in requests.
struct Tokens {
    site: Site,
    source: Source,
    /// What the load sends.
    now: String,
    /// Asks whether a token is good, on connections that are not the load's.
    asking: Client,
    runtime: tokio::runtime::Runtime,
}

impl Tokens {
    fn new(site: Site, wire: &Wire) -> Result<Self> {
        let source = site.source("referralloop")?.clone();
        Ok(Self {
            now: source.token.clone().context("a token in the URL")?,
            source,
            asking: Client::over(wire.clone(), site.listen()),
            runtime: tokio::runtime::Runtime::new()?,
            site,
        })
    }

    /// Requests of every provider, many of which go to this source with the token of now.
    fn requests(&self) -> Result<Vec<Outgoing>> {
        let request = self.request(&self.now)?;
        let mut requests: Vec<Outgoing> = mix::events(&self.site)?
            .into_iter()
            // These have the token of the start.
            .filter(|request| request.path != self.source.path())
            .collect();
        for place in requests.iter_mut().step_by(TOKENED_EVERY) {
            place.clone_from(&request);
        }
        Ok(requests)
    }

    fn request(&self, token: &str) -> Result<Outgoing> {
        let source = Source {
            token: Some(token.to_owned()),
            ..self.source.clone()
        };
        let event = source.samples()?[0];
        source.signed(event, 0, now())
    }

    /// Writes settings in which these tokens alone are good, in the place of those that are there.
    fn allow(&mut self, tokens: &[&str]) -> Result<()> {
        let hash = |token: &&str| hex::encode(sha256(token.as_bytes()));
        let hashes: Vec<String> = tokens.iter().map(hash).collect();
        let path = ["sources", &self.source.name, "token_sha256"];
        self.site.set(&path, json!(hashes));
        // The one service of this site was started from it.
        let file = self.site.dir().join("settings-0.yaml");
        let next = file.with_extension("next");
        std::fs::write(&next, serde_json::to_vec_pretty(&self.site.settings)?)?;
        Ok(std::fs::rename(&next, &file)?)
    }

    /// Waits until a token is answered like this, and all that the settings say is in force.
    fn wait(&self, ingest: &Service, token: &str, wanted: u16) -> Result<()> {
        let request = self.request(token)?;
        let what = format!("{token} to be answered {wanted}");
        wait_for(&what, IN_FORCE_WITHIN, || {
            let status = self.runtime.block_on(self.asking.post(&request))?.status;
            if ![200, 404].contains(&status) {
                bail!("{token} was answered {status}");
            }
            let in_force = ingest.metrics()?.sum(IN_FORCE, &[]) > 0.5;
            Ok((status == wanted && in_force).then_some(()))
        })
    }
}
