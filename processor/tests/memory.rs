//! What a dedup index says that it takes is what the process has more, measured with the processor's
//! allocator.

use sluice_processor::dedup::index::DedupIndex;
use sluice_schemas::dedup_log::{Entry, SequenceEntry};
use sluice_schemas::identity::sha256;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process has a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.expect("a number") * 1024
}

/// Says which of the cases a process is for.
const CASE: &str = "SLUICE_MEMORY_CASE";

/// Just grown and nearly full, in turn: how many keys, and whether they are of sequences.
const CASES: [(u64, bool); 3] = [(2_000_000, false), (3_500_000, false), (1_000_000, true)];

#[test]
fn the_bytes_of_an_index_are_those_that_the_process_has_more() {
    if let Ok(case) = std::env::var(CASE) {
        return measure(CASES[case.parse::<usize>().expect("a number")]);
    }
    // Each has a process of its own: what is freed goes back to the system at a time of the allocator's.
    for (case, what) in CASES.iter().enumerate() {
        let program = std::env::current_exe().expect("this program");
        let measured = std::process::Command::new(program)
            .env(CASE, case.to_string())
            .arg("--nocapture")
            .status()
            .expect("it starts");
        assert!(measured.success(), "{what:?}");
    }
}

fn measure((count, sequences): (u64, bool)) {
    let before = resident();
    let mut index = DedupIndex::new(3600);
    for n in 0..count {
        let digest = sha256(&n.to_be_bytes());
        let mut identity = [0; 16];
        identity.copy_from_slice(&digest[..16]);
        let sequence = sequences.then_some(SequenceEntry {
            entity: identity,
            mac: identity,
        });
        index.insert(&Entry {
            identity,
            appended: 1_800_000_000,
            sequence,
        });
    }
    let (more, said) = (resident() - before, index.bytes());
    println!("{more} bytes more, and the index says {said}");
    // The index says half as much again as its tables take, for what is freed where they grow. How much of
    // that is still with the process is the allocator's.
    assert!(
        said > more / 4 * 3 && said < more / 2 * 3,
        "{said} of {more}"
    );
}
