//! The way to the collector: one connection for spans and metrics, by gRPC or HTTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hyper::http::header::{CONTENT_TYPE, HeaderMap};
use hyper::http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use prost::Message;
use sluice_schemas::settings::{Fault, OtlpProtocol, Telemetry};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use super::headers::Headers;
use crate::files;

/// The largest answer of a collector that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The collector.
#[derive(Debug, Clone)]
pub struct Collector {
    transport: Transport,
    headers: Headers,
    timeout: Duration,
}

#[derive(Debug, Clone)]
enum Transport {
    Grpc(Channel),
    Http { client: Client, base: String },
}

/// Why metrics were not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The endpoint takes no metrics: it is not asked again.
    #[error("the endpoint takes no metrics")]
    Unsupported,
    /// It may take the next ones.
    #[error("{0}")]
    Failed(String),
}

impl Collector {
    /// Reads the files that the settings name; connects when something is exported. Within a runtime only.
    pub fn new(endpoint: &str, telemetry: &Telemetry, headers: Headers) -> Result<Self, Fault> {
        let authorities = authorities(telemetry)?;
        let transport = match telemetry.otlp_protocol {
            OtlpProtocol::Grpc => {
                Transport::Grpc(channel(endpoint, authorities, telemetry.otlp_timeout)?)
            }
            OtlpProtocol::Http => Transport::Http {
                client: Client {
                    client: http_client(authorities, telemetry.otlp_timeout)?,
                    headers: Arc::clone(&headers),
                },
                base: endpoint.to_owned(),
            },
        };
        Ok(Self {
            transport,
            headers,
            timeout: telemetry.otlp_timeout,
        })
    }

    /// How long one export may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// An exporter of spans.
    pub fn spans(&self) -> Result<SpanExporter, ExporterBuildError> {
        match &self.transport {
            Transport::Grpc(channel) => {
                let headers = Arc::clone(&self.headers);
                SpanExporter::builder()
                    .with_tonic()
                    .with_channel(channel.clone())
                    .with_timeout(self.timeout)
                    .with_interceptor(move |mut request: tonic::Request<()>| {
                        for (name, value) in headers.load().iter() {
                            let headers = request.metadata_mut().as_mut();
                            headers.insert(name.clone(), value.clone());
                        }
                        Ok(request)
                    })
                    .build()
            }
            Transport::Http { client, base } => SpanExporter::builder()
                .with_http()
                .with_http_client(client.clone())
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(format!("{base}/v1/traces"))
                .with_timeout(self.timeout)
                .build(),
        }
    }

    /// Exports metrics.
    pub async fn metrics(&self, metrics: ExportMetricsServiceRequest) -> Result<(), ExportError> {
        let sent = async {
            match &self.transport {
                Transport::Grpc(channel) => {
                    let headers = HeaderMap::clone(&self.headers.load());
                    let metadata = MetadataMap::from_headers(headers);
                    let request =
                        tonic::Request::from_parts(metadata, tonic::Extensions::default(), metrics);
                    let mut client = MetricsServiceClient::new(channel.clone());
                    let answer = client.export(request).await;
                    answer.map(drop).map_err(|status| match status.code() {
                        tonic::Code::Unimplemented => ExportError::Unsupported,
                        code => ExportError::Failed(code.description().to_owned()),
                    })
                }
                Transport::Http { client, base } => client.metrics(base, &metrics).await,
            }
        };
        let late = || ExportError::Failed(format!("no answer within {:?}", self.timeout));
        let answer = tokio::time::timeout(self.timeout, sent).await;
        answer.unwrap_or_else(|_| Err(late()))
    }
}

/// The authorities to trust instead of the usual ones, as PEM.
pub fn authorities(telemetry: &Telemetry) -> Result<Option<Vec<u8>>, Fault> {
    let Some(file) = &telemetry.otlp_ca_file else {
        return Ok(None);
    };
    let wrong = |message: &dyn fmt::Display| {
        let message = format!("{}: {message}", file.display());
        fault("otlp_ca_file", message)
    };
    let pem = files::read(file, files::MAX_PEM_BYTES).map_err(|error| wrong(&error))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(Some(pem)),
        _ => Err(wrong(&"has no certificate in PEM")),
    }
}

/// A fault of a setting of telemetry.
pub fn fault(key: &str, message: String) -> Fault {
    Fault {
        path: format!("telemetry.{key}"),
        message,
    }
}

fn channel(
    endpoint: &str,
    authorities: Option<Vec<u8>>,
    timeout: Duration,
) -> Result<Channel, Fault> {
    let wrong = |error: tonic::transport::Error| fault("otlp_endpoint", error.to_string());
    let mut channel = Channel::from_shared(endpoint.to_owned())
        .map_err(|error| fault("otlp_endpoint", error.to_string()))?
        .connect_timeout(timeout)
        .timeout(timeout);
    if endpoint.starts_with("https://") {
        let tls = match authorities {
            None => ClientTlsConfig::new().with_enabled_roots(),
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        };
        channel = channel.tls_config(tls).map_err(wrong)?;
    }
    Ok(channel.connect_lazy())
}

fn http_client(authorities: Option<Vec<u8>>, timeout: Duration) -> Result<reqwest::Client, Fault> {
    let mut builder = reqwest::Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(pem) = authorities {
        let authorities = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|_| fault("otlp_ca_file", "it is not PEM".to_owned()))?;
        builder = builder.tls_built_in_root_certs(false);
        for authority in authorities {
            builder = builder.add_root_certificate(authority);
        }
    }
    builder
        .build()
        .map_err(|error| fault("otlp_endpoint", error.to_string()))
}

/// The house's HTTP client, as the exporter of spans asks for one.
#[derive(Clone)]
struct Client {
    client: reqwest::Client,
    headers: Headers,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    async fn metrics(
        &self,
        base: &str,
        metrics: &ExportMetricsServiceRequest,
    ) -> Result<(), ExportError> {
        let failed = |error: &dyn fmt::Display| ExportError::Failed(error.to_string());
        let request = Request::post(format!("{base}/v1/metrics"))
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Bytes::from(metrics.encode_to_vec()))
            .map_err(|error| failed(&error))?;
        let answer = self
            .send_bytes(request)
            .await
            .map_err(|error| failed(&error))?;
        match answer.status().as_u16() {
            200..=299 => Ok(()),
            404 | 405 | 501 => Err(ExportError::Unsupported),
            status => Err(ExportError::Failed(format!("it answered {status}"))),
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = reqwest::Request::try_from(request)?;
        for (name, value) in self.headers.load().iter() {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let answer = self.client.execute(request).await;
        let mut answer = answer.map_err(reqwest::Error::without_url)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err("the answer is too large".into());
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::new(body.freeze());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}
