//! The providers' own APIs: a command in, calls to the provider, a line for each thing that was done out.
//! Keys come from files under `secrets_dir`, and neither they nor bodies nor target URLs are printed.

mod http;

mod wait;

pub mod flock;

pub mod referralloop;

use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderValue;
use sluice_schemas::settings::reader::duration;
use sluice_service::secrets::read_secret;

use crate::failure::Failure;

/// How the provider's API is called.
#[derive(Debug, Clone, clap::Args)]
pub struct Calling {
    /// Where the API is, instead of the provider's address: https, or http to this host
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// How long one attempt of a call may take
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = some_time)]
    timeout: Duration,
    /// How long all attempts of a call may take, with the waits that the provider asks for
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = some_time)]
    patience: Duration,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

fn some_time(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "must be a duration over zero, such as 500ms, 30s or 5m".to_owned())
}

/// The name of a file under `secrets_dir`.
fn file_name(text: &str) -> Result<String, String> {
    if text.is_empty() || matches!(text, "." | "..") || text.contains(['/', '\\', '\0']) {
        return Err("must be the name of a file directly under secrets_dir".to_owned());
    }
    Ok(text.to_owned())
}

/// A fault of a file under `secrets_dir`, with that folder.
fn in_folder(message: &str, dir: &Path) -> String {
    format!("{message} (in {})", dir.display())
}

/// The `Authorization` header of a key in a file: `prefix` and the key. Debug output has neither.
fn authorization(dir: &Path, file: &str, prefix: &str) -> Result<HeaderValue, Failure> {
    let fault = |message: String| Failure::Config(vec![message]);
    let key = read_secret(dir, file).map_err(|message| fault(in_folder(&message, dir)))?;
    let value = [prefix.as_bytes(), &key].concat();
    let is_plain = key.iter().all(u8::is_ascii_graphic);
    let value = HeaderValue::from_bytes(&value).ok().filter(|_| is_plain);
    let mut value = value.ok_or_else(|| {
        fault(format!(
            "the file {file} is no key: it has a blank, a line end or a character that is not ASCII"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[path = "../../tests/support/provider_api.rs"]
mod testing;
