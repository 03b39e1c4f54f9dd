//! Fourier transform, band energies and cross-correlation: the arithmetic under the heard-speech check.

use std::f32::consts::PI;

/// Everything is judged at the telephone's rate.
pub const RATE: u32 = 8_000;
/// 10 ms between frames.
pub const HOP: usize = 80;
/// 32 ms under each frame's window.
const WINDOW: usize = 256;
/// Bands between 200 and 3400 Hz, equal on the mel scale.
pub const BANDS: usize = 16;

/// What one frame sounds like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// dB relative to full scale.
    pub level: f32,
    /// dB per band.
    pub bands: [f32; BANDS],
}

/// Cuts 8 kHz samples into frames 10 ms apart.
pub fn frames(samples: &[i16]) -> Vec<Frame> {
    let window: Vec<f32> =
        (0..WINDOW).map(|n| 0.5 - 0.5 * (2.0 * PI * n as f32 / WINDOW as f32).cos()).collect();
    let edges = band_edges();
    let turns = turns(WINDOW);
    let mut re = [0f32; WINDOW];
    let mut im = [0f32; WINDOW];
    (0..samples.len().saturating_sub(WINDOW) / HOP + 1)
        .take_while(|frame| frame * HOP + WINDOW <= samples.len())
        .map(|frame| {
            let at = frame * HOP;
            let mut previous = if at == 0 { 0.0 } else { f32::from(samples[at - 1]) };
            let mut energy = 0.0;
            for n in 0..WINDOW {
                let sample = f32::from(samples[at + n]);
                // Pre-emphasis: consonants count as much as vowels.
                re[n] = (sample - 0.9 * previous) / 32_768.0 * window[n];
                im[n] = 0.0;
                previous = sample;
                energy += (sample / 32_768.0 * window[n]).powi(2);
            }
            fft(&mut re, &mut im, &turns);
            let mut bands = [0f32; BANDS];
            for (band, edge) in bands.iter_mut().zip(edges.windows(2)) {
                let power: f32 = (edge[0]..edge[1]).map(|bin| re[bin] * re[bin] + im[bin] * im[bin]).sum();
                *band = decibel(power / (edge[1] - edge[0]) as f32 / WINDOW as f32);
            }
            Frame { level: decibel(energy / WINDOW as f32 * 8.0 / 3.0), bands }
        })
        .collect()
}

fn decibel(power: f32) -> f32 {
    10.0 * (power + 1e-10).log10()
}

fn band_edges() -> [usize; BANDS + 1] {
    let mel = |hz: f32| 2595.0 * (1.0 + hz / 700.0).log10();
    let hz = |mel: f32| 700.0 * (10f32.powf(mel / 2595.0) - 1.0);
    let (low, high) = (mel(200.0), mel(3_400.0));
    let mut edges = [0; BANDS + 1];
    for (n, edge) in edges.iter_mut().enumerate() {
        let at = low + (high - low) * n as f32 / BANDS as f32;
        *edge = (hz(at) / RATE as f32 * WINDOW as f32).round() as usize;
    }
    for n in 1..edges.len() {
        edges[n] = edges[n].max(edges[n - 1] + 1);
    }
    edges
}

/// In-place transform of a power-of-two length, with the [`turns`] of that length.
fn fft(re: &mut [f32], im: &mut [f32], turns: &[(f32, f32)]) {
    let n = re.len();
    let mut j = 0;
    for i in 1..n {
        let mut bit = n >> 1;
        while j & bit != 0 {
            j ^= bit;
            bit >>= 1;
        }
        j |= bit;
        if i < j {
            re.swap(i, j);
            im.swap(i, j);
        }
    }
    let mut len = 2;
    while len <= n {
        let half = len / 2;
        let stride = n / len;
        for start in (0..n).step_by(len) {
            for k in 0..half {
                let (cos, sin) = turns[k * stride];
                let (a, b) = (start + k, start + k + half);
                let (x, y) = (re[b] * cos - im[b] * sin, re[b] * sin + im[b] * cos);
                (re[b], im[b]) = (re[a] - x, im[a] - y);
                (re[a], im[a]) = (re[a] + x, im[a] + y);
            }
        }
        len <<= 1;
    }
}

/// Cosine and sine of every `n`th part of a half turn backwards.
fn turns(n: usize) -> Vec<(f32, f32)> {
    (0..n / 2)
        .map(|k| {
            let (sin, cos) = (-2.0 * std::f64::consts::PI * k as f64 / n as f64).sin_cos();
            (cos as f32, sin as f32)
        })
        .collect()
}

/// Where one sound lies in another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {
    /// How many samples later it begins there; negative if its beginning is missing there.
    pub offset: i64,
    /// Share of the louder sound that is this one, 0 to 1.
    pub correlation: f32,
}

/// Cross-correlates waveforms over all offsets. `None` where either is silent.
pub fn align(needle: &[i16], hay: &[i16]) -> Option<Alignment> {
    let size = (needle.len() + hay.len()).next_power_of_two().max(2);
    let load = |samples: &[i16]| {
        let mut re = vec![0f32; size];
        let mut previous = 0.0;
        for (out, sample) in re.iter_mut().zip(samples) {
            let sample = f32::from(*sample) / 32_768.0;
            *out = sample - 0.9 * previous;
            previous = sample;
        }
        let energy: f64 = re.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
        (re, energy)
    };
    let (mut a, energy_a) = load(needle);
    let (mut b, energy_b) = load(hay);
    if energy_a < 1e-6 || energy_b < 1e-6 {
        return None;
    }
    let turns = turns(size);
    let (mut ai, mut bi) = (vec![0f32; size], vec![0f32; size]);
    fft(&mut a, &mut ai, &turns);
    fft(&mut b, &mut bi, &turns);
    // conj(A)·B, and the inverse transform by swapping the parts.
    let mut re: Vec<f32> = (0..size).map(|n| a[n] * b[n] + ai[n] * bi[n]).collect();
    let mut im: Vec<f32> = (0..size).map(|n| a[n] * bi[n] - ai[n] * b[n]).collect();
    fft(&mut im, &mut re, &turns);
    let (at, peak) = re.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1))?;
    let offset = if at < hay.len() { at as i64 } else { at as i64 - size as i64 };
    let correlation = f64::from(*peak) / size as f64 / (energy_a * energy_b).sqrt();
    Some(Alignment { offset, correlation: correlation.clamp(0.0, 1.0) as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, mut seed: u32) -> Vec<i16> {
        (0..count)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((seed >> 16) as i16) / 8
            })
            .collect()
    }

    #[test]
    fn a_shifted_sound_is_found_to_the_sample() {
        let sound = noise(4_000, 1);
        for shift in [0usize, 1, 777, 12_345] {
            let mut hay = vec![0; shift];
            hay.extend(&sound);
            hay.extend(vec![0; 500]);
            let found = align(&sound, &hay).unwrap();
            assert_eq!(found.offset, shift as i64);
            assert!(found.correlation > 0.99);
        }
        let late = align(&sound, &sound[300..]).unwrap();
        assert_eq!(late.offset, -300);
    }

    #[test]
    fn other_sounds_do_not_correlate_and_silence_has_no_place() {
        assert!(align(&noise(8_000, 1), &noise(8_000, 2)).unwrap().correlation < 0.1);
        assert_eq!(align(&noise(100, 1), &[0; 100]), None);
        assert_eq!(align(&[], &[]), None);
    }

    #[test]
    fn a_tone_lies_in_its_band_at_its_level() {
        let tone: Vec<i16> =
            (0..8_000).map(|n| ((2.0 * PI * 1_000.0 * n as f32 / 8_000.0).sin() * 32_767.0) as i16).collect();
        let frame = frames(&tone)[10];
        assert!((frame.level + 3.0).abs() < 0.2, "a full-scale sine is at -3 dB: {}", frame.level);
        let loudest = (0..BANDS).max_by(|a, b| frame.bands[*a].total_cmp(&frame.bands[*b])).unwrap();
        let edges = band_edges();
        assert!((edges[loudest]..edges[loudest + 1]).contains(&32), "{edges:?} {loudest}");
    }
}
