//! Several threads that serve: connections are spread over them, bounds are those of all together, and what
//! ends on one of them ends there alone.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::support::{DELIVERED, Ingest, LIMITS, Mood, Sender, eventually, within};

const THREADS: usize = 4;

const HEAD: &str = "POST /v1/hooks/site HTTP/1.1\r\nhost: x\r\n";

fn start(more: &str) -> Ingest {
    Ingest::start_tuned(true, more, "", |settings| {
        settings.ingest.threads = NonZeroUsize::new(THREADS);
        settings.ingest.ack_timeout = Duration::from_secs(60);
    })
}

/// So many connections, each with a request on its way.
fn senders(ingest: &Ingest, count: usize) -> Vec<Sender> {
    (0..count)
        .map(|_| {
            let mut sender = ingest.connect();
            sender.write(&format!(
                "{HEAD}connection: close\r\ncontent-length: 2\r\n\r\n{{}}"
            ));
            sender
        })
        .collect()
}

fn published(ingest: &Ingest, count: usize) -> bool {
    ingest.publisher.published.lock().unwrap().len() == count
}

#[test]
fn connections_are_spread_and_acknowledgements_find_their_threads() {
    let ingest = start(LIMITS);
    ingest.mood(Mood::Keep);
    let mut senders = senders(&ingest, 3 * THREADS);
    within(60, "all are published", || published(&ingest, 3 * THREADS));
    let threads: Vec<_> = ingest.published().iter().map(|one| one.thread).collect();
    for thread in threads.iter().collect::<HashSet<_>>() {
        let own = threads.iter().filter(|other| *other == thread).count();
        assert_eq!(own, 3, "{threads:?}");
    }
    // Of a sender that is gone nothing is waited for.
    drop(senders.remove(0));
    for hold in ingest.publisher.kept.lock().unwrap().drain(..) {
        hold.end(Ok(DELIVERED));
    }
    for sender in &mut senders {
        assert_eq!(sender.answer().status, 200);
    }
    eventually("no connection is counted any more", || {
        ingest.metrics().contains("sluice_ingest_connections 0\n")
    });
}

#[test]
fn a_panic_ends_its_connection_alone() {
    let ingest = start(LIMITS);
    ingest.mood(Mood::Panic);
    let mut broken = senders(&ingest, THREADS);
    for sender in &mut broken {
        assert_eq!(sender.rest(), b"");
    }
    eventually("their places are free", || {
        ingest.metrics().contains("sluice_ingest_connections 0\n")
    });
    *ingest
        .publisher
        .mood
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Mood::Keep;
    ingest.publisher.mood.clear_poison();
    let mut good = senders(&ingest, THREADS);
    within(60, "all are published", || published(&ingest, THREADS));
    let threads: HashSet<_> = ingest.published().iter().map(|one| one.thread).collect();
    assert_eq!(threads.len(), THREADS);
    for hold in ingest.publisher.kept.lock().unwrap().drain(..) {
        hold.end(Ok(DELIVERED));
    }
    for sender in &mut good {
        assert_eq!(sender.answer().status, 200);
    }
}

#[test]
fn the_bound_on_connections_is_that_of_all_threads() {
    let ingest = start("  limits: {connections: 8, first_byte_timeout: 1h, idle_timeout: 1h}");
    ingest.mood(Mood::Keep);
    let mut busy = senders(&ingest, 8);
    within(60, "all are published", || published(&ingest, 8));
    let mut ninth = senders(&ingest, 1);
    std::thread::sleep(Duration::from_millis(200));
    assert!(published(&ingest, 8), "a ninth has no place");
    for hold in ingest.publisher.kept.lock().unwrap().drain(..) {
        hold.end(Ok(DELIVERED));
    }
    for sender in &mut busy {
        assert_eq!(sender.answer().status, 200);
    }
    within(60, "the ninth has its turn", || published(&ingest, 9));
    let hold = ingest.publisher.kept.lock().unwrap().pop().unwrap();
    hold.end(Ok(DELIVERED));
    assert_eq!(ninth[0].answer().status, 200);
}

#[test]
fn at_the_shutdown_the_requests_of_all_threads_are_answered() {
    let mut ingest = start(LIMITS);
    ingest.mood(Mood::Keep);
    let mut senders = senders(&ingest, 2 * THREADS);
    within(60, "all are published", || published(&ingest, 2 * THREADS));
    ingest.shutdown.cancel();
    for hold in ingest.publisher.kept.lock().unwrap().drain(..) {
        hold.end(Ok(DELIVERED));
    }
    for sender in &mut senders {
        assert_eq!(sender.answer().status, 200);
    }
    ingest.thread.take().unwrap().join().unwrap();
}
