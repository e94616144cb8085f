//! Disks that fail or are full, and files that vanish or cannot be read.

use std::io;

use rustix::io::Errno;

use super::*;
use crate::persist::Durable;
use crate::publish::{Hold, Publish, Refused};

/// A spool whose writer's steps a test makes by hand.
pub(super) fn by_hand(dir: &Path) -> (Spool, writer::Writer) {
    let spool = open(dir);
    drop(spool.commands.lock().take());
    for thread in spool.threads.lock().drain(..) {
        thread.join().expect("it ends");
    }
    spool
        .shared
        .use_store(spool.shared.live, live_store(dir, &spool));
    let (commands, received) = channel();
    *spool.commands.lock() = Some(commands);
    let writer = writer::Writer::new(Arc::clone(&spool.shared), received, 0);
    (spool, writer)
}

fn live_store(dir: &Path, spool: &Spool) -> Arc<Store> {
    let file = files::path(dir, spool.shared.live);
    Arc::new(Store::open(&file).expect("it opens"))
}

#[test]
fn after_a_full_disk_delivered_records_of_an_inherited_file_are_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    put_large(&open(dir.path()), 0);
    put_durably(&open(dir.path()), 10);
    let (spool, mut writer) = by_hand(dir.path());
    assert_eq!(spool.records(), 9);
    let found = spool.read(0, 4, usize::MAX).expect("it is read");
    writer.fail(&StoreError::Failed(redb::Error::Io(
        std::io::ErrorKind::StorageFull.into(),
    )));
    // Removed while the disk is full, and after the files were opened again.
    drop(spool.remove(removals(&found[..2]), None));
    assert_eq!(spool.records(), 7);
    std::thread::spawn(move || writer.run());
    eventually("it is opened again", || spool.opened() > 0);
    assert_eq!(spool.records(), 7);
    let removed = spool.remove(removals(&found[2..]), None);
    assert_eq!(removed.blocking_recv(), Ok(()));
    assert_eq!(spool.records(), 5);
    assert_eq!(drain(&spool, u64::MAX), [4, 5, 6, 7, 10]);
    assert_eq!(*spool.shared.write_path.borrow(), WritePath::Broker);
    eventually("the file is gone", || {
        let _ = spool.read(0, 1, 1);
        files_of(dir.path()) == ["spool.1.redb"]
    });
}

#[test]
fn a_vanished_file_is_reported_and_does_not_block_later_records() {
    for known in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        put_large(&open(dir.path()), 0);
        put_durably(&open(dir.path()), 10);
        let metrics = Metrics::new(&mut Registry::default());
        let spool = Spool::begin(&settings(dir.path()), metrics.spool().clone());
        let spool = spool.expect("it opens");
        if known {
            assert!(spool.shared.scan_next().expect("it is read"));
            assert_eq!(spool.records(), 9);
        }
        std::fs::remove_file(file(dir.path())).expect("it is there");
        while spool.shared.scan_next().expect("no fault") {}
        assert_eq!(drain(&spool, u64::MAX), [10]);
        assert_eq!(files_of(dir.path()), ["spool.1.redb"]);
    }
}

#[test]
fn an_unreadable_inherited_file_makes_the_spool_unready_and_holds_later_records() {
    let dir = tempfile::tempdir().expect("a folder");
    put_large(&open(dir.path()), 0);
    put_durably(&open(dir.path()), 10);
    std::fs::remove_file(file(dir.path())).expect("it is there");
    // A folder in its place: as a disk that does not give the file's bytes.
    std::fs::create_dir(file(dir.path())).expect("a folder");
    let metrics = Metrics::new(&mut Registry::default());
    let settings = settings(dir.path());
    let spool = Spool::begin(&settings, metrics.spool().clone()).expect("it opens");
    let (_closing, closed) = channel();
    scan_inherited(&spool.shared, &closed);
    assert!(spool.ready().is_err());
    put_durably(&spool, 11);
    assert!(spool.read(0, 1, 1).expect("no fault").is_empty());
    assert_eq!(spool.records(), 3);
}

#[derive(Debug)]
struct Nowhere;

impl Publish for Nowhere {
    fn publish(&self, _record: &Record<'_>, _hold: Box<Hold>) -> Result<(), Refused> {
        Err(Refused::Broken)
    }
}

#[test]
fn a_disk_that_fails_costs_the_readiness_and_a_full_one_does_not() {
    for (code, given_up) in [(Errno::IO, true), (Errno::NOSPC, false)] {
        let dir = tempfile::tempdir().expect("a folder");
        let settings = settings::Spool {
            dir: dir.path().to_owned(),
            max_bytes: 1 << 20,
            source_share: 0.5,
            max_age: Duration::from_secs(60),
            wait: Duration::from_millis(100),
            drain_rate: 1_000,
            drain_older: false,
        };
        let metrics = Metrics::new(&mut Registry::default());
        let spool = Spool::open(&settings, metrics.spool().clone()).expect("it opens");
        let spool = Arc::new(spool);
        let publisher = Arc::new(Nowhere);
        let wait = Duration::from_secs(4);
        let durable = Durable::new(publisher, Some(Arc::clone(&spool)), metrics, wait);
        assert_eq!(durable.ready(Ok(())), Ok(()));
        // What the writer does at this error of the disk.
        let (_commands, received) = channel();
        let mut writer = writer::Writer::new(Arc::clone(&spool.shared), received, 0);
        let error = redb::Error::Io(io::Error::from(code));
        writer.fail(&StoreError::Failed(error));
        assert_eq!(spool.given_up(), given_up);
        assert_eq!(durable.ready(Ok(())).is_err(), given_up);
        assert!(durable.ready(Err("away".to_owned())).is_err());
    }
}
