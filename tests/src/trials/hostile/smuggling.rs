//! Sends the corpus and judges what came back, and what stands on raw.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use sluice_tests::harness::topics::Record;
use sluice_tests::harness::wire::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

#[path = "../../../../ingest/tests/smuggling/corpus.rs"]
mod corpus;

use corpus::{Case, Expect, MORE, PINNED};

/// Cases at once.
const AT_ONCE: usize = 16;

/// How long the other side may say nothing before we take it that it has said all: longer than ingest
/// reads on after a refusal.
const QUIET: Duration = Duration::from_secs(3);

/// How long it may say nothing at all: longer than ingest waits for what is missing.
const SILENT: Duration = Duration::from_secs(14);

/// What came back for a case.
#[derive(Debug)]
pub struct Exchange {
    case: &'static Case,
    /// The status of each answer.
    statuses: Vec<u16>,
    /// What is wrong with it, in words.
    fault: Option<String>,
}

fn all() -> impl Iterator<Item = &'static Case> {
    PINNED.iter().chain(MORE)
}

fn outer(case: &str) -> String {
    format!("outer:{case}")
}

fn inner(case: &str) -> String {
    format!("inner:{case}")
}

/// Sends every case on a connection of its own.
pub async fn send(wire: &Wire, address: SocketAddr, path: &str) -> Result<Vec<Exchange>> {
    let mut open = JoinSet::new();
    let mut exchanges = Vec::new();
    for case in all() {
        if open.len() == AT_ONCE
            && let Some(done) = open.join_next().await
        {
            exchanges.push(done??);
        }
        let request = case.bytes(path, &outer(case.name), &inner(case.name));
        let wire = wire.clone();
        open.spawn(async move { exchange(&wire, address, case, &request).await });
    }
    while let Some(done) = open.join_next().await {
        exchanges.push(done??);
    }
    Ok(exchanges)
}

async fn exchange(
    wire: &Wire,
    address: SocketAddr,
    case: &'static Case,
    request: &[u8],
) -> Result<Exchange> {
    let mut stream = wire.connect(address).await?;
    // A server that closes early has answered before.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let mut closed = true;
    loop {
        let patience = if bytes.is_empty() { SILENT } else { QUIET };
        match timeout(patience, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(length)) => bytes.extend_from_slice(&buffer[..length]),
            Err(_) => {
                closed = false;
                break;
            }
        }
    }
    let (statuses, fault) = match statuses(&bytes, case.head.starts_with("HEAD")) {
        Ok(statuses) => {
            let fault = case.fault(&statuses, closed);
            (statuses, fault)
        }
        Err(error) => (
            Vec::new(),
            Some(format!("{}: what came is no answer: {error:#}", case.name)),
        ),
    };
    Ok(Exchange {
        case,
        statuses,
        fault,
    })
}

/// The statuses of the answers that these bytes are, one after the other, to the last byte. Interim
/// answers are passed over.
fn statuses(mut bytes: &[u8], to_head: bool) -> Result<Vec<u16>> {
    let mut statuses = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = answer.parse(bytes)? else {
            anyhow::bail!("a head that is cut off");
        };
        let status = answer.code.context("no status")?;
        let length = answer
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length: usize = match length {
            Some(length) if !to_head => std::str::from_utf8(length.value)?.parse()?,
            _ => 0,
        };
        bytes = bytes
            .get(head + length..)
            .context("a body that is cut off")?;
        if status >= 200 {
            statuses.push(status);
        }
    }
    Ok(statuses)
}

/// Faults of the answers alone.
pub fn faults_of_answers(exchanges: &[Exchange]) -> Vec<String> {
    let faults = exchanges.iter();
    faults
        .filter_map(|exchange| exchange.fault.clone())
        .collect()
}

/// Faults of the answers, and of the records: each 200 has its record, with the body as it was meant,
/// and nothing else of a case has one. `rounds` are all that was sent, to `path`.
pub fn faults(exchanges: &[Exchange], raw: &[Record], path: &str) -> Vec<String> {
    let mut found: HashMap<&[u8], usize> = HashMap::new();
    for record in raw {
        *found.entry(&record.value).or_default() += 1;
    }
    // Some bodies are those of several cases.
    let mut wanted: HashMap<String, usize> = HashMap::new();
    let mut faults = Vec::new();
    for exchange in exchanges {
        faults.extend(exchange.fault.clone());
        let name = exchange.case.name;
        let accepted = exchange.statuses.iter().filter(|s| **s == 200).count();
        // A body that should not have been accepted is a fault already.
        let taken = if exchange.fault.is_none() {
            accepted
        } else {
            0
        };
        let first = exchange.case.meant(path, &outer(name), &inner(name));
        let second = match exchange.case.expect {
            Expect::Twice => taken / 2,
            Expect::Refused | Expect::Closed(_) | Expect::Once | Expect::Either => 0,
        };
        *wanted.entry(first).or_default() += taken - second;
        *wanted.entry(inner(name)).or_default() += second;
    }
    for (body, wanted) in wanted {
        let found = found.get(body.as_bytes()).copied().unwrap_or(0);
        if found != wanted {
            faults.push(format!(
                "{found} records of {body:?}, and {wanted} are meant"
            ));
        }
    }
    faults
}

/// The statuses of a case, for the report: `400`, `200,200`, or `closed`.
pub fn label(exchange: &Exchange) -> String {
    let statuses: Vec<String> = exchange.statuses.iter().map(u16::to_string).collect();
    if statuses.is_empty() {
        return "none".into();
    }
    statuses.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(case: &Case, path: &str) -> Vec<u8> {
        case.bytes(path, &outer(case.name), &inner(case.name))
    }

    fn fault(expect: Expect, statuses: &[u16], closed: bool) -> Option<String> {
        let case = PINNED[0];
        Case { expect, ..case }.fault(statuses, closed)
    }

    #[test]
    fn cases_are_filled_in_and_have_names_of_their_own() {
        let names: std::collections::HashSet<_> = all().map(|case| case.name).collect();
        assert_eq!(names.len(), all().count());
        for case in all() {
            let bytes = bytes(case, "/v1/hooks/a/b");
            assert!(
                !bytes.contains(&b'{') && !bytes.contains(&b'?'),
                "{}",
                case.name
            );
        }
        let cl_te = all().find(|case| case.name == "cl-te");
        let text = bytes(cl_te.expect("the case"), "/p");
        let text = String::from_utf8(text).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
        assert!(body.ends_with("content-length: 11\r\n\r\ninner:cl-te"));
    }

    #[test]
    fn answers_are_counted_to_the_last_byte() {
        let one = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let two = [
            one.as_slice(),
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        ]
        .concat();
        assert_eq!(statuses(&two, false).expect("answers"), [200, 400]);
        assert!(statuses(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", false).is_err());
        assert!(statuses(b"<html>", false).is_err());
        assert!(fault(Expect::Refused, &[400], true).is_none());
        assert!(fault(Expect::Refused, &[400, 400], true).is_some());
        assert!(fault(Expect::Either, &[], false).is_some());
    }
}
