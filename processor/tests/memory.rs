//! What a dedup index says that it takes is what the process has more. Alone in its process, for that is
//! measured, and with the allocator of the processor.

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

#[test]
fn the_bytes_of_an_index_are_those_that_the_process_has_more() {
    // Just grown and nearly full, in turn.
    let mut kept = Vec::new();
    for (count, sequences) in [(2_000_000, false), (3_500_000, false), (1_000_000, true)] {
        let before = resident();
        let mut index = DedupIndex::new(3600);
        for n in 0..count {
            // Each index has its own, for what the last one had is given back later.
            let digest = sha256(&[n, count].map(u64::to_be_bytes).concat());
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
        assert!(
            said > more / 4 * 3 && said < more / 4 * 5,
            "{said} of {more}"
        );
        // What is freed stays with the process, and would serve the next index.
        kept.push(index);
    }
}
