//! Connections: accepting them, within bounds, and bringing them to an end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sluice_schemas::service::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::publish::Publish;
use crate::receive::Receiver;

/// Connections at once. With the files that the process needs besides, under the usual limit of 1024
/// open ones; more wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 960;

/// The largest head of a request, in bytes. What is kept of it must fit the raw record beside the
/// largest body, JSON's escapes included. hyper takes up to 100 headers.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How long a balancer may take to see that this process is not ready, and sends here until then.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long open requests may take after that.
const DRAIN: Duration = Duration::from_secs(15);

/// How often a wait for connections to end looks again.
const LOOK: Duration = Duration::from_millis(20);

/// The pause after a connection could not be accepted, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers until `shutdown`; then goes on for [`GRACE`] or until no connection is open, accepts no
/// more, and finishes what is open, for up to 15 s.
pub async fn serve<P: Publish>(
    receiver: Arc<Receiver<P>>,
    listener: TcpListener,
    shutdown: Shutdown,
) {
    let server = Arc::new(Server {
        receiver,
        slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        leaving: AtomicBool::new(false),
        closing: Shutdown::new(),
    });
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
            () = server.emptied(GRACE) => {}
        }
    }
    drop(listener);
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
    slots: Arc<Semaphore>,
    /// Set while draining: connections end with the answer that is due.
    leaving: AtomicBool,
    /// Requested when idle connections shall end too.
    closing: Shutdown,
}

impl<P: Publish> Server<P> {
    fn open(&self) -> usize {
        MAX_CONNECTIONS - self.slots.available_permits()
    }

    /// Waits until no connection is open, for so long at most.
    async fn emptied(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.open() > 0 && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn accept<P: Publish>(server: &Arc<Server<P>>, listener: &TcpListener) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Never closed, so this waits until another connection has ended.
        let Ok(slot) = Arc::clone(&server.slots).acquire_owned().await else {
            return;
        };
        let server = Arc::clone(server);
        server.receiver.metrics().connections(server.open());
        tokio::spawn(async move {
            connection(&server, stream, peer).await;
            drop(slot);
            server.receiver.metrics().connections(server.open());
        });
    }
}

async fn connection<P: Publish>(server: &Server<P>, stream: TcpStream, peer: SocketAddr) {
    // Answers are small and must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let peer = peer.ip().to_canonical();
    let service = service_fn(|request: Request<Incoming>| async move {
        let answer = server.receiver.receive(request, peer).await;
        Ok::<_, Infallible>(answer.response(server.leaving.load(Ordering::Relaxed)))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.receiver.config().header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // How a connection ends is the sender's affair: what it sent was answered or is not there.
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = server.closing.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}
