//! The playground: both services on librdkafka's embedded broker, one request of every kind, and an
//! account of where each went. It proves nothing about crashes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::mocking::MockCluster;
use serde_json::json;
use sluice_schemas::topic::TopicNames;
use sluice_service::kafka::topics::wanted;
use sluice_service::table::{Table, cut};
use sluice_tests::harness::client::Client;
use sluice_tests::harness::deployment::{Site, now};
use sluice_tests::harness::ports;
use sluice_tests::harness::process::Service;
use sluice_tests::harness::topics::{Isolation, Reader};
use sluice_tests::harness::wait::PATIENCE;
use sluice_tests::load::mix::cases::{self, Case, Expected};
use sluice_tests::report::{Outcome, Sums, outcome};

use crate::trials::{hints, until_ctrl_c};

/// What the playground is asked for.
#[derive(clap::Args)]
pub struct Options {
    /// End after the account.
    #[arg(long)]
    once: bool,
    /// End standard output with the account as JSON on one line.
    #[arg(long)]
    json: bool,
    /// Use this real Kafka (host:port) instead of the embedded broker, under topics of its own.
    #[arg(long)]
    bootstrap: Option<String>,
}

/// What was sent, and the id that ingest gave it.
struct Sent {
    case: Case,
    status: u16,
    id: Option<String>,
}

/// Runs it; whether the account balances.
pub fn run(options: &Options) -> Result<bool> {
    eprintln!("starting both services");
    // The embedded broker lives in this process, until the end of this function.
    let embedded = if options.bootstrap.is_none() {
        let broker = MockCluster::new(1);
        Some(broker.map_err(|error| anyhow!("no embedded broker: {error}"))?)
    } else {
        None
    };
    let bootstrap = match (&options.bootstrap, &embedded) {
        (Some(bootstrap), _) => bootstrap.clone(),
        (None, Some(broker)) => broker.bootstrap_servers(),
        (None, None) => String::new(),
    };
    let site = site(&bootstrap, options)?;
    let topics = topics(embedded.as_ref(), &site)?;
    let mut ingest = site.ingest()?;
    let admin = if options.once {
        ports::free()?
    } else {
        ports::preferred(9091)?
    };
    let mut processor = site.processor_on("playground", admin)?;
    ingest.wait_ready()?;
    processor.wait_ready()?;
    let mut reader = Reader::new(site.bootstrap(), &topics, Isolation::Committed)?;

    let cases = cases::all(&site, 1, now())?;
    eprintln!(
        "sending {} requests of {} providers",
        cases.len(),
        site.sources.len()
    );
    let runtime = tokio::runtime::Runtime::new()?;
    let sent = runtime.block_on(send(&site, cases))?;
    let accepted = sent.iter().filter(|sent| sent.id.is_some()).count();
    eprintln!("{accepted} accepted; waiting until each has its fate");
    let names = site.names();
    let outcomes = outcomes(&mut reader, &names, accepted)?;
    let sums = sums_of(&sent, &outcomes);
    let text = render(&sent, &outcomes, &sums);
    if options.json {
        // Standard output is for a program then, and the table goes to standard error.
        eprintln!("\n{text}");
        println!("{}", serde_json::to_string(&sums)?);
    } else {
        println!("\n{text}");
    }
    if !options.once {
        println!("{}", hints::curl(&site)?);
        println!(
            "Admin ports: {}",
            hints::admin_ports(&[&ingest, &processor])
        );
        println!("What arrives is shown here; Ctrl-C ends it.\n");
        watch(&site, &mut reader, &mut [&mut ingest, &mut processor])?;
        eprintln!("stopping");
    }
    ingest.stop()?;
    processor.stop()?;
    Ok(sums.balanced)
}

/// What became of each record, by its request's id, once so many have a fate and nothing more comes.
fn outcomes(
    reader: &mut Reader,
    names: &TopicNames,
    accepted: usize,
) -> Result<Vec<(String, Outcome)>> {
    // Time that runs out is no error here: the report shows what is missing.
    let _ = reader.until("a fate of every request", PATIENCE, |records| {
        let fates = records.iter().filter_map(|record| outcome(names, record));
        fates.count() >= accepted
    });
    // A record that is not expected would come now.
    while reader.poll(Duration::from_millis(200))? {}
    let records = reader.records.iter();
    Ok(records
        .filter_map(|record| outcome(names, record))
        .collect())
}

/// A site on the broker; by hand at the usual ports, where they are free.
fn site(bootstrap: &str, options: &Options) -> Result<Site> {
    let real = options.bootstrap.is_some();
    // On a Kafka that others use too, under names that they do not have.
    let prefix = if real {
        format!("playground-{}.", std::process::id())
    } else {
        String::new()
    };
    let mut site = Site::new(&prefix, bootstrap)?;
    site.set(&["topics", "create"], json!(real));
    if !options.once {
        site.listen_at(8080, 9090)?;
    }
    Ok(site)
}

/// The topics that fates go to. On the embedded broker, which has no admin calls, all are made here.
fn topics<C: rdkafka::ClientContext>(
    embedded: Option<&MockCluster<'_, C>>,
    site: &Site,
) -> Result<Vec<String>> {
    let file = site.dir().join("topics.yaml");
    std::fs::write(&file, serde_json::to_vec(&site.settings)?)?;
    let settings = sluice_service::settings::load(&file).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("the playground's settings: {}", faults.join("; "))
    })?;
    let names = site.names();
    let mut fates = Vec::new();
    for topic in wanted(&settings) {
        if let Some(broker) = embedded {
            broker
                .create_topic(&topic.name, topic.partitions, 1)
                .with_context(|| format!("cannot make {}", topic.name))?;
        }
        if topic.name != names.raw() && topic.name != names.dedup_log() {
            fates.push(topic.name);
        }
    }
    Ok(fates)
}

/// Sends one after the other, so that each repetition follows its original.
async fn send(site: &Site, cases: Vec<Case>) -> Result<Vec<Sent>> {
    let client = Client::new(site.listen());
    let mut sent = Vec::new();
    for case in cases {
        let answer = client.post(&case.outgoing).await?;
        if answer.status >= 500 {
            bail!("{} answered {}", case.what, answer.status);
        }
        sent.push(Sent {
            case,
            status: answer.status,
            id: answer.id().ok(),
        });
    }
    Ok(sent)
}

/// Sums it up. It balances when each request has the one fate that it must have, and none is left over.
fn sums_of(sent: &[Sent], account: &[(String, Outcome)]) -> Sums {
    let mut sums = Sums {
        sent: sent.iter().filter(|sent| sent.id.is_some()).count(),
        ..Sums::default()
    };
    for (_, outcome) in account {
        sums.add(outcome);
    }
    let as_expected = sent
        .iter()
        .all(|sent| match (&sent.case.expected, &sent.id) {
            (Expected::Refused(status), None) => sent.status == *status,
            (expected, Some(id)) => {
                let mut found = account.iter().filter(|(other, _)| other == id);
                matches!((found.next(), found.next()), (Some((_, one)), None) if one.is(expected))
            }
            _ => false,
        });
    sums.balanced = as_expected && sums.ended() == sums.sent;
    sums
}

fn render(sent: &[Sent], account: &[(String, Outcome)], sums: &Sums) -> String {
    let by_id: BTreeMap<&str, &Outcome> = account
        .iter()
        .map(|(id, outcome)| (id.as_str(), outcome))
        .collect();
    let mut table = Table::for_stdout();
    table.row(
        None,
        &[
            "PROVIDER",
            "SENT",
            "BECAME",
            "ON TOPIC",
            "WHAT IT SAYS, OR WHY",
        ],
    );
    for sent in sent {
        let (provider, what) = (sent.case.provider, sent.case.what.as_str());
        let outcome = sent.id.as_deref().and_then(|id| by_id.get(id));
        match outcome {
            Some(outcome) => {
                let became = became(outcome);
                let mark = if outcome.is(&sent.case.expected) {
                    ""
                } else {
                    "UNEXPECTED "
                };
                let told = format!("{mark}{}", cut(&outcome.summary(), 100));
                let colour = Some(outcome.fate.into());
                table.row(colour, &[provider, what, &became, &outcome.topic, &told]);
            }
            None if sent.id.is_none() => {
                let answer = format!("answered {}", sent.status);
                table.row(
                    None,
                    &[
                        provider,
                        what,
                        &answer,
                        "",
                        "refused at the door, nothing written",
                    ],
                );
            }
            None => table.row(None, &[provider, what, "MISSING", "", "it has no fate"]),
        }
    }
    let total = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>();
    format!(
        "{}\n  {} accepted = {} events + {} duplicates + {} rejected + {} dead letters: {}\n",
        table.render(),
        sums.sent,
        total(&sums.events),
        sums.duplicates,
        total(&sums.rejected),
        total(&sums.dead_letters),
        if sums.balanced {
            "balanced, each as it must be"
        } else {
            "NOT as it must be"
        },
    )
}

/// Shows what arrives until Ctrl-C. A service that ends by itself is an error.
fn watch(site: &Site, reader: &mut Reader, services: &mut [&mut Service]) -> Result<()> {
    let names = site.names();
    until_ctrl_c::until_interrupted(services, || {
        if reader.poll(Duration::from_millis(200))?
            && let Some(record) = reader.records.pop()
            && let Some((id, outcome)) = outcome(&names, &record)
        {
            let mut table = Table::for_stdout();
            let (became, told) = (became(&outcome), outcome.summary());
            let cells = [id.as_str(), &outcome.source, &became, &outcome.topic, &told];
            table.row(Some(outcome.fate.into()), &cells);
            print!("{}", table.render());
        }
        Ok(())
    })
}

/// The fate, with the reason where it says more.
fn became(outcome: &Outcome) -> String {
    match outcome.reason.as_str() {
        "" | "duplicate" => outcome.fate.name().to_owned(),
        reason => format!("{}: {reason}", outcome.fate),
    }
}
