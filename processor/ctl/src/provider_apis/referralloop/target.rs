//! What the settings want of one source: its options in, the subscriptions and the target URL out.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use reqwest::Url;
use sluice_schemas::identity::sha256;
use sluice_schemas::providers::Subscribe;
use sluice_schemas::settings::{Settings, Source};
use sluice_service::secrets::read_secret;

use super::ledger::Key;
use crate::failure::Failure;
use crate::provider_apis::in_folder;

/// The URL of a source of ours, which carries its token. It is never printed.
pub struct Target {
    url: String,
    /// SHA-256 of it, in hex.
    pub sha256: String,
}

impl Target {
    /// Reads the URL from its file.
    pub fn read(
        settings: &Settings,
        source: &Source,
        subscribe: &Subscribe,
    ) -> Result<Self, Failure> {
        let file = &subscribe.target_url_file;
        let fault = |message: String| {
            let path = format!("sources.{}.options.subscribe.target_url_file", source.name);
            Failure::Config(vec![format!("{path}: {message}")])
        };
        let dir = &settings.secrets_dir;
        let content = read_secret(dir, file).map_err(|message| fault(in_folder(&message, dir)))?;
        let text = String::from_utf8(content).ok();
        let url = text.as_deref().and_then(|text| Url::parse(text).ok());
        let url = url.filter(|url| url.scheme() == "https" && url.fragment().is_none());
        let (Some(text), Some(url)) = (text, url) else {
            return Err(fault(format!(
                "the file {file} is no URL that begins with https, and ReferralLoop sends to no other"
            )));
        };
        if !source.token_sha256.is_empty() && !carries_token(&url, &source.token_sha256) {
            eprintln!(
                "warning: no part of the URL in the file {file} has a hash of sources.{}.token_sha256: ingest \
                 answers 404 unless a proxy of ours changes the path",
                source.name
            );
        }
        let mut hex = String::new();
        for byte in sha256(text.as_bytes()) {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        let sha256 = hex;
        Ok(Self { url: text, sha256 })
    }

    /// The URL itself, for the provider alone.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The subscriptions to it that a source wants.
    pub fn keys(&self, source: &str, subscribe: &Subscribe) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for event in &subscribe.events {
            keys.extend(subscribe.waitlists.iter().map(|waitlist| Key {
                source: source.to_owned(),
                event: event.clone(),
                waitlist: waitlist.clone(),
                target_url_sha256: self.sha256.clone(),
            }));
        }
        keys
    }
}

fn carries_token(url: &Url, hashes: &[[u8; 32]]) -> bool {
    let mut parts = url.path().split('/');
    parts.any(|part| hashes.contains(&sha256(part.as_bytes())))
}
