//! Settings that are accepted, and leave something open that their reader may not expect.

use std::fmt;

use super::change::Part;
use super::file::Settings;
use super::peer::PeerFrom;

/// What is logged at the start and after each change of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The path in the file.
    pub path: String,
    /// What is open.
    pub message: &'static str,
    /// What closes it.
    pub mend: &'static str,
}

impl Settings {
    /// The warnings for one service.
    pub fn warnings(&self, part: Part) -> Vec<Warning> {
        match part {
            Part::Ingest => self.open_rates(),
            Part::Processor => self.plain_password().into_iter().collect(),
        }
    }

    /// Rates that strangers share with the provider.
    fn open_rates(&self) -> Vec<Warning> {
        if self.ingest.peer != PeerFrom::Connection {
            return Vec::new();
        }
        let open = self.sources.values();
        let open =
            open.filter(|source| source.enabled && source.rate.is_some() && source.is_open());
        open.map(|source| Warning {
            path: format!("sources.{}.rate", source.name),
            message: "a stranger can use it up, and then the provider is answered 429: the source takes \
                      requests from anybody, and peers are not distinguished",
            mend: "set token_sha256, require_headers, client_ca_file or allow_from, or set ingest.peer, and \
                   each peer has the rate for itself",
        })
        .collect()
    }

    /// A password that goes over the network in the clear.
    fn plain_password(&self) -> Option<Warning> {
        let registry = self.schema_registry.as_ref()?;
        let is_plain = registry.url.starts_with("http://") && registry.password_file.is_some();
        is_plain.then(|| Warning {
            path: "schema_registry.password_file".to_owned(),
            message: "the password goes over the network in the clear, for schema_registry.url is http",
            mend: "set schema_registry.url to https://, and ca_file where its authority is your own",
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            message,
            mend,
        } = self;
        write!(f, "warning: {path}: {message}: {mend}")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::file::Environment;

    fn warned(source: &str, rest: &str, part: Part) -> Vec<String> {
        let yaml =
            format!("kafka: {{bootstrap_servers: b}}\nsources: {{s: {{{source}}}}}\n{rest}\n");
        let environment = Environment {
            member: Some("host"),
            property_fault: &|_, _| None,
        };
        let settings = Settings::parse(Path::new("settings.yaml"), yaml.as_bytes(), &environment);
        let settings = settings.expect("good settings");
        let warnings = settings.warnings(part).into_iter();
        warnings.map(|warning| warning.path).collect()
    }

    #[test]
    fn a_rate_that_strangers_share_is_warned_of() {
        const OPEN: &str = "provider: flock, secrets: [x], rate: 5";
        let token = format!("{OPEN}, token_sha256: ['{}']", "ab".repeat(32));
        let tls = "ingest: {tls: {cert_file: c, key_file: k}}";
        for (source, rest, warns) in [
            (OPEN, "", true),
            (OPEN, "ingest: {peer: {from: proxy_protocol}}", false),
            (OPEN, "ingest: {peer: {from: forwarded_for}}", false),
            (token.as_str(), "", false),
            (&format!("{OPEN}, allow_from: [192.0.2.0/24]"), "", false),
            (&format!("{OPEN}, client_ca_file: ca"), tls, false),
            (&format!("{OPEN}, enabled: false"), "", false),
            ("provider: flock, secrets: [x]", "", false),
        ] {
            let expected: &[&str] = if warns { &["sources.s.rate"] } else { &[] };
            assert_eq!(
                warned(source, rest, Part::Ingest),
                expected,
                "{source}; {rest}"
            );
            assert!(warned(source, rest, Part::Processor).is_empty());
        }
    }

    #[test]
    fn a_password_in_the_clear_is_warned_of() {
        const FLOCK: &str = "provider: flock, secrets: [x]";
        for (registry, warns) in [
            ("{url: 'http://r', username: u, password_file: p}", true),
            ("{url: 'https://r', username: u, password_file: p}", false),
            ("{url: 'http://r'}", false),
        ] {
            let rest = format!("schema_registry: {registry}");
            let expected: &[&str] = if warns {
                &["schema_registry.password_file"]
            } else {
                &[]
            };
            assert_eq!(
                warned(FLOCK, &rest, Part::Processor),
                expected,
                "{registry}"
            );
        }
    }
}
