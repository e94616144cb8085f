//! `sluicectl send`: signed test webhooks to a running ingest, and what became of them.

use std::path::Path;
use std::time::Duration;

use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::records::reader::Topics;

mod options;

mod target;

mod request;

mod post;

mod wait;

mod report;

pub use options::Options;

use post::Client;
use report::{Report, Sent};
use request::Request;
use target::Target;
use wait::Fates;

/// Sends, and waits where it is asked to; whether each has what it must have.
pub async fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let settings =
        sluice_service::settings::load(file).map_err(|faults| Failure::config(&faults))?;
    let target = Target::new(&settings, options)?;
    let event = request::event(&target, options)?;
    // Made to be looked at. Each is made when it is sent, for a signature is good for some minutes.
    let first = request::one(&settings, &target, &event, options)?;
    let client = Client::new(&target, options)?;
    let fates = match options.wait {
        Some(_) => Some(look(&settings, &first).await?),
        None => None,
    };
    let mut report = Report::new(options.json, options.wait.is_some());
    let mut sent = Vec::new();
    eprintln!("sending {} to {}", options.count, client.shown());
    for _ in 0..options.count {
        let request = request::one(&settings, &target, &event, options)?;
        let answer = client.post(&request).await;
        let one = Sent::new(&target, request, answer);
        match (&fates, one.id()) {
            (Some(_), Some(_)) => sent.push(one),
            _ => report.add(&one, None),
        }
    }
    if let (Some(fates), Some(patience)) = (fates, options.wait) {
        wait_for(fates, sent, patience, &mut report).await?;
    }
    report.end(client.shown())
}

/// Opens the topics at their ends, before anything is sent.
async fn look(settings: &Settings, request: &Request) -> Result<Fates, Failure> {
    let topics = wait::topics(settings, request);
    let names = settings.topics.names.clone();
    let reader = Topics::new(settings)?;
    eprintln!("opening {}", topics.join(", "));
    let opened = blocking(move || Fates::new(reader, names, &topics)).await;
    opened.map_err(|failure| match failure {
        Failure::TryAgain(line) => Failure::TryAgain(format!("{line}; nothing was sent")),
        other => other,
    })
}

/// Looks for the fates, and reports each as it is found; at the end, those that are not.
async fn wait_for(
    fates: Fates,
    sent: Vec<Sent>,
    patience: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    if sent.is_empty() {
        return Ok(());
    }
    eprintln!("waiting for {} at most {patience:?}", sent.len());
    let ids = sent.iter().filter_map(Sent::id).collect();
    let (found, looked) = blocking(move || Ok(fates.find(ids, patience))).await?;
    for one in &sent {
        let fate = one.id().and_then(|id| found.get(&id));
        report.add(one, fate);
    }
    looked
}

/// Runs what blocks, as all of librdkafka does.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
}
