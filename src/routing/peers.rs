//! Which trunk a request comes from, by its TLS name or its address.

use super::TrunkIndex;
use crate::types::{NetworkId, Transport};
use ipnet::IpNet;
use std::{
    cmp::Ordering,
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Where a trunk's calls come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerMatch {
    Exact(SocketAddr),
    Cidr(IpNet),
}

impl fmt::Display for PeerMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerMatch::Exact(address) => address.fmt(f),
            PeerMatch::Cidr(network) => network.fmt(f),
        }
    }
}

/// How one trunk is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkPeers {
    pub trunk: TrunkIndex,
    pub network: NetworkId,
    /// The name its client certificate carries (RFC 5922 §7), lower case; empty where it has none.
    pub tls_name: String,
    /// Nothing less than that name makes a request its own: whoever calls is asked for a certificate.
    pub named: bool,
    /// The least that carries its calls where their address is what they are known by.
    pub over: Transport,
    pub matches: Vec<PeerMatch>,
    /// The host of the Request-URI its calls carry, lower case; tells two trunks of one peer apart.
    pub match_host: Option<String>,
    /// The trunk group its calls name (RFC 4904); tells two trunks of one peer apart too.
    pub match_trunk_group: Option<String>,
}

/// What is known of the far end of a request.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub network: NetworkId,
    pub transport: Transport,
    pub remote: SocketAddr,
    /// Names of the verified client certificate.
    pub tls_names: &'a [String],
    /// Host of the Request-URI.
    pub request_host: &'a str,
    /// The trunk group that its Contact or Request-URI names.
    pub trunk_group: Option<&'a str>,
    /// An app user is registered from this address, so only an exact `address:port` makes it a trunk.
    pub serves_users: bool,
}

/// Two trunks that a request could not tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambiguity {
    pub first: TrunkIndex,
    pub second: TrunkIndex,
    /// What both answer to.
    pub what: String,
}

/// All trunks' ways to be recognised.
#[derive(Debug, Clone, Default)]
pub struct PeerTable {
    trunks: Vec<TrunkPeers>,
    /// Addresses the proxies of trunks without `peers` resolved to.
    resolved: Vec<(TrunkIndex, Vec<SocketAddr>)>,
}

/// How exact a match is; a greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Exactness {
    Cidr(u8),
    Socket,
    TlsName,
}

impl TrunkPeers {
    /// What its calls must say beside where they come from.
    fn asks(&self) -> (Option<&str>, Option<&str>) {
        (self.match_host.as_deref(), self.match_trunk_group.as_deref())
    }
}

impl PeerTable {
    /// True where somebody has to look for trunk groups.
    pub fn tells_groups_apart(&self) -> bool {
        self.trunks.iter().any(|trunk| trunk.match_trunk_group.is_some())
    }

    pub fn new(trunks: Vec<TrunkPeers>) -> PeerTable {
        PeerTable { trunks, resolved: Vec::new() }
    }

    /// Sets what a trunk's proxies resolve to; they count only where the trunk names no `peers`.
    pub fn set_resolved(&mut self, trunk: TrunkIndex, addresses: Vec<SocketAddr>) {
        self.resolved.retain(|(known, _)| *known != trunk);
        self.resolved.push((trunk, addresses));
    }

    /// All addresses that requests of trunks come from, whatever else those must say.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        let matches = self.trunks.iter().flat_map(|trunk| &trunk.matches).map(|peer| match peer {
            PeerMatch::Exact(address) => IpNet::from(address.ip().to_canonical()),
            PeerMatch::Cidr(network) => *network,
        });
        let resolved = self.resolved.iter().flat_map(|(_, addresses)| addresses);
        matches.chain(resolved.map(|address| IpNet::from(address.ip().to_canonical())))
    }

    /// The trunk a request comes from: by certificate name, then exact address and port, then longest prefix; by address
    /// only where what carried it proves that as well as what carries the trunk's calls.
    /// Among equals the trunk whose `match_host` and `match_trunk_group` are the request's wins over those that ask for less;
    /// where two are still equal the request is nobody's, rather than charged to the wrong one.
    pub fn lookup(&self, origin: Origin<'_>) -> Option<TrunkIndex> {
        let mut best: Option<((Exactness, u8), TrunkIndex)> = None;
        let mut tied = false;
        for trunk in self.trunks.iter().filter(|trunk| trunk.network == origin.network) {
            let host = trunk.match_host.as_deref();
            if host.is_some_and(|host| !host.eq_ignore_ascii_case(origin.request_host)) {
                continue;
            }
            let group = trunk.match_trunk_group.as_deref();
            if group.is_some_and(|group| Some(group) != origin.trunk_group) {
                continue;
            }
            let Some(exactness) = self.exactness(trunk, origin) else { continue };
            let rank = (exactness, u8::from(host.is_some()) + u8::from(group.is_some()));
            match best.map(|(known, _)| rank.cmp(&known)) {
                None | Some(Ordering::Greater) => {
                    best = Some((rank, trunk.trunk));
                    tied = false;
                }
                Some(Ordering::Equal) => tied = true,
                Some(Ordering::Less) => {}
            }
        }
        best.filter(|_| !tied).map(|(_, trunk)| trunk)
    }

    fn exactness(&self, trunk: &TrunkPeers, origin: Origin<'_>) -> Option<Exactness> {
        if !trunk.tls_name.is_empty()
            && origin.tls_names.iter().any(|name| name.eq_ignore_ascii_case(&trunk.tls_name))
        {
            return Some(Exactness::TlsName);
        }
        if trunk.named || !proves_as_well(origin.transport, trunk.over) {
            return None;
        }
        let remote = canonical(origin.remote);
        let by_socket = |address: SocketAddr| (canonical(address) == remote).then_some(Exactness::Socket);
        let by_network = |network: IpNet| {
            (!origin.serves_users && network.contains(&remote.ip()))
                .then(|| Exactness::Cidr(network.prefix_len()))
        };
        if trunk.matches.is_empty() {
            let resolved =
                self.resolved.iter().find(|(known, _)| *known == trunk.trunk).map(|(_, list)| list);
            return resolved
                .into_iter()
                .flatten()
                .filter_map(|address| {
                    by_socket(*address).or_else(|| by_network(canonical(*address).ip().into()))
                })
                .max();
        }
        trunk
            .matches
            .iter()
            .filter_map(|peer| match peer {
                PeerMatch::Exact(address) => by_socket(*address),
                PeerMatch::Cidr(network) => by_network(*network),
            })
            .max()
    }

    /// Pairs of trunks whose calls can't be told apart. A shorter prefix around a longer one is no ambiguity.
    pub fn ambiguities(&self) -> Vec<Ambiguity> {
        let mut found = Vec::new();
        for (index, first) in self.trunks.iter().enumerate() {
            for second in &self.trunks[index + 1..] {
                if first.network != second.network || first.asks() != second.asks() {
                    continue;
                }
                let what = if !first.tls_name.is_empty() && first.tls_name == second.tls_name {
                    Some(format!("the TLS name {}", first.tls_name))
                } else {
                    first.matches.iter().find(|peer| second.matches.contains(peer)).map(PeerMatch::to_string)
                };
                if let Some(what) = what {
                    found.push(Ambiguity { first: first.trunk, second: second.trunk, what });
                }
            }
        }
        found
    }
}

/// Whether what came this way is known to come from its address as well as what comes by `least`. The source of a
/// datagram is whatever its sender wrote; behind a connection somebody answers there, though others may read along.
fn proves_as_well(came: Transport, least: Transport) -> bool {
    match least {
        Transport::Udp => true,
        Transport::Tcp | Transport::Ws => came.is_reliable(),
        Transport::Tls | Transport::Wss => came.is_secure(),
    }
}

/// An IPv4 peer of a dual-stack socket shows as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2).
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunk(index: u16, matches: &[&str]) -> TrunkPeers {
        let matches = matches
            .iter()
            .map(|text| match text.parse::<SocketAddr>() {
                Ok(address) => PeerMatch::Exact(address),
                Err(_) => PeerMatch::Cidr(text.parse().unwrap()),
            })
            .collect();
        TrunkPeers {
            trunk: TrunkIndex(index),
            network: NetworkId(0),
            tls_name: String::new(),
            named: false,
            over: Transport::Udp,
            matches,
            match_host: None,
            match_trunk_group: None,
        }
    }

    fn from(remote: &str) -> Origin<'static> {
        Origin {
            network: NetworkId(0),
            transport: Transport::Udp,
            remote: remote.parse().unwrap(),
            tls_names: &[],
            request_host: "gw.example",
            trunk_group: None,
            serves_users: false,
        }
    }

    #[test]
    fn an_exact_socket_goes_before_the_longest_prefix() {
        let table = PeerTable::new(vec![
            trunk(0, &["192.0.2.0/24"]),
            trunk(1, &["192.0.2.0/28"]),
            trunk(2, &["192.0.2.7:5060"]),
        ]);
        assert_eq!(table.lookup(from("192.0.2.200:5060")), Some(TrunkIndex(0)));
        assert_eq!(table.lookup(from("192.0.2.7:5062")), Some(TrunkIndex(1)));
        assert_eq!(table.lookup(from("192.0.2.7:5060")), Some(TrunkIndex(2)));
        assert_eq!(table.lookup(from("198.51.100.1:5060")), None);
        assert!(table.ambiguities().is_empty());
    }

    #[test]
    fn a_prefix_does_not_make_a_trunk_of_an_address_that_serves_users() {
        let table = PeerTable::new(vec![trunk(0, &["127.0.0.0/8", "127.0.0.1:5070"])]);
        let user = Origin { serves_users: true, ..from("127.0.0.1:40000") };
        assert_eq!(table.lookup(user), None);
        assert_eq!(
            table.lookup(Origin { serves_users: true, ..from("127.0.0.1:5070") }),
            Some(TrunkIndex(0))
        );
    }

    #[test]
    fn the_certificate_name_goes_before_any_address() {
        let mut named = trunk(1, &["203.0.113.1/32"]);
        named.tls_name = "sbc.example".into();
        let table = PeerTable::new(vec![trunk(0, &["192.0.2.7:5061"]), named]);
        let names = ["SBC.example".to_owned()];
        let origin = Origin { tls_names: &names, serves_users: true, ..from("192.0.2.7:5061") };
        assert_eq!(table.lookup(origin), Some(TrunkIndex(1)));
    }

    #[test]
    fn an_address_counts_only_where_what_carried_it_proves_it_as_well_as_the_trunks_own_transport() {
        use Transport::{Tcp, Tls, Udp};
        for (over, known) in [(Udp, &[Udp, Tcp, Tls][..]), (Tcp, &[Tcp, Tls]), (Tls, &[Tls])] {
            let mut table = PeerTable::new(vec![
                TrunkPeers { over, ..trunk(0, &["192.0.2.0/28", "198.51.100.7:5061"]) },
                TrunkPeers { over, ..trunk(1, &[]) },
            ]);
            table.set_resolved(TrunkIndex(1), vec!["203.0.113.9:5061".parse().unwrap()]);
            for transport in [Udp, Tcp, Tls] {
                for (remote, whose) in
                    [("192.0.2.7:5061", 0), ("198.51.100.7:5061", 0), ("203.0.113.9:5061", 1)]
                {
                    let found = table.lookup(Origin { transport, ..from(remote) });
                    let expected = known.contains(&transport).then_some(TrunkIndex(whose));
                    assert_eq!(found, expected, "{remote} over {transport:?}, calls over {over:?}");
                }
            }
        }
    }

    #[test]
    fn a_trunk_that_certificates_name_is_not_known_by_its_address() {
        let mut named = trunk(0, &["192.0.2.0/28", "192.0.2.7:5061"]);
        (named.tls_name, named.named, named.over) = ("sbc.example".into(), true, Transport::Tls);
        let table = PeerTable::new(vec![named]);
        let origin = Origin { transport: Transport::Tls, ..from("192.0.2.7:5061") };
        assert_eq!(table.lookup(origin), None, "a connection from there that shows no certificate");
        let names = ["sbc.example".to_owned()];
        assert_eq!(table.lookup(Origin { tls_names: &names, ..origin }), Some(TrunkIndex(0)));
    }

    #[test]
    fn network_and_match_host_tell_two_trunks_of_one_peer_apart() {
        let mut premium = trunk(1, &["192.0.2.7/32"]);
        premium.match_host = Some("premium.example".into());
        let mut private = trunk(2, &["192.0.2.7/32"]);
        private.network = NetworkId(1);
        let table = PeerTable::new(vec![trunk(0, &["192.0.2.7/32"]), premium, private]);
        assert!(table.ambiguities().is_empty());
        assert_eq!(table.lookup(from("192.0.2.7:5060")), Some(TrunkIndex(0)));
        let premium = Origin { request_host: "Premium.example", ..from("192.0.2.7:5060") };
        assert_eq!(table.lookup(premium), Some(TrunkIndex(1)));
        let private = Origin { network: NetworkId(1), ..from("192.0.2.7:5060") };
        assert_eq!(table.lookup(private), Some(TrunkIndex(2)));
    }

    #[test]
    fn without_peers_the_resolved_proxies_count() {
        let mut table = PeerTable::new(vec![trunk(0, &[])]);
        assert_eq!(table.lookup(from("192.0.2.9:5060")), None);
        table.set_resolved(TrunkIndex(0), vec!["192.0.2.9:5060".parse().unwrap()]);
        assert_eq!(table.lookup(from("192.0.2.9:5060")), Some(TrunkIndex(0)));
        assert_eq!(table.lookup(from("192.0.2.9:39999")), Some(TrunkIndex(0)), "TCP comes from any port");
        assert_eq!(table.lookup(Origin { serves_users: true, ..from("192.0.2.9:39999") }), None);
        table.set_resolved(TrunkIndex(0), vec![]);
        assert_eq!(table.lookup(from("192.0.2.9:5060")), None);
    }

    #[test]
    fn two_operators_at_one_address_are_told_apart_by_port_and_otherwise_not_at_all() {
        let mut table = PeerTable::new(vec![trunk(0, &[]), trunk(1, &[])]);
        table.set_resolved(TrunkIndex(0), vec!["127.0.0.1:5070".parse().unwrap()]);
        table.set_resolved(TrunkIndex(1), vec!["127.0.0.1:5071".parse().unwrap()]);
        assert_eq!(table.lookup(from("127.0.0.1:5071")), Some(TrunkIndex(1)));
        assert_eq!(table.lookup(from("127.0.0.1:40000")), None);
    }

    #[test]
    fn an_ipv4_peer_seen_through_a_dual_stack_socket_is_the_same_peer() {
        let table = PeerTable::new(vec![trunk(0, &["192.0.2.0/28"])]);
        assert_eq!(table.lookup(from("[::ffff:192.0.2.7]:5060")), Some(TrunkIndex(0)));
    }

    #[test]
    fn trunks_that_cannot_be_told_apart_are_found() {
        let (mut a, mut b) = (trunk(2, &[]), trunk(3, &[]));
        a.tls_name = "sbc.example".into();
        b.tls_name = "sbc.example".into();
        let table = PeerTable::new(vec![trunk(0, &["192.0.2.0/28"]), trunk(1, &["192.0.2.0/28"]), a, b]);
        let what: Vec<String> = table.ambiguities().into_iter().map(|ambiguity| ambiguity.what).collect();
        assert_eq!(what, ["192.0.2.0/28", "the TLS name sbc.example"]);
    }
}
