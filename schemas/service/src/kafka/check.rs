//! Whether a client can be made of its properties, before it is needed.

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::BaseProducer;
use sluice_schemas::settings::Fault;

use super::plain::Plain;

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It writes.
    Producer,
    /// It reads.
    Consumer,
}

/// What librdkafka has against these properties together, those alone that `kafka.properties` may set in a
/// way that does not fit the others: it looks at that only when a client is made. The one that is made here
/// has no brokers, connects nowhere, and is gone at once. `name` is that of the client to be.
pub fn client_fault(name: &str, config: &ClientConfig, kind: Kind) -> Option<Fault> {
    let mut alone = config.clone();
    alone.remove("bootstrap.servers");
    let made = match kind {
        Kind::Producer => alone
            .create_with_context::<_, BaseProducer<Plain>>(Plain)
            .map(drop),
        Kind::Consumer => alone
            .create_with_context::<_, BaseConsumer<Plain>>(Plain)
            .map(drop),
    };
    made.err().map(|error| Fault {
        path: "kafka.properties".to_owned(),
        message: format!("the client {name} cannot be made: {error}"),
    })
}
