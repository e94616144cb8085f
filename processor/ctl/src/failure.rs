//! Why a command ends without a result.

use std::fmt::Display;
use std::process::ExitCode;

use sluice_service::{EXIT_CONFIG, EXIT_RESTART};

/// Exit status where the command line cannot be carried out.
const EXIT_USAGE: u8 = 2;

/// Why a command ends without a result.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for cannot be: status 2.
    Usage(String),
    /// The settings or the secrets are at fault, a line each: status 78.
    Config(Vec<String>),
    /// It did not work: status 1.
    Failed(String),
    /// It did not work now, and may later: status 75.
    TryAgain(String),
}

impl Failure {
    /// Of faults, a line each.
    pub fn config<T: Display>(faults: &[T]) -> Self {
        Self::Config(faults.iter().map(ToString::to_string).collect())
    }

    /// The command needs the settings, and no file was named.
    pub fn no_settings_file() -> Self {
        Self::Usage("--config FILE or SLUICE_CONFIG must name the settings file".to_owned())
    }

    /// Writes it to standard error; the exit status.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Usage(line) => {
                eprintln!("error: {line}");
                EXIT_USAGE.into()
            }
            Self::Config(lines) => {
                for line in lines {
                    eprintln!("{line}");
                }
                config_status()
            }
            Self::Failed(line) => {
                eprintln!("error: {line}");
                ExitCode::FAILURE
            }
            Self::TryAgain(line) => {
                eprintln!("error: {line}; try again later");
                status(EXIT_RESTART)
            }
        }
    }
}

/// The exit status where the settings are at fault.
pub fn config_status() -> ExitCode {
    status(EXIT_CONFIG)
}

fn status(status: i32) -> ExitCode {
    u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from)
}
