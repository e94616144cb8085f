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
use tokio::runtime::Runtime;

use super::flood::{self, Account};
use super::idle;
use super::quiet;
use super::smuggling::{self, Exchange};
use super::streams;
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
    /// Connections that stay after one small request, more than ingest takes in all.
    QuietAfterAnswer,
    /// Connections that begin HTTP/2 and make no request.
    PrefaceOnly,
    /// Bodies that are announced and hardly come, to a source that has good traffic too.
    Announced,
    /// Large heads over HTTP/2 whose bodies do not come.
    H2Heads,
    /// Connections to the admin port that are held.
    ProbeHold,
    /// Client certificates with 110 intermediates.
    LongChain,
    /// Large requests to one source while the brokers are away.
    SpoolFill,
    /// Recorded requests, sent again as they are and rewritten.
    RecordedReplay,
}

/// Where attacks go, and with what.
pub struct Front {
    pub address: SocketAddr,
    /// A source's, with its token.
    pub path: String,
    /// That of a source which anybody may send to.
    pub open: String,
    /// For HTTP/1.1.
    pub wire: Wire,
    /// The server's certificate where it speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Where outputs go.
    pub dir: PathBuf,
    pub seconds: u64,
    pub connections: usize,
}

impl Front {
    /// How long an attack goes on.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// For HTTP/2.
    fn http2(&self) -> Result<Wire> {
        match &self.certificate {
            Some(certificate) => Wire::tls(certificate, "h2"),
            None => Ok(Wire::plain()),
        }
    }
}

/// What was seen of an attack.
#[derive(Debug, Default, Serialize)]
pub struct Seen {
    /// Bad requests by their answer, or connections by their end.
    #[serde(rename = "bad")]
    pub answers: BTreeMap<String, u64>,
    /// Other figures, and words, by name.
    pub figures: BTreeMap<String, String>,
    pub faults: Vec<String>,
}

/// Ingest may grow by less than this under most attacks, in bytes.
const GROWTH: u64 = 64 << 20;

/// Requests whose bodies come slowly, or do not come, are answered within this time: ingest waits 10 s for a
/// body.
const ANSWERED: Duration = Duration::from_secs(14);

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

    /// Whether it has services and topics of its own.
    pub fn is_apart(self) -> bool {
        matches!(
            self,
            Self::LongChain | Self::SpoolFill | Self::RecordedReplay
        )
    }

    /// The provider of the source that it goes to.
    pub fn provider(self) -> &'static str {
        match self {
            Self::Announced | Self::H2Heads | Self::SpoolFill => "flock",
            Self::LongChain => "flowcode",
            _ => "referralloop",
        }
    }

    /// Whether good requests to that source decide. Not where what it may hold is used up by design, so that
    /// others go on: its share of the spool, and of the bytes held at once.
    pub fn judges_its_source(self) -> bool {
        !matches!(self, Self::SpoolFill | Self::H2Heads)
    }

    /// Ingest may grow by less than this, in bytes. Heads and bodies that are held may take `max_buffered`,
    /// which is 64 MiB by default, in addition to what connections take.
    pub fn growth(self) -> u64 {
        match self {
            Self::H2Heads | Self::SpoolFill => 2 * GROWTH,
            _ => GROWTH,
        }
    }

    /// Runs it to its end. (The corpus is run by [`smuggle`], and those that need more than an address by
    /// modules of their own.)
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
            Self::QuietAfterAnswer => idle_for(front, Quiet::AfterAnswer),
            Self::PrefaceOnly => idle_for(front, Quiet::Preface),
            Self::Announced => promise(front, streams::Kind::Announced),
            Self::H2Heads => promise(front, streams::Kind::Heads),
            Self::ProbeHold | Self::LongChain | Self::SpoolFill | Self::RecordedReplay => {
                anyhow::bail!("needs more than an address")
            }
        }
    }
}

fn found(found: Found) -> Seen {
    Seen {
        figures: BTreeMap::from([("words".to_owned(), found.words)]),
        faults: found.faults,
        ..Seen::default()
    }
}

/// Runs an attack on a thread at the priority of the floods: what attackers compute, TLS and megabytes,
/// others would on machines of their own.
pub fn politely<T: Send>(run: impl FnOnce(&Runtime) -> Result<T> + Send) -> Result<T> {
    let ran = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            // Of this thread alone, as Linux has it.
            rustix::process::nice(19)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            run(&runtime)
        });
        running.join()
    });
    ran.map_err(|_| anyhow!("the attack panicked"))?
}

/// Keeps connections open.
fn hold(front: &Front, kind: idle::Kind) -> Result<Seen> {
    politely(|runtime| hold_here(runtime, front, kind))
}

fn hold_here(runtime: &Runtime, front: &Front, kind: idle::Kind) -> Result<Seen> {
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
        answers: ends,
        faults,
        ..Seen::default()
    })
}

#[derive(Clone, Copy)]
enum Quiet {
    AfterAnswer,
    Preface,
}

fn idle_for(front: &Front, kind: Quiet) -> Result<Seen> {
    let (address, connections, time) = (front.address, front.connections, front.time());
    let http2 = front.http2()?;
    let answers = politely(|runtime| match kind {
        Quiet::AfterAnswer => {
            let wire = &front.wire;
            runtime.block_on(quiet::after_answer(wire, address, connections, time))
        }
        Quiet::Preface => runtime.block_on(quiet::preface(&http2, address, connections, time)),
    })?;
    let mut faults = Vec::new();
    for end in [idle::LEFT_OPEN, quiet::NO_ANSWER] {
        if let Some(n) = answers.get(end) {
            faults.push(format!("{n} times: {end}"));
        }
    }
    Ok(Seen {
        answers,
        faults,
        ..Seen::default()
    })
}

fn promise(front: &Front, kind: streams::Kind) -> Result<Seen> {
    let (http2, time) = (front.http2()?, front.time().max(ANSWERED));
    let wires = (&http2, &front.wire);
    let attack = streams::run(kind, wires, front.address, &front.open, time);
    let answers = politely(|runtime| runtime.block_on(attack))?;
    let answered = answers
        .keys()
        .any(|answer| answer != streams::CUT && answer != streams::OPEN);
    let mut faults = Vec::new();
    if !answered {
        faults.push("no bad request was answered".to_owned());
    }
    Ok(Seen {
        answers,
        faults,
        ..Seen::default()
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
    let mut answers = BTreeMap::new();
    for exchange in exchanges {
        *answers.entry(smuggling::label(exchange)).or_default() += 1;
    }
    Seen {
        answers,
        faults: smuggling::faults_of_answers(exchanges),
        ..Seen::default()
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
    let figures = [
        ("connections", account.connections),
        ("frames", account.frames),
        ("ended", account.ended),
        ("goaways", account.goaways),
        ("answers", account.answers),
    ];
    Ok(Seen {
        figures: figures
            .map(|(name, n)| (name.to_owned(), n.to_string()))
            .into(),
        faults,
        ..Seen::default()
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
