//! The tools of others: what they are asked, and what is read from what they print.
//!
//! Each runs at the lowest priority, as if it were on another machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sluice_tests::harness::child::{Child, tail};
use sluice_tests::harness::cluster::cache;

/// Where `make hostile-tools` puts Debian's, with the libraries that they need.
fn debian() -> PathBuf {
    cache().join("hostile")
}

/// The modes of slowhttptest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    Headers,
    Body,
    Read,
}

/// How slowhttptest says that the server has ended every connection.
const ALL_ENDED: &str = "No open connections left";

/// What a tool found.
pub struct Found {
    /// In words, for the report.
    pub words: String,
    /// What is wrong.
    pub faults: Vec<String>,
}

/// The test that a port fails which speaks HTTP/1.1 too: what does not begin like HTTP/2 is HTTP/1.1 there,
/// and is answered by its rules.
const NO_PREFACE: &str = "Sends invalid connection preface";

/// So many failures of the conformance tests are named.
const NAMED: usize = 12;

/// A tool's target.
pub struct Target<'a> {
    pub address: SocketAddr,
    pub tls: bool,
    /// A source's path.
    pub path: &'a str,
    /// Where outputs go.
    pub dir: &'a Path,
}

impl Target<'_> {
    fn url(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }
}

/// Opens connections that are as slow as can be. With [`Slow::Headers`] and [`Slow::Body`] the server
/// must have ended each before `seconds` are over.
pub fn slow(target: &Target<'_>, mode: Slow, connections: usize, seconds: u64) -> Result<Found> {
    let (mode_flag, flags): (&str, &[&str]) = match mode {
        Slow::Headers => ("-H", &["-i", "2"]),
        Slow::Body => ("-B", &["-i", "2", "-s", "8192"]),
        // A window of a few bytes, and a few bytes now and then.
        Slow::Read => (
            "-X",
            &["-w", "1", "-y", "8", "-n", "2", "-z", "8", "-k", "4"],
        ),
    };
    let (connections_text, seconds_text) = (connections.to_string(), seconds.to_string());
    let rate = (connections / 3).max(50).to_string();
    let url = target.url(target.path);
    let mut arguments = vec![mode_flag, "-u", &url, "-c", &connections_text];
    arguments.extend(["-r", &rate, "-l", &seconds_text, "-p", "3", "-x", "8"]);
    arguments.extend(flags);
    let output = run(target, "slowhttptest", &arguments, seconds + 20)?;
    // It asks from the attackers' address, whose bound may be used up: good traffic shows the rest.
    let unavailable = output
        .lines()
        .filter(|line| line.contains("service available") && line.contains("NO"))
        .count();
    let end = output
        .lines()
        .rev()
        .find_map(|line| line.split_once("Exit status:"));
    let end = end.map_or("", |(_, end)| end.trim());
    let errors = last_number(&output, "error:").unwrap_or(0);
    let words = format!("{end}; {errors} errors; {unavailable} times away to its own address");
    let mut faults = Vec::new();
    if end.is_empty() {
        faults.push(format!("slowhttptest printed nothing: {}", end_of(&output)));
    }
    // Slow readers are given what they asked for; those who take none of it are tried elsewhere.
    if mode != Slow::Read && end != ALL_ENDED {
        faults.push(format!("the server did not end all connections: {end}"));
    }
    Ok(Found { words, faults })
}

/// Many streams of requests for a source that is none.
pub fn h2load(target: &Target<'_>, seconds: u64) -> Result<Found> {
    let url = target.url("/v1/hooks/none/x");
    let body = target.dir.join("h2load.body");
    std::fs::write(&body, vec![b'x'; 1024])?;
    let body = body.display().to_string();
    let duration = seconds.to_string();
    let mut arguments = vec!["-c", "32", "-m", "32", "-D", &duration, "-d", &body];
    if !target.tls {
        arguments.extend(["-p", "h2c"]);
    }
    arguments.push(&url);
    let output = run(target, "h2load", &arguments, seconds + 20)?;
    let line = |start: &str| {
        let line = output.lines().find(|line| line.starts_with(start));
        line.unwrap_or_default().to_owned()
    };
    let (requests, codes) = (line("requests:"), line("status codes:"));
    let answered = number_before(&codes, "4xx").unwrap_or(0);
    let mut faults = Vec::new();
    if answered == 0 {
        faults.push(format!("nothing was answered: {requests}; {codes}"));
    }
    Ok(Found {
        words: format!("{requests}; {codes}"),
        faults,
    })
}

/// The conformance tests for HTTP/2.
pub fn h2spec(target: &Target<'_>, seconds: u64) -> Result<Found> {
    let program = cache().join("bin/h2spec");
    let (host, port) = (target.address.ip(), target.address.port());
    let (host, port) = (host.to_string(), port.to_string());
    let mut arguments = vec![
        "-h",
        &host,
        "-p",
        &port,
        "-P",
        "/v1/hooks/none/x",
        "-o",
        "2",
    ];
    if target.tls {
        arguments.extend(["-t", "-k"]);
    }
    let output = run_program(target, &program, &arguments, "h2spec", seconds)?;
    let summary = output
        .lines()
        .rev()
        .find(|line| line.contains("tests,") && line.contains("failed"));
    let Some(summary) = summary else {
        bail!("h2spec printed nothing: {}", end_of(&output));
    };
    let failed = number_before(summary, "failed").unwrap_or(u64::MAX);
    // Each is printed with a cross before it, and once more at the end, where its section stands too.
    let crosses = output.lines().filter_map(|line| line.rsplit_once('×'));
    let mut named: Vec<&str> = crosses.map(|(_, name)| name.trim()).collect();
    named.truncate(usize::try_from(failed).unwrap_or(usize::MAX));
    if !target.tls {
        named.retain(|name| !name.ends_with(NO_PREFACE));
    }
    let mut faults = Vec::new();
    if !named.is_empty() || failed == u64::MAX {
        let first = &named[..named.len().min(NAMED)];
        faults.push(format!("{} failed: {}", named.len(), first.join("; ")));
    }
    Ok(Found {
        words: summary.trim().to_owned(),
        faults,
    })
}

fn run(target: &Target<'_>, tool: &str, arguments: &[&str], seconds: u64) -> Result<String> {
    let program = debian().join("bin").join(tool);
    run_program(target, &program, arguments, tool, seconds)
}

/// Runs a program to its end and gives what it printed, without colours. How it ended is not asked: the
/// tools print as text.
fn run_program(
    target: &Target<'_>,
    program: &Path,
    arguments: &[&str],
    name: &str,
    seconds: u64,
) -> Result<String> {
    if !program.is_file() {
        bail!("{} is missing: make hostile-tools", program.display());
    }
    let log = target.dir.join(format!("{name}-{}.log", arguments[0]));
    let libraries = format!("LD_LIBRARY_PATH={}", debian().join("lib").display());
    let mut all: Vec<String> = ["-n", "19", "env", &libraries].map(str::to_owned).into();
    all.push(program.display().to_string());
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let mut child = Child::start(name, Path::new("nice"), &all, &log)?;
    child
        .wait(Duration::from_secs(seconds))
        .with_context(|| tail(&log))?;
    let printed = std::fs::read(&log)?;
    Ok(plain(&String::from_utf8_lossy(&printed)))
}

/// Text without the terminal's colours and positions.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

/// The number behind a word where it stands last.
fn last_number(text: &str, word: &str) -> Option<u64> {
    let (_, after) = text.rsplit_once(word)?;
    after.split_ascii_whitespace().next()?.parse().ok()
}

/// The number before a word.
fn number_before(text: &str, word: &str) -> Option<u64> {
    let (before, _) = text.split_once(word)?;
    before.split_ascii_whitespace().next_back()?.parse().ok()
}

fn end_of(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_what_the_tools_print() {
        let text = plain("\u{1b}[1;32mclosed:   \u{1b}[0m 7\n\u{1b}[2Jclosed: 12\n");
        assert_eq!(last_number(&text, "closed:"), Some(12));
        let summary = "146 tests, 145 passed, 0 skipped, 1 failed";
        assert_eq!(number_before(summary, "failed"), Some(1));
        assert_eq!(number_before(summary, "none"), None);
    }
}
