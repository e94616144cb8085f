//! What comes out of the quarantine again, and what stays there.

use std::io;

use rustix::io::Errno;

use super::failures::by_hand;
use super::salvage::put_request;
use super::*;

/// Puts all records that are here in quarantine.
fn quarantine_all(spool: &Spool) {
    let found = spool.read(0, usize::MAX, usize::MAX).expect("it is read");
    let removals = found.iter().map(|found| Removal {
        quarantine: Some("too large".to_owned()),
        ..Removal::of(found)
    });
    let removed = spool.remove(removals.collect(), None);
    assert_eq!(removed.blocking_recv(), Ok(()));
}

fn release(spool: &Spool, of: Released) -> Result<u64, String> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(spool.release(of))
}

#[test]
fn what_is_older_than_max_age_stays_in_quarantine_until_the_operator_decides() {
    let dir = tempfile::tempdir().expect("a folder");
    let now = crate::clock::now();
    let day = 86_400_000_000;
    let spool = open(dir.path());
    // More than are moved at once, and the young one behind them.
    for n in 0..20 {
        put_request(&spool, format!("body {n} ").as_bytes(), now - day);
    }
    put_request(&spool, b"body 20 ", now);
    quarantine_all(&spool);
    drop(spool);
    let metrics = Metrics::new(&mut Registry::default());
    // With a `max_age` of one hour.
    let begin = || Spool::open(&settings(dir.path()), metrics.spool().clone()).expect("it opens");
    let spool = begin();
    assert_eq!(release(&spool, Released::All), Ok(1));
    assert_eq!((spool.records(), spool.quarantined()), (1, 20));
    assert_eq!(numbers(&spool), [20]);
    drop(spool);
    // A pod that starts on this folder takes requests.
    let spool = begin();
    assert_eq!(spool.ready(), Ok(()));
    spool.drain_older(true);
    assert_eq!(release(&spool, Released::All), Ok(20));
    assert_eq!((spool.records(), spool.quarantined()), (21, 0));
}

#[test]
fn a_release_while_the_disk_is_full_does_not_give_the_spool_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, mut writer) = by_hand(dir.path());
    let full = redb::Error::Io(io::Error::from(Errno::NOSPC));
    writer.fail(&StoreError::Failed(full));
    let refused = writer
        .on_release(Released::All)
        .expect_err("no store is open");
    assert_eq!(refused, "the spool cannot be written");
    assert!(!spool.given_up());
    std::thread::spawn(move || writer.run());
    eventually("it takes records again", || put(&spool, 1, NOW).is_ok());
}
