//! What may be wrong with the operator's voice, so that anybody can see the demo notice it.

use crate::simulator::speech;
use crate::simulator::wav::Wav;
use std::f32::consts::TAU;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It says nothing.
    Mute,
    /// A tone in the place of words.
    Tone,
    /// Other words: the caller's own.
    Words,
    /// A third of a second is missing in the middle.
    Cut,
}

impl Fault {
    pub const NAMES: &str = "mute, tone, words or cut";

    /// The operator's speech with the fault.
    pub fn apply(self, speech: &Wav) -> Wav {
        let Wav { rate, samples } = speech.clone();
        let samples = match self {
            Fault::Mute => vec![0; samples.len()],
            Fault::Tone => {
                let sample = |n: usize| (TAU * 440.0 * n as f32 / rate as f32).sin() * 8_000.0;
                (0..samples.len()).map(|n| sample(n) as i16).collect()
            }
            Fault::Words => return speech::caller(),
            Fault::Cut => {
                // The middle of the loudest second is no pause.
                let second = rate as usize;
                let energy =
                    |second: &[i16]| second.iter().map(|s| i64::from(*s) * i64::from(*s)).sum::<i64>();
                let loudest =
                    samples.chunks_exact(second).enumerate().max_by_key(|(_, second)| energy(second));
                let start = loudest.map_or(0, |(n, _)| n * second) + second / 3;
                let mut samples = samples;
                samples[start..start + second / 3].fill(0);
                samples
            }
        };
        Wav { rate, samples }
    }
}

impl FromStr for Fault {
    type Err = String;
    fn from_str(name: &str) -> Result<Fault, String> {
        match name {
            "mute" => Ok(Fault::Mute),
            "tone" => Ok(Fault::Tone),
            "words" => Ok(Fault::Words),
            "cut" => Ok(Fault::Cut),
            _ => Err(format!("write {}", Fault::NAMES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::heard;

    #[test]
    fn no_fault_passes_for_the_speech() {
        let (said, own) = (speech::callee(), speech::caller());
        assert!(heard::judge(&said, &said, Some(&own)).heard);
        for name in ["mute", "tone", "words", "cut"] {
            let wrong = name.parse::<Fault>().unwrap().apply(&said);
            let verdict = heard::judge(&said, &wrong, Some(&own));
            assert!(!verdict.heard, "{name}: {verdict:?}");
        }
        assert!("deaf".parse::<Fault>().unwrap_err().contains("mute"));
    }
}
