//! `sluicectl topics`: the topics next to what they must be, and making them so.

use std::path::Path;
use std::sync::Arc;

use sluice_schemas::settings::Settings;

use crate::client;
use crate::failure::Failure;
use crate::help::{GROUP, layout};
use crate::output;
use crate::records;
use crate::records::reader::Topics;

mod plan;

mod steps;

mod apply;

use steps::Step;

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl topics plan
  $ sluicectl topics plan --json | jq -r 'select(.state == \"refused\") | .mend'
  $ sluicectl topics apply

EXIT STATUS
  0   The topics are as they must be; there may be warnings
  1   Something differs, was refused, or did not work
  2   The command line cannot be carried out
  75  The brokers are away, try again
  78  The settings or the secrets are at fault";

const PLAN: &str = layout!(
    "One line for each topic, and for each thing that differs: ok, create, alter, grow; refused, where
records could be lost or order and identities break, with the command for who wants it all the same;
unknown, where it cannot be seen. Changes nothing.",
);

const APPLY: &str = layout!(
    "Does what plan says: makes topics that are missing, alters settings, gives topics of fates more
partitions. Nothing that could delete a record or stop a producer is done. A topic's other settings
stay as they are; do not change settings of the same topics by another tool meanwhile. Run again, it
does what is left.",
);

/// The options of `sluicectl topics`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Compare the topics with what they must be, and make them so",
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
    /// Print what exists, differs, would be made or altered
    #[command(help_template = PLAN)]
    Plan(Shape),
    /// Make and alter topics as the plan says
    #[command(help_template = APPLY)]
    Apply(Shape),
}

/// How results are printed.
#[derive(Debug, clap::Args)]
struct Shape {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Carries the command out; whether the topics are as they must be.
pub async fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let settings = Arc::new(records::settings(file)?);
    let (shape, is_apply) = match &options.command {
        Command::Plan(shape) => (shape, false),
        Command::Apply(shape) => (shape, true),
    };
    let json = shape.json;
    let runtime = tokio::runtime::Handle::current();
    let work = move || work(&settings, is_apply, json, &runtime);
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
}

/// Requests for metadata block, so this has a thread of its own.
fn work(
    settings: &Settings,
    is_apply: bool,
    json: bool,
    runtime: &tokio::runtime::Handle,
) -> Result<bool, Failure> {
    let topics = Topics::new(settings)?;
    eprintln!("asking {}", settings.kafka.bootstrap_servers);
    let config = client::config(settings).map_err(Failure::Failed)?;
    let admin = client::admin(&config);
    let steps = plan::steps(settings, &topics, admin.as_ref(), runtime)?;
    if !is_apply {
        return Ok(report(&steps, json));
    }
    match &admin {
        Ok(admin) => {
            let applying = apply::Applying {
                settings,
                topics: &topics,
                admin,
                runtime,
            };
            applying.all(&steps, &mut |step| print(step, json))
        }
        Err(reason) => Err(Failure::Failed(format!(
            "nothing can be applied: {reason}; `sluicectl topics plan` prints the commands of Kafka's own tools"
        ))),
    }
}

/// Prints the steps; whether nothing is to be done.
fn report(steps: &[Step], json: bool) -> bool {
    for step in steps {
        print(step, json);
    }
    steps.iter().all(Step::holds)
}

fn print(step: &Step, json: bool) {
    if json {
        output::line(&serde_json::json!(step).to_string());
    } else {
        output::line(&step.line());
    }
}
