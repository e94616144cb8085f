//! The program `sluice-ingest`.

use std::fmt::Display;
use std::process::exit;

use anyhow::Context;
use clap::Parser;
use mimalloc::MiMalloc;
use sluice_ingest::config::{Arguments, Command};
use sluice_ingest::server::tls::Tls;
use sluice_ingest::{Failure, drain_only, run};
use sluice_schemas::service::settings::Settings;
use sluice_schemas::service::shutdown::Shutdown;
use sluice_schemas::service::{EXIT_CONFIG, EXIT_RESTART, kafka, telemetry};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    let arguments = Arguments::parse();
    let Some(file) = arguments.config else {
        misconfigured(&["--config FILE or SLUICE_CONFIG must name the settings file"]);
    };
    let settings = Settings::load(&file).unwrap_or_else(|faults| misconfigured(&faults));
    if arguments.check {
        // Ingest's only secrets are those of Kafka and its own certificate, so these are all that can
        // be wrong besides.
        if let Err(faults) = kafka::base_config(&settings) {
            misconfigured(&faults);
        }
        if let Err(faults) = Tls::load(&settings) {
            misconfigured(&faults);
        }
        eprintln!("the settings are good");
        return;
    }
    telemetry::init(&settings.telemetry);
    let ended = match arguments.command {
        None => serve(settings),
        Some(Command::Drain { older }) => drain(&settings, older),
    };
    let status = match ended {
        Ok(Ok(())) => 0,
        Ok(Err(Failure::Config(lines))) => misconfigured(&lines),
        Ok(Err(failure @ Failure::Restart(_))) => {
            tracing::error!(%failure, "ending, to be started anew");
            EXIT_RESTART
        }
        Err(error) => {
            tracing::error!("{error:#}");
            1
        }
    };
    exit(status);
}

fn serve(settings: Settings) -> anyhow::Result<Result<(), Failure>> {
    // One thread: parsing is a small part of the work, and librdkafka has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let listen = settings.ingest.listen;
        let bind = async |address| {
            let bound = TcpListener::bind(address).await;
            bound.with_context(|| format!("{address} cannot be listened on"))
        };
        let listener = bind(listen).await?;
        let admin_listener = bind(settings.ingest.admin_listen).await?;
        tracing::info!(%listen, "listening");
        Ok(run(settings, listener, admin_listener, shutdown).await)
    });
    // Dropped at leisure, it would wait for a blocked question to Kafka.
    runtime.shutdown_background();
    served
}

/// Tells what came of it as one JSON object. What could not be drained is a failure.
fn drain(settings: &Settings, older: bool) -> anyhow::Result<Result<(), Failure>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let drained = runtime.block_on(drain_only(settings, older));
    runtime.shutdown_background();
    Ok(drained.and_then(|drained| {
        println!("{}", drained.json());
        match drained.stopped {
            None => Ok(()),
            Some(why) => Err(Failure::Restart(why)),
        }
    }))
}

fn misconfigured(faults: &[impl Display]) -> ! {
    for fault in faults {
        eprintln!("{fault}");
    }
    exit(EXIT_CONFIG)
}
