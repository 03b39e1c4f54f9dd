//! Makes up for lost G.711 by repeating the last pitch period, fading out (after ITU-T G.711 Appendix I).

/// Shortest and longest pitch period looked for, at 8 kHz: 200 Hz and 66 Hz.
const PITCH: std::ops::RangeInclusive<usize> = 40..=120;
/// How much of the end must match what lies one period before it.
const WINDOW: usize = 160;
const HISTORY: usize = WINDOW + *PITCH.end();
/// Samples over which made-up and real sound are blended when packets come again, 5 ms.
const BLEND: usize = 40;
/// The first 10 ms keep their level; from there it falls to nothing at 60 ms (Appendix I §I.2.7).
const HOLD: usize = 80;
const GONE: usize = 480;

/// The end of a stream at 8 kHz and where its made-up continuation stands. No delay: what is heard is never held.
#[derive(Debug, Clone)]
pub struct Concealer {
    history: [i16; HISTORY],
    gap: Option<Gap>,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    period: usize,
    /// Samples made up so far.
    made: usize,
}

impl Default for Concealer {
    fn default() -> Concealer {
        Concealer { history: [0; HISTORY], gap: None }
    }
}

impl Concealer {
    /// Notes samples that were received; the first of them after a gap are blended with its continuation.
    pub fn heard(&mut self, samples: &mut [i16]) {
        if let Some(gap) = self.gap.take() {
            let blend = BLEND.min(samples.len());
            for (index, sample) in samples[..blend].iter_mut().enumerate() {
                let made = i32::from(self.continuation(Gap { made: gap.made + index, ..gap }));
                let (rise, whole) = (index as i32 + 1, blend as i32 + 1);
                *sample = ((i32::from(*sample) * rise + made * (whole - rise)) / whole) as i16;
            }
        }
        let kept = samples.len().min(HISTORY);
        self.history.copy_within(kept.., 0);
        self.history[HISTORY - kept..].copy_from_slice(&samples[samples.len() - kept..]);
    }

    /// Fills in for samples that are lost.
    pub fn conceal(&mut self, samples: &mut [i16]) {
        let mut gap = self.gap.unwrap_or_else(|| Gap { period: self.pitch_period(), made: 0 });
        for sample in samples {
            *sample = self.continuation(gap);
            gap.made += 1;
        }
        self.gap = Some(gap);
    }

    /// The sound `gap.made` samples past the end of what was heard.
    fn continuation(&self, gap: Gap) -> i16 {
        if gap.made >= GONE {
            return 0;
        }
        let sample = i32::from(self.history[HISTORY - gap.period + gap.made % gap.period]);
        let level = (GONE - gap.made.max(HOLD)) as i32;
        (sample * level / (GONE - HOLD) as i32) as i16
    }

    /// The lag at which the end of the history resembles itself most.
    fn pitch_period(&self) -> usize {
        let tail = &self.history[HISTORY - WINDOW..];
        let score = |lag: usize| {
            let earlier = &self.history[HISTORY - WINDOW - lag..HISTORY - lag];
            let (mut product, mut energy) = (0i64, 1i64);
            for (now, before) in tail.iter().zip(earlier) {
                product += i64::from(*now) * i64::from(*before);
                energy += i64::from(*before) * i64::from(*before);
            }
            product as f64 / (energy as f64).sqrt()
        };
        PITCH.max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap_or(*PITCH.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(hertz: f32, from: usize, len: usize) -> Vec<i16> {
        let wave = |n: usize| (n as f32 * hertz / 8000.0 * std::f32::consts::TAU).sin();
        (from..from + len).map(|n| (wave(n) * 8000.0) as i16).collect()
    }

    #[test]
    fn a_lost_packet_of_a_periodic_sound_goes_on_in_phase() {
        let mut concealer = Concealer::default();
        concealer.heard(&mut voice(100.0, 0, 320));
        let mut made = [0; 80];
        concealer.conceal(&mut made);
        for (made, real) in made.iter().zip(voice(100.0, 320, 80)) {
            assert!((i32::from(*made) - i32::from(real)).abs() < 400, "{made} for {real}");
        }
    }

    #[test]
    fn a_long_gap_fades_to_silence_within_60_ms() {
        let mut concealer = Concealer::default();
        concealer.heard(&mut voice(150.0, 0, 320));
        let mut made = [0; 640];
        concealer.conceal(&mut made);
        let energy = |part: &[i16]| part.iter().map(|s| f64::from(*s) * f64::from(*s)).sum::<f64>();
        assert!(energy(&made[160..320]) < energy(&made[..160]));
        assert!(made[GONE..].iter().all(|sample| *sample == 0));
    }

    #[test]
    fn the_return_of_the_voice_does_not_click() {
        let mut concealer = Concealer::default();
        concealer.heard(&mut voice(150.0, 0, 320));
        let mut made = [0; 160];
        concealer.conceal(&mut made);
        let mut back = voice(150.0, 480, 160);
        concealer.heard(&mut back);
        let step = (i32::from(made[159]) - i32::from(back[0])).abs();
        assert!(step < 2500, "a step of {step}");
    }

    #[test]
    fn nothing_heard_conceals_as_silence() {
        let mut made = [1; 160];
        Concealer::default().conceal(&mut made);
        assert_eq!(made, [0; 160]);
    }
}
