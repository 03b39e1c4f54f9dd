//! RTP packets (RFC 3550 §5.1) behind one face over rtp-rs.

use rtp_rs::{RtpPacketBuilder, RtpReader, Seq};

/// The largest packet handled, RTP header, payload and SRTP trailer together: an Ethernet frame's worth.
pub const MAX_PACKET: usize = 1500;
/// Length of the header we write: no contributing sources, no extension.
pub const HEADER_LEN: usize = 12;

/// A packet as received, its header checked to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    /// Without padding and header extension.
    pub payload: &'a [u8],
}

/// The header of a packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

/// These bytes are not RTP: wrong version, too long, or a length inside points beyond their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RTP packet")]
pub struct NotRtp;

/// Reads a packet (RFC 3550 §5.1) that is no longer than the largest.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<RtpPacket<'_>, NotRtp> {
    if bytes.len() > MAX_PACKET {
        return Err(NotRtp);
    }
    let reader = RtpReader::new(bytes).map_err(|_| NotRtp)?;
    // The count of padding includes itself (RFC 3550 §5.1), so that none is a lie.
    if bytes[0] & 0x20 != 0 && bytes.last() == Some(&0) {
        return Err(NotRtp);
    }
    Ok(RtpPacket {
        payload_type: reader.payload_type(),
        marker: reader.mark(),
        sequence: reader.sequence_number().into(),
        timestamp: reader.timestamp(),
        ssrc: reader.ssrc(),
        payload: reader.payload(),
    })
}

/// Length of header, contributing sources and extension; where SRTP starts to encrypt (RFC 3711 §3.1).
/// `None` if they do not fit or the version is not 2.
#[inline]
pub fn header_len(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEADER_LEN || bytes[0] >> 6 != 2 {
        return None;
    }
    let mut len = HEADER_LEN + 4 * usize::from(bytes[0] & 0x0f);
    if bytes[0] & 0x10 != 0 {
        let words = bytes.get(len + 2..len + 4)?;
        len += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    (len <= bytes.len()).then_some(len)
}

/// RTP and RTCP on one port are told apart by the second byte (RFC 5761 §4).
#[inline]
pub fn is_rtcp(bytes: &[u8]) -> bool {
    bytes.len() >= 2 && (192..=223).contains(&bytes[1])
}

impl RtpHeader {
    /// Writes header and payload, returns their length; `None` if `out` is too small or the payload type above 127.
    #[inline]
    pub fn write(&self, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        RtpPacketBuilder::new()
            .payload_type(self.payload_type)
            .marked(self.marker)
            .sequence(Seq::from(self.sequence))
            .timestamp(self.timestamp)
            .ssrc(self.ssrc)
            .payload(payload)
            .build_into(out)
            .ok()
    }
}

/// How far `to` lies ahead of `from`; negative if behind. Right while they are less than 2^15 apart.
#[inline]
pub fn sequence_distance(from: u16, to: u16) -> i16 {
    to.wrapping_sub(from) as i16
}

/// How far `to` lies ahead of `from` in clock units; negative if behind. Right while less than 2^31 apart.
#[inline]
pub fn timestamp_distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

/// What the sequence number of a packet says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The first of its stream, or the first after the far side restarted it: nothing before it counts.
    First,
    /// The one that was expected.
    Next,
    /// So many before it have not come (yet).
    Gap(u16),
    /// One of those a gap was reported for.
    Late,
    /// It was here before, or is so old that it may have been.
    Duplicate,
    /// Its numbers fit no stream known here; it is not to be played (RFC 3550 A.1, `bad_seq`).
    Suspect,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_written_packet_reads_back() {
        let header =
            RtpHeader { payload_type: 96, marker: true, sequence: 65_535, timestamp: u32::MAX, ssrc: 7 };
        let mut bytes = [0; 64];
        let len = header.write(b"voice", &mut bytes).unwrap();
        let packet = parse(&bytes[..len]).unwrap();
        assert_eq!((packet.payload_type, packet.marker, packet.sequence), (96, true, 65_535));
        assert_eq!((packet.timestamp, packet.ssrc, packet.payload), (u32::MAX, 7, &b"voice"[..]));
        assert!(header.write(b"voice", &mut [0; 16]).is_none(), "too small");
        assert!(RtpHeader { payload_type: 128, ..header }.write(b"", &mut bytes).is_none());
    }

    #[test]
    fn malformed_headers_are_refused() {
        let table: [(&str, &[u8]); 8] = [
            ("longer than any", &[0x80; MAX_PACKET + 1]),
            ("empty", &[]),
            ("short", &[0x80; 11]),
            ("version 1", &[0x40; 20]),
            ("fifteen sources that are not there", &[0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("an extension longer than the packet", &[0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]),
            ("padding of no bytes", &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
            ("more padding than packet", &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200]),
        ];
        for (name, bytes) in table {
            assert_eq!(parse(bytes), Err(NotRtp), "{name}");
        }
    }

    #[test]
    fn padding_sources_and_extension_are_left_out_of_the_payload() {
        let mut bytes = vec![0xb1, 8, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend([9; 4]); // one contributing source
        bytes.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]); // extension of one word
        bytes.extend(b"hi\0\x02"); // two bytes of padding
        assert_eq!(parse(&bytes).unwrap().payload, b"hi");
        assert_eq!(header_len(&bytes), Some(24));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(packet) = parse(&bytes) {
                prop_assert!(packet.payload.len() + HEADER_LEN <= bytes.len());
                prop_assert!(header_len(&bytes).is_some());
            }
        }
    }
}
