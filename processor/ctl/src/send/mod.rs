//! `sluicectl send`: signed test webhooks to a running ingest, and what became of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_schemas::settings::Settings;
use sluice_schemas::settings::reader::duration;

use crate::arguments::layout;
use crate::failure::Failure;

mod target;

mod request;

mod post;

mod wait;

mod report;

use post::Client;
use report::{Report, Sent};
use request::{Kind, Request};
use target::Target;
use wait::Fates;

const LAYOUT: &str = layout!(
    "Each is made of the provider's samples, signed with the source's secrets, and new: two of them are two
events, which stand on the event topics like any other. With --wait the fate of each is looked for on
the topics: a good one must become an event, one that is forged or too old must be rejected.",
    "ARGUMENTS"
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl send codes
  $ sluicectl send flock-prod referral.accepted --wait
  $ sluicectl send flock-prod --stale --wait 60s
  $ sluicectl send waitlist --token-file token --url https://hooks.example.com
  $ sluicectl send codes --count 10 --wait --json | jq .topic

EXIT STATUS
  0   All were accepted and, with --wait, have the fate that they must have
  1   One was not, has another fate, or has none in time
  2   The command line cannot be carried out, as where the source or the event is not known
  78  The settings or the secrets are at fault";

/// The options of `sluicectl send`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Send signed test webhooks to a running ingest",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    /// The source, as the settings name it
    source: String,
    /// The event type; the provider's first one where it is not given
    event: Option<String>,
    /// Where ingest is
    #[arg(
        long,
        env = "SLUICE_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://localhost:8080"
    )]
    url: String,
    /// How many to send
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// With the signature of another request
    #[arg(long, conflicts_with = "stale")]
    forge: bool,
    /// Signed a day ago
    #[arg(long)]
    stale: bool,
    /// Find the fate of each on the topics, for 30s or this long
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        default_missing_value = "30s",
        value_parser = parse_duration
    )]
    wait: Option<Duration>,
    /// The file with the token of the source's URL
    #[arg(
        long,
        env = "SLUICE_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,
    /// A header to send too, such as one that the source requires
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A file with such headers, a line each
    #[arg(long, value_name = "FILE")]
    headers_file: Option<PathBuf>,
    /// PEM: the authorities of ingest's certificate, instead of the usual ones
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM: the certificate to show, where the source demands one
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM: its key
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "must be a duration such as 500ms, 30s or 5m".to_owned())
}

impl Options {
    fn kind(&self) -> Kind {
        match (self.forge, self.stale) {
            (true, _) => Kind::Forged,
            (false, true) => Kind::Stale,
            (false, false) => Kind::Good,
        }
    }
}

/// Sends, and waits where it is asked to; whether each has what it must have.
pub async fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let settings =
        sluice_service::settings::load(file).map_err(|faults| Failure::config(&faults))?;
    let target = Target::new(&settings, options)?;
    let requests = request::make(&settings, &target, options)?;
    let client = Client::new(&target, options)?;
    let fates = match options.wait {
        Some(_) => Some(look(&settings, &requests).await?),
        None => None,
    };
    let mut report = Report::new(options.json, options.wait.is_some());
    let mut sent = Vec::new();
    eprintln!("sending {} to {}", requests.len(), client.shown());
    for request in requests {
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
    Ok(report.holds())
}

/// Opens the topics at their ends, before anything is sent.
async fn look(settings: &Settings, requests: &[Request]) -> Result<Fates, Failure> {
    let topics = wait::topics(settings, requests);
    let names = settings.topics.names.clone();
    let base = wait::base(settings)?;
    eprintln!("opening {}", topics.join(", "));
    blocking(move || Fates::new(&base, names, &topics)).await
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
    let found = blocking(move || fates.find(ids, patience)).await?;
    for one in &sent {
        let fate = one.id().and_then(|id| found.get(&id));
        report.add(one, fate);
    }
    Ok(())
}

/// Runs what blocks, as all of librdkafka does.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
}
