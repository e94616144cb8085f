//! Requests to ingest, and its answers.

use std::error::Error as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Identity, Url};
use serde::Deserialize;
use sluice_service::causes::in_words;
use uuid::Uuid;

use super::options::Options;
use super::request::Request;
use super::target::Target;
use crate::failure::Failure;

/// How long a request may take: longer than ingest waits for the brokers.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What ingest answered.
#[derive(Debug)]
pub enum Answer {
    /// It has the request, under this id.
    Accepted(Uuid),
    /// It has it not: its status, and what that means.
    Refused(u16, &'static str),
    /// There was no answer, for this reason.
    Failed(String),
    /// There was no connection, for this reason: it may be there later.
    Away(String),
}

#[derive(Deserialize)]
struct Body {
    id: Uuid,
}

/// A client of one source's endpoint.
pub struct Client {
    http: reqwest::Client,
    url: Url,
    shown: String,
}

impl Client {
    /// A client for the source's URL.
    pub fn new(target: &Target<'_>, options: &Options) -> Result<Self, Failure> {
        let usage = |message: String| Failure::Usage(message);
        let base = options.url.trim_end_matches('/');
        let shown = format!("{base}/v1/hooks/{}", target.source.name);
        let text = match &target.token {
            Some(token) => format!("{shown}/{token}"),
            None => shown.clone(),
        };
        let url = Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url
            .ok_or_else(|| usage("--url must be a URL such as http://localhost:8080".to_owned()))?;
        // It is not shown: a token may stand behind it.
        if base.contains("/v1/hooks") {
            return Err(usage(format!(
                "--url must be ingest's address alone, such as http://localhost:8080: /v1/hooks/{} is put behind it",
                target.source.name
            )));
        }
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(file) = &options.ca_file {
            let authorities = Certificate::from_pem_bundle(&read(file)?)
                .map_err(|_| usage(format!("{} is not PEM", file.display())))?;
            builder = builder.tls_built_in_root_certs(false);
            for authority in authorities {
                builder = builder.add_root_certificate(authority);
            }
        }
        if let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) {
            let pem = [read(key)?, b"\n".to_vec(), read(cert)?].concat();
            let identity = Identity::from_pem(&pem).map_err(|_| {
                let (cert, key) = (cert.display(), key.display());
                usage(format!(
                    "{cert} and {key} are no certificate and key in PEM"
                ))
            })?;
            builder = builder.identity(identity);
        }
        let http = builder
            .build()
            .map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self { http, url, shown })
    }

    /// The URL without its token.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What it means that there was no answer.
    fn unanswered(&self, error: reqwest::Error) -> Answer {
        let is_away = error.is_connect() && is_away(&error);
        let words = in_words(error);
        let hint = if words.contains("InvalidContentType") {
            ": it answers without TLS, so is it http?"
        } else {
            ""
        };
        let words = format!("{}: {words}{hint}", self.shown);
        if is_away {
            Answer::Away(words)
        } else {
            Answer::Failed(words)
        }
    }

    /// Sends one request.
    pub async fn post(&self, request: &Request) -> Answer {
        let mut post = self.http.post(self.url.clone());
        for (name, value) in &request.headers {
            post = post.header(name, value);
        }
        let response = match post.body(request.body.clone()).send().await {
            Ok(response) => response,
            Err(error) => return self.unanswered(error),
        };
        let status = response.status().as_u16();
        if status != 200 {
            return Answer::Refused(status, meaning(status));
        }
        match response.json::<Body>().await {
            Ok(body) => Answer::Accepted(body.id),
            Err(_) => Answer::Failed("it answered 200 without an id: is it ingest?".to_owned()),
        }
    }
}

/// Whether ingest may be there later. What is said in a connection is not of this kind.
fn is_away(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(fault) = inner.downcast_ref::<io::Error>()
            && matches!(
                fault.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::TimedOut
            )
        {
            return true;
        }
        cause = inner.source();
    }
    error.is_timeout()
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| {
        let file = file.display();
        Failure::Usage(format!("{file} cannot be read: {error}"))
    })
}

/// What an answer of ingest means to the operator.
fn meaning(status: u16) -> &'static str {
    match status {
        404 => {
            "ingest knows no such source, token, header or certificate: is this its port, and does it read the same \
             settings?"
        }
        413 => "the body is over the source's max_body",
        429 => "over the source's rate, or the peer's",
        503 => "ingest cannot make it durable: are the brokers there, and is it ready (/readyz)?",
        _ => "ingest does not take it",
    }
}
