//! Sounds the gateway makes itself at 8 kHz: call progress tones and key presses.

use super::codec::g711::SAMPLE_RATE;
use super::config::{Ringing, Tone};
use std::f32::consts::TAU;

/// A sine by recursion: one multiplication a sample, exact in frequency.
#[derive(Debug, Clone, Copy)]
struct Sine {
    coefficient: f32,
    last: f32,
    before: f32,
}

impl Sine {
    /// Starts at phase zero, so that it rises without a click. `level` is the peak.
    fn new(hertz: f32, level: f32) -> Sine {
        let step = TAU * hertz / SAMPLE_RATE as f32;
        Sine { coefficient: 2.0 * step.cos(), last: 0.0, before: -level * step.sin() }
    }

    #[inline]
    fn next(&mut self) -> f32 {
        let now = self.last;
        let next = self.coefficient * now - self.before;
        self.before = now;
        self.last = next;
        now
    }
}

/// Peak of a sine at 0 dBm0: 3.14 dB below full scale in A-law (G.711 §4).
const PEAK_0_DBM0: f32 = 32_768.0 * 0.6966;

fn peak(dbm0: f32) -> f32 {
    PEAK_0_DBM0 * 10f32.powf(dbm0 / 20.0)
}

/// A tone with its cadence, produced sample by sample.
#[derive(Debug, Clone)]
pub struct TonePlayer {
    sines: [Sine; 2],
    /// The second is 0 where there is one only.
    hertz: [f32; 2],
    level: f32,
    /// Samples on, off, on, off; what is 0 is left out.
    cadence: [usize; 4],
    step: usize,
    at: usize,
}

impl TonePlayer {
    pub fn new(tone: Tone) -> TonePlayer {
        let second = SAMPLE_RATE as usize;
        let ms = |lengths: [usize; 4]| lengths.map(|length| length * second / 1_000);
        let (hertz, level, cadence) = match tone {
            Tone::Ringback(Ringing::Europe) => ([425.0, 0.0], peak(-13.0), ms([1_000, 4_000, 0, 0])),
            Tone::Ringback(Ringing::France) => ([440.0, 0.0], peak(-13.0), ms([1_500, 3_500, 0, 0])),
            // Two at once are 3 dB stronger than one.
            Tone::Ringback(Ringing::UnitedKingdom) => {
                ([400.0, 450.0], peak(-16.0), ms([400, 200, 400, 2_000]))
            }
            Tone::Ringback(Ringing::NorthAmerica) => ([440.0, 480.0], peak(-16.0), ms([2_000, 4_000, 0, 0])),
            // A second holds whole cycles, so that each second joins the one before without a click.
            Tone::Steady { hertz, dbm0 } => {
                ([f32::from(hertz), 0.0], peak(f32::from(dbm0)), ms([1_000, 0, 0, 0]))
            }
        };
        let sines = hertz.map(|hertz| Sine::new(hertz, level));
        TonePlayer { sines, hertz, level, cadence, step: 0, at: 0 }
    }

    /// Fills `pcm` with what comes next.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        for sample in pcm {
            let sounds = self.step.is_multiple_of(2);
            if self.at == 0 && sounds {
                // Each burst starts anew: recursion in f32 drifts over hours, not over a second. At 0 Hz it is silence.
                self.sines = self.hertz.map(|hertz| Sine::new(hertz, self.level));
            }
            let [low, high] = &mut self.sines;
            *sample = if sounds { (low.next() + high.next()) as i16 } else { 0 };
            self.at += 1;
            if self.at == self.cadence[self.step] {
                self.at = 0;
                let next = self.step + 1;
                self.step = if self.cadence.get(next).is_some_and(|length| *length > 0) { next } else { 0 };
            }
        }
    }
}

/// Frequencies of a key, low and high group (ITU-T Q.23).
pub const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
pub const COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];

/// Where event codes 0 to 15 lie on the keypad, as row and column.
pub const KEYS: [(usize, usize); 16] = [
    (3, 1),
    (0, 0),
    (0, 1),
    (0, 2),
    (1, 0),
    (1, 1),
    (1, 2),
    (2, 0),
    (2, 1),
    (2, 2),
    (3, 0),
    (3, 2),
    (0, 3),
    (1, 3),
    (2, 3),
    (3, 3),
];

/// A key press as sound, for a leg that takes no events.
#[derive(Debug, Clone, Copy)]
pub struct KeyTone {
    low: Sine,
    high: Sine,
}

impl KeyTone {
    /// `None` for event codes that are not keys.
    pub fn new(code: u8) -> Option<KeyTone> {
        let (row, column) = *KEYS.get(usize::from(code))?;
        // The high group is sent 2 dB stronger: lines weaken it more (ITU-T Q.23 §3, ETSI ES 201 235-2).
        Some(KeyTone { low: Sine::new(ROWS[row], peak(-9.0)), high: Sine::new(COLUMNS[column], peak(-7.0)) })
    }

    pub fn fill(&mut self, pcm: &mut [i16]) {
        for sample in pcm {
            *sample = (self.low.next() + self.high.next()) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Power at one frequency (Goertzel).
    fn power(pcm: &[i16], hertz: f32) -> f64 {
        let coefficient = 2.0 * f64::from(TAU * hertz / 8000.0).cos();
        let (mut last, mut before) = (0.0, 0.0);
        for sample in pcm {
            let next = f64::from(*sample) + coefficient * last - before;
            before = last;
            last = next;
        }
        (last * last + before * before - coefficient * last * before) / (pcm.len() as f64).powi(2)
    }

    #[test]
    fn ringback_sounds_one_second_in_five() {
        let mut player = TonePlayer::new(Tone::Ringback(Ringing::Europe));
        let mut pcm = vec![0; 5 * 8000 + 800];
        for frame in pcm.chunks_mut(160) {
            player.fill(frame);
        }
        assert!(power(&pcm[..8000], 425.0) > 1000.0 * power(&pcm[..8000], 600.0));
        assert!(pcm[8000..40_000].iter().all(|sample| *sample == 0));
        assert!(pcm[40_000..].iter().any(|sample| *sample > 1000));
    }

    #[test]
    fn ringback_sounds_as_it_does_in_its_country() {
        for (country, hertz, on, off) in [
            (Ringing::France, [440.0, 440.0], 12_000, 28_000),
            (Ringing::UnitedKingdom, [400.0, 450.0], 3_200, 1_600),
            (Ringing::NorthAmerica, [440.0, 480.0], 16_000, 32_000),
        ] {
            let mut player = TonePlayer::new(Tone::Ringback(country));
            let mut pcm = vec![0; 50_000];
            pcm.chunks_mut(160).for_each(|frame| player.fill(frame));
            for hertz in hertz {
                let (own, other) = (power(&pcm[..on], hertz), power(&pcm[..on], 600.0));
                assert!(own > 300.0 * other, "{country:?}: {hertz} Hz");
            }
            assert!(pcm[on..on + off].iter().all(|sample| *sample == 0), "{country:?}");
            assert!(pcm[on + off..on + off + 800].iter().any(|sample| *sample > 1_000), "{country:?}");
        }
        let mut british = TonePlayer::new(Tone::Ringback(Ringing::UnitedKingdom));
        let mut pcm = vec![0; 24_800];
        british.fill(&mut pcm);
        assert!(
            pcm[8_000..24_000].iter().all(|sample| *sample == 0) && pcm[24_100..].iter().any(|s| *s > 1_000)
        );
    }

    #[test]
    fn a_steady_tone_has_its_frequency_and_level_and_no_seam() {
        for (hertz, dbm0) in [(1_004, -10), (1_000, 0), (425, -13)] {
            let mut player = TonePlayer::new(Tone::Steady { hertz, dbm0 });
            let mut pcm = vec![0; 3 * 8000];
            pcm.chunks_mut(160).for_each(|frame| player.fill(frame));
            let square: f64 = pcm.iter().map(|sample| f64::from(*sample).powi(2)).sum();
            let rms = (square / pcm.len() as f64).sqrt();
            // A sine at the top of the scale has +3.14 dBm0 (G.711 §4).
            #[allow(clippy::approx_constant, reason = "decibels, not pi")]
            const TOP_DBM0: f64 = 3.14;
            let level = 20.0 * (rms * 2f64.sqrt() / 32_768.0).log10() + TOP_DBM0;
            assert!((level - f64::from(dbm0)).abs() < 0.1, "{level} dBm0");
            // All of its power lies at its frequency, over the seams too.
            let share = 4.0 * power(&pcm, f32::from(hertz)) / (rms * rms * 2.0);
            assert!(share > 0.999, "{hertz} Hz: {share}");
        }
    }

    #[test]
    fn a_key_has_its_two_frequencies_and_no_other() {
        for code in 0..16u8 {
            let mut pcm = [0; 800];
            KeyTone::new(code).unwrap().fill(&mut pcm);
            let (row, column) = KEYS[usize::from(code)];
            for (index, hertz) in ROWS.iter().enumerate() {
                assert_eq!(power(&pcm, *hertz) > 100_000.0, index == row, "key {code}, {hertz} Hz");
            }
            for (index, hertz) in COLUMNS.iter().enumerate() {
                assert_eq!(power(&pcm, *hertz) > 100_000.0, index == column, "key {code}, {hertz} Hz");
            }
        }
        assert!(KeyTone::new(16).is_none());
    }
}
