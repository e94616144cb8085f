//! Which records a redrive is about, and the group that stands for them.

use std::fmt::Write as _;

use sluice_schemas::fate::Fate;
use sluice_schemas::identity::fingerprint;
use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::records::filter::{Filter, Of};
use crate::records::window::{Moment, Whole};

/// How many bytes of the digest are in the name of the group.
const DIGEST_BYTES: usize = 8;

/// The options that select records.
#[derive(Debug, clap::Args)]
pub struct Which {
    #[command(flatten)]
    of: Of,
    /// Of this request or delivery
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    times: Whole,
    /// Also those that would be judged as before
    #[arg(long)]
    all: bool,
}

/// Which records, as the command line says.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The fate whose topic is read.
    pub fate: Fate,
    /// What a record must be.
    pub filter: Filter,
    /// Those too that would be judged as before.
    pub all: bool,
    times: [String; 2],
}

impl Selection {
    /// Of these options.
    pub fn new(fate: Fate, options: &Which) -> Result<Self, Failure> {
        let mut filter = options.of.filter(fate, options.times.window()?)?;
        filter.id.clone_from(&options.id);
        Ok(Self {
            fate,
            filter,
            all: options.all,
            times: [options.times.since, options.times.until].map(words),
        })
    }

    /// The group in which the progress of this selection is kept: the same for the same options, in whatever
    /// order they come, and another for others.
    pub fn group(&self, settings: &Settings) -> String {
        let fate = match self.fate {
            Fate::Rejected => "rejected",
            _ => "dead-letter",
        };
        let mut parts: Vec<String> = Vec::new();
        let filter = &self.filter;
        for (name, list) in [
            ("reason", &filter.reasons),
            ("source", &filter.sources),
            ("provider", &filter.providers),
        ] {
            let mut list = list.clone();
            list.sort_unstable();
            list.dedup();
            parts.extend(list.iter().map(|one| format!("{name}={one}")));
        }
        parts.extend(
            filter
                .id
                .iter()
                .map(|id| format!("id={}", id.to_ascii_lowercase())),
        );
        let [since, until] = &self.times;
        parts.push(format!("since={since}"));
        parts.push(format!("until={until}"));
        parts.push(format!("all={}", self.all));
        let digest = fingerprint(fate, parts.iter().map(String::as_bytes));
        let mut name = format!("{}.redrive.{fate}.", settings.group_id());
        for byte in &digest[..DIGEST_BYTES] {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}

/// A time as it was given: a duration stays one, so that the same command is the same selection later.
fn words(moment: Option<Moment>) -> String {
    match moment {
        None => "-".to_owned(),
        Some(Moment::At(millis)) => millis.to_string(),
        Some(Moment::Ago(long)) => format!("{} ms ago", long.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redrive::testing;

    fn group(arguments: &[&str]) -> String {
        let options = testing::options(arguments);
        let selection = Selection::new(Fate::DeadLetter, &options).expect("good options");
        selection.group(&testing::settings())
    }

    #[test]
    fn a_group_stands_for_one_topic_and_one_selection() {
        let one = group(&["--reason", "unknown_source", "--reason", "missing_field"]);
        assert!(
            one.starts_with("eu.sluice-processor.redrive.dead-letter."),
            "{one}"
        );
        assert_eq!(one, group(&["--reason", "missing_field,unknown_source"]));
        assert_eq!(group(&["--since", "48h"]), group(&["--since", "2d"]));
        let different = [
            one,
            group(&[]),
            group(&["--all"]),
            group(&["--reason", "missing_field"]),
            group(&["--source", "missing_field"]),
            group(&["--provider", "flock"]),
            group(&["--id", "missing_field"]),
            group(&["--since", "2h"]),
            group(&["--since", "2026-01-31T08:00:00Z"]),
            group(&["--until", "2h"]),
        ];
        let names: std::collections::BTreeSet<&String> = different.iter().collect();
        assert_eq!(names.len(), different.len());
        let options = testing::options(&[]);
        let rejected = Selection::new(Fate::Rejected, &options).expect("good options");
        let rejected = rejected.group(&testing::settings());
        assert!(rejected.contains(".redrive.rejected."), "{rejected}");
    }

    #[test]
    fn a_reason_of_another_fate_is_refused_with_those_that_there_are() {
        let options = testing::options(&["--reason", "signature_mismatch"]);
        let refused = Selection::new(Fate::DeadLetter, &options);
        let Err(Failure::Usage(line)) = refused else {
            panic!("{refused:?}")
        };
        assert!(line.contains("unknown_source, not_utf8"), "{line}");
        assert!(Selection::new(Fate::Rejected, &options).is_ok());
    }
}
