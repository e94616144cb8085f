//! The attacks by name, what each needs, and what must have come of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use serde::Serialize;
use sluice_tests::harness::child::{Child, tail};
use sluice_tests::harness::wire::Wire;

use super::flood::{self, Account};
use super::idle;
use super::smuggling::{self, Exchange};
use super::tools::{self, Found, Slow, Target};

/// One attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    SlowHeaders,
    SlowBody,
    SlowRead,
    Silent,
    HalfHead,
    HalfBody,
    Unread,
    Huge,
    Crumbs,
    Smuggling,
    H2load,
    H2Reset,
    H2Continuation,
    H2Ping,
    H2Settings,
    H2EmptyData,
    H2Unread,
    H2spec,
}

/// Where attacks go, and with what.
pub struct Front {
    pub address: SocketAddr,
    /// A source's, with its token.
    pub path: String,
    /// For HTTP/1.1.
    pub wire: Wire,
    /// The server's certificate where it speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Where outputs go.
    pub dir: PathBuf,
    pub seconds: u64,
    pub connections: usize,
}

/// What was seen of an attack.
#[derive(Debug, Default, Serialize)]
pub struct Seen {
    /// Figures and words by name.
    pub told: BTreeMap<String, String>,
    pub faults: Vec<String>,
}

/// Slow clients are given so long beyond the attack's own time: ingest waits 10 s for a head and a body.
const SLOW: u64 = 20;

/// The conformance tests take a minute and a half where each waits for its time-out.
const H2SPEC: u64 = 150;

/// A flood's process may take so long beyond its time.
const FLOOD: Duration = Duration::from_secs(20);

impl Attack {
    /// All, in the order in which they are run.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// Runs it to its end. (The corpus is run by [`smuggle`].)
    pub fn run(self, front: &Front) -> Result<Seen> {
        let target = Target {
            address: front.address,
            tls: front.certificate.is_some(),
            path: &front.path,
            dir: &front.dir,
        };
        let (connections, seconds) = (front.connections, front.seconds);
        let slow = |mode| tools::slow(&target, mode, connections, seconds + SLOW).map(found);
        match self {
            Self::SlowHeaders => slow(Slow::Headers),
            Self::SlowBody => slow(Slow::Body),
            Self::SlowRead => slow(Slow::Read),
            Self::Silent => hold(front, idle::Kind::Silent),
            Self::HalfHead => hold(front, idle::Kind::HalfHead),
            Self::HalfBody => hold(front, idle::Kind::HalfBody),
            Self::Unread => hold(front, idle::Kind::Unread),
            Self::Huge => hold(front, idle::Kind::Huge),
            Self::Crumbs => hold(front, idle::Kind::Crumbs),
            Self::Smuggling => Ok(seen_of(&smuggle(front)?)),
            Self::H2load => tools::h2load(&target, seconds).map(found),
            Self::H2Reset => flood_with(front, flood::Kind::Reset),
            Self::H2Continuation => flood_with(front, flood::Kind::Continuation),
            Self::H2Ping => flood_with(front, flood::Kind::Ping),
            Self::H2Settings => flood_with(front, flood::Kind::Settings),
            Self::H2EmptyData => flood_with(front, flood::Kind::EmptyData),
            Self::H2Unread => flood_with(front, flood::Kind::Unread),
            Self::H2spec => tools::h2spec(&target, H2SPEC).map(found),
        }
    }
}

fn found(found: Found) -> Seen {
    Seen {
        told: BTreeMap::from([("told".to_owned(), found.told)]),
        faults: found.faults,
    }
}

/// Keeps connections open, on a thread at the priority of the floods: what attackers compute, TLS and
/// megabytes, others would on machines of their own.
fn hold(front: &Front, kind: idle::Kind) -> Result<Seen> {
    let held = std::thread::scope(|scope| {
        let holding = scope.spawn(|| {
            // Of this thread alone, as Linux has it.
            rustix::process::nice(19)?;
            hold_here(front, kind)
        });
        holding.join()
    });
    held.map_err(|_| anyhow!("the attack panicked"))?
}

fn hold_here(front: &Front, kind: idle::Kind) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let script = Arc::new(idle::Script::new(kind, &front.path));
    let until = Instant::now() + Duration::from_secs(front.seconds);
    let mut ends = idle::Ends::new();
    // What is never taken is sent again and again; what waits is longer on its way than that.
    loop {
        let round = idle::run(&front.wire, front.address, &script, front.connections);
        for (end, n) in runtime.block_on(round)? {
            *ends.entry(end).or_default() += n;
        }
        if !kind.repeats() || Instant::now() >= until {
            break;
        }
    }
    let mut faults = Vec::new();
    if let Some(left) = ends.get(idle::LEFT_OPEN) {
        faults.push(format!("{left} connections were left open"));
    }
    if kind.repeats()
        && let Some(taken) = ends.get("200")
    {
        faults.push(format!("{taken} were taken"));
    }
    Ok(Seen {
        told: ends
            .iter()
            .map(|(end, n)| (end.clone(), n.to_string()))
            .collect(),
        faults,
    })
}

/// Sends the corpus of smuggling requests.
pub fn smuggle(front: &Front) -> Result<Vec<Exchange>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(smuggling::send(&front.wire, front.address, &front.path))
}

/// What is printed of the corpus before raw is read.
pub fn seen_of(exchanges: &[Exchange]) -> Seen {
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for exchange in exchanges {
        *told.entry(smuggling::label(exchange)).or_default() += 1;
    }
    Seen {
        told: told
            .into_iter()
            .map(|(word, n)| (word, n.to_string()))
            .collect(),
        faults: smuggling::faults_of_answers(exchanges),
    }
}

fn flood_with(front: &Front, kind: flood::Kind) -> Result<Seen> {
    let account = flood_process(front, kind)?;
    let mut faults = Vec::new();
    if account.spoken == 0 {
        faults.push("the server does not speak HTTP/2 here".to_owned());
    } else {
        let ends = matches!(kind, flood::Kind::Reset | flood::Kind::Continuation);
        if ends && account.ended == 0 {
            faults.push("no connection was ended".to_owned());
        }
        let answers = matches!(kind, flood::Kind::Ping | flood::Kind::Settings);
        if answers && account.ended == 0 && account.answers <= account.connections {
            faults.push("nothing was answered, and no connection ended".to_owned());
        }
    }
    let told = [
        ("connections", account.connections),
        ("frames", account.frames),
        ("ended", account.ended),
        ("goaways", account.goaways),
        ("answers", account.answers),
    ];
    Ok(Seen {
        told: told
            .map(|(name, n)| (name.to_owned(), n.to_string()))
            .into(),
        faults,
    })
}

fn flood_process(front: &Front, kind: flood::Kind) -> Result<Account> {
    let name = kind.to_possible_value().context("a kind has a name")?;
    let name = name.get_name();
    let log = front.dir.join(format!("flood-{name}.log"));
    let own = std::env::current_exe()?.display().to_string();
    let (address, seconds) = (front.address.to_string(), front.seconds.to_string());
    let mut arguments = vec!["-n", "19", &own, "flood", "--kind", name];
    arguments.extend(["--address", &address, "--seconds", &seconds]);
    let certificate = front
        .certificate
        .as_ref()
        .map(|path| path.display().to_string());
    if let Some(certificate) = &certificate {
        arguments.extend(["--certificate", certificate]);
    }
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    let mut child = Child::start("a flood", Path::new("nice"), &arguments, &log)?;
    let status = child.wait(Duration::from_secs(front.seconds) + FLOOD)?;
    anyhow::ensure!(status.success(), "{}", tail(&log));
    let printed = std::fs::read_to_string(&log)?;
    let last = printed.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| tail(&log))
}
