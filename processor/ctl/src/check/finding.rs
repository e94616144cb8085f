//! One result of the check, and the report of all.

use serde::Serialize;

use crate::output;

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is as it must be.
    Ok,
    /// It works, and is not as it should be.
    Warn,
    /// It is not as it must be.
    Fail,
    /// It could not be checked; the message says why.
    Skip,
}

impl State {
    const fn shown(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it was found.
    pub state: State,
    /// Which check: settings, secrets, brokers, topics, registry, acls or clock.
    pub check: &'static str,
    /// What was checked, such as a path in the settings or the name of a topic.
    pub subject: String,
    /// What was found, in one sentence.
    pub message: String,
    /// What mends it, where something does.
    pub mend: Option<String>,
}

impl Finding {
    fn new(state: State, check: &'static str, subject: &str, message: &str) -> Self {
        // One line each, whatever a library said.
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            state,
            check,
            subject: subject.to_owned(),
            message: line(message),
            mend: None,
        }
    }

    /// It is as it must be.
    pub fn ok(check: &'static str, subject: &str, message: &str) -> Self {
        Self::new(State::Ok, check, subject, message)
    }

    /// It works, and is not as it should be.
    pub fn warn(check: &'static str, subject: &str, message: &str) -> Self {
        Self::new(State::Warn, check, subject, message)
    }

    /// It is not as it must be.
    pub fn fail(check: &'static str, subject: &str, message: &str) -> Self {
        Self::new(State::Fail, check, subject, message)
    }

    /// It could not be checked, for this reason.
    pub fn skip(check: &'static str, subject: &str, reason: &str) -> Self {
        Self::new(
            State::Skip,
            check,
            subject,
            &format!("not checked: {reason}"),
        )
    }

    /// With what mends it.
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// As one line.
    fn line(&self) -> String {
        let (state, check, message) = (self.state.shown(), self.check, &self.message);
        let subject = match self.subject.as_str() {
            "" => String::new(),
            subject => format!("{subject}: "),
        };
        let mend = self.mend.as_deref();
        let mend = mend.map_or_else(String::new, |mend| format!("; mend: {mend}"));
        format!("{state:<4}  {check:<8}  {subject}{message}{mend}")
    }
}

/// All results, written as they come.
#[derive(Debug)]
pub struct Report {
    json: bool,
    states: Vec<State>,
}

impl Report {
    /// A report in lines or in JSON.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            states: Vec::new(),
        }
    }

    /// Writes a result to standard output.
    pub fn add(&mut self, finding: &Finding) {
        self.states.push(finding.state);
        if self.json {
            output::line(&serde_json::json!(finding).to_string());
        } else {
            output::line(&finding.line());
        }
    }

    /// Writes several.
    pub fn all(&mut self, findings: &[Finding]) {
        for finding in findings {
            self.add(finding);
        }
    }

    /// Writes the sums to standard error.
    pub fn end(&self) {
        eprintln!("{}", self.sums());
    }

    fn sums(&self) -> String {
        let count = |state| self.states.iter().filter(|one| **one == state).count();
        format!(
            "{} ok, {} with a warning, {} failed, {} not checked",
            count(State::Ok),
            count(State::Warn),
            count(State::Fail),
            count(State::Skip)
        )
    }

    /// Whether nothing failed.
    pub fn holds(&self) -> bool {
        !self.states.contains(&State::Fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_one_line_or_one_object_with_its_mend() {
        let finding = Finding::fail("topics", "webhooks.raw", "is\n missing").mend("make it");
        assert_eq!(
            finding.line(),
            "FAIL  topics    webhooks.raw: is missing; mend: make it"
        );
        let object = serde_json::json!(finding);
        assert_eq!(
            object.to_string(),
            r#"{"check":"topics","mend":"make it","message":"is missing","state":"fail","subject":"webhooks.raw"}"#
        );
        let skipped = Finding::skip("acls", "", "no broker answers");
        assert_eq!(
            skipped.line(),
            "skip  acls      not checked: no broker answers"
        );
        let object = serde_json::json!(skipped);
        assert_eq!(
            (object["state"].as_str(), object["mend"].is_null()),
            (Some("skip"), true)
        );
    }

    #[test]
    fn a_failure_fails_the_check_and_a_warning_does_not() {
        let mut report = Report::new(true);
        report.add(&Finding::ok("settings", "", "no faults"));
        report.add(&Finding::warn("secrets", "sources.s", "a blank"));
        report.add(&Finding::skip("clock", "", "no record"));
        assert!(report.holds());
        report.add(&Finding::fail("brokers", "b:1", "away"));
        assert!(!report.holds());
        assert_eq!(
            report.sums(),
            "1 ok, 1 with a warning, 1 failed, 1 not checked"
        );
    }
}
