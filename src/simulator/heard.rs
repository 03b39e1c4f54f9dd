//! The heard-speech check: did a recording truly contain what the other side said, all of it, and not our own voice?
//!
//! Counters can't tell that. The check aligns the reference in the recording, compares the spectrum of every 10 ms of
//! active speech, and demands that nothing audible is missing, that time does not jump and that our own words don't
//! come back.

use super::{
    spectrum::{self, BANDS, Frame, HOP, RATE},
    wav::Wav,
};
use serde::Serialize;

const FRAME_MS: u32 = HOP as u32 * 1000 / RATE;
/// What is below is silence, in dB of full scale.
const SILENT: f32 = -60.0;
/// A line's own noise stays within this above silence, in dB.
const ABOVE_NOISE: f32 = 10.0;
/// The least sound that is more than a click, in frames.
const LEAST_SOUND: usize = 30;
/// Reference frames within this of the loudest one are active speech, in dB.
const ACTIVE_BELOW_PEAK: f32 = 28.0;
/// The least active speech that can prove anything, in frames.
const LEAST_ACTIVE: usize = 100;
/// Frames on each side that take part in judging one: 110 ms in all, about a syllable.
const CONTEXT: usize = 5;
/// Correlation of the band pattern from which a frame counts as heard. The right speech through Opus and G.711 has
/// 0.9 and more, other speech 0.3.
const SIMILAR: f32 = 0.65;
/// A frame this far below its expected level is missing, in dB.
const DROPPED_BY: f32 = 12.0;
/// Alignment is refined in blocks of this many frames …
const BLOCK: usize = 50;
/// … within this many frames around the place of the whole: a jitter buffer may move a little.
const WANDER: i64 = 10;
/// The farthest two parts of the speech may move against each other, in frames.
const JUMP: i64 = 8;
/// Similarity of the whole from which it counts as found; other speech stays below 0.3 at its best place.
const PLACED: f32 = 0.4;
/// Band levels more than this below the loudest count as equally quiet, in dB: codecs put noise there.
const RANGE: f32 = 50.0;
/// Band levels farther than this from their mean count no more, in dB.
const SWING: f32 = 20.0;
/// What stands where the recording has ended: deep silence.
const ABSENT: Pattern = [-SWING; BANDS];
/// Share of active speech that must be heard.
const COVERAGE: f32 = 0.95;
/// Active speech that may be missing in any 300 ms, in frames. One lost packet with concealment stays below.
const MISSING: usize = 10;
const MISSING_WINDOW: usize = 30;
/// Gain between the sides that still is the same call, in dB.
const GAIN: std::ops::RangeInclusive<f32> = -20.0..=15.0;
/// Correlation of our own words with what we heard: an echo at about -18 dB. Unrelated voices have 0.02.
const ECHO: f32 = 0.12;

/// Why a recording does not prove that the speech was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// There is too little speech in the reference to judge by.
    ReferenceTooShort,
    /// The recording is silent.
    Silence,
    /// The recording holds something else than the speech.
    NotTheSpeech,
    /// Parts of the speech are missing.
    Gaps,
    /// The speech is there, but shifts in time.
    TimeJump,
    /// Far quieter or louder than it was said.
    Level,
    /// What this side said itself came back.
    OwnEcho,
}

impl Fault {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::ReferenceTooShort => "there is too little speech to judge by",
            Fault::Silence => "silence",
            Fault::NotTheSpeech => "something else",
            Fault::Gaps => "parts are missing",
            Fault::TimeJump => "it shifts in time",
            Fault::Level => "far too quiet or too loud",
            Fault::OwnEcho => "our own words came back",
        }
    }
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    pub heard: bool,
    pub fault: Option<Fault>,
    /// Share of the active speech that was heard, 0 to 1.
    pub coverage: f32,
    /// Mean similarity of the active speech, -1 to 1.
    pub similarity: f32,
    /// The most active speech missing within 300 ms, in milliseconds.
    pub missing_ms: u32,
    /// Where the speech begins in the recording, in milliseconds.
    pub offset_ms: f32,
    /// How much louder it was heard than said, in dB.
    pub gain_db: f32,
    /// Correlation of our own words with the recording, 0 to 1.
    pub echo: f32,
    /// For the picture: similarity of each 10 ms of the reference, `None` in its pauses.
    #[serde(skip)]
    pub track: Vec<Option<f32>>,
}

/// What a recording holds when nobody knows what was said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sound {
    /// There is enough sound to call it more than noise on the line.
    pub heard: bool,
    /// Time with sound.
    pub sound_ms: u32,
    /// The loudest 10 ms, in dB of full scale.
    pub loudest_db: f32,
    /// Correlation of our own words with the recording, 0 to 1: near 1 at an echo number, near 0 at a good line.
    pub echo: f32,
}

/// Listens for sound of any kind, and for our own words (`own`) in it.
pub fn listen(heard: &Wav, own: Option<&Wav>) -> Sound {
    let heard = heard.resampled(RATE).samples;
    let recording = spectrum::frames(&heard);
    let loud = recording.iter().filter(|frame| frame.level > SILENT + ABOVE_NOISE).count();
    Sound {
        heard: loud >= LEAST_SOUND,
        sound_ms: loud as u32 * FRAME_MS,
        loudest_db: loudest(&recording).max(-100.0),
        echo: own.map_or(0.0, |own| echo(own, &heard)),
    }
}

/// How much of `own` is in what was heard.
fn echo(own: &Wav, heard: &[i16]) -> f32 {
    let own = own.resampled(RATE).samples;
    spectrum::align(&own, heard).map_or(0.0, |found| found.correlation)
}

/// Judges a recording against what the other side said (`said`) and what this side said itself (`own`).
pub fn judge(said: &Wav, heard: &Wav, own: Option<&Wav>) -> Verdict {
    let said = said.resampled(RATE).samples;
    let heard = heard.resampled(RATE).samples;
    let mut verdict = Verdict {
        heard: false,
        fault: None,
        coverage: 0.0,
        similarity: 0.0,
        missing_ms: 0,
        offset_ms: 0.0,
        gain_db: 0.0,
        echo: 0.0,
        track: Vec::new(),
    };
    if let Some(own) = own {
        verdict.echo = echo(own, &heard);
    }
    verdict.fault = compare(&said, &heard, &mut verdict);
    if verdict.echo >= ECHO {
        verdict.fault = Some(Fault::OwnEcho);
    }
    verdict.heard = verdict.fault.is_none();
    verdict
}

/// Fills in the measures; gives the first fault.
fn compare(said: &[i16], heard: &[i16], verdict: &mut Verdict) -> Option<Fault> {
    let mut reference = spectrum::frames(said);
    let recording = spectrum::frames(heard);
    let peak = loudest(&reference);
    let mut active: Vec<bool> =
        reference.iter().map(|f| f.level > peak - ACTIVE_BELOW_PEAK && f.level > SILENT).collect();
    // Silence behind the words, however long, is nothing that a recording has to hold.
    let end = active.iter().rposition(|active| *active).map_or(0, |last| last + 1 + CONTEXT);
    let end = end.min(reference.len());
    reference.truncate(end);
    active.truncate(end);
    let said = &said[..said.len().min((end + CONTEXT) * HOP)];
    let count = active.iter().filter(|active| **active).count();
    if count < LEAST_ACTIVE {
        return Some(Fault::ReferenceTooShort);
    }
    verdict.track = active.iter().map(|active| active.then_some(0.0)).collect();
    if loudest(&recording) < SILENT {
        return Some(Fault::Silence);
    }
    let comparison = Comparison { said: patterns(&reference), heard: patterns(&recording), active: &active };
    let Some(offset) = comparison.place() else {
        return Some(Fault::NotTheSpeech);
    };
    verdict.offset_ms = fine_offset(said, heard, offset);

    let (offsets, wander) = comparison.offsets_by_block(offset);
    let mut similarity: Vec<f32> = (0..reference.len())
        .map(|frame| {
            let near = offsets[frame / BLOCK];
            (near - 1..=near + 1).map(|at| comparison.similarity(frame, frame, at)).fold(-1.0, f32::max)
        })
        .collect();

    let level_at = |frame: usize| {
        let at = frame as i64 + offsets[frame / BLOCK];
        (at - 1..=at + 1)
            .filter_map(|at| recording.get(usize::try_from(at).ok()?))
            .map(|f| f.level)
            .fold(-100.0, f32::max)
    };
    let mut gains: Vec<f32> = (0..reference.len())
        .filter(|frame| active[*frame] && similarity[*frame] >= SIMILAR)
        .map(|frame| level_at(frame) - reference[frame].level)
        .collect();
    gains.sort_by(f32::total_cmp);
    let Some(gain) = gains.get(gains.len() / 2) else {
        return Some(Fault::NotTheSpeech);
    };
    verdict.gain_db = *gain;
    for (frame, similar) in similarity.iter_mut().enumerate() {
        if level_at(frame) < reference[frame].level + gain - DROPPED_BY {
            *similar = similar.min(0.0);
        }
    }

    let missing: Vec<bool> =
        active.iter().zip(&similarity).map(|(active, similar)| *active && *similar < SIMILAR).collect();
    let lost = missing.iter().filter(|missing| **missing).count();
    let most =
        missing.windows(MISSING_WINDOW).map(|w| w.iter().filter(|m| **m).count()).max().unwrap_or(lost);
    verdict.coverage = 1.0 - lost as f32 / count as f32;
    verdict.missing_ms = most as u32 * FRAME_MS;
    verdict.track = active.iter().zip(&similarity).map(|(active, s)| active.then_some(*s)).collect();
    verdict.similarity = verdict.track.iter().flatten().sum::<f32>() / count as f32;

    if verdict.coverage < 0.5 {
        Some(Fault::NotTheSpeech)
    } else if verdict.coverage < COVERAGE || most >= MISSING {
        Some(Fault::Gaps)
    } else if wander > JUMP {
        Some(Fault::TimeJump)
    } else if !GAIN.contains(gain) {
        Some(Fault::Level)
    } else {
        None
    }
}

fn loudest(frames: &[Frame]) -> f32 {
    frames.iter().map(|f| f.level).fold(f32::MIN, f32::max)
}

/// Places the speech to the sample where the waveform survived, else to the frame.
fn fine_offset(said: &[i16], heard: &[i16], offset: i64) -> f32 {
    let coarse = offset * HOP as i64;
    let samples =
        spectrum::align(said, heard).map(|found| found.offset).filter(|at| (at - coarse).abs() <= 320);
    samples.unwrap_or(coarse) as f32 * 1000.0 / RATE as f32
}

type Pattern = [f32; BANDS];

/// Band levels freed of the sound's own colour and level: what remains is the movement that makes words.
fn patterns(frames: &[Frame]) -> Vec<Pattern> {
    let top = frames.iter().flat_map(|f| f.bands).fold(f32::MIN, f32::max);
    let floored = |frame: &Frame| frame.bands.map(|band| band.max(top - RANGE));
    let peak = loudest(frames);
    let mut mean = [0f32; BANDS];
    let mut count = 0;
    for frame in frames.iter().filter(|f| f.level > peak - ACTIVE_BELOW_PEAK) {
        count += 1;
        for (mean, band) in mean.iter_mut().zip(floored(frame)) {
            *mean += band;
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= count.max(1) as f32);
    frames
        .iter()
        .map(|frame| {
            let mut pattern = floored(frame);
            for (value, mean) in pattern.iter_mut().zip(mean) {
                *value = (*value - mean).clamp(-SWING, SWING);
            }
            pattern
        })
        .collect()
}

/// Both sounds as patterns.
struct Comparison<'a> {
    said: Vec<Pattern>,
    heard: Vec<Pattern>,
    active: &'a [bool],
}

impl Comparison<'_> {
    /// Cosine similarity of a stretch of the reference, with its context, to the recording `offset` frames later.
    fn similarity(&self, first: usize, last: usize, offset: i64) -> f32 {
        let (mut dot, mut a, mut b) = (0.0, 0.0, 0.0);
        for frame in first.saturating_sub(CONTEXT)..=(last + CONTEXT).min(self.said.len() - 1) {
            let x = &self.said[frame];
            let y = usize::try_from(frame as i64 + offset).ok().and_then(|at| self.heard.get(at));
            let y = y.unwrap_or(&ABSENT);
            for (x, y) in x.iter().zip(y) {
                dot += x * y;
                a += x * x;
                b += y * y;
            }
        }
        if a * b > 0.0 { dot / (a * b).sqrt() } else { 0.0 }
    }

    /// The offset in frames at which the whole reference fits best; `None` if it fits nowhere.
    fn place(&self) -> Option<i64> {
        let half = self.said.len() as i64 / 2;
        let score = |offset: i64, stride: usize| {
            let (mut dot, mut a, mut b) = (0.0, 0.0, 0.0);
            for frame in (0..self.said.len()).step_by(stride).filter(|frame| self.active[*frame]) {
                let at = usize::try_from(frame as i64 + offset).ok();
                let y = at.and_then(|at| self.heard.get(at)).unwrap_or(&ABSENT);
                for (x, y) in self.said[frame].iter().zip(y) {
                    dot += x * y;
                    a += x * x;
                    b += y * y;
                }
            }
            if a * b > 0.0 { dot / f32::sqrt(a * b) } else { 0.0 }
        };
        let rough = (-half..self.heard.len() as i64 - half)
            .step_by(2)
            .map(|offset| (offset, score(offset, 3)))
            .max_by(|x, y| x.1.total_cmp(&y.1))?
            .0;
        let best = (rough - 2..=rough + 2)
            .map(|offset| (offset, score(offset, 1)))
            .max_by(|x, y| x.1.total_cmp(&y.1))?;
        (best.1 >= PLACED).then_some(best.0)
    }

    /// The best offset of each block near the whole's, and how far apart those of clearly recognised blocks lie.
    fn offsets_by_block(&self, whole: i64) -> (Vec<i64>, i64) {
        let (mut least, mut most) = (whole, whole);
        let offsets = (0..self.said.len())
            .step_by(BLOCK)
            .map(|first| {
                let last = (first + BLOCK).min(self.said.len()) - 1;
                if self.active[first..=last].iter().filter(|active| **active).count() < BLOCK / 4 {
                    return whole;
                }
                let mut best = (whole, self.similarity(first, last, whole));
                for offset in whole - WANDER..=whole + WANDER {
                    let similarity = self.similarity(first, last, offset);
                    // A clearly better fit only: within a steady vowel all offsets look alike.
                    if similarity > best.1 + 0.02 {
                        best = (offset, similarity);
                    }
                }
                if best.1 >= SIMILAR {
                    (least, most) = (least.min(best.0), most.max(best.0));
                }
                best.0
            })
            .collect();
        (offsets, most - least)
    }
}

#[cfg(test)]
mod tests;
