//! What the load says: speech coded once and played by all calls from memory, and what an ideal gateway makes of it.

use crate::media::OpusSettings;
use crate::media::codec::opus::OpusError;
use crate::simulator::voice::Frames;
use crate::simulator::wav::Wav;
use crate::types::AudioCodec;
use std::sync::Arc;

/// Milliseconds of speech in a packet.
pub const FRAME_MS: u8 = 20;
/// The rate at which both directions are compared: a call through the telephone network holds no more.
pub const RATE: u32 = 8_000;
/// Samples of a frame at [`RATE`].
pub const FRAME: usize = RATE as usize / 1000 * FRAME_MS as usize;

/// Coded speech that goes round and round.
#[derive(Debug, Clone)]
pub struct Tape {
    pub frames: Arc<Frames>,
    /// What the frames decode to at [`RATE`].
    sound: Vec<i16>,
}

impl Tape {
    /// Codes a speech. Opus sends every frame also in pauses, so that a call costs the same at any moment.
    ///
    /// # Errors
    /// Those of libopus.
    pub fn record(speech: &Wav, codec: AudioCodec) -> Result<Tape, OpusError> {
        let frames = Frames::encode(speech, codec, FRAME_MS, OpusSettings::default())?;
        let sound = frames.sound().resampled(RATE).samples;
        Ok(Tape { frames: Arc::new(frames), sound })
    }

    /// What is said from sample `from` of a call on; silence before its beginning.
    pub fn sound(&self, from: i64, len: usize) -> Vec<i16> {
        let at = |position: i64| match usize::try_from(position) {
            Ok(position) if !self.sound.is_empty() => self.sound[position % self.sound.len()],
            Ok(_) | Err(_) => 0,
        };
        (from..from + len as i64).map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::{align, speech};

    #[test]
    fn tapes_sound_like_the_speech_and_go_round_in_whole_frames() {
        // The encoder's look-ahead, 6.5 ms.
        for (codec, delay) in [(AudioCodec::Pcma, 0..=0), (AudioCodec::Opus, 48..=56)] {
            let speech = speech::caller();
            let tape = Tape::record(&speech, codec).unwrap();
            assert_eq!(tape.sound.len(), speech.samples.len() / FRAME * FRAME);
            let found = align(&speech.samples[8_000..24_000], &tape.sound(8_000, 24_000)).unwrap();
            assert!(found.correlation > 0.7 && delay.contains(&found.offset), "{codec}: {found:?}");
            let end = tape.sound.len() as i64;
            assert_eq!(tape.sound(end - 2, 4), [tape.sound(end - 2, 2), tape.sound(0, 2)].concat());
            assert_eq!(tape.sound(-3, 3), [0; 3]);
        }
    }
}
