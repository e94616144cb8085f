//! The two clients of a reader, from their making to their end.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use sluice_service::kafka::oauth;
use sluice_service::kafka::refusal::{self, Call};

use super::config::{Quiet, config};
use crate::kafka::api::{BrokerUnavailable, View};
use crate::kafka::cluster::Cluster;

/// How many events of a client are served at once: more than come between two questions of a worker.
const EVENTS: usize = 8;

/// What is stable, and what is there at all. Both have the group's id, and never join it.
pub struct Clients {
    stable: Option<BaseConsumer<Quiet>>,
    newest: Option<BaseConsumer<Quiet>>,
    /// The view whose client has partitions assigned.
    assigned: Cell<Option<View>>,
    group: String,
}

impl Clients {
    /// Both, without a connection yet.
    pub fn new(cluster: &Cluster<'_>) -> Result<Self, KafkaError> {
        let reader = cluster.reads_for;
        let client = |name: &str, isolation: &str| {
            let context = Quiet(cluster.statistics(name));
            let config = config(cluster, isolation);
            let client: BaseConsumer<Quiet> = config.create_with_context(context)?;
            oauth::log_in(&config, || drop(client.poll(Duration::ZERO)));
            Ok::<_, KafkaError>(client)
        };
        Ok(Self {
            stable: Some(client(reader, "read_committed")?),
            newest: Some(client(&format!("{reader}-all"), "read_uncommitted")?),
            assigned: Cell::new(None),
            group: cluster.settings.group_id(),
        })
    }

    #[expect(clippy::expect_used, reason = "it is there until the drop takes it")]
    pub fn stable(&self) -> &BaseConsumer<Quiet> {
        self.stable.as_ref().expect("only drop takes it")
    }

    #[expect(clippy::expect_used, reason = "it is there until the drop takes it")]
    pub fn newest(&self) -> &BaseConsumer<Quiet> {
        self.newest.as_ref().expect("only drop takes it")
    }

    pub fn of(&self, view: View) -> &BaseConsumer<Quiet> {
        match view {
            View::Stable => self.stable(),
            View::All => self.newest(),
        }
    }

    /// The client of this view has partitions assigned from now on; `None`: neither has.
    pub fn assigned(&self, view: Option<View>) {
        self.assigned.set(view);
    }

    /// What an error about a topic comes to. A rule that lacks is logged, and named.
    pub fn failed(&self, topic: &str, error: &KafkaError) -> BrokerUnavailable {
        let group = &self.group;
        let rule = refusal::note(Call::Consume { topic, group }, error.rdkafka_error_code());
        BrokerUnavailable(match rule {
            Some(rule) => format!("{error}; Kafka refuses {rule}"),
            None => error.to_string(),
        })
    }

    /// Takes what the clients have to say, their statistics above all: questions alone serve no events, and
    /// those would pile up. A client that reads is polled for its records anyway.
    pub fn serve(&self) {
        let assigned = self.assigned.get();
        let idle = [View::Stable, View::All].into_iter();
        for view in idle.filter(|view| assigned != Some(*view)) {
            for _ in 0..EVENTS {
                // Errors come back from the questions.
                let _ = self.of(view).poll(Duration::ZERO);
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Closing a client was seen to hang: it does so on a thread that nobody waits for.
        let clients = (self.stable.take(), self.newest.take());
        thread::spawn(move || drop(clients));
    }
}
