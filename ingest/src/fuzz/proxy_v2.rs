//! The header of the PROXY protocol, version 2, against a reading of its specification: the same address,
//! none or an error, and not a byte behind the header is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::http::proxy_protocol;

/// The bytes that a connection begins with.
pub fn fuzz_proxy_v2(bytes: &[u8]) {
    let mut stream = bytes;
    let read = {
        let reading = pin!(proxy_protocol::read(&mut stream));
        match reading.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read.ok(),
            Poll::Pending => panic!("it waits for bytes that are there"),
        }
    };
    let plain = plain(bytes);
    let found = read.map(|address| (address, bytes.len() - stream.len()));
    assert_eq!(found, plain, "the address and the length of {bytes:02x?}");
}

/// The address and the header's length; `None`: it is no header, or not whole.
fn plain(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    /// What we take of what may be 64 KiB.
    const MOST: usize = 4096;
    let rest = bytes.strip_prefix(b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a")?;
    let ([command, family, high, low], rest) = rest.split_first_chunk()?;
    let length = usize::from(*high) * 256 + usize::from(*low);
    let rest = rest.get(..length).filter(|_| length <= MOST)?;
    let length = 16 + length;
    let local = match command {
        // The balancer's own connection, whatever follows.
        0x20 => true,
        0x21 => false,
        _ => return None,
    };
    let v4 = || Some(Ipv4Addr::from(*rest.get(..12)?.first_chunk::<4>()?));
    let v6 = || Some(Ipv6Addr::from(*rest.get(..36)?.first_chunk::<16>()?));
    let address = match family {
        0x00 => None,
        // TCP or UDP: two addresses, two ports.
        0x11 | 0x12 => Some(IpAddr::V4(v4()?)),
        0x21 | 0x22 => Some(v6()?.to_ipv4_mapped().map_or(IpAddr::V6(v6()?), IpAddr::V4)),
        // A socket of the file system: two paths, which are no address of a peer.
        0x31 | 0x32 => rest.get(..216).map(|_| None)?,
        // To be refused, says the specification.
        _ => return None,
    };
    Some((address.filter(|_| !local), length))
}
