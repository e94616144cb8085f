//! `sluicectl`: the operator's command line. Checks an installation, tries it with signed webhooks, and
//! answers what became of requests.
//!
//! Comes in: the settings file of the services. Goes out: a line or a JSON object for each result on standard
//! output, progress on standard error, the exit status. Never here: a part in the services' group. Of their
//! topics `redrive` alone writes to one, raw, and `topics apply` alone makes and alters them. `replay --into`
//! writes to shadow topics, `referralloop` to `webhooks.subscriptions`.

mod help;

mod arguments;

mod failure;

mod output;

mod client;

mod check;

mod send;

mod records;

mod judging;

mod find;

mod replay;

mod explain;

mod show;

mod fates;

mod redrive;

mod tail;

mod listen;

mod topics;

mod token;

mod providers;

mod secret;

mod sources;

mod audit;

mod provider_apis;

mod pages;

use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use failure::Failure;

fn main() -> ExitCode {
    sluice_service::panics::end_process();
    let Arguments { config, command } = Arguments::of_process();
    // Manual pages are for everybody.
    if !matches!(command, Command::Man { .. }) {
        sluice_service::privacy::protect_process();
    }
    let file = || config.as_deref().ok_or_else(Failure::no_settings_file);
    let done = match &command {
        Command::Check(options) => file().and_then(|file| run(check::run(file, options))),
        Command::Send(options) => file().and_then(|file| send_to(file, options)),
        Command::Replay(options) => file().and_then(|file| replay::run(file, options)),
        Command::Find(options) => file().and_then(|file| find::run(file, options)),
        Command::Show(options) => file().and_then(|file| show::run(file, options)),
        Command::Explain(options) => file().and_then(|file| explain::run(file, options)),
        Command::Tail(options) => file().and_then(|file| run(tail::run(file, options))),
        Command::Listen(options) => file().and_then(|file| run(listen::run(file, options))),
        Command::DeadLetters(options) => file().and_then(|file| options.run(file)),
        Command::Rejected(options) => file().and_then(|file| options.run(file)),
        Command::Duplicates(options) => file().and_then(|file| options.run(file)),
        Command::Topics(options) => file().and_then(|file| run(topics::run(file, options))),
        Command::Token(options) => token::run(options),
        Command::Secret(options) => secret::run(file, options),
        Command::Providers(options) => providers::run(options),
        Command::Sources(options) => sources::run(config.as_deref(), options),
        Command::Audit(options) => file().and_then(|file| audit::run(file, options)),
        Command::Referralloop(options) => {
            file().and_then(|file| run(provider_apis::referralloop::run(file, options)))
        }
        Command::Flock(options) => {
            file().and_then(|file| run(provider_apis::flock::run(file, options)))
        }
        Command::Completions { shell } => {
            pages::completions(*shell);
            Ok(true)
        }
        Command::Man { dir } => pages::man(dir).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => failure.report(),
    }
}

fn send_to(file: &Path, options: &send::Options) -> Result<bool, Failure> {
    run(send::run(file, options))
}

/// Runs a command to its end; whether all that it looked at is as it must be.
fn run(command: impl Future<Output = Result<bool, Failure>>) -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let done = runtime.block_on(command);
    // A client of Kafka may still wait for brokers that are away.
    runtime.shutdown_background();
    done
}
