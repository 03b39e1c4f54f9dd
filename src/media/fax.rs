//! Hears that a fax or a modem speaks: its calling tone, its answering tone, or the first bits it sends (V.21).

use super::codec::g711::{Law, SAMPLE_RATE};

/// Samples judged at once, 5 ms: not much longer than a bit of V.21, and a tone that is 38 Hz beside its place
/// (T.30 §4.1) is still found.
const BLOCK: usize = 40;
/// CNG (T.30 §4.1); ANS, CED and ANSam, whose phase may turn every 450 ms (V.25, V.8); V.21 channel 2, one and zero.
const HERTZ: [f32; 4] = [1_100.0, 2_100.0, 1_650.0, 1_850.0];
/// Mean square of the weakest signal, −43 dBm0.
const WEAKEST: f32 = 13_000.0;
/// Share of all power that lies in the tone; a voice has more than one tone for so long.
const CALLING: f32 = 0.65;
const ANSWERING: f32 = 0.7;
const BITS: f32 = 0.5;
/// Blocks looked back on, 400 ms: CNG sounds for half a second, the others longer.
const WINDOW: u128 = (1 << 80) - 1;
/// So many of them hold a tone; a phase that turns spoils one. Bits change within a block, so that fewer are pure.
const MOST: u32 = 75;
const MANY: u32 = 52;
/// Bits are of both kinds.
const EACH: u32 = 5;

/// Listens to one voice in G.711.
#[derive(Debug, Clone)]
pub struct Ear {
    law: Law,
    /// Per frequency: 2·cos(ω) and the last two values of the recursion (Goertzel).
    coefficients: [f32; 4],
    last: [f32; 4],
    before: [f32; 4],
    energy: f32,
    filled: usize,
    /// Which of the last blocks were of that kind, the newest in the lowest bit.
    calling: u128,
    answering: u128,
    bits: u128,
    zeros: u128,
}

impl Ear {
    pub fn new(law: Law) -> Ear {
        let coefficient = |hertz: f32| 2.0 * (std::f32::consts::TAU * hertz / SAMPLE_RATE as f32).cos();
        Ear {
            law,
            coefficients: HERTZ.map(coefficient),
            last: [0.0; 4],
            before: [0.0; 4],
            energy: 0.0,
            filled: 0,
            calling: 0,
            answering: 0,
            bits: 0,
            zeros: 0,
        }
    }

    /// Hears what comes next; true where a machine speaks.
    pub fn hear(&mut self, codes: &[u8]) -> bool {
        let mut found = false;
        for code in codes {
            let sample = f32::from(self.law.expand(*code));
            self.energy += sample * sample;
            for tone in 0..HERTZ.len() {
                let next = sample + self.coefficients[tone] * self.last[tone] - self.before[tone];
                self.before[tone] = self.last[tone];
                self.last[tone] = next;
            }
            self.filled += 1;
            if self.filled == BLOCK {
                found |= self.judge();
            }
        }
        found
    }

    fn judge(&mut self) -> bool {
        let mut share = [0.0; 4];
        // A sine of this power over a whole block has half the block as its ratio to the energy.
        let all = self.energy * (BLOCK as f32 / 2.0);
        if self.energy >= WEAKEST * BLOCK as f32 {
            for (tone, share) in share.iter_mut().enumerate() {
                let (last, before) = (self.last[tone], self.before[tone]);
                *share = (last * last + before * before - self.coefficients[tone] * last * before) / all;
            }
        }
        (self.last, self.before, self.energy, self.filled) = ([0.0; 4], [0.0; 4], 0.0, 0);
        let [calling, answering, one, zero] = share;
        let bit = one + zero >= BITS;
        self.calling = next(self.calling, calling >= CALLING);
        self.answering = next(self.answering, answering >= ANSWERING);
        self.bits = next(self.bits, bit);
        self.zeros = next(self.zeros, bit && zero > one);
        let (bits, zeros) = (self.bits.count_ones(), self.zeros.count_ones());
        let speaks = bits >= MANY && zeros >= EACH && bits - zeros >= EACH;
        speaks || self.calling.count_ones() >= MOST || self.answering.count_ones() >= MOST
    }
}

fn next(history: u128, hit: bool) -> u128 {
    (history << 1 | u128::from(hit)) & WINDOW
}

/// Signals of fax machines, for tests.
#[cfg(test)]
pub mod signals {
    /// A tone of this frequency in 8 kHz samples; its phase turns every `turns` samples where that is not 0.
    pub fn tone(hertz: f32, peak: f32, samples: usize, turns: usize) -> Vec<i16> {
        let turned = |n: usize| if turns > 0 && (n / turns) % 2 == 1 { std::f32::consts::PI } else { 0.0 };
        let wave = |n: usize| (n as f32 * hertz / 8_000.0 * std::f32::consts::TAU + turned(n)).sin() * peak;
        (0..samples).map(|n| wave(n) as i16).collect()
    }

    /// The bits of `octets`, the lowest first, at 300 bit/s on V.21 channel 2.
    pub fn v21(octets: &[u8], peak: f32) -> Vec<i16> {
        let bits: Vec<bool> =
            octets.iter().flat_map(|octet| (0..8).map(move |bit| octet >> bit & 1 == 1)).collect();
        let mut phase = 0.0f32;
        let samples = bits.len() * 80 / 3;
        let sample = |n: usize| {
            let hertz = if bits[n * 3 / 80] { 1_650.0 } else { 1_850.0 };
            phase = (phase + hertz / 8_000.0 * std::f32::consts::TAU) % std::f32::consts::TAU;
            (phase.sin() * peak) as i16
        };
        (0..samples).map(sample).collect()
    }

    /// What a fast modem (V.17) sounds like: a carrier of 1,800 Hz, 2,400 symbols a second, sixteen points by chance.
    pub fn v17(samples: usize, peak: f32) -> Vec<i16> {
        let chance = |symbol: usize| {
            (symbol as u32).wrapping_mul(0x9e37_79b9).rotate_left(11).wrapping_mul(0x85eb_ca6b)
        };
        let level = |bits: u32| (bits & 3) as f32 * 2.0 / 3.0 - 1.0;
        let wave = |n: usize| {
            let point = chance(n * 3 / 10);
            let angle = n as f32 * 1_800.0 / 8_000.0 * std::f32::consts::TAU;
            (level(point >> 4) * angle.cos() - level(point >> 9) * angle.sin()) * peak / 1.5
        };
        (0..samples).map(|n| wave(n) as i16).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::speech::{recorded, speech};
    use signals::{tone, v21};

    /// After how many milliseconds a machine is heard; `None` if it is not.
    fn heard(pcm: &[i16]) -> Option<usize> {
        let both = [Law::A, Law::Mu].map(|law| {
            let mut ear = Ear::new(law);
            let codes: Vec<u8> = pcm.iter().map(|sample| law.compress(*sample)).collect();
            codes.chunks(160).position(|frame| ear.hear(frame)).map(|frame| (frame + 1) * 20)
        });
        assert_eq!(both[0].is_some(), both[1].is_some(), "{both:?}");
        both[0]
    }

    fn after(silence: usize, mut pcm: Vec<i16>) -> Vec<i16> {
        let mut all = vec![0; silence];
        all.append(&mut pcm);
        all
    }

    #[test]
    fn the_tones_of_both_machines_are_heard_within_half_a_second_at_every_level() {
        for peak in [230.0, 2_000.0, 20_000.0] {
            for hertz in [1_062.0, 1_100.0, 1_138.0] {
                let cng = after(800 + 13, tone(hertz, peak, 4_000, 0));
                assert!(
                    heard(&cng).is_some_and(|ms| ms <= 620),
                    "CNG at {hertz} Hz, {peak}: {:?}",
                    heard(&cng)
                );
            }
            for (hertz, turns) in [(2_085.0, 0), (2_100.0, 0), (2_115.0, 0), (2_100.0, 3_600)] {
                let ced = after(37, tone(hertz, peak, 24_000, turns));
                assert!(heard(&ced).is_some_and(|ms| ms <= 500), "{hertz} Hz, {peak}: {:?}", heard(&ced));
            }
        }
        // ANSam: 2,100 Hz whose strength swings by a fifth, 15 times a second (V.8 §3.1).
        let swing = |n: usize| 1.0 + 0.2 * (n as f32 * 15.0 / 8_000.0 * std::f32::consts::TAU).sin();
        let ansam = tone(2_100.0, 4_000.0, 16_000, 3_600);
        let ansam: Vec<i16> =
            ansam.iter().enumerate().map(|(n, s)| (f32::from(*s) * swing(n)) as i16).collect();
        assert!(heard(&ansam).is_some());
    }

    #[test]
    fn the_flags_before_a_frame_are_heard_and_so_is_a_frame() {
        assert!(heard(&v21(&[0x7e; 40], 3_000.0)).is_some_and(|ms| ms <= 600));
        let frame: Vec<u8> = [0xff, 0xc0, 0x04, 0x20, 0x5c, 0xa1, 0x13, 0x77].repeat(8);
        assert!(heard(&v21(&frame, 3_000.0)).is_some());
    }

    #[test]
    fn a_voice_a_key_call_progress_and_short_tones_are_no_machine() {
        let [caller, callee] = recorded();
        for (name, pcm) in [("caller", caller), ("callee", callee), ("synthetic", speech(0, 240_000))] {
            for offset in 0..8 {
                assert_eq!(heard(&pcm[offset * 11..]), None, "{name}");
            }
        }
        for hertz in [425.0, 941.0, 1_000.0, 1_209.0, 1_336.0, 1_477.0, 1_633.0, 1_980.0] {
            assert_eq!(heard(&tone(hertz, 5_000.0, 16_000, 0)), None, "{hertz} Hz");
        }
        for hertz in [1_100.0, 2_100.0] {
            assert_eq!(heard(&after(0, [tone(hertz, 5_000.0, 2_400, 0), vec![0; 8_000]].concat())), None);
            assert_eq!(heard(&tone(hertz, 60.0, 16_000, 0)), None, "too weak");
        }
        assert_eq!(heard(&tone(1_650.0, 5_000.0, 16_000, 0)), None, "ones alone are no bits");
        assert_eq!(heard(&vec![0; 16_000]), None);
    }
}
