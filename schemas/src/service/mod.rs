//! What both binaries need to be a service. The only part of this crate that does I/O or reads a clock.

pub mod settings;

pub mod credentials;

pub mod reload;

pub mod telemetry;

pub mod kafka;

pub mod topics;

pub mod admin;

pub mod shutdown;

/// Exit status where the settings, the secrets or the topics are at fault (`EX_CONFIG`).
pub const EXIT_CONFIG: i32 = 78;

/// Exit status where the supervisor shall start the process anew (`EX_TEMPFAIL`).
pub const EXIT_RESTART: i32 = 75;
