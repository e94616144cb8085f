//! Free ports of 127.0.0.1.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below the range from which the system takes ports for outgoing connections: a node that is killed
/// and started again must find its port free.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that the system says is free, and that this process has not given out before.
pub fn free() -> Result<u16> {
    // Processes begin at different places, so that two harnesses at once seldom want the same.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or(0);
    for _ in 0..COUNT {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // Both are below COUNT, and twice COUNT is within u16.
        let port = FIRST + (start + n % COUNT) % COUNT;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} on")
}

/// The port wanted by habit if it is free, else any.
pub fn preferred(port: u16) -> Result<u16> {
    if is_free(port) { Ok(port) } else { free() }
}

/// An address of this machine alone.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(local(port)).is_ok()
}
