//! Connections: accepting them, within bounds, and bringing them to an end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::connection;
pub use super::connections::QUIET;
use super::connections::{Server, Slot};
use super::threads::Moved;
use super::tls::Tls;
use crate::publish::Publish;
use crate::receive::Receiver;

/// How long a balancer may take to see that this process is not ready, and sends here until then.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long open requests may take after that.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause after a connection could not be accepted, most often for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Connections that may wait in the kernel to be accepted, as far as it lets us (`net.core.somaxconn`).
/// Where there is no room for one, the other end tries again after a second.
const BACKLOG: u32 = 4096;

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
        let message = format!("{address} cannot be listened on: {error}");
        io::Error::new(error.kind(), message)
    })
}

/// Answers until `shutdown`; then goes on for [`GRACE`] or until no connection came for [`QUIET`], accepts no
/// more, and finishes what is open, for up to 15 s. Connections are served in these runtimes, of which the
/// first is the one that this is called in.
pub async fn serve<P: Publish>(
    receiver: Arc<Receiver<P>>,
    (listener, runtimes): (TcpListener, Vec<Handle>),
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) {
    let server = Arc::new(Server::new(receiver, tls, runtimes));
    let failures = server.receiver.metrics().tls_reload_failures();
    let watching = server.tls.as_ref().map(|tls| tls.watch(failures));
    {
        let accepting = accept(&server, &listener);
        tokio::pin!(accepting);
        tokio::select! {
            () = &mut accepting => {}
            () = shutdown.cancelled() => {}
        }
        server.leaving.store(true, Ordering::Relaxed);
        tokio::select! {
            () = &mut accepting => {}
            () = server.quiet(GRACE) => {}
        }
    }
    drop(listener);
    drop(watching);
    server.closing.cancel();
    server.emptied(DRAIN_TIMEOUT).await;
    if server.open() > 0 {
        tracing::warn!(
            connections = server.open(),
            "connections did not end in time and are closed; their senders must send again"
        );
    }
}

async fn accept<P: Publish>(server: &Arc<Server<P>>, listener: &TcpListener) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted; the next attempt follows in 50 ms");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        // The next ones wait in the kernel's queue.
        server.room().await;
        give(Slot::new(server), stream, from);
    }
}

/// Gives a connection to the thread of its slot.
fn give<P: Publish>(slot: Slot<P>, stream: TcpStream, from: SocketAddr) {
    let lost =
        |error: io::Error| tracing::warn!(%error, "a connection was lost on its way to its thread");
    let Some(runtime) = slot.other_runtime() else {
        tokio::spawn(served(slot, stream, from));
        return;
    };
    match Moved::from(stream) {
        Ok(moved) => {
            runtime.spawn(async move {
                match moved.arrive() {
                    Ok(stream) => served(slot, stream, from).await,
                    Err(error) => lost(error),
                }
            });
        }
        Err(error) => lost(error),
    }
}

async fn served<P: Publish>(slot: Slot<P>, stream: TcpStream, from: SocketAddr) {
    connection::connection(&slot, stream, from).await;
    drop(slot);
}
