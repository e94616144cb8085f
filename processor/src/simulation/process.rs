//! One process of a run: a worker and its restorer, as coroutines.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use corosensei::{Coroutine, Yielder};

use super::brokers::World;
use super::record::Recorded;
use super::thread::{Held, Thread};
use super::webhooks::Site;
use crate::engine::batch::Bounds;
use crate::engine::restore::Restorer;
use crate::engine::worker::{Channels, Exit, Worker};
use crate::kafka::Kafka as _;
use crate::kafka::assignment::Assignments;

/// One process: its worker and its restorer, each with the time at which it wants to go on.
pub struct Process {
    pub name: usize,
    pub threads: [(Coroutine<(), u64, Exit>, u64); 2],
    pub held: Rc<RefCell<Held>>,
    pub frozen: bool,
}

/// What both threads of a process are made of.
#[derive(Clone)]
struct Parts {
    site: Rc<Site>,
    world: Rc<RefCell<World>>,
    held: Rc<RefCell<Held>>,
    base: Instant,
    worker: u32,
}

impl Parts {
    fn thread<'y>(&self, yielder: &'y Yielder<(), u64>) -> Thread<'y> {
        let settings = &self.site.shared.settings;
        let names = &settings.topics.names;
        Thread {
            world: Rc::clone(&self.world),
            held: Rc::clone(&self.held),
            yielder,
            base: self.base,
            name: settings.transactional_id(self.worker),
            raw: names.raw(),
            log: names.dedup_log(),
        }
    }
}

impl Process {
    /// Starts a process whose batches have at most so many records.
    pub fn start(
        name: usize,
        records: usize,
        site: &Rc<Site>,
        world: &Rc<RefCell<World>>,
        base: Instant,
    ) -> Self {
        let held = Rc::new(RefCell::new(Held::default()));
        let parts = Parts {
            site: Rc::clone(site),
            world: Rc::clone(world),
            held: Rc::clone(&held),
            base,
            worker: u32::try_from(name).expect("a few"),
        };
        let assignments = Arc::new(Assignments::default());
        let (wanted, wanted_by_worker) = channel();
        let (answers, restored) = channel();
        let bounds = Bounds {
            records,
            ..Bounds::default()
        };
        let (of_restorer, of_worker) = (parts.clone(), Arc::clone(&assignments));
        let first = Coroutine::new(move |yielder, ()| {
            let kafka = Recorded::new(parts.thread(yielder), &name.to_string());
            let (shared, number) = (&parts.site.shared, parts.worker);
            let channels = Channels { wanted, restored };
            let made = Worker::new(&kafka, shared, number, bounds, of_worker, channels);
            made.map_or_else(|exit| exit, Worker::run)
        });
        let second = Coroutine::new(move |yielder, ()| {
            let kafka = Recorded::new(of_restorer.thread(yielder), &format!("{name}r"));
            let settings = &of_restorer.site.shared.settings;
            let memory = &of_restorer.site.shared.memory;
            let mut its_restorer = Restorer::new(&kafka, settings, memory, assignments);
            loop {
                while let Ok(wanted) = wanted_by_worker.try_recv() {
                    its_restorer.want(wanted);
                }
                if let Some(done) = its_restorer.turn() {
                    // The worker may have ended: then so does the process.
                    let _ = answers.send(done);
                }
                kafka.sleep(Duration::from_millis(30));
            }
        });
        Self {
            name,
            threads: [(first, 0), (second, 0)],
            held,
            frozen: false,
        }
    }
}
