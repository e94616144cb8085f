//! `sluicectl sources add`: what a new source needs in the settings, in the cluster and at its provider. It
//! writes no file.

use std::path::Path;

use crate::failure::Failure;
use crate::help::{GROUP, layout};
use crate::output;
use crate::providers;

mod add;

mod fragment;

mod yaml;

use add::Add;
use fragment::Fragment;

const ADD: &str = layout!(
    "Prints the settings of the source, a new token and its hash where requests may be unsigned, a Secret for
the cluster, what to add to the values of the chart, the URL to paste at the provider, and what to do
next. Nothing is written. The settings are checked as the services check them; with --config the name
must be free there. With --secret-file the Secret, and with a token the URL, are what nobody else may
read.",
    "ARGUMENTS"
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl sources add codes --provider flowcode --host hooks.example.com
  $ sluicectl sources add waitlist --provider referralloop --options '{\"max_age\": \"10m\"}'
  $ sluicectl sources add codes --provider flowcode --secret-file codes.secret --json |
      jq .secret.manifest | kubectl -n sluice apply -f -

EXIT STATUS
  0   It was printed
  1   A file could not be read, or there were no random numbers
  2   The command line cannot be carried out: faults of name and options are named by their path
  78  The settings are at fault";

/// The options of `sluicectl sources`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Print what a new source needs",
    help_template = GROUP,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print settings, token, Secret and URL of a new source
    #[command(help_template = ADD, after_help = EXAMPLES)]
    Add(Box<Add>),
}

/// Carries the command out. The settings are asked for the name alone.
pub fn run(settings_file: Option<&Path>, options: &Options) -> Result<bool, Failure> {
    let Command::Add(add) = &options.command;
    if let Some(file) = settings_file {
        let settings =
            sluice_service::settings::load(file).map_err(|faults| Failure::config(&faults))?;
        if settings.sources.contains_key(&add.name) {
            return Err(Failure::Usage(format!(
                "{} has a source {} already: take another name",
                file.display(),
                add.name
            )));
        }
    }
    let provider = providers::provider(&add.provider)?;
    let fragment = Fragment::new(provider, add)?;
    output::line(&if add.json {
        fragment.json().to_string()
    } else {
        fragment.text()
    });
    if add.secret_file.is_some() || fragment.has_token() {
        eprintln!("what was printed has a secret or a token: keep it as you keep those");
    }
    Ok(true)
}
