//! Outcomes of deliveries on their way from the producer's thread to the thread that serves their senders: a
//! queue for each serving thread, and one wake-up for all that has come to it.
//!
//! A wake-up from another thread is a system call; one from the thread itself is not. So what waits for an
//! outcome is woken by a task of the serving thread, and the producer's thread wakes that task alone.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::outcome::Outcome;

/// An outcome, and whom it is for.
type Due = (oneshot::Sender<Outcome>, Outcome);

thread_local! {
    static HERE: RefCell<Option<Arc<Handover>>> = const { RefCell::new(None) };
}

/// The outcomes for one serving thread.
#[derive(Debug, Default)]
pub struct Handover {
    queue: Mutex<Queue>,
    /// Notified where the queue was empty.
    came: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    due: Vec<Due>,
    /// Nothing takes from it any more.
    closed: bool,
}

impl Handover {
    /// The one of this thread, where it has one.
    pub fn here() -> Option<Arc<Self>> {
        HERE.with_borrow(Clone::clone)
    }

    /// Makes one for this thread, whose runtime this is called in. It works for as long as that runtime.
    pub fn begin() {
        let handover = Arc::<Self>::default();
        HERE.set(Some(Arc::clone(&handover)));
        // Made here: a task that is dropped before it was polled closes the queue too.
        let taking = Taking(handover);
        tokio::spawn(taking.run());
    }

    /// Hands an outcome over. Where nothing takes from the queue, its receiver is woken from here.
    pub fn put(&self, reply: oneshot::Sender<Outcome>, outcome: Outcome) {
        let mut queue = self.queue.lock();
        if queue.closed {
            drop(queue);
            give((reply, outcome));
            return;
        }
        let was_empty = queue.due.is_empty();
        queue.due.push((reply, outcome));
        drop(queue);
        if was_empty {
            self.came.notify_one();
        }
    }
}

/// The receiver may be gone.
fn give((reply, outcome): Due) {
    let _ = reply.send(outcome);
}

/// Takes what comes. What is left when it is dropped, and what comes later, is given from the thread that has
/// it.
struct Taking(Arc<Handover>);

impl Taking {
    /// Gives outcomes to those that wait for them, for as long as it is polled.
    async fn run(self) {
        let mut due = Vec::new();
        loop {
            self.0.came.notified().await;
            mem::swap(&mut self.0.queue.lock().due, &mut due);
            due.drain(..).for_each(give);
        }
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        let due = mem::take(&mut queue.due);
        drop(queue);
        due.into_iter().for_each(give);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    use tokio::runtime::{Builder, Runtime};
    use tokio::time::timeout;

    use super::*;
    use crate::publish::Delivered;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[expect(clippy::unnecessary_wraps, reason = "an outcome is a result")]
    fn outcome(offset: i64) -> Outcome {
        let partition = 0;
        Ok(Delivered { partition, offset })
    }

    fn runtime() -> Runtime {
        let built = Builder::new_current_thread().enable_all().build();
        built.expect("a runtime")
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_wake_up_brings_all_that_came_in_its_order() {
        let handover = Arc::<Handover>::default();
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut running = pin!(Taking(Arc::clone(&handover)).run());
        for round in 1..=3 {
            assert!(running.as_mut().poll(&mut context).is_pending());
            let mut waiting = Vec::new();
            for offset in 0..1_000 {
                let (reply, replied) = oneshot::channel();
                handover.put(reply, outcome(offset));
                // Every other sender has gone.
                if offset % 2 == 0 {
                    waiting.push((offset, replied));
                }
            }
            assert_eq!(woken.0.load(Ordering::Relaxed), round);
            assert!(running.as_mut().poll(&mut context).is_pending());
            for (offset, mut replied) in waiting {
                assert_eq!(replied.try_recv(), Ok(outcome(offset)));
            }
        }
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        runtime().block_on(async {
            Handover::begin();
            let handover = Handover::here().expect("this thread has one");
            for _ in 0..200 {
                let (replies, waiting): (Vec<_>, Vec<_>) =
                    (0..64).map(|_| oneshot::channel()).unzip();
                let handover = Arc::clone(&handover);
                let producer = std::thread::spawn(move || {
                    for (offset, reply) in (0..).zip(replies) {
                        handover.put(reply, outcome(offset));
                        if offset % 7 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
                for (offset, replied) in (0..).zip(waiting) {
                    let came = timeout(PATIENCE, replied).await.expect("it is woken");
                    assert_eq!(came, Ok(outcome(offset)));
                }
                producer.join().expect("it does not panic");
            }
        });
    }

    #[test]
    fn a_thread_that_has_ended_keeps_nothing() {
        let ended = runtime();
        let handover = ended.block_on(async {
            Handover::begin();
            Handover::here().expect("this thread has one")
        });
        // Its task was never polled.
        let (reply, before) = oneshot::channel();
        handover.put(reply, outcome(1));
        drop(ended);
        let (reply, after) = oneshot::channel();
        handover.put(reply, outcome(2));
        assert_eq!(before.blocking_recv(), Ok(outcome(1)));
        assert_eq!(after.blocking_recv(), Ok(outcome(2)));
        // The next runtime of the same thread has another.
        runtime().block_on(async {
            Handover::begin();
            let (reply, replied) = oneshot::channel();
            let here = Handover::here().expect("this thread has one");
            here.put(reply, outcome(3));
            assert_eq!(replied.await, Ok(outcome(3)));
        });
    }
}
