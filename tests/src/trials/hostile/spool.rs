//! Large requests to a source that anybody may send to, while the brokers stand still: the sender fills what
//! that source may take of the spool, and the other sources go on.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_tests::harness::client::{Client, Outgoing};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::topics::{Isolation, read};
use sluice_tests::harness::wait::wait_for;
use sluice_tests::harness::wire::Wire;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::apart::{Place, stage};
use super::attack::{Attack, Seen, politely};
use super::idle::Ends;
use super::peers::attacker;
use super::scene::{Outcome, Scene};

/// What the spool may take, in bytes.
const SPOOL: u64 = 64 << 20;

/// The bytes of a body. A sender that was refused sends a smaller one, and after the last the first again:
/// what room is left, small ones find.
const BODIES: [usize; 3] = [512 << 10, 16 << 10, 16];

/// What bodies are made of: no good request begins so.
const BAD: u8 = b'x';

/// Senders at once.
const SENDERS: usize = 8;

/// Before a sender that was refused sends again.
const AGAIN: Duration = Duration::from_millis(100);

/// The spool is drained within this time once the brokers are back: its 64 MiB, by clients that notice their
/// return late.
const DRAINED: Duration = Duration::from_secs(60);

/// Runs it.
pub fn run(place: &Place<'_>) -> Result<Outcome> {
    let mut site = place.site("spool-")?;
    let spool = |name: &str| -> Result<Value> {
        let dir = site.dir().join(name);
        std::fs::create_dir(&dir)?;
        // The default of a second would make each request as slow as what counts as slow.
        Ok(json!({"dir": dir, "max_bytes": format!("{SPOOL}B"), "wait": "200ms"}))
    };
    let (own, other) = (spool("spool")?, spool("second-spool")?);
    site.set(&["ingest", "spool"], own);
    let mut second = site.settings_of_a_second()?;
    second["ingest"]["spool"] = other;
    // What stands on the attacked one's topic came through it.
    second["topics"]["prefix"] = json!("spool-second-");
    let wire = place.wire(&site)?;
    let path = site.source(Attack::SpoolFill.provider())?.path();
    let requests = BODIES.map(|bytes| Outgoing {
        path: path.clone(),
        headers: Vec::new(),
        body: vec![BAD; bytes].into(),
    });
    let settings = (&second, &wire);
    let mut taken = 0;
    let outcome = stage(Attack::SpoolFill, place, &site, settings, |scene| {
        place.cluster.pause(0)?;
        let time = place.time();
        let address = site.listen();
        let filled = politely(|runtime| runtime.block_on(fill(&wire, address, &requests, time)));
        let full = scene.ingest.metrics();
        place.cluster.resume(0)?;
        let full = full?.sum("sluice_ingest_spool_bytes", &[]);
        let seen = judge(filled?, full, scene)?;
        taken = seen.answers.get("200").copied().unwrap_or(0);
        Ok(seen)
    });
    let mut outcome = outcome?;
    outcome.seen.faults.extend(lost(&site, &outcome, taken)?);
    Ok(outcome)
}

fn judge(answers: Ends, full: f64, scene: &Scene) -> Result<Seen> {
    let mut seen = Seen::default();
    let figure = format!("{:.1}", full / f64::from(1 << 20));
    seen.figures.insert("spool_mib".into(), figure);
    wait_for("the spool to be drained", DRAINED, || {
        let left = scene
            .ingest
            .metrics()?
            .sum("sluice_ingest_spool_records", &[]);
        Ok((left < 1.0).then_some(()))
    })?;
    if !answers.contains_key("503") {
        let fault = "the sender was never refused: what a source may take was not tried";
        seen.faults.push(fault.into());
    }
    let odd = answers
        .keys()
        .find(|end| !matches!(end.as_str(), "200" | "503"));
    if let Some(odd) = odd {
        seen.faults.push(format!("bad requests ended with {odd}"));
    }
    seen.answers = answers;
    Ok(seen)
}

/// Sends until time is over. Requests by their answer.
async fn fill(
    wire: &Wire,
    address: SocketAddr,
    requests: &[Outgoing; 3],
    time: Duration,
) -> Result<Ends> {
    let until = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for n in 0..SENDERS {
        let client = Client::over(wire.clone().from(attacker(n)), address);
        let requests = requests.clone();
        tasks.spawn(async move {
            let mut ends = Ends::new();
            let mut which = requests.iter().cycle();
            let mut request = which.next();
            while let Some(sent) = request
                && Instant::now() < until
            {
                let end = match client.post(sent).await {
                    Ok(answer) => answer.status.to_string(),
                    Err(_) => "no answer".into(),
                };
                if end != "200" {
                    request = which.next();
                    sleep(AGAIN).await;
                }
                *ends.entry(end).or_default() += 1;
            }
            ends
        });
    }
    let mut ends = Ends::new();
    while let Some(done) = tasks.join_next().await {
        for (end, n) in done? {
            *ends.entry(end).or_default() += n;
        }
    }
    Ok(ends)
}

/// Whether raw has each request that was answered with 200.
fn lost(site: &Site, outcome: &Outcome, taken: u64) -> Result<Option<String>> {
    let raw = read(
        site.bootstrap(),
        &[site.names().raw()],
        Isolation::Committed,
    )?;
    let mut ids = [HashSet::new(), HashSet::new()];
    for record in &raw {
        let request: Value = serde_json::from_str(record.text("request").context("a request")?)?;
        let id = request["id"].as_str().context("an id")?.to_owned();
        ids[usize::from(record.value.starts_with(&[BAD]))].insert(id);
    }
    let found = u64::try_from(ids[1].len())?;
    let good = outcome.good_taken();
    if found < taken || ids[0].len() < good {
        let fault = format!(
            "{taken} bad and {good} good requests were answered 200, and raw has {found} and {}",
            ids[0].len()
        );
        return Ok(Some(fault));
    }
    Ok(None)
}
