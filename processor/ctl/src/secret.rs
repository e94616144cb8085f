//! `sluicectl secret check`: are the files of secrets what their providers need? No secret is printed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use sluice_schemas::providers::{Validity, Verifier};
use sluice_schemas::settings::{Settings, Source};
use sluice_schemas::timestamp::rfc3339;
use sluice_service::secrets::{read_secret, strays};

use crate::failure::Failure;
use crate::help::{GROUP, layout};
use crate::output;
use crate::providers;
use crate::records::window::now_us;

/// Fewer bits than this, and a stranger who has one signed request may guess the secret.
const GUESSABLE_BITS: u64 = 80;

/// What a short secret leaves open, and what mends it.
const GUESSABLE: &str = "who has one signed request may guess it: take a longer one where the provider lets \
                         you choose it, and where it issues secrets, ask it";

const CHECK: &str = layout!(
    "Each argument is a source of the settings, whose files are all looked at, or the name of one of their
files; without any, all sources. With --provider each argument is the path of a file that no settings
name. Said are: whether the provider's code takes it, bytes around it, its length, how many bits it has
at most, its key_id and when it is valid. Never printed: the secret. When it last verified a request is
the metric sluice_key_last_verified_timestamp_seconds.",
    "ARGUMENTS"
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl secret check codes
  $ sluicectl secret check codes-new --json
  $ sluicectl secret check --provider flowcode ./codes.secret

EXIT STATUS
  0   All files are well formed
  1   One is not; what is printed says which
  2   The command line cannot be carried out
  78  The settings are at fault";

/// The options of `sluicectl secret`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Look at the files of secrets",
    help_template = GROUP,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say whether secrets are well formed, without printing them
    #[command(help_template = CHECK, after_help = EXAMPLES)]
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// Sources or files
    #[arg(value_name = "SOURCE|FILE")]
    what: Vec<String>,
    /// The files are this provider's, and no settings are read
    #[arg(long, value_name = "NAME", requires = "what")]
    provider: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Carries the command out; whether all files are well formed.
pub fn run<'f>(
    settings_file: impl Fn() -> Result<&'f Path, Failure>,
    options: &Options,
) -> Result<bool, Failure> {
    let Command::Check(check) = &options.command;
    let found = if let Some(name) = &check.provider {
        of_provider(name, check)?
    } else {
        let settings = sluice_service::settings::load(settings_file()?);
        of_settings(&settings.map_err(|faults| Failure::config(&faults))?, check)?
    };
    for one in &found {
        output::line(&if check.json {
            json!(one).to_string()
        } else {
            one.line()
        });
    }
    Ok(found.iter().all(|one| one.ok))
}

/// What was found in one file.
#[derive(Debug, Serialize)]
struct Found {
    ok: bool,
    source: Option<String>,
    provider: &'static str,
    file: String,
    kind: &'static str,
    key_id: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    valid_now: bool,
    bytes: Option<usize>,
    bits_at_most: Option<u64>,
    around: Option<String>,
    fault: Option<String>,
    /// What `WARN` says, a sentence each.
    warnings: Vec<String>,
}

/// A file that is to be looked at.
struct Asked<'a> {
    dir: &'a Path,
    file: &'a str,
    source: Option<&'a Source>,
    provider: &'static str,
    verifier: &'a dyn Verifier,
    key: Option<(Option<&'a str>, Validity)>,
}

fn of_provider(name: &str, check: &Check) -> Result<Vec<Found>, Failure> {
    let provider = providers::provider(name)?;
    let verifier = providers::verifier(provider, Value::Null);
    let found = check.what.iter().map(|file| {
        let asked = Asked {
            dir: Path::new(""),
            file,
            source: None,
            provider: provider.spec().name,
            verifier: verifier.as_ref(),
            key: Some((None, Validity::default())),
        };
        asked.look()
    });
    Ok(found.collect())
}

fn of_settings(settings: &Settings, check: &Check) -> Result<Vec<Found>, Failure> {
    let all: Vec<Asked<'_>> = settings
        .sources
        .values()
        .flat_map(|source| files(settings, source))
        .collect();
    let is_of = |asked: &Asked<'_>, what: &str| {
        asked.source.is_some_and(|source| source.name == what) || asked.file == what
    };
    for what in &check.what {
        if settings.sources.contains_key(what) || all.iter().any(|asked| is_of(asked, what)) {
            continue;
        }
        return Err(Failure::Usage(format!(
            "{what} is neither a source of the settings nor a file that one names; for another file: \
             --provider NAME {what}"
        )));
    }
    let asked = all
        .iter()
        .filter(|asked| check.what.is_empty() || check.what.iter().any(|what| is_of(asked, what)));
    Ok(asked.map(Asked::look).collect())
}

/// The files of a source: its secrets, and what its options name.
fn files<'a>(settings: &'a Settings, source: &'a Source) -> Vec<Asked<'a>> {
    let asked = |file: &'a str, key| Asked {
        dir: &settings.secrets_dir,
        file,
        source: Some(source),
        provider: source.provider.spec().name,
        verifier: source.verifier.as_ref(),
        key,
    };
    let secrets = source.secrets.iter().map(|secret| {
        let key = (Some(secret.key_id.as_str()), secret.validity);
        asked(&secret.file, Some(key))
    });
    let others = source.verifier.files().iter();
    secrets
        .chain(others.map(|file| asked(file, None)))
        .collect()
}

impl Asked<'_> {
    fn look(&self) -> Found {
        let (key_id, validity) = self.key.unwrap_or_default();
        let mut found = Found {
            ok: false,
            source: self.source.map(|source| source.name.clone()),
            provider: self.provider,
            file: self.file.to_owned(),
            kind: "file",
            key_id: key_id.map(str::to_owned),
            not_before: validity.not_before.and_then(time),
            not_after: validity.not_after.and_then(time),
            valid_now: validity.contains(now_us()),
            bytes: None,
            bits_at_most: None,
            around: None,
            fault: None,
            warnings: Vec::new(),
        };
        match read_secret(self.dir, self.file) {
            Ok(content) => self.judge(&content, &mut found),
            Err(message) => found.fault = Some(message),
        }
        found.ok = found.fault.is_none();
        if found.ok {
            found.warnings = found.all_warnings();
        }
        found
    }

    fn judge(&self, content: &[u8], found: &mut Found) {
        found.bytes = Some(content.len());
        found.around = strays(content);
        if self.key.is_none() {
            found.fault = self.verifier.check_file(content).err();
            return;
        }
        match self.verifier.key(content) {
            Ok(key) if key.is_hmac() => {
                found.kind = "shared";
                found.bits_at_most = Some(bits_at_most(content));
            }
            Ok(_) => found.kind = "public",
            Err(message) => found.fault = Some(message),
        }
    }
}

impl Found {
    fn line(&self) -> String {
        let source = self.source.as_deref().unwrap_or(self.provider);
        let begin = |state: &str| format!("{state:<4}  {source}  {}", output::plain(&self.file));
        if let Some(fault) = &self.fault {
            let around = self.around.as_ref();
            let around =
                around.map_or_else(String::new, |found| format!(" (the file has {found})"));
            return format!("{}  {fault}{around}", begin("FAIL"));
        }
        let mut said = vec![match self.kind {
            "shared" => "shared secret".to_owned(),
            "public" => "public key".to_owned(),
            _ => "named by options".to_owned(),
        }];
        said.extend(self.bytes.map(|bytes| format!("{bytes} bytes")));
        said.extend(self.bits_at_most.map(|bits| format!("at most {bits} bits")));
        let id = self.key_id.as_ref().filter(|id| **id != self.file);
        said.extend(id.map(|id| format!("key_id {id}")));
        said.extend(self.not_before.as_ref().map(|from| format!("from {from}")));
        said.extend(
            self.not_after
                .as_ref()
                .map(|until| format!("until {until}")),
        );
        let state = if self.warnings.is_empty() {
            "ok"
        } else {
            "WARN"
        };
        said.extend(self.warnings.iter().cloned());
        format!("{}  {}", begin(state), said.join(", "))
    }

    fn is_guessable(&self) -> bool {
        self.bits_at_most.is_some_and(|bits| bits < GUESSABLE_BITS)
    }

    fn all_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(around) = &self.around {
            warnings.push(format!("{around}, which counts as part of it"));
        }
        if self.is_guessable() {
            warnings.push(GUESSABLE.to_owned());
        }
        if !self.valid_now {
            warnings.push("not valid now".to_owned());
        }
        warnings
    }
}

/// What is weak about the secrets of a source, a sentence each.
pub fn weak(settings: &Settings, source: &Source) -> Vec<String> {
    let found = files(settings, source)
        .into_iter()
        .map(|asked| asked.look());
    let weak = found.filter(|one| one.ok && one.is_guessable());
    weak.map(|one| {
        let bits = one.bits_at_most.unwrap_or_default();
        format!("the file {} has at most {bits} bits: {GUESSABLE}", one.file)
    })
    .collect()
}

fn time(micros: i64) -> Option<String> {
    rfc3339(micros.div_euclid(1000))
}

/// How many bits a text has at most: as if each byte were drawn for itself, as often as it stands there.
/// Words of a language have far fewer.
fn bits_at_most(content: &[u8]) -> u64 {
    let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
    for byte in content {
        *counts.entry(*byte).or_default() += 1;
    }
    let all = f64::from(u32::try_from(content.len()).unwrap_or(u32::MAX));
    let bits: f64 = counts
        .values()
        .map(|count| f64::from(*count) * (all / f64::from(*count)).log2())
        .sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a file of 64 KiB has half a million bits at most, and none below zero"
    )]
    let bits = bits as u64;
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(content: &[u8]) -> Found {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("f"), content).expect("a file");
        let provider = providers::provider("flowcode").expect("a provider");
        let verifier = providers::verifier(provider, Value::Null);
        let asked = Asked {
            dir: dir.path(),
            file: "f",
            source: None,
            provider: "flowcode",
            verifier: verifier.as_ref(),
            key: Some((None, Validity::default())),
        };
        asked.look()
    }

    const SECRET: &[u8] = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_good_secret_is_measured_and_not_shown() {
        let found = look(SECRET);
        assert!(found.ok && found.kind == "shared" && found.bytes == Some(38));
        let shown = found.line() + &json!(found).to_string();
        assert!(!shown.contains("MfKQ9r8G"), "{shown}");
        assert_eq!(look(&[SECRET, b"\r\n"].concat()).bytes, Some(38));
    }

    #[test]
    fn what_is_around_a_secret_and_what_is_none_is_said() {
        let found = look(b"\xef\xbb\xbfwhsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
        assert!(!found.ok);
        let line = found.line();
        assert!(
            line.starts_with("FAIL  flowcode  f  the secret begins with"),
            "{line}"
        );
        assert!(
            line.ends_with("(the file has a byte order mark before it)"),
            "{line}"
        );
        assert!(
            look(b"")
                .fault
                .is_some_and(|fault| fault.ends_with("is empty"))
        );
    }

    #[test]
    fn a_warning_stands_in_the_line_and_in_the_object() {
        let found = look(b"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEC");
        assert!(found.ok, "{found:?}");
        assert!(found.line().starts_with("WARN"), "{}", found.line());
        assert_eq!(json!(found)["warnings"], json!([GUESSABLE]));
        assert_eq!(json!(look(SECRET))["warnings"], json!([]));
        assert_eq!(json!(look(b""))["warnings"], json!([]));
    }

    #[test]
    fn words_have_few_bits() {
        assert_eq!(bits_at_most(b"aaaa"), 0);
        assert_eq!(bits_at_most(b"abab"), 4);
        assert!(bits_at_most(b"correct horse") < GUESSABLE_BITS);
    }
}
