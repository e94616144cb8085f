//! The spool's folder: its files, their tables, keys and values. A new release must find the records that
//! an older one left there.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use prometheus_client::registry::Registry;
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableHandle,
    Value,
};
use sluice_ingest::metrics::Metrics;
use sluice_ingest::publish::Record;
use sluice_ingest::spool::{Removal, Spool};
use sluice_schemas::settings;

use super::same_as_golden;
use crate::support::hex;

/// Microseconds since 1970.
const RECEIVED: i64 = 1_700_000_000_123_456;

#[test]
fn the_folder_of_the_spool_is_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings::Spool {
        dir: dir.path().to_owned(),
        max_bytes: 4 << 20,
        source_share: 0.5,
        max_age: Duration::from_secs(3600),
        wait: Duration::from_millis(100),
        drain_rate: 1,
        drain_older: false,
    };
    // The key decides what a record looks like.
    std::fs::write(dir.path().join("spool.key"), [7; 32]).unwrap();
    let metrics = Metrics::new(&mut Registry::default());
    let spool = Spool::open(&settings, metrics.spool().clone()).unwrap();
    for (body, received) in [("{}", RECEIVED), ("", RECEIVED + 1), ("kept", RECEIVED + 2)] {
        let record = Record {
            key: b"msg_1",
            value: body.as_bytes(),
            request: b"{\"v\":1}",
            traceparent: "00-ab-cd-01",
        };
        let put = spool.put(&record, "site", received, None).unwrap();
        put.blocking_recv().unwrap().unwrap();
    }
    let found = spool.read(0, 10, 1 << 20).unwrap();
    let gone = |index: usize, refused: Option<&str>| Removal {
        quarantine: refused.map(str::to_owned),
        ..Removal::of(&found[index])
    };
    let gone = vec![gone(0, None), gone(1, Some("the brokers find it invalid"))];
    spool.remove(gone, None).blocking_recv().unwrap();
    spool.close();
    same_as_golden("spool.txt", &describe(dir.path()));
}

fn describe(dir: &Path) -> String {
    let mut text = String::new();
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        writeln!(text, "file {name}").unwrap();
        if !["spool.lock", "spool.key"].contains(&name.as_str()) {
            let database = Database::open(dir.join(name)).unwrap();
            tables(&database, &mut text);
        }
    }
    text
}

fn tables(database: &Database, text: &mut String) {
    let read = database.begin_read().unwrap();
    let mut names: Vec<String> = read
        .list_tables()
        .unwrap()
        .map(|table| table.name().to_owned())
        .collect();
    names.sort();
    writeln!(text, "tables {}", names.join(" ")).unwrap();
    let records: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
    entries(&read, records, text, |number, bytes| {
        format!("{number}: {}", hex(bytes))
    });
    let refused: TableDefinition<'_, u64, (&[u8], &str)> = TableDefinition::new("refused");
    entries(&read, refused, text, |number, (bytes, why)| {
        format!("{number}: {} {why}", hex(bytes))
    });
    let totals: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
    entries(&read, totals, text, |name, number| {
        format!("{name}: {number}")
    });
}

/// Appends a line for each entry of a table, or why it cannot be opened.
fn entries<K: Key + 'static, V: Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
    text: &mut String,
    line: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> String,
) {
    let name = table.name().to_owned();
    let table = match read.open_table(table) {
        Ok(table) => table,
        Err(error) => return writeln!(text, "{name}: {error}").unwrap(),
    };
    for entry in table.iter().unwrap() {
        let (key, value) = entry.unwrap();
        writeln!(text, "{name} {}", line(key.value(), value.value())).unwrap();
    }
}
