//! Doing the steps: calls to the provider, and what came of each on the topic and on standard output. What is
//! about to be made stands on the topic before the call, so that a run that is killed is known to the next.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::{Api, Subscribed, Unsubscribed};
use super::ledger::{Entry, Key, Ledger, State, VERSION};
use super::plan::{Action, Step};
use super::target::Target;
use crate::failure::Failure;
use crate::output;
use crate::provider_apis::http::Ended;

/// Where entries are kept.
pub trait Keep {
    /// Keeps an entry, or ends it; it is durable then.
    fn put(&mut self, key: &Key, entry: Option<&Entry>) -> Result<(), Failure>;
}

/// What is done with what.
pub struct Doing<'a> {
    /// What the topic knew at the beginning.
    pub ledger: &'a Ledger,
    /// The target URL of each source that wants something.
    pub targets: &'a BTreeMap<String, Target>,
    /// The provider's API under the key of a source; `None`: no key is known.
    pub api: &'a dyn Fn(&str) -> Result<Option<Api>, Failure>,
    /// Where entries are kept.
    pub keep: &'a mut dyn Keep,
    /// What may be there under an id that is not known is not known of any more.
    pub forget: bool,
    /// As JSON.
    pub json: bool,
}

/// What is printed of a subscription.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    /// What was done, or would be.
    pub state: &'static str,
    /// The source.
    pub source: &'a str,
    /// The event type.
    pub event: &'a str,
    /// The waitlist.
    pub waitlist: &'a str,
    /// The provider's id.
    pub id: Option<String>,
    /// One sentence.
    pub message: Option<String>,
    /// Whether it is as it must be.
    #[serde(skip)]
    pub holds: bool,
}

const NO_ID: &str =
    "ReferralLoop gave no id: it cannot be deleted from here, only in its dashboard";

impl<'a> Line<'a> {
    /// A line that holds.
    pub fn new(state: &'static str, key: &'a Key, id: Option<String>) -> Self {
        let Key {
            source,
            event,
            waitlist,
            ..
        } = key;
        Self {
            state,
            source,
            event,
            waitlist,
            id,
            message: None,
            holds: true,
        }
    }

    fn because(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    fn fails(mut self) -> Self {
        self.holds = false;
        self
    }

    /// Writes it to standard output.
    pub fn print(&self, json: bool) {
        if json {
            output::line(&serde_json::json!(self).to_string());
            return;
        }
        let id = self.id.as_deref().unwrap_or("-");
        let message = self.message.as_ref();
        let message = message.map_or(String::new(), |message| format!("  ({message})"));
        let (state, source) = (self.state, self.source);
        let (event, waitlist) = (self.event, self.waitlist);
        output::line(&format!(
            "{state:<12}  {source}  {event}  {waitlist}  {id}{message}"
        ));
    }
}

/// What would be done; whether that is nothing.
pub fn dry<'a>(ledger: &Ledger, steps: &'a [Step]) -> Vec<Line<'a>> {
    let line = |Step { key, action }: &'a Step| {
        let id = ledger.entries.get(key).and_then(|entry| entry.id.clone());
        match action {
            Action::Nothing => Line::new("ok", key, id),
            Action::Subscribe { .. } => Line::new("subscribe", key, id).fails(),
            Action::Unsubscribe(_) => Line::new("unsubscribe", key, id).fails(),
            Action::Leave => Line::new("leave", key, None).fails(),
            Action::Unknown => unknown(key),
        }
    };
    steps.iter().map(line).collect()
}

fn unknown(key: &Key) -> Line<'_> {
    let message = "it is not wanted, and may be at ReferralLoop under an id that is not known: delete it in its \
                   dashboard, then `sluicectl referralloop unsubscribe SOURCE --forget`";
    Line::new("unknown", key, None).because(message).fails()
}

impl Doing<'_> {
    /// Does the steps in their order, and prints each; whether all is as it must be then.
    pub async fn all(&mut self, steps: &[Step]) -> Result<bool, Failure> {
        let (mut holds, mut failed) = (true, BTreeSet::new());
        for step in steps {
            let line = self.step(step, &failed).await?;
            line.print(self.json);
            holds &= line.holds;
            if !line.holds && matches!(step.action, Action::Subscribe { .. }) {
                failed.insert(step.key.source.as_str());
            }
        }
        Ok(holds)
    }

    async fn step<'s>(
        &mut self,
        Step { key, action }: &'s Step,
        failed: &BTreeSet<&str>,
    ) -> Result<Line<'s>, Failure> {
        match action {
            Action::Nothing => {
                let entry = self.ledger.entries.get(key);
                Ok(Line::new(
                    "ok",
                    key,
                    entry.and_then(|entry| entry.id.clone()),
                ))
            }
            Action::Subscribe { asked } => self.subscribe(key, *asked).await,
            // The old one goes once the new one is there.
            Action::Unsubscribe(id) if failed.contains(key.source.as_str()) => {
                let message = "another one of this source could not be made: none is deleted before that works";
                let line = Line::new("kept", key, Some(id.clone()));
                Ok(line.because(message).fails())
            }
            Action::Unsubscribe(id) => self.unsubscribe(key, id).await,
            Action::Leave => {
                self.keep.put(key, None)?;
                let message = "others made it: it is not deleted";
                Ok(Line::new("left", key, None).because(message))
            }
            Action::Unknown if self.forget => {
                self.keep.put(key, None)?;
                Ok(Line::new("forgotten", key, None))
            }
            Action::Unknown => Ok(unknown(key)),
        }
    }

    async fn subscribe<'s>(&mut self, key: &'s Key, asked: bool) -> Result<Line<'s>, Failure> {
        let target = self.targets.get(&key.source);
        let (Some(target), Some(api)) = (target, (self.api)(&key.source)?) else {
            return Ok(no_key(key, None));
        };
        let known = self.ledger.entries.get(key);
        if known.is_none() {
            self.keep.put(key, Some(&entry(key, State::Asked, None)))?;
        }
        let made = api.subscribe(&key.event, target.url(), &key.waitlist).await;
        let ended = match made {
            Ok(Subscribed::Made(id)) => {
                self.kept(key, State::Subscribed, Some(id.clone()))?;
                return Ok(Line::new("subscribed", key, Some(id)));
            }
            Ok(Subscribed::Nameless) => {
                self.kept(key, State::Subscribed, None)?;
                return Ok(Line::new("subscribed", key, None).because(NO_ID).fails());
            }
            Ok(Subscribed::There(id, doubted)) => return self.there(key, id, asked || doubted),
            Err(ended) => ended,
        };
        let Ended { failure, doubted } = ended;
        if known.is_none() && !doubted {
            // It was surely not made.
            self.keep.put(key, None)?;
        }
        failed(key, None, failure)
    }

    /// It was there. It is ours where an attempt of ours may have made it.
    fn there<'s>(
        &mut self,
        key: &'s Key,
        id: Option<String>,
        is_ours: bool,
    ) -> Result<Line<'s>, Failure> {
        let known = self.ledger.entries.get(key);
        match known.map(|entry| (entry.state, entry.id.clone())) {
            Some((State::Subscribed, known)) if known.is_some() => {
                return Ok(Line::new("there", key, known));
            }
            Some((State::Others, _)) if !is_ours => {
                return Ok(Line::new("there", key, None).because("others made it"));
            }
            Some((State::Subscribed | State::Others | State::Asked, _)) | None => {}
        }
        let was_ours = known.is_some_and(|entry| entry.state == State::Subscribed);
        if !is_ours && !was_ours {
            self.kept(key, State::Others, None)?;
            let message = "others made it: it is not deleted when it is not wanted any more";
            return Ok(Line::new("there", key, None).because(message));
        }
        self.kept(key, State::Subscribed, id.clone())?;
        let has_id = id.is_some();
        let line = Line::new("there", key, id);
        Ok(if has_id { line } else { line.because(NO_ID) })
    }

    async fn unsubscribe<'s>(&mut self, key: &'s Key, id: &str) -> Result<Line<'s>, Failure> {
        let known = Some(id.to_owned());
        let Some(api) = (self.api)(&key.source)? else {
            return Ok(no_key(key, known));
        };
        let state = match api.unsubscribe(id).await {
            Ok(Unsubscribed::Deleted) => "unsubscribed",
            Ok(Unsubscribed::Gone) => "gone",
            Err(Ended { failure, .. }) => return failed(key, known, failure),
        };
        self.keep.put(key, None)?;
        Ok(Line::new(state, key, known))
    }

    /// Keeps what the provider did. Where that fails, the id is in the sentence: it is nowhere else.
    fn kept(&mut self, key: &Key, state: State, id: Option<String>) -> Result<(), Failure> {
        let shown = id.clone().unwrap_or_else(|| "no id".to_owned());
        let put = self.keep.put(key, Some(&entry(key, state, id)));
        let Key {
            event, waitlist, ..
        } = key;
        let with = |line: String| {
            format!(
                "{line}; ReferralLoop has {event} of {waitlist} ({shown}), and that is not kept"
            )
        };
        put.map_err(|failure| match failure {
            Failure::TryAgain(line) => Failure::TryAgain(with(line)),
            Failure::Failed(line) => Failure::Failed(with(line)),
            Failure::Usage(_) | Failure::Config(_) => failure,
        })
    }
}

fn entry(key: &Key, state: State, id: Option<String>) -> Entry {
    let at = OffsetDateTime::now_utc().format(&Rfc3339);
    Entry {
        v: VERSION,
        state,
        id,
        target_url_sha256: key.target_url_sha256.clone(),
        at: at.unwrap_or_default(),
    }
}

/// One that was refused holds up no other; what concerns all of them ends the command.
fn failed(key: &Key, id: Option<String>, failure: Failure) -> Result<Line<'_>, Failure> {
    match failure {
        Failure::Failed(message) => Ok(Line::new("failed", key, id).because(message).fails()),
        other => Err(other),
    }
}

fn no_key(key: &Key, id: Option<String>) -> Line<'_> {
    let message = "the settings name no key for it: name its file by --api-key-file";
    Line::new("failed", key, id).because(message).fails()
}

#[cfg(test)]
mod tests;
