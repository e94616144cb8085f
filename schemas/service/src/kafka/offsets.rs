//! Where topics begin and end, and where a group stands in them.
//!
//! All of it blocks, and is not called from within a tokio runtime's worker.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::plain::Plain;
use super::read::{REQUEST_TIMEOUT, ReadError, made, partitions};

/// The pause between two requests of the same.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The name of the group where offsets of none are asked for. librdkafka demands one.
const GROUP: &str = "sluice-bounds";

/// The first and the next offset of each partition of a topic, as an uncommitted reader sees them. Each is
/// asked for again for `patience`: a topic that was just created has no leader yet, and a leader moves.
pub fn bounds(
    base: &ClientConfig,
    topic: &str,
    patience: Duration,
) -> Result<Vec<(i64, i64)>, ReadError> {
    let group = base.get("group.id").unwrap_or(GROUP);
    bounds_by(&member(base, group)?, topic, patience)
}

/// The same, by a client that is there already: who asks again and again keeps one.
pub fn bounds_by<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    patience: Duration,
) -> Result<Vec<(i64, i64)>, ReadError> {
    (0..partitions(client, topic)?)
        .map(|partition| {
            let what = format!("the bounds of {topic}/{partition}");
            retried(what, patience, || {
                client.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
            })
        })
        .collect()
}

/// The next offset of each partition of a topic.
pub fn ends(base: &ClientConfig, topic: &str, patience: Duration) -> Result<Vec<i64>, ReadError> {
    let bounds = bounds(base, topic, patience)?;
    Ok(bounds.into_iter().map(|(_, end)| end).collect())
}

/// The committed offset of each partition of a topic; `None` where there is none. It is asked for again for
/// `patience`: the group's coordinator moves.
pub fn committed(
    base: &ClientConfig,
    group: &str,
    topic: &str,
    patience: Duration,
) -> Result<Vec<Option<i64>>, ReadError> {
    let client = member(base, group)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions(&client, topic)? {
        list.add_partition(topic, partition);
    }
    let what = format!("the offsets of {group}");
    let found = retried(what, patience, || {
        client.committed_offsets(list.clone(), REQUEST_TIMEOUT)
    })?;
    let offset = |offset| match offset {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    let elements = found.elements();
    Ok(elements.iter().map(|one| offset(one.offset())).collect())
}

/// A client in the name of a group, which it does not join.
pub fn member(base: &ClientConfig, group: &str) -> Result<BaseConsumer<Plain>, ReadError> {
    let mut config = base.clone();
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("log_level", "3");
    made(&config)
}

fn retried<T>(
    what: String,
    patience: Duration,
    mut request: impl FnMut() -> Result<T, KafkaError>,
) -> Result<T, ReadError> {
    let end = Instant::now() + patience;
    loop {
        match request() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= end => {
                return Err(ReadError::NoAnswer {
                    what,
                    patience,
                    error,
                });
            }
            Err(_) => std::thread::sleep(RETRY_INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::CommitMode;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;
    use crate::kafka::read::{Isolation, Reader, read, topics_with_prefix};

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_topic_is_read_from_bounds_to_bounds_and_outside_of_any_group() {
        let broker = MockCluster::new(1).expect("a broker");
        let topic = "webhooks.raw";
        broker.create_topic(topic, 2, 1).expect("a topic");
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", broker.bootstrap_servers());
        let producer: BaseProducer = base.create().expect("a producer");
        for value in ["a", "b", "c"] {
            let record = BaseRecord::<str, str>::to(topic).partition(1);
            producer.send(record.payload(value)).expect("a queue");
        }
        producer.flush(PATIENCE).expect("delivery");

        let found = bounds(&base, topic, PATIENCE).expect("bounds");
        assert_eq!(found, [(0, 0), (0, 3)]);
        let topics = topics_with_prefix(&base, "webhooks.").expect("names");
        assert_eq!(topics, [topic]);
        let records = read(&base, &topics, Isolation::Committed, PATIENCE).expect("records");
        let values: Vec<_> = records.iter().map(|one| one.value.as_slice()).collect();
        assert_eq!(values, [b"a", b"b", b"c"]);
        let reader = Reader::new(&base, &topics, Isolation::Committed).expect("a reader");
        let first =
            (0..300).find_map(|_| reader.next(Duration::from_millis(100)).expect("records"));
        assert_eq!(first.as_ref(), records.first());

        let group = |group| committed(&base, group, topic, PATIENCE).expect("offsets");
        assert_eq!(group("sluice-reader"), [None, None]);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 1, Offset::Offset(2))
            .expect("an offset");
        let client = member(&base, "processor").expect("a client");
        client.commit(&list, CommitMode::Sync).expect("a commit");
        assert_eq!(group("processor"), [None, Some(2)]);
    }
}
