//! A server of its own for each test, the publisher that remembers, and a sender that sees every byte.

mod page;

mod under;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use sluice_ingest::config::Config;
use sluice_ingest::http::server;
use sluice_ingest::http::threads::Threads;
use sluice_ingest::http::tls::Tls;
use sluice_ingest::metrics::Metrics;
use sluice_ingest::persist::Durable;
use sluice_ingest::publish::{Delivered, Hold, Publish, Record, Refused, Undelivered};
use sluice_ingest::receive::Receiver;
use sluice_ingest::spool::drain::Drain;
use sluice_schemas::raw::RawRequest;
use sluice_schemas::settings::Settings;
use sluice_service::telemetry::{Span, Traces};
use tokio_util::sync::CancellationToken;

pub use self::under::{settings, spooling, threads};

/// The largest body of source `small`, in bytes.
pub const SMALL: usize = 1024;

/// What is held at once in all, in bytes.
pub const BUFFERED: usize = 64 * 1024;

/// Limits under which a test need not wait long.
pub const LIMITS: &str = "  limits: {first_byte_timeout: 500ms, idle_timeout: 500ms}";

/// Where the publisher puts all records.
pub const DELIVERED: Delivered = Delivered {
    partition: 3,
    offset: 7,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Acknowledge,
    Keep,
    Panic,
    QueueFull,
    TimeOut,
    Refuse,
    /// Acknowledges all but the body `large`.
    LargeIsTooLarge,
}

/// A record as it was published.
#[derive(Debug, Clone)]
pub struct Published {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub request: RawRequest,
    pub traceparent: String,
    pub thread: ThreadId,
}

#[derive(Debug)]
pub struct Fake {
    pub mood: Mutex<Mood>,
    pub published: Mutex<Vec<Published>>,
    pub kept: Mutex<Vec<Hold>>,
    /// What it did not take, its queue being full.
    pub turned_away: Mutex<Vec<Vec<u8>>>,
}

impl Publish for Fake {
    fn publish(&self, record: &Record<'_>, hold: Box<Hold>) -> Result<(), Refused> {
        // Held to the end: after a change nothing is done in the mood before.
        let mood = self.mood.lock().unwrap();
        if *mood == Mood::QueueFull {
            let mut turned_away = self.turned_away.lock().unwrap();
            turned_away.push(record.value.to_vec());
            return Err(Refused::QueueFull);
        }
        assert!(*mood != Mood::Panic, "as the test asked");
        self.published.lock().unwrap().push(Published {
            key: record.key.to_vec(),
            value: record.value.to_vec(),
            request: RawRequest::decode(record.request).unwrap(),
            traceparent: record.traceparent.to_owned(),
            thread: std::thread::current().id(),
        });
        match *mood {
            Mood::LargeIsTooLarge if record.value == b"large" => {
                hold.end(Err(Undelivered::TooLarge));
            }
            Mood::Acknowledge | Mood::LargeIsTooLarge => hold.end(Ok(DELIVERED)),
            Mood::TimeOut => hold.end(Err(Undelivered::TimedOut)),
            Mood::Refuse => hold.end(Err(Undelivered::Refused)),
            Mood::Keep | Mood::Panic | Mood::QueueFull => self.kept.lock().unwrap().push(*hold),
        }
        Ok(())
    }
}

/// A server of its own for a test, on a thread of its own.
pub struct Ingest {
    pub address: SocketAddr,
    pub publisher: Arc<Fake>,
    pub receiver: Arc<Receiver<Fake>>,
    pub registry: Registry,
    pub spool: Option<Arc<sluice_ingest::spool::Spool>>,
    pub shutdown: CancellationToken,
    pub thread: Option<std::thread::JoinHandle<()>>,
}

pub fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

impl Ingest {
    pub fn start() -> Self {
        Self::start_with(true)
    }

    pub fn start_with(started: bool) -> Self {
        Self::start_tuned(started, LIMITS, "", |_| ())
    }

    /// Under these settings.
    pub fn start_on(settings: &Settings, started: bool) -> Self {
        Self::start_in(settings, started, Mood::Acknowledge, Traces::default())
    }

    /// All requests are traced, and their spans gathered.
    pub fn start_traced(settings: &Settings, mood: Mood) -> (Self, Arc<Mutex<Vec<Span>>>) {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let gathered = Arc::clone(&spans);
        let traces = Traces::to(move |span| gathered.lock().unwrap().push(span));
        (Self::start_in(settings, true, mood, traces), spans)
    }

    /// With a spool in this folder, and Kafka in this mood.
    pub fn start_spooling(dir: &Path, mood: Mood) -> Self {
        Self::start_spooling_up_to(128 * 1024, dir, mood)
    }

    /// With a spool, and no source but `site`.
    pub fn start_alone(dir: &Path) -> Self {
        let mut settings = spooling(dir, 128 * 1024);
        settings.sources.retain(|name, _| name == "site");
        Self::start_in(&settings, true, Mood::QueueFull, Traces::default())
    }

    /// Puts another share of the spool in force.
    pub fn share_of_one(&self, dir: &Path, share: f64) {
        let mut settings = spooling(dir, 128 * 1024);
        settings.ingest.spool.as_mut().unwrap().source_share = share;
        self.spool.as_ref().unwrap().share(&settings);
    }

    pub fn start_spooling_up_to(max_bytes: u64, dir: &Path, mood: Mood) -> Self {
        Self::start_in(&spooling(dir, max_bytes), true, mood, Traces::default())
    }

    /// Under these lines of YAML more in `ingest`.
    pub fn start_under(more: &str) -> Self {
        Self::start_tuned(true, more, "", |_| ())
    }

    /// With more sources too, and with what a settings file may not say.
    pub fn start_tuned(
        started: bool,
        more: &str,
        sources: &str,
        tune: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = settings(more, sources);
        tune(&mut settings);
        Self::start_on(&settings, started)
    }

    fn start_in(settings: &Settings, started: bool, mood: Mood, traces: Traces) -> Self {
        let tls = Tls::load(settings).unwrap();
        let mut registry = Registry::default();
        if let Some(tls) = &tls {
            tls.register(&mut registry);
        }
        let metrics = Metrics::new(&mut registry);
        let publisher = Arc::new(Fake {
            mood: Mutex::new(mood),
            published: Mutex::default(),
            kept: Mutex::default(),
            turned_away: Mutex::default(),
        });
        let config = Config::new(settings);
        let spool = settings.ingest.spool.as_ref().map(|spool| {
            let metrics = metrics.spool().clone();
            let spool = sluice_ingest::spool::Spool::open(spool, metrics).unwrap();
            spool.share(settings);
            Arc::new(spool)
        });
        let durable = Arc::new(Durable::new(
            Arc::clone(&publisher),
            spool.clone(),
            metrics.clone(),
            settings.ingest.ack_timeout,
        ));
        let receiver = Arc::new(Receiver::new(config, Arc::clone(&durable), metrics, traces));
        if started {
            durable.verified();
        }
        let drain = spool
            .as_ref()
            .map(|spool| Drain::new(Arc::clone(spool), Arc::clone(&publisher)));
        let shutdown = CancellationToken::new();
        let threads = settings.ingest.threads.or_else(threads).unwrap();
        let (bound, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let (shutdown, receiver) = (shutdown.clone(), Arc::clone(&receiver));
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async move {
                    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                    bound.send(listener.local_addr().unwrap()).unwrap();
                    if let Some(drain) = drain {
                        tokio::spawn(drain.run(shutdown.clone()));
                    }
                    let mut threads = Threads::start(threads).unwrap();
                    let served = (listener, threads.runtimes());
                    server::serve(receiver, served, tls, shutdown).await;
                    threads.end(Duration::from_secs(5)).await;
                });
            }
        });
        Self {
            address: address.recv().unwrap(),
            publisher,
            receiver,
            registry,
            spool,
            shutdown,
            thread: Some(thread),
        }
    }

    pub fn mood(&self, mood: Mood) {
        *self.publisher.mood.lock().unwrap() = mood;
    }

    pub fn published(&self) -> Vec<Published> {
        self.publisher.published.lock().unwrap().clone()
    }

    pub fn connect(&self) -> Sender {
        let stream = TcpStream::connect(self.address).unwrap();
        // Nothing here takes near as long; a test that waits for ever reports nothing.
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Sender(stream)
    }

    /// One request on a connection of its own, and its answer.
    pub fn send(&self, head: &str, body: &[u8]) -> Answer {
        let mut sender = self.connect();
        sender.write(&format!("{head}\r\nhost: x\r\nconnection: close\r\n"));
        sender.write(&format!("content-length: {}\r\n\r\n", body.len()));
        sender.write_bytes(body);
        sender.answer()
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.send(&format!("POST {path} HTTP/1.1"), body)
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

pub struct Sender(pub TcpStream);

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Sender {
    pub fn write(&mut self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    pub fn write_bytes(&mut self, bytes: &[u8]) {
        // The other end may have answered and closed before everything was sent.
        if let Err(error) = self.0.write_all(bytes) {
            let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(gone.contains(&error.kind()), "{error}");
        }
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "after {bytes:?}");
        }
        bytes
    }

    /// The answer that ends the connection.
    pub fn answer(&mut self) -> Answer {
        let text = String::from_utf8(self.rest()).unwrap();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{text:?}"));
        let (status, headers) = head.split_once("\r\n").unwrap();
        let date = |line: &&str| !line.starts_with("date:");
        Answer {
            status: status.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers
                .split("\r\n")
                .filter(date)
                .collect::<Vec<_>>()
                .join("\n"),
            body: body.to_owned(),
        }
    }

    /// Until this much came.
    pub fn exactly(&mut self, bytes: usize) -> String {
        let mut read = vec![0; bytes];
        self.0.read_exact(&mut read).unwrap();
        String::from_utf8(read).unwrap()
    }
}

pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(5, what, condition);
}

pub fn within(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(
            since.elapsed() < Duration::from_secs(seconds),
            "not in {seconds} s: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
