//! The schema registry: the ids of the event topics' schemas, requested at the start and for new topics.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sluice_schemas::event::SCHEMA;
use sluice_schemas::settings::{SchemaRegistry, Settings};
use sluice_service::secrets::read_secret;
use thiserror::Error;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The compatibility that the registry must require of new versions of the schema: every old reader reads
/// every new event, and the other way round.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// Why there are no ids.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// It may answer later.
    #[error("the schema registry does not answer: {0}")]
    Away(String),
    /// Operator action required.
    #[error("{0}")]
    Mismatch(String),
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

/// The schema id of each topic. Registers the schema where the settings say so, else only looks it up.
pub async fn ids(
    settings: &Settings,
    registry: &SchemaRegistry,
) -> Result<HashMap<String, u32>, RegistryError> {
    let client = client(registry)?;
    let password = match &registry.password_file {
        // An absolute path is used as it is, a name is a file under `secrets_dir`.
        Some(file) => Some(password(settings, file)?),
        None => None,
    };
    let known = |request: RequestBuilder| match &registry.username {
        Some(user) => request.basic_auth(user, password.as_deref()),
        None => request,
    };
    let mut ids = HashMap::new();
    for topic in settings.event_topics() {
        let subject = format!("{topic}-value");
        let path = if registry.register {
            format!("{}/subjects/{subject}/versions", registry.url)
        } else {
            format!("{}/subjects/{subject}", registry.url)
        };
        let request = client
            .post(path)
            .header("content-type", "application/vnd.schemaregistry.v1+json")
            .json(&json!({"schemaType": "AVRO", "schema": SCHEMA}));
        ids.insert(topic, id(known(request), &subject).await?);
        if registry.register {
            let request = client
                .put(format!("{}/config/{subject}", registry.url))
                .json(&json!({"compatibility": COMPATIBILITY}));
            require_compatibility(known(request), &subject).await;
        }
    }
    Ok(ids)
}

/// Makes the registry refuse a schema that would break a reader. Where that is not allowed, only this check
/// is lost: the events are the same.
async fn require_compatibility(request: RequestBuilder, subject: &str) {
    let error = match request.send().await {
        Ok(response) if response.status().is_success() => return,
        Ok(response) => format!("it answered {}", response.status()),
        Err(error) => error.without_url().to_string(),
    };
    tracing::warn!(
        subject,
        error,
        "the registry does not require {COMPATIBILITY}: it may accept a schema that breaks readers"
    );
}

async fn id(request: RequestBuilder, subject: &str) -> Result<u32, RegistryError> {
    let away = |error: reqwest::Error| RegistryError::Away(error.without_url().to_string());
    let response = request.send().await.map_err(away)?;
    let status = response.status();
    if status.is_success() {
        let registered: Registered = response.json().await.map_err(away)?;
        return Ok(registered.id);
    }
    let message = match status {
        StatusCode::NOT_FOUND => "the schema is not registered under it".to_owned(),
        StatusCode::CONFLICT => "the schema is not compatible with what is registered".to_owned(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "access is denied".to_owned(),
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(RegistryError::Away(format!("it answered {status}")));
        }
        _ => format!("the registry answered {status}"),
    };
    Err(RegistryError::Mismatch(format!(
        "subject {subject}: {message}"
    )))
}

fn client(registry: &SchemaRegistry) -> Result<Client, RegistryError> {
    let mut builder = Client::builder().timeout(TIMEOUT);
    if let Some(file) = &registry.ca_file {
        let fault = |message: String| {
            RegistryError::Mismatch(format!(
                "schema_registry.ca_file {}: {message}",
                file.display()
            ))
        };
        let pem = std::fs::read(file).map_err(|error| fault(error.to_string()))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|_| fault("it is not PEM".to_owned()))?;
        builder = builder.tls_built_in_root_certs(false);
        for authority in authorities {
            builder = builder.add_root_certificate(authority);
        }
    }
    builder
        .build()
        .map_err(|error| RegistryError::Mismatch(error.to_string()))
}

fn password(settings: &Settings, file: &std::path::Path) -> Result<String, RegistryError> {
    let fault = |message: String| {
        RegistryError::Mismatch(format!(
            "schema_registry.password_file {}: {message}",
            file.display()
        ))
    };
    let (dir, name) = match (file.is_absolute(), file.parent(), file.file_name()) {
        (true, Some(dir), Some(name)) => (dir, name.to_string_lossy()),
        _ => (settings.secrets_dir.as_path(), file.to_string_lossy()),
    };
    let content = read_secret(dir, &name).map_err(&fault)?;
    String::from_utf8(content).map_err(|_| fault("it is not UTF-8".to_owned()))
}
