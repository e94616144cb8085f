//! `sluicectl providers`: what each provider sends, how it signs, and what its sources may set.

use serde::Serialize;
use serde_json::{Value, json};
use sluice_schemas::providers::description::Description;
use sluice_schemas::providers::{ALL, Provider, Signing, Verifier, by_name};
use sluice_schemas::settings::{Faults, Node};
use sluice_schemas::topic::{OTHER, TopicNames};

use crate::failure::Failure;
use crate::help::{GROUP, layout};
use crate::output;

const SHOW: &str = layout!(
    "How it signs, which headers are read, its types and their topics, when it retries, what its secret's
file holds, and its options with their defaults. What no page of the provider says stands in its README,
next to what is inferred.",
    "ARGUMENTS"
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl providers
  $ sluicectl providers show flowcode
  $ sluicectl providers show flowcode --json | jq '.options'

EXIT STATUS
  0   It was printed
  2   The command line cannot be carried out";

/// The options of `sluicectl providers`.
#[derive(Debug, clap::Args)]
#[command(
    about = "List the providers, or describe one",
    help_template = GROUP,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
pub struct Options {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Describe one provider
    #[command(help_template = SHOW, after_help = EXAMPLES)]
    Show {
        /// Its name, as under sources.*.provider
        name: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Carries the command out.
pub fn run(options: &Options) -> Result<bool, Failure> {
    match &options.command {
        None => {
            for provider in ALL {
                let shown = Shown::new(provider);
                output::line(&if options.json {
                    json!(shown).to_string()
                } else {
                    let Description { title, about, .. } = provider.sender().description();
                    format!("{:<14}{title}: {about}", shown.name)
                });
            }
        }
        Some(Command::Show { name, json }) => {
            let shown = Shown::new(provider(name)?);
            output::line(&if *json {
                json!(shown).to_string()
            } else {
                shown.text()
            });
        }
    }
    Ok(true)
}

/// The provider of a name.
pub fn provider(name: &str) -> Result<&'static dyn Provider, Failure> {
    by_name(name).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|known| known.spec().name).collect();
        let known = known.join(", ");
        Failure::Usage(format!("there is no provider {name}; there are {known}"))
    })
}

/// The verifier of a source that sets these options, whatever faults they have.
pub fn verifier(provider: &dyn Provider, options: Value) -> Box<dyn Verifier> {
    provider.verifier(&mut Node::root(options, &Faults::default()))
}

/// How signatures matter to a source.
pub fn signing(verifier: &dyn Verifier) -> &'static str {
    match verifier.signing() {
        Signing::Required => "required",
        Signing::Optional => "optional",
        Signing::Off => "off",
    }
}

/// A provider as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    name: &'static str,
    title: &'static str,
    about: &'static str,
    signature: &'static str,
    signing: &'static str,
    secret: &'static str,
    headers: &'static [&'static str],
    token_needed: bool,
    types: Vec<Type>,
    other_topic: String,
    retries: &'static str,
    retry_horizon_s: u64,
    identity: &'static str,
    by_sequence: bool,
    max_body: u64,
    options: Vec<Value>,
}

#[derive(Debug, Serialize)]
struct Type {
    r#type: String,
    topic: String,
}

impl Shown {
    /// What holds with default options.
    fn new(provider: &'static dyn Provider) -> Self {
        let spec = provider.spec();
        let Description {
            title,
            about,
            signing: words,
            secret,
            retries,
            identity,
            options,
            signed_url: _,
        } = provider.sender().description();
        let verifier = verifier(provider, Value::Null);
        let names = TopicNames::default();
        let types = verifier.topic_types().into_iter().map(|r#type| Type {
            r#type: r#type.to_owned(),
            topic: names.event(spec.name, r#type),
        });
        let options = options.iter().map(|option| {
            json!({"name": option.name, "default": option.default, "values": option.values})
        });
        Self {
            name: spec.name,
            title,
            about,
            signature: signing(verifier.as_ref()),
            signing: words,
            secret,
            headers: spec.headers,
            token_needed: verifier.signing() != Signing::Required,
            types: types.collect(),
            other_topic: names.event(spec.name, OTHER),
            retries,
            retry_horizon_s: verifier.retry_horizon().as_secs(),
            identity,
            by_sequence: verifier.by_sequence(),
            max_body: verifier.max_body(),
            options: options.collect(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("{} ({})", self.title, self.name),
            row("sends", self.about),
            row("signing", self.signing),
            row(
                "signature",
                match self.signature {
                    "required" => "every request is signed, so a source needs a secret",
                    _ => "requests may be unsigned, so a source needs a token or a required header",
                },
            ),
            row("secret", self.secret),
            row("headers", &self.headers.join(", ")),
            row("retries", self.retries),
            row(
                "dedup_window",
                &match self.retry_horizon_s {
                    0 => "no least: it sends nothing again".to_owned(),
                    seconds => format!(
                        "at least {} minutes, and 72h where it is not set",
                        seconds / 60
                    ),
                },
            ),
            row("identity", self.identity),
            row(
                "max_body",
                &format!("{} bytes where it is not set", self.max_body),
            ),
            "types and their topics".to_owned(),
        ];
        let types = self.types.iter();
        lines.extend(types.map(|Type { r#type, topic }| format!("  {type:<26}{topic}")));
        lines.push(format!("  {:<26}{}", "any other", self.other_topic));
        lines.push("options".to_owned());
        lines.extend(self.options.iter().map(|option| {
            let text = |key: &str| option[key].as_str().unwrap_or_default();
            format!(
                "  {:<20}{} (default: {})",
                text("name"),
                text("values"),
                text("default")
            )
        }));
        lines.join("\n")
    }
}

fn row(name: &str, text: &str) -> String {
    format!("  {name:<14}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_is_described() {
        for provider in ALL {
            let shown = Shown::new(provider);
            let text = shown.text();
            for header in provider.spec().headers {
                assert!(text.contains(header), "{text}");
            }
            assert!(shown.options.len() >= 3 && !shown.retries.is_empty());
            assert_eq!(shown.types.len(), provider.spec().documented.len());
        }
        assert!(provider("nobody").is_err());
    }
}
