//! `sluicectl explain`: what the processor makes of one request, and why.
//!
//! Comes in: a raw record as `show` writes it, a capture of a request, or a request's id. Goes out: its fate
//! under the settings and secrets of now, the step at which it ends, and a cause of a closed list.

use std::io::Read;
use std::path::{Path, PathBuf};

use sluice_schemas::raw::RawRequest;
use sluice_schemas::record::Record;
use sluice_schemas::timestamp;

use crate::failure::Failure;
use crate::help::layout;
use crate::judging::Judging;
use crate::output;
use crate::records::window::{Moment, Window, moment, now};
use crate::records::{self, raw_file};

mod cause;

mod case;

mod guess;

mod search;

mod last;

mod seen;

mod time;

mod diagnose;

mod capture;

mod curl;

mod stored;

mod steps;

mod verdict;

#[cfg(test)]
mod tests;

use steps::State;
use verdict::{Given, Verdict};

const LAYOUT: &str = layout!(
    "The processor's own judging under the settings and secrets of now; nothing is written. Where a request
is refused, its cause is looked for: bodies, headers, secrets, URLs and options are changed as proxies
and people change them, until the signature fits. What is found so is proved; else the likeliest cause
is named as such. No body, no secret and no value of a header is printed.

FILE is what `sluicectl show --raw PARTITION OFFSET --show-bodies` writes, or a request as text: request
line, headers, an empty line, the body; - is standard input.",
    "ARGUMENTS"
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl show --raw 3 1042 --show-bodies > record.json
  $ sluicectl explain record.json
  $ sluicectl explain 019ab1c2-6f7e-7d60-9d9f-6f3f6f0c2a11 --secret-file copied-again
  $ sluicectl explain capture.txt --source codes --received-at 2026-01-31T08:00:00Z
  $ sluicectl explain record.json --json | jq .cause

EXIT STATUS
  0   It becomes an event, or repeats one
  1   It is refused, or no such request was found
  2   The command line cannot be carried out
  75  The brokers are away, try again
  78  The settings or the secrets are at fault";

/// The options of `sluicectl explain`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Say what becomes of one request, and why",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    /// The file, - for standard input, or the request's id that ingest answered
    #[arg(value_name = "FILE|ID")]
    subject: String,
    /// A secret to try as well, in a file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Of a capture: the source; the one of its path where it is not given
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Of a capture: when it was received, RFC 3339 or seconds since 1970
    #[arg(long, value_name = "TIME")]
    received_at: Option<String>,
    /// Of an id: from here on; the time in the id where it is not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Says what becomes of the request; whether that is an event.
pub fn run(file: &Path, options: &Options) -> Result<bool, Failure> {
    let settings = records::settings(file)?;
    let judging = Judging::new(settings)?;
    let secret = options.secret_file.as_deref().map(secret).transpose()?;
    let verdict = match content(&options.subject)? {
        Some(content) => of_file(&judging, options, &content, secret)?,
        None => of_id(&judging, options, secret)?,
    };
    print(&verdict, options.json);
    Ok(verdict.is_good())
}

/// The secret to try, without its last line end.
fn secret(file: &Path) -> Result<Vec<u8>, Failure> {
    let fault = |why: String| Failure::Usage(format!("--secret-file: {why}"));
    let dir = file.parent().unwrap_or(Path::new(""));
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| fault("names no file".to_owned()))?;
    sluice_service::secrets::read_secret(dir, name).map_err(fault)
}

/// The largest file, in bytes: a body in base64 with its headers.
const LARGEST: u64 = 256 << 20;

/// The content of the file; `None` where the text is an id.
fn content(subject: &str) -> Result<Option<Vec<u8>>, Failure> {
    let mut content = Vec::new();
    let read = if subject == "-" {
        std::io::stdin()
            .lock()
            .take(LARGEST)
            .read_to_end(&mut content)
    } else if !Path::new(subject).exists() && subject.trim().parse::<uuid::Uuid>().is_ok() {
        return Ok(None);
    } else {
        std::fs::File::open(subject).and_then(|file| file.take(LARGEST).read_to_end(&mut content))
    };
    read.map_err(|error| {
        let shown = output::plain(subject);
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        let hint = if is_missing && !subject.contains(['/', '.', ' ']) {
            format!("; of another id `sluicectl find {shown}` prints the request's")
        } else {
            String::new()
        };
        Failure::Usage(format!(
            "{shown} is no id of a request, and as a file it cannot be read: {error}{hint}"
        ))
    })?;
    Ok(Some(content))
}

fn of_file(
    judging: &Judging,
    options: &Options,
    content: &[u8],
    secret: Option<Vec<u8>>,
) -> Result<Verdict, Failure> {
    let given = Given {
        secret,
        ..Given::default()
    };
    let nothing = |_: &str, _: &str, _: i64| Ok(None);
    if content.trim_ascii_start().starts_with(b"{") {
        if options.source.is_some() || options.received_at.is_some() {
            return Err(Failure::Usage(
                "--source and --received-at are for captures; a raw record says both".to_owned(),
            ));
        }
        let record = raw_file::parse(content).map_err(Failure::Usage)?;
        return verdict::verdict(judging, &record, &given, &nothing);
    }
    let capture = capture::parse(content).map_err(Failure::Usage)?;
    let settings = judging.settings();
    let source = capture
        .source(settings, options.source.as_deref())
        .map_err(Failure::Usage)?;
    let received = received(options, &capture)?;
    let taken = capture.taken(source);
    let guarded = *taken.as_ref().unwrap_or(&false);
    let record = capture.record(settings, source, received, guarded);
    if let Err(refused) = taken {
        let request = request(&record)?;
        return Ok(Verdict::not_taken(
            &request,
            refused.status,
            &refused.finding,
        ));
    }
    let given = Given {
        path: Some(capture.target.clone()),
        is_capture: true,
        ..given
    };
    verdict::verdict(judging, &record, &given, &nothing)
}

fn request(record: &Record) -> Result<RawRequest, Failure> {
    let value = record
        .header(sluice_schemas::raw::REQUEST)
        .unwrap_or_default();
    RawRequest::decode(value).map_err(|error| Failure::Failed(error.to_string()))
}

/// When a capture was received, microseconds since 1970.
fn received(options: &Options, capture: &capture::Capture) -> Result<i64, Failure> {
    let Some(text) = &options.received_at else {
        return capture.received_at.ok_or_else(|| {
            Failure::Usage(
                "a capture needs --received-at TIME, when it came: its age is judged by it"
                    .to_owned(),
            )
        });
    };
    let millis = timestamp::read(text).and_then(|millis| millis.checked_mul(1000));
    millis.ok_or_else(|| {
        Failure::Usage(
            "--received-at must be a time with its offset, such as 2026-01-31T08:00:00Z, or seconds since 1970"
                .to_owned(),
        )
    })
}

fn of_id(
    judging: &Judging,
    options: &Options,
    secret: Option<Vec<u8>>,
) -> Result<Verdict, Failure> {
    if options.source.is_some() || options.received_at.is_some() {
        return Err(Failure::Usage(
            "--source and --received-at are for captures; the record of an id says both".to_owned(),
        ));
    }
    let (id, settings) = (options.subject.trim(), judging.settings());
    let window = match options.since {
        Some(since) => Window::new(since, None, now())?,
        None => Window {
            since: since(id),
            until: None,
        },
    };
    let stored = stored::request(settings, id, window)?;
    let given = Given {
        secret,
        had: stored.had,
        is_stored: true,
        ..Given::default()
    };
    let look = |topic: &str, id: &str, since: i64| stored::event(settings, topic, id, since);
    verdict::verdict(judging, &stored.record, &given, &look)
}

/// Shortly before the time in an id of version 7; a day ago for another.
fn since(id: &str) -> i64 {
    let id = id
        .parse::<uuid::Uuid>()
        .ok()
        .filter(|id| id.get_version_num() == 7);
    let millis = id.and_then(|id| i64::try_from(id.as_u128() >> 80).ok());
    millis.map_or(now() - 86_400_000, |millis| millis - 60_000)
}

fn print(verdict: &Verdict, json: bool) {
    if json {
        output::line(&serde_json::json!(verdict).to_string());
        return;
    }
    let add = |name: &str, text: Option<&str>| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            output::line(&output::plain(&format!("{name:<12}{text}")));
        }
    };
    let reason = verdict
        .reason
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    add("fate", Some(&format!("{}{reason}", verdict.fate)));
    add("why", verdict.detail.as_deref());
    let sure = if verdict.proved == Some(true) {
        ""
    } else {
        " (likely, not proved)"
    };
    add(
        "cause",
        verdict
            .cause
            .map(|cause| format!("{cause}{sure}"))
            .as_deref(),
    );
    add("", verdict.says.as_deref());
    add("mend", verdict.mend);
    add("source", verdict.source.as_deref());
    add("request", verdict.request_id.as_deref());
    add("received", verdict.received_at.as_deref());
    add("event", verdict.event.as_deref());
    add("had", verdict.recorded_fate);
    for step in &verdict.steps {
        let state = match step.state {
            State::Ok => "ok",
            State::Fail => "FAIL",
            State::Skip => "skip",
        };
        output::line(&output::plain(&format!(
            "  {state:<6}{:<18}{}",
            step.name, step.says
        )));
        for tried in step.secrets.iter().flatten() {
            let fits = if tried.matches {
                "fits"
            } else {
                "does not fit"
            };
            output::line(&output::plain(&format!(
                "        secret {} {fits}",
                tried.key_id
            )));
        }
    }
}
