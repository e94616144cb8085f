//! The settings file of a process, and what reading it asks of the machine.

use std::io::ErrorKind;
use std::path::Path;

use sluice_schemas::settings::{Environment, Fault, MAX_FILE_BYTES, Settings};

use crate::files;
use crate::kafka::client::property_fault;

#[cfg(test)]
mod tests;

/// The variable that names this process in its group where the settings do not.
pub const MEMBER_VARIABLE: &str = "SLUICE_MEMBER";

/// Reads and checks the file. All faults are returned at once, each with its path in the file.
pub fn load(path: &Path) -> Result<Settings, Vec<Fault>> {
    parse(path, &read(path)?)
}

/// The bytes of the file, 4 MiB at most.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Vec<Fault>> {
    files::read(path, MAX_FILE_BYTES as u64).map_err(|error| {
        let message = match error.kind() {
            ErrorKind::FileTooLarge => format!("is over {MAX_FILE_BYTES} bytes"),
            _ => format!("cannot be read: {error}"),
        };
        vec![Fault::of_file(path, message)]
    })
}

/// Checks what the file held.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Settings, Vec<Fault>> {
    let member = member_of_this_process();
    let environment = Environment {
        member: member.as_deref(),
        property_fault: &property_fault,
    };
    Settings::parse(path, bytes, &environment)
}

/// The variable, else the host's name, which for a pod of a stateful set stays over restarts.
fn member_of_this_process() -> Option<String> {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    std::env::var(MEMBER_VARIABLE)
        .ok()
        .filter(|name| !name.is_empty())
        .or_else(host)
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
}
