//! One request many times, many at once on each of a few connections: as fast as a sender can be.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::wire::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::idle::Ends as Answers;
use super::peers::attacker;

/// Connections of the sender.
const CONNECTIONS: usize = 16;

/// Requests that it sends before it reads their answers.
const AT_ONCE: u64 = 64;

/// A request over HTTP/1.1, as it is on the wire.
pub fn bytes(request: &Outgoing) -> Vec<u8> {
    let mut bytes = format!("POST {} HTTP/1.1\r\nhost: h\r\n", request.path);
    for (name, value) in &request.headers {
        bytes.extend([name, ": ", value, "\r\n"]);
    }
    let length = request.body.len().to_string();
    bytes.extend(["content-length: ", &length, "\r\n\r\n"]);
    [bytes.as_bytes(), &request.body].concat()
}

/// Sends a request `count` times, many at once on each of a few connections. Requests by their answer.
pub async fn send(wire: &Wire, address: SocketAddr, bytes: &[u8], count: u64) -> Result<Answers> {
    let mut tasks = JoinSet::new();
    let each = count.div_ceil(CONNECTIONS as u64);
    let mut left = count;
    for n in 0..CONNECTIONS {
        let share = each.min(left);
        left -= share;
        let (wire, bytes) = (wire.clone().from(attacker(n)), bytes.to_vec());
        tasks.spawn(async move { connection(&wire, address, &bytes, share).await });
    }
    let mut answers = Answers::new();
    while let Some(done) = tasks.join_next().await {
        for (answer, n) in done?? {
            *answers.entry(answer).or_default() += n;
        }
    }
    Ok(answers)
}

async fn connection(
    wire: &Wire,
    address: SocketAddr,
    bytes: &[u8],
    mut count: u64,
) -> Result<Answers> {
    const LINE: &str = "HTTP/1.1 ";
    let mut answers = Answers::new();
    let mut stream = wire.connect(address).await?;
    let mut buffer = vec![0; 64 << 10];
    while count > 0 {
        let batch = count.min(AT_ONCE);
        stream
            .write_all(&bytes.repeat(usize::try_from(batch)?))
            .await?;
        count -= batch;
        let mut open = batch;
        let mut came = String::new();
        while open > 0 {
            let length = stream.read(&mut buffer).await?;
            ensure!(length > 0, "closed with {open} answers to come");
            came.push_str(&String::from_utf8_lossy(&buffer[..length]));
            let mut rest = came.as_str();
            // The status of an answer may be cut; its head is not needed to the end.
            while let Some(at) = rest.find(LINE)
                && let Some(status) = rest.get(at + LINE.len()..at + LINE.len() + 3)
            {
                *answers.entry(status.to_owned()).or_default() += 1;
                open = open.saturating_sub(1);
                rest = &rest[at + LINE.len() + 3..];
            }
            let keep = rest.len().min(LINE.len() + 3);
            came = rest[rest.len() - keep..].to_owned();
        }
    }
    Ok(answers)
}
