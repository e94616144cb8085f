//! The options of `sluicectl send`, and its help.

use std::path::PathBuf;
use std::time::Duration;

use sluice_schemas::settings::reader::duration;

use crate::help::layout;

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
  75  Ingest or, with --wait, the brokers are away, try again
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
    pub source: String,
    /// The event type; the provider's first one where it is not given
    pub event: Option<String>,
    /// Where ingest is, without the path of a source
    #[arg(
        long,
        env = "SLUICE_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://localhost:8080"
    )]
    pub url: String,
    /// How many to send
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// With the signature of another request; not with --stale
    #[arg(long, conflicts_with = "stale")]
    pub forge: bool,
    /// Signed a day ago; not with --forge
    #[arg(long)]
    pub stale: bool,
    /// Find the fate of each on the topics, for 30s or this long
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        default_missing_value = "30s",
        value_parser = parse_wait
    )]
    pub wait: Option<Duration>,
    /// The file with the token of the source's URL
    #[arg(
        long,
        env = "SLUICE_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub token_file: Option<PathBuf>,
    /// A header to send too, such as one that the source requires
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// A file with such headers, a line each
    #[arg(long, value_name = "FILE")]
    pub headers_file: Option<PathBuf>,
    /// PEM: the authorities of ingest's certificate, instead of the usual ones
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM: the certificate to show, where the source demands one
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// PEM: its key
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    let long = duration(text).filter(|long| !long.is_zero());
    long.ok_or_else(|| {
        "must be a duration over zero, such as 500ms, 30s or 5m; before the source it is written --wait=30s"
            .to_owned()
    })
}
