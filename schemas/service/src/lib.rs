//! What both binaries need to be a service: the mechanism around the contracts of `sluice-schemas`.
//!
//! Comes in: the settings file, the files of the secrets, a shutdown signal. Goes out: checked values while
//! they change, topics that are as they must be, logs, `/livez`, `/readyz` and `/metrics`. Never here: what a
//! webhook means, or a decision about one.

pub mod files;

pub mod settings;

pub mod watch;

pub mod reload;

pub mod secrets;

pub mod telemetry;

pub mod kafka;

pub mod metric;

pub mod admin;

pub mod shutdown;

pub mod runtime;

pub mod privacy;

pub mod panics;

pub mod cgroup;

pub mod table;

pub mod causes;

/// Exit status where the settings, the secrets or the topics are at fault (`EX_CONFIG`).
pub const EXIT_CONFIG: i32 = 78;

/// Exit status where the supervisor must restart the process (`EX_TEMPFAIL`).
pub const EXIT_RESTART: i32 = 75;

/// The version and the commit of this build, as `--version` prints them.
pub const VERSION: &str = env!("SLUICE_VERSION");

/// The version of this build.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The commit of this build.
pub const COMMIT: &str = env!("SLUICE_BUILD_COMMIT");
