//! What a new settings file may change in a process that runs.

use super::file::{Settings, StartupLimits};
use super::restart::RestartRequired;
use crate::settings::reader::Fault;

/// Which service asks. The other one's part of the file does not concern it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `ingest`
    Ingest,
    /// `processor`
    Processor,
}

/// What a new file comes to.
#[derive(Debug)]
pub struct Change {
    /// What is in force from now on: the new file's, but for what waits.
    pub settings: Settings,
    /// The paths of what changed and waits for a restart.
    pub waiting: Vec<String>,
}

impl Settings {
    /// The settings in force become those of a new file, as far as that can be without a restart.
    /// A source over the limits of the start is a fault, and nothing of the file is applied: half of it would
    /// be worse.
    pub fn change_to(&self, mut new: Self, part: Part) -> Result<Change, Vec<Fault>> {
        let faults = self.exceeds_startup_limits(&new, part);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut waiting = RestartRequired::default();
        // Destructured, so that a new setting does not compile before it is decided here.
        let Self {
            kafka,
            topics,
            schema_registry,
            secrets_dir,
            sources: _,
            ingest,
            processor,
            telemetry,
            origin: _,
            startup_limits,
        } = &mut new;
        // Clients are made once, and what they write to is verified once.
        waiting.keep("kafka", &self.kafka, kafka);
        waiting.keep("topics", &self.topics, topics);
        waiting.keep("schema_registry", &self.schema_registry, schema_registry);
        waiting.keep("secrets_dir", &self.secrets_dir, secrets_dir);
        match part {
            Part::Ingest => ingest.keep_from(&self.ingest, &mut waiting),
            Part::Processor => processor.keep_from(&self.processor, &mut waiting),
        }
        telemetry.keep_from(&self.telemetry, &mut waiting);
        *startup_limits = StartupLimits {
            largest_body: self.largest_body(),
            longest_window: self.longest_window(),
        };
        Ok(Change {
            settings: new,
            waiting: waiting.0,
        })
    }

    /// The faults of the sources that exceed the limits of the start.
    fn exceeds_startup_limits(&self, new: &Self, part: Part) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |source: &str, key: &str, message: String| {
            faults.push(Fault {
                path: format!("sources.{source}.{key}"),
                message,
            });
        };
        let (body, window) = (self.largest_body(), self.longest_window());
        for source in new.sources.values() {
            if source.max_body > body {
                let message = format!(
                    "is over {body} bytes, the largest at the start, which the topics were \
                     verified for: this needs a restart"
                );
                fault(&source.name, "max_body", message);
            }
            if source.dedup_window > window {
                let message = format!(
                    "is over {} s, the longest at the start, which the memories were made for: \
                     this needs a restart",
                    window.as_secs()
                );
                fault(&source.name, "dedup_window", message);
            }
            // The rest is ingest's alone.
            if part != Part::Ingest {
                continue;
            }
            if source.client_ca_file.is_some() && self.ingest.tls.is_none() {
                let message = "needs ingest.tls, which is in force after a restart alone";
                fault(&source.name, "client_ca_file", message.to_owned());
            }
            let age = self.ingest.spool.as_ref().map(|spool| spool.max_age);
            if age.is_some_and(|age| !source.fits_window(age)) {
                let message = "does not fit the ingest.spool.max_age that is in force, with the \
                               time for which its provider retries: this needs a restart";
                fault(&source.name, "dedup_window", message.to_owned());
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::file::Environment;

    fn settings(sources: &str, rest: &str) -> Settings {
        let yaml = format!("kafka: {{bootstrap_servers: b}}\nsources: {{{sources}}}\n{rest}\n");
        let environment = Environment {
            member: Some("host"),
            property_fault: &|_, _| None,
        };
        Settings::parse(Path::new("settings.yaml"), yaml.as_bytes(), &environment)
            .expect("good settings")
    }

    const OLD: &str = "a: {provider: flock, secrets: [x], max_body: 64KiB, dedup_window: 48h}";

    fn waiting(rest: &str, part: Part) -> Vec<String> {
        let new = settings(OLD, rest);
        let change = settings(OLD, "").change_to(new, part);
        change.expect("nothing is beyond its bounds").waiting
    }

    #[test]
    fn each_service_reports_the_paths_that_wait_for_its_restart() {
        let all = "
topics: {partitions: 7}
secrets_dir: /elsewhere
schema_registry: {url: 'http://r'}
ingest: {listen: '0.0.0.0:1', admin_listen: '0.0.0.0:2', threads: 3, ack_timeout: 3s,
  body_timeout: 3s, header_timeout: 3s, max_buffered: 1MiB}
processor: {admin_listen: '0.0.0.0:3', group: g, member: m, membership: static, workers: 2,
  begin: latest, dedup_window: 50h, dedup_memory: 1GiB, cloudevents_headers: false}
telemetry: {otlp_endpoint: 'http://e', otlp_protocol: http, otlp_headers_file: h, otlp_ca_file: /ca,
  otlp_timeout: 1s, trace_ratio: 1, log_format: text}";
        let (topics, telemetry) = (
            ["topics", "schema_registry", "secrets_dir"],
            [
                "telemetry.otlp_endpoint",
                "telemetry.otlp_protocol",
                "telemetry.otlp_headers_file",
                "telemetry.otlp_ca_file",
                "telemetry.otlp_timeout",
                "telemetry.log_format",
            ],
        );
        let ingest =
            ["listen", "admin_listen", "threads", "ack_timeout"].map(|key| format!("ingest.{key}"));
        let processor = [
            "admin_listen",
            "group",
            "member",
            "membership",
            "workers",
            "begin",
        ];
        let processor = processor.map(|key| format!("processor.{key}"));
        let expected = |own: &[String]| -> Vec<String> {
            let front = topics.map(str::to_owned);
            [&front, own, &telemetry.map(str::to_owned)].concat()
        };
        assert_eq!(waiting(all, Part::Ingest), expected(&ingest));
        assert_eq!(waiting(all, Part::Processor), expected(&processor));
        assert_eq!(waiting("", Part::Processor), Vec::<String>::new());
        // Ingest places keys by it from its start on, and the processor's logs say what it was.
        let keys = waiting("topics: {key_partitions: 11}", Part::Ingest);
        assert_eq!(keys, ["topics"]);
        // A default that is written down is no change.
        let same = waiting(
            "processor: {workers: 1}\ntopics: {key_partitions: 12}",
            Part::Processor,
        );
        assert_eq!(same, Vec::<String>::new());
    }

    #[test]
    fn a_source_over_the_startup_limits_is_a_fault() {
        let old = settings(OLD, "");
        let larger = settings(
            "a: {provider: flock, secrets: [x], max_body: 65KiB, dedup_window: 49h}",
            "",
        );
        let faults = old.change_to(larger, Part::Ingest).expect_err("beyond");
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["sources.a.max_body", "sources.a.dedup_window"]);
    }

    #[test]
    fn the_bounds_are_those_of_the_start_however_often_it_changes() {
        let old = settings(OLD, "");
        let (room, window) = (old.output_max_message_bytes(), old.longest_window());
        let smaller = "b: {provider: flock, secrets: [x], max_body: 1KiB, dedup_window: 1h}";
        let change = old.change_to(settings(smaller, ""), Part::Processor);
        let now = change.expect("smaller is good").settings;
        assert_eq!(now.output_max_message_bytes(), room);
        assert_eq!(now.longest_window(), window);
        let change = now.change_to(settings(OLD, ""), Part::Processor);
        assert!(change.expect("as at the start").waiting.is_empty());
    }
}
