//! Traffic of every source and of every fate, from which sources can be taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use sluice_tests::harness::client::{Client, Outgoing};
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::harness::wire::Wire;

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(25);

/// Traffic that runs until it is ended.
pub struct Traffic {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    sent: AtomicU64,
    /// Bytes that each body has at least.
    padding: AtomicUsize,
    silent: Mutex<BTreeSet<String>>,
    forged: Mutex<BTreeSet<String>>,
}

impl Traffic {
    /// Every source in turn.
    pub fn start(site: &Site, wire: &Wire) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let (client, sources) = (
            Client::over(wire.clone(), site.listen()),
            site.sources.clone(),
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            // Some are sent again as they are.
            let mut last: BTreeMap<&str, Outgoing> = BTreeMap::new();
            for n in 0.. {
                if own.ends.load(Relaxed) {
                    return;
                }
                for source in &sources {
                    if own.silent.lock().contains(&source.name) {
                        continue;
                    }
                    let again = last.get(source.name.as_str()).filter(|_| n % 10 == 3);
                    let request = again.cloned().map_or_else(|| own.request(source, n), Ok);
                    let Ok(request) = request else {
                        continue;
                    };
                    last.insert(&source.name, request.clone());
                    // A request that fails is part of the trouble.
                    let _ = runtime.block_on(client.post(&request));
                    own.sent.fetch_add(1, Relaxed);
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Ok(Self { shared, thread })
    }

    /// A source sends nothing, or again.
    pub fn silence(&self, source: &str, silent: bool) {
        let mut sources = self.shared.silent.lock();
        if silent {
            sources.insert(source.to_owned());
        } else {
            sources.remove(source);
        }
    }

    /// A source signs with a secret that is not ours, or with its own again.
    pub fn forge(&self, source: &str, forged: bool) {
        let mut sources = self.shared.forged.lock();
        if forged {
            sources.insert(source.to_owned());
        } else {
            sources.remove(source);
        }
    }

    /// Each body has as many bytes at least.
    pub fn pad(&self, bytes: usize) {
        self.shared.padding.store(bytes, Relaxed);
    }

    /// Ends it: how many requests were sent.
    pub fn finish(self) -> u64 {
        self.shared.ends.store(true, Relaxed);
        // A thread that panicked has sent what it has sent.
        let _ = self.thread.join();
        self.shared.sent.load(Relaxed)
    }
}

impl Shared {
    /// Mostly events; some are forged, some are no event.
    fn request(&self, source: &Source, n: u64) -> Result<Outgoing> {
        let (at, events) = (now(), source.samples()?);
        let event = events[usize::try_from(n)? % events.len()];
        let mut unsigned = source.unsigned(event, n, at)?;
        if n % 10 == 5 {
            unsigned.body = b"[]".to_vec();
        }
        if n % 50 == 7 {
            unsigned = source.unsigned("never.heard.of", n, at)?;
        }
        let padding = self.padding.load(Relaxed);
        if unsigned.body.last() == Some(&b'}') && unsigned.body.len() < padding {
            unsigned.body.pop();
            unsigned.body.resize(padding - 1, b' ');
            unsigned.body.push(b'}');
        }
        if n % 20 == 9 || self.forged.lock().contains(&source.name) {
            return source.sign_with(&unsigned, b"a secret of somebody else, long enough", at);
        }
        source.sign(&unsigned, at)
    }
}
