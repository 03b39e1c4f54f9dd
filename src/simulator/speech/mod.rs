//! The demo's speech: two voices saying different sentences, recorded with espeak-ng (see `make` beside this file).

use super::wav::Wav;

const CALLER: &[u8] = include_bytes!("caller.wav");
const CALLEE: &[u8] = include_bytes!("callee.wav");

/// What the app user says: a female American voice, 8 kHz, about 9 s.
pub fn caller() -> Wav {
    Wav::parse(CALLER).unwrap_or_default()
}

/// What the called telephone says: a male British voice, 8 kHz, about 9 s.
pub fn callee() -> Wav {
    Wav::parse(CALLEE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_voices_are_there_and_stay_small() {
        for wav in [caller(), callee()] {
            assert_eq!(wav.rate, 8_000);
            assert!((6.0..12.0).contains(&wav.seconds()), "{}", wav.seconds());
        }
        assert!(CALLER.len() + CALLEE.len() <= 300_000);
    }
}
