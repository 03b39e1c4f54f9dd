//! Where a SIP server is (RFC 3263): which names are asked for, and what the answers mean. Pure; `lookup` puts the
//! questions in their order.

use crate::types::{HostPort, Transport};
use std::net::{IpAddr, SocketAddr};

/// One NAPTR record (RFC 3403 §4.1), as far as SIP reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naptr {
    pub order: u16,
    pub preference: u16,
    /// `s`: the replacement is asked for SRV records.
    pub flags: String,
    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T` …
    pub service: String,
    pub replacement: String,
}

/// One SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// A host name; `.` says that the service is not offered there.
    pub target: String,
}

/// What the name of a server calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// It is an address already.
    Address(SocketAddr),
    /// With a port, the name is asked for its addresses alone (RFC 3263 §4.2).
    Addresses { host: String, port: u16 },
    /// SRV records first, then the name's own addresses.
    Services { host: String },
}

/// One address at which a server may be reached, and its place among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    pub transport: Transport,
    pub remote: SocketAddr,
    /// Lower is tried first.
    pub priority: u16,
    /// The share of calls among those of one priority.
    pub weight: u16,
    /// The how-manieth address of its host: the second of one is tried after the first of all others.
    pub address: u16,
}

impl Search {
    /// What a configured server calls for.
    pub fn new(server: &HostPort, transport: Transport) -> Search {
        let port = server.port.unwrap_or(transport.default_port());
        match (server.host.parse::<IpAddr>(), server.port) {
            (Ok(ip), _) => Search::Address(SocketAddr::new(ip, port)),
            (Err(_), Some(port)) => Search::Addresses { host: server.host.clone(), port },
            (Err(_), None) => Search::Services { host: server.host.clone() },
        }
    }
}

/// The name of the SRV records of a host (RFC 3263 §4.2); `None` for transports that have none.
pub fn srv_name(host: &str, transport: Transport) -> Option<String> {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws | Transport::Wss => return None,
    };
    Some(format!("{service}.{host}"))
}

/// The transports a host wants, best first, each with the name of its SRV records (RFC 3263 §4.1). Who asks over TLS
/// is never led to a transport in clear: an answer from the DNS proves nothing.
pub fn services(records: &[Naptr], configured: Transport) -> Vec<(Transport, String)> {
    let mut usable: Vec<(&Naptr, Transport)> = records
        .iter()
        .filter(|record| record.flags.eq_ignore_ascii_case("s"))
        .filter_map(|record| {
            let transport = match record.service.to_ascii_uppercase().as_str() {
                "SIP+D2U" => Transport::Udp,
                "SIP+D2T" => Transport::Tcp,
                "SIPS+D2T" => Transport::Tls,
                _ => return None,
            };
            (transport.is_secure() || !configured.is_secure()).then_some((record, transport))
        })
        .collect();
    // RFC 3403 §4.1: the order binds, the preference advises; we can speak all of them.
    usable.sort_by_key(|(record, _)| (record.order, record.preference));
    usable
        .into_iter()
        .map(|(record, transport)| (transport, record.replacement.trim_end_matches('.').to_owned()))
        .collect()
}

/// One of several by weight (RFC 2782): `draw` is uniform over `u32`. A weight of 0 is drawn hardly ever, not never.
pub fn draw_by_weight(weights: &[u16], draw: u32) -> Option<usize> {
    // Each gets its weight a hundredfold plus one, so that zeros have their small chance beside weights and an equal
    // one among themselves.
    let share = |weight: &u16| u64::from(*weight) * 100 + 1;
    let whole: u64 = weights.iter().map(share).sum();
    let mut left = (u64::from(draw) * whole) >> 32;
    weights.iter().position(|weight| {
        let here = left < share(weight);
        left = left.saturating_sub(share(weight));
        here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Naptr {
        Naptr {
            order,
            preference,
            flags: "S".into(),
            service: service.into(),
            replacement: replacement.into(),
        }
    }

    fn host(text: &str, port: Option<u16>) -> HostPort {
        HostPort { host: text.into(), port }
    }

    #[test]
    fn an_address_is_not_asked_for_and_a_port_spares_the_services() {
        let address = Search::new(&host("2001:db8::1", None), Transport::Tls);
        assert_eq!(address, Search::Address("[2001:db8::1]:5061".parse().unwrap()));
        let with_port = Search::new(&host("sbc.example", Some(5070)), Transport::Udp);
        assert_eq!(with_port, Search::Addresses { host: "sbc.example".into(), port: 5070 });
        let name = Search::new(&host("sbc.example", None), Transport::Udp);
        assert_eq!(name, Search::Services { host: "sbc.example".into() });
    }

    #[test]
    fn services_come_in_their_order_and_only_those_we_speak() {
        // The records of RFC 3263 §4.1, with the preference that decides between equals.
        let records = [
            naptr(90, 50, "SIP+D2T", "_sip._tcp.example.com."),
            naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.com."),
            naptr(90, 40, "SIP+D2U", "_sip._udp.example.com."),
            naptr(10, 10, "SIP+D2S", "_sip._sctp.example.com."),
            naptr(10, 10, "E2U+sip", "elsewhere.example.com."),
        ];
        let found = services(&records, Transport::Udp);
        let expected = [
            (Transport::Tls, "_sips._tcp.example.com"),
            (Transport::Udp, "_sip._udp.example.com"),
            (Transport::Tcp, "_sip._tcp.example.com"),
        ];
        assert_eq!(found, expected.map(|(transport, name)| (transport, name.to_owned())));
    }

    #[test]
    fn who_asks_over_tls_is_not_led_into_the_clear() {
        let records = [naptr(1, 1, "SIP+D2U", "_sip._udp.x."), naptr(2, 1, "SIPS+D2T", "_sips._tcp.x.")];
        assert_eq!(services(&records, Transport::Tls), [(Transport::Tls, "_sips._tcp.x".to_owned())]);
    }

    #[test]
    fn the_name_of_the_records_tells_service_and_transport() {
        assert_eq!(srv_name("a.example", Transport::Udp).as_deref(), Some("_sip._udp.a.example"));
        assert_eq!(srv_name("a.example", Transport::Tcp).as_deref(), Some("_sip._tcp.a.example"));
        assert_eq!(srv_name("a.example", Transport::Tls).as_deref(), Some("_sips._tcp.a.example"));
        assert_eq!(srv_name("a.example", Transport::Wss), None);
    }

    #[test]
    fn weights_are_shares_and_zero_is_rare_but_possible() {
        let weights = [60, 20, 20, 0];
        let mut drawn = [0u32; 4];
        for n in 0..100_000u32 {
            let draw = n.wrapping_mul(42_950).wrapping_add(n);
            drawn[draw_by_weight(&weights, draw).unwrap()] += 1;
        }
        for (index, share) in [(0, 0.6), (1, 0.2), (2, 0.2)] {
            let seen = f64::from(drawn[index]) / 100_000.0;
            assert!((seen - share).abs() < 0.01, "{share} asked, {seen} seen");
        }
        assert!(drawn[3] > 0 && drawn[3] < 100, "{} times", drawn[3]);
        assert_eq!(draw_by_weight(&[], 7), None);
        assert_eq!(draw_by_weight(&[0, 0], u32::MAX), Some(1));
        assert_eq!(draw_by_weight(&[0, 0], 0), Some(0));
    }
}
