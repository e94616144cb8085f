//! A record of a fate on its way back to raw. Comes in: the record as it stands on the topic of its fate.
//! Goes out: the one for raw, with key, value, request and trace as they were.

use sluice_schemas::fate::{DUPLICATE_OF, REDRIVE_COUNT, REDRIVE_LIMIT};
use sluice_schemas::placement;
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;

/// What the headers of a fate begin with, which raw does not have.
const OF_THE_FATE: [&str; 2] = ["fate.", "raw."];

/// How often a record was redriven; `None` where its header is no number. The last header counts, as for the
/// processor.
pub fn count(record: &Record) -> Option<u64> {
    let mut headers = record.headers.iter().rev();
    let found = headers.find(|(name, _)| name == REDRIVE_COUNT);
    found.map_or(Some(0), |(_, value)| {
        std::str::from_utf8(value).ok()?.parse().ok()
    })
}

/// Which redrive comes next; `None` past the limit.
pub fn next(record: &Record) -> Option<u64> {
    let next = count(record)?.checked_add(1)?;
    (next <= REDRIVE_LIMIT).then_some(next)
}

/// The record as it stood on raw: without what its fate added.
pub fn as_it_was(mut record: Record) -> Record {
    let is_of_the_fate = |name: &str| {
        name == DUPLICATE_OF || OF_THE_FATE.iter().any(|prefix| name.starts_with(prefix))
    };
    record.headers.retain(|(name, _)| !is_of_the_fate(name));
    record
}

/// The record for raw, in the partition that ingest would choose; `None` past the limit.
pub fn again(record: Record, settings: &Settings) -> Option<Record> {
    let count = next(&record)?;
    let mut again = as_it_was(record);
    again.headers.retain(|(name, _)| name != REDRIVE_COUNT);
    let header = (REDRIVE_COUNT.to_owned(), count.to_string().into_bytes());
    again.headers.push(header);
    again.partition = placement::partition(&again.key, settings.topics.key_partitions);
    again.topic = settings.topics.names.raw();
    Some(again)
}

#[cfg(test)]
mod tests {
    use sluice_schemas::fate::{DETAIL, RAW_OFFSET, RAW_PARTITION, RAW_TOPIC, REASON};
    use sluice_schemas::raw::{REQUEST, TRACEPARENT};

    use super::*;
    use crate::redrive::testing;

    const KEPT: [(&str, &[u8]); 4] = [
        (REQUEST, b"\x00\xffany bytes"),
        (TRACEPARENT, b"00-1-2-01"),
        ("tracestate", b"a=b"),
        ("of.another.release", b"x"),
    ];

    fn letter(more: &[(&str, &[u8])]) -> Record {
        let added: [(&str, &[u8]); 7] = [
            (REASON, b"malformed_json"),
            (DETAIL, b"why"),
            ("fate.later", b"x"),
            (RAW_TOPIC, b"webhooks.raw"),
            (RAW_PARTITION, b"2"),
            (RAW_OFFSET, b"17"),
            (DUPLICATE_OF, b"id"),
        ];
        let headers = KEPT.iter().chain(&added).chain(more);
        let headers = headers.map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        Record {
            topic: "webhooks.dead-letter".to_owned(),
            partition: 0,
            offset: 5,
            timestamp: 1,
            key: b"21".to_vec(),
            value: b"\xff body".to_vec(),
            headers: headers.collect(),
        }
    }

    #[test]
    fn all_but_the_fate_goes_back_byte_for_byte_where_ingest_would_put_it() {
        let settings = testing::settings();
        for (more, count) in [
            (None, "1"),
            (Some("1"), "2"),
            (Some("7"), "8"),
            (Some("9"), "10"),
        ] {
            let more: Vec<(&str, &[u8])> = more
                .map(|count| (REDRIVE_COUNT, count.as_bytes()))
                .into_iter()
                .collect();
            let again = again(letter(&more), &settings).expect("within the limit");
            let mut expected: Vec<(String, Vec<u8>)> = KEPT
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect();
            expected.push((REDRIVE_COUNT.to_owned(), count.as_bytes().to_vec()));
            assert_eq!(again.headers, expected);
            assert_eq!(
                (again.key.as_slice(), again.value.as_slice()),
                (&b"21"[..], &b"\xff body"[..])
            );
            let partition = placement::partition(b"21", settings.topics.key_partitions);
            assert_eq!(
                (again.topic.as_str(), again.partition),
                ("eu.webhooks.raw", partition)
            );
        }
    }

    #[test]
    fn past_the_limit_and_without_a_number_nothing_goes_back() {
        let settings = testing::settings();
        for bad in ["10", "11", "18446744073709551615", "x", "-1", ""] {
            let letter = letter(&[(REDRIVE_COUNT, bad.as_bytes())]);
            assert!(again(letter, &settings).is_none(), "{bad}");
        }
        // The last one counts.
        let twice: [(&str, &[u8]); 2] = [(REDRIVE_COUNT, b"10"), (REDRIVE_COUNT, b"3")];
        assert_eq!(next(&letter(&twice)), Some(4));
    }
}
