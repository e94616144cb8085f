//! What comes before HTTP: the header of a proxy, what the peer may have, and the TLS handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use sluice_schemas::settings::{Limits, PeerFrom};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::connections::Slot;
use super::peers::PeerGuard;
use super::proxy_protocol as proxy;
use super::socket::Socket;
use crate::auth::AuthorityId;
use crate::metrics::Shed;
use crate::publish::Publish;

/// A connection whose bytes are HTTP from here on.
pub struct Begun {
    pub stream: Stream,
    pub limits: Limits,
    pub peer: IpAddr,
    /// The connection counts for its peer until this is dropped.
    pub guard: PeerGuard,
    pub certified: Arc<[AuthorityId]>,
}

pub enum Stream {
    Clear(Socket),
    /// And whether HTTP/2 was agreed on.
    Secure(Box<TlsStream<Socket>>, bool),
}

/// Begins a connection; `None` where it must end, which is counted before it does.
pub async fn begin<P: Publish>(
    slot: &Slot<P>,
    mut stream: TcpStream,
    from: SocketAddr,
) -> Option<Begun> {
    // Answers are small and must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let (server, activity) = (&slot.server, &slot.activity);
    let config = server.receiver.config();
    let shed = |reason| server.receiver.metrics().shed(reason);
    let mut peer = from.ip().to_canonical();
    let proxied = config.peer_from == PeerFrom::ProxyProtocol;
    if proxied {
        let header = proxy::read(&mut stream);
        let in_time = tokio::time::timeout(config.limits.handshake_timeout, header).await;
        let Ok(Ok(sender)) = in_time else {
            shed(Shed::ProxyHeader);
            return None;
        };
        peer = sender.unwrap_or(peer);
    }
    // Those of now: the header may have come late.
    let limits = server.receiver.config().limits.clone();
    let guard = server.peers.admit(peer, &limits).map_err(shed).ok()?;
    if proxied {
        activity.of_peer(guard.connections());
    }
    let by_request = matches!(config.peer_from, PeerFrom::ForwardedFor { .. });
    let account = if by_request { None } else { guard.account() };
    let socket = Socket::new(stream, Arc::clone(activity), account);
    let mut certified = Arc::default();
    let stream = if let Some(tls) = &server.tls {
        let tls = tls.current();
        let handshake = handshake(Arc::clone(&tls.config), socket, slot.handshakes());
        let in_time = tokio::time::timeout(limits.handshake_timeout, handshake).await;
        let Ok(Ok(stream)) = in_time else {
            shed(Shed::TlsHandshake);
            return None;
        };
        let (_, secured) = stream.get_ref();
        certified = tls.certified(secured.peer_certificates());
        let http2 = secured.alpn_protocol() == Some(b"h2");
        activity.handshaken(http2);
        Stream::Secure(Box::new(stream), http2)
    } else {
        activity.handshaken(false);
        Stream::Clear(socket)
    };
    Some(Begun {
        stream,
        limits,
        peer,
        guard,
        certified,
    })
}

/// Makes the TLS handshake. Its computation takes longer than a small request, so a thread computes
/// handshakes one at a time, and other tasks run between two of them.
async fn handshake(
    config: Arc<ServerConfig>,
    socket: Socket,
    one_at_a_time: &Semaphore,
) -> io::Result<TlsStream<Socket>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let permit = one_at_a_time.acquire().await.map_err(io::Error::other)?;
    // The computation happens in this call.
    let accept = hello.into_stream(config);
    tokio::task::yield_now().await;
    drop(permit);
    accept.await
}
