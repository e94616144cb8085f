//! The options of `sluicectl referralloop`, and its help.

use super::ledger::Key;
use crate::help::{GROUP, layout};
use crate::provider_apis::{Calling, file_name};

const SYNC: &str = layout!(
    "Makes what ReferralLoop has equal to sources.*.options.subscribe of the settings: subscribes what
lacks, then deletes what sluicectl made and is not wanted any more, such as that of a former URL. What
others made is left. A disabled source wants nothing. The topic webhooks.subscriptions keeps the ids,
for the API has no list: what somebody deleted at ReferralLoop is not seen here, and `subscribe` asks
for it again. Where a run was killed, the next one goes on. One run at a time.",
    "ARGUMENTS"
);

const SUBSCRIBE: &str = layout!(
    "Asks for each subscription that the settings want of the source, those too that the topic knows. One
that is there already is as good.",
    "ARGUMENTS"
);

const UNSUBSCRIBE: &str = layout!(
    "Deletes the subscriptions of the source that sluicectl made. One that is gone already is as good. The
next `sync` subscribes again what the settings want.",
    "ARGUMENTS"
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl referralloop sync --dry-run
  $ sluicectl referralloop sync
  $ sluicectl referralloop subscribe waitlist --event signup.created
  $ sluicectl referralloop unsubscribe waitlist

WHAT IS KNOWN OF THE API
  Documented: the two calls, their bodies, the answer to the first.
  Inferred: 409 where a subscription is there, 404 where it is gone, reset_at in an answer 429 as
  RFC 3339 or as seconds or milliseconds since 1970, the id in an answer 409 where it is there.

EXIT STATUS
  0   ReferralLoop has what the settings want
  1   Not all: what was refused, or would be done, or cannot be known
  2   The command line cannot be carried out
  75  ReferralLoop or the brokers are away or ask to wait, try again
  78  The settings or the secrets are at fault, such as a key that is refused";

/// The options of `sluicectl referralloop`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Subscribe sources at ReferralLoop",
    help_template = GROUP,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

/// What is done.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make what ReferralLoop has equal to the settings
    #[command(help_template = SYNC, after_help = EXAMPLES)]
    Sync {
        /// These sources alone; else all, those too that the settings have no more
        sources: Vec<String>,
        /// Print what would be done; status 1 where there is something
        #[arg(long)]
        dry_run: bool,
        #[arg(
            long,
            help = "The file under secrets_dir with the key for sources that the settings have no more",
            value_name = "NAME",
            value_parser = file_name
        )]
        api_key_file: Option<String>,
        #[command(flatten)]
        calling: Calling,
    },
    /// Subscribe what the settings want of a source
    #[command(help_template = SUBSCRIBE, after_help = EXAMPLES)]
    Subscribe {
        #[command(flatten)]
        only: Only,
        #[command(flatten)]
        calling: Calling,
    },
    /// Delete the subscriptions of a source
    #[command(help_template = UNSUBSCRIBE, after_help = EXAMPLES)]
    Unsubscribe {
        #[command(flatten)]
        only: Only,
        /// Do not know any more of those whose ids are not known
        #[arg(long)]
        forget: bool,
        #[arg(
            long,
            help = "The file under secrets_dir with the key, where the settings have the source no more",
            value_name = "NAME",
            value_parser = file_name
        )]
        api_key_file: Option<String>,
        #[command(flatten)]
        calling: Calling,
    },
}

/// Which subscriptions.
#[derive(Debug, clap::Args)]
pub struct Only {
    /// The source, as the settings name it
    pub source: String,
    /// Of these events alone; several with commas
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    event: Vec<String>,
    /// Of these waitlists alone; several with commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    waitlist: Vec<String>,
}

impl Only {
    /// Whether a subscription is one of these.
    pub fn has(&self, key: &Key) -> bool {
        let among = |some: &[String], one| some.is_empty() || some.contains(one);
        key.source == self.source
            && among(&self.event, &key.event)
            && among(&self.waitlist, &key.waitlist)
    }
}
