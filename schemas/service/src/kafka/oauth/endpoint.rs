//! The token's endpoint: one request with the client's credentials, and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode};
use serde::Deserialize;
use sluice_schemas::settings::Fault;

use crate::causes::in_words;
use crate::files;

/// How long the whole request may take: a worker's thread may wait for it, between its polls.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer.
const MAX_ANSWER: usize = 64 * 1024;

/// How long a token is taken to be good that does not say.
const LIFETIME: Duration = Duration::from_secs(300);

/// The longest that a token is used, whatever it says.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// A token.
#[derive(Clone)]
pub struct Token {
    /// What a client sends.
    pub text: String,
    /// How long it is good from when it was issued.
    pub lifetime: Duration,
}

/// Where it comes from.
pub struct Endpoint {
    url: String,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
    /// The authorities to trust instead of the usual ones, and their file's content.
    authorities: Option<(Vec<Certificate>, Vec<u8>)>,
}

/// The members that count.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Seconds: a number, which some endpoints write as a text.
    expires_in: Option<serde_json::Value>,
}

/// What an endpoint says of a refusal.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Endpoint {
    /// Of librdkafka's properties. Reads `https.ca.location`.
    pub fn new(properties: &BTreeMap<&str, String>) -> Result<Self, Fault> {
        let of = |name: &str| properties.get(name).cloned();
        let needed = |name: &str| of(name).unwrap_or_default();
        let authorities = of("https.ca.location")
            .map(|path| read(&path))
            .transpose()?;
        Ok(Self {
            url: needed("sasl.oauthbearer.token.endpoint.url"),
            client_id: needed("sasl.oauthbearer.client.id"),
            client_secret: needed("sasl.oauthbearer.client.secret"),
            scope: of("sasl.oauthbearer.scope"),
            authorities,
        })
    }

    /// What distinguishes it from others, digested.
    pub fn digest<T>(&self, digest: impl FnOnce(&str) -> T) -> T {
        let authorities = self.authorities.as_ref();
        let authorities = authorities.map(|(_, content)| String::from_utf8_lossy(content));
        let parts = [
            &self.url,
            &self.client_id,
            &self.client_secret,
            self.scope.as_deref().unwrap_or_default(),
            authorities.as_deref().unwrap_or_default(),
        ];
        digest(&parts.map(|part| format!("{}:{part}", part.len())).concat())
    }

    /// The name under which it issues tokens to us.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The address without its query, for the log.
    pub fn shown(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    /// Asks for a token. Blocks. The request runs on a thread of its own, for this one may be a runtime's.
    pub fn ask(&self) -> Result<Token, String> {
        std::thread::scope(|scope| {
            let request = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| error.to_string())?;
                let answer = runtime.block_on(self.request());
                // A look-up of the name that hangs is not waited for.
                runtime.shutdown_background();
                answer
            };
            let thread = std::thread::Builder::new().name("kafka-token".to_owned());
            let thread = thread.spawn_scoped(scope, request);
            let thread = thread.map_err(|error| format!("no thread could be started: {error}"))?;
            let answer = thread.join();
            answer.unwrap_or_else(|_| Err("the request panicked: report this".to_owned()))
        })
    }

    async fn request(&self) -> Result<Token, String> {
        let away = |error: reqwest::Error| format!("it does not answer: {}", in_words(error));
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let mut response = self
            .client()
            .map_err(away)?
            .post(&self.url)
            .basic_auth(&self.client_id, Some(&self.client_secret))
            .form(&form)
            .send()
            .await
            .map_err(away)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(more) = response.chunk().await.map_err(away)? {
            body.extend_from_slice(&more);
            if body.len() > MAX_ANSWER {
                return Err(format!(
                    "it answered {status} and more than {MAX_ANSWER} bytes"
                ));
            }
        }
        if !status.is_success() {
            return Err(refused(status, &body));
        }
        token(&body)
    }

    fn client(&self) -> Result<Client, reqwest::Error> {
        let mut client = Client::builder().timeout(TIMEOUT).redirect(Policy::none());
        if let Some((authorities, _)) = &self.authorities {
            client = client.tls_built_in_root_certs(false);
            for authority in authorities {
                client = client.add_root_certificate(authority.clone());
            }
        }
        client.build()
    }
}

fn read(path: &str) -> Result<(Vec<Certificate>, Vec<u8>), Fault> {
    let fault = |message: String| Fault {
        path: "kafka.properties.https.ca.location".to_owned(),
        message,
    };
    let content = files::read(path.as_ref(), files::MAX_PEM_BYTES)
        .map_err(|error| fault(format!("{path} cannot be read: {error}")))?;
    match Certificate::from_pem_bundle(&content) {
        Ok(found) if !found.is_empty() => Ok((found, content)),
        _ => Err(fault(format!("{path} has no certificate in PEM"))),
    }
}

/// A refusal in one line, with the endpoint's own word for it where that is one.
fn refused(status: StatusCode, body: &[u8]) -> String {
    let refusal = serde_json::from_slice(body).ok();
    let word = refusal.map(|Refusal { error }| error).filter(|word| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        word.len() <= 40 && word.bytes().all(plain)
    });
    let word = word.map_or_else(String::new, |word| format!(" ({word})"));
    let mend = match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": check sasl.oauthbearer.client.id, the secret's file and the scope"
        }
        StatusCode::NOT_FOUND => ": check sasl.oauthbearer.token.endpoint.url",
        _ => "",
    };
    format!("it answered {status}{word}{mend}")
}

/// The token of an answer. The answer is not shown.
pub fn token(body: &[u8]) -> Result<Token, String> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| format!("its answer has no token: {}", place(&error)))?;
    let is_token = |byte: u8| byte.is_ascii_graphic();
    if answer.access_token.is_empty() || !answer.access_token.bytes().all(is_token) {
        return Err("its answer has a token that is none".to_owned());
    }
    let seconds = answer.expires_in.as_ref();
    let seconds = seconds.and_then(|value| value.as_f64().or_else(|| value.as_str()?.parse().ok()));
    let lifetime = seconds.unwrap_or(LIFETIME.as_secs_f64());
    let lifetime = Duration::try_from_secs_f64(lifetime).unwrap_or_default();
    if lifetime.is_zero() {
        return Err("its answer has a token that has expired".to_owned());
    }
    Ok(Token {
        text: answer.access_token,
        lifetime: lifetime.min(MAX_LIFETIME),
    })
}

/// Where JSON is at fault. Its own words might show the token.
fn place(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}
