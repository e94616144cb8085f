//! `sluicectl dead-letters redrive` and `rejected redrive`: puts records back on raw. Comes in: the topic of
//! a fate. Goes out: its records on raw, where present settings and secrets judge them otherwise.
//!
//! Three passes, each in the order of its topic: what is to be sent ([`plan`]); what is an event already
//! ([`events`]); and the sending ([`send`]), whose progress is that of a group ([`progress`]).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use serde_json::json;
use sluice_schemas::acl::Operation;
use sluice_schemas::fate::Fate;
use sluice_schemas::settings::Settings;

use crate::client::is_refusal;
use crate::failure::Failure;
use crate::help::layout;
use crate::judging::Judging;
use crate::output;
use crate::records::follow::ended;
use crate::records::reader::{Range, Topics, refusal};
use crate::records::{self, topic_of};

mod selection;

mod again;

mod candidate;

mod tally;

mod plan;

mod events;

mod progress;

mod pace;

mod send;

#[cfg(test)]
pub mod testing;

use plan::Plan;
use progress::{Group, Run, State};
use selection::{Selection, Which};
use send::Sending;

const LAYOUT: &str = layout!(
    "Puts records back on raw, byte for byte, with redrive.count raised by one. Sent are those that present
settings and secrets judge otherwise (all with --all), that are no event yet and were not redriven ten
times. Nothing is deleted. The end is the topic's end as it is now. Progress is the offset of a group
that stands for this selection: a command that was interrupted goes on where it was when the same is
run again; one that was completed looks at all again.",
);

const EXAMPLES: &str = "\
EXAMPLES
  $ sluicectl dead-letters redrive --reason unknown_source --dry-run
  $ sluicectl dead-letters redrive --reason unknown_source --source codes --rate 200
  $ sluicectl rejected redrive --reason signature_mismatch --since 2d
  $ sluicectl dead-letters redrive --id 019ab1c2-6f7e-7d60-9d9f-6f3f6f0c2a11

EXIT STATUS
  0   Whatever was to be sent is on raw
  1   A record was left out that needs somebody, or nothing could be sent; standard error says why
  2   The command line cannot be carried out
  75  It was stopped, or the brokers are away: run the same again, it goes on there
  78  The settings or the secrets are at fault";

/// The options of `redrive`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Put records back on raw, once what refused them is mended",
    help_template = LAYOUT,
    after_help = EXAMPLES
)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// Also those whose event may have been there and is deleted: there may be a second one
    #[arg(long)]
    force: bool,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Carries the command out; whether nothing is left that needs somebody.
pub fn run(file: &Path, fate: Fate, options: &Options) -> Result<bool, Failure> {
    let selection = Selection::new(fate, &options.which)?;
    let judging = Judging::new(records::settings(file)?)?;
    selection.filter.warn(judging.settings());
    let redriving = Redriving {
        topic: topic_of(judging.settings(), fate),
        judging: &judging,
        stop: stopped(),
        selection,
        options,
    };
    redriving.run()
}

/// Set by Ctrl-C and by the signal that ends a container.
fn stopped() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    // Without it a signal ends the process, and the same command goes on all the same.
    if let Ok(runtime) = runtime {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            runtime.block_on(ended());
            stop.store(true, Ordering::Relaxed);
        });
    }
    stop
}

struct Redriving<'a> {
    judging: &'a Judging,
    selection: Selection,
    options: &'a Options,
    topic: String,
    stop: Arc<AtomicBool>,
}

impl Redriving<'_> {
    fn run(mut self) -> Result<bool, Failure> {
        let settings = self.judging.settings();
        let name = self.selection.group(settings);
        let group = Group::new(settings, &name, &self.topic)?;
        let topics = Topics::new(settings)?.until(&self.stop);
        check_raw(settings, &topics)?;
        let run = self.begin(&group, &topics)?;
        // One that goes on has the window that it began with.
        self.selection.filter.window = run.window;
        self.announce(&name, &run);
        let mut plan = self.plan(topics, &run.ranges)?;
        let known = events::look(settings, plan.candidates.values(), &self.stop);
        let known = known.map_err(nothing_was_sent)?;
        plan.leave_out_events(&known, self.options.force);
        if !self.options.dry_run {
            let sent = self.send(&group, &run, &plan)?;
            plan.tally.sent = sent;
        }
        self.report(&name, &run, &plan);
        if plan.tally.sent > 0 {
            eprintln!(
                "the processor judges each again: where the dedup-log still knows an event of its identity, that \
                 was deleted or whose topic was made again, it becomes a duplicate; `sluicectl find ID` says which"
            );
        }
        let is_missing = plan.tally.selected() == 0 && !run.is_resumed;
        if is_missing {
            eprintln!(
                "no such record on {} {}: `sluicectl {} stats --since 28d` says what is there",
                self.topic,
                self.selection.filter.window,
                match self.selection.fate {
                    Fate::Rejected => "rejected",
                    _ => "dead-letters",
                }
            );
        }
        let is_named = self.selection.filter.id.is_some();
        Ok(plan.tally.holds() && !(is_missing && is_named))
    }

    /// What is to be read: the rest of a run that was interrupted, or all that there is.
    fn begin(&self, group: &Group, topics: &Topics) -> Result<Run, Failure> {
        let window = self.selection.filter.window;
        let since = (window.since > 0).then_some(window.since);
        let opened = topics.open(std::slice::from_ref(&self.topic), since)?;
        if let Some(line) = opened.lacking.first() {
            return Err(Failure::Failed(line.clone()));
        }
        let stood = group.stood(&opened.ranges)?;
        Ok(Run::new(&stood, &opened.ranges, window))
    }

    fn announce(&self, group: &str, run: &Run) {
        let how = if run.is_resumed {
            "going on with"
        } else {
            "reading"
        };
        let left: i64 = run.ranges.iter().map(|one| one.end - one.from).sum();
        eprintln!(
            "{how} {} {}, {left} offsets, in the group {group}",
            self.topic, run.window
        );
        if run.deleted > 0 {
            eprintln!(
                "retention has deleted {} offsets that the interrupted run had not come to",
                run.deleted
            );
        }
    }

    fn plan(&self, topics: Topics, ranges: &[Range]) -> Result<Plan, Failure> {
        let rules = self.judging.rules();
        let mut plan = Plan::default();
        let read = topics.read(ranges, &mut |record| {
            plan.take(record, &self.selection, &rules);
        });
        read.map_err(nothing_was_sent)?;
        plan.leave_out_copies();
        Ok(plan)
    }

    /// Sends what is to be sent; how many.
    fn send(&self, group: &Group, run: &Run, plan: &Plan) -> Result<u64, Failure> {
        let settings = self.judging.settings();
        let states = |state: &dyn Fn(&Range) -> (i64, State)| -> Vec<(i32, i64, State)> {
            let with = |range: &Range| {
                let (offset, state) = state(range);
                (range.partition, offset, state)
            };
            run.ranges.iter().map(with).collect()
        };
        if self.stop.load(Ordering::Relaxed) {
            return Err(nothing_was_sent(Failure::TryAgain(
                "it was stopped".to_owned(),
            )));
        }
        if plan.candidates.is_empty() {
            let done = states(&|range| (range.end, State::Done));
            group.commit(&done)?;
            return Ok(0);
        }
        eprintln!(
            "sending {} records, {} a second",
            plan.candidates.len(),
            self.options.rate
        );
        let open = states(&|range| (range.from, run.open(range.partition)));
        group.commit(&open).map_err(nothing_was_sent)?;
        let candidates = &plan.candidates;
        let rate = self.options.rate;
        let mut sending = Sending::new(settings, run, group, candidates, &self.stop, rate)?;
        sending.all()?;
        Ok(sending.sent)
    }

    fn report(&self, group: &str, run: &Run, plan: &Plan) {
        if !self.options.json {
            for line in plan.tally.lines(self.options.dry_run) {
                output::line(&line);
            }
            return;
        }
        let mut object = plan.tally.object();
        object["topic"] = json!(self.topic);
        object["group"] = json!(group);
        object["dry_run"] = json!(self.options.dry_run);
        object["resumed"] = json!(run.is_resumed);
        output::line(&object.to_string());
    }
}

/// A failure before the first record was sent in this run.
fn nothing_was_sent(failure: Failure) -> Failure {
    match failure {
        Failure::TryAgain(line) => {
            Failure::TryAgain(format!("{line}; nothing was sent by this run"))
        }
        other => other,
    }
}

/// Raw must be there, with all partitions over which keys are placed.
fn check_raw(settings: &Settings, topics: &Topics) -> Result<(), Failure> {
    let raw = settings.topics.names.raw();
    let keyed = settings.topics.key_partitions;
    let metadata = topics.metadata(Some(&raw))?;
    let found = metadata.topics().first();
    let error = found.and_then(MetadataTopic::error);
    if error.is_some_and(|code| is_refusal(RDKafkaErrorCode::from(code))) {
        return Err(Failure::Failed(refusal(&raw, Operation::Write)));
    }
    let found = found.filter(|topic| topic.error().is_none());
    let has = found.map_or(0, |topic| topic.partitions().len());
    if i32::try_from(has).is_ok_and(|has| has >= keyed) {
        return Ok(());
    }
    Err(Failure::Failed(if has == 0 {
        format!("topic {raw} is missing: `sluicectl topics plan` says what lacks")
    } else {
        format!(
            "{raw} has {has} partitions, fewer than topics.key_partitions, {keyed}: `sluicectl topics plan` says \
             what to do"
        )
    }))
}
