//! Takes back the delay that a hiccup left behind: quiet frames are left out, a voice loses a pitch period now and then.

/// Shortest and longest stretch cut out of a voice, at 8 kHz: 2.5 and 15 ms, one to several pitch periods.
const SHORTEST: usize = 20;
const LONGEST: usize = 120;
/// Samples over which both sides of a cut are blended, 5 ms.
const BLEND: usize = 40;
/// Below −48 dBm0 a frame more or less is not noticed.
const QUIET: u16 = 90;
/// How alike both sides of a cut have to be; less with each 20 ms that pass without one, and less with the time that
/// the delay is there: it is gone within two seconds even where nothing fits.
const ALIKE: f32 = 0.85;
const LESS_WAITING: f32 = 0.25 / 160.0;
const LESS_BEHIND: f32 = 0.5 / 8_000.0;
/// Between two cuts so many times their length is left whole: a voice becomes a third faster at most.
const REST: usize = 3;

/// The pace of taking back.
#[derive(Debug, Clone, Copy, Default)]
pub struct CatchUp {
    /// Samples to be left whole.
    rest: usize,
    /// Samples that found no cut since.
    waited: usize,
    /// Samples played since the delay was there.
    since: usize,
}

impl CatchUp {
    /// Shortens a frame that is played `behind` samples late; returns how many samples are left, at its start.
    pub fn shorten(&mut self, pcm: &mut [i16], behind: usize) -> usize {
        let len = pcm.len();
        let cut = self.choose(pcm, behind);
        if cut < len {
            splice(pcm, cut);
        }
        if behind == cut {
            *self = CatchUp::default();
        } else {
            self.since += len;
        }
        len - cut
    }

    fn choose(&mut self, pcm: &[i16], behind: usize) -> usize {
        let len = pcm.len();
        // What is quiet before the first syllable goes before anything of the syllable does.
        let quiet = pcm.iter().take_while(|sample| sample.unsigned_abs() < QUIET).count();
        if quiet == len && behind >= len {
            return len;
        }
        if quiet >= BLEND + SHORTEST {
            let cut = behind.min(quiet - BLEND);
            return if (1..SHORTEST).contains(&(behind - cut)) { behind - SHORTEST } else { cut };
        }
        if self.rest > 0 {
            self.rest = self.rest.saturating_sub(len);
            return 0;
        }
        let Some((cut, likeness)) = best_cut(pcm, behind) else { return 0 };
        if likeness < ALIKE - LESS_WAITING * self.waited as f32 - LESS_BEHIND * self.since as f32 {
            self.waited += len;
            return 0;
        }
        self.waited = 0;
        self.rest = (REST * cut).saturating_sub(len - cut);
        cut
    }
}

/// The delay of a voice behind sound of our own making: noise that went on until a late packet came, a tone that took
/// longer than its key. A voice that is late because its timestamps run behind its packets is left whole: it would be
/// late again with the next one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrun {
    catch_up: CatchUp,
    /// The last sound was ours.
    ours: bool,
    /// The delay comes from it.
    owed: bool,
}

impl Overrun {
    /// Sound of our own making goes out.
    pub fn note_ours(&mut self) {
        self.ours = true;
    }

    /// A packet of the voice has its place, later or no later behind its time than the one before.
    #[inline]
    pub fn note_voice(&mut self, later: bool) {
        if later {
            (self.catch_up, self.owed) = (CatchUp::default(), self.ours);
        }
        self.ours = false;
    }

    /// As [`CatchUp::shorten`]; all are left where the delay is not ours.
    #[inline]
    pub fn shorten(&mut self, pcm: &mut [i16], behind: usize) -> usize {
        if behind == 0 || !self.owed { pcm.len() } else { self.catch_up.shorten(pcm, behind) }
    }
}

/// Takes `cut` samples out behind the beginning and blends both sides.
fn splice(pcm: &mut [i16], cut: usize) {
    if cut == 0 {
        return;
    }
    for index in 0..BLEND {
        let (old, new) = (i32::from(pcm[index]), i32::from(pcm[index + cut]));
        let (rise, whole) = (index as i32 + 1, BLEND as i32 + 1);
        pcm[index] = ((new * rise + old * (whole - rise)) / whole) as i16;
    }
    pcm.copy_within(BLEND + cut.., BLEND);
}

/// The longest cut among the best ones, and how alike its sides are, −1 to 1. What is left of the delay after it is
/// nothing or enough for another one.
fn best_cut(pcm: &[i16], behind: usize) -> Option<(usize, f32)> {
    let longest = LONGEST.min(behind).min(pcm.len().checked_sub(BLEND)?);
    let fits = |cut: &usize| behind == *cut || behind - *cut >= SHORTEST;
    // A rest that is shorter than any cut goes at once, whatever its sides.
    let shortest = SHORTEST.min(behind).max(1);
    let energy = |part: &[i16]| part.iter().map(|s| f32::from(*s) * f32::from(*s)).sum::<f32>();
    let before = &pcm[..BLEND];
    let energy_before = energy(before);
    let likeness = |cut: usize| {
        let after = &pcm[cut..cut + BLEND];
        let product: f32 = before.iter().zip(after).map(|(a, b)| f32::from(*a) * f32::from(*b)).sum();
        product / (energy_before * energy(after)).sqrt().max(1.0)
    };
    let mut best: Option<(usize, f32)> = None;
    for cut in (shortest..=longest).filter(fits) {
        let likeness = likeness(cut);
        // A longer cut is worth a little: fewer of them are needed.
        if best.is_none_or(|(_, known)| likeness > known - 0.02) {
            best = Some((cut, likeness));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::speech::speech;

    /// Plays frames of `frame` samples `behind` samples late; returns what was heard and after how many frames the
    /// delay was gone.
    fn play(frame: usize, behind: usize, sound: impl Fn(usize, usize) -> Vec<i16>) -> (Vec<i16>, usize) {
        let (mut catch_up, mut left, mut heard) = (CatchUp::default(), behind, Vec::new());
        for number in 0.. {
            if left == 0 {
                return (heard, number);
            }
            let mut pcm = sound(number * frame, frame);
            let kept = catch_up.shorten(&mut pcm, left);
            left -= frame - kept;
            heard.extend(&pcm[..kept]);
        }
        unreachable!("frames do not end")
    }

    fn noise(from: usize, len: usize) -> Vec<i16> {
        let scramble =
            |n: usize| (n as u32).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
        (from..from + len).map(|n| (scramble(n) >> 19) as i16 - 4096).collect()
    }

    fn tone(from: usize, len: usize) -> Vec<i16> {
        let wave = |n: usize| (n as f32 * 150.0 / 8000.0 * std::f32::consts::TAU).sin();
        (from..from + len).map(|n| (wave(n) * 8000.0) as i16).collect()
    }

    #[test]
    fn a_quarter_of_a_second_is_gone_within_two_seconds_of_any_sound() {
        for frame in [160, 320, 480] {
            for (name, sound) in
                [("speech", speech as fn(usize, usize) -> Vec<i16>), ("noise", noise), ("tone", tone)]
            {
                let (_, frames) = play(frame, 2_000, sound);
                assert!(frames * frame <= 16_000, "{name}: {frames} frames of {frame}");
            }
        }
        let (_, frames) = play(80, 2_000, speech);
        assert!(frames * 80 <= 24_000, "{frames} frames of 10 ms");
    }

    #[test]
    fn a_voiced_sound_keeps_its_pitch_and_does_not_click() {
        let (heard, _) = play(160, 800, tone);
        let steepest = tone(0, 8_000).windows(2).map(|w| (w[1] - w[0]).abs()).max().unwrap();
        let step = heard.windows(2).map(|w| (w[1] - w[0]).abs()).max().unwrap();
        assert!(step <= steepest + steepest / 4, "a step of {step}, {steepest} without cuts");
    }

    #[test]
    fn exactly_the_delay_is_taken_back() {
        for behind in [1, 7, 20, 33, 160, 161, 475] {
            let (heard, frames) = play(160, behind, speech);
            assert_eq!(heard.len() + behind, frames * 160, "{behind}");
        }
    }

    #[test]
    fn the_quiet_before_a_syllable_goes_before_the_syllable_does() {
        let voice = speech(400, 200);
        let mut pcm = [vec![3; 120], voice[..40].to_vec()].concat();
        let mut catch_up = CatchUp::default();
        assert_eq!(catch_up.shorten(&mut pcm, 60), 100);
        assert_eq!(pcm[60..100], voice[..40], "the syllable is whole");
    }

    #[test]
    fn quiet_frames_are_left_out_whole() {
        let (heard, frames) = play(160, 1_600, |_, len| vec![3; len]);
        assert_eq!((heard.len(), frames), (0, 10));
    }
}
