//! One recorded request of each provider, sent again many times as it is and in each way to rewrite it,
//! through both services: what may grow grows within its bounds, and real dead letters stay.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_schemas::fate::Fate;
use sluice_tests::harness::client::{Client, Outgoing};
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::metrics::Samples;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::topics::{Isolation, Reader, Record};
use sluice_tests::harness::wait::wait_for;
use sluice_tests::harness::wire::Wire;
use sluice_tests::harness::{metrics, offsets};
use sluice_tests::load::mix::broken;

use super::apart::{Place, stage};
use super::attack::{Attack, Seen, politely};
use super::pipelined::{bytes, send};
use super::rewritings::{self, Ends, Rewriting};
use super::scene::Outcome;

/// Authentic requests of each source that are no events, from before.
const REAL: u64 = 25;

/// What `topics.rejected_bytes` is here, in bytes.
const REJECTED_BYTES: u64 = 64 << 20;

/// A thousand records are through within this time, and at least a minute is given.
const THOUSAND: Duration = Duration::from_secs(2);

/// A topic is read to its end where nothing came for this time.
const SILENT: Duration = Duration::from_secs(2);

/// Fates by name and reason.
type Fates = BTreeMap<String, u64>;

/// Runs it.
pub fn run(place: &Place<'_>) -> Result<Outcome> {
    let mut site = place.site("replay-")?;
    let bytes = format!("{REJECTED_BYTES}B");
    site.set(&["topics", "rejected_bytes"], json!(bytes));
    let mut second = site.settings_of_a_second()?;
    // Its good traffic is not to be judged with this one's.
    second["topics"]["prefix"] = json!("second-replay-");
    let wire = place.wire(&site)?;
    let mut replay = Replay {
        site: &site,
        wire: &wire,
        processor: None,
        count: place.options.replays,
        real: HashSet::new(),
        events: Vec::new(),
        seen: Seen::default(),
    };
    let settings = (&second, &wire);
    let outcome = stage(Attack::RecordedReplay, place, &site, settings, |_| {
        replay.run()
    });
    let mut outcome = outcome?;
    // Good traffic has ended too, so that topics have ends.
    replay.seen = Seen::default();
    replay.judge()?;
    outcome.seen.figures.append(&mut replay.seen.figures);
    outcome.seen.faults.append(&mut replay.seen.faults);
    Ok(outcome)
}

struct Replay<'a> {
    site: &'a Site,
    wire: &'a Wire,
    processor: Option<Service>,
    count: u64,
    /// The ids of the real dead letters.
    real: HashSet<String>,
    /// The recorded bodies.
    events: Vec<Vec<u8>>,
    seen: Seen,
}

impl Replay<'_> {
    fn run(&mut self) -> Result<Seen> {
        let processor = self.processor.insert(self.site.processor("p0")?);
        processor.wait_ready()?;
        let pid = processor.id();
        self.real = self.real_dead_letters()?;
        let mut all = rewritings::recorded(self.site, now())?;
        self.events = all.iter().map(|one| one.request.body.to_vec()).collect();
        let originals: Vec<Outgoing> = all.iter().map(|one| one.request.clone()).collect();
        self.post(&originals)?;
        self.caught_up(0)?;
        all.extend(rewritings::rewritten(&all, self.site)?);
        let before = metrics::memory(pid, "VmRSS")?;
        for rewriting in &all {
            self.replay(rewriting)?;
        }
        let memory = [
            before,
            metrics::peak_memory(pid)?,
            metrics::memory(pid, "VmRSS")?,
        ];
        let memory = memory.map(|bytes| (bytes >> 20).to_string());
        self.figure(
            "processor's MiB before, at the peak, after",
            memory.join(", "),
        );
        Ok(std::mem::take(&mut self.seen))
    }

    /// Judges the topics, once nothing comes any more.
    fn judge(&mut self) -> Result<()> {
        if self.processor.is_none() {
            return Ok(());
        }
        self.caught_up(0)?;
        self.bounds()?;
        self.topics()?;
        if let Some(Err(error)) = self.processor.as_mut().map(Service::stop) {
            let fault = format!("the processor did not end: {error:#}");
            self.seen.faults.push(fault);
        }
        Ok(())
    }

    fn figure(&mut self, name: &str, value: String) {
        self.seen.figures.insert(name.to_owned(), value);
    }

    /// Sends requests that are authentic and no events; the ids of those that are dead letters now.
    fn real_dead_letters(&self) -> Result<HashSet<String>> {
        let mut requests = Vec::new();
        for source in &self.site.sources {
            let event = source.samples()?.first().context("an event")?;
            for n in 0..REAL {
                requests.push(source.sign(&broken(source, event, n, now())?, now())?);
            }
        }
        let sent = self.post(&requests)?;
        self.caught_up(0)?;
        let mut real = HashSet::new();
        let topic = self.site.names().dead_letter();
        each(self.site.bootstrap(), &[topic], |record| {
            real.insert(id(record)?);
            Ok(())
        })?;
        // Some providers' broken requests prove nothing and are rejected.
        ensure!(
            !real.is_empty() && real.is_subset(&sent),
            "no dead letters of ours"
        );
        Ok(real)
    }

    /// Sends each once; the ids of those that were taken, which are all.
    fn post(&self, requests: &[Outgoing]) -> Result<HashSet<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = Client::over(self.wire.clone(), self.site.listen());
        runtime.block_on(async {
            let mut ids = HashSet::new();
            for request in requests {
                ids.insert(client.post(request).await?.id()?);
            }
            Ok(ids)
        })
    }

    fn replay(&mut self, rewriting: &Rewriting) -> Result<()> {
        let (began, before) = (Instant::now(), self.fates(&rewriting.source)?);
        let (wire, address, count) = (self.wire, self.site.listen(), self.count);
        let bytes = bytes(&rewriting.request);
        let answers = politely(|runtime| runtime.block_on(send(wire, address, &bytes, count)))?;
        self.caught_up(count)?;
        let after = self.fates(&rewriting.source)?;
        let grown: Fates = after
            .into_iter()
            .map(|(fate, n)| (fate.clone(), n - before.get(&fate).copied().unwrap_or(0)))
            .filter(|(_, n)| *n > 0)
            .collect();
        let name = format!("{}, {}", rewriting.source, rewriting.name);
        let grew = |prefix: &str| -> u64 {
            let found = grown.iter().filter(|(fate, _)| fate.starts_with(prefix));
            found.map(|(_, n)| *n).sum()
        };
        let dead = grew(Fate::DeadLetter.name());
        if dead > 0 {
            let fault = format!("{dead} dead letters were made of {count} of {name}");
            self.seen.faults.push(fault);
        }
        let meant = match rewriting.ends {
            Ends::Duplicate => Fate::Duplicate.name(),
            Ends::Rejected => Fate::Rejected.name(),
        };
        // Good traffic makes duplicates too.
        if dead == 0 && grew(meant) < count {
            let fault = format!("{count} of {name} are no {meant} each: {grown:?}");
            self.seen.faults.push(fault);
        }
        if answers.keys().any(|answer| answer != "200") {
            let fault = format!("{name}: answers other than 200: {answers:?}");
            self.seen.faults.push(fault);
        }
        for (answer, n) in answers {
            *self.seen.answers.entry(answer).or_default() += n;
        }
        let words: Vec<String> = grown
            .iter()
            .map(|(fate, n)| format!("{n} {fate}"))
            .collect();
        let words = format!("{} in {:.1?}", words.join(", "), began.elapsed());
        eprintln!("  {name}: {words}");
        self.figure(&name, words);
        Ok(())
    }

    /// Waits until all that stands on raw now is judged. So many records more than usual are among it.
    fn caught_up(&self, count: u64) -> Result<()> {
        let (bootstrap, group) = (self.site.bootstrap(), self.site.group());
        let raw = self.site.names().raw();
        let ends = offsets::ends(bootstrap, &raw)?;
        let thousands = u32::try_from(count / 1_000)?;
        let patience = Duration::from_secs(60) + THOUSAND * thousands;
        wait_for("the processor to catch up", patience, || {
            let at = offsets::committed(bootstrap, &group, &raw)?;
            let behind = ends
                .iter()
                .zip(at)
                .any(|(end, at)| *end > 0 && at.is_none_or(|at| at < *end));
            Ok((!behind).then_some(()))
        })
    }

    fn fates(&self, source: &str) -> Result<Fates> {
        let processor = self.processor.as_ref().context("a processor")?;
        let samples: Samples = processor.metrics()?;
        let mut fates = Fates::new();
        for sample in samples.named("sluice_fates_total") {
            let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
            if label("source") != source {
                continue;
            }
            let name = match (label("fate"), label("reason")) {
                (fate, "") => fate.to_owned(),
                (fate, reason) => format!("{fate} {reason}"),
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count"
            )]
            let value = sample.value as u64;
            *fates.entry(name).or_default() += value;
        }
        Ok(fates)
    }

    /// The brokers bound what strangers fill by bytes.
    fn bounds(&mut self) -> Result<()> {
        let names = self.site.names();
        for topic in [names.rejected(), names.dead_letter(), names.duplicates()] {
            let bytes = offsets::topic_setting(self.site.bootstrap(), &topic, "retention.bytes")?;
            let bytes = bytes.unwrap_or_default();
            if topic == names.rejected() && bytes != REJECTED_BYTES.to_string() {
                let fault = format!("{topic} keeps {bytes:?} bytes, and not {REJECTED_BYTES}");
                self.seen.faults.push(fault);
            }
            self.figure(&format!("{topic}, retention.bytes"), bytes);
        }
        Ok(())
    }

    /// Reads what there is on the topics of fates and events.
    fn topics(&mut self) -> Result<()> {
        let names = self.site.names();
        let (real, events) = (&self.real, &self.events);
        let mut missing = real.clone();
        let mut made: BTreeMap<&[u8], usize> = BTreeMap::new();
        let mut held: BTreeMap<String, (u64, usize)> = BTreeMap::new();
        let all = ended_topics(self.site)?;
        let dead = names.dead_letter();
        each(self.site.bootstrap(), &all, |record| {
            let headers = record.headers.iter().map(|(n, v)| n.len() + v.len());
            let bytes = record.key.len() + record.value.len() + headers.sum::<usize>();
            let (records, sum) = held.entry(record.topic.clone()).or_default();
            (*records, *sum) = (*records + 1, *sum + bytes);
            if record.topic == dead {
                missing.remove(&id(record)?);
            } else if record.text("fate.reason").is_none()
                && let Ok(event) = record.event()
                && let Some(body) = events.iter().find(|body| **body == event.data.as_bytes())
            {
                *made.entry(body).or_default() += 1;
            }
            Ok(())
        })?;
        if !missing.is_empty() {
            let fault = format!(
                "{} of {} real dead letters are gone",
                missing.len(),
                real.len()
            );
            self.seen.faults.push(fault);
        }
        let once = events
            .iter()
            .filter(|body| made.get(body.as_slice()) == Some(&1));
        let once = once.count();
        if once != events.len() {
            let fault = format!("{once} of {} recorded requests are one event", events.len());
            self.seen.faults.push(fault);
        }
        let events = held.iter().filter(|(topic, _)| !is_fate(topic));
        let events: u64 = events.map(|(_, (records, _))| records).sum();
        self.figure("records on event topics", events.to_string());
        for (topic, (records, bytes)) in held.into_iter().filter(|(topic, _)| is_fate(topic)) {
            let figure = format!("{records} records, {:.1} MiB", mib(bytes));
            self.figure(&topic, figure);
        }
        Ok(())
    }
}

fn is_fate(topic: &str) -> bool {
    topic.contains("webhooks.")
}

/// The topics on which records end.
fn ended_topics(site: &Site) -> Result<Vec<String>> {
    let names = site.names();
    let all = sluice_tests::harness::topics::with_prefix(site.bootstrap(), &names.prefix)?;
    let other = |topic: &String| *topic != names.raw() && *topic != names.dedup_log();
    Ok(all.into_iter().filter(other).collect())
}

#[expect(clippy::cast_precision_loss, reason = "for a person")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn id(record: &Record) -> Result<String> {
    let request: Value = serde_json::from_str(record.text("request").context("a request")?)?;
    Ok(request["id"].as_str().context("an id")?.to_owned())
}

/// Reads topics to their ends, record by record.
fn each(
    bootstrap: &str,
    topics: &[String],
    mut read: impl FnMut(&Record) -> Result<()>,
) -> Result<()> {
    let mut reader = Reader::new(bootstrap, topics, Isolation::Committed)?;
    let mut last = Instant::now();
    while last.elapsed() < SILENT {
        // No record may be the end of one partition alone.
        if reader.poll(SILENT)? {
            last = Instant::now();
        }
        for record in reader.records.drain(..) {
            read(&record)?;
        }
    }
    Ok(())
}
