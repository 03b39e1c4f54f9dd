//! The recorded voice of the speech line: eight kilohertz, played again and again.

/// A header of 44 bytes, then nothing but samples of two bytes.
const WAV: &[u8] = include_bytes!("../simulator/speech/callee.wav");
const HEADER: usize = 44;

/// Where in the recording the listener is.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    at: usize,
}

impl Recording {
    /// Fills `pcm` with what comes next; behind the end it begins anew.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        let samples = WAV[HEADER..].as_chunks::<2>().0;
        for sample in pcm {
            *sample = i16::from_le_bytes(samples[self.at]);
            self.at = (self.at + 1) % samples.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::speech::recorded;

    #[test]
    fn the_recording_is_the_demos_and_begins_anew_behind_its_end() {
        let [_, callee] = recorded();
        let mut heard = vec![0; callee.len() + 160];
        let mut recording = Recording::default();
        heard.chunks_mut(160).for_each(|frame| recording.fill(frame));
        assert_eq!(heard[..callee.len()], callee);
        assert_eq!(heard[callee.len()..], callee[..160]);
    }
}
