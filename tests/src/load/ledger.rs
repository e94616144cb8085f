//! The sender's ledger: what was meant to be sent, written before it is sent, and what was answered.
//!
//! A file of JSON lines. A line of intent stands there before the first byte of its attempt leaves, a
//! line of the answer after the last byte of it came: so the order of the lines is an order in which
//! things are known to have happened. If the line of A's acknowledgement stands before the line of
//! B's intent, A was acknowledged before B was sent.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sluice_schemas::audit::Digest;

use crate::expected::Expected;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// An attempt is about to be sent.
    Intent {
        /// The request's number; all attempts of a request have the same, and the same bytes.
        number: u64,
        /// Counted from 1.
        attempt: u32,
        /// The source in the URL.
        source: String,
        /// SHA-256 of the body, lower-case hex.
        sha256: String,
        /// What must become of it.
        expected: Expected,
        /// The process of ingest that is asked: its name, and which of its starts it is.
        process: String,
        /// Microseconds since 1970, by the sender's clock. It decides whether a copy may have grown old.
        at: u64,
    },
    /// It was answered with 200.
    Ack {
        /// The id in the answer.
        id: String,
        /// The request's number.
        number: u64,
        /// The attempt.
        attempt: u32,
    },
    /// It was answered otherwise.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The request's number.
        number: u64,
        /// The attempt.
        attempt: u32,
    },
    /// No answer came: what became of it is not known to the sender.
    Unanswered {
        /// The request's number.
        number: u64,
        /// The attempt.
        attempt: u32,
    },
}

/// A ledger that is being written. Shared by all senders; every line is handed to the system before
/// the call returns, so that the end of the harness loses none.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: Mutex<File>,
}

impl Ledger {
    /// Begins a ledger.
    pub fn create(path: &Path) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
        })
    }

    /// Adds a line.
    pub fn write(&self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text).context("the ledger")
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Microseconds since 1970.
pub fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

/// An attempt, as the ledger has it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The request's number.
    pub number: u64,
    /// The line of its intent, counted from 0.
    pub intent: usize,
    /// SHA-256 of the body.
    pub digest: Digest,
    /// What must become of it.
    pub expected: Expected,
    /// When it was sent, by the sender's clock, microseconds since 1970.
    pub at: u64,
    /// The process of ingest that was asked; the same number for the same process.
    pub process: u32,
    /// What came back.
    pub answer: Answer,
}

/// What came back for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200 with this id; the line has it.
    Acked {
        /// The id in the answer.
        id: String,
        /// The line, counted from 0.
        line: usize,
    },
    /// Another status.
    Refused(u16),
    /// Nothing.
    None,
}

/// A ledger that was read.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// All attempts, in the order of their intents.
    pub attempts: Vec<Attempt>,
}

impl Told {
    /// Reads a ledger. A last line that is cut off is passed over: its request was not sent.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut lines = Vec::new();
        for (n, text) in BufReader::new(file).lines().enumerate() {
            match serde_json::from_str(&text?) {
                Ok(line) => lines.push(line),
                Err(error) if error.is_eof() => break,
                Err(error) => bail!("{} line {}: {error}", path.display(), n + 1),
            }
        }
        Self::of(lines)
    }

    /// The same, of lines in memory.
    pub fn of(lines: impl IntoIterator<Item = Line>) -> Result<Self> {
        let mut told = Self::default();
        let mut open: HashMap<(u64, u32), usize> = HashMap::new();
        let mut processes: HashMap<String, u32> = HashMap::new();
        for (n, line) in lines.into_iter().enumerate() {
            let ((number, attempt), answer) = match line {
                Line::Intent {
                    number,
                    attempt,
                    sha256,
                    process,
                    expected,
                    at,
                    ..
                } => {
                    let next = u32::try_from(processes.len())?;
                    open.insert((number, attempt), told.attempts.len());
                    told.attempts.push(Attempt {
                        number,
                        intent: n,
                        digest: from_hex(&sha256).context("a digest that is none")?,
                        expected,
                        at,
                        process: *processes.entry(process).or_insert(next),
                        answer: Answer::None,
                    });
                    continue;
                }
                Line::Ack {
                    id,
                    number,
                    attempt,
                } => ((number, attempt), Answer::Acked { id, line: n }),
                Line::Refused {
                    status,
                    number,
                    attempt,
                } => ((number, attempt), Answer::Refused(status)),
                Line::Unanswered { number, attempt } => ((number, attempt), Answer::None),
            };
            let place = open.remove(&(number, attempt));
            let place = place.with_context(|| format!("an answer to {number} without intent"))?;
            told.attempts[place].answer = answer;
        }
        Ok(told)
    }

    /// Ids and digests of what was answered with 200.
    pub fn acked(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.attempts
            .iter()
            .filter_map(|attempt| match &attempt.answer {
                Answer::Acked { id, .. } => Some((id.as_str(), attempt.digest)),
                Answer::Refused(_) | Answer::None => None,
            })
    }

    /// Attempts whose answer is a status other than 200.
    pub fn refused(&self, status: u16) -> usize {
        let wanted = Answer::Refused(status);
        let same = |attempt: &&Attempt| attempt.answer == wanted;
        self.attempts.iter().filter(same).count()
    }

    /// Attempts that were not answered, as far as the sender knows.
    pub fn unanswered(&self) -> usize {
        let none = |attempt: &&Attempt| attempt.answer == Answer::None;
        self.attempts.iter().filter(none).count()
    }
}

fn from_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_schemas::audit::digest;

    fn intent(number: u64, attempt: u32) -> Line {
        Line::Intent {
            number,
            attempt,
            source: "s".into(),
            sha256: hex::encode(digest(b"body")),
            expected: Expected::Authentic,
            process: "ingest-0 #1".into(),
            at: now_micros(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_last_line_may_be_cut() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ledger");
        let ledger = Ledger::create(&path).expect("a ledger");
        let lines = [
            intent(1, 1),
            Line::Refused {
                status: 503,
                number: 1,
                attempt: 1,
            },
            intent(1, 2),
            Line::Ack {
                id: "a".into(),
                number: 1,
                attempt: 2,
            },
            intent(2, 1),
            Line::Unanswered {
                number: 2,
                attempt: 1,
            },
        ];
        for line in &lines {
            ledger.write(line).expect("a line");
        }
        let mut text = std::fs::read(&path).expect("the file");
        text.extend_from_slice(b"{\"line\":\"int");
        std::fs::write(&path, text).expect("the file");
        let told = Told::read(&path).expect("a ledger");
        assert_eq!(told.attempts.len(), 3);
        assert_eq!(told.acked().collect::<Vec<_>>(), [("a", digest(b"body"))]);
        assert_eq!((told.refused(503), told.unanswered()), (1, 1));
        assert_eq!(told.attempts[1].intent, 2);
    }

    #[test]
    fn an_answer_without_an_intent_is_no_ledger() {
        let line = Line::Unanswered {
            number: 2,
            attempt: 1,
        };
        assert!(Told::of([line]).is_err());
        assert!(from_hex("zz").is_none());
    }
}
