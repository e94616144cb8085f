//! The files that the process may have open: connections are most of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluice_schemas::settings::{Fault, Settings};

/// Files in addition to the connections of senders, at least: 32 connections to the admin port, one to each
/// of a few brokers for each of two producers, the spool, the settings and the secrets.
const LEAST_OTHERS: u64 = 64;

/// What is asked for in addition, where the system allows it: a cluster of some hundred brokers.
const OTHERS: u64 = 1_024;

/// Lets the process open as many files as `ingest.limits.connections` and the rest need.
///
/// # Errors
/// The hard limit does not allow it.
pub fn allow(settings: &Settings) -> Result<(), Fault> {
    let connections = settings.ingest.limits.connections as u64;
    let before = getrlimit(Resource::Nofile);
    let raised = raised(connections, before.current, before.maximum)?;
    let maximum = before.maximum;
    if raised == before.current {
        return Ok(());
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: raised,
            maximum,
        },
    )
    .map_err(|error| {
        fault(format!(
            "the soft limit of open files cannot be raised: {error}"
        ))
    })
}

/// The soft limit for so many connections, where the limits are these; `None` is no limit.
fn raised(connections: u64, soft: Option<u64>, hard: Option<u64>) -> Result<Option<u64>, Fault> {
    let need = connections + LEAST_OTHERS;
    if let Some(hard) = hard.filter(|hard| *hard < need) {
        return Err(fault(format!(
            "{connections} connections need {need} open files, and the hard limit (ulimit -Hn) is {hard}: \
             lower the one or raise the other"
        )));
    }
    let wanted = hard.map_or(connections + OTHERS, |hard| hard.min(connections + OTHERS));
    Ok(soft.map(|soft| soft.max(wanted)))
}

fn fault(message: String) -> Fault {
    let path = "ingest.limits.connections".to_owned();
    Fault { path, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_as_far_as_is_wanted_and_allowed() {
        for (connections, soft, hard, expected) in [
            (960, Some(1_024), Some(524_288), Some(1_984)),
            (960, Some(1_024), Some(1_024), Some(1_024)),
            (960, Some(256), Some(1_024), Some(1_024)),
            (10_000, Some(1_024), None, Some(11_024)),
            (960, Some(65_536), Some(65_536), Some(65_536)),
            (960, None, None, None),
        ] {
            let raised = raised(connections, soft, hard).expect("it is allowed");
            assert_eq!(raised, expected, "{connections}, {soft:?}, {hard:?}");
        }
    }

    #[test]
    fn a_hard_limit_that_is_too_low_is_a_fault_with_both_numbers() {
        let fault = raised(961, Some(1_024), Some(1_024)).expect_err("one too many");
        let text = fault.to_string();
        assert!(text.starts_with("ingest.limits.connections"), "{text}");
        assert!(text.contains("961") && text.contains("1024"), "{text}");
    }
}
