//! HTTP from the sender's side: well-behaved keep-alive clients, and one that writes what it likes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::harness::wire::Wire;

/// A request ready to go.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Path and query.
    pub path: String,
    /// All headers but those of HTTP itself; values are bytes up to U+00FF.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Outgoing {
    /// Its bytes as they go over the wire, over a connection that is kept.
    pub fn on_the_wire(&self) -> Vec<u8> {
        let mut head = format!("POST {} HTTP/1.1\r\nhost: localhost\r\n", self.path);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.extend(["content-length: ", &self.body.len().to_string(), "\r\n\r\n"]);
        [head.as_bytes(), &self.body].concat()
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(found, value)| (found == name).then_some(value.as_str()))
    }

    /// The request's id in the answer to an accepted request.
    pub fn id(&self) -> Result<String> {
        if self.status != 200 {
            bail!(
                "answered {}: {}",
                self.status,
                String::from_utf8_lossy(&self.body)
            );
        }
        let body: serde_json::Value = serde_json::from_slice(&self.body)?;
        let id = body["id"].as_str().context("the answer has no id")?;
        Ok(id.to_owned())
    }
}

/// Connections to one address, kept alive and used again.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    wire: Wire,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// Longer than any answer that ingest may take by its settings.
const ANSWER: Duration = Duration::from_secs(30);

impl Client {
    /// A client without connections yet.
    pub fn new(address: SocketAddr) -> Self {
        Self::over(Wire::plain(), address)
    }

    /// The same over a wire, which must not lead to HTTP/2.
    pub fn over(wire: Wire, address: SocketAddr) -> Self {
        Self {
            address,
            wire,
            idle: Mutex::default(),
        }
    }

    /// How many connections are open and wait for a request.
    pub fn kept(&self) -> usize {
        let kept = self.lock();
        kept.iter().filter(|kept| !kept.is_closed()).count()
    }

    /// Posts a request.
    pub async fn post(&self, request: &Outgoing) -> Result<Answer> {
        self.send("POST", request).await
    }

    /// Sends a request with any method. A kept connection that turns out to be closed is replaced; a
    /// request that was not answered is an error, and never sent again.
    pub async fn send(&self, method: &str, request: &Outgoing) -> Result<Answer> {
        tokio::time::timeout(ANSWER, self.exchange(method, request))
            .await
            .with_context(|| format!("no answer within {ANSWER:?}"))?
    }

    async fn exchange(&self, method: &str, request: &Outgoing) -> Result<Answer> {
        let mut connection = self.connection().await?;
        let mut builder = hyper::Request::builder()
            .method(method)
            .uri(&request.path)
            .header("host", self.address.to_string());
        for (name, value) in &request.headers {
            // Header values are bytes: a test's text names them by code points.
            let bytes: Vec<u8> = value.chars().map(u8::try_from).collect::<Result<_, _>>()?;
            builder = builder.header(name, hyper::header::HeaderValue::from_bytes(&bytes)?);
        }
        let response = connection
            .send_request(builder.body(Full::new(request.body.clone()))?)
            .await?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), value)
            })
            .collect();
        let body = response.into_body().collect().await?.to_bytes().to_vec();
        self.lock().push(connection);
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>> {
        loop {
            let Some(mut kept) = self.lock().pop() else {
                break;
            };
            if !kept.is_closed() && kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = self.wire.connect(self.address).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How a connection ends is seen by the waiter for an answer on it.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A GET on a connection of its own, for admin ports. Blocks.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let bytes = raw(address, &[head.as_bytes()], Hurry::UntilClosed)?;
    parse(&bytes)
}

/// What to do once all is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hurry {
    /// Read until the other side closes.
    UntilClosed,
    /// Close our half, then read until the other side closes.
    HalfClose,
    /// Go away at once.
    Leave,
}

/// Writes the pieces as they are, each in a packet of its own, and reads what comes back until the
/// other side closes. Blocks. A side that closes while we write is no error: what it said counts.
pub fn raw(address: SocketAddr, pieces: &[&[u8]], then: Hurry) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    match then {
        Hurry::UntilClosed => {}
        Hurry::HalfClose => {
            let _ = stream.shutdown(Shutdown::Write);
        }
        Hurry::Leave => return Ok(Vec::new()),
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => Ok(answer),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(answer),
        Err(error) => Err(error).context("the other side neither answered nor closed"),
    }
}

/// Reads an answer to its end, as [`raw`] returns it after `connection: close`.
pub fn parse(bytes: &[u8]) -> Result<Answer> {
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("no end of the headers")?;
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .context("no status")?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut body = bytes[end + 4..].to_vec();
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    if chunked {
        body = unchunk(&body)?;
    }
    Ok(Answer {
        status,
        headers,
        body,
    })
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|two| two == b"\r\n")
            .context("no end of a chunk's size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?, 16)?;
        let chunk = rest
            .get(end + 2..end + 2 + size)
            .context("a chunk ends early")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).context("a chunk has no end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        let answer = parse(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
        );
        let answer = answer.expect("an answer");
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, b"abcd".as_slice())
        );
    }
}
