//! Networks in which an address is found at the cost of a few look-ups, however many there are.

use ipnet::IpNet;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

/// By the length of their prefixes: few differ.
#[derive(Debug, Default)]
pub(super) struct Networks(BTreeMap<u8, HashSet<IpNet>>);

impl Networks {
    pub(super) fn new(networks: impl IntoIterator<Item = IpNet>) -> Networks {
        let mut by_length = BTreeMap::<u8, HashSet<IpNet>>::new();
        for network in networks {
            by_length.entry(network.prefix_len()).or_default().insert(network.trunc());
        }
        Networks(by_length)
    }

    /// The smallest of them with the address in it.
    pub(super) fn longest(&self, address: IpAddr) -> Option<IpNet> {
        let address = address.to_canonical();
        self.0.iter().rev().find_map(|(length, networks)| {
            let network = IpNet::new(address, *length).ok()?.trunc();
            networks.contains(&network).then_some(network)
        })
    }
}

/// The network of so many bits that an address is in.
pub(super) fn around(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).map_or_else(|_| address.into(), |network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_network_around_an_address_is_found() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let networks = Networks::new(["52.112.0.0/14", "52.112.7.9/32", "2001:db8::/32"].map(net));
        let of = |text: &str| networks.longest(text.parse().unwrap());
        assert_eq!(of("52.115.1.2"), Some(net("52.112.0.0/14")));
        assert_eq!(of("52.112.7.9"), Some(net("52.112.7.9/32")));
        assert_eq!(of("::ffff:52.112.7.9"), Some(net("52.112.7.9/32")));
        assert_eq!(of("2001:db8:1::5"), Some(net("2001:db8::/32")));
        assert_eq!((of("52.116.0.1"), of("2001:db9::1")), (None, None));
    }
}
