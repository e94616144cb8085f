//! A connection without a socket, for fuzzing and tests.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Session;
use crate::byte_budget::heads;
use crate::http::activity::Activity;
use crate::http::connections::Server;
use crate::http::socket::Socket;
use crate::publish::Publish;
use crate::receive::Receiver;

/// Where all that comes in memory comes from.
pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Serves a stream in the clear until it ends, by all that serves a socket's. With `closing` the server ends.
pub async fn serve<P: Publish, I>(receiver: Arc<Receiver<P>>, stream: I, closing: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = receiver.config().limits.clone();
    let activity = Arc::new(Activity::new());
    activity.handshaken(false);
    let stream = Socket::new(stream, Arc::clone(&activity), None);
    let mut server = Server::new(receiver, None, vec![Handle::current()]);
    server.closing = closing;
    let session = Session {
        server: Arc::new(server),
        activity,
        input: Arc::default(),
        heads: heads(limits.h2_streams),
        limits,
        peer: PEER,
        certified: Arc::default(),
    };
    session.serve(stream, None).await;
}
