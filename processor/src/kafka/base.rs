//! What the clients of a process are made from: the properties with their secrets, which may change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rdkafka::ClientConfig;
use tokio_util::sync::CancellationToken;

/// The properties that clients are made from now.
#[derive(Debug)]
pub struct Base {
    now: ArcSwap<Generation>,
    shutdown: CancellationToken,
}

/// The properties, until they change.
#[derive(Debug)]
pub struct Generation {
    /// The properties and secrets that all clients have in common.
    pub config: ClientConfig,
    /// Cancelled when there are others, and when the process is to end: clients of these are closed then.
    pub over: CancellationToken,
}

impl Base {
    /// The first ones. `shutdown` ends all.
    pub fn new(config: ClientConfig, shutdown: CancellationToken) -> Self {
        let first = Generation {
            config,
            over: shutdown.child_token(),
        };
        Self {
            now: ArcSwap::from_pointee(first),
            shutdown,
        }
    }

    /// Those that a client is to be made from.
    pub fn now(&self) -> Arc<Generation> {
        self.now.load_full()
    }

    /// There are new ones.
    pub fn renew(&self, config: ClientConfig) {
        let next = Generation {
            config,
            over: self.shutdown.child_token(),
        };
        self.now.swap(Arc::new(next)).over.cancel();
    }
}
