//! The credentials of the Kafka clients while the process runs: files of passwords, keys and certificates,
//! which the clients read when they are made and never again.
//!
//! The files are polled. When they change, a client that is made for it logs in with them; only then the
//! service makes its own clients again. Files with a fault change nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};
use sluice_schemas::identity::sha256;
use sluice_schemas::settings::{Fault, Settings};

use super::client::{self, PATHS, base_config, log_error};
use super::oauth;
use crate::files;
use crate::telemetry::Repeated;
use crate::watch::{self, ApplyError, Digest, Policy, Poll, Watched, Watching};

/// How often the files are polled.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// How long the brokers may take to answer a client with new credentials.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait for the answer to one question of that.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(500);

static POLICY: Policy = Policy {
    settle: Duration::ZERO,
    // Files that are replaced one by one do not fit together for a moment.
    confirm_faults: true,
    // A password may stand in its file before the brokers know it.
    retry: Duration::from_secs(10),
    rejected: "the new credentials for Kafka are not in use, and the clients keep the last good ones: \
               correct the files, they are read again",
    restored: "the files hold the credentials for Kafka that are in use again",
};

/// The files, as they were when the clients' properties were read.
#[derive(Debug)]
pub struct Credentials {
    files: Vec<PathBuf>,
    in_use: Digest,
    failures: Counter,
}

impl Credentials {
    /// Reads the files that these settings name. To be called before [`base_config`], so that a change in
    /// between is seen. Files that cannot be read are its faults to report.
    pub fn new(settings: &Settings) -> Self {
        let kafka = &settings.kafka;
        let secrets = kafka.secret_properties.iter();
        let mut files: Vec<PathBuf> = secrets
            .map(|(_, file)| settings.secrets_dir.join(file))
            .collect();
        let paths = PATHS.iter().filter_map(|property| kafka.property(property));
        files.extend(paths.map(PathBuf::from));
        Self {
            in_use: digest(&files),
            files,
            failures: Counter::default(),
        }
    }

    /// How often new credentials were refused.
    pub fn failures(&self) -> Counter {
        self.failures.clone()
    }

    /// Polls the files on a thread that ends with the returned value. `apply` is given the properties with
    /// which clients are to be made from now on; it may block.
    pub fn watch(
        self,
        settings: Arc<Settings>,
        mut apply: impl FnMut(&ClientConfig) -> Result<(), ApplyError> + Send + 'static,
    ) -> Watching {
        let (thread, watching) = watch::thread();
        if self.files.is_empty() {
            return watching;
        }
        let mut watched = Watched::new(&POLICY, None, self.in_use);
        let mut waiting = Repeated::default();
        thread.start("kafka-files", POLL_INTERVAL, move || {
            let content = digest(&self.files);
            let outcome = watched.poll(content, Instant::now(), &self.failures, || {
                let base = base_config(&settings).map_err(ApplyError::Faults)?;
                log_in(&base, LOGIN_TIMEOUT)?;
                apply(&base)
            });
            match outcome {
                Poll::Applied(()) => {
                    tracing::info!("the credentials for Kafka changed, and new clients use them");
                }
                Poll::Unavailable(error) => {
                    if let Some(repeated) = waiting.came(Instant::now()) {
                        tracing::warn!(
                            error,
                            repeated,
                            "the credentials for Kafka changed, and the brokers do not answer: tried again"
                        );
                    }
                }
                _ => {}
            }
            POLL_INTERVAL
        });
        watching
    }
}

/// How much of a file is read to see whether it changed, in bytes. librdkafka takes files of any size.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The digest of what the files hold; of one that cannot be read, why not.
fn digest(files: &[PathBuf]) -> Digest {
    let one = |path: &Path| match files::read(path, MAX_FILE_BYTES) {
        Ok(content) => sha256(&content),
        Err(error) => sha256(format!("unreadable: {}", error.kind()).as_bytes()),
    };
    let all: Vec<u8> = files.iter().flat_map(|path| one(path)).collect();
    sha256(&all)
}

/// Logs in with these properties: certificate and key are read and must fit, and a broker must accept what
/// it is shown. Blocks.
///
/// # Errors
/// What is refused and why; or that no broker answers, which says nothing of the credentials.
pub fn log_in(base: &ClientConfig, patience: Duration) -> Result<(), ApplyError> {
    let fault = |message: String| {
        let path = "kafka".to_owned();
        ApplyError::Faults(vec![Fault { path, message }])
    };
    let made = base
        .clone()
        .set("log_level", "3")
        .create_with_context(Login::default());
    let client: BaseConsumer<Login> = made.map_err(|error| fault(error.to_string()))?;
    let until = Instant::now() + patience;
    loop {
        while client.poll(Duration::ZERO).is_some() {}
        let answer = client.fetch_metadata(None, QUESTION_TIMEOUT);
        while client.poll(Duration::ZERO).is_some() {}
        let Err(error) = answer else {
            return Ok(());
        };
        if !is_silence(&error) {
            return Ok(());
        }
        if let Some(refused) = client.context().refused.lock().take() {
            return Err(fault(refused));
        }
        if Instant::now() >= until {
            return Err(ApplyError::Unavailable(error.to_string()));
        }
    }
}

fn is_silence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AllBrokersDown
                | Code::Authentication
                | Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::Resolve
                | Code::SSL
                | Code::TimedOutQueue
        )
    )
}

/// What the client calls back: why it is refused.
#[derive(Debug, Default)]
struct Login {
    refused: Mutex<Option<String>>,
}

impl ClientContext for Login {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, carried: Option<&str>) -> oauth::Issued {
        oauth::token(carried).inspect_err(|error| {
            *self.refused.lock() = Some(format!("no token: {error}"));
        })
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                *self.refused.lock() = Some(reason.to_owned());
            }
            _ => log_error(&error, reason),
        }
    }

    fn stats_raw(&self, _report: &[u8]) {}
}

impl ConsumerContext for Login {}
