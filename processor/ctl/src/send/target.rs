//! The source that is sent to, and what its requests need: secrets, token, headers, certificate.

use std::collections::BTreeMap;
use std::path::Path;

use sluice_schemas::identity::sha256;
use sluice_schemas::providers::{Keyring, Signing};
use sluice_schemas::settings::{Fault, Settings, Source};
use sluice_service::secrets::read_secret;

use super::options::Options;
use crate::failure::Failure;
use crate::records::window::now_us;

/// A source with what stands in its files.
pub struct Target<'a> {
    /// The source.
    pub source: &'a Source,
    /// The contents of the secret files that are valid now, in the order of the settings.
    pub secrets: Vec<Vec<u8>>,
    /// The contents of its other files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The same as the processor has them.
    pub keyring: Keyring,
    /// The token of its URL, where it has one.
    pub token: Option<String>,
    /// The headers that its requests have in addition, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl<'a> Target<'a> {
    /// Reads what the source needs.
    pub fn new(settings: &'a Settings, options: &Options) -> Result<Self, Failure> {
        let name = &options.source;
        let source = settings.sources.get(name).ok_or_else(|| {
            let known: Vec<&str> = settings.sources.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Failure::Usage(format!(
                "the settings have no source {name}; they have {known}"
            ))
        })?;
        if !source.enabled {
            return Err(Failure::Usage(format!(
                "sources.{name}.enabled is false, so ingest answers 404"
            )));
        }
        if source.client_ca_file.is_some() && options.cert_file.is_none() {
            return Err(Failure::Usage(format!(
                "sources.{name}.client_ca_file demands a client certificate: --cert-file and --key-file"
            )));
        }
        let mut target = Self {
            source,
            secrets: Vec::new(),
            files: BTreeMap::new(),
            keyring: Keyring::default(),
            token: token(source, options.token_file.as_deref())?,
            headers: headers(source, options)?,
        };
        target.read(&settings.secrets_dir, now_us())?;
        Ok(target)
    }

    /// Whether its requests prove themselves by a token or by headers.
    pub fn is_guarded(&self) -> bool {
        !self.source.token_sha256.is_empty() || !self.source.require_headers.is_empty()
    }

    fn read(&mut self, dir: &Path, now: i64) -> Result<(), Failure> {
        let (mut faults, mut keys) = (Vec::new(), Vec::new());
        let source = self.source;
        let mut fault = |key: &str, message: String| {
            let path = format!("sources.{}.{key}", source.name);
            faults.push(Fault { path, message });
        };
        for secret in &source.secrets {
            let name = &secret.file;
            let read = read_secret(dir, name).and_then(|content| {
                let key = source.verifier.key(&content);
                key.map(|key| (content, key))
                    .map_err(|reason| format!("the file {name}: {reason}"))
            });
            match read {
                Ok((content, mut key)) => {
                    key.name.clone_from(&secret.key_id);
                    keys.push((secret.validity, key));
                    if secret.validity.contains(now) {
                        self.secrets.push(content);
                    }
                }
                Err(message) => fault("secrets", message),
            }
        }
        for name in source.verifier.files() {
            match read_secret(dir, name) {
                Ok(content) => {
                    self.files.insert(name.clone(), content);
                }
                Err(message) => fault("options", message),
            }
        }
        if faults.is_empty()
            && self.secrets.is_empty()
            && source.verifier.signing() == Signing::Required
        {
            let path = format!("sources.{}.secrets", source.name);
            let message =
                "none is valid now, so nothing can be signed: see not_before and not_after"
                    .to_owned();
            faults.push(Fault { path, message });
        }
        self.keyring = Keyring::new(&keys, &self.files);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Failure::config(&faults))
        }
    }
}

/// The token, which must be one of the source's.
fn token(source: &Source, file: Option<&Path>) -> Result<Option<String>, Failure> {
    let name = &source.name;
    if source.token_sha256.is_empty() {
        return Ok(None);
    }
    let Some(file) = file else {
        return Err(Failure::Usage(format!(
            "the URL of {name} has a token, of which the settings have the hash alone: --token-file FILE"
        )));
    };
    let token = std::fs::read_to_string(file).map_err(|error| {
        let file = file.display();
        Failure::Usage(format!("the token's file {file} cannot be read: {error}"))
    })?;
    let token = token.trim_end_matches(['\r', '\n']);
    if source.token_sha256.contains(&sha256(token.as_bytes())) {
        return Ok(Some(token.to_owned()));
    }
    let file = file.display();
    Err(Failure::Usage(format!(
        "the token in {file} has none of the hashes of sources.{name}.token_sha256"
    )))
}

/// The headers of the command line and of its file, which must have those that the source requires.
fn headers(source: &Source, options: &Options) -> Result<Vec<(String, String)>, Failure> {
    let mut lines = options.header.clone();
    if let Some(file) = &options.headers_file {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let file = file.display();
            Failure::Usage(format!("the headers' file {file} cannot be read: {error}"))
        })?;
        let filled = text.lines().filter(|line| !line.trim().is_empty());
        lines.extend(filled.map(str::to_owned));
    }
    let mut headers = Vec::new();
    for line in &lines {
        // A value may be a secret, so that no line is shown.
        let (name, value) = line.split_once(':').ok_or_else(|| {
            Failure::Usage("a header must be written as 'name: value'".to_owned())
        })?;
        let name = name.trim().to_ascii_lowercase();
        headers.push((name, value.trim().to_owned()));
    }
    let lacking = |(name, hashes): &&(String, Vec<[u8; 32]>)| {
        let mut sent = headers.iter().filter(|(other, _)| other == name);
        !sent.any(|(_, value)| hashes.contains(&sha256(value.as_bytes())))
    };
    if let Some((header, _)) = source.require_headers.iter().find(lacking) {
        let name = &source.name;
        return Err(Failure::Usage(format!(
            "sources.{name}.require_headers demands {header}, of whose value the settings have the hash alone: \
             --header '{header}: VALUE', or --headers-file FILE with such a line"
        )));
    }
    Ok(headers)
}
