//! The header of the PROXY protocol, version 2: where a connection comes from, said by the balancer.

use std::io;
use std::net::IpAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What comes first: a signature, the command, the kind of address and the length of the rest.
const FIXED: usize = 16;

/// The most of the rest, in bytes: addresses take 216 at most, and what balancers add some hundreds.
const MAX_REST: usize = 4096;

/// How the header begins. Looked at before the rest is waited for.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header and nothing behind it. `None`: the connection is the balancer's own,
/// such as a health check.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut header = vec![0; FIXED];
    stream.read_exact(&mut header).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if !header.starts_with(SIGNATURE) || rest > MAX_REST {
        return Err(malformed());
    }
    header.resize(FIXED + rest, 0);
    stream.read_exact(&mut header[FIXED..]).await?;
    let version_2 = ParseConfig {
        include_tlvs: false,
        allow_v1: false,
        allow_v2: true,
    };
    let (header, _) = ProxyHeader::parse(&header, version_2).map_err(|_| malformed())?;
    Ok(header
        .proxied_address()
        .map(|address| address.source.ip().to_canonical()))
}
