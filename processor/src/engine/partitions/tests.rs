//! What is asked of the restorer.

use std::sync::mpsc::channel;

use super::*;

#[test]
fn a_reposition_that_left_no_offset_is_written_again_and_not_for_ever() {
    let (wanted, asked) = channel();
    let (_answers, restored) = channel();
    let mut partitions = Partitions::new(Arc::default(), wanted, restored, Instant::now());
    let judged_to = JudgedTo {
        at: 2,
        key_partitions: 1,
    };
    partitions.restore(0, 1, None);
    // An aborted one counts for nothing.
    for committed in [true, false, true, true] {
        partitions.repositions.insert(0, judged_to);
        partitions.tried_repositions(committed);
    }
    // Another assignment begins from nothing.
    partitions.restore(0, 2, None);
    let asked: Vec<bool> = asked.try_iter().map(|wanted| wanted.repositioned).collect();
    assert_eq!(asked, [false, false, false, false, true, false]);
}
