//! Where clients come from: all of 127.0.0.0/8 is this machine.

use std::net::{IpAddr, Ipv4Addr};

/// Where good traffic comes from.
pub const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Attackers that come from many addresses come from as many as this.
const ATTACKERS: u8 = 32;

/// The address of the n-th attacker: a bound by peer does not keep them all out.
pub fn attacker(n: usize) -> IpAddr {
    let last = u8::try_from(n % usize::from(ATTACKERS)).unwrap_or(0) + 1;
    IpAddr::V4(Ipv4Addr::new(127, 0, 1, last))
}
