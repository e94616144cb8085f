//! The options of `sluicectl sources add`.

use std::path::PathBuf;

use serde_json::Value;

/// What the new source is to be.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Its name, which stands in its URL: lower-case letters, digits and hyphens
    pub name: String,
    /// Who sends
    #[arg(long, value_name = "NAME")]
    pub provider: String,
    /// The host at which providers reach ingest
    #[arg(long, default_value = "hooks.example.com")]
    pub host: String,
    /// The provider's own options, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    pub options: Value,
    /// A token in the URL, where every request is signed too
    #[arg(long)]
    pub token: bool,
    /// The file with the provider's secret, for the Secret; without it there is a place to fill in
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|_| "is not JSON".to_owned())?;
    if value.is_object() {
        Ok(value)
    } else {
        Err("must be a JSON object such as {\"max_age\": \"10m\"}".to_owned())
    }
}
