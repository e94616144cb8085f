//! Connections: accepting them, within bounds, and bringing them to an end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sluice_service::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::publish::Publish;
use crate::receive::Receiver;

mod peers;

mod proxy;

pub mod tls;

mod activity;

mod connection;

pub mod hangup;

mod turns;

use peers::Peers;
use tls::Tls;

/// How long a balancer may take to see that this process is not ready, and sends here until then.
pub const GRACE: Duration = Duration::from_secs(5);

/// Nobody sends here any more where no connection was open or made for this long: between two requests
/// of many there may be a moment without any.
pub const QUIET: Duration = Duration::from_secs(1);

/// How long open requests may take after that.
const DRAIN: Duration = Duration::from_secs(15);

/// How often a wait for connections to end looks again.
const LOOK: Duration = Duration::from_millis(20);

/// How often the files of the certificate are looked at: a new pair is in use within twice that.
const TLS_LOOK: Duration = Duration::from_secs(1);

/// The pause after a connection could not be accepted, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that may wait in the kernel to be accepted, as far as it lets us (`net.core.somaxconn`).
/// Where there is no room for one, the other end tries again after a second.
const BACKLOG: u32 = 4096;

/// After so many turns of tasks the sockets are looked at again: a connection may read some
/// kilobytes in each, and who has just begun to speak shall not wait for dozens of them.
pub const TURNS_A_LOOK: u32 = 8;

/// Listens at an address.
///
/// # Errors
/// With the address, where it cannot be listened on.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A new process need not wait until the connections of the one before are forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|error| {
        let told = format!("{address} cannot be listened on: {error}");
        io::Error::new(error.kind(), told)
    })
}

/// Answers until `shutdown`; then goes on for [`GRACE`] or until nobody came for [`QUIET`], accepts no
/// more, and finishes what is open, for up to 15 s.
pub async fn serve<P: Publish>(
    receiver: Arc<Receiver<P>>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    shutdown: Shutdown,
) {
    let server = Arc::new(Server {
        receiver,
        tls,
        handshakes: Semaphore::new(1),
        peers: Peers::default(),
        open: AtomicUsize::new(0),
        accepted: AtomicUsize::new(0),
        ended: Notify::new(),
        leaving: AtomicBool::new(false),
        closing: Shutdown::new(),
    });
    let renewing = tokio::spawn(renew(Arc::clone(&server)));
    {
        let accepting = accept(&server, &listener);
        tokio::pin!(accepting);
        tokio::select! {
            () = &mut accepting => {}
            () = shutdown.requested() => {}
        }
        server.leaving.store(true, Ordering::Relaxed);
        tokio::select! {
            () = &mut accepting => {}
            () = server.quiet(GRACE) => {}
        }
    }
    drop(listener);
    renewing.abort();
    server.closing.request();
    server.emptied(DRAIN).await;
    if server.open() > 0 {
        tracing::warn!(
            connections = server.open(),
            "connections are left, and are broken off"
        );
    }
}

struct Server<P> {
    receiver: Arc<Receiver<P>>,
    tls: Option<Arc<Tls>>,
    /// The one handshake that is computed now.
    handshakes: Semaphore,
    peers: Peers,
    open: AtomicUsize,
    /// All that ever were.
    accepted: AtomicUsize,
    /// Told when a connection has ended.
    ended: Notify,
    /// Set while draining: connections end with the answer that is due.
    leaving: AtomicBool,
    /// Requested when idle connections shall end too.
    closing: Shutdown,
}

impl<P: Publish> Server<P> {
    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether seven of eight connections are taken.
    fn pressed(&self) -> bool {
        let most = self.receiver.config().limits.connections;
        self.open() > most - most / 8
    }

    /// Waits until there is room for one more.
    async fn room(&self) {
        while self.open() >= self.receiver.config().limits.connections {
            self.ended.notified().await;
        }
    }

    /// Waits until no connection was open or made for [`QUIET`], for so long at most.
    async fn quiet(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut since = Instant::now();
        let mut accepted = self.accepted.load(Ordering::Relaxed);
        while since.elapsed() < QUIET && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
            let now = self.accepted.load(Ordering::Relaxed);
            if self.open() > 0 || now != accepted {
                since = Instant::now();
            }
            accepted = now;
        }
    }

    /// Waits until no connection is open, for so long at most.
    async fn emptied(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.open() > 0 && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A connection that counts until it is dropped, however its task ends.
struct Slot<P: Publish>(Arc<Server<P>>);

impl<P: Publish> Slot<P> {
    fn new(server: &Arc<Server<P>>) -> Self {
        server.accepted.fetch_add(1, Ordering::Relaxed);
        let before = server.open.fetch_add(1, Ordering::Relaxed);
        server.receiver.metrics().connections(before + 1);
        Self(Arc::clone(server))
    }
}

impl<P: Publish> Drop for Slot<P> {
    fn drop(&mut self) {
        let before = self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.receiver.metrics().connections(before - 1);
        self.0.ended.notify_one();
    }
}

async fn accept<P: Publish>(server: &Arc<Server<P>>, listener: &TcpListener) {
    loop {
        // Those beyond the bound wait in the kernel's queue.
        server.room().await;
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let slot = Slot::new(server);
        tokio::spawn(async move {
            connection::connection(Arc::clone(&slot.0), stream, from).await;
            drop(slot);
        });
    }
}

/// Looks at the files of the certificate for as long as it is let.
async fn renew<P: Publish>(server: Arc<Server<P>>) {
    let Some(tls) = &server.tls else {
        return;
    };
    loop {
        tokio::time::sleep(TLS_LOOK).await;
        let (tls, metrics) = (Arc::clone(tls), server.receiver.metrics().clone());
        // A disk may hang, and must not take the door with it.
        let reloaded = tokio::task::spawn_blocking(move || tls.reload(&metrics)).await;
        if let Err(error) = reloaded {
            tracing::error!(%error, "the certificate could not be looked at");
        }
    }
}
