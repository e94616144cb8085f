//! What becomes of each record that was selected, counted; and the result in words and in JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_schemas::fate::Fate;
use sluice_schemas::reason::Reason;

use crate::output::plain;

/// What a redrive does with a record that was selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is sent.
    Send,
    /// Present settings and secrets judge it as before.
    SameVerdict,
    /// Its event is there.
    AlreadyEvent,
    /// A later copy of it is on the same topic.
    RedrivenBefore,
    /// The event topics do not reach back as far as its event could stand.
    NeedsForce,
    /// It was redriven as often as it may be.
    PastLimit,
    /// No release of ours writes such a record.
    Unreadable,
    /// A newer release wrote it.
    Newer,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Send,
        Self::SameVerdict,
        Self::AlreadyEvent,
        Self::RedrivenBefore,
        Self::NeedsForce,
        Self::PastLimit,
        Self::Unreadable,
        Self::Newer,
    ];

    /// The name in JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::Send => "to_send",
            Self::SameVerdict => "same_verdict",
            Self::AlreadyEvent => "already_event",
            Self::RedrivenBefore => "redriven_before",
            Self::NeedsForce => "needs_force",
            Self::PastLimit => "past_limit",
            Self::Unreadable => "unreadable",
            Self::Newer => "newer",
        }
    }

    /// For people.
    const fn words(self) -> &'static str {
        match self {
            Self::Send => "to be sent",
            Self::SameVerdict => "skipped: judged as before",
            Self::AlreadyEvent => "skipped: already an event",
            Self::RedrivenBefore => "skipped: redriven before, a later copy is on this topic",
            Self::NeedsForce => {
                "NOT sent: the event topics do not reach back to where its event could stand; --force sends it"
            }
            Self::PastLimit => "NOT sent: redriven as often as it may be",
            Self::Unreadable => "NOT sent: not what any release writes",
            Self::Newer => "NOT sent: of a newer release, use the sluicectl of that release",
        }
    }

    /// Whether nothing is left to do about such a record.
    const fn holds(self) -> bool {
        !matches!(self, Self::NeedsForce | Self::PastLimit | Self::Newer)
    }
}

/// What a record is now, and what it would be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The source's name.
    pub source: String,
    /// The reason that it has.
    pub reason: String,
    /// The reason that it would have, or `None`: it would be an event.
    pub now: Option<Reason>,
}

/// The numbers.
#[derive(Debug, Default)]
pub struct Tally {
    rows: Vec<Row>,
    places: BTreeMap<Row, usize>,
    counts: BTreeMap<(usize, Outcome), u64>,
    unjudged: BTreeMap<Outcome, u64>,
    /// How many the brokers have acknowledged.
    pub sent: u64,
}

impl Tally {
    /// The number of a row.
    pub fn row(&mut self, row: Row) -> usize {
        let next = self.rows.len();
        let place = *self.places.entry(row.clone()).or_insert(next);
        if place == next {
            self.rows.push(row);
        }
        place
    }

    /// Counts a record of a row.
    pub fn count(&mut self, row: usize, outcome: Outcome) {
        *self.counts.entry((row, outcome)).or_default() += 1;
    }

    /// Counts a record that cannot be judged.
    pub fn unjudged(&mut self, outcome: Outcome) {
        *self.unjudged.entry(outcome).or_default() += 1;
    }

    /// How many have this outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        let counts = self.counts.iter();
        let judged: u64 = counts
            .filter(|((_, found), _)| *found == outcome)
            .map(|(_, count)| count)
            .sum();
        judged + self.unjudged.get(&outcome).copied().unwrap_or_default()
    }

    /// How many were selected.
    pub fn selected(&self) -> u64 {
        Outcome::ALL.iter().map(|outcome| self.of(*outcome)).sum()
    }

    /// Whether nothing is left that somebody must do something about.
    pub fn holds(&self) -> bool {
        let mut left = Outcome::ALL.iter().filter(|outcome| !outcome.holds());
        left.all(|outcome| self.of(*outcome) == 0)
    }

    /// For people: a line for each kind of record, then the numbers.
    pub fn lines(&self, is_dry_run: bool) -> Vec<String> {
        let is_sent = !is_dry_run && self.sent >= self.of(Outcome::Send);
        let mut lines = Vec::new();
        for ((row, outcome), count) in &self.counts {
            let Row {
                source,
                reason,
                now,
            } = &self.rows[*row];
            let now = now.map_or("event", Reason::name);
            let words = match outcome {
                Outcome::Send if is_sent => "sent",
                other => other.words(),
            };
            lines.push(plain(&format!(
                "{count:>8}  {source}  {reason} -> {now}  {words}"
            )));
        }
        for (outcome, count) in &self.unjudged {
            lines.push(format!("{count:>8}  {}", outcome.words()));
        }
        let selected = self.selected();
        lines.push(if is_dry_run {
            let to_send = self.of(Outcome::Send);
            format!("{selected} selected, {to_send} would be sent, nothing was sent")
        } else {
            format!("{selected} selected, {} sent", self.sent)
        });
        lines
    }

    /// The members of the result.
    pub fn object(&self) -> Value {
        let mut object = json!({"selected": self.selected(), "sent": self.sent});
        for outcome in Outcome::ALL {
            object[outcome.name()] = json!(self.of(outcome));
        }
        let verdicts = self.counts.iter().map(|((row, outcome), count)| {
            let Row {
                source,
                reason,
                now,
            } = &self.rows[*row];
            json!({
                "source": source,
                "reason": reason,
                "now_fate": now.map_or(Fate::Event, Reason::fate).name(),
                "now_reason": now.map(Reason::name),
                "outcome": outcome.name(),
                "count": count,
            })
        });
        object["verdicts"] = verdicts.collect();
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(reason: &str, now: Option<Reason>) -> Row {
        Row {
            source: "codes\u{1b}".to_owned(),
            reason: reason.to_owned(),
            now,
        }
    }

    #[test]
    fn each_kind_is_counted_and_named() {
        let mut tally = Tally::default();
        let fresh = tally.row(row("unknown_source", None));
        let same = tally.row(row("not_utf8", Some(Reason::NotUtf8)));
        assert_eq!(tally.row(row("unknown_source", None)), fresh);
        for (row, outcome) in [
            (fresh, Outcome::Send),
            (fresh, Outcome::Send),
            (same, Outcome::SameVerdict),
        ] {
            tally.count(row, outcome);
        }
        tally.unjudged(Outcome::Unreadable);
        tally.sent = 1;
        assert!(tally.holds());
        assert_eq!((tally.selected(), tally.of(Outcome::Send)), (4, 2));
        let lines = tally.lines(true);
        assert_eq!(
            lines[0],
            "       2  codes\u{fffd}  unknown_source -> event  to be sent"
        );
        assert_eq!(
            lines.last().map(String::as_str),
            Some("4 selected, 2 would be sent, nothing was sent")
        );
        assert!(tally.lines(false)[0].ends_with("  to be sent"));
        tally.sent = 2;
        assert!(tally.lines(false)[0].ends_with("event  sent"));
        assert!(tally.lines(true)[0].ends_with("  to be sent"));
        tally.sent = 1;
        let object = tally.object();
        assert_eq!(
            (&object["to_send"], &object["sent"], &object["unreadable"]),
            (&json!(2), &json!(1), &json!(1))
        );
        assert_eq!(object["verdicts"][1]["now_fate"], "dead_letter");
        tally.count(fresh, Outcome::PastLimit);
        assert!(!tally.holds());
    }
}
