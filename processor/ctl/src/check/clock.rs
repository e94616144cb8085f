//! Do the brokers' clocks and ingest's agree? Each raw record has the time of both: when it was received and
//! when it was appended. Without a record nothing can be said, for this check writes none.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use sluice_schemas::fate::REDRIVE_COUNT;
use sluice_schemas::raw::{Ack, REQUEST, RawRequest};
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;
use sluice_service::kafka::read::record;

use super::finding::Finding;
use crate::client::{self, TIMEOUT, ask};

const CHECK: &str = "clock";

/// From here on two clocks are apart, in milliseconds.
const CLOCKS_APART: i64 = 30_000;

/// So many records of a partition are looked at, from its end.
const LAST: i64 = 10;

/// How long the last records of all partitions may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The newest raw record's times.
pub fn check(settings: &Settings) -> Vec<Finding> {
    let raw = settings.topics.names.raw();
    let finding = match newest(settings, &raw) {
        Err(error) => Finding::skip(CHECK, &raw, &format!("it cannot be read: {error}")),
        Ok(None) => Finding::skip(
            CHECK,
            &raw,
            "its last records did not go to the brokers at once; ingest measures with each that does \
             (sluice_clock_difference_seconds)",
        ),
        Ok(Some((record, request))) => compared(settings, &record, &request, now()),
    };
    vec![finding]
}

fn compared(settings: &Settings, record: &Record, request: &RawRequest, now: i64) -> Finding {
    let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
    // It is appended after its receipt, and before its sender is answered.
    let received = request.received_at / 1000;
    let later = record.timestamp - received;
    let longest = i64::try_from(settings.ingest.ack_timeout.as_millis()).unwrap_or(i64::MAX);
    let ahead_of_us = record.timestamp - now;
    let message = format!(
        "the broker appended it {} s after ingest received it, {} s ago",
        seconds(later),
        (now - record.timestamp) / 1000
    );
    if later < -CLOCKS_APART || later > longest.saturating_add(CLOCKS_APART) {
        let message = format!("{message}: the clocks of ingest and of the broker were apart");
        return Finding::warn(CHECK, &place, &message).mend("synchronize both");
    }
    if ahead_of_us > CLOCKS_APART {
        let message = format!("{message}: the broker's clock is ahead of this host's");
        return Finding::warn(CHECK, &place, &message).mend("synchronize both");
    }
    Finding::ok(CHECK, &place, &message)
}

/// Milliseconds as seconds, with one digit behind the point.
fn seconds(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let tenths = (millis.unsigned_abs() + 50) / 100;
    format!("{sign}{}.{}", tenths / 10, tenths % 10)
}

/// The request of a record that was appended when it was received: it neither waited on a spool nor was
/// redriven later.
fn at_once(record: &Record) -> Option<RawRequest> {
    if record.header(REDRIVE_COUNT).is_some() {
        return None;
    }
    let request = RawRequest::decode(record.header(REQUEST)?).ok()?;
    (request.ack == Ack::Broker).then_some(request)
}

/// The newest of the last records of all partitions, of those that were appended when they were received.
fn newest(settings: &Settings, raw: &str) -> Result<Option<(Record, RawRequest)>, String> {
    let words = |error: KafkaError| error.to_string();
    let config = client::config(settings)?;
    let (consumer, _) = client::consumer(&config).map_err(words)?;
    let metadata = ask(&consumer, |consumer| {
        consumer.fetch_metadata(Some(raw), TIMEOUT)
    });
    let metadata = metadata.map_err(words)?;
    let topic = metadata.topics().first();
    let partitions = topic.map(rdkafka::metadata::MetadataTopic::partitions);
    let mut open: BTreeSet<i32> = partitions
        .unwrap_or_default()
        .iter()
        .map(rdkafka::metadata::MetadataPartition::id)
        .collect();
    if open.is_empty() {
        return Err("it is missing, or may not be seen".to_owned());
    }
    let mut list = TopicPartitionList::new();
    for partition in &open {
        list.add_partition_offset(raw, *partition, Offset::OffsetTail(LAST))
            .map_err(words)?;
    }
    consumer.assign(&list).map_err(words)?;
    let mut newest: Option<(Record, RawRequest)> = None;
    let end = Instant::now() + PATIENCE;
    while !open.is_empty() && Instant::now() < end {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                let record = record(&message);
                let newer = newest
                    .as_ref()
                    .is_none_or(|(other, _)| other.timestamp < record.timestamp);
                if newer && let Some(request) = at_once(&record) {
                    newest = Some((record, request));
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) if error.rdkafka_error_code().is_some_and(client::is_refusal) => {
                return Err(error.to_string());
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(newest)
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use sluice_schemas::raw::Headers;
    use uuid::Uuid;

    use super::*;

    fn appended(ack: Ack, more: Option<&str>) -> Record {
        let request = RawRequest {
            id: Uuid::from_u128(1),
            source: "s".to_owned(),
            provider: "flock".to_owned(),
            received_at: 0,
            method: "POST".to_owned(),
            target: "/v1/hooks/s".to_owned(),
            peer: IpAddr::from([127, 0, 0, 1]),
            token: false,
            ack,
            headers: Headers(Vec::new()),
        };
        let mut headers = vec![(REQUEST.to_owned(), request.encode())];
        headers.extend(more.map(|count| (REDRIVE_COUNT.to_owned(), count.into())));
        Record {
            topic: "webhooks.raw".to_owned(),
            partition: 0,
            offset: 6,
            timestamp: 219_124,
            key: Vec::new(),
            value: Vec::new(),
            headers,
        }
    }

    #[test]
    fn what_was_redriven_or_spooled_says_nothing_of_clocks() {
        assert!(at_once(&appended(Ack::Broker, None)).is_some());
        for record in [
            appended(Ack::Broker, Some("1")),
            appended(Ack::Spool, None),
            appended(Ack::Spool, Some("1")),
        ] {
            assert!(at_once(&record).is_none());
        }
    }

    #[test]
    fn a_difference_is_said_in_seconds() {
        for (millis, said) in [
            (0, "0.0"),
            (49, "0.0"),
            (219_124, "219.1"),
            (-1_960, "-2.0"),
        ] {
            assert_eq!(seconds(millis), said);
        }
    }
}
