//! The answer: what becomes of a record today, why, and what brought that about.

use serde::Serialize;
use sluice_processor::pipeline::Disposition;
use sluice_processor::pipeline::outgoing::{FateTopics, outgoing};
use sluice_schemas::fate::{Fate, REDRIVE_COUNT};
use sluice_schemas::identity::event_id;
use sluice_schemas::raw::{REQUEST, RawRequest};
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::record::Record;

use super::case::Case;
use super::cause::{Cause, Finding};
use super::diagnose::diagnose;
use super::steps::{Step, Way, failing};
use super::stored::Had;
use crate::failure::Failure;
use crate::judging::{Judging, alone, judged};
use crate::output::plain;
use crate::records::view::{Place, View};
use crate::records::window::shown;

/// What is judged, and what is known of it apart from its bytes.
#[derive(Default)]
pub struct Given {
    /// The content of `--secret-file`.
    pub secret: Option<Vec<u8>>,
    /// The path of a capture; the broker's time is not known then.
    pub path: Option<String>,
    pub is_capture: bool,
    /// The fate that the topics have of it.
    pub had: Option<Had>,
    pub is_stored: bool,
}

/// The answer, as it is printed.
#[derive(Debug, Serialize)]
pub struct Verdict {
    pub fate: &'static str,
    pub reason: Option<&'static str>,
    pub detail: Option<String>,
    pub cause: Option<&'static str>,
    pub proved: Option<bool>,
    pub says: Option<String>,
    pub mend: Option<&'static str>,
    pub source: Option<String>,
    pub provider: Option<String>,
    pub request_id: Option<String>,
    pub received_at: Option<String>,
    pub event: Option<String>,
    pub topic: Option<String>,
    pub recorded_fate: Option<&'static str>,
    pub recorded_reason: Option<String>,
    pub steps: Vec<Step>,
}

/// Looks for an event by topic, id and the time from which on.
pub type Look<'l> = &'l dyn Fn(&str, &str, i64) -> Result<Option<View>, Failure>;

impl Verdict {
    /// Whether it is an event or repeats one.
    pub fn is_good(&self) -> bool {
        self.fate == Fate::Event.name() || self.fate == Fate::Duplicate.name()
    }

    fn empty(request: Option<&RawRequest>, given: &Given) -> Self {
        let received = request.map(|request| shown(request.received_at.div_euclid(1000)));
        let has_id = request.filter(|request| !request.id.is_nil());
        Self {
            fate: "",
            reason: None,
            detail: None,
            cause: None,
            proved: None,
            says: None,
            mend: None,
            source: request.map(|request| request.source.clone()),
            provider: request.map(|request| request.provider.clone()),
            request_id: has_id.map(|request| request.id.to_string()),
            received_at: received,
            event: None,
            topic: None,
            recorded_fate: given.had.as_ref().map(|had| had.fate),
            recorded_reason: given.had.as_ref().and_then(|had| had.reason.clone()),
            steps: Vec::new(),
        }
    }

    fn because(mut self, finding: &Finding) -> Self {
        self.cause = Some(finding.cause.name());
        self.proved = Some(finding.proved);
        self.mend = Some(finding.cause.mend());
        self.says = Some(plain(&finding.says));
        self
    }

    /// Of a capture that ingest would not take.
    pub fn not_taken(request: &RawRequest, status: u16, finding: &Finding) -> Self {
        let mut verdict = Self::empty(Some(request), &Given::default());
        verdict.fate = "not_taken";
        verdict.detail = Some(format!("ingest answers {status}, and nothing is written"));
        verdict.because(finding)
    }
}

/// Judges a record.
pub fn verdict(
    judging: &Judging,
    record: &Record,
    given: &Given,
    look: Look<'_>,
) -> Result<Verdict, Failure> {
    let processors = judged(record.clone());
    let rules = judging.rules();
    let disposition = alone(&processors, &rules)
        .map_err(|error| Failure::Failed(format!("{error}: use the sluicectl of that release")))?;
    let request = record
        .header(REQUEST)
        .and_then(|value| RawRequest::decode(value).ok());
    let source = request
        .as_ref()
        .and_then(|request| judging.settings().sources.get(&request.source));
    let case = request.clone().zip(source).map(|(request, source)| {
        let all = rules.credentials.clone();
        let body = record.value.clone();
        let mut case = Case::new(judging.settings(), source, all, request, body);
        case.given.clone_from(&given.secret);
        case.path.clone_from(&given.path);
        case.appended = (!given.is_capture).then_some(record.timestamp);
        case
    });
    let mut verdict = Verdict::empty(request.as_ref(), given);
    let mut way = Way {
        record,
        request: request.as_ref(),
        case: case.as_ref(),
        fails: None,
        dedup: "as the first of its identity".to_owned(),
        topic: None,
    };
    match disposition {
        Disposition::Refused { refusal, .. } => {
            verdict.fate = refusal.reason.fate().name();
            verdict.reason = Some(refusal.reason.name());
            verdict.detail = Some(refusal.detail.clone());
            way.fails = Some((failing(refusal.reason), refusal.detail.clone()));
            let finding = match &case {
                Some(case) if refusal.reason != Reason::UnknownSource => diagnose(case, &refusal),
                _ => without_source(judging, request.as_ref(), record, &refusal),
            };
            verdict = verdict.because(&finding);
        }
        other => {
            verdict.fate = Fate::Event.name();
            let topics = FateTopics::new(&judging.settings().topics.names);
            let out = outgoing(other, &processors, &topics);
            verdict.topic = Some(out.topic.to_owned());
            way.topic = Some(out.topic.to_owned());
            verdict.event = out.entry.map(|entry| event_id(&entry.identity).to_string());
            let stored = case.as_ref().filter(|_| given.is_stored);
            if let Some((case, id)) = stored.zip(verdict.event.clone()) {
                let there = look(out.topic, &id, from(case))?;
                repeats(&mut verdict, &mut way, given, there.as_ref());
            }
        }
    }
    verdict.steps = way.steps();
    Ok(verdict)
}

/// From when on an event is looked for that the record may repeat: the source's window before its receipt.
fn from(case: &Case<'_>) -> i64 {
    let window = i64::try_from(case.source.dedup_window.as_millis()).unwrap_or(i64::MAX / 2);
    case.request.received_at.div_euclid(1000) - window
}

/// Whether the topics hold an event of this identity that is not the record's own.
fn repeats(verdict: &mut Verdict, way: &mut Way<'_>, given: &Given, there: Option<&View>) {
    let own = Place {
        partition: i64::from(way.record.partition),
        offset: way.record.offset,
    };
    let at = |view: &View| format!("{}/{}/{}", view.topic, view.partition, view.offset);
    let other = there.filter(|view| view.raw != Some(own));
    let had = given
        .had
        .as_ref()
        .filter(|had| had.fate == Fate::Duplicate.name());
    let of = match (other, had) {
        (Some(view), _) => format!(
            "the event {} stands at {}",
            view.event.clone().unwrap_or_default(),
            at(view)
        ),
        (None, Some(had)) => format!(
            "it repeats the event {}",
            had.event.clone().unwrap_or_default()
        ),
        (None, None) => {
            way.dedup = match there {
                Some(view) => format!("its own event stands at {}", at(view)),
                None => "no event of its identity is on its topic".to_owned(),
            };
            return;
        }
    };
    verdict.fate = Fate::Duplicate.name();
    verdict.reason = Some(Reason::Duplicate.name());
    verdict.detail = Some(of.clone());
    if let Some(event) = had.and_then(|had| had.event.clone()) {
        verdict.event = Some(event);
    }
    verdict.topic = None;
    let finding = Finding::proved(Cause::Repetition, &of);
    way.fails = Some((failing(Reason::Duplicate), of));
    way.dedup.clear();
    verdict.cause = Some(finding.cause.name());
    verdict.proved = Some(true);
    verdict.says = Some(plain(&finding.says));
    verdict.mend = Some(finding.cause.mend());
}

/// Why a record is of no source.
fn without_source(
    judging: &Judging,
    request: Option<&RawRequest>,
    record: &Record,
    refusal: &Refusal,
) -> Finding {
    if refusal.reason == Reason::RedriveLimit {
        let count = record.text(REDRIVE_COUNT).unwrap_or("not a number");
        return Finding::proved(
            Cause::RedrivenTooOften,
            format!("{} (redrive.count {count})", refusal.detail),
        );
    }
    let Some(request) = request else {
        return Finding::proved(Cause::NoRawRecord, &refusal.detail);
    };
    let Some(source) = judging.settings().sources.get(&request.source) else {
        let says = format!("the settings have no source {}", request.source);
        return Finding::proved(Cause::SourceUnknown, says);
    };
    let says = format!(
        "the request came when {} was of {}, and now it is of {}",
        request.source,
        request.provider,
        source.provider.spec().name
    );
    Finding::proved(Cause::ProviderChanged, says)
}
