//! The networks from which a source takes requests, compared in the same time for each of them.

use std::net::IpAddr;

use ipnet::IpNet;
use subtle::{Choice, ConstantTimeEq};

/// A network as the bytes that an address of it has under a mask.
#[derive(Debug, Clone)]
pub struct Network {
    mask: Bytes,
    prefix: Bytes,
}

/// An address, behind a byte for its kind: the first bits of IPv6 are not an address of IPv4.
type Bytes = [u8; 17];

impl Network {
    /// Pads lists of networks: no address has this kind.
    pub const NOBODY: Self = Self {
        mask: [0xff; 17],
        prefix: [0; 17],
    };

    /// As the settings name it.
    pub fn new(network: &IpNet) -> Self {
        let mut mask = bytes(network.netmask());
        mask[0] = 0xff;
        Self {
            mask,
            prefix: bytes(network.network()),
        }
    }

    fn holds(&self, address: &Bytes) -> Choice {
        let mut masked = self.mask;
        for (bits, byte) in masked.iter_mut().zip(address) {
            *bits &= byte;
        }
        masked.as_slice().ct_eq(self.prefix.as_slice())
    }
}

/// Whether an address is in one of these networks. All are looked at.
pub fn holds(networks: &[Network], address: IpAddr) -> Choice {
    let address = bytes(address);
    let each = networks.iter().map(|network| network.holds(&address));
    each.fold(Choice::from(0), |found, holds| found | holds)
}

/// An address of IPv4 that is written as one of IPv6 is one of IPv4.
fn bytes(address: IpAddr) -> Bytes {
    let mut bytes = [0; 17];
    match address.to_canonical() {
        IpAddr::V4(address) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            bytes[0] = 6;
            bytes[1..].copy_from_slice(&address.octets());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_holds_nobody() {
        for address in ["0.0.0.0", "255.255.255.255", "::", "::1"] {
            let address = address.parse().expect("an address");
            assert!(!bool::from(holds(&[Network::NOBODY], address)), "{address}");
        }
    }

    proptest! {
        #[test]
        fn a_network_holds_what_the_library_says(
            (network, near) in (any::<IpAddr>(), any::<IpAddr>()),
            (prefix, bit) in (0..=128_u8, 0..128_u32),
        ) {
            let most = if network.is_ipv4() { 32 } else { 128 };
            let network = IpNet::new(network, prefix.min(most)).expect("a prefix that fits").trunc();
            // The settings refuse networks of IPv4 that are written as ones of IPv6.
            prop_assume!(network.network().to_canonical() == network.network());
            // Next to the network as often as within it.
            let flipped = match network.network() {
                IpAddr::V4(address) => IpAddr::from((u32::from(address) ^ (1 << (bit % 32))).to_be_bytes()),
                IpAddr::V6(address) => IpAddr::from((u128::from(address) ^ (1 << bit)).to_be_bytes()),
            };
            for address in [near, flipped, network.network(), network.broadcast()] {
                let address = address.to_canonical();
                let found = bool::from(holds(&[Network::NOBODY, Network::new(&network)], address));
                prop_assert_eq!(found, network.contains(&address), "{} in {}", address, network);
            }
        }
    }
}
