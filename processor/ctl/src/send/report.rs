//! What is printed of each request.

use serde::Serialize;
use uuid::Uuid;

use super::post::Answer;
use super::request::{Expected, Kind, Request};
use super::target::Target;
use super::wait::Found;
use crate::failure::Failure;
use crate::output;
use sluice_schemas::reason::Reason;

/// A request that was sent.
#[derive(Debug)]
pub struct Sent {
    source: String,
    kind: Kind,
    event: String,
    expected: Expected,
    answer: Answer,
}

impl Sent {
    /// A request with its answer.
    pub fn new(target: &Target<'_>, request: Request, answer: Answer) -> Self {
        Self {
            source: target.source.name.clone(),
            kind: request.kind,
            event: request.event,
            expected: request.expected,
            answer,
        }
    }

    /// The id that ingest gave it, where it took it.
    pub fn id(&self) -> Option<Uuid> {
        match self.answer {
            Answer::Accepted(id) => Some(id),
            Answer::Refused(..) | Answer::Failed(_) | Answer::Away(_) => None,
        }
    }
}

/// The line of JSON of a request.
#[derive(Debug, Serialize)]
struct Line<'a> {
    ok: bool,
    source: &'a str,
    event: &'a str,
    kind: &'static str,
    request_id: Option<Uuid>,
    status: Option<u16>,
    error: Option<String>,
    expected: &'static str,
    fate: Option<&'static str>,
    reason: Option<&'a str>,
    detail: Option<&'a str>,
    topic: Option<&'a str>,
    partition: Option<i32>,
    offset: Option<i64>,
}

/// All requests, written as what became of each is known.
#[derive(Debug)]
pub struct Report {
    json: bool,
    holds: bool,
    waits: bool,
    /// Whether ingest was away, and nothing else was the matter.
    is_away: Option<bool>,
}

impl Report {
    /// A report in lines or in JSON; `waits`: with the fate of each.
    pub fn new(json: bool, waits: bool) -> Self {
        Self {
            json,
            holds: true,
            waits,
            is_away: None,
        }
    }

    /// Writes a request and what became of it to standard output.
    pub fn add(&mut self, sent: &Sent, found: Option<&Found>) {
        let line = self.line(sent, found);
        self.holds &= line.ok;
        if !line.ok {
            let is_away = matches!(sent.answer, Answer::Away(_));
            self.is_away = Some(is_away && self.is_away.unwrap_or(true));
        }
        if self.json {
            output::line(&serde_json::json!(line).to_string());
        } else {
            output::line(&line.text());
        }
    }

    /// Whether each was as it must be. Where ingest was away for those that were not, they may be later.
    pub fn end(&self, at: &str) -> Result<bool, Failure> {
        if self.is_away == Some(true) {
            return Err(Failure::TryAgain(format!("ingest is not there: {at}")));
        }
        Ok(self.holds)
    }

    fn line<'a>(&self, sent: &'a Sent, found: Option<&'a Found>) -> Line<'a> {
        let id = sent.id();
        let as_expected = match (self.waits, found) {
            (false, _) => true,
            (true, found) => found.is_some_and(|found| is(found, sent.expected)),
        };
        let (status, error) = match &sent.answer {
            Answer::Accepted(_) if as_expected => (Some(200), None),
            Answer::Accepted(_) => (Some(200), Some(unexpected(sent, found))),
            Answer::Refused(status, meaning) => (Some(*status), Some((*meaning).to_owned())),
            Answer::Failed(reason) | Answer::Away(reason) => (None, Some(reason.clone())),
        };
        let filled = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        Line {
            ok: id.is_some() && as_expected,
            source: &sent.source,
            event: &sent.event,
            kind: sent.kind.name(),
            request_id: id,
            status,
            error,
            expected: sent.expected.fate.name(),
            fate: found.map(|found| found.fate.name()),
            reason: found.and_then(|found| filled(&found.reason)),
            detail: found.and_then(|found| filled(&found.detail)),
            topic: found.map(|found| found.topic.as_str()),
            partition: found.map(|found| found.partition),
            offset: found.map(|found| found.offset),
        }
    }
}

/// Whether a fate is the expected one, for the expected reason.
fn is(found: &Found, expected: Expected) -> bool {
    let has = |reason: Reason| found.reason == reason.name();
    found.fate == expected.fate && expected.reason.is_none_or(has)
}

fn unexpected(sent: &Sent, found: Option<&Found>) -> String {
    let Expected { fate, reason } = sent.expected;
    let because = reason.map_or_else(String::new, |reason| {
        format!(" because of {}", reason.name())
    });
    match found {
        Some(found) => format!("its fate is {}, and must be {fate}{because}", found.fate),
        None => "no fate in time: is the processor running, and how far behind is it \
                 (sluice_raw_lag_records)?"
            .to_owned(),
    }
}

impl Line<'_> {
    fn text(&self) -> String {
        let state = if self.ok { "ok" } else { "FAIL" };
        let kind = match self.kind {
            "good" => String::new(),
            kind => format!(" ({kind})"),
        };
        let place = match (self.fate, self.topic, self.partition, self.offset) {
            (Some(fate), Some(topic), Some(partition), Some(offset)) => {
                Some(format!("{fate} on {topic}/{partition}/{offset}"))
            }
            _ => None,
        };
        let reason = self.reason.map(|reason| match self.detail {
            Some(detail) => format!("{reason} ({detail})"),
            None => reason.to_owned(),
        });
        let status = self.status.filter(|status| *status != 200);
        let parts = [
            Some(format!("{state:<4}")),
            Some(format!("{} {}{kind}", self.source, self.event)),
            self.request_id.map(|id| id.to_string()),
            place,
            reason,
            status.map(|status| format!("answered {status}")),
            self.error.clone(),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join("  ")
    }
}

#[cfg(test)]
mod tests {
    use sluice_schemas::fate::Fate;

    use super::*;

    fn sent(kind: Kind, fate: Fate, answer: Answer) -> Sent {
        let reason = (kind == Kind::Forged).then_some(Reason::SignatureMismatch);
        let expected = Expected { fate, reason };
        Sent {
            source: "codes".to_owned(),
            kind,
            event: "scan.created".to_owned(),
            expected,
            answer,
        }
    }

    fn found(fate: Fate) -> Found {
        let reason = if fate == Fate::Event {
            ""
        } else {
            "signature_mismatch"
        };
        Found {
            fate,
            reason: reason.to_owned(),
            detail: reason.replace('_', " "),
            topic: "t".to_owned(),
            partition: 2,
            offset: 7,
        }
    }

    const ID: Uuid = Uuid::nil();

    fn accepted(kind: Kind, fate: Fate) -> Sent {
        sent(kind, fate, Answer::Accepted(ID))
    }

    /// Whether fates are waited for, what was sent and found, and the line.
    fn rows() -> Vec<(bool, Sent, Option<Found>, String)> {
        let good = || accepted(Kind::Good, Fate::Event);
        let answered = |answer| sent(Kind::Good, Fate::Event, answer);
        let mismatch = "signature_mismatch (signature mismatch)";
        vec![
            (
                false,
                good(),
                None,
                format!("ok    codes scan.created  {ID}"),
            ),
            (
                true,
                good(),
                Some(found(Fate::Event)),
                format!("ok    codes scan.created  {ID}  event on t/2/7"),
            ),
            (
                true,
                good(),
                Some(found(Fate::Rejected)),
                format!(
                    "FAIL  codes scan.created  {ID}  rejected on t/2/7  {mismatch}  its fate is rejected, and \
                     must be event"
                ),
            ),
            (
                true,
                accepted(Kind::Forged, Fate::Rejected),
                Some(found(Fate::Rejected)),
                format!("ok    codes scan.created (forged)  {ID}  rejected on t/2/7  {mismatch}"),
            ),
            (
                false,
                answered(Answer::Refused(404, "no such source")),
                None,
                "FAIL  codes scan.created  answered 404  no such source".to_owned(),
            ),
            (
                false,
                answered(Answer::Failed("refused".to_owned())),
                None,
                "FAIL  codes scan.created  refused".to_owned(),
            ),
        ]
    }

    #[test]
    fn a_request_is_as_it_must_be_or_the_line_says_why_not() {
        for (waits, sent, found, text) in rows() {
            let report = Report::new(false, waits);
            let line = report.line(&sent, found.as_ref());
            assert_eq!(line.ok, text.starts_with("ok"));
            assert_eq!(line.text(), text);
        }
    }

    #[test]
    fn ingest_that_is_away_is_worth_another_try_where_nothing_else_is_the_matter() {
        let away = || sent(Kind::Good, Fate::Event, Answer::Away("refused".to_owned()));
        let mut report = Report::new(true, false);
        assert!(report.end("http://h").expect("nothing was sent"));
        report.add(&away(), None);
        report.add(&accepted(Kind::Good, Fate::Event), None);
        assert!(matches!(report.end("http://h"), Err(Failure::TryAgain(_))));
        let refused = Answer::Refused(404, "no such source");
        report.add(&sent(Kind::Good, Fate::Event, refused), None);
        report.add(&away(), None);
        assert!(!report.end("http://h").expect("a verdict"));
    }

    #[test]
    fn a_request_is_one_object_and_one_without_a_fate_in_time_fails() {
        let report = Report::new(true, true);
        let (sent, event) = (accepted(Kind::Good, Fate::Event), found(Fate::Event));
        let lost = report.line(&sent, None);
        assert!(!lost.ok && lost.text().contains("no fate in time"));
        assert_eq!(
            serde_json::json!(report.line(&sent, Some(&event))).to_string(),
            r#"{"detail":null,"error":null,"event":"scan.created","expected":"event","fate":"event","kind":"good","offset":7,"ok":true,"partition":2,"reason":null,"request_id":"00000000-0000-0000-0000-000000000000","source":"codes","status":200,"topic":"t"}"#
        );
    }
}
