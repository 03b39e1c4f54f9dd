//! What the transports are told: where to listen, what to advertise, what a stream may cost.

use super::tls::TlsSettings;
use crate::sip::mark::Marks;
use crate::sip::message::Limits;
use crate::types::{NetworkId, Transport};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// One socket to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub transport: Transport,
    pub bind: SocketAddr,
    pub network: NetworkId,
}

/// A listener with the address and port it really has.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoundListener {
    pub asked: Listener,
    pub bound: SocketAddr,
}

/// One `[[network]]` as signalling needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Advertised instead of our own address; at most one of each family.
    pub public_addresses: Vec<IpAddr>,
    /// Where connections that we open come from, unless it is unspecified; at most one of each family.
    pub bind: Vec<IpAddr>,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
}

/// What a stream may cost and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// Without any octet for this long a stream is closed. Longer than the usual registration refresh of an hour,
    /// so that a device's stream outlives it.
    pub idle: Duration,
    /// An accepted stream has to bring its first whole message in this time, and any message has to be whole this
    /// long after its first octet: longer than a bad radio link stalls, short against one who only holds on.
    pub message: Duration,
    /// For a TCP connection to be made; a trunk that takes longer is left for the next one (under 4 s in all).
    pub connect: Duration,
    /// For a TLS handshake, in both roles.
    pub handshake: Duration,
    /// For the far end to take the octets of one message.
    pub write: Duration,
    /// Octets that may wait to be written to one stream: a second or two of a busy trunk. More closes the stream.
    pub queue: usize,
    /// Messages of one stream that may wait for the layer above at once. The stream is not read on until one is
    /// taken, so that no stream can fill the inbox alone.
    pub in_flight: usize,
    /// Accepted streams from one address.
    pub max_per_address: usize,
    /// Accepted streams in all. Those we open ourselves, to trunks, do not count, so they always find room.
    pub max_accepted: usize,
}

impl Default for StreamSettings {
    fn default() -> StreamSettings {
        StreamSettings {
            idle: Duration::from_secs(3_900),
            message: Duration::from_secs(15),
            connect: Duration::from_secs(3),
            handshake: Duration::from_secs(5),
            write: Duration::from_secs(10),
            queue: 1 << 20,
            in_flight: 128,
            max_per_address: 64,
            max_accepted: 4_096,
        }
    }
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct TransportSettings {
    pub listeners: Vec<Listener>,
    /// The index is the [`NetworkId`]. A network that is not there has the defaults.
    pub networks: Vec<NetworkSettings>,
    pub tls: TlsSettings,
    pub streams: StreamSettings,
    pub message: Limits,
    /// What is told at the door by the marks it carries. Without them there is no door, and all goes in: who only calls
    /// and is called by a gateway needs none.
    pub door: Option<Marks>,
}

impl TransportSettings {
    pub(super) fn network(&self, id: NetworkId) -> &NetworkSettings {
        static DEFAULT: NetworkSettings =
            NetworkSettings { public_addresses: Vec::new(), bind: Vec::new(), dscp: 0 };
        self.networks.get(usize::from(id.0)).unwrap_or(&DEFAULT)
    }
}
