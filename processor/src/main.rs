//! `sluice-processor`: settings, telemetry, bind, run, drain.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sluice_processor::kafka::check;
use sluice_processor::service::{Parts, run};
use sluice_schemas::settings::{Fault, Part};
use sluice_service::{EXIT_CONFIG, panics, privacy, shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Raw webhooks in, events out, exactly once.
#[derive(Parser)]
#[command(name = "sluice-processor", version = sluice_service::VERSION)]
struct Arguments {
    /// The settings, a YAML file.
    #[arg(long, env = "SLUICE_CONFIG")]
    config: PathBuf,
    /// Read the settings and the secrets, report their faults, and end.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    privacy::protect_process();
    panics::end_process();
    let arguments = Arguments::parse();
    let misconfigured = |faults: Vec<Fault>| -> ! {
        for fault in &faults {
            eprintln!("{}: {fault}", arguments.config.display());
        }
        std::process::exit(EXIT_CONFIG)
    };
    let settings = sluice_service::settings::load(&arguments.config)
        .unwrap_or_else(|faults| misconfigured(faults));
    // Before the secrets are read, because warnings about them are logged.
    telemetry::init(&settings.telemetry);
    let parts = Parts::read(settings).unwrap_or_else(|faults| misconfigured(faults));
    if arguments.check {
        let faults = check::faults(&parts.settings, &parts.base);
        if !faults.is_empty() {
            misconfigured(faults);
        }
        for warning in parts.settings.warnings(Part::Processor) {
            eprintln!("{warning}");
        }
        println!("{}: no faults", arguments.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let shutdown = shutdown::on_signals()?;
        let listener = tokio::net::TcpListener::bind(parts.settings.processor.admin_listen).await?;
        anyhow::Ok(run(parts, listener, shutdown).await)
    })?;
    // Not by returning: the threads of a Kafka client may hang.
    std::process::exit(outcome.map_or_else(|failure| failure.report(), |()| 0))
}
