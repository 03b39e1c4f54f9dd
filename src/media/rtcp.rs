//! RTCP (RFC 3550 §6): writes SR, RR, SDES, XR and BYE compounds, and reads what a peer says of our stream.

mod xr;

pub use xr::VoipMetrics;

use super::reception::Reception;
use std::time::Duration;

const SR: u8 = 200;
const RR: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;
const XR: u8 = 207;
const CNAME: u8 = 1;
const REPORT_LEN: usize = 24;
/// A real compound has three or four packets; one with more is only meant to cost us time.
const MAX_PACKETS: usize = 16;
/// The longest compound written here: SR with one report, SDES with a CNAME of 16 characters, XR with VoIP metrics, BYE.
pub const MAX_WRITTEN: usize = 160;

/// Seconds between 1900 (NTP) and 1970 (Unix), RFC 868.
const NTP_OFFSET_SECONDS: u64 = 2_208_988_800;

/// A calendar time as RTCP carries it: 32.32 bits of seconds since 1900.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NtpTime(pub u64);

impl NtpTime {
    pub fn from_unix_millis(unix_ms: i64) -> NtpTime {
        let unix_ms = unix_ms.max(0) as u64;
        let fraction = ((unix_ms % 1000) << 32) / 1000;
        NtpTime(((unix_ms / 1000 + NTP_OFFSET_SECONDS) << 32).wrapping_add(fraction))
    }

    /// So much later.
    pub fn after(self, by: Duration) -> NtpTime {
        let fraction = (u64::from(by.subsec_nanos()) << 32) / 1_000_000_000;
        NtpTime(self.0.wrapping_add(by.as_secs() << 32).wrapping_add(fraction))
    }

    /// The middle 32 bits, in units of 1/65536 s, as LSR carries them (RFC 3550 §6.4.1).
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// What a compound of ours says.
#[derive(Debug, Clone, Copy)]
pub struct Compound<'a> {
    pub ssrc: u32,
    /// Present if we sent media since the last report: then an SR goes out, else an RR.
    pub sender: Option<SenderInfo>,
    pub report: Option<Report>,
    /// For a peer that asked for them.
    pub voip: Option<VoipMetrics>,
    /// At most 16 characters; longer ones are cut.
    pub cname: &'a str,
    pub bye: bool,
}

/// The sender part of an SR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    pub ntp: NtpTime,
    /// The same moment on the stream's clock.
    pub rtp_timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

/// A report block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub reception: Reception,
    /// Middle 32 bits of the last SR from that source, 0 if there was none.
    pub last_sr: u32,
    /// Time since it, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl Compound<'_> {
    /// Writes the compound, returns its length; `None` if `out` is shorter than [`MAX_WRITTEN`].
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        if out.len() < MAX_WRITTEN {
            return None;
        }
        let mut writer = Writer { out, at: 0 };
        writer.sender_or_receiver_report(self);
        writer.cname(self.ssrc, self.cname);
        if let Some(metrics) = &self.voip {
            writer.header(XR, 0, 1 + (xr::BLOCK_LEN / 4) as u16);
            writer.word(self.ssrc);
            writer.bytes(&metrics.to_bytes());
        }
        if self.bye {
            writer.header(BYE, 1, 1);
            writer.word(self.ssrc);
        }
        Some(writer.at)
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    /// `words` counts what follows the header (RFC 3550 §6.4.1, length).
    fn header(&mut self, packet_type: u8, count: u8, words: u16) {
        let [high, low] = words.to_be_bytes();
        self.bytes(&[0x80 | count, packet_type, high, low]);
    }

    fn sender_or_receiver_report(&mut self, compound: &Compound<'_>) {
        let reports = u16::from(compound.report.is_some());
        let report_words = reports * (REPORT_LEN / 4) as u16;
        match compound.sender {
            Some(info) => {
                self.header(SR, reports as u8, 6 + report_words);
                self.word(compound.ssrc);
                self.word((info.ntp.0 >> 32) as u32);
                self.word(info.ntp.0 as u32);
                self.word(info.rtp_timestamp);
                self.word(info.packets);
                self.word(info.octets);
            }
            None => {
                self.header(RR, reports as u8, 1 + report_words);
                self.word(compound.ssrc);
            }
        }
        if let Some(Report { reception, last_sr, delay_since_last_sr }) = compound.report {
            self.word(reception.ssrc);
            let lost = reception.cumulative_lost as u32 & 0x00ff_ffff;
            self.word(u32::from(reception.fraction_lost) << 24 | lost);
            self.word(reception.highest_sequence);
            self.word(reception.jitter);
            self.word(last_sr);
            self.word(delay_since_last_sr);
        }
    }

    fn cname(&mut self, ssrc: u32, cname: &str) {
        let name = &cname.as_bytes()[..cname.len().min(16)];
        // Type, length, text, and at least one zero octet that ends the list (RFC 3550 §6.5).
        let item_words = (2 + name.len() + 1).div_ceil(4);
        self.header(SDES, 1, 1 + item_words as u16);
        self.word(ssrc);
        let end = self.at + 4 * item_words;
        self.bytes(&[CNAME, name.len() as u8]);
        self.bytes(name);
        self.out[self.at..end].fill(0);
        self.at = end;
    }
}

/// What a peer's compound says that we use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Received {
    /// The source that sent it.
    pub ssrc: u32,
    /// Middle 32 bits of the time in its SR.
    pub sender_time: Option<u32>,
    /// Its report block about our stream.
    pub about_us: Option<Report>,
    /// The first other block that answers a sender report of somebody.
    pub about_another: Option<Report>,
    /// How many report blocks it has, whomever they are about; `None` if it is no report.
    pub blocks: Option<u8>,
    /// What its extended report says of our stream.
    pub voip: Option<VoipMetrics>,
    pub bye: bool,
    /// The source that says goodbye.
    pub leaves: Option<u32>,
}

/// These bytes are not an RTCP compound (RFC 3550 §6.1, appendix A.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RTCP compound")]
pub struct NotRtcp;

/// Reads a compound; `our_ssrc` picks the report block that is about us. A reduced-size packet (RFC 5506) is taken too.
pub fn parse(bytes: &[u8], our_ssrc: u32) -> Result<Received, NotRtcp> {
    let mut received = Received::default();
    let mut rest = bytes;
    for position in 0..MAX_PACKETS {
        if rest.is_empty() {
            return if position == 0 { Err(NotRtcp) } else { Ok(received) };
        }
        let [first, packet_type, high, low, ..] = *rest else { return Err(NotRtcp) };
        let len = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        if first >> 6 != 2 || len > rest.len() {
            return Err(NotRtcp);
        }
        let (packet, following) = rest.split_at(len);
        rest = following;
        let count = usize::from(first & 0x1f);
        match packet_type {
            SR => {
                let body = packet.get(8..28).ok_or(NotRtcp)?;
                received.ssrc = word(packet, 4).ok_or(NotRtcp)?;
                received.sender_time = Some(u32::from_be_bytes([body[2], body[3], body[4], body[5]]));
                received.take_reports(&packet[28..], count, our_ssrc)?;
            }
            RR => {
                received.ssrc = word(packet, 4).ok_or(NotRtcp)?;
                received.take_reports(&packet[8..], count, our_ssrc)?;
            }
            BYE => {
                received.bye = true;
                // Behind the one that leaves come those it mixed; a goodbye may also name nobody (RFC 3550 §6.6).
                received.leaves = word(packet, 4).filter(|_| count > 0);
            }
            XR => received.take_extended(packet.get(8..).ok_or(NotRtcp)?, our_ssrc)?,
            // SDES, APP and feedback carry nothing used here.
            _ => {}
        }
    }
    if rest.is_empty() { Ok(received) } else { Err(NotRtcp) }
}

impl Received {
    fn take_reports(&mut self, blocks: &[u8], count: usize, our_ssrc: u32) -> Result<(), NotRtcp> {
        if blocks.len() < count * REPORT_LEN {
            return Err(NotRtcp);
        }
        self.blocks = Some(self.blocks.unwrap_or(0).saturating_add(count as u8));
        for block in blocks.chunks_exact(REPORT_LEN).take(count) {
            let report = read_report(block);
            if report.reception.ssrc == our_ssrc {
                self.about_us = Some(report);
            } else if report.last_sr != 0 {
                self.about_another.get_or_insert(report);
            }
        }
        Ok(())
    }

    /// The blocks of an extended report (RFC 3611 §3); unknown ones are passed over.
    fn take_extended(&mut self, blocks: &[u8], our_ssrc: u32) -> Result<(), NotRtcp> {
        let mut rest = blocks;
        while let [_, _, high, low, ..] = *rest {
            let len = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
            let (block, following) = rest.split_at_checked(len).ok_or(NotRtcp)?;
            if let Some(metrics) = VoipMetrics::parse(block).filter(|metrics| metrics.ssrc == our_ssrc) {
                self.voip = Some(metrics);
            }
            rest = following;
        }
        Ok(())
    }
}

fn read_report(block: &[u8]) -> Report {
    let at = |offset| word(block, offset).unwrap_or(0);
    Report {
        reception: Reception {
            ssrc: at(0),
            fraction_lost: block[4],
            // 24 bits with a sign.
            cumulative_lost: (at(4) << 8) as i32 >> 8,
            highest_sequence: at(8),
            jitter: at(12),
        },
        last_sr: at(16),
        delay_since_last_sr: at(20),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// Round trip from a report block that arrived at `now` (RFC 3550 §6.4.1): A − LSR − DLSR. `None` if the peer has not
/// seen an SR of ours, does not say for how long it kept it, or its delays do not add up.
pub fn round_trip(report: &Report, now: NtpTime) -> Option<Duration> {
    if report.last_sr == 0 || report.delay_since_last_sr == 0 {
        return None;
    }
    let units = now.middle().wrapping_sub(report.last_sr).wrapping_sub(report.delay_since_last_sr);
    // Clocks read in milliseconds may make a short way slightly negative; beyond that, and beyond a minute, it is
    // a peer that miscounts.
    match units as i32 {
        -655..=-1 => Some(Duration::ZERO),
        0..=3_932_160 => Some(Duration::from_micros(u64::from(units) * 1_000_000 / 65_536)),
        _ => None,
    }
}

/// `duration` in 1/65536 s.
pub fn in_units(duration: Duration) -> u32 {
    ((duration.as_micros() as u64) * 65_536 / 1_000_000).min(u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reception() -> Reception {
        Reception { ssrc: 42, fraction_lost: 25, cumulative_lost: -3, highest_sequence: 70_000, jitter: 12 }
    }

    fn compound() -> Compound<'static> {
        Compound {
            ssrc: 7,
            sender: Some(SenderInfo {
                ntp: NtpTime::from_unix_millis(1_500),
                rtp_timestamp: 99,
                packets: 3,
                octets: 480,
            }),
            report: Some(Report { reception: reception(), last_sr: 0x1234, delay_since_last_sr: 65_536 }),
            voip: None,
            cname: "tandem",
            bye: false,
        }
    }

    #[test]
    fn a_sender_report_reads_back() {
        let mut bytes = [0xaa; MAX_WRITTEN];
        let len = compound().write(&mut bytes).unwrap();
        assert_eq!(len % 4, 0);
        let received = parse(&bytes[..len], 42).unwrap();
        assert_eq!(received.ssrc, 7);
        assert_eq!(received.sender_time, Some(NtpTime::from_unix_millis(1_500).middle()));
        assert_eq!(received.about_us, compound().report);
        assert!(!received.bye);
        let of_another = parse(&bytes[..len], 43).unwrap();
        assert_eq!((of_another.about_us, of_another.blocks), (None, Some(1)), "a report about someone else");
    }

    #[test]
    fn a_receiver_report_with_bye_reads_back() {
        let mut bytes = [0; MAX_WRITTEN];
        let last = Compound { sender: None, report: None, bye: true, ..compound() };
        let len = last.write(&mut bytes).unwrap();
        assert_eq!(&bytes[..8], &[0x80, RR, 0, 1, 0, 0, 0, 7]);
        let received = parse(&bytes[..len], 42).unwrap();
        assert_eq!((received.bye, received.sender_time, received.blocks), (true, None, Some(0)));
    }

    #[test]
    fn a_goodbye_names_who_leaves_first_or_nobody() {
        let leaves = |bytes: &[u8]| parse(bytes, 42).unwrap().leaves;
        assert_eq!(leaves(&[0x80, RR, 0, 1, 0, 0, 0, 7, 0x82, BYE, 0, 2, 0, 0, 0, 7, 0, 0, 0, 9]), Some(7));
        assert_eq!(leaves(&[0x81, BYE, 0, 1, 0, 0, 0, 9]), Some(9));
        assert_eq!(leaves(&[0x80, BYE, 0, 0]), None);
        assert_eq!(leaves(&[0x81, BYE, 0, 0]), None, "cut off");
        assert_eq!(leaves(&[0x80, RR, 0, 1, 0, 0, 0, 7]), None);
    }

    #[test]
    fn the_largest_compound_fits_and_a_long_name_is_cut() {
        let mut bytes = [0; MAX_WRITTEN];
        let voip = Some(VoipMetrics { ssrc: 42, ..VoipMetrics::default() });
        let cname = "a name of more than sixteen characters";
        let largest = Compound { cname, voip, bye: true, ..compound() };
        let len = largest.write(&mut bytes).unwrap();
        assert_eq!(parse(&bytes[..len], 42).unwrap().voip, voip);
        assert_eq!(parse(&bytes[..len], 43).unwrap().voip, None, "metrics of someone else's stream");
        assert_eq!(largest.write(&mut [0; 20]), None);
    }

    #[test]
    fn ntp_time_counts_from_1900() {
        let time = NtpTime::from_unix_millis(500);
        assert_eq!(time.0 >> 32, 2_208_988_800);
        assert_eq!(time.0 as u32, 1 << 31);
        let later = NtpTime::from_unix_millis(100_750).0;
        assert!(time.after(Duration::from_millis(100_250)).0.abs_diff(later) <= 1);
    }

    #[test]
    fn round_trip_is_what_the_peer_did_not_wait() {
        let sent = NtpTime::from_unix_millis(1_000_000);
        let report =
            Report { reception: reception(), last_sr: sent.middle(), delay_since_last_sr: 2 * 65_536 };
        let trip = round_trip(&report, NtpTime::from_unix_millis(1_002_040)).unwrap();
        assert!((39..=41).contains(&trip.as_millis()), "{trip:?}");
        assert_eq!(round_trip(&report, NtpTime::from_unix_millis(1_001_998)), Some(Duration::ZERO));
        assert_eq!(
            round_trip(&report, NtpTime::from_unix_millis(1_001_000)),
            None,
            "it waited longer than it took"
        );
        assert_eq!(round_trip(&Report { last_sr: 0, ..report }, sent), None);
        let untold = Report { delay_since_last_sr: 0, ..report };
        let after = NtpTime::from_unix_millis(1_002_040);
        assert_eq!(round_trip(&untold, after), None, "the time since our last report is no round trip");
    }

    #[test]
    fn bombs_and_wrong_lengths_are_refused() {
        let empty_rr = [0x80, RR, 0, 1, 0, 0, 0, 7];
        assert!(parse(&empty_rr.repeat(MAX_PACKETS), 1).is_ok());
        assert_eq!(parse(&empty_rr.repeat(MAX_PACKETS + 1), 1), Err(NotRtcp), "too many packets");
        assert_eq!(parse(&[], 1), Err(NotRtcp));
        assert_eq!(parse(&[0x9f, RR, 0, 1, 0, 0, 0, 7], 1), Err(NotRtcp), "31 reports that are not there");
        assert_eq!(parse(&[0x80, SR, 0, 1, 0, 0, 0, 7], 1), Err(NotRtcp), "an SR without its body");
        assert_eq!(parse(&[0x80, RR, 0, 9, 0, 0, 0, 7], 1), Err(NotRtcp), "longer than it is");
        assert_eq!(parse(&[0x40, RR, 0, 1, 0, 0, 0, 7], 1), Err(NotRtcp), "version 1");
        assert_eq!(parse(&[0x80, RR, 0, 0], 1), Err(NotRtcp), "an RR without a source");
        let xr = |block: [u8; 4]| [&[0x80, XR, 0, 2, 0, 0, 0, 7], &block[..]].concat();
        assert!(parse(&xr([7, 0, 0, 0]), 1).is_ok(), "VoIP metrics without metrics");
        assert!(parse(&xr([99, 0, 0, 0]), 1).is_ok(), "a block nobody knows");
        assert_eq!(parse(&xr([7, 0, 0, 8]), 1), Err(NotRtcp), "a block longer than its packet");
        assert_eq!(parse(&[0x80, XR, 0, 0], 1), Err(NotRtcp), "an XR without a source");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, 1);
        }
    }
}
