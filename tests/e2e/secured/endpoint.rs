//! A token's endpoint: for the secret of a client it issues a token in its name, unsigned.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use sluice_tests::harness::deployment::now;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The clients that it knows; the secret of each is `secret-of-` and its name.
const CLIENTS: [&str; 2] = ["oauth-ingest", "oauth-processor"];

/// Runs until the test binary ends.
pub struct Endpoint {
    url: String,
    issued: Arc<AtomicUsize>,
}

impl Endpoint {
    /// One whose tokens are good for so many seconds.
    pub fn start(lifetime: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("bound"));
        let issued = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&issued);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is its own trouble.
                if answer(stream, lifetime).is_ok_and(|issued| issued) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { url, issued }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many tokens it has issued.
    pub fn issued(&self) -> usize {
        self.issued.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, lifetime: i64) -> std::io::Result<bool> {
    let mut request = [0; 8192];
    let read = stream.read(&mut request)?;
    let request = String::from_utf8_lossy(&request[..read]).into_owned();
    let shown = |client: &&&str| {
        let credentials = encoded(format!("{client}:secret-of-{client}").as_bytes());
        request.contains(&format!("Basic {credentials}"))
    };
    let (status, body) = match CLIENTS.iter().find(shown) {
        None => ("401 Unauthorized", json!({"error": "invalid_client"})),
        Some(client) => {
            let claims = json!({"sub": client, "iat": now(), "exp": now() + lifetime});
            let token = format!(
                "{}.{}.",
                encoded(br#"{"alg":"none"}"#),
                encoded(claims.to_string().as_bytes())
            );
            (
                "200 OK",
                json!({"access_token": token, "expires_in": lifetime}),
            )
        }
    };
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    Ok(status.starts_with("200"))
}

/// Base64 for URLs, without padding. The credentials have neither of the letters that differ.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..=chunk.len() {
            let place = word >> (18 - 6 * n) & 63;
            text.push(ALPHABET[place as usize].into());
        }
    }
    text
}
