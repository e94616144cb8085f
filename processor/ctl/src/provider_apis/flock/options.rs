//! The options of `sluicectl flock`, and its help.

use std::path::PathBuf;

use super::client::{Environment, RewardFor};
use super::customer::From;
use crate::help::{GROUP, layout};
use crate::provider_apis::{Calling, file_name};

const IDENTIFY: &str = layout!(
    "Makes a customer known to Flock, or what it knows of it new, and prints Flock's id of it. The file is
a JSON object of externalUserId (the id in your system), email, name and, where there are some,
customProperties.",
);

const LIVE: &str = layout!("Prints the id of the campaign that is live for a customer.",);

const VALIDATE: &str = layout!(
    "Asks whether a referral code is one, and prints Flock's id of the customer whose it is. Status 1: it
is none.",
);

const REFERRAL: &str = layout!(
    "Makes a referral of a customer by a code. Where it is not known whether it was made, it is not tried
again: twice could be two.",
);

const CHECKPOINT: &str = layout!(
    "Says that a customer has reached a checkpoint, which may give rewards. Where it is not known whether
Flock took it, it is not tried again: twice could be two.",
    "ARGUMENTS"
);

const REWARD: &str = layout!(
    "Gives a reward. Flock advises checkpoints instead. Where it is not known whether it was given, it is
not tried again: twice could be two.",
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl flock identify-customer --api-key-file flock-api --customer-file - < customer.json
  $ sluicectl flock validate-code --api-key-file flock-api --referral-code JANE123
  $ sluicectl flock ingest-checkpoint purchase_completed --api-key-file flock-api \\
      --external-user-id user_123 --environment test

WHAT IS KNOWN OF THE API
  Documented: what each call takes, isValid and referredBy in the answer to validate-code, 201 for a
  referral and a reward.
  Inferred: the member checkpointName, where ids stand in the other answers (id, customer.id,
  campaign.id, referral.id, reward.id, data.id), reset_at in an answer 429, that to identify a
  customer twice is the same as once.

EXIT STATUS
  0   It is done; the code is valid
  1   Flock refuses it, the code is not valid, or whether it was done is not known
  2   The command line or the customer's file cannot be carried out
  75  Flock is away or asks to wait, try again
  78  The settings or the secrets are at fault, such as a key that is refused";

/// The options of `sluicectl flock`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Call Flock's server API",
    help_template = GROUP,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

/// What every call has.
#[derive(Debug, clap::Args)]
pub struct Common {
    #[arg(
        long,
        help = "The file under secrets_dir with the service access key",
        env = "SLUICE_FLOCK_KEY_FILE",
        hide_env_values = true,
        value_name = "NAME",
        value_parser = file_name
    )]
    pub api_key_file: String,
    /// With Flock's answer as it came: persons' data
    #[arg(long)]
    pub show_bodies: bool,
    #[command(flatten)]
    pub calling: Calling,
}

/// The calls.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a customer known
    #[command(help_template = IDENTIFY, after_help = EXAMPLES)]
    IdentifyCustomer {
        /// JSON with what is said of the customer; -: standard input
        #[arg(long, value_name = "FILE")]
        customer_file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Print the campaign that is live for a customer
    #[command(help_template = LIVE, after_help = EXAMPLES)]
    LiveCampaign {
        /// production or test
        #[arg(long, value_name = "ENVIRONMENT", hide_possible_values = true)]
        environment: Environment,
        /// Flock's id of the customer
        #[arg(long, value_name = "ID")]
        customer_id: Option<String>,
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        common: Common,
    },
    /// Ask whether a referral code is one
    #[command(help_template = VALIDATE, after_help = EXAMPLES)]
    ValidateCode {
        /// The code
        #[arg(long, value_name = "CODE")]
        referral_code: Option<String>,
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        common: Common,
    },
    /// Make a referral
    #[command(help_template = REFERRAL, after_help = EXAMPLES)]
    CreateReferral {
        /// Flock's id of the campaign
        #[arg(long, value_name = "ID")]
        campaign_id: String,
        /// The code that the customer came with
        #[arg(long, value_name = "CODE")]
        referral_code: Option<String>,
        /// Flock's id of the customer who came
        #[arg(long, value_name = "ID")]
        referee_id: Option<String>,
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        common: Common,
    },
    /// Say that a customer has reached a checkpoint
    #[command(help_template = CHECKPOINT, after_help = EXAMPLES)]
    IngestCheckpoint {
        /// The checkpoint's name
        checkpoint_name: String,
        /// The customer's id in your system
        #[arg(long, value_name = "ID")]
        external_user_id: Option<String>,
        /// production or test
        #[arg(long, value_name = "ENVIRONMENT", hide_possible_values = true)]
        environment: Environment,
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        common: Common,
    },
    /// Give a reward
    #[command(help_template = REWARD, after_help = EXAMPLES)]
    TriggerReward {
        /// The customer's id in your system
        #[arg(long, value_name = "ID")]
        external_user_id: Option<String>,
        /// production or test
        #[arg(long, value_name = "ENVIRONMENT", hide_possible_values = true)]
        environment: Environment,
        #[arg(
            long,
            help = "self, referral_partner, or both with a comma",
            value_name = "WHOM",
            value_delimiter = ',',
            required = true,
            hide_possible_values = true
        )]
        reward_for: Vec<RewardFor>,
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        common: Common,
    },
}

impl Command {
    /// What every call has.
    pub const fn common(&self) -> &Common {
        match self {
            Self::IdentifyCustomer { common, .. }
            | Self::LiveCampaign { common, .. }
            | Self::ValidateCode { common, .. }
            | Self::CreateReferral { common, .. }
            | Self::IngestCheckpoint { common, .. }
            | Self::TriggerReward { common, .. } => common,
        }
    }

    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::IdentifyCustomer { .. } => "identify-customer",
            Self::LiveCampaign { .. } => "live-campaign",
            Self::ValidateCode { .. } => "validate-code",
            Self::CreateReferral { .. } => "create-referral",
            Self::IngestCheckpoint { .. } => "ingest-checkpoint",
            Self::TriggerReward { .. } => "trigger-reward",
        }
    }
}
