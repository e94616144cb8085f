//! The schema registry: the ids of the event topics' schemas, requested at the start and for new topics.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sluice_schemas::event::SCHEMA;
use sluice_schemas::settings::{SchemaRegistry, Settings};
use sluice_service::causes::in_words;
use sluice_service::files::{self, MAX_PEM_BYTES};
use sluice_service::secrets::read_secret;
use thiserror::Error;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes: many times the schema that a registry sends back.
const MAX_ANSWER: usize = 1 << 20;

/// The compatibility that the registry must require of new versions of the schema: every old reader reads
/// every new event, and the other way round.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// What the API of registries is asked in.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

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
    let client = client(registry, TIMEOUT)?;
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
            .header("content-type", CONTENT_TYPE)
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

/// How a subject of the registry stands to the schema of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has the schema, under this id.
    Registered(u32),
    /// It lacks the schema and would take it.
    Compatible,
    /// It lacks the schema and would refuse it.
    Incompatible,
    /// There is no such subject.
    Absent,
}

/// What the registry says of all subjects, and by its clock.
#[derive(Debug)]
pub struct Examined {
    /// Each subject in the order of the topics.
    pub subjects: Vec<(String, Result<Standing, RegistryError>)>,
    /// The header `date` of its last answer.
    pub date: Option<String>,
}

/// Asks the registry about each subject, for a report. Registers and changes nothing.
pub async fn examine(
    settings: &Settings,
    registry: &SchemaRegistry,
    timeout: Duration,
) -> Result<Examined, RegistryError> {
    let asking = Asking::new(settings, registry, timeout)?;
    let mut examined = Examined {
        subjects: Vec::new(),
        date: None,
    };
    for topic in settings.event_topics() {
        let subject = format!("{topic}-value");
        let standing = asking.standing(&subject, &mut examined.date).await;
        if let Err(RegistryError::Away(_)) = standing {
            return standing.map(|_| examined);
        }
        examined.subjects.push((subject, standing));
    }
    Ok(examined)
}

/// A client of a registry that only asks.
struct Asking<'a> {
    client: Client,
    registry: &'a SchemaRegistry,
    password: Option<String>,
}

#[derive(Deserialize)]
struct Compatibility {
    is_compatible: bool,
}

impl<'a> Asking<'a> {
    fn new(
        settings: &Settings,
        registry: &'a SchemaRegistry,
        timeout: Duration,
    ) -> Result<Self, RegistryError> {
        let file = registry.password_file.as_deref();
        Ok(Self {
            client: client(registry, timeout)?,
            registry,
            password: file.map(|file| password(settings, file)).transpose()?,
        })
    }

    async fn standing(
        &self,
        subject: &str,
        date: &mut Option<String>,
    ) -> Result<Standing, RegistryError> {
        let response = self.ask(&format!("/subjects/{subject}")).await?;
        let sent = response.headers().get("date");
        *date = sent.and_then(|sent| sent.to_str().ok()).map(str::to_owned);
        if response.status() != StatusCode::NOT_FOUND {
            return Ok(Standing::Registered(registered(response, subject).await?));
        }
        let latest = format!("/compatibility/subjects/{subject}/versions/latest");
        let response = self.ask(&latest).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(Standing::Absent),
            status if status.is_success() => {
                let found: Compatibility = body(response).await?;
                Ok(if found.is_compatible {
                    Standing::Compatible
                } else {
                    Standing::Incompatible
                })
            }
            _ => Err(refused(response.status(), subject)),
        }
    }

    /// Sends the schema to a path that only answers about it.
    async fn ask(&self, path: &str) -> Result<Response, RegistryError> {
        let request = self
            .client
            .post(format!("{}{path}", self.registry.url))
            .header("content-type", CONTENT_TYPE)
            .json(&json!({"schemaType": "AVRO", "schema": SCHEMA}));
        let request = match &self.registry.username {
            Some(user) => request.basic_auth(user, self.password.as_deref()),
            None => request,
        };
        request.send().await.map_err(away)
    }
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
    let response = request.send().await.map_err(away)?;
    registered(response, subject).await
}

fn away(error: reqwest::Error) -> RegistryError {
    RegistryError::Away(in_words(error))
}

async fn registered(response: Response, subject: &str) -> Result<u32, RegistryError> {
    if !response.status().is_success() {
        return Err(refused(response.status(), subject));
    }
    let registered: Registered = body(response).await?;
    Ok(registered.id)
}

/// What an answer says, read up to [`MAX_ANSWER`].
async fn body<T: DeserializeOwned>(mut response: Response) -> Result<T, RegistryError> {
    let mut content = Vec::new();
    while let Some(more) = response.chunk().await.map_err(away)? {
        content.extend_from_slice(&more);
        if content.len() > MAX_ANSWER {
            let message = format!("it answered more than {MAX_ANSWER} bytes");
            return Err(RegistryError::Away(message));
        }
    }
    let unreadable = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        RegistryError::Away(format!(
            "its answer is not understood: line {line}, column {column}"
        ))
    };
    serde_json::from_slice(&content).map_err(unreadable)
}

/// What the status of an answer means that is no success.
fn refused(status: StatusCode, subject: &str) -> RegistryError {
    let message = match status {
        StatusCode::NOT_FOUND => "the schema is not registered under it".to_owned(),
        StatusCode::CONFLICT => "the schema is not compatible with what is registered".to_owned(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "access is denied".to_owned(),
        // Followed, it would take the schema, and on the same host the password, elsewhere.
        _ if status.is_redirection() => format!(
            "the registry answered {status}, and redirects are not followed: correct schema_registry.url"
        ),
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return RegistryError::Away(format!("it answered {status}"));
        }
        _ => format!("the registry answered {status}"),
    };
    RegistryError::Mismatch(format!("subject {subject}: {message}"))
}

fn client(registry: &SchemaRegistry, timeout: Duration) -> Result<Client, RegistryError> {
    let mut builder = Client::builder().timeout(timeout).redirect(Policy::none());
    if let Some(file) = &registry.ca_file {
        let fault = |message: String| {
            RegistryError::Mismatch(format!(
                "schema_registry.ca_file {}: {message}",
                file.display()
            ))
        };
        let pem = files::read(file, MAX_PEM_BYTES).map_err(|error| fault(error.to_string()))?;
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

#[cfg(test)]
mod tests;
