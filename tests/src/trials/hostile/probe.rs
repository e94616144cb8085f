//! Clients that hold connections to the admin port, while a probe asks whether the service lives.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use sluice_tests::harness::wire::{Stream, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::attack::Seen;
use super::peers::{GOOD, attacker};
use super::scene::Scene;

/// Connections that are held: half of them without a word, half within a head.
const HELD: usize = 128;

/// Where one was ended, another one is made. That is looked for so often.
const LOOK: Duration = Duration::from_millis(250);

/// A probe that takes longer is one that failed,
const BOUND: Duration = Duration::from_secs(1);

/// where the same probe of the ingest that nobody attacks was faster than this.
const CALM: Duration = Duration::from_millis(500);

/// Runs it for so many seconds.
pub fn run(scene: &Scene, seconds: u64) -> Result<Seen> {
    let attacked = scene.ingest.admin().context("an admin port")?;
    let calm = scene.untouched.admin().context("an admin port")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(hold_and_probe(attacked, calm, Duration::from_secs(seconds)))
}

async fn hold_and_probe(attacked: SocketAddr, calm: SocketAddr, time: Duration) -> Result<Seen> {
    let until = Instant::now() + time;
    for n in 0..HELD {
        tokio::spawn(async move {
            let wire = Wire::plain().from(attacker(n));
            while Instant::now() < until {
                if let Ok(Ok(mut stream)) = timeout(BOUND, wire.connect(attacked)).await {
                    hold(&mut stream, n, until).await;
                }
                sleep(LOOK).await;
            }
        });
    }
    let (mut probes, mut failed, mut longest) = (0u64, 0u64, Duration::ZERO);
    while Instant::now() < until {
        sleep(LOOK).await;
        let (one, other) = tokio::join!(probe(attacked), probe(calm));
        probes += 1;
        if let Some(took) = one {
            longest = longest.max(took);
        }
        let in_time = one.is_some_and(|took| took < BOUND);
        failed += u64::from(!in_time && other.is_some_and(|took| took < CALM));
    }
    let mut seen = Seen::default();
    seen.answers.insert("held".into(), u64::try_from(HELD)?);
    let figures = [
        ("probes", probes.to_string()),
        ("failed", failed.to_string()),
        ("longest_ms", longest.as_millis().to_string()),
    ];
    seen.figures = figures.map(|(name, value)| (name.to_owned(), value)).into();
    if failed > 0 {
        let fault = format!("{failed} of {probes} probes of /livez had no 200 within 1 s");
        seen.faults.push(fault);
    }
    Ok(seen)
}

async fn hold(stream: &mut Box<dyn Stream>, n: usize, until: Instant) {
    if n.is_multiple_of(2) {
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").await;
    }
    let mut came = [0; 256];
    let ended = async { while let Ok(1..) = stream.read(&mut came).await {} };
    let _ = tokio::time::timeout_at(until, ended).await;
}

/// How long `/livez` took on a connection of its own; `None` where it was not 200, or took 5 s.
async fn probe(admin: SocketAddr) -> Option<Duration> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let began = Instant::now();
    let asked = async {
        let mut stream = Wire::plain().from(GOOD).connect(admin).await.ok()?;
        let request = b"GET /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut came = Vec::new();
        stream.read_to_end(&mut came).await.ok()?;
        came.starts_with(b"HTTP/1.1 200").then(|| began.elapsed())
    };
    timeout(PATIENCE, asked).await.ok().flatten()
}
