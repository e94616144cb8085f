//! Ingest in memory: bytes go in as from a connection, and the records and answers come out.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, mem};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use sluice_schemas::identity::sha256;
use sluice_schemas::raw::RawRequest;
use sluice_schemas::settings::{Environment, Settings};
use sluice_service::telemetry::Traces;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http::connection::in_memory;
use crate::metrics::Metrics;
use crate::persist::Durable;
use crate::publish::{Delivered, Hold, Publish, Record, Refused};
use crate::receive::Receiver;

/// The token of the source `list`.
pub const TOKEN: &str = "t0ken-Of.48~hex_digits";

/// No connection in memory takes near as long.
const HANGS: Duration = Duration::from_secs(5);

/// What came of a connection.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The records: body and request.
    pub records: Vec<(Vec<u8>, RawRequest)>,
    /// All that was answered.
    pub answers: Vec<u8>,
}

/// Serves these bytes, of which each read brings `step` at most.
pub fn serve(bytes: &[u8], step: usize) -> Outcome {
    thread_local! {
        static INGEST: RefCell<Ingest> = RefCell::new(Ingest::new());
    }
    INGEST.with_borrow_mut(|ingest| ingest.serve(bytes, step))
}

pub(crate) struct Ingest {
    pub(crate) runtime: Runtime,
    pub(crate) receiver: Arc<Receiver<Remembering>>,
    publisher: Arc<Remembering>,
}

impl Ingest {
    pub(crate) fn new() -> Self {
        let settings = settings();
        let metrics = Metrics::new(&mut Registry::default());
        let publisher = Arc::new(Remembering::default());
        let patience = settings.ingest.ack_timeout;
        let durable = Durable::new(Arc::clone(&publisher), None, metrics.clone(), patience);
        durable.verified();
        let config = Config::new(&settings);
        let receiver = Receiver::new(config, Arc::new(durable), metrics, Traces::default());
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            runtime: runtime.enable_time().build().expect("a runtime"),
            receiver: Arc::new(receiver),
            publisher,
        }
    }

    fn serve(&mut self, bytes: &[u8], step: usize) -> Outcome {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let stream = Stream {
            input: bytes.to_vec(),
            at: 0,
            step: step.max(1),
            answers: Arc::clone(&answers),
        };
        let serving =
            in_memory::serve(Arc::clone(&self.receiver), stream, CancellationToken::new());
        let ended = self
            .runtime
            .block_on(async { tokio::time::timeout(HANGS, serving).await });
        assert!(ended.is_ok(), "the connection hangs");
        Outcome {
            records: mem::take(&mut *self.publisher.0.lock()),
            answers: mem::take(&mut *answers.lock()),
        }
    }
}

/// Two sources: `site` without anything, `list` with a token in its URL.
pub(crate) fn settings() -> Settings {
    let yaml = format!(
        "kafka: {{bootstrap_servers: 'localhost:1'}}
sources:
  site: {{provider: flowcode, secrets: [x]}}
  list: {{provider: referralloop, token_sha256: ['{}'], require_headers: {{X-Key: ['{}']}}}}
telemetry: {{trace_ratio: 0}}
",
        hex::encode(sha256(TOKEN.as_bytes())),
        hex::encode(sha256(b"k3y")),
    );
    let environment = Environment {
        member: Some("member-0"),
        property_fault: &|_, _| None,
    };
    let path = std::path::Path::new("settings.yaml");
    Settings::parse(path, yaml.as_bytes(), &environment).expect("good settings")
}

/// A publisher that remembers, and acknowledges at once.
#[derive(Debug, Default)]
pub(crate) struct Remembering(Mutex<Vec<(Vec<u8>, RawRequest)>>);

impl Publish for Remembering {
    fn publish(&self, record: &Record<'_>, hold: Box<Hold>) -> Result<(), Refused> {
        let request = RawRequest::decode(record.request).expect("what we write");
        self.0.lock().push((record.value.to_vec(), request));
        let delivered = Delivered {
            partition: 0,
            offset: 0,
        };
        // The sender may be gone.
        let _ = hold.reply.send(Ok(delivered));
        Ok(())
    }
}

/// A connection whose other end has sent all that it sends.
struct Stream {
    input: Vec<u8>,
    at: usize,
    step: usize,
    answers: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.input.len() - self.at;
        let length = left.min(self.step).min(buf.remaining());
        buf.put_slice(&self.input[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answers.lock().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
