//! The VoIP metrics of an extended report (RFC 3611 §4.7).

/// Block type of VoIP metrics.
const VOIP_METRICS: u8 = 7;
/// Length of the block with its head.
pub(super) const BLOCK_LEN: usize = 36;
/// What stands where something was not measured (RFC 3611 §4.7.5).
const UNKNOWN: u8 = 127;
/// No peer is further away; a longer time is a peer that miscounts.
const LONGEST_MS: u16 = 60_000;

/// How a receiver hears a stream. What it did not measure is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct VoipMetrics {
    /// Source of the stream this is about.
    pub ssrc: u32,
    /// Shares of packets since the stream began, 0 to 1: lost after repair, and thrown away by the jitter buffer.
    pub loss: f32,
    pub discard: f32,
    /// Shares missed within bursts and gaps, and the mean lengths of those in milliseconds.
    pub burst_density: f32,
    pub gap_density: f32,
    pub burst_ms: u16,
    pub gap_ms: u16,
    pub round_trip_ms: Option<u16>,
    /// What the reporting end itself adds on the way of the voice, both directions together.
    pub end_system_ms: Option<u16>,
    pub gmin: u8,
    /// 0 to 100.
    pub r_factor: Option<u8>,
    /// 1.0 to 5.0 in steps of a tenth.
    pub mos_lq: Option<f32>,
    pub mos_cq: Option<f32>,
    /// The receiver conceals what it misses, and better than by repeating or silence.
    pub conceals: bool,
    /// Delay of the jitter buffer.
    pub buffer_ms: u16,
}

impl VoipMetrics {
    pub(super) fn to_bytes(self) -> [u8; BLOCK_LEN] {
        let mut block = [0; BLOCK_LEN];
        block[0] = VOIP_METRICS;
        block[3] = (BLOCK_LEN / 4 - 1) as u8;
        block[4..8].copy_from_slice(&self.ssrc.to_be_bytes());
        let shares = [self.loss, self.discard, self.burst_density, self.gap_density];
        for (byte, share) in block[8..12].iter_mut().zip(shares) {
            *byte = (share * 256.0).clamp(0.0, 255.0) as u8;
        }
        let times =
            [self.burst_ms, self.gap_ms, self.round_trip_ms.unwrap_or(0), self.end_system_ms.unwrap_or(0)];
        for (bytes, time) in block[12..20].chunks_exact_mut(2).zip(times) {
            bytes.copy_from_slice(&time.to_be_bytes());
        }
        let mos = |mos: Option<f32>| mos.map_or(UNKNOWN, |mos| (mos * 10.0).round().clamp(10.0, 50.0) as u8);
        // Signal, noise and echo are nothing a gateway measures; an external R belongs to another network.
        block[20..28].copy_from_slice(&[
            UNKNOWN,
            UNKNOWN,
            UNKNOWN,
            self.gmin,
            self.r_factor.unwrap_or(UNKNOWN),
            UNKNOWN,
            mos(self.mos_lq),
            mos(self.mos_cq),
        ]);
        // RX config: the two highest bits are the concealment, 10 for enhanced, 00 for unspecified (§4.7.6).
        block[28] = if self.conceals { 0b1000_0000 } else { 0 };
        for bytes in block[30..36].chunks_exact_mut(2) {
            bytes.copy_from_slice(&self.buffer_ms.to_be_bytes());
        }
        block
    }

    /// Reads a block; `None` if it is another one or too short.
    pub(super) fn parse(block: &[u8]) -> Option<VoipMetrics> {
        let block: &[u8; BLOCK_LEN] = block.get(..BLOCK_LEN)?.try_into().ok()?;
        if block[0] != VOIP_METRICS {
            return None;
        }
        let share = |at: usize| f32::from(block[at]) / 256.0;
        let time = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
        let known = |at: usize| Some(time(at)).filter(|ms| (1..=LONGEST_MS).contains(ms));
        let mos = |at: usize| {
            Some(block[at]).filter(|mos| (10..=50).contains(mos)).map(|mos| f32::from(mos) / 10.0)
        };
        Some(VoipMetrics {
            ssrc: u32::from_be_bytes([block[4], block[5], block[6], block[7]]),
            loss: share(8),
            discard: share(9),
            burst_density: share(10),
            gap_density: share(11),
            burst_ms: time(12),
            gap_ms: time(14),
            round_trip_ms: known(16),
            end_system_ms: known(18),
            gmin: block[23],
            r_factor: Some(block[24]).filter(|r| *r <= 100),
            mos_lq: mos(26),
            mos_cq: mos(27),
            conceals: block[28] >> 6 == 0b10,
            buffer_ms: time(30),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> VoipMetrics {
        VoipMetrics {
            ssrc: 0xdead_beef,
            loss: 0.0625,
            discard: 0.03125,
            burst_density: 0.5,
            gap_density: 0.0078125,
            burst_ms: 120,
            gap_ms: 9_000,
            round_trip_ms: Some(84),
            end_system_ms: Some(26),
            gmin: 16,
            r_factor: Some(81),
            mos_lq: Some(4.1),
            mos_cq: Some(4.0),
            conceals: true,
            buffer_ms: 40,
        }
    }

    #[test]
    fn metrics_read_back_as_they_were_written() {
        assert_eq!(VoipMetrics::parse(&metrics().to_bytes()), Some(metrics()));
        assert_eq!(VoipMetrics::parse(&VoipMetrics::default().to_bytes()), Some(VoipMetrics::default()));
    }

    /// The fields at their places, as RFC 3611 §4.7 draws them.
    #[test]
    fn each_field_is_where_the_rfc_draws_it() {
        let block = metrics().to_bytes();
        assert_eq!(block[..8], [7, 0, 0, 8, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(block[8..12], [16, 8, 128, 2], "loss, discard, burst and gap density");
        assert_eq!(block[12..20], [0, 120, 0x23, 0x28, 0, 84, 0, 26], "durations and delays");
        assert_eq!(block[20..24], [127, 127, 127, 16], "signal, noise, echo, Gmin");
        assert_eq!(block[24..28], [81, 127, 41, 40], "R, external R, MOS-LQ, MOS-CQ");
        assert_eq!(block[28..36], [0x80, 0, 0, 40, 0, 40, 0, 40], "RX config and jitter buffer");
    }

    #[test]
    fn what_was_not_measured_stays_unknown() {
        let block = VoipMetrics { r_factor: None, mos_lq: None, mos_cq: None, ..metrics() }.to_bytes();
        assert_eq!(block[24..28], [127, 127, 127, 127]);
        let read = VoipMetrics::parse(&block).unwrap();
        assert_eq!((read.r_factor, read.mos_lq, read.mos_cq), (None, None, None));
    }

    #[test]
    fn values_off_their_scale_are_unknown_and_other_blocks_are_not_these() {
        let mut block = metrics().to_bytes();
        (block[24], block[26], block[27]) = (101, 9, 51);
        (block[16], block[17]) = (0xff, 0xff);
        let read = VoipMetrics::parse(&block).unwrap();
        assert_eq!((read.r_factor, read.mos_lq, read.mos_cq, read.round_trip_ms), (None, None, None, None));
        assert_eq!(VoipMetrics::parse(&block[..35]), None);
        block[0] = 6;
        assert_eq!(VoipMetrics::parse(&block), None);
    }

    #[test]
    fn shares_beyond_one_are_written_as_the_most_there_is() {
        let block = VoipMetrics { loss: 1.0, discard: 7.0, ..metrics() }.to_bytes();
        assert_eq!(block[8..10], [255, 255]);
    }
}
