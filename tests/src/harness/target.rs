//! An HTTP server as a developer has one: it keeps each request as it came, and answers as it is asked to.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Got {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// All headers in their order, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Got {
    /// All values of a header (lower case).
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let wanted = self.headers.iter().filter(|(found, _)| found == name);
        wanted.map(|(_, value)| value.as_slice()).collect()
    }
}

/// A server that answers one request a connection.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// On a free port of this machine. It answers with these statuses one after the other, then with 200.
    pub fn start(statuses: &[u16]) -> io::Result<Self> {
        Self::on(TcpListener::bind("127.0.0.1:0")?, statuses)
    }

    /// The same on a port that is bound.
    pub fn on(listener: TcpListener, statuses: &[u16]) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (kept, ends) = (Arc::clone(&got), Arc::clone(&stop));
        let mut statuses: Vec<u16> = statuses.iter().rev().copied().collect();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let status = || statuses.pop().unwrap_or(200);
                // A sender that breaks off is none of the server's business.
                let _ = stream.and_then(|stream| serve(&stream, &kept, status));
            }
        });
        Ok(Self {
            address,
            got,
            stop,
            thread: Some(thread),
        })
    }

    /// Its URL with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it got until now, in its order.
    pub fn got(&self) -> Vec<Got> {
        let got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        got.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a connection.
        drop(TcpStream::connect(self.address));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn serve(
    stream: &TcpStream,
    kept: &Mutex<Vec<Got>>,
    status: impl FnOnce() -> u16,
) -> io::Result<()> {
    let got = request(&mut BufReader::new(stream))?;
    kept.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(got);
    // A redirect leads back to the server, which would see who follows it.
    let status = status();
    let answer = format!(
        "HTTP/1.1 {status} \r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let mut stream = stream;
    stream.write_all(answer.as_bytes())
}

fn request(from: &mut impl BufRead) -> io::Result<Got> {
    let first = line(from)?;
    let first = String::from_utf8_lossy(&first).into_owned();
    let mut words = first.split(' ').map(str::to_owned);
    let mut got = Got {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        ..Got::default()
    };
    let mut length = 0;
    loop {
        let header = line(from)?;
        let Some(colon) = header.iter().position(|byte| *byte == b':') else {
            break;
        };
        let name = String::from_utf8_lossy(&header[..colon]).to_ascii_lowercase();
        let value = header[colon + 1..].trim_ascii().to_vec();
        if name == "content-length" {
            let text = String::from_utf8_lossy(&value);
            length = text.parse().map_err(io::Error::other)?;
        }
        got.headers.push((name, value));
    }
    from.take(length).read_to_end(&mut got.body)?;
    Ok(got)
}

fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    while line
        .last()
        .is_some_and(|byte| matches!(byte, b'\r' | b'\n'))
    {
        line.pop();
    }
    Ok(line)
}
