//! A worker on librdkafka, made again where the credentials of its clients change.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use crate::engine::batch::Bounds;
use crate::engine::restore::Restorer;
use crate::engine::worker::{Channels, Exit, Shared, Worker};
use crate::kafka::assignment::Assignments;
use crate::kafka::base::Generation;
use crate::kafka::cluster::Cluster;
use crate::kafka::watchdog::Calls;

/// The watches over a worker's two threads.
#[derive(Debug, Clone, Default)]
pub struct Threads {
    /// Its own.
    pub worker: Calls,
    /// Its restorer's.
    pub restorer: Calls,
}

/// Runs a worker on librdkafka until it is asked to end or must. When the credentials change it leaves the
/// group in order, with nothing open, as at the end of the process, and joins with new clients.
pub fn run(shared: &Arc<Shared>, number: u32, threads: &Threads) -> Exit {
    loop {
        let base = shared.base.now();
        let exit = run_once(shared, number, threads, &base);
        if exit != Exit::Shutdown || shared.shutdown.is_cancelled() {
            return exit;
        }
        tracing::info!(
            worker = number,
            "the worker closed its clients, and joins again with new credentials"
        );
    }
}

fn run_once(shared: &Arc<Shared>, number: u32, threads: &Threads, base: &Arc<Generation>) -> Exit {
    let assignments = Arc::new(Assignments::default());
    let (wanted, wanted_by_worker) = channel();
    let (restored_by_thread, restored) = channel();
    let restore_partitions = {
        let (shared, assignments) = (Arc::clone(shared), Arc::clone(&assignments));
        let (calls, base) = (threads.restorer.clone(), Arc::clone(base));
        move || {
            let cluster = cluster(&shared, &base, (number, &calls), "restorer");
            let memory = &shared.memory;
            Restorer::new(&cluster, &shared.settings, memory, assignments)
                .run(&wanted_by_worker, &restored_by_thread);
        }
    };
    let started = thread::Builder::new()
        .name(format!("restore-{number}"))
        .spawn(restore_partitions);
    let second = match started {
        Ok(thread) => thread,
        Err(error) => return Exit::Restart(format!("no thread could be started: {error}")),
    };
    let cluster = cluster(shared, base, (number, &threads.worker), "reader");
    let channels = Channels { wanted, restored };
    let bounds = Bounds::default();
    let exit = match Worker::new(&cluster, shared, number, bounds, assignments, channels) {
        Ok(worker) => worker.until(base.over.clone()).run(),
        Err(exit) => return exit,
    };
    // The next one watches its calls by the same counter. A process that ends does not wait for it.
    if exit == Exit::Shutdown && !shared.shutdown.is_cancelled() && second.join().is_err() {
        return Exit::Restart("the restorer panicked".to_owned());
    }
    exit
}

fn cluster<'a>(
    shared: &'a Shared,
    base: &'a Generation,
    (worker, calls): (u32, &'a Calls),
    reads_for: &'static str,
) -> Cluster<'a> {
    Cluster {
        calls,
        settings: &shared.settings,
        base: &base.config,
        worker,
        statistics: &shared.statistics,
        reads_for,
    }
}
