//! What is to be done to one topic, what was, and what is refused.

use serde::Serialize;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::topics::{
    Difference, Examined, Growth, Rule, TopicSpec, alteration, configs_tool,
};

/// How a topic stands to what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is as it must be.
    Ok,
    /// It would be made.
    Create,
    /// Settings of it would be altered.
    Alter,
    /// It would get more partitions.
    Grow,
    /// It differs, and this is not done here.
    Refused,
    /// It may not be seen, or not its settings.
    Unknown,
    /// It was made, altered or grown.
    Done,
    /// That did not work.
    Failed,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Grow => "grow",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Done => "done",
            Self::Failed => "FAILED",
        }
    }
}

/// One thing about one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// How it stands.
    pub state: State,
    /// The full name.
    pub topic: String,
    /// Whether the services demand it; else it is advised.
    pub required: bool,
    /// What differs, or what was done.
    pub message: String,
    /// The command of Kafka's own tools that does it.
    pub mend: Option<String>,
    /// The settings that are to be altered.
    #[serde(skip)]
    pub configs: Vec<(&'static str, String)>,
    /// How many partitions it is to have.
    #[serde(skip)]
    pub partitions: usize,
    /// What there is to say once it is done.
    #[serde(skip)]
    pub done: String,
}

impl Step {
    /// A step without a command.
    pub fn new(state: State, topic: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            state,
            topic: topic.to_owned(),
            required: true,
            done: format!("made: {message}"),
            message,
            mend: None,
            configs: Vec::new(),
            partitions: 0,
        }
    }

    /// Whether nothing is left that the services demand or that would be done.
    pub fn holds(&self) -> bool {
        match self.state {
            State::Ok | State::Done => true,
            State::Refused => !self.required,
            State::Create | State::Alter | State::Grow | State::Unknown | State::Failed => false,
        }
    }

    /// The same with another state and message.
    pub fn became(&self, state: State, message: impl Into<String>) -> Self {
        Self {
            state,
            message: message.into(),
            ..self.clone()
        }
    }

    /// For people.
    pub fn line(&self) -> String {
        let state = self.state.name();
        let by = match (self.state, &self.mend) {
            (State::Refused | State::Failed | State::Unknown, Some(mend)) => {
                format!("; by hand: {mend}")
            }
            _ => String::new(),
        };
        let advised = if self.required { "" } else { " (advised)" };
        format!("{state:<7}  {}: {}{advised}{by}", self.topic, self.message)
    }
}

/// What is to be done to a topic that exists with so many replicas.
pub fn of_existing(settings: &Settings, topic: &Examined, replicas: usize) -> Vec<Step> {
    let name = topic.spec.name.as_str();
    let mut steps = Vec::new();
    if let Some(fault) = &topic.partitions_fault {
        let fault = fault.trim_start_matches(name).trim_start_matches(": ");
        steps.push(partitions(settings, topic, fault));
    }
    match &topic.settings {
        Err(message) => steps.push(Step::new(State::Unknown, name, message)),
        Ok(differences) => steps.extend(alterations(settings, name, differences, replicas)),
    }
    if steps.is_empty() {
        let count = topic.partitions;
        let plural = if count == 1 { "" } else { "s" };
        let message = format!("{count} partition{plural}, as it must be");
        steps.push(Step::new(State::Ok, name, message));
    }
    steps
}

fn partitions(settings: &Settings, topic: &Examined, fault: &str) -> Step {
    let TopicSpec {
        name,
        partitions,
        partitions_rule,
        ..
    } = &topic.spec;
    let mend = Some(Growth::new(settings).mend((name, *partitions), topic.partitions));
    if *partitions_rule == Rule::Exactly {
        let message = format!(
            "{fault}: raw and the dedup-log are never grown here, for the settings must change with them: where \
             keys move, repetitions would become events"
        );
        return Step {
            mend,
            ..Step::new(State::Refused, name, message)
        };
    }
    Step {
        mend,
        partitions: usize::try_from(*partitions).unwrap_or_default(),
        done: format!(
            "grown: partitions were {} and are {partitions}; from now on keys come to other partitions",
            topic.partitions
        ),
        ..Step::new(
            State::Grow,
            name,
            format!("{fault}; from then on keys come to other partitions"),
        )
    }
}

/// The settings that differ: those that are altered, demanded and advised apart, and those that are not.
fn alterations(
    settings: &Settings,
    name: &str,
    differences: &[Difference],
    replicas: usize,
) -> Vec<Step> {
    let step = |state, some: &[&Difference], message: String| {
        let configs = some.iter().map(|one| one.config());
        let mend = alteration(&configs_tool(settings), name, configs);
        Step {
            required: some.iter().any(|one| !one.is_advice),
            mend: Some(mend),
            configs: some
                .iter()
                .map(|one| (one.key, one.wanted.clone()))
                .collect(),
            done: format!("altered: {}", changes(some)),
            ..Step::new(state, name, message)
        }
    };
    let (mut steps, mut safe) = (Vec::new(), [Vec::new(), Vec::new()]);
    for one in differences {
        match danger(one, replicas) {
            Some(reason) => {
                let message = format!("{}: {reason}", one.sentence);
                steps.push(step(State::Refused, &[one], message));
            }
            None => safe[usize::from(one.is_advice)].push(one),
        }
    }
    for some in safe.iter().filter(|some| !some.is_empty()) {
        let sentences: Vec<&str> = some.iter().map(|one| one.sentence.as_str()).collect();
        steps.push(step(State::Alter, some, sentences.join(", ")));
    }
    steps
}

/// What settings were before they were altered, and what they are.
fn changes(some: &[&Difference]) -> String {
    let change = |one: &&Difference| match &one.has {
        Some(has) => format!("{} was {has} and is {}", one.key, one.wanted),
        None => format!("{} is {}", one.key, one.wanted),
    };
    some.iter().map(change).collect::<Vec<_>>().join(", ")
}

/// Why a setting is not altered here: what it could delete, or whom it could stop.
fn danger(difference: &Difference, replicas: usize) -> Option<String> {
    let wanted = &difference.wanted;
    match difference.key {
        "cleanup.policy" => Some("what the other policy kept could be deleted at once".to_owned()),
        "retention.ms" | "retention.bytes" if !is_raised(difference) => {
            Some("records that stand there now would be deleted at once".to_owned())
        }
        "min.insync.replicas"
            if wanted
                .parse()
                .map_or(true, |wanted: usize| wanted > 1 && wanted >= replicas) =>
        {
            Some(format!(
                "the topic has {replicas} replicas, and one broker less would stop all who write"
            ))
        }
        _ => None,
    }
}

/// Whether a bound becomes larger; -1 is none. False where what it is now is not known.
fn is_raised(difference: &Difference) -> bool {
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = |number: i64| if number < 0 { i64::MAX } else { number };
    let has = difference.has.as_deref().and_then(number).map(bound);
    let wanted = number(&difference.wanted).map(bound);
    has.zip(wanted).is_some_and(|(has, wanted)| wanted >= has)
}

#[cfg(test)]
mod tests;
