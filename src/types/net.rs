//! Where a signalling message came from or goes to.

use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

/// What carries SIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Transport {
    pub const ALL: [Transport; 5] =
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

    /// Lower case, as in URIs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }
    /// Upper case, as in Via.
    pub fn via_name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }
    /// True where the transport itself repeats lost data, so that RFC 3261 §17 sets its retransmission timers to zero.
    pub fn is_reliable(self) -> bool {
        !matches!(self, Transport::Udp)
    }
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }
}

impl FromStr for Transport {
    type Err = ();
    fn from_str(text: &str) -> Result<Transport, ()> {
        Transport::ALL.into_iter().find(|t| t.as_str().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// Index of a configured `[[network]]`; 0 is `default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NetworkId(pub u8);

/// An accepted or opened stream connection, unique for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A host name or address literal with an optional port, as written in a Via or a proxy list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Without the brackets of an IPv6 literal.
    pub host: String,
    pub port: Option<u16>,
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> HostPort {
        HostPort { host: address.ip().to_string(), port: Some(address.port()) }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The far end of a signalling message, and how it is reached. Given with every message that arrives; answering
/// means sending to the same value, so a reply takes the connection and the socket its request came by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    pub network: NetworkId,
    pub transport: Transport,
    pub remote: SocketAddr,
    /// What we advertise towards this peer in Via, Contact: our own address as it can reach it.
    pub local: SocketAddr,
    /// The stream the message came by; `None` for UDP and for a stream that is still to be opened.
    pub connection: Option<ConnectionId>,
    /// The name the certificate of a TLS peer must carry (RFC 5922 §4); only for connections we open.
    pub tls_name: Option<Arc<str>>,
}

impl Peer {
    /// True where it is a program of this machine.
    pub fn is_on_this_host(&self) -> bool {
        let ip = self.remote.ip().to_canonical();
        ip.is_loopback() || ip == self.local.ip().to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_signals_over_loopback_or_from_our_own_address_is_on_this_machine() {
        for (remote, local, here) in [
            ("127.0.0.9:5060", "192.0.2.1:5060", true),
            ("[::ffff:127.0.0.1]:5060", "192.0.2.1:5060", true),
            ("[::1]:5060", "[2001:db8::1]:5060", true),
            ("192.0.2.1:6000", "192.0.2.1:5060", true),
            ("[::ffff:192.0.2.1]:6000", "192.0.2.1:5060", true),
            ("[2001:db8::1]:6000", "[2001:db8::1]:5060", true),
            ("192.0.2.2:5060", "192.0.2.1:5060", false),
            ("[2001:db8::2]:5060", "[2001:db8::1]:5060", false),
        ] {
            let peer = Peer {
                network: NetworkId(0),
                transport: Transport::Udp,
                remote: remote.parse().unwrap(),
                local: local.parse().unwrap(),
                connection: None,
                tls_name: None,
            };
            assert_eq!(peer.is_on_this_host(), here, "{remote}");
        }
    }
}
