//! Makes up for lost G.711 by going on with the last pitch periods, fading out (after ITU-T G.711 Appendix I).

use super::bridging;

/// Shortest and longest pitch period looked for, at 8 kHz: 200 Hz and 66 Hz.
const PITCH: std::ops::RangeInclusive<usize> = 40..=120;
/// How much of the end must match what lies one period before it.
const WINDOW: usize = 160;
/// Three of the longest periods, and a quarter of one that is blended into them.
const HISTORY: usize = 390;
/// Every 10 ms one more period is repeated, up to three: one alone begins to buzz (Appendix I §I.2.5).
const STEP: usize = 80;
const MAX_PERIODS: usize = 3;
/// The first 10 ms keep their level; from there it falls by a fifth every 10 ms, to nothing at 60 ms (§I.2.7).
const HOLD: usize = 80;
const GONE: usize = 480;
/// Made-up and real sound are blended over a quarter of a period, and 4 ms more for each 10 ms that the gap grew beyond
/// the first, up to 10 ms (§I.2.6).
const BLEND_MORE: usize = 32;
const BLEND_MOST: usize = 80;
/// The step from the last real sample to the first made-up one is worn off over this, 1.25 ms: Appendix I blends here
/// too, at the price of holding back 3.75 ms of every call.
const JOINT: usize = 10;

/// The end of a stream at 8 kHz and where its made-up continuation stands. No delay: what is heard is never held.
#[derive(Debug, Clone)]
pub struct Concealer {
    history: [i16; HISTORY],
    gap: Option<Gap>,
}

/// A gap that is being filled. What it repeats stays as it was when the gap began.
#[derive(Debug, Clone)]
struct Gap {
    source: [i16; HISTORY],
    period: usize,
    /// How many periods are repeated, and where in them the next sample lies.
    periods: usize,
    at: usize,
    /// The shorter repetition that is being left: its place, and samples still to be blended.
    leaving: Option<(usize, usize)>,
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
    #[inline]
    pub fn heard(&mut self, samples: &mut [i16]) {
        if let Some(mut gap) = self.gap.take() {
            let grown = gap.made.div_ceil(STEP).saturating_sub(1);
            let blend = (gap.quarter() + grown * BLEND_MORE).min(BLEND_MOST).min(samples.len());
            for (index, sample) in samples[..blend].iter_mut().enumerate() {
                let (rise, whole) = (index as i32 + 1, blend as i32 + 1);
                *sample =
                    ((i32::from(*sample) * rise + i32::from(gap.next()) * (whole - rise)) / whole) as i16;
            }
        }
        self.remember(samples);
    }

    /// Fills in for samples that are lost.
    pub fn conceal(&mut self, samples: &mut [i16]) {
        let mut gap = self.gap.take().unwrap_or_else(|| Gap::new(self.history));
        samples.fill_with(|| gap.next());
        self.remember(samples);
        self.gap = Some(gap);
    }

    /// Fills in for samples that are lost between what was heard and `next`: both ends are led to each other.
    pub fn bridge(&mut self, samples: &mut [i16], next: &[i16]) {
        let mut gap = self.gap.take().unwrap_or_else(|| Gap::new(self.history));
        samples.fill_with(|| gap.next());
        let met = bridging::meet(samples, next, gap.period);
        self.remember(samples);
        // What met the voice behind the gap needs no blending with it.
        self.gap = (!met).then_some(gap);
    }

    #[inline]
    fn remember(&mut self, samples: &[i16]) {
        let kept = samples.len().min(HISTORY);
        self.history.copy_within(kept.., 0);
        self.history[HISTORY - kept..].copy_from_slice(&samples[samples.len() - kept..]);
    }
}

impl Gap {
    fn new(source: [i16; HISTORY]) -> Gap {
        let period = pitch_period(&source);
        Gap { source, period, periods: 1, at: 0, leaving: None, made: 0 }
    }

    fn quarter(&self) -> usize {
        self.period / 4
    }

    /// The next made-up sample.
    fn next(&mut self) -> i16 {
        if self.made >= GONE {
            return 0;
        }
        if self.made > 0 && self.made.is_multiple_of(STEP) && self.periods < MAX_PERIODS {
            // The same place in the sound, one period earlier.
            self.leaving = Some((self.at, self.quarter()));
            self.periods += 1;
        }
        let mut sample = self.repeated(self.periods, self.at);
        if let Some((at, left)) = self.leaving {
            let (fall, whole) = (left as i32, self.quarter() as i32 + 1);
            sample = (sample * (whole - fall) + self.repeated(self.periods - 1, at) * fall) / whole;
            let next = (at + 1) % ((self.periods - 1) * self.period);
            self.leaving = (left > 1).then_some((next, left - 1));
        }
        if self.made < JOINT {
            let step =
                i32::from(self.source[HISTORY - 1]) - i32::from(self.source[HISTORY - 1 - self.period]);
            sample += step * (JOINT - self.made) as i32 / (JOINT as i32 + 1);
        }
        let loud = level(self.made);
        self.at = (self.at + 1) % (self.periods * self.period);
        self.made += 1;
        (sample * loud / level(0)).clamp(i16::MIN.into(), i16::MAX.into()) as i16
    }

    /// A sample of the last `periods` periods; their end flows into their beginning.
    fn repeated(&self, periods: usize, at: usize) -> i32 {
        let len = periods * self.period;
        let index = HISTORY - len + at;
        let sample = i32::from(self.source[index]);
        let (left, quarter) = (len - at, self.quarter());
        if left > quarter {
            return sample;
        }
        let (rise, whole) = ((quarter - left + 1) as i32, quarter as i32 + 1);
        (sample * (whole - rise) + i32::from(self.source[index - len]) * rise) / whole
    }
}

/// How loud made-up sound is that far from a real one; the whole at 0.
pub fn level(from_real: usize) -> i32 {
    GONE.saturating_sub(from_real.max(HOLD)) as i32
}

/// The lag at which the end of the history resembles itself most: every other lag and sample first, then finely around
/// the best of them.
fn pitch_period(history: &[i16; HISTORY]) -> usize {
    let score = |lag: usize, every: usize| {
        let tail = history[HISTORY - WINDOW..].iter().step_by(every);
        let earlier = history[HISTORY - WINDOW - lag..HISTORY - lag].iter().step_by(every);
        let (mut product, mut energy) = (0i64, 1i64);
        for (now, before) in tail.zip(earlier) {
            product += i64::from(i32::from(*now) * i32::from(*before));
            energy += i64::from(i32::from(*before) * i32::from(*before));
        }
        product as f32 / (energy as f32).sqrt()
    };
    let best = |lags: &mut dyn Iterator<Item = usize>, every| {
        let scored = lags.map(|lag| (lag, score(lag, every)));
        scored.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(*PITCH.end(), |(lag, _)| lag)
    };
    let coarse = best(&mut PITCH.step_by(2), 2);
    best(&mut (coarse.saturating_sub(1).max(*PITCH.start())..=(coarse + 1).min(*PITCH.end())), 1)
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
        concealer.heard(&mut voice(100.0, 0, 400));
        let mut made = [0; 80];
        concealer.conceal(&mut made);
        for (made, real) in made.iter().zip(voice(100.0, 400, 80)) {
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
    fn the_beginning_of_a_gap_does_not_click() {
        // A pitch that glides fits its own past nowhere exactly.
        let glide = |n: usize| {
            let t = n as f32 / 8000.0;
            ((t * 110.0 + t * t * 60.0) * std::f32::consts::TAU).sin() * 9000.0
        };
        for end in [320usize, 350, 411, 500] {
            let mut heard: Vec<i16> = (end - 320..end).map(|n| glide(n) as i16).collect();
            let mut concealer = Concealer::default();
            concealer.heard(&mut heard);
            let mut made = [0; 160];
            concealer.conceal(&mut made);
            let steepest = heard.windows(2).map(|pair| pair[1].abs_diff(pair[0])).max().unwrap();
            let joined = [heard[318], heard[319], made[0], made[1], made[2]];
            let step = joined.windows(2).map(|pair| pair[1].abs_diff(pair[0])).max().unwrap();
            assert!(step <= steepest * 2, "after {end}: a step of {step}, {steepest} in the voice");
        }
    }

    #[test]
    fn levels_fall_by_a_fifth_every_ten_milliseconds_after_the_first() {
        let mut concealer = Concealer::default();
        concealer.heard(&mut voice(100.0, 0, 400));
        let mut made = [0; 480];
        concealer.conceal(&mut made);
        let peak = |part: &[i16]| f32::from(part.iter().map(|sample| sample.abs()).max().unwrap());
        let whole = peak(&made[..80]);
        for (tenth, part) in made.chunks(80).enumerate() {
            let end = 1.0 - 0.2 * tenth as f32;
            let share = peak(part) / whole;
            assert!((end - 0.02..end + 0.2).contains(&share), "{tenth}: {share}");
        }
    }

    #[test]
    fn a_second_gap_right_behind_a_first_goes_on_from_what_was_heard() {
        let mut concealer = Concealer::default();
        concealer.heard(&mut voice(100.0, 0, 400));
        let mut made = [0; 160];
        concealer.conceal(&mut made);
        concealer.heard(&mut voice(100.0, 560, 160));
        concealer.conceal(&mut made);
        for (made, real) in made[..80].iter().zip(voice(100.0, 720, 80)) {
            assert!((i32::from(*made) - i32::from(real)).abs() < 900, "{made} for {real}");
        }
    }

    #[test]
    fn nothing_heard_conceals_as_silence() {
        let mut made = [1; 160];
        Concealer::default().conceal(&mut made);
        assert_eq!(made, [0; 160]);
    }
}
