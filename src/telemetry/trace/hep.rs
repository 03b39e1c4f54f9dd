//! HEP version 3: how a copy of a message is told to Homer and other capture servers.

use super::{Flow, KeptMessage, Octets};
use crate::types::Secret;
use std::net::{IpAddr, SocketAddr};

/// Chunk types of the generic vendor (HEP3 §2).
mod chunk {
    pub const FAMILY: u16 = 1;
    pub const PROTOCOL: u16 = 2;
    pub const SOURCE_V4: u16 = 3;
    pub const DESTINATION_V4: u16 = 4;
    pub const SOURCE_V6: u16 = 5;
    pub const DESTINATION_V6: u16 = 6;
    pub const SOURCE_PORT: u16 = 7;
    pub const DESTINATION_PORT: u16 = 8;
    pub const SECONDS: u16 = 9;
    pub const MICROSECONDS: u16 = 10;
    pub const KIND: u16 = 11;
    pub const CAPTURE_ID: u16 = 12;
    pub const AUTH_KEY: u16 = 14;
    pub const PAYLOAD: u16 = 15;
    pub const CORRELATION: u16 = 17;
}

const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_TCP: u8 = 6;
const KIND_SIP: u8 = 1;
const HEADER: usize = 6;

/// Source and destination of a message, seen on the wire.
pub(super) fn ends(message: &KeptMessage) -> (SocketAddr, SocketAddr) {
    match message.flow {
        Flow::Received => (message.remote, message.local),
        Flow::Sent => (message.local, message.remote),
    }
}

/// As whom copies go to a capture server, and what proves it; an empty key proves nothing and is not sent.
#[derive(Debug, Clone)]
pub struct Sender {
    pub capture_id: u32,
    pub key: Secret,
}

/// One packet; `None` for a message that does not fit into one.
pub fn hep3(message: &KeptMessage, sender: &Sender, correlation: &str) -> Option<Vec<u8>> {
    let (source, destination) = ends(message);
    let mut packet = Vec::with_capacity(message.octets.len() + 160);
    packet.extend_from_slice(b"HEP3\0\0");
    let mut add = |kind: u16, value: &[u8]| {
        packet.extend_from_slice(&0u16.to_be_bytes());
        packet.extend_from_slice(&kind.to_be_bytes());
        packet.extend_from_slice(&((value.len() + HEADER) as u16).to_be_bytes());
        packet.extend_from_slice(value);
    };
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            add(chunk::FAMILY, &[FAMILY_V4]);
            add(chunk::SOURCE_V4, &from.octets());
            add(chunk::DESTINATION_V4, &to.octets());
        }
        (from, to) => {
            let v6 = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            add(chunk::FAMILY, &[FAMILY_V6]);
            add(chunk::SOURCE_V6, &v6(from));
            add(chunk::DESTINATION_V6, &v6(to));
        }
    }
    add(chunk::PROTOCOL, &[if message.transport.is_reliable() { PROTOCOL_TCP } else { PROTOCOL_UDP }]);
    add(chunk::SOURCE_PORT, &source.port().to_be_bytes());
    add(chunk::DESTINATION_PORT, &destination.port().to_be_bytes());
    add(chunk::SECONDS, &(message.unix_micros.div_euclid(1_000_000) as u32).to_be_bytes());
    add(chunk::MICROSECONDS, &(message.unix_micros.rem_euclid(1_000_000) as u32).to_be_bytes());
    add(chunk::KIND, &[KIND_SIP]);
    add(chunk::CAPTURE_ID, &sender.capture_id.to_be_bytes());
    let key = sender.key.expose().as_bytes();
    if !key.is_empty() {
        add(chunk::AUTH_KEY, key);
    }
    add(chunk::CORRELATION, correlation.as_bytes());
    match &message.octets {
        Octets::Whole(bytes) => add(chunk::PAYLOAD, bytes),
        parts @ Octets::Parts { .. } => add(chunk::PAYLOAD, &parts.to_bytes()),
    }
    let len = u16::try_from(packet.len()).ok()?;
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Transport;
    use bytes::Bytes;

    fn message(transport: Transport, remote: &str, local: &str) -> KeptMessage {
        KeptMessage {
            unix_micros: 1_700_000_000_250_000,
            flow: Flow::Received,
            transport,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            octets: Octets::Whole(Bytes::from_static(b"OPTIONS sip:a SIP/2.0\r\n\r\n")),
        }
    }

    fn chunks(packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut rest = &packet[6..];
        let mut found = Vec::new();
        while !rest.is_empty() {
            let kind = u16::from_be_bytes([rest[2], rest[3]]);
            let len = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
            found.push((kind, rest[6..len].to_vec()));
            rest = &rest[len..];
        }
        found
    }

    fn sender(key: &str) -> Sender {
        Sender { capture_id: 7, key: Secret::new(key) }
    }

    #[test]
    fn each_chunk_says_what_it_must() {
        let message = message(Transport::Udp, "192.0.2.1:5070", "192.0.2.9:5060");
        let packet = hep3(&message, &sender(""), "call-1").unwrap();
        assert_eq!(&packet[..4], b"HEP3");
        assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet.len());
        let found = chunks(&packet);
        let value = |kind| found.iter().find(|(k, _)| *k == kind).map(|(_, v)| v.as_slice()).unwrap();
        assert_eq!(value(chunk::SOURCE_V4), [192, 0, 2, 1]);
        assert_eq!(value(chunk::DESTINATION_PORT), 5060u16.to_be_bytes());
        assert_eq!(value(chunk::SECONDS), 1_700_000_000u32.to_be_bytes());
        assert_eq!(value(chunk::MICROSECONDS), 250_000u32.to_be_bytes());
        assert_eq!(value(chunk::PROTOCOL), [PROTOCOL_UDP]);
        assert_eq!(value(chunk::CAPTURE_ID), 7u32.to_be_bytes());
        assert_eq!(value(chunk::CORRELATION), b"call-1");
        assert_eq!(value(chunk::PAYLOAD), b"OPTIONS sip:a SIP/2.0\r\n\r\n");
        assert!(found.iter().all(|(kind, _)| *kind != chunk::AUTH_KEY), "nothing proves nothing");
        let proven = chunks(&hep3(&message, &sender("sesame"), "call-1").unwrap());
        assert!(proven.contains(&(0x0e, b"sesame".to_vec())));
    }

    #[test]
    fn a_message_beyond_a_packet_is_not_sent() {
        let mut long = message(Transport::Tcp, "[2001:db8::1]:1", "[2001:db8::2]:2");
        assert!(hep3(&long, &sender(""), "").is_some());
        long.octets = Octets::Whole(vec![b'a'; 70_000].into());
        assert!(hep3(&long, &sender(""), "").is_none());
    }
}
