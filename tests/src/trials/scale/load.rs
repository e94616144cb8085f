//! A closed loop of keep-alive connections that sends so many requests and no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Connections, each with one request on the way.
const CONNECTIONS: usize = 64;

/// Sends so many requests; all of them must be answered 200.
pub fn run(address: SocketAddr, requests: &Arc<Vec<Vec<u8>>>, count: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS {
            let (requests, next) = (Arc::clone(requests), Arc::clone(&next));
            tasks.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let mut buffer = vec![0; 4096];
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return anyhow::Ok(());
                    }
                    stream.write_all(&requests[n % requests.len()]).await?;
                    answer(&mut stream, &mut buffer).await?;
                }
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
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
        let mut ends = buffer[..read].windows(4);
        let Some(head) = ends.position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head])?;
        if !text.starts_with("HTTP/1.1 200") {
            bail!("answered {}", text.lines().next().unwrap_or_default());
        }
        let mut lines = text.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        if read >= head + 4 + length.context("no content-length")?.parse::<usize>()? {
            return Ok(());
        }
    }
}
