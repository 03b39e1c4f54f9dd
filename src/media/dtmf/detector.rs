//! Finds key presses in a voice by the power at their eight frequencies (Goertzel; ITU-T Q.23, Q.24).

use crate::media::codec::g711::SAMPLE_RATE;
use crate::media::tone::{COLUMNS, KEYS, ROWS};

/// Samples judged at once, 12.75 ms: short enough for two whole blocks in the shortest press there is (40 ms), long
/// enough to tell neighbouring frequencies apart.
const BLOCK: usize = 102;
/// Mean square of the weakest press: −33 dBm0 for both tones together (Q.24 table A-1 has −29 and less).
const WEAKEST: f32 = 130_000.0;
/// Share of all power that lies in the two tones: a voice always has more than two.
const PURITY: f32 = 0.82;
/// The high tone may be so much stronger than the low one (8 dB), or so much weaker (4 dB).
const TWIST: f32 = 6.3;
const REVERSE_TWIST: f32 = 2.5;
/// A tone is so much stronger than any other of its group (8 dB).
const ALONE: f32 = 6.3;
/// So many blocks in a row begin a press and, without it, end one: shorter interruptions are the line's.
const CONFIRM: u8 = 2;

/// Listens to one voice.
#[derive(Debug, Clone)]
pub struct Detector {
    /// Per frequency, rows first: 2·cos(ω) and the last two values of the recursion.
    coefficients: [f32; 8],
    last: [f32; 8],
    before: [f32; 8],
    energy: f32,
    filled: usize,
    previous: Option<u8>,
    press: Option<Press>,
}

#[derive(Debug, Clone, Copy)]
struct Press {
    code: u8,
    blocks: u32,
    missed: u8,
}

/// A key that is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// As telephone events count them (RFC 4733 §3.2).
    pub code: u8,
    /// Samples it has sounded so far.
    pub duration: u32,
    /// It was let go.
    pub ended: bool,
}

impl Default for Detector {
    fn default() -> Detector {
        let mut hertz = [0.0; 8];
        hertz[..4].copy_from_slice(&ROWS);
        hertz[4..].copy_from_slice(&COLUMNS);
        Detector {
            coefficients: hertz.map(|hertz| 2.0 * (std::f32::consts::TAU * hertz / SAMPLE_RATE as f32).cos()),
            last: [0.0; 8],
            before: [0.0; 8],
            energy: 0.0,
            filled: 0,
            previous: None,
            press: None,
        }
    }
}

impl Detector {
    /// Hears what comes next; says which key is pressed at its end, or was let go in it.
    pub fn hear(&mut self, mut pcm: &[i16]) -> Option<Found> {
        let mut ended = None;
        while !pcm.is_empty() {
            let (now, later) = pcm.split_at(pcm.len().min(BLOCK - self.filled));
            self.sum(now);
            self.filled += now.len();
            pcm = later;
            if self.filled == BLOCK {
                let hit = self.judge();
                ended = self.follow(hit).or(ended);
            }
        }
        ended.or(self.press.map(|press| press.found(false)))
    }

    #[inline]
    fn sum(&mut self, pcm: &[i16]) {
        for sample in pcm {
            let sample = f32::from(*sample);
            self.energy += sample * sample;
            for tone in 0..8 {
                let next = sample + self.coefficients[tone] * self.last[tone] - self.before[tone];
                self.before[tone] = self.last[tone];
                self.last[tone] = next;
            }
        }
    }

    /// The key that the full block holds.
    fn judge(&mut self) -> Option<u8> {
        let mut power = [0.0; 8];
        for (tone, power) in power.iter_mut().enumerate() {
            let (last, before) = (self.last[tone], self.before[tone]);
            *power = last * last + before * before - self.coefficients[tone] * last * before;
        }
        let energy = std::mem::take(&mut self.energy);
        (self.last, self.before, self.filled) = ([0.0; 8], [0.0; 8], 0);
        if energy < WEAKEST * BLOCK as f32 {
            return None;
        }
        let (row, low) = strongest_alone(&power[..4])?;
        let (column, high) = strongest_alone(&power[4..])?;
        if high > low * TWIST || low > high * REVERSE_TWIST {
            return None;
        }
        // A sine of this power over a whole block has half the block as its ratio to the energy.
        if low + high < PURITY * energy * (BLOCK as f32 / 2.0) {
            return None;
        }
        KEYS.iter().position(|key| *key == (row, column)).map(|code| code as u8)
    }

    /// Follows the press through the blocks; returns it when it has ended.
    fn follow(&mut self, hit: Option<u8>) -> Option<Found> {
        let confirmed = hit.is_some() && hit == self.previous;
        self.previous = hit;
        let Some(press) = &mut self.press else {
            if confirmed {
                self.press = hit.map(|code| Press { code, blocks: CONFIRM.into(), missed: 0 });
            }
            return None;
        };
        if hit == Some(press.code) {
            press.blocks += 1 + u32::from(press.missed);
            press.missed = 0;
            return None;
        }
        press.missed += 1;
        if press.missed < CONFIRM {
            return None;
        }
        self.press.take().map(|press| press.found(true))
    }
}

impl Press {
    fn found(self, ended: bool) -> Found {
        Found { code: self.code, duration: self.blocks * BLOCK as u32, ended }
    }
}

/// The strongest of a group, if no other is near it.
fn strongest_alone(power: &[f32]) -> Option<(usize, f32)> {
    let (index, strongest) = power.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let alone = power.iter().enumerate().all(|(other, power)| other == index || power * ALONE < strongest);
    alone.then_some((index, strongest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::g711::Law;
    use crate::media::codec::speech::{recorded, speech};
    use crate::media::tone::KeyTone;

    /// What is found in `pcm`, cut into frames of `frame` samples: codes and durations of ended presses.
    fn presses(pcm: &[i16], frame: usize) -> Vec<(u8, u32)> {
        let mut detector = Detector::default();
        let found = pcm.chunks(frame).filter_map(|frame| detector.hear(frame)).filter(|found| found.ended);
        found.map(|found| (found.code, found.duration)).collect()
    }

    fn key(code: u8, ms: usize) -> Vec<i16> {
        let mut pcm = vec![0; ms * 8];
        KeyTone::new(code).unwrap().fill(&mut pcm);
        pcm
    }

    /// Two sines of these frequencies and peaks.
    fn pair(low: (f32, f32), high: (f32, f32), ms: usize) -> Vec<i16> {
        let sine = |(hertz, peak): (f32, f32), n: usize| {
            (n as f32 * hertz / 8000.0 * std::f32::consts::TAU).sin() * peak
        };
        let mut pcm: Vec<i16> = (0..ms * 8).map(|n| (sine(low, n) + sine(high, n)) as i16).collect();
        pcm.extend([0; 800]);
        pcm
    }

    #[test]
    fn every_key_is_found_once_with_its_length() {
        for frame in [80, 160, 240, 480] {
            for code in 0..16u8 {
                let mut pcm = speech(0, 1_234);
                pcm.extend(key(code, 120));
                pcm.extend([0; 960]);
                let found = presses(&pcm, frame);
                assert_eq!(found.len(), 1, "key {code} in frames of {frame}: {found:?}");
                assert_eq!(found[0].0, code);
                assert!((800..=1_000).contains(&found[0].1), "key {code}: {} samples", found[0].1);
            }
        }
    }

    #[test]
    fn presses_of_forty_milliseconds_with_pauses_as_long_are_each_found() {
        for offset in 0..20 {
            let mut pcm = vec![0; offset * 5];
            for code in [1, 1, 2, 9, 0, 11, 5, 5] {
                pcm.extend(key(code, 40));
                pcm.extend([0; 320]);
            }
            let codes: Vec<u8> = presses(&pcm, 160).into_iter().map(|(code, _)| code).collect();
            assert_eq!(codes, [1, 1, 2, 9, 0, 11, 5, 5], "from {offset}");
        }
    }

    #[test]
    fn short_sounds_wrong_levels_and_wrong_frequencies_are_no_presses() {
        let found = |pcm: Vec<i16>| presses(&pcm, 160).len();
        assert_eq!(found(pair((697.0, 5_000.0), (1209.0, 5_000.0), 80)), 1, "the reference");
        assert_eq!(found(pair((697.0, 5_000.0), (1209.0, 5_000.0), 15)), 0, "too short");
        assert_eq!(found(pair((697.0, 1_000.0), (1209.0, 5_000.0), 80)), 0, "too much twist");
        assert_eq!(found(pair((697.0, 5_000.0), (1209.0, 2_000.0), 80)), 0, "too much reverse twist");
        assert_eq!(found(pair((697.0, 100.0), (1209.0, 100.0), 80)), 0, "too weak");
        assert_eq!(found(pair((697.0, 5_000.0), (0.0, 0.0), 80)), 0, "one tone");
        assert_eq!(found(pair((425.0, 5_000.0), (480.0, 5_000.0), 400)), 0, "call progress");
        for shift in [0.985, 1.015] {
            assert_eq!(
                found(pair((770.0 * shift, 5_000.0), (1336.0 * shift, 5_000.0), 80)),
                1,
                "within 1.5 %"
            );
        }
        for shift in [0.945, 1.06] {
            assert_eq!(found(pair((770.0 * shift, 5_000.0), (1336.0 * shift, 5_000.0), 80)), 0, "beyond 5 %");
        }
    }

    #[test]
    fn presses_are_found_through_a_law_and_noise() {
        for law in [Law::A, Law::Mu] {
            let scramble =
                |n: usize| (n as u32).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
            let mut pcm = key(6, 100);
            pcm.extend([0; 640]);
            for (n, sample) in pcm.iter_mut().enumerate() {
                let noise = (scramble(n) >> 16) as i32 - 32_768;
                *sample = law.expand(law.compress(*sample + (noise / 40) as i16));
            }
            assert_eq!(presses(&pcm, 160).len(), 1, "{law:?}");
        }
    }

    #[test]
    fn no_key_is_found_in_speech() {
        let [caller, callee] = recorded();
        for (name, pcm) in [("caller", caller), ("callee", callee), ("synthetic", speech(0, 240_000))] {
            for level in [0.3, 1.0, 2.0] {
                for offset in 0..8 {
                    let louder = pcm[offset * 13..].iter().map(|sample| (f32::from(*sample) * level) as i16);
                    let found = presses(&louder.collect::<Vec<_>>(), 160);
                    assert_eq!(found, [], "{name} at {level}");
                }
            }
        }
    }
}
