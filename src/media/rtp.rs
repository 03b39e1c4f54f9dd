//! RTP packets (RFC 3550 §5.1) behind one face over rtp-rs, and what a receiver learns from their numbers.

use rtp_rs::{RtpPacketBuilder, RtpReader, Seq};
use std::time::{Duration, Instant};

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

/// These bytes are not RTP: wrong version, or a length inside points beyond their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RTP packet")]
pub struct NotRtp;

/// Reads a packet (RFC 3550 §5.1).
#[inline]
pub fn parse(bytes: &[u8]) -> Result<RtpPacket<'_>, NotRtp> {
    let reader = RtpReader::new(bytes).map_err(|_| NotRtp)?;
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

/// A jump forward up to here is loss; 3,000 packets are a minute (RFC 3550 A.1).
const MAX_DROPOUT: i16 = 3_000;
/// A packet this far behind is still a late one of this stream; also the width of the duplicate window.
const MAX_MISORDER: i16 = 64;
/// A new source is believed at once if the known one has been quiet for this long.
const SOURCE_SILENCE: Duration = Duration::from_millis(100);

/// Statistics of one received stream (RFC 3550 A.1, A.3, A.8), going on over changes of its source.
#[derive(Debug, Clone)]
pub struct ReceiveStats {
    source: Option<Source>,
    /// A source or position that one packet claimed; the packet after it confirms it.
    claimed: Option<(u32, u16)>,
    last_arrival: Option<Instant>,
    /// Transit time of the last packet in clock units and when counting began.
    transit: Option<(i32, Instant)>,
    clock_rate: u32,
    /// Sixteen times the jitter in clock units, as RFC 3550 A.8 keeps it.
    jitter_q4: u32,
    jitter_known: bool,
    /// Of sources before the present one.
    expected_before: u64,
    unique_before: u64,
    duplicates: u64,
    late: u64,
    bursts: u64,
    prior: Interval,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    base: u32,
    /// Highest number seen, with the count of wraps above it.
    highest: u32,
    /// Which of the 64 numbers up to the highest were seen; bit 0 is the highest.
    seen: u64,
    unique: u64,
    /// RFC 3550's `received`: duplicates count.
    received: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Interval {
    expected: u64,
    received: u64,
}

/// The part of a reception report that describes our receiving (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    pub ssrc: u32,
    pub fraction_lost: u8,
    pub cumulative_lost: i32,
    pub highest_sequence: u32,
    pub jitter: u32,
}

impl ReceiveStats {
    /// `clock_rate` in Hz is the unit of the timestamps.
    pub fn new(clock_rate: u32) -> ReceiveStats {
        ReceiveStats {
            source: None,
            claimed: None,
            last_arrival: None,
            transit: None,
            clock_rate,
            jitter_q4: 0,
            jitter_known: false,
            expected_before: 0,
            unique_before: 0,
            duplicates: 0,
            late: 0,
            bursts: 0,
            prior: Interval::default(),
        }
    }

    /// Changes the unit of the timestamps; jitter starts anew, counts go on.
    pub fn set_clock_rate(&mut self, clock_rate: u32) {
        if clock_rate != self.clock_rate {
            self.clock_rate = clock_rate;
            self.transit = None;
            self.jitter_q4 = 0;
            self.jitter_known = false;
        }
    }

    /// Notes a packet and says how it stands to those before it. `timestamp` is `None` for packets whose timestamp
    /// does not advance with time (telephone events).
    pub fn record(&mut self, ssrc: u32, sequence: u16, timestamp: Option<u32>, arrival: Instant) -> Arrival {
        let verdict = self.place(ssrc, sequence, arrival);
        match verdict {
            Arrival::First | Arrival::Next | Arrival::Gap(_) => {
                self.last_arrival = Some(arrival);
                if let Some(timestamp) = timestamp {
                    self.note_transit(timestamp, arrival);
                }
            }
            Arrival::Late => self.last_arrival = Some(arrival),
            Arrival::Duplicate | Arrival::Suspect => {}
        }
        verdict
    }

    fn place(&mut self, ssrc: u32, sequence: u16, arrival: Instant) -> Arrival {
        let Some(source) = self.source.as_mut() else {
            return self.start(ssrc, sequence);
        };
        let ahead = sequence_distance(source.highest as u16, sequence);
        if ssrc != source.ssrc || !(-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead) {
            // RFC 3550 A.1: two in a row are needed before a stream restarts, so that strays change nothing.
            let quiet = self.last_arrival.is_none_or(|last| {
                arrival.saturating_duration_since(last) > SOURCE_SILENCE && ssrc != source.ssrc
            });
            if quiet || self.claimed == Some((ssrc, sequence)) {
                return self.start(ssrc, sequence);
            }
            self.claimed = Some((ssrc, sequence.wrapping_add(1)));
            return Arrival::Suspect;
        }
        source.received += 1;
        if ahead <= 0 {
            let bit = 1u64.checked_shl(u32::from(ahead.unsigned_abs())).unwrap_or(0);
            let before_start = source.highest.wrapping_add_signed(ahead.into()) < source.base;
            if bit == 0 || source.seen & bit != 0 || before_start {
                self.duplicates += 1;
                return Arrival::Duplicate;
            }
            source.seen |= bit;
            source.unique += 1;
            self.late += 1;
            return Arrival::Late;
        }
        source.highest = source.highest.wrapping_add(ahead as u32);
        source.seen = source.seen.checked_shl(ahead as u32).unwrap_or(0) | 1;
        source.unique += 1;
        self.claimed = None;
        if ahead == 1 {
            Arrival::Next
        } else {
            self.bursts += 1;
            Arrival::Gap(ahead as u16 - 1)
        }
    }

    fn start(&mut self, ssrc: u32, sequence: u16) -> Arrival {
        if let Some(old) = self.source.take() {
            self.expected_before += old.expected();
            self.unique_before += old.unique;
        }
        let first = u32::from(sequence);
        self.source = Some(Source { ssrc, base: first, highest: first, seen: 1, unique: 1, received: 1 });
        self.claimed = None;
        self.transit = None;
        self.prior = Interval::default();
        Arrival::First
    }

    /// RFC 3550 A.8. Arrival is counted in microseconds, finer than any timestamp clock here needs.
    fn note_transit(&mut self, timestamp: u32, arrival: Instant) {
        let epoch = self.transit.map_or(arrival, |(_, epoch)| epoch);
        let micros = arrival.saturating_duration_since(epoch).as_micros() as u64;
        let units = (micros * u64::from(self.clock_rate) / 1_000_000) as u32;
        let transit = units.wrapping_sub(timestamp) as i32;
        if let Some((before, _)) = self.transit {
            let step = transit.wrapping_sub(before).unsigned_abs();
            // A step beyond a second is the sender's clock being set, not the network.
            if step < self.clock_rate {
                self.jitter_q4 = (self.jitter_q4 + step).saturating_sub((self.jitter_q4 + 8) >> 4);
                self.jitter_known = true;
            }
        }
        self.transit = Some((transit, epoch));
    }

    /// Packets that never came, of all sources so far.
    pub fn lost(&self) -> u64 {
        let (expected, unique) = self.totals();
        expected.saturating_sub(unique)
    }

    /// Packets there should have been, of all sources so far.
    pub fn expected(&self) -> u64 {
        self.totals().0
    }

    /// Packets that came, each counted once.
    pub fn unique(&self) -> u64 {
        self.totals().1
    }

    /// Packets that came twice.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets that came behind a later one.
    pub fn late(&self) -> u64 {
        self.late
    }

    fn totals(&self) -> (u64, u64) {
        let (expected, unique) = self.source.map_or((0, 0), |source| (source.expected(), source.unique));
        (self.expected_before + expected, self.unique_before + unique)
    }

    /// Mean run of lost packets over what random loss of the same share would give (G.107's BurstR), at least 1.
    pub fn burst_ratio(&self) -> f32 {
        let (lost, expected) = (self.lost() as f32, self.expected() as f32);
        if self.bursts == 0 || lost == 0.0 || expected == 0.0 {
            return 1.0;
        }
        let mean = lost / self.bursts as f32;
        (mean * (1.0 - lost / expected)).max(1.0)
    }

    /// Interarrival jitter in milliseconds; `None` before two packets could be compared.
    pub fn jitter_ms(&self) -> Option<f32> {
        self.jitter_known.then(|| (self.jitter_q4 as f32 / 16.0) * 1000.0 / self.clock_rate as f32)
    }

    /// The source heard at present.
    pub fn ssrc(&self) -> Option<u32> {
        self.source.map(|source| source.ssrc)
    }

    /// The next reception report; its loss fraction covers the time since the last call (RFC 3550 A.3).
    pub fn reception(&mut self) -> Option<Reception> {
        let source = self.source?;
        let (expected, received) = (source.expected(), source.received);
        let expected_now = expected.saturating_sub(self.prior.expected);
        let received_now = received.saturating_sub(self.prior.received);
        self.prior = Interval { expected, received };
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction_lost = (lost_now << 8).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let cumulative = (expected as i64 - received as i64).clamp(-0x80_0000, 0x7f_ffff) as i32;
        Some(Reception {
            ssrc: source.ssrc,
            fraction_lost,
            cumulative_lost: cumulative,
            highest_sequence: source.highest,
            jitter: self.jitter_q4 >> 4,
        })
    }
}

impl Source {
    fn expected(&self) -> u64 {
        u64::from(self.highest.wrapping_sub(self.base)) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

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
        let table: [(&str, &[u8]); 6] = [
            ("empty", &[]),
            ("short", &[0x80; 11]),
            ("version 1", &[0x40; 20]),
            ("fifteen sources that are not there", &[0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("an extension longer than the packet", &[0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]),
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

    #[test]
    fn loss_duplicates_and_reordering_are_told_apart() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        let mut at = |sequence: u16| stats.record(1, sequence, None, now);
        assert_eq!(at(65_534), Arrival::First);
        assert_eq!(at(65_535), Arrival::Next);
        assert_eq!(at(2), Arrival::Gap(2));
        assert_eq!(at(1), Arrival::Late);
        assert_eq!(at(1), Arrival::Duplicate);
        assert_eq!(at(2), Arrival::Duplicate);
        assert_eq!(at(65_533), Arrival::Duplicate, "before the first one");
        assert_eq!(at(3), Arrival::Next);
        assert_eq!((stats.lost(), stats.expected(), stats.unique()), (1, 6, 5));
        assert_eq!((stats.late(), stats.duplicates()), (1, 3));
    }

    #[test]
    fn a_stray_source_changes_nothing_and_a_new_one_is_believed_on_its_second_packet() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        stats.record(1, 100, None, now);
        for stray in 0..1000u32 {
            let verdict = stats.record(stray + 10, (stray * 7) as u16, None, now);
            assert_eq!(verdict, Arrival::Suspect);
        }
        assert_eq!(stats.record(1, 101, None, now), Arrival::Next);
        assert_eq!(stats.record(2, 5000, None, now), Arrival::Suspect);
        assert_eq!(stats.record(2, 5001, None, now), Arrival::First);
        assert_eq!(stats.lost(), 0);
        assert_eq!(stats.record(3, 1, None, now + 200 * MS), Arrival::First, "the old one has been quiet");
    }

    #[test]
    fn a_jump_within_a_source_restarts_it_without_counting_loss() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        stats.record(1, 0, None, now);
        assert_eq!(stats.record(1, 20_000, None, now), Arrival::Suspect);
        assert_eq!(stats.record(1, 20_001, None, now), Arrival::First);
        assert_eq!((stats.lost(), stats.expected()), (0, 2));
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let mut stats = ReceiveStats::new(8000);
        let start = Instant::now();
        assert_eq!(stats.jitter_ms(), None);
        // Every other packet is 10 ms late: |D| is always 10 ms, so jitter tends to 10 ms.
        for n in 0..400u32 {
            let late = if n % 2 == 1 { 10 * MS } else { Duration::ZERO };
            stats.record(1, n as u16, Some(n * 160), start + 20 * MS * n + late);
        }
        let jitter = stats.jitter_ms().unwrap();
        assert!((9.0..=10.1).contains(&jitter), "{jitter}");
    }

    #[test]
    fn a_reception_report_covers_its_interval() {
        let mut stats = ReceiveStats::new(8000);
        let now = Instant::now();
        for sequence in (0..100u16).filter(|n| n % 4 != 3) {
            stats.record(1, sequence, None, now);
        }
        let report = stats.reception().unwrap();
        assert_eq!(report.highest_sequence, 98);
        assert_eq!(report.cumulative_lost, 24);
        assert_eq!(report.fraction_lost, (24 * 256 / 99) as u8);
        stats.record(1, 99, None, now);
        assert_eq!(stats.reception().unwrap().fraction_lost, 0, "a new interval");
    }

    #[test]
    fn burst_ratio_is_one_for_scattered_loss_and_more_for_runs() {
        let now = Instant::now();
        let mut scattered = ReceiveStats::new(8000);
        let mut runs = ReceiveStats::new(8000);
        for n in 0..1000u16 {
            if n % 10 != 5 {
                scattered.record(1, n, None, now);
            }
            if n % 50 >= 5 {
                runs.record(1, n, None, now);
            }
        }
        assert_eq!(scattered.burst_ratio(), 1.0);
        let ratio = runs.burst_ratio();
        assert!((4.0..5.0).contains(&ratio), "{ratio}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(packet) = parse(&bytes) {
                prop_assert!(packet.payload.len() + HEADER_LEN <= bytes.len());
                prop_assert!(header_len(&bytes).is_some());
            }
        }

        #[test]
        fn counts_stay_consistent(sequences in proptest::collection::vec(any::<u16>(), 1..300)) {
            let mut stats = ReceiveStats::new(48_000);
            let now = Instant::now();
            for sequence in sequences {
                stats.record(1, sequence, Some(u32::from(sequence) * 960), now);
                prop_assert!(stats.unique() <= stats.expected());
                prop_assert_eq!(stats.lost(), stats.expected() - stats.unique());
            }
        }
    }
}
