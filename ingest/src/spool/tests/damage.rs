//! Damaged files: what is whole is saved, and the rest is reported.

use std::io::Write;

use super::*;

fn damaged_files(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir).expect("the folder");
    files
        .filter(|file| {
            let name = file.as_ref().expect("a file").file_name();
            name.to_string_lossy().contains("damaged")
        })
        .count()
}

#[test]
fn a_damaged_inherited_file_is_salvaged_and_later_records_stay() {
    let dir = tempfile::tempdir().expect("a folder");
    put_large(&open(dir.path()), 0);
    let mut bytes = std::fs::read(file(dir.path())).expect("the file");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(file(dir.path()), bytes).expect("a file");
    let spool = open(dir.path());
    put_durably(&spool, 10);
    eventually("it is known", || spool.shared.state().unscanned.is_empty());
    assert_eq!(damaged_files(dir.path()), 1);
    let drained = drain(&spool, u64::MAX);
    assert!(drained.is_sorted(), "{drained:?}");
    // A bit is part of one record at most.
    assert!(
        drained.len() >= 8 && drained.ends_with(&[10]),
        "{drained:?}"
    );
}

/// As a process leaves it that is killed: nothing is closed.
fn killed(dir: &Path, records: u64) {
    let spool = open(dir);
    for n in 0..records {
        put_durably(&spool, n);
    }
    let copy = dir.join("copy");
    std::fs::copy(file(dir), &copy).expect("a copy");
    drop(spool);
    std::fs::rename(copy, file(dir)).expect("a name");
}

/// What became of records `0..records` after some damage: all are there, or the damage is reported and what
/// is there is whole and in order. How many are there, if the damage was reported.
fn survives(dir: &Path, records: u64, what: &str) -> Option<usize> {
    let spool = open(dir);
    let found = numbers(&spool);
    assert!(found.is_sorted_by(|a, b| a < b), "{what}: {found:?}");
    assert!(found.iter().all(|n| *n < records), "{what}: {found:?}");
    let reported = damaged_files(dir) > 0;
    assert!(
        reported || found.len() as u64 == records,
        "{what}: {found:?} and no report"
    );
    put_durably(&spool, records);
    reported.then_some(found.len())
}

#[test]
fn every_truncation_of_the_last_page_is_reported_and_whole_records_are_salvaged() {
    const RECORDS: u64 = 40;
    let dir = tempfile::tempdir().expect("a folder");
    killed(dir.path(), RECORDS);
    let whole = std::fs::read(file(dir.path())).expect("the file");
    let key = std::fs::read(dir.path().join("spool.key")).expect("the key");
    // The file is longer than what was written: its last page is the last that is not empty.
    let used = whole
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("something")
        + 1;
    let mut reported = 0;
    for cut in 1..=4096 {
        let length = used - cut;
        // Most of what a cut does, the page before does too.
        if cut > 64 && cut % 61 != 0 && cut != 4096 {
            continue;
        }
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(file(dir.path()), &whole[..length]).expect("a file");
        std::fs::write(dir.path().join("spool.key"), &key).expect("a file");
        reported += u32::from(survives(dir.path(), RECORDS, &format!("cut at {length}")).is_some());
    }
    // Some cuts take what was free.
    assert!(reported > 0);
}

#[test]
fn a_flipped_bit_is_reported_or_loses_nothing() {
    const RECORDS: u64 = 40;
    let dir = tempfile::tempdir().expect("a folder");
    killed(dir.path(), RECORDS);
    let whole = std::fs::read(file(dir.path())).expect("the file");
    let key = std::fs::read(dir.path().join("spool.key")).expect("the key");
    let used = whole
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("something")
        + 1;
    let mut reported = 0;
    for round in 0..150_usize {
        let at = (round * 7_919_131) % (used * 8);
        let mut bytes = whole.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("spool.key"), &key).expect("a file");
        let mut file = std::fs::File::create(file(dir.path())).expect("a file");
        file.write_all(&bytes).expect("a file");
        if let Some(saved) = survives(dir.path(), RECORDS, &format!("bit {at}")) {
            reported += 1;
            // A bit is part of one record at most.
            assert!(saved as u64 >= RECORDS - 1, "bit {at}: {saved}");
        }
    }
    assert!(reported > 0);
}
