//! Speech as 16-bit samples: WAV files read and written, and resampled between 8, 16 and 48 kHz.

use std::{f32::consts::PI, fs, path::Path};

/// One channel of 16-bit samples.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wav {
    /// Samples per second.
    pub rate: u32,
    pub samples: Vec<i16>,
}

/// Why a file is not usable speech.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    #[error("not a RIFF WAVE file")]
    NotWave,
    #[error("the file ends inside its header")]
    Truncated,
    #[error("format {format} with {bits} bits: only 16-bit PCM is read")]
    Format { format: u16, bits: u16 },
    #[error("{0} channels at {1} Hz: 1 or 2 channels at 8000 to 48000 Hz are read")]
    Layout(u16, u32),
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
}

impl Wav {
    /// Reads a RIFF file of 16-bit PCM. Two channels become their mean.
    pub fn parse(bytes: &[u8]) -> Result<Wav, WavError> {
        if bytes.len() < 12 || &bytes[..4] != b"RIFF" || &bytes[8..12] != b"WAVE" {
            return Err(WavError::NotWave);
        }
        let mut rest = &bytes[12..];
        let mut layout = None;
        while rest.len() >= 8 {
            let name = &rest[..4];
            let len = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
            let body = &rest[8..];
            if name == b"fmt " {
                if body.len() < 16 {
                    return Err(WavError::Truncated);
                }
                let word = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
                let rate = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
                // 0xFFFE is WAVE_FORMAT_EXTENSIBLE, whose first sub-format word is the real one.
                let format = if word(0) == 0xFFFE && body.len() >= 26 { word(24) } else { word(0) };
                let (channels, bits) = (word(2), word(14));
                if format != 1 || bits != 16 {
                    return Err(WavError::Format { format, bits });
                }
                if !(1..=2).contains(&channels) || !(8_000..=48_000).contains(&rate) {
                    return Err(WavError::Layout(channels, rate));
                }
                layout = Some((rate, usize::from(channels)));
            } else if name == b"data" {
                let (rate, channels) = layout.ok_or(WavError::NotWave)?;
                // A recorder that was killed leaves a length of 0 or -1: what is there counts.
                let len = if len == 0 || len > body.len() { body.len() } else { len };
                let samples = body[..len]
                    .chunks_exact(2 * channels)
                    .map(|frame| {
                        let sum: i32 =
                            frame.chunks_exact(2).map(|s| i32::from(i16::from_le_bytes([s[0], s[1]]))).sum();
                        (sum / channels as i32) as i16
                    })
                    .collect();
                return Ok(Wav { rate, samples });
            }
            rest = body.get(len + (len & 1)..).unwrap_or_default();
        }
        Err(WavError::Truncated)
    }

    /// The file's bytes: 16-bit PCM, one channel.
    pub fn to_bytes(&self) -> Vec<u8> {
        let data = self.samples.len() as u32 * 2;
        let mut bytes = Vec::with_capacity(44 + data as usize);
        bytes.extend_from_slice(b"RIFF");
        bytes.extend_from_slice(&(36 + data).to_le_bytes());
        bytes.extend_from_slice(b"WAVEfmt ");
        bytes.extend_from_slice(&16u32.to_le_bytes());
        bytes.extend_from_slice(&1u16.to_le_bytes());
        bytes.extend_from_slice(&1u16.to_le_bytes());
        bytes.extend_from_slice(&self.rate.to_le_bytes());
        bytes.extend_from_slice(&(self.rate * 2).to_le_bytes());
        bytes.extend_from_slice(&2u16.to_le_bytes());
        bytes.extend_from_slice(&16u16.to_le_bytes());
        bytes.extend_from_slice(b"data");
        bytes.extend_from_slice(&data.to_le_bytes());
        bytes.extend(self.samples.iter().flat_map(|sample| sample.to_le_bytes()));
        bytes
    }

    pub fn read(path: &Path) -> Result<Wav, WavError> {
        let bytes =
            fs::read(path).map_err(|error| WavError::File { path: path.display().to_string(), error })?;
        Wav::parse(&bytes)
    }

    pub fn write(&self, path: &Path) -> Result<(), WavError> {
        fs::write(path, self.to_bytes())
            .map_err(|error| WavError::File { path: path.display().to_string(), error })
    }

    pub fn seconds(&self) -> f32 {
        self.samples.len() as f32 / self.rate.max(1) as f32
    }

    /// The same sound at another rate.
    pub fn resampled(&self, rate: u32) -> Wav {
        Wav { rate, samples: resample(&self.samples, self.rate, rate) }
    }
}

/// Half the width of the resampling filter, in periods of the lower rate: 60 dB against aliases.
const HALF_WIDTH: f32 = 16.0;

/// Converts between rates by a windowed sinc (Blackman), cut at 0.46 of the lower rate.
pub fn resample(samples: &[i16], from: u32, to: u32) -> Vec<i16> {
    if from == to || from == 0 || to == 0 {
        return samples.to_vec();
    }
    let divisor = gcd(from, to);
    let (up, down) = (to / divisor, from / divisor);
    let scale = (to as f32 / from as f32).min(1.0);
    let reach = (HALF_WIDTH / scale).ceil() as i64;
    // One set of taps per phase of the output between two inputs.
    let phases: Vec<Vec<f32>> = (0..up)
        .map(|phase| {
            let fraction = phase as f32 / up as f32;
            let mut taps: Vec<f32> =
                (-reach + 1..=reach).map(|tap| kernel((tap as f32 - fraction) * scale)).collect();
            let sum: f32 = taps.iter().sum();
            taps.iter_mut().for_each(|tap| *tap /= sum);
            taps
        })
        .collect();
    let count = (samples.len() as u64 * u64::from(up)).div_ceil(u64::from(down));
    (0..count)
        .map(|n| {
            let position = n * u64::from(down);
            let base = (position / u64::from(up)) as i64;
            let taps = &phases[(position % u64::from(up)) as usize];
            let mut sum = 0.0;
            for (tap, weight) in taps.iter().enumerate() {
                let at = base - reach + 1 + tap as i64;
                if let Some(sample) = usize::try_from(at).ok().and_then(|at| samples.get(at)) {
                    sum += weight * f32::from(*sample);
                }
            }
            sum.round().clamp(-32768.0, 32767.0) as i16
        })
        .collect()
}

fn kernel(x: f32) -> f32 {
    if x.abs() >= HALF_WIDTH {
        return 0.0;
    }
    const CUT: f32 = 0.92;
    let sinc = if x == 0.0 { CUT } else { (PI * CUT * x).sin() / (PI * x) };
    let turn = PI * x / HALF_WIDTH;
    sinc * (0.42 + 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: u32, hz: f32, seconds: f32) -> Vec<i16> {
        let count = (rate as f32 * seconds) as usize;
        (0..count).map(|n| ((2.0 * PI * hz * n as f32 / rate as f32).sin() * 10_000.0) as i16).collect()
    }

    fn rms(samples: &[i16]) -> f32 {
        let sum: f64 = samples.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
        (sum / samples.len().max(1) as f64).sqrt() as f32
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        for rate in [8_000, 16_000, 48_000] {
            let wav = Wav { rate, samples: sine(rate, 440.0, 0.1) };
            assert_eq!(Wav::parse(&wav.to_bytes()).unwrap(), wav);
        }
    }

    #[test]
    fn two_channels_become_their_mean_and_unknown_chunks_are_passed_over() {
        let mut bytes = Wav { rate: 48_000, samples: vec![100, 300, -100, -300] }.to_bytes();
        bytes[22] = 2;
        let extra = [b"LIST".as_slice(), &3u32.to_le_bytes(), b"abc\0"].concat();
        bytes.splice(12..12, extra);
        assert_eq!(Wav::parse(&bytes).unwrap().samples, [200, -200]);
    }

    #[test]
    fn what_is_no_speech_file_is_refused() {
        let good = Wav { rate: 8_000, samples: vec![1; 10] }.to_bytes();
        assert!(matches!(Wav::parse(b"hello"), Err(WavError::NotWave)));
        assert!(matches!(Wav::parse(&good[..30]), Err(WavError::Truncated)));
        let alter = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Wav::parse(&bytes)
        };
        assert!(matches!(alter(20, 6), Err(WavError::Format { format: 6, bits: 16 })));
        assert!(matches!(alter(34, 8), Err(WavError::Format { format: 1, bits: 8 })));
        assert!(matches!(alter(22, 6), Err(WavError::Layout(6, 8_000))));
        for cut in 0..good.len() {
            let _ = Wav::parse(&good[..cut]);
        }
        assert_eq!(Wav::parse(&good[..50]).unwrap().samples.len(), 3, "an unfinished file gives what it has");
    }

    #[test]
    fn a_voice_keeps_its_level_and_length_through_every_rate() {
        for (from, to) in
            [(8_000, 48_000), (48_000, 8_000), (16_000, 8_000), (8_000, 16_000), (44_100, 8_000)]
        {
            let out = resample(&sine(from, 1_000.0, 0.5), from, to);
            assert!(out.len().abs_diff(to as usize / 2) <= 1, "{from} {to} {}", out.len());
            let expected = sine(to, 1_000.0, 0.5);
            let middle = out.len() / 4..out.len() * 3 / 4;
            let error: Vec<i16> = middle.clone().map(|n| out[n].saturating_sub(expected[n])).collect();
            assert!(rms(&error) < 30.0, "{from} to {to}: {}", rms(&error));
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_removed() {
        let out = resample(&sine(48_000, 6_000.0, 0.5), 48_000, 8_000);
        assert!(rms(&out[400..3_600]) < 20.0, "{}", rms(&out[400..3_600]));
    }
}
