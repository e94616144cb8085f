//! What a new source needs: a name, a provider and options come in, settings, token, Secret and URL go out.

use std::path::Path;

use serde_json::{Map, Value, json};
use sluice_schemas::providers::{Provider, Signing};
use sluice_schemas::settings::{Environment, Settings};
use sluice_service::secrets::read_secret;

use super::add::Add;
use super::yaml::block;
use crate::failure::Failure;
use crate::providers;
use crate::token::Token;

/// What stands in the Secret until somebody puts the provider's secret there. An empty file is a fault of
/// every provider: a text that stands in this code would be a secret that everybody knows.
const PLACEHOLDER: &str = "";

/// A new source.
pub struct Fragment {
    name: String,
    provider: &'static dyn Provider,
    /// What stands under `sources.{name}`.
    settings: Value,
    token: Option<Token>,
    url: String,
    /// The files under `secrets_dir` that the settings name, and what they hold.
    files: Map<String, Value>,
    is_placeholder: bool,
}

impl Fragment {
    /// Of what the command line says. Its faults are those of the settings, with their paths.
    pub fn new(provider: &'static dyn Provider, add: &Add) -> Result<Self, Failure> {
        let name = &add.name;
        let mut options = add.options.clone();
        let signing = providers::verifier(provider, options.clone()).signing();
        let token = (add.token || signing != Signing::Required)
            .then(Token::random)
            .transpose()?;
        let url = url(&add.host, name, token.as_ref())?;
        let mut files = Map::new();
        let mut is_placeholder = false;
        let mut settings = json!({"provider": provider.spec().name});
        if signing == Signing::Required || (add.secret_file.is_some() && signing != Signing::Off) {
            settings["secrets"] = json!([name]);
            let secret = add
                .secret_file
                .as_deref()
                .map(|file| secret(file, provider));
            is_placeholder = secret.is_none();
            let secret = secret.unwrap_or_else(|| Ok(PLACEHOLDER.to_owned()))?;
            files.insert(name.clone(), secret.into());
        }
        if let Some(token) = &token {
            settings["token_sha256"] = json!([token.hash()]);
        }
        if let Some(signed) = provider.sender().description().signed_url
            && options.get(signed.plain).is_none()
            && options.get(signed.files).is_none()
        {
            // A URL with a token is a secret, and stands in a file.
            if token.is_some() {
                let file = format!("{name}-url");
                options[signed.files] = json!([file]);
                files.insert(file, url.clone().into());
            } else {
                options[signed.plain] = json!([url]);
            }
        }
        if options.as_object().is_some_and(|map| !map.is_empty()) {
            settings["options"] = options;
        }
        let fragment = Self {
            name: name.clone(),
            provider,
            settings,
            token,
            url,
            files,
            is_placeholder,
        };
        fragment.check()?;
        Ok(fragment)
    }

    /// Whether a token is printed.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Reads the settings as the services do.
    fn check(&self) -> Result<(), Failure> {
        let all = format!("kafka:\n  bootstrap_servers: b\n{}", self.settings());
        let environment = Environment {
            member: Some("sluicectl"),
            property_fault: &|_, _| None,
        };
        let read = Settings::parse(Path::new("settings"), all.as_bytes(), &environment);
        let faults = read.err().unwrap_or_default();
        if faults.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Err(Failure::Usage(lines.join("\nerror: ")))
    }

    fn settings(&self) -> String {
        let sources = json!({"sources": {self.name.as_str(): self.settings}});
        block(&sources, 0)
    }

    /// The Secret of the files; `None` where the source has none.
    fn manifest(&self) -> Option<Value> {
        (!self.files.is_empty()).then(|| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": self.object()}, "stringData": self.files,
            })
        })
    }

    /// A Secret of its own: to write into one that exists could take others' files away.
    fn object(&self) -> String {
        format!("sluice-source-{}", self.name)
    }

    /// What the chart's values need in addition.
    fn values(&self) -> Value {
        let mut values = json!({"settings": {"sources": {self.name.as_str(): self.settings}}});
        if !self.files.is_empty() {
            values["secrets"] = json!({"providers": [{"secret": self.object()}]});
        }
        values
    }

    /// Where its events go, and how a type gets a topic of its own.
    fn topics(&self) -> String {
        let kind = self.provider.spec().name;
        let verifier = providers::verifier(self.provider, self.settings["options"].clone());
        let own = verifier.topic_types();
        let (own, sample) = if own.is_empty() {
            ("its events go", self.provider.sender().events()[0])
        } else {
            (
                "each documented type has a topic, and events of all others go",
                "TYPE",
            )
        };
        format!(
            "{own} to events.{kind}.other; for a topic of its own name the type in the source, such as \
             events: [{sample}]"
        )
    }

    fn next(&self) -> Vec<String> {
        let name = &self.name;
        let mut next = Vec::new();
        if self.is_placeholder {
            let secret = self.provider.sender().description().secret;
            next.push(format!("take the secret from the provider's page, and put it into the file {name}: {secret}"));
        }
        next.push(
            "add the source to the settings: both services take it over without a restart"
                .to_owned(),
        );
        next.push(self.topics());
        next.push("sluicectl topics apply".to_owned());
        next.push("sluicectl check".to_owned());
        if self.token.is_some() {
            next.push(
                "write the token above into FILE, which nobody else may read, for the next command"
                    .to_owned(),
            );
        }
        let token = self.token.as_ref().map_or("", |_| " --token-file FILE");
        next.push(format!("sluicectl send {name} --wait{token}"));
        next.push("paste the URL at the provider".to_owned());
        next
    }

    /// As one object.
    pub fn json(&self) -> Value {
        json!({
            "source": self.name,
            "provider": self.provider.spec().name,
            "settings": {"sources": {self.name.as_str(): self.settings}},
            "token": self.token.as_ref().map(|token| &token.text),
            "token_sha256": self.token.as_ref().map(Token::hash),
            "secret": self.manifest().map(|manifest| json!({
                "files": self.files.keys().collect::<Vec<_>>(),
                "placeholder": self.is_placeholder,
                "manifest": manifest,
            })),
            "values": self.values(),
            "url": self.url,
            "next": self.next(),
        })
    }

    /// For people, as YAML with comments.
    pub fn text(&self) -> String {
        let mut text = vec!["# the settings".to_owned(), self.settings()];
        if let Some(token) = &self.token {
            text.push("# the token of the URL; the settings have its hash alone".to_owned());
            text.push(format!("# {}\n", token.text));
        }
        if let Some(manifest) = self.manifest() {
            text.push("# the Secret\n---".to_owned());
            if self.is_placeholder {
                let file = &self.name;
                text.push(format!(
                    "# WARNING: write the provider's secret behind {file}: an empty one is refused by the processor"
                ));
            }
            text.push(block(&manifest, 0) + "---\n");
        }
        text.push("# with the chart: merge this into the values".to_owned());
        if !self.files.is_empty() {
            text.push("# (secrets.providers is a list, to which the entry is added)".to_owned());
        }
        text.push(block(&self.values(), 0));
        text.push(format!(
            "# the URL to paste at the provider\n# {}\n\n# next",
            self.url
        ));
        let next = self.next().into_iter().zip(1..);
        text.extend(next.map(|(step, n)| format!("# {n}. {step}")));
        text.join("\n")
    }
}

fn url(host: &str, name: &str, token: Option<&Token>) -> Result<String, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':');
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(Failure::Usage(format!(
            "--host must be a host such as hooks.example.com, without https:// and without a path, and is {host}"
        )));
    }
    let token = token.map_or_else(String::new, |token| format!("/{}", token.text));
    Ok(format!("https://{host}/v1/hooks/{name}{token}"))
}

/// The secret of a file, as the services read it.
fn secret(file: &Path, provider: &dyn Provider) -> Result<String, Failure> {
    let shown = file.display().to_string();
    let content = read_secret(Path::new(""), &shown).map_err(Failure::Failed)?;
    let verifier = providers::verifier(provider, Value::Null);
    let key = verifier.key(&content);
    key.map_err(|reason| Failure::Usage(format!("the file {shown}: {reason}")))?;
    String::from_utf8(content)
        .map_err(|_| Failure::Usage(format!("the file {shown} is not UTF-8 text")))
}

#[cfg(test)]
mod tests {
    use sluice_schemas::providers::ALL;

    use super::*;

    fn add(name: &str, provider: &dyn Provider, token: bool) -> Add {
        Add {
            name: name.to_owned(),
            provider: provider.spec().name.to_owned(),
            host: "hooks.example.com".to_owned(),
            options: json!({}),
            token,
            secret_file: None,
            json: false,
        }
    }

    #[test]
    fn what_is_printed_for_each_provider_is_read_back_without_a_fault() {
        for provider in ALL {
            for token in [false, true] {
                let fragment = Fragment::new(provider, &add("new-1", provider, token))
                    .unwrap_or_else(|fault| panic!("{fault:?}"));
                let file = tempfile::NamedTempFile::new().expect("a file");
                let kafka = "kafka: {bootstrap_servers: 'b:1'}\n";
                let settings = fragment.settings();
                std::fs::write(file.path(), format!("{kafka}{settings}")).expect("written");
                let read = sluice_service::settings::load(file.path());
                let read = read.unwrap_or_else(|faults| panic!("{settings} {faults:?}"));
                let source = &read.sources["new-1"];
                assert_eq!(source.provider.spec().name, provider.spec().name);
                assert_eq!(source.token_sha256.is_empty(), !fragment.has_token());
                let next = fragment.next();
                let at = |what: &str| next.iter().position(|step| step.contains(what));
                let other = format!("events.{}.other", provider.spec().name);
                assert!(at(&other) < at("sluicectl topics apply"), "{next:?}");
                assert!(at("sluicectl topics apply") < at("sluicectl check"));
                assert_eq!(at("token above into FILE").is_some(), fragment.has_token());
                let named: Vec<&String> = fragment.files.keys().collect();
                let mut expected: Vec<&String> =
                    source.secrets.iter().map(|secret| &secret.file).collect();
                expected.extend(source.verifier.files());
                assert_eq!(named, expected);
                // A token stands in the URL, its own line and a file of the Secret, never in the settings.
                if let Some(token) = &fragment.token {
                    assert!(!settings.contains(&token.text), "{settings}");
                    assert!(!block(&fragment.values(), 0).contains(&token.text));
                    assert!(
                        fragment
                            .url
                            .ends_with(&format!("/v1/hooks/new-1/{}", token.text))
                    );
                }
            }
        }
    }

    #[test]
    fn faults_are_those_of_the_settings() {
        let provider = ALL[0];
        let fault = |add: &Add| match Fragment::new(provider, add) {
            Err(Failure::Usage(line)) => line,
            other => panic!("{:?}", other.map(|found| found.url)),
        };
        let bad = fault(&add("Bad_Name", provider, false));
        assert!(
            bad.contains("must be called by 1 to 63 lower-case letters"),
            "{bad}"
        );
        let mut more = add("a", provider, false);
        more.options = json!({"surprise": 1});
        assert_eq!(fault(&more), "sources.a.options.surprise: is not a setting");
        more.host = "https://h/".to_owned();
        assert!(fault(&more).starts_with("--host must be"));
    }
}
