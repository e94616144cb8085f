//! How the program is called.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ContextKind;
use clap::{FromArgMatches, Parser, Subcommand};

use crate::help::{GROUP, layout};
use crate::output;
use crate::{
    audit, check, explain, fates, find, listen, provider_apis, providers, replay, secret, send,
    show, sources, tail, token, topics,
};

mod tree;

pub use tree::command;

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl check --config sluice.yaml
  $ sluicectl send codes --wait
  $ sluicectl find 019ab1c2-6f7e-7d60-9d9f-6f3f6f0c2a11
  $ sluicectl dead-letters stats --since 7d
  $ sluicectl completions bash > /etc/bash_completion.d/sluicectl

EXIT STATUS
  0   All is as it must be
  1   Something is not
  2   The command line cannot be carried out
  75  Not now: try again later
  78  The settings or the secrets are at fault";

const COMPLETIONS: &str = "\
EXAMPLES
  $ sluicectl completions bash > /etc/bash_completion.d/sluicectl
  $ sluicectl completions zsh > \"${fpath[1]}/_sluicectl\"
  $ sluicectl completions fish > ~/.config/fish/completions/sluicectl.fish

EXIT STATUS
  0   They were printed
  1   They could not be written
  2   The command line cannot be carried out";

const MAN: &str = "\
EXAMPLES
  $ sluicectl man /usr/local/share/man/man1

EXIT STATUS
  0   The pages were written
  1   One could not be written
  2   The command line cannot be carried out";

/// Check an installation of Sluice, try it, and ask what became of its requests.
#[derive(Debug, Parser)]
#[command(
    name = "sluicectl",
    version = sluice_service::VERSION,
    help_template = GROUP,
    after_help = EXAMPLES,
    disable_help_subcommand = true
)]
pub struct Arguments {
    /// The settings file of the services
    #[arg(
        long,
        env = "SLUICE_CONFIG",
        hide_env_values = true,
        global = true,
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// Those of the process, which ends where they ask for help or cannot be carried out.
    pub fn of_process() -> Self {
        let parsed = command()
            .try_get_matches_from(asked(std::env::args_os().collect()))
            .and_then(|mut matches| Self::from_arg_matches_mut(&mut matches));
        let mut refused = match parsed {
            Ok(arguments) => return arguments,
            Err(refused) => refused,
        };
        // It is the way to write `--unknown` as a value, which nobody wants.
        refused.remove(ContextKind::Suggested);
        let printed = refused.print();
        if let Err(error) = printed
            && !refused.use_stderr()
        {
            output::end_unless_reader_is_gone(&error);
        }
        std::process::exit(refused.exit_code())
    }
}

/// `sluicectl help COMMAND` is `sluicectl COMMAND --help`.
fn asked(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_some_and(|word| word == "help") {
        words.remove(1);
        words.push("--help".into());
    }
    words
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    // Their help stands at their options.
    Check(check::Options),
    Send(Box<send::Options>),
    Find(find::Options),
    Show(show::Options),
    Explain(explain::Options),
    Tail(tail::Options),
    Listen(listen::Options),
    DeadLetters(fates::DeadLetters),
    Rejected(fates::Rejected),
    Duplicates(fates::Duplicates),
    Topics(topics::Options),
    Sources(sources::Options),
    Secret(secret::Options),
    Token(token::Options),
    Providers(providers::Options),
    Audit(audit::Options),
    Replay(replay::Options),
    Referralloop(provider_apis::referralloop::Options),
    Flock(Box<provider_apis::flock::Options>),
    /// Print the completions for a shell
    #[command(
        help_template = layout!("It is written to standard output.", "ARGUMENTS"),
        after_help = COMPLETIONS
    )]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(hide_possible_values = true)]
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder
    #[command(
        help_template = layout!("One page for each command, in section 1.", "ARGUMENTS"),
        after_help = MAN
    )]
    Man {
        /// The folder, which must exist
        dir: PathBuf,
    },
}
