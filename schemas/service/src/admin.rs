//! The admin port: whether the process lives, whether it is ready, and its metrics.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long a request's head may take, which also bounds an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may live in all: a scraper comes again, a stuck one goes.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections at once. Probes and scrapers need a handful; past this, the one that asked for nothing for
/// longest ends for the one that comes, so that nobody who holds connections keeps a probe waiting.
const MAX_CONNECTIONS: usize = 32;

/// The largest head of a request, in bytes (hyper's smallest).
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The pause after a connection could not be accepted, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Whether the process can do its work: named conditions, each met or with the reason why it is not.
/// Clones are the same. Without any condition it is not ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Result<(), String>>>>);

impl Readiness {
    /// Sets a condition; a change is logged once.
    pub fn set(&self, name: &str, state: Result<(), String>) {
        let mut conditions = self.0.lock();
        let before = conditions.get(name);
        match (&state, before) {
            (Ok(()), Some(Err(_))) => tracing::info!(condition = name, "ready"),
            (Err(error), None | Some(Ok(()))) => {
                tracing::info!(condition = name, error, "not ready");
            }
            _ => {}
        }
        conditions.insert(name.to_owned(), state);
    }

    /// Whether every condition is met and there is one.
    pub fn is_ready(&self) -> bool {
        let conditions = self.0.lock();
        !conditions.is_empty() && conditions.values().all(Result::is_ok)
    }

    /// All conditions by name, and whether each is met.
    pub fn conditions(&self) -> Vec<(String, bool)> {
        let conditions = self.0.lock();
        let state = |(name, state): (&String, &Result<(), String>)| (name.clone(), state.is_ok());
        conditions.iter().map(state).collect()
    }

    /// `name: reason`, for each condition that is not met.
    pub fn reasons(&self) -> Vec<String> {
        let conditions = self.0.lock();
        let unmet = |(name, state): (&String, &Result<(), String>)| {
            let reason = state.as_ref().err()?;
            Some(format!("{name}: {reason}"))
        };
        if conditions.is_empty() {
            return vec!["start: nothing is known yet".to_owned()];
        }
        conditions.iter().filter_map(unmet).collect()
    }
}

/// Answers on the admin port until `shutdown`. A process that drains is still probed, so this is a token that
/// is cancelled after the drain.
pub async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    readiness: Readiness,
    shutdown: CancellationToken,
) {
    let open = Open::default();
    let accepting = async {
        for number in 0.. {
            let stream = accept(&listener).await;
            if open.add(number) {
                // The one that must end does so before the next is accepted.
                tokio::task::yield_now().await;
            }
            let (open, registry, readiness) =
                (open.clone(), Arc::clone(&registry), readiness.clone());
            tokio::spawn(async move {
                let ended = open.ended(number);
                tokio::select! {
                    () = connection(stream, &registry, &readiness, || open.asked(number)) => {}
                    () = ended.cancelled() => {}
                }
                open.remove(number);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown.cancelled() => {}
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::debug!(%error, "the admin port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The open connections by their numbers, [`MAX_CONNECTIONS`] at most. Clones are the same.
#[derive(Debug, Clone, Default)]
struct Open(Arc<Mutex<HashMap<u64, Connection>>>);

#[derive(Debug)]
struct Connection {
    /// When it began or was last asked for something.
    asked: Instant,
    ended: CancellationToken,
}

impl Open {
    /// A connection began. Whether another one is ended for it.
    fn add(&self, number: u64) -> bool {
        let mut open = self.0.lock();
        let quietest = open.iter().min_by_key(|(_, connection)| connection.asked);
        let quietest = quietest
            .map(|(number, _)| *number)
            .filter(|_| open.len() >= MAX_CONNECTIONS);
        let ended = quietest.and_then(|number| open.remove(&number));
        if let Some(connection) = &ended {
            connection.ended.cancel();
        }
        let connection = Connection {
            asked: Instant::now(),
            ended: CancellationToken::new(),
        };
        open.insert(number, connection);
        ended.is_some()
    }

    /// Cancelled where it must end; also where it had to before this.
    fn ended(&self, number: u64) -> CancellationToken {
        let open = self.0.lock();
        let ended = open.get(&number).map(|connection| connection.ended.clone());
        ended.unwrap_or_else(|| {
            let ended = CancellationToken::new();
            ended.cancel();
            ended
        })
    }

    fn asked(&self, number: u64) {
        if let Some(connection) = self.0.lock().get_mut(&number) {
            connection.asked = Instant::now();
        }
    }

    fn remove(&self, number: u64) {
        self.0.lock().remove(&number);
    }
}

/// `asked` is called with each request.
async fn connection(
    stream: TcpStream,
    registry: &Arc<Registry>,
    readiness: &Readiness,
    asked: impl Fn(),
) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        asked();
        let response = answer(&request, registry, readiness);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or is too slow gets no answer.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

fn answer<B>(
    request: &Request<B>,
    registry: &Registry,
    readiness: &Readiness,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/readyz" | "/metrics") {
        return text(StatusCode::NOT_FOUND, TEXT, "not here\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/livez" => text(StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" if readiness.is_ready() => text(StatusCode::OK, TEXT, "ready\n".to_owned()),
        "/readyz" => {
            let reasons = readiness.reasons().join("\n") + "\n";
            text(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons)
        }
        _ => {
            let mut page = String::with_capacity(16 * 1024);
            // Writing to memory fails only where a metric's own encoding does.
            match prometheus_client::encoding::text::encode(&mut page, registry) {
                Ok(()) => text(StatusCode::OK, OPEN_METRICS, page),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
            }
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &'static str) -> String {
        let exchange = move || {
            let mut stream = std::net::TcpStream::connect(address).expect("the port is open");
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            )
            .expect("it is read");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it is answered");
            answer
        };
        tokio::task::spawn_blocking(exchange)
            .await
            .expect("no panic")
    }

    #[tokio::test]
    async fn probes_and_metrics_are_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut registry = Registry::default();
        let seen = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.register("sluice_seen", "Seen", seen.clone());
        seen.inc();
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        let server = tokio::spawn(serve(
            listener,
            Arc::new(registry),
            readiness.clone(),
            shutdown.clone(),
        ));

        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        readiness.set("kafka", Err("no broker answers".into()));
        readiness.set("topics", Ok(()));
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\nkafka: no broker answers\n"),
            "{answer}"
        );
        readiness.set("kafka", Ok(()));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));

        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"));
        assert!(metrics.contains("sluice_seen_total 1\n"), "{metrics}");
        assert!(metrics.ends_with("# EOF\n"));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));

        shutdown.cancel();
        server.await.expect("it ends");
    }

    #[tokio::test]
    async fn held_connections_keep_no_probe_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        let registry = Arc::new(Registry::default());
        tokio::spawn(serve(listener, registry, readiness, shutdown.clone()));
        for words in ["", "GET /li", "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let held: Vec<std::net::TcpStream> = (0..100)
                .map(|_| {
                    let mut stream = std::net::TcpStream::connect(address).expect("it is open");
                    stream.write_all(words.as_bytes()).expect("it is taken");
                    stream
                })
                .collect();
            for _ in 0..3 {
                let since = Instant::now();
                assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
                let took = since.elapsed();
                let connections = held.len();
                assert!(
                    took < Duration::from_secs(1),
                    "{connections} connections that said {words:?}: {took:?}"
                );
            }
        }
        shutdown.cancel();
    }
}
