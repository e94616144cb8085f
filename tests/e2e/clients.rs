//! What the clients of Kafka say of themselves, and how far the processor is behind raw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sluice_processor::kafka::lag::{RawClient, RawLog};
use sluice_service::kafka::client::base_config;
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::metrics::Samples;
use sluice_tests::harness::offsets::{create_topic, delete_topic};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::{Running, site};

/// The clients that a metric has a series of.
fn clients(samples: &Samples, metric: &str) -> BTreeSet<String> {
    let found = samples.named(metric);
    found
        .map(|sample| sample.labels["client"].clone())
        .collect()
}

#[test]
fn every_client_reports_its_queue_and_its_brokers() {
    let running = Running::start("clients");
    let expected = [
        (
            &running.processor,
            &["consumer-0", "producer-0", "reader-0", "reader-all-0"][..],
        ),
        (&running.ingest, &["live"]),
    ];
    for (service, names) in expected {
        let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        wait_for("all clients to report", PATIENCE, || {
            let samples = service.metrics()?;
            let trips = clients(&samples, "sluice_kafka_round_trip_seconds");
            let errors = clients(&samples, "sluice_kafka_errors_total");
            let mut queues = clients(&samples, "sluice_kafka_queue_records");
            queues.extend(clients(&samples, "sluice_kafka_fetched_records"));
            let all = [trips, errors, queues];
            Ok(all
                .iter()
                .all(|found| found.is_superset(&names))
                .then_some(()))
        })
        .expect("the reports");
    }
    let samples = running.processor.metrics().expect("metrics");
    for sample in samples.named("sluice_kafka_round_trip_seconds") {
        assert!(sample.value > 0.0 && sample.value < 10.0, "{sample:?}");
        assert!(sample.labels["broker"].parse::<u32>().is_ok(), "{sample:?}");
    }
    running.finish(&[]);
}

#[test]
fn the_lag_is_what_is_not_committed_and_its_age() {
    let mut running = Running::start("lag");
    let source = running.source("flowcode");
    let event = source.samples().expect("samples")[0];
    let topic = running.names().event("flowcode", event);
    let lag = |running: &Running| {
        let samples = running.processor.metrics()?;
        let partitions = samples.named("sluice_raw_lag_records").count();
        let records = samples.sum("sluice_raw_lag_records", &[]);
        let seconds = samples.sum("sluice_raw_lag_seconds", &[]);
        anyhow::Ok((partitions, records, seconds))
    };
    wait_for("a lag of 0 of all partitions", PATIENCE, || {
        let (partitions, records, seconds) = lag(&running)?;
        Ok((partitions == 3 && records + seconds == 0.0).then_some(()))
    })
    .expect("no lag");

    // Nothing can be committed while the event has no topic to go to.
    delete_topic(running.site.bootstrap(), &topic).expect("deletion");
    let request = source.signed(event, 1, now()).expect("a request");
    running.accept(&request);
    wait_for("the record to get old", PATIENCE, || {
        let (_, records, seconds) = lag(&running)?;
        Ok(((records - 1.0).abs() < 0.5 && seconds > 5.0).then_some(()))
    })
    .expect("a lag");

    create_topic(running.site.bootstrap(), &topic, 1, &[]).expect("the topic");
    running.outcomes(1);
    wait_for("no lag again", PATIENCE, || {
        let (_, records, seconds) = lag(&running)?;
        Ok((records + seconds == 0.0).then_some(()))
    })
    .expect("no lag");
    running.finish(&["WARN", "ERROR"]);
}

/// A broker returns a batch that is larger than what was asked for of the first partition alone.
#[test]
fn the_oldest_record_is_read_out_of_large_batches_in_many_partitions() {
    const PARTITIONS: i32 = 12;
    let site = site("large-batches");
    let raw = site.names().raw();
    let stamped = [("message.timestamp.type", "LogAppendTime")];
    create_topic(site.bootstrap(), &raw, PARTITIONS, &stamped).expect("the topic");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", site.bootstrap())
        .set("linger.ms", "500")
        .create()
        .expect("a producer");
    let body = vec![b'x'; 10_000];
    let from = now() * 1_000;
    for partition in (0..PARTITIONS).flat_map(|partition| [partition; 9]) {
        let record = BaseRecord::<[u8], [u8]>::to(&raw)
            .partition(partition)
            .payload(&body);
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("a record");
    }
    producer.flush(Duration::from_secs(30)).expect("a flush");

    let file = site.dir().join("settings.yaml");
    std::fs::write(&file, site.settings.to_string()).expect("the settings");
    let settings = sluice_service::settings::load(&file).expect("settings");
    let base = base_config(&settings).expect("properties");
    let client = RawClient::new(&settings, &base).expect("a client");
    let all: Vec<i32> = (0..PARTITIONS).collect();
    let bounds = wait_for("the bounds", PATIENCE, || {
        let bounds = client.bounds(&all).unwrap_or_default();
        Ok((bounds.len() == all.len()).then_some(bounds))
    });
    assert!(
        bounds
            .expect("the bounds")
            .values()
            .all(|found| *found == (0, 9))
    );
    // In the middle of a batch as well: the broker returns all of it.
    for offset in [0, 5] {
        let at: BTreeMap<i32, i64> = all.iter().map(|partition| (*partition, offset)).collect();
        let started = Instant::now();
        let found = wait_for("a record of each", PATIENCE, || {
            let found = client.appended(&at).unwrap_or_default();
            Ok((found.len() == at.len()).then_some(found))
        })
        .expect("records");
        println!("from {offset}: {:?}", started.elapsed());
        let range = from - 1_000..(now() + 1) * 1_000;
        assert!(found.values().all(|ms| range.contains(ms)), "{found:?}");
    }
}
