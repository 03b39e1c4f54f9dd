//! What we advertise: our own address as a peer can reach it.

use super::settings::{BoundListener, NetworkSettings, TransportSettings};
use crate::types::{NetworkId, Transport};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Mutex,
    time::{Duration, Instant},
};

/// How long a route's source address is believed. A changed route is rare, and until then answers still come back
/// by rport.
const ROUTE_LIFETIME: Duration = Duration::from_secs(60);

/// Routes remembered at once; a flood of made-up sources can't grow it further.
const MAX_ROUTES: usize = 4_096;

pub(super) struct Addresses {
    networks: Vec<NetworkSettings>,
    listeners: Vec<BoundListener>,
    routes: Mutex<HashMap<IpAddr, (IpAddr, Instant)>>,
}

impl Addresses {
    pub(super) fn new(settings: &TransportSettings, listeners: Vec<BoundListener>) -> Addresses {
        Addresses { networks: settings.networks.clone(), listeners, routes: Mutex::default() }
    }

    /// Towards a peer we address first: by the first listener of that transport, network and family.
    pub(super) fn towards(&self, network: NetworkId, transport: Transport, remote: IpAddr) -> SocketAddr {
        let listener = self.listeners.iter().find(|listener| {
            let asked = listener.asked;
            asked.network == network
                && asked.transport == transport
                && listener.bound.is_ipv4() == remote.is_ipv4()
        });
        match listener {
            Some(listener) => self.of_socket(network, listener.bound, remote),
            None => {
                let own = SocketAddr::new(unspecified(remote), transport.default_port());
                self.of_socket(network, own, remote)
            }
        }
    }

    /// Towards a peer that came by a socket bound to `bound`.
    pub(super) fn of_socket(&self, network: NetworkId, bound: SocketAddr, remote: IpAddr) -> SocketAddr {
        let same_family = |address: &&IpAddr| address.is_ipv4() == remote.is_ipv4();
        let settings = self.networks.get(usize::from(network.0));
        let public = settings.and_then(|settings| settings.public_addresses.iter().find(same_family));
        let ip = match public {
            Some(public) => *public,
            None if !bound.ip().is_unspecified() => bound.ip(),
            None => self.source(network, remote).unwrap_or_else(|| self.route_source(remote)),
        };
        SocketAddr::new(ip, bound.port())
    }

    /// The address connections of a network have to come from, if it says one.
    pub(super) fn source(&self, network: NetworkId, remote: IpAddr) -> Option<IpAddr> {
        let fits = |address: &IpAddr| address.is_ipv4() == remote.is_ipv4() && !address.is_unspecified();
        let configured = self.networks.get(usize::from(network.0))?.bind.iter().copied().find(fits);
        configured.or_else(|| {
            // A network that listens on certain addresses only is not to be left by others.
            let mut listening = self.listeners.iter().filter(|listener| {
                listener.asked.network == network && listener.bound.is_ipv4() == remote.is_ipv4()
            });
            let first = listening.next()?.bound.ip();
            (fits(&first) && listening.all(|listener| listener.bound.ip() == first)).then_some(first)
        })
    }

    /// The source address of the route to a peer. Connecting a datagram socket asks the kernel and sends nothing.
    fn route_source(&self, remote: IpAddr) -> IpAddr {
        let now = Instant::now();
        let mut routes = self.routes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((source, _)) = routes.get(&remote).filter(|(_, until)| *until > now) {
            return *source;
        }
        let own = unspecified(remote);
        let source = UdpSocket::bind(SocketAddr::new(own, 0))
            // The port takes no part in routing.
            .and_then(|socket| socket.connect(SocketAddr::new(remote, 9)).and_then(|()| socket.local_addr()))
            .map_or(own, |address| address.ip());
        if routes.len() >= MAX_ROUTES {
            routes.clear();
        }
        routes.insert(remote, (source, now + ROUTE_LIFETIME));
        source
    }
}

fn unspecified(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Listener;
    use super::*;

    fn addresses(listeners: &[(Transport, &str)], network: NetworkSettings) -> Addresses {
        let bound = |(transport, bound): &(Transport, &str)| {
            let bound = bound.parse().unwrap();
            BoundListener {
                asked: Listener { transport: *transport, bind: bound, network: NetworkId(0) },
                bound,
            }
        };
        let settings = TransportSettings { networks: vec![network], ..TransportSettings::default() };
        Addresses::new(&settings, listeners.iter().map(bound).collect())
    }

    fn local(addresses: &Addresses, transport: Transport, remote: &str) -> String {
        addresses.towards(NetworkId(0), transport, remote.parse().unwrap()).to_string()
    }

    #[test]
    fn a_public_address_is_advertised_with_the_listeners_port() {
        let network = NetworkSettings {
            public_addresses: vec!["203.0.113.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            ..NetworkSettings::default()
        };
        let addresses =
            addresses(&[(Transport::Udp, "0.0.0.0:5070"), (Transport::Tls, "[::]:5071")], network);
        assert_eq!(local(&addresses, Transport::Udp, "127.0.0.1"), "203.0.113.1:5070");
        assert_eq!(local(&addresses, Transport::Tls, "::1"), "[2001:db8::1]:5071");
        assert_eq!(local(&addresses, Transport::Tls, "127.0.0.1"), "203.0.113.1:5061");
    }

    #[test]
    fn without_one_the_bound_address_or_the_route_is() {
        let bound = addresses(&[(Transport::Udp, "127.0.0.7:5070")], NetworkSettings::default());
        assert_eq!(local(&bound, Transport::Udp, "127.0.0.1"), "127.0.0.7:5070");
        let any = addresses(&[(Transport::Udp, "0.0.0.0:5070")], NetworkSettings::default());
        assert_eq!(local(&any, Transport::Udp, "127.0.0.1"), "127.0.0.1:5070");
        assert_eq!(local(&any, Transport::Udp, "127.0.0.1"), "127.0.0.1:5070");
    }

    #[test]
    fn connections_leave_by_the_networks_own_address() {
        let network =
            NetworkSettings { bind: vec!["127.0.0.9".parse().unwrap()], ..NetworkSettings::default() };
        let named = addresses(&[(Transport::Udp, "0.0.0.0:5070")], network);
        let remote = "127.0.0.1".parse().unwrap();
        assert_eq!(named.source(NetworkId(0), remote), Some("127.0.0.9".parse().unwrap()));
        let any = addresses(&[(Transport::Udp, "0.0.0.0:5070")], NetworkSettings::default());
        assert_eq!(any.source(NetworkId(0), remote), None);
        let listening = addresses(&[(Transport::Udp, "127.0.0.8:5070")], NetworkSettings::default());
        assert_eq!(listening.source(NetworkId(0), remote), Some("127.0.0.8".parse().unwrap()));
    }
}
