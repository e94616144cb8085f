//! Transactions that are not decided, and fates that are not there: what is waited for is named, and what is
//! missing is made again.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;
use sluice_schemas::fate::Fate;
use sluice_tests::harness::deployment::now;
use sluice_tests::harness::offsets;
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use crate::harness::{Running, site};

/// How long a call of the stranger may take.
const CALL: Duration = Duration::from_secs(10);

/// A transaction of somebody else: it holds the first partition of the dedup-log, and the group's offset of
/// the second partition of raw.
fn strangers_transaction(running: &Running) -> BaseProducer {
    let (site, names) = (&running.site, running.names());
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", site.bootstrap())
        .set("transactional.id", format!("{}stranger", names.prefix))
        .set("transaction.timeout.ms", "300000")
        .create()
        .expect("a producer");
    producer.init_transactions(CALL).expect("a name");
    producer.begin_transaction().expect("a transaction");
    let log = names.dedup_log();
    let record = BaseRecord::<(), str>::to(&log).partition(0).payload("x");
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .expect("a record");
    producer.flush(CALL).expect("a delivery");
    let outsider: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", site.bootstrap())
        .set("group.id", site.group())
        .create()
        .expect("a consumer");
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&names.raw(), 1, Offset::Offset(0))
        .expect("an offset");
    let metadata = outsider.group_metadata().expect("the group's metadata");
    producer
        .send_offsets_to_transaction(&offsets, &metadata, CALL)
        .expect("offsets in the transaction");
    producer
}

#[test]
fn an_error_names_what_is_waited_for_since_when_and_the_commands() {
    let mut site = site("undecided");
    site.set(&["topics", "partitions"], json!(2));
    let mut running = Running::on(site);
    let source = running.source("referralloop");
    let request = |n| {
        source
            .signed("signup.created", n, now())
            .expect("a request")
    };
    let before: Vec<String> = (0..8).map(|n| running.accept(&request(n))).collect();
    running.outcomes(before.len());
    running.processor.kill().expect("a kill");
    let stranger = strangers_transaction(&running);
    running.processor = running.site.processor("p0").expect("a process");
    let during: Vec<String> = (8..16).map(|n| running.accept(&request(n))).collect();
    let log = running.names().dedup_log();
    let wanted = [
        vec![
            "\"partition\":0".to_owned(),
            format!("{log}-0 holds a transaction"),
        ],
        vec![
            "\"partition\":1".to_owned(),
            "the group's offset is not given".to_owned(),
        ],
        vec!["no transaction may begin until this is decided".to_owned()],
    ];
    wait_for("the errors", PATIENCE, || {
        let log = running.processor.log()?;
        let named = |wanted: &Vec<String>| {
            log.lines().any(|line| {
                line.contains("\"ERROR\"")
                    && line.contains("\"seconds\":")
                    && line.contains("kafka-transactions.sh")
                    && wanted.iter().all(|text| line.contains(text.as_str()))
            })
        };
        Ok(wanted.iter().all(named).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", running.processor.log().unwrap_or_default()));
    assert!(!running.processor.is_ready());
    stranger.abort_transaction(CALL).expect("an abort");
    running.processor.wait_ready().expect("it goes on");
    for id in during {
        assert_eq!(running.outcome(&id).fate, Fate::Event);
    }
    running.finish(&["\"ERROR\"", "\"target\":\"librdkafka\""]);
}

#[test]
fn an_event_that_is_not_there_is_made_again_and_no_other() {
    let mut site = site("remade");
    site.set(&["topics", "partitions"], json!(1));
    site.set(&["topics", "event_partitions"], json!(1));
    let mut running = Running::on(site);
    let source = running.source("referralloop");
    let at = now();
    let request = |event| source.signed(event, 1, at).expect("a request");
    let (first, last) = (request("signup.created"), request("signup.deleted"));
    for (request, fate) in [
        (&first, Fate::Event),
        (&first, Fate::Duplicate),
        // Of the last transaction nothing is vouched for yet.
        (&last, Fate::Event),
    ] {
        let id = running.accept(request);
        assert_eq!(running.outcome(&id).fate, fate);
    }
    running.processor.stop().expect("an end");
    // As a sweep leaves a torn commit: the offset and the log are in force, and the event is gone.
    let topic = source
        .topic(&running.names(), "signup.deleted")
        .expect("a topic");
    let (_, end) = offsets::bounds(running.site.bootstrap(), &topic).expect("bounds")[0];
    offsets::delete_records(running.site.bootstrap(), &topic, &[(0, end)]).expect("deletion");
    running.start_processor();
    // Its repetition comes behind it, and is one.
    let again = running.accept(&last);
    assert_eq!(running.outcome(&again).fate, Fate::Duplicate);
    let verdict = running.finish(&["torn by the brokers"]);
    assert_eq!((verdict.raw, verdict.duplicates), (4, 2));
    assert_eq!(verdict.events.values().sum::<usize>(), 2);
}
