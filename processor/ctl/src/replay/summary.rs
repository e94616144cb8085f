//! What all differences come to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::difference::Difference;
use super::ranges::Plan;
use crate::records::window::{Window, shown};

/// The numbers of a run.
#[derive(Debug, Default)]
pub struct Summary {
    /// Records that were read ahead.
    pub read_ahead: u64,
    /// Records that were compared.
    pub judged: u64,
    /// Of them, those that the topics have as they are judged.
    pub same: u64,
    /// Differences.
    pub differences: u64,
    /// Records that differ by a redrive alone; not among the differences.
    pub redriven: u64,
    /// Differences that may come from what raw has no more; not among the former.
    pub uncertain: u64,
    /// Records whose fates retention may have deleted.
    pub expired: u64,
    /// Records that the processor has not judged yet.
    pub in_flight: i64,
    /// Records that this build cannot judge.
    pub not_judged: u64,
    /// Raw records with two fates in the topics.
    pub twice: u64,
    /// Records that were written to shadow topics.
    pub written: u64,
    changes: BTreeMap<(String, String), u64>,
    fields: BTreeMap<String, u64>,
}

impl Summary {
    /// With so many records in flight, and nothing judged.
    pub fn new(in_flight: i64) -> Self {
        Self {
            in_flight,
            ..Self::default()
        }
    }

    /// Counts a difference.
    pub fn add(&mut self, difference: &Difference) {
        if difference.uncertain {
            self.uncertain += 1;
            return;
        }
        self.differences += 1;
        *self.changes.entry(difference.change()).or_default() += 1;
        for what in difference.differs.iter().filter(|what| **what != "columns") {
            *self.fields.entry((*what).to_owned()).or_default() += 1;
        }
        for column in &difference.columns {
            *self
                .fields
                .entry(format!("columns.{}", column.name))
                .or_default() += 1;
        }
    }

    /// As an object.
    pub fn json(&self, window: Window) -> Value {
        let change = |((from, to), count): (&(String, String), &u64)| {
            let (topics, judged) = (from, to);
            json!({"topics": topics, "judged": judged, "count": count})
        };
        json!({
            "kind": "summary",
            "since": shown(window.since),
            "until": window.until.map(shown),
            "read_ahead": self.read_ahead,
            "judged": self.judged,
            "same": self.same,
            "differences": self.differences,
            "redriven": self.redriven,
            "uncertain": self.uncertain,
            "expired": self.expired,
            "in_flight": self.in_flight,
            "not_judged": self.not_judged,
            "twice": self.twice,
            "written": self.written,
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
            "fields": self.fields,
        })
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} records judged, {} read ahead of them: {} as in the topics, {} different, {} redriven, \
             {} uncertain, {} expired, {} in flight",
            self.judged,
            self.read_ahead,
            self.same,
            self.differences,
            self.redriven,
            self.uncertain,
            self.expired,
            self.in_flight
        )];
        if self.differences > 0 {
            lines.push("different, in the topics -> judged now:".to_owned());
        }
        for ((from, to), count) in &self.changes {
            lines.push(if from == to {
                format!("  {count:>9}  {from}, otherwise")
            } else {
                format!("  {count:>9}  {from} -> {to}")
            });
        }
        if self.differences > 0 {
            lines.push("different, in what (a record may be in several):".to_owned());
        }
        for (field, count) in &self.fields {
            lines.push(format!("  {count:>9}  {field}"));
        }
        lines
    }

    /// What the numbers alone do not say, a sentence each.
    pub fn remarks(&self, plan: &Plan, cut: Option<i64>) -> Vec<String> {
        let mut lines = Vec::new();
        if self.judged == 0 {
            lines.push(format!(
                "{} has no judged record in this range: --since and --until say which one",
                plan.raw
            ));
        }
        if let Some(since) = cut {
            lines.push(format!(
                "raw is whole from {} on alone, and the dedup index asks further back: before {} a record \
                 may be judged an event whose original is deleted; such differences are marked uncertain",
                shown(since),
                shown(since.saturating_add(plan.reach_ms))
            ));
        }
        if self.redriven > 0 {
            lines.push(format!(
                "{} records differ by a redrive alone, as what was refused or as the copy of it that became \
                 the event: not printed, and no difference",
                self.redriven
            ));
        }
        if self.expired > 0 {
            lines.push(format!(
                "of {} records no fate is there, and retention may have deleted it: nothing is compared",
                self.expired
            ));
        }
        if self.in_flight > 0 {
            lines.push(format!(
                "{} records are not judged by the processor yet: try again later for them",
                self.in_flight
            ));
        }
        if self.not_judged > 0 {
            lines.push(format!(
                "{} records cannot be judged by this build: use the sluicectl of the processor's release",
                self.not_judged
            ));
        }
        if self.twice > 0 {
            lines.push(format!(
                "{} fates are of raw records that have another one: `sluicectl audit` names them",
                self.twice
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::difference::Side;
    use super::*;
    use crate::records::view::Place;

    fn difference(from: &'static str, to: &'static str, differs: &'static str) -> Difference {
        let side = |fate: &'static str| Side {
            fate,
            reason: None,
            detail: None,
            topic: String::new(),
            partition: None,
            offset: None,
            duplicate_of: None,
        };
        Difference {
            kind: "difference",
            raw: Place {
                partition: 0,
                offset: 0,
            },
            request_id: None,
            source: None,
            provider: None,
            received_at: None,
            uncertain: false,
            topics: Some(side(from)),
            judged: side(to),
            differs: vec![differs],
            columns: Vec::new(),
            hint: None,
            value: None,
        }
    }

    #[test]
    fn each_list_of_numbers_says_what_it_counts() {
        let mut summary = Summary::new(0);
        assert_eq!(summary.lines().len(), 1);
        summary.add(&difference("rejected", "event", "fate"));
        summary.add(&difference("event", "event", "topic"));
        summary.redriven = 4;
        let lines = summary.lines();
        assert!(lines[0].contains("2 different, 4 redriven,"), "{lines:?}");
        assert_eq!(
            lines[1..],
            [
                "different, in the topics -> judged now:",
                "          1  event, otherwise",
                "          1  rejected -> event",
                "different, in what (a record may be in several):",
                "          1  fate",
                "          1  topic",
            ]
        );
        let window = Window {
            since: 0,
            until: None,
        };
        assert_eq!(summary.json(window)["redriven"], json!(4));
        assert_eq!(
            summary.json(window)["fields"],
            json!({"fate": 1, "topic": 1})
        );
    }
}
