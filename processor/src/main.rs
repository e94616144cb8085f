//! `sluice-processor`: settings, telemetry, bind, run, drain.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sluice_processor::service::{Parts, run};
use sluice_schemas::settings::Fault;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::client::base_config;
use sluice_service::secrets::Store;
use sluice_service::shutdown::Shutdown;
use sluice_service::{EXIT_CONFIG, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Raw webhooks in, events out, exactly once.
#[derive(Parser)]
#[command(name = "sluice-processor", version)]
struct Arguments {
    /// The settings, a YAML file.
    #[arg(long, env = "SLUICE_CONFIG")]
    config: PathBuf,
    /// Read the settings and the secrets, report their faults, and end.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let misconfigured = |faults: Vec<Fault>| -> ! {
        for fault in &faults {
            eprintln!("{}: {fault}", arguments.config.display());
        }
        std::process::exit(EXIT_CONFIG)
    };
    let settings = sluice_service::settings::load(&arguments.config)
        .unwrap_or_else(|faults| misconfigured(faults));
    // Before the secrets are read: what is odd about them is logged.
    telemetry::init(&settings.telemetry);
    let parts = parts(settings).unwrap_or_else(|faults| misconfigured(faults));
    if arguments.check {
        println!("{}: no faults", arguments.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let listener = tokio::net::TcpListener::bind(parts.settings.processor.admin_listen).await?;
        anyhow::Ok(run(parts, listener, shutdown).await)
    })?;
    // Not by returning: what a client of Kafka still does on its threads is not waited for.
    std::process::exit(status)
}

/// All that the settings name files for, with all faults at once.
fn parts(settings: Settings) -> Result<Parts, Vec<Fault>> {
    let base = base_config(&settings);
    let credentials = Store::load(&settings);
    match (base, credentials) {
        (Ok(base), Ok(credentials)) => Ok(Parts {
            settings,
            base,
            credentials,
        }),
        (base, credentials) => {
            let mut faults = base.err().unwrap_or_default();
            faults.extend(credentials.err().unwrap_or_default());
            Err(faults)
        }
    }
}
