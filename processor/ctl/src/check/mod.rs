//! `sluicectl check`: is everything there that both services need? Writes to no topic.

use std::path::Path;
use std::sync::Arc;

use sluice_schemas::settings::{Part, Settings};

use crate::failure::Failure;
use crate::help::layout;
use crate::records::window::now_us;

mod finding;

mod secrets;

mod validity;

mod brokers;

mod topics;

mod registry;

mod acls;

mod clock;

use finding::{Finding, Report};

const LAYOUT: &str = layout!(
    "Nothing is written: no record, no topic, no schema. Each line has a state (ok, WARN, FAIL, or skip
where it could not be checked), what was checked, what was found and, where it fails, the mend.
Progress is on standard error.",
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl check --config sluice.yaml
  $ sluicectl check --role ingest,processor
  $ sluicectl check --json | jq -r 'select(.state == \"fail\") | .mend'

EXIT STATUS
  0   All holds; there may be warnings
  1   Something fails; a broker or the registry that is away does too
  2   The command line cannot be carried out
  78  The settings are at fault";

/// The options of `sluicectl check`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Check settings, secrets, brokers, topics, registry, ACLs and clocks",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Whose ACLs the principal must have: ingest, processor, operator
    #[arg(
        long,
        value_name = "ROLE",
        value_delimiter = ',',
        default_value = "operator",
        hide_possible_values = true
    )]
    role: Vec<acls::Role>,
}

/// Runs all checks; whether none of them fails.
pub async fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let mut report = Report::new(options.json);
    let settings = match sluice_service::settings::load(file) {
        Ok(settings) => Arc::new(settings),
        Err(faults) => {
            for fault in &faults {
                let mend = if file.exists() {
                    format!("correct it in {}", file.display())
                } else {
                    "name the settings file: --config FILE, or SLUICE_CONFIG".to_owned()
                };
                let finding = Finding::fail("settings", &fault.path, &fault.message);
                report.add(&finding.mend(mend));
            }
            report.end();
            return Err(Failure::Config(Vec::new()));
        }
    };
    report.add(&Finding::ok(
        "settings",
        &file.display().to_string(),
        "no faults",
    ));
    for warning in [Part::Ingest, Part::Processor]
        .map(|part| settings.warnings(part))
        .concat()
    {
        let finding = Finding::warn("settings", &warning.path, warning.message);
        report.add(&finding.mend(warning.mend));
    }
    report.all(&secrets::check(&settings));
    report.all(&validity::check(&settings, now_us()));

    eprintln!("asking the brokers and the schema registry");
    let roles = options.role.clone();
    let kafka = tokio::task::spawn_blocking({
        let settings = Arc::clone(&settings);
        let runtime = tokio::runtime::Handle::current();
        move || kafka(&settings, &roles, &runtime)
    });
    let (kafka, (registry, date)) = tokio::join!(kafka, registry::check(&settings));
    let kafka = kafka.map_err(|error| Failure::Failed(error.to_string()))?;
    report.all(&kafka.brokers_and_topics);
    report.all(&registry);
    report.all(&kafka.acls);
    report.all(&kafka.clock);
    report.all(&date);
    report.end();
    Ok(report.holds())
}

/// What the brokers were asked about.
struct Kafka {
    brokers_and_topics: Vec<Finding>,
    acls: Vec<Finding>,
    clock: Vec<Finding>,
}

fn kafka(settings: &Settings, roles: &[acls::Role], runtime: &tokio::runtime::Handle) -> Kafka {
    let skipped = |check| vec![Finding::skip(check, "", "no broker answers")];
    let (mut found, cluster) = brokers::check(settings, runtime);
    let Some(cluster) = cluster else {
        found.extend(skipped("topics"));
        return Kafka {
            brokers_and_topics: found,
            acls: skipped("acls"),
            clock: skipped("clock"),
        };
    };
    found.extend(topics::check(settings, &cluster, runtime));
    Kafka {
        brokers_and_topics: found,
        acls: acls::check(settings, roles, runtime),
        clock: clock::check(settings),
    }
}
