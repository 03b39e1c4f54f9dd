//! The signalling of one call as a capture file that Wireshark and tshark open.

use super::hep::ends;
use super::{Kept, KeptMessage};
use std::net::IpAddr;

/// Nanosecond-less pcap, version 2.4, raw IP packets (LINKTYPE_RAW).
const MAGIC: u32 = 0xa1b2_c3d4;
const LINKTYPE_RAW: u32 = 101;
const LONGEST: u32 = 65_535;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;

/// All messages, each as one datagram, whatever carried it: what came over TCP or TLS has no segments of its own here.
/// A message that does not fit into a datagram is left out.
pub fn pcap(kept: &Kept) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend_from_slice(&MAGIC.to_le_bytes());
    file.extend_from_slice(&2u16.to_le_bytes());
    file.extend_from_slice(&4u16.to_le_bytes());
    file.extend_from_slice(&[0; 8]);
    file.extend_from_slice(&LONGEST.to_le_bytes());
    file.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
    for (_, message) in &kept.messages {
        let Some(packet) = datagram(message) else { continue };
        let len = (packet.len() as u32).to_le_bytes();
        file.extend_from_slice(&(message.unix_micros.div_euclid(1_000_000) as u32).to_le_bytes());
        file.extend_from_slice(&(message.unix_micros.rem_euclid(1_000_000) as u32).to_le_bytes());
        file.extend_from_slice(&len);
        file.extend_from_slice(&len);
        file.extend_from_slice(&packet);
    }
    file
}

fn datagram(message: &KeptMessage) -> Option<Vec<u8>> {
    let (source, destination) = ends(message);
    let udp_len = u16::try_from(message.octets.len() + UDP_HEADER).ok()?;
    let mut packet = Vec::with_capacity(message.octets.len() + 48);
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let len = udp_len.checked_add(20)?;
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&len.to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0x40, 0, 64, UDP, 0, 0]);
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            let sum = checksum(&packet).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
        }
        (from, to) => {
            let v6 = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&udp_len.to_be_bytes());
            packet.extend_from_slice(&[UDP, 64]);
            packet.extend_from_slice(&v6(from));
            packet.extend_from_slice(&v6(to));
        }
    }
    packet.extend_from_slice(&source.port().to_be_bytes());
    packet.extend_from_slice(&destination.port().to_be_bytes());
    packet.extend_from_slice(&udp_len.to_be_bytes());
    // RFC 768: a checksum of zero says that there is none.
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(&message.octets.to_bytes());
    Some(packet)
}

/// RFC 1071 over a header of an even length.
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_header_with_its_checksum_is_zero() {
        // The example header of RFC 1071's usual demonstration: 192.168.0.1 to 192.168.0.199.
        let mut header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01,
            0xc0, 0xa8, 0x00, 0xc7,
        ];
        let sum = checksum(&header);
        assert_eq!(sum, 0xb861);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&header), 0);
    }
}
