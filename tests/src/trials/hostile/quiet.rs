//! Clients from many addresses that keep connections on which nothing more happens: after one small request,
//! or after no more than the beginning of HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use sluice_tests::harness::wire::{Stream, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::frames::{END_STREAM, HEADERS, PREFACE, SETTINGS, frame, head};
use super::idle::{Ends, LEFT_OPEN};
use super::peers::attacker;

/// A request is answered within this time, whatever the machine does.
const ANSWER: Duration = Duration::from_secs(10);

/// Longer than ingest waits for a first request, which are 10 s by default, with room for a busy machine.
const SHED: Duration = Duration::from_secs(25);

/// Before a connection that was ended is made again: what is tried is what connections hold.
const AGAIN: Duration = Duration::from_secs(1);

/// The name of the end that no request should have.
pub const NO_ANSWER: &str = "no answer";

/// A connection that could not be made.
pub const NOT_MADE: &str = "not connected";

/// Asks for a source that is none, reads the answer and says nothing more, until ingest ends the connection;
/// then once more. Requests by their answer.
pub async fn after_answer(
    wire: &Wire,
    address: SocketAddr,
    connections: usize,
    time: Duration,
) -> Result<Ends> {
    let until = Instant::now() + time;
    let ends = Arc::new(Mutex::new(Ends::new()));
    let mut tasks = JoinSet::new();
    for n in 0..connections {
        let (wire, ends) = (wire.clone().from(attacker(n)), Arc::clone(&ends));
        tasks.spawn(async move {
            while Instant::now() < until {
                let (end, stream) = ask(&wire, address).await;
                *ends.lock().entry(end).or_default() += 1;
                if let Some(mut stream) = stream {
                    let _ = timeout_at(until, stream.read(&mut [0; 64])).await;
                }
                sleep(AGAIN).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    Ok(std::mem::take(&mut *ends.lock()))
}

async fn ask(wire: &Wire, address: SocketAddr) -> (String, Option<Box<dyn Stream>>) {
    let request = b"POST /v1/hooks/none/x HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";
    let Ok(Ok(mut stream)) = timeout(ANSWER, wire.connect(address)).await else {
        return (NOT_MADE.into(), None);
    };
    let mut came = [0; 1024];
    let asked = async {
        stream.write_all(request).await?;
        stream.read(&mut came).await
    };
    let length = timeout(ANSWER, asked).await;
    let status = came.get(9..12).filter(|_| matches!(length, Ok(Ok(12..))));
    match status.and_then(|status| str::from_utf8(status).ok()) {
        Some(status) => (status.to_owned(), Some(stream)),
        None => (NO_ANSWER.into(), None),
    }
}

/// Begins HTTP/2 in each way that is no request, and waits for the end; then all once more, until time is
/// over. Connections by their end.
pub async fn preface(
    wire: &Wire,
    address: SocketAddr,
    connections: usize,
    time: Duration,
) -> Result<Ends> {
    let scripts = Arc::new(prefaces());
    let until = Instant::now() + time;
    let mut ends = Ends::new();
    while Instant::now() < until {
        let mut tasks = JoinSet::new();
        for n in 0..connections {
            let (wire, scripts) = (wire.clone().from(attacker(n)), Arc::clone(&scripts));
            tasks.spawn(async move {
                let script = &scripts[n % scripts.len()];
                let end = timeout(SHED, begin(&wire, address, script)).await;
                end.unwrap_or(LEFT_OPEN)
            });
        }
        while let Some(end) = tasks.join_next().await {
            *ends.entry(end?.to_owned()).or_default() += 1;
        }
    }
    Ok(ends)
}

async fn begin(wire: &Wire, address: SocketAddr, script: &[u8]) -> &'static str {
    let Ok(mut stream) = wire.connect(address).await else {
        return NOT_MADE;
    };
    let _ = stream.write_all(script).await;
    let mut came = [0; 1024];
    while let Ok(1..) = stream.read(&mut came).await {}
    "closed"
}

/// Three letters, the whole preface, the preface with settings, and with a request's head that does not end.
fn prefaces() -> [Vec<u8>; 4] {
    let mut settings = PREFACE.to_vec();
    frame(&mut settings, SETTINGS, 0, 0, &[]);
    let mut begun = settings.clone();
    frame(
        &mut begun,
        HEADERS,
        END_STREAM,
        1,
        &head("/v1/hooks/none/x"),
    );
    [b"PRI".to_vec(), PREFACE.to_vec(), settings, begun]
}
