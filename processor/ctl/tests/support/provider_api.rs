//! The providers' APIs for tests: calls in, answers as they are documented out, or none at all, late or cut.

#![allow(dead_code, reason = "each test that has this file takes what it needs")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// The key that it knows.
pub const KEY: &str = "pk_live_0123456789";

/// One call as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub target: String,
    pub key: String,
    pub body: Value,
}

/// What is done in place of an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another answer: status, a header, body. The call is not carried out.
    Answer(u16, &'static str, String),
    /// The connection ends without an answer; whether the call is carried out.
    Cut(bool),
    /// It is carried out, and the connection ends in the middle of the answer.
    CutInBody,
    /// It is carried out, and the answer comes so late.
    Slow(Duration),
    /// An answer without an end.
    Endless,
}

/// What the provider has.
#[derive(Debug, Default)]
pub struct State {
    pub asked: Vec<Asked>,
    /// What the next calls get; `None`: an answer.
    pub faults: VecDeque<Option<Fault>>,
    /// The id of each subscription, by event, URL and waitlist.
    pub subscriptions: BTreeMap<[String; 3], String>,
    /// An answer 409 has the id.
    pub says_id: bool,
    next: u32,
}

/// A server on this host. It ends with the process.
#[derive(Debug, Clone)]
pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Self {
            url: format!("http://{address}"),
            state: Arc::default(),
        };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next calls get these.
    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut state = self.state();
        state.faults.extend(faults.into_iter().map(Some));
    }

    /// How many calls came so far.
    pub fn count(&self) -> usize {
        self.state().asked.len()
    }

    /// Reads one call and answers it. A client that goes away ends it.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let asked = read(&stream)?;
        let mut out = stream;
        let (fault, answer) = {
            let mut state = self.state();
            state.asked.push(asked.clone());
            let fault = state.faults.pop_front().flatten();
            let is_done = !matches!(
                fault,
                Some(Fault::Answer(..) | Fault::Cut(false) | Fault::Endless)
            );
            (fault, is_done.then(|| state.answer(&asked)))
        };
        let (status, body) = answer.unwrap_or((200, Value::Null));
        let body = body.to_string();
        match fault {
            None => send(&mut out, status, "x-none: 1", &body, body.len()),
            Some(Fault::Answer(status, header, body)) => {
                send(&mut out, status, header, &body, body.len())
            }
            Some(Fault::Cut(_)) => None,
            Some(Fault::CutInBody) => send(&mut out, status, "x-none: 1", "{\"", body.len() + 9),
            Some(Fault::Slow(late)) => {
                std::thread::sleep(late);
                send(&mut out, status, "x-none: 1", &body, body.len())
            }
            Some(Fault::Endless) => {
                send(&mut out, 200, "x-none: 1", "", usize::MAX >> 1)?;
                loop {
                    out.write_all(&[b' '; 4096]).ok()?;
                }
            }
        }
    }
}

impl State {
    /// The answer to a call, and what it does.
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if asked.key.trim_start_matches("Bearer ") != KEY {
            return (401, json!({"error": asked.key}));
        }
        let text = |name: &str| asked.body[name].as_str().unwrap_or_default().to_owned();
        let (path, _) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let gone = "/api/v1/webhooks/unsubscribe/";
        match (asked.method.as_str(), path) {
            ("POST", "/api/v1/webhooks/subscribe") => {
                let key = ["event_type", "target_url", "waitlist_id"].map(text);
                if let Some(id) = self.subscriptions.get(&key) {
                    let id = self.says_id.then(|| json!({"id": id}));
                    return (409, json!({"error": "there", "subscription": id}));
                }
                self.next += 1;
                let id = format!("sub_{}", self.next);
                self.subscriptions.insert(key, id.clone());
                let subscription = json!({
                    "id": id, "event_type": text("event_type"), "target_url": text("target_url"),
                    "is_active": true, "created_at": "2024-01-15T10:00:00Z",
                });
                (201, json!({"subscription": subscription}))
            }
            ("DELETE", path) if path.starts_with(gone) => {
                let id = &path[gone.len()..];
                let before = self.subscriptions.len();
                self.subscriptions.retain(|_, other| other != id);
                let is_gone = self.subscriptions.len() == before;
                (if is_gone { 404 } else { 200 }, json!({}))
            }
            ("POST", "/customers/identify") => (
                200,
                json!({"id": "customer_1", "email": text("email"), "name": text("name")}),
            ),
            ("GET", "/campaigns/live") => (200, json!({"id": "campaign_1", "name": "Spring"})),
            ("POST", "/referrals/validate-code") => {
                let is_valid = text("referralCode") == "JANE123";
                let by = is_valid.then(|| json!({"id": "customer_9", "name": "Jane Doe"}));
                (200, json!({"isValid": is_valid, "referredBy": by}))
            }
            ("POST", "/referrals") => (201, json!({"id": "referral_1"})),
            ("POST", "/checkpoints/ingest") => (200, json!({"ok": true})),
            ("POST", "/rewards/trigger") => (201, json!({"id": "reward_1"})),
            _ => (404, json!({"error": "no such call"})),
        }
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let (mut length, mut key) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => value.clone_into(&mut key),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        target,
        key,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn send(out: &mut TcpStream, status: u16, header: &str, body: &str, length: usize) -> Option<()> {
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{header}\r\n\
         connection: close\r\n\r\n{body}"
    );
    out.write_all(head.as_bytes()).ok()
}
