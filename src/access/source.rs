//! Who counts as one source where requests are counted: an address, and whether it is proven.

use crate::types::Peer;
use std::net::IpAddr;

/// A stream proves where its far end is; anybody can send datagrams from an address. So what comes by streams from an
/// address is one source, and what datagrams say comes from there is another, which spends nothing of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    place: IpAddr,
    stream: bool,
}

impl Source {
    pub fn of(peer: &Peer) -> Source {
        let address = peer.remote.ip();
        if peer.transport.is_reliable() { Source::stream(address) } else { Source::datagram(address) }
    }

    pub fn stream(address: IpAddr) -> Source {
        Source { place: place_of(address), stream: true }
    }

    pub fn datagram(address: IpAddr) -> Source {
        Source { place: place_of(address), stream: false }
    }

    pub fn is_stream(self) -> bool {
        self.stream
    }
}

/// Whoever has an IPv6 address has a /64 of them (RFC 6177).
fn place_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6([a, b, c, d, 0, 0, 0, 0].into())
        }
    }
}
