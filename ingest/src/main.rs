//! `sluice-ingest`: settings, telemetry, bind, run, drain.

use std::fmt::Display;
use std::process::exit;

use clap::Parser;
use mimalloc::MiMalloc;
use sluice_ingest::arguments::{Arguments, Command};
use sluice_ingest::check::check;
use sluice_ingest::descriptors;
use sluice_ingest::drain_command::{drain_only, list_quarantine};
use sluice_ingest::http::{server, threads};
use sluice_ingest::service::run;
use sluice_ingest::spool::Released;
use sluice_schemas::settings::{Part, Settings};
use sluice_service::runtime::Failure;
use sluice_service::{EXIT_CONFIG, privacy, shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    privacy::protect_process();
    sluice_service::panics::end_process();
    let arguments = Arguments::parse();
    let Some(file) = arguments.config else {
        misconfigured(&["--config FILE or SLUICE_CONFIG must name the settings file"]);
    };
    let settings =
        sluice_service::settings::load(&file).unwrap_or_else(|faults| misconfigured(&faults));
    if arguments.check {
        check(&settings).unwrap_or_else(|faults| misconfigured(&faults));
        for warning in settings.warnings(Part::Ingest) {
            eprintln!("{warning}");
        }
        eprintln!("the settings are good");
        return;
    }
    telemetry::init(&settings.telemetry);
    let status = match start(settings, arguments.command) {
        Ok(Ok(())) => 0,
        Ok(Err(Failure::Config(lines))) => misconfigured(&lines),
        Ok(Err(failure)) => failure.report(),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ingest cannot start");
            1
        }
    };
    exit(status);
}

fn start(settings: Settings, command: Option<Command>) -> anyhow::Result<Result<(), Failure>> {
    let runtime = threads::runtime()?;
    let ended = runtime.block_on(async {
        match command {
            Some(Command::Drain {
                older,
                quarantined,
                refused,
            }) => {
                let released = match (quarantined, refused) {
                    (true, _) => Some(Released::All),
                    (false, true) => Some(Released::Refused),
                    (false, false) => None,
                };
                return Ok(drain(&settings, older, released).await);
            }
            Some(Command::Quarantine) => return Ok(list_quarantine(&settings)),
            None => {}
        }
        if let Err(fault) = descriptors::allow(&settings) {
            return Ok(Err(Failure::config(&[fault])));
        }
        let shutdown = shutdown::on_signals()?;
        let listen = settings.ingest.listen;
        let listener = server::listen(listen)?;
        let admin_listener = server::listen(settings.ingest.admin_listen)?;
        tracing::info!(%listen, "listening");
        Ok(run(settings, listener, admin_listener, shutdown).await)
    });
    // Dropped in the usual way, it would wait for a blocked call to Kafka.
    runtime.shutdown_background();
    ended
}

/// Drains the spool and prints the result as one JSON object. Records that are left are a failure.
async fn drain(
    settings: &Settings,
    older: bool,
    released: Option<Released>,
) -> Result<(), Failure> {
    let drained = drain_only(settings, older, released).await?;
    println!("{}", drained.json());
    let refused = drained.refused;
    let kept = || format!("{refused} records are in quarantine: keep this folder");
    let stopped = drained.stopped.or_else(|| (refused > 0).then(kept));
    stopped.map_or(Ok(()), |reason| Err(Failure::Restart(reason)))
}

fn misconfigured(faults: &[impl Display]) -> ! {
    for fault in faults {
        eprintln!("{fault}");
    }
    exit(EXIT_CONFIG)
}
