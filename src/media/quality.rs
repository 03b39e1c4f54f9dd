//! What a stream sounds like, by the E-model (ITU-T G.107), narrowband.

use crate::types::AudioCodec;

/// Equipment impairment at zero loss and robustness against loss of one codec (ITU-T G.113).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impairment {
    /// Ie: what the codec itself takes away.
    pub ie: f32,
    /// Bpl: the higher, the less a lost packet is heard.
    pub bpl: f32,
}

impl Impairment {
    /// G.711 whose losses are heard as holes (G.113 Appendix I).
    pub const G711: Impairment = Impairment { ie: 0.0, bpl: 4.3 };
    /// G.711 whose losses are concealed (G.113 Appendix I).
    pub const G711_CONCEALED: Impairment = Impairment { ie: 0.0, bpl: 25.1 };
    /// Opus narrowband at 11 kb/s under random loss (Alahmadi, Pocta, Melvin 2021). The ITU has no row for Opus; for
    /// the higher rates used here this is conservative.
    pub const OPUS: Impairment = Impairment { ie: 2.0, bpl: 16.0 };

    /// The row for a codec as its receiver hears it.
    pub fn of(codec: AudioCodec, concealed: bool) -> Impairment {
        match (codec, concealed) {
            (AudioCodec::Opus, _) => Impairment::OPUS,
            (AudioCodec::Pcma | AudioCodec::Pcmu, true) => Impairment::G711_CONCEALED,
            (AudioCodec::Pcma | AudioCodec::Pcmu, false) => Impairment::G711,
        }
    }

    /// The same for whoever hears it coded once more on the way: the Ie of codecs in a row add up (G.113), and packets
    /// are lost before the first of them alone.
    pub fn coded_again(self, codec: AudioCodec) -> Impairment {
        Impairment { ie: self.ie + Impairment::of(codec, true).ie, ..self }
    }
}

/// What was measured of a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    /// Share of packets lost after recovery, 0 to 1.
    pub loss: f32,
    /// Mean run of losses over what random loss gives, at least 1.
    pub burst_ratio: f32,
}

/// R as a receiver reports it (RFC 3611 §4.7.5), 0 to 100, the delay counted.
pub fn r_factor(impairment: Impairment, heard: Heard, one_way_ms: f32) -> f32 {
    (listening_r(impairment, heard) - delay_impairment(one_way_ms)).clamp(0.0, 100.0)
}

/// R without delay: 93.2 − Ie,eff (G.107 §7.5 with default parameters).
pub fn listening_r(impairment: Impairment, heard: Heard) -> f32 {
    let percent = heard.loss * 100.0;
    let Impairment { ie, bpl } = impairment;
    let effective = ie + (95.0 - ie) * percent / (percent / heard.burst_ratio.max(1.0) + bpl);
    93.2 - effective
}

/// Id: what one-way delay takes away, in milliseconds mouth to ear.
pub fn delay_impairment(one_way_ms: f32) -> f32 {
    0.024 * one_way_ms + 0.11 * (one_way_ms - 177.3).max(0.0)
}

/// R to MOS (G.107 Annex B).
pub fn mos(r: f32) -> f32 {
    if r < 0.0 {
        1.0
    } else if r > 100.0 {
        4.5
    } else {
        // Below R = 6.5 the cubic dips under the scale's end.
        (1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r)).max(1.0)
    }
}

/// Listening quality: as if the voice took no time.
pub fn mos_lq(impairment: Impairment, heard: Heard) -> f32 {
    mos(listening_r(impairment, heard))
}

/// Conversational quality at a one-way delay in milliseconds.
pub fn mos_cq(impairment: Impairment, heard: Heard, one_way_ms: f32) -> f32 {
    mos(listening_r(impairment, heard) - delay_impairment(one_way_ms))
}

/// Mouth-to-ear delay that belongs to one leg: half its round trip, its jitter buffer, packetisation and codec.
/// `None` while the round trip or the jitter was not measured: neither is ever guessed.
pub fn one_way_ms(
    rtt_ms: Option<f32>,
    jitter_ms: Option<f32>,
    packet_ms: f32,
    codec: AudioCodec,
) -> Option<f32> {
    // A receiver that adapts needs about twice the mean jitter as its buffer.
    let buffer_ms = 2.0 * jitter_ms?;
    rtt_ms.map(|rtt| rtt / 2.0 + buffer_ms + packet_ms + codec_delay_ms(codec))
}

/// What a codec needs beside the length of its packets: the look-ahead of the encoder (RFC 6716 §2).
pub fn codec_delay_ms(codec: AudioCodec) -> f32 {
    match codec {
        AudioCodec::Opus => 6.5,
        AudioCodec::Pcma | AudioCodec::Pcmu => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_without_delay_gives_the_reference_values() {
        let table = [
            (0.0, [4.41, 4.41, 4.37]),
            (1.0, [3.83, 4.33, 4.22]),
            (3.0, [2.79, 4.13, 3.88]),
            (5.0, [2.17, 3.92, 3.55]),
            (10.0, [1.48, 3.41, 2.86]),
        ];
        for (percent, expected) in table {
            let heard = Heard { loss: percent / 100.0, burst_ratio: 1.0 };
            let codecs = [Impairment::G711, Impairment::G711_CONCEALED, Impairment::OPUS];
            for (impairment, expected) in codecs.into_iter().zip(expected) {
                let got = mos_lq(impairment, heard);
                assert!((got - expected).abs() < 0.006, "{percent} % {impairment:?}: {got}, not {expected}");
            }
        }
    }

    #[test]
    fn delay_alone_gives_the_reference_values() {
        let perfect = Heard { loss: 0.0, burst_ratio: 1.0 };
        let table =
            [(100.0, 4.36), (150.0, 4.33), (200.0, 4.23), (250.0, 3.99), (300.0, 3.71), (400.0, 3.05)];
        for (delay, expected) in table {
            let got = mos_cq(Impairment::G711, perfect, delay);
            assert!((got - expected).abs() < 0.006, "{delay} ms: {got}, not {expected}");
        }
    }

    #[test]
    fn codecs_in_a_row_add_up() {
        let perfect = Heard { loss: 0.0, burst_ratio: 1.0 };
        let (pcma, opus) = (AudioCodec::Pcma, AudioCodec::Opus);
        let mos = |first, then| mos_lq(Impairment::of(first, true).coded_again(then), perfect);
        assert!((mos(pcma, opus) - 4.37).abs() < 0.006 && (mos(opus, pcma) - 4.37).abs() < 0.006);
        assert!((mos(pcma, AudioCodec::Pcmu) - 4.41).abs() < 0.006);
        let lossy = Impairment::G711_CONCEALED.coded_again(opus);
        assert_eq!((lossy.ie, lossy.bpl), (2.0, 25.1));
    }

    #[test]
    fn bursts_sound_worse_than_the_same_loss_scattered() {
        let scattered = Heard { loss: 0.05, burst_ratio: 1.0 };
        let bursts = Heard { loss: 0.05, burst_ratio: 2.0 };
        assert!(mos_lq(Impairment::OPUS, bursts) < mos_lq(Impairment::OPUS, scattered));
    }

    #[test]
    fn an_unknown_round_trip_or_jitter_is_an_unknown_delay() {
        assert_eq!(one_way_ms(None, Some(3.0), 20.0, AudioCodec::Opus), None);
        assert_eq!(one_way_ms(Some(40.0), None, 20.0, AudioCodec::Opus), None);
        assert_eq!(one_way_ms(Some(40.0), Some(3.0), 20.0, AudioCodec::Opus), Some(52.5));
    }

    #[test]
    fn the_r_factor_counts_the_delay() {
        let perfect = Heard { loss: 0.0, burst_ratio: 1.0 };
        assert_eq!(r_factor(Impairment::G711, perfect, 0.0), 93.2);
        assert!((r_factor(Impairment::G711, perfect, 200.0) - 85.9).abs() < 0.1);
        let nothing_left = Heard { loss: 1.0, burst_ratio: 8.0 };
        assert_eq!(r_factor(Impairment::G711, nothing_left, 400.0), 0.0);
    }

    #[test]
    fn r_outside_its_scale_is_clamped() {
        let nothing_left = Heard { loss: 1.0, burst_ratio: 8.0 };
        assert_eq!(mos_lq(Impairment::G711, nothing_left), 1.0);
        assert_eq!(mos(120.0), 4.5);
        assert!((0..=100).all(|r| (1.0..=4.5).contains(&mos(r as f32))));
    }
}
