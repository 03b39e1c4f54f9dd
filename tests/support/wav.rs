//! WAV files, read and written just as far as the tests need: 16-bit PCM.

use std::path::Path;

/// A recording: its samples, of all channels in turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Wav {
    pub rate: u32,
    pub channels: u16,
    pub samples: Vec<i16>,
}

impl Wav {
    #[track_caller]
    pub fn read(file: &Path) -> Wav {
        let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Wav::parse(&bytes).unwrap_or_else(|| panic!("{} is no WAV of 16-bit PCM", file.display()))
    }

    fn parse(bytes: &[u8]) -> Option<Wav> {
        if bytes.get(..4)? != b"RIFF" || bytes.get(8..12)? != b"WAVE" {
            return None;
        }
        let (mut rate, mut channels) = (0, 0);
        let mut rest = bytes.get(12..)?;
        loop {
            let length = u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?) as usize;
            // A recorder that was killed did not write the final length: take what is there.
            let body = &rest[8..rest.len().min(8 + length)];
            match rest.get(..4)? {
                b"fmt " => {
                    channels = u16::from_le_bytes(body.get(2..4)?.try_into().ok()?);
                    rate = u32::from_le_bytes(body.get(4..8)?.try_into().ok()?);
                    if body.get(14..16)? != 16u16.to_le_bytes() {
                        return None;
                    }
                }
                b"data" => {
                    let samples =
                        body.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
                    return Some(Wav { rate, channels, samples });
                }
                _ => {}
            }
            rest = rest.get(8 + length.next_multiple_of(2)..)?;
        }
    }

    pub fn write(&self, file: &Path) {
        let data = self.samples.len() as u32 * 2;
        let frame = self.channels * 2;
        let mut bytes = Vec::with_capacity(44 + data as usize);
        bytes.extend_from_slice(b"RIFF");
        bytes.extend_from_slice(&(36 + data).to_le_bytes());
        bytes.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0");
        bytes.extend_from_slice(&self.channels.to_le_bytes());
        bytes.extend_from_slice(&self.rate.to_le_bytes());
        bytes.extend_from_slice(&(self.rate * u32::from(frame)).to_le_bytes());
        bytes.extend_from_slice(&frame.to_le_bytes());
        bytes.extend_from_slice(b"\x10\0data");
        bytes.extend_from_slice(&data.to_le_bytes());
        bytes.extend(self.samples.iter().flat_map(|sample| sample.to_le_bytes()));
        std::fs::write(file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Seconds of sound.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.channels.max(1)) / f64::from(self.rate.max(1))
    }

    /// The loudest sample, 0 to 1.
    pub fn peak(&self) -> f64 {
        self.samples.iter().map(|sample| f64::from(*sample).abs() / 32_768.0).fold(0.0, f64::max)
    }

    /// Strength of `frequency` in the whole recording, as the amplitude of that tone (Goertzel), 0 to 1.
    pub fn tone(&self, frequency: f64) -> f64 {
        let mono: Vec<f64> = self
            .samples
            .chunks_exact(usize::from(self.channels.max(1)))
            .map(|frame| frame.iter().map(|sample| f64::from(*sample)).sum::<f64>() / frame.len() as f64)
            .collect();
        let step = 2.0 * std::f64::consts::PI * frequency / f64::from(self.rate);
        let (mut real, mut imaginary) = (0.0, 0.0);
        for (index, sample) in mono.iter().enumerate() {
            real += sample * (step * index as f64).cos();
            imaginary += sample * (step * index as f64).sin();
        }
        (real * real + imaginary * imaginary).sqrt() * 2.0 / mono.len().max(1) as f64 / 32_768.0
    }
}
