//! `ingest`: where webhooks come in, and how long they may take.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use super::limits::{self, Limits};
use super::peer::{self, PeerFrom};
use super::restart::RestartRequired;
use super::source::{self, Source};
use super::spool::{self, Spool};
use super::tls::{self, TlsFiles};
use super::values::{address, within};
use crate::settings::reader::{Faults, Node};

/// The most threads that may serve.
const MAX_THREADS: i64 = 64;

/// `ingest`
#[derive(Debug, Clone)]
pub struct Ingest {
    /// Where webhooks come in.
    pub listen: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin_listen: SocketAddr,
    /// How many threads serve; `None`: one for each core that the process may use, 4 at most.
    pub threads: Option<NonZeroUsize>,
    /// How long a sender waits for the brokers' acknowledgement before 503.
    pub ack_timeout: Duration,
    /// How long the head of a request may take from its first byte.
    pub header_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// Bytes of heads and bodies held at once, over all requests.
    pub max_buffered: u64,
    /// Where requests are kept while Kafka is away; `None`: nowhere, senders are answered 503.
    pub spool: Option<Spool>,
    /// The certificate; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whose word is taken on where a request comes from.
    pub peer: PeerFrom,
    /// What one connection, peer or source may take of what there is.
    pub limits: Limits,
}

/// Reads `ingest`.
pub(super) fn ingest(
    mut node: Node,
    sources: &BTreeMap<String, Source>,
    secrets_dir: &Path,
    faults: &Faults,
) -> Option<Ingest> {
    let listen = address(&mut node, "listen", "0.0.0.0:8080");
    let admin_listen = address(&mut node, "admin_listen", "0.0.0.0:9090");
    let threads = usize::try_from(node.integer("threads", 0, 1, MAX_THREADS)).unwrap_or(0);
    let ack_timeout = wait(&mut node, "ack_timeout", 4);
    let header_timeout = wait(&mut node, "header_timeout", 10);
    let body_timeout = wait(&mut node, "body_timeout", 10);
    let max_buffered = node.size("max_buffered", 64 << 20);
    if let Some(source) = sources.values().max_by_key(|source| source.max_body)
        && source.max_body > max_buffered
    {
        let message = format!("is less than the largest body of source {}", source.name);
        node.fault("max_buffered", message);
    }
    // librdkafka counts its buffer in KiB, up to this many.
    if max_buffered / 1024 > 2_097_151 {
        node.fault("max_buffered", "must be under 2048 MiB");
    }
    let spool = spool::spool(node.child("spool"), ack_timeout);
    source::windows(sources, spool.as_ref().map(|spool| spool.max_age), faults);
    let tls = tls::tls(node.child("tls"), secrets_dir);
    let guarded = |source: &&Source| source.client_ca_file.is_some();
    if let Some(source) = sources.values().find(guarded)
        && tls.is_none()
    {
        faults.add(
            format!("sources.{}.client_ca_file", source.name),
            "needs ingest.tls: without it no certificate is seen",
        );
    }
    let peer = peer::peer(node.child("peer"));
    let limits = limits::limits(node.child("limits"), peer);
    node.finish();
    Some(Ingest {
        listen: listen?,
        admin_listen: admin_listen?,
        threads: NonZeroUsize::new(threads),
        ack_timeout,
        header_timeout,
        body_timeout,
        max_buffered,
        spool,
        tls,
        peer,
        limits,
    })
}

/// A time for which one request may be waited for.
fn wait(node: &mut Node, key: &str, default_secs: u64) -> Duration {
    let default = Duration::from_secs(default_secs);
    let range = Duration::from_millis(100)..=Duration::from_secs(300);
    within(node, key, default, range, "must be from 100ms to 5m")
}

impl Ingest {
    /// What is in force only after a restart stays as it was. Taken apart field by field, so that a new
    /// setting is decided here.
    pub(super) fn keep_from(&mut self, old: &Self, waiting: &mut RestartRequired) {
        let Ingest {
            listen,
            admin_listen,
            threads,
            ack_timeout,
            // Asked for with every connection or request. The producer's queue is as large as it was
            // made, so what grows beyond that is answered 503 by it.
            header_timeout: _,
            body_timeout: _,
            max_buffered: _,
            spool,
            tls,
            peer,
            // Asked for with every connection or request; a source's rate begins again.
            limits: _,
        } = self;
        waiting.keep("ingest.listen", &old.listen, listen);
        waiting.keep("ingest.admin_listen", &old.admin_listen, admin_listen);
        waiting.keep("ingest.threads", &old.threads, threads);
        // The producer gives a record up shortly before the sender is answered, and is made once.
        waiting.keep("ingest.ack_timeout", &old.ack_timeout, ack_timeout);
        // Other files are taken over; whether there is TLS at all is how connections began.
        if old.tls.is_some() != tls.is_some() {
            waiting.keep("ingest.tls", &old.tls, tls);
        }
        waiting.keep("ingest.peer", &old.peer, peer);
        // The operator's decision on old records and the sources' share are for the spool that is open; the
        // rest is how it was opened.
        let mut kept = old.spool.clone();
        if let (Some(kept), Some(new)) = (&mut kept, &spool) {
            kept.drain_older = new.drain_older;
            kept.source_share = new.source_share;
        }
        waiting.keep("ingest.spool", &kept, spool);
    }
}
