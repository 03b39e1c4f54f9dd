//! How loud a sound is, and whether it is more than the background behind it.

/// Mean of the squares.
#[inline]
pub fn mean_square(pcm: &[i16]) -> i64 {
    let sum: i64 = pcm.iter().map(|sample| i64::from(i32::from(*sample) * i32::from(*sample))).sum();
    sum / pcm.len().max(1) as i64
}

/// The level of what is behind a voice: it falls at once and rises slowly.
#[derive(Debug, Clone, Copy)]
pub struct Background {
    floor: f32,
}

/// The floor rises by 0.9 dB a second of 20 ms frames, far slower than a voice does.
const RISE: f32 = 1.004;
/// A frame up to 6 dB above the floor is background.
const MARGIN: f32 = 4.0;
/// Mean square of what is silence on any line: −66 dBm0.
const SILENCE: f32 = 64.0;

impl Default for Background {
    fn default() -> Background {
        Background { floor: f32::MAX / 8.0 }
    }
}

impl Background {
    /// Notes a frame; true if nobody speaks in it.
    #[inline]
    pub fn is_all_of(&mut self, pcm: &[i16]) -> bool {
        let power = mean_square(pcm) as f32;
        self.floor = (self.floor * RISE).min(power);
        power <= self.floor * MARGIN + SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::speech::speech;

    #[test]
    fn a_voice_stands_out_from_its_background_whatever_its_level() {
        for level in [0i32, 30, 300] {
            let noise =
                |n: usize| (n as u32).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
            let hiss = |n: usize| ((noise(n) >> 16) as i32 - 32_768) * level / 32_768;
            let mut background = Background::default();
            let mut spoken = [0u32; 2];
            for frame in 0..200usize {
                // Half a second each; the voice of the tests pauses too.
                let speaks = frame / 25 % 2 == 1;
                let voice = speech(frame * 160, 160);
                let frame: Vec<i16> = (0..160)
                    .map(|n| (hiss(frame * 160 + n) + if speaks { i32::from(voice[n]) } else { 0 }) as i16)
                    .collect();
                spoken[usize::from(speaks)] += u32::from(!background.is_all_of(&frame));
            }
            assert_eq!(spoken[0], 0, "noise of {level} alone");
            assert!(spoken[1] > 70, "noise of {level}: {} of 100", spoken[1]);
        }
    }
}
