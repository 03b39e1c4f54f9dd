//! Requests too large for a datagram: which of them go over a stream, and where none is taken (RFC 3261 §18.1.1).

use crate::types::{NetworkId, Peer, Transport};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The largest request that goes as a datagram where the path's MTU is not known.
const LARGEST_DATAGRAM: usize = 1_300;

/// How long a far end that took no stream is spared another attempt: an attempt that is dropped on the way costs each
/// call seconds, and a far end that learns to listen is found soon enough.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// Far ends remembered at once. Only those that we send large requests to come in here.
const MOST_REMEMBERED: usize = 4_096;

/// Chooses the transport of large requests.
#[derive(Debug, Default)]
pub(super) struct LargeRequests {
    /// Far ends that took no stream, and until when that is believed.
    refused: HashMap<(NetworkId, SocketAddr), Instant>,
}

impl LargeRequests {
    /// The same far end over TCP, if a request of that length must not go to it as a datagram.
    pub fn stream_for(&mut self, now: Instant, peer: &Peer, length: usize) -> Option<Peer> {
        if peer.transport != Transport::Udp || length <= LARGEST_DATAGRAM {
            return None;
        }
        let far = (peer.network, peer.remote);
        if self.refused.get(&far).is_some_and(|until| *until > now) {
            return None;
        }
        self.refused.remove(&far);
        Some(Peer { transport: Transport::Tcp, ..peer.clone() })
    }

    /// A far end took no stream: until further notice it gets datagrams of any size.
    pub fn refused(&mut self, now: Instant, peer: &Peer) {
        if self.refused.len() >= MOST_REMEMBERED {
            self.refused.clear();
        }
        self.refused.insert((peer.network, peer.remote), now + REFUSED_FOR);
    }
}
