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

use super::types::{Delivered, Undelivered};

/// What became of a record.
pub type Outcome = Result<Delivered, Undelivered>;

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
        tokio::spawn(handover.run());
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

    /// Gives outcomes to those that wait for them, for as long as it is polled. What is left when it is dropped,
    /// and what comes later, is given from the thread that has it.
    async fn run(self: Arc<Self>) {
        let closing = Closing(&self);
        let mut due = Vec::new();
        loop {
            self.came.notified().await;
            mem::swap(&mut closing.0.queue.lock().due, &mut due);
            due.drain(..).for_each(give);
        }
    }
}

/// The receiver may be gone.
fn give((reply, outcome): Due) {
    let _ = reply.send(outcome);
}

struct Closing<'a>(&'a Handover);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        let due = mem::take(&mut queue.due);
        drop(queue);
        due.into_iter().for_each(give);
    }
}
