//! A closed loop of keep-alive connections that costs as little as it can: requests are laid out
//! beforehand, answers are read as far as their length. It shares the cores with what it measures, so it is
//! not the open loop of `sluice_tests::load`, which parses each answer and keeps a sample of it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sluice_tests::harness::client::Outgoing;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The bytes of a request on the wire.
pub fn laid_out(request: &Outgoing) -> Vec<u8> {
    let mut bytes = format!("POST {} HTTP/1.1\r\nhost: localhost\r\n", request.path);
    for (name, value) in &request.headers {
        // Writing to memory cannot fail.
        let _ = write!(bytes, "{name}: {value}\r\n");
    }
    let _ = write!(bytes, "content-length: {}\r\n\r\n", request.body.len());
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(&request.body);
    bytes
}

/// Loads an address for some time; the number of answers, all of which must be 200.
pub fn run(
    address: SocketAddr,
    requests: &Arc<Vec<Vec<u8>>>,
    connections: usize,
    time: Duration,
) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let answered = Arc::new(AtomicU64::new(0));
        let until = Instant::now() + time;
        let mut tasks = Vec::new();
        for connection in 0..connections {
            let (requests, answered) = (Arc::clone(requests), Arc::clone(&answered));
            tasks.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let mut buffer = vec![0; 4096];
                let mut next = connection;
                while Instant::now() < until {
                    stream.write_all(&requests[next % requests.len()]).await?;
                    answer(&mut stream, &mut buffer).await?;
                    answered.fetch_add(1, Ordering::Relaxed);
                    next += connections;
                }
                anyhow::Ok(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(answered.load(Ordering::Relaxed))
    })
}

async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut read = 0;
    loop {
        let more = stream.read(&mut buffer[read..]).await?;
        if more == 0 {
            bail!("the connection was closed");
        }
        read += more;
        let Some(head) = buffer[..read]
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
        else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head])?;
        if !text.starts_with("HTTP/1.1 200") {
            bail!("answered {}", text.lines().next().unwrap_or_default());
        }
        let length: usize = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .context("no content-length")?
            .parse()?;
        if read >= head + 4 + length {
            return Ok(());
        }
    }
}
