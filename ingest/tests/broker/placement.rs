//! In which partition of raw a record is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use rdkafka::config::ClientConfig;
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sluice_ingest::metrics::Metrics;
use sluice_ingest::publish::{Hold, Kafka, Publish, Record, Undelivered, Use};
use sluice_schemas::placement;
use tokio::sync::oneshot;

use super::{
    PARTITIONS, becomes, murmur2_partition, post, raw_reader, settings, settings_of, start,
};

/// Key and partition of so many records of a topic of so many partitions.
fn placed(bootstrap: &str, partitions: i32, count: usize) -> Vec<(Vec<u8>, i32)> {
    let consumer = raw_reader(bootstrap, partitions);
    let (mut found, since) = (Vec::new(), Instant::now());
    while found.len() < count {
        assert!(since.elapsed() < Duration::from_secs(20), "{found:?}");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            found.push((message.key().unwrap().to_vec(), message.partition()));
        }
    }
    found
}

#[test]
fn a_key_is_placed_where_librdkafka_placed_it() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("webhooks.raw", PARTITIONS, 1).unwrap();
    let bootstrap = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    // Of every length that a key may have, with bytes beyond ASCII.
    let keys: Vec<Vec<u8>> = (0_u8..200)
        .map(|length| (0..length).map(|n| n.wrapping_mul(89) ^ length).collect())
        .collect();
    for key in &keys {
        producer
            .send(BaseRecord::to("webhooks.raw").key(key).payload("x"))
            .unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
    for (key, partition) in placed(&bootstrap, PARTITIONS, keys.len()) {
        assert_eq!(partition, placement::partition(&key, PARTITIONS), "{key:?}");
    }
}

#[test]
fn a_raw_of_more_partitions_moves_no_key() {
    for topics in ["partitions: 4", "partitions: 5, key_partitions: 4"] {
        let cluster = MockCluster::new(1).unwrap();
        cluster
            .create_topic("webhooks.raw", PARTITIONS + 1, 1)
            .unwrap();
        let running = start(settings_of(&cluster.bootstrap_servers(), topics));
        becomes(&running, "200");
        for n in 0..20 {
            let answer = post(running.address, &format!("msg_{n}"));
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        running.shutdown.cancel();
        running.end().unwrap();
        for (key, partition) in placed(&cluster.bootstrap_servers(), PARTITIONS + 1, 20) {
            assert_eq!(partition, murmur2_partition(&key), "{topics}: {key:?}");
        }
    }
}

#[test]
fn a_key_whose_partition_is_not_there_goes_to_no_other() {
    let cluster = MockCluster::new(1).unwrap();
    cluster
        .create_topic("webhooks.raw", PARTITIONS - 1, 1)
        .unwrap();
    let settings = settings(&cluster.bootstrap_servers());
    let metrics = Metrics::new(&mut Registry::default());
    let kafka = Arc::new(Kafka::new(&settings, Use::Live, metrics.delivery().clone()).unwrap());
    assert_eq!(
        kafka.probe(Duration::from_secs(10)),
        Err("webhooks.raw has 3 partitions, fewer than topics.key_partitions, 4".to_owned())
    );
    let (mut there, mut gone) = (0, 0);
    for n in 0..20 {
        let key = format!("msg_{n}");
        let record = Record {
            key: key.as_bytes(),
            value: b"{}",
            request: b"{}",
            traceparent: "",
        };
        let (reply, replied) = oneshot::channel();
        let partition = murmur2_partition(key.as_bytes());
        // Refused at once, or once the client knows the topic's partitions.
        let published = kafka.publish(&record, Hold::new(reply, None));
        let delivered = published.ok().map(|()| replied.blocking_recv().unwrap());
        if let Some(Ok(delivered)) = delivered {
            assert_eq!(delivered.partition, partition);
            there += 1;
        } else {
            assert!(matches!(delivered, None | Some(Err(Undelivered::Refused))));
            assert_eq!(partition, PARTITIONS - 1);
            gone += 1;
        }
    }
    assert!(there > 0 && gone > 0, "{there} {gone}");
}
