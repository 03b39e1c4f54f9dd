//! Comfort noise (RFC 3389): the level and the colour of a silence in a few bytes, taken from it and made of it.

/// At 8 kHz the payload type is static (RFC 3389 §4).
pub const PAYLOAD_TYPE: u8 = 13;
/// Reflection coefficients we state: six describe a room well enough, and the far side may use fewer.
const ORDER: usize = 6;
/// The most that are understood.
const MAX_ORDER: usize = 12;
/// Longest payload we write.
pub const PAYLOAD: usize = 1 + ORDER;
/// Silences change slowly: each frame counts for a quarter.
const EASE: f32 = 0.25;
/// A coefficient of one would ring for ever.
const MOST: f32 = 0.98;
/// A byte step of a coefficient (RFC 3389 §3.1): 127 is zero. The ITU's sign: a rumble has a negative first one.
const STEP: f32 = 127.0;
/// Levels below this are silence on every line, and levels above are no background; dBov.
const FAINTEST: f32 = -78.0;
const LOUDEST: f32 = -36.0;

/// Describes a silence.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoiseEstimator {
    /// Smoothed autocorrelation of the silence so far, per sample; the first is its power.
    correlation: [f32; ORDER + 1],
    known: bool,
}

impl NoiseEstimator {
    /// Notes a frame in which nobody speaks.
    pub fn note(&mut self, pcm: &[i16]) {
        let mut correlation = [0.0; ORDER + 1];
        for (lag, sum) in correlation.iter_mut().enumerate() {
            let pairs = pcm.iter().skip(lag).zip(pcm);
            *sum = pairs.map(|(now, before)| f32::from(*now) * f32::from(*before)).sum::<f32>()
                / pcm.len().max(1) as f32;
        }
        let ease = if self.known { EASE } else { 1.0 };
        for (smooth, fresh) in self.correlation.iter_mut().zip(correlation) {
            *smooth += (fresh - *smooth) * ease;
        }
        self.known = true;
    }

    /// The silence as RFC 3389 §3 writes it.
    pub fn payload(&self) -> [u8; PAYLOAD] {
        let mut payload = [0; PAYLOAD];
        let dbov = 10.0 * (self.correlation[0].max(1e-3) / (32_768.0 * 32_768.0)).log10();
        payload[0] = (-dbov).round().clamp(0.0, 127.0) as u8;
        for (byte, coefficient) in payload[1..].iter_mut().zip(self.reflection()) {
            *byte = (STEP - coefficient * STEP).round() as u8;
        }
        payload
    }

    /// Levinson and Durbin's recursion.
    fn reflection(&self) -> [f32; ORDER] {
        let mut reflection = [0.0; ORDER];
        // A floor of noise 40 dB below keeps the recursion stable.
        let power = self.correlation[0] * 1.0001 + 1e-3;
        let (mut error, mut predictor) = (power, [0.0f32; ORDER]);
        for order in 0..ORDER {
            let predicted: f32 = predictor[..order]
                .iter()
                .zip(self.correlation[1..=order].iter().rev())
                .map(|(a, r)| a * r)
                .sum();
            let k = ((self.correlation[order + 1] - predicted) / error).clamp(-MOST, MOST);
            let before = predictor;
            for (index, a) in predictor[..order].iter_mut().enumerate() {
                *a -= k * before[order - 1 - index];
            }
            predictor[order] = k;
            error *= 1.0 - k * k;
            reflection[order] = k;
        }
        reflection
    }
}

/// Makes a silence from its description.
#[derive(Debug, Clone)]
pub struct NoiseGenerator {
    reflection: [f32; MAX_ORDER],
    order: usize,
    /// Where the lattice stands, and the present and the wanted strength of what is put into it.
    state: [f32; MAX_ORDER],
    strength: f32,
    wanted: f32,
    /// No sample is beyond this, whatever the filter was before.
    peak: f32,
    random: u32,
}

impl Default for NoiseGenerator {
    fn default() -> NoiseGenerator {
        NoiseGenerator {
            reflection: [0.0; MAX_ORDER],
            order: 0,
            state: [0.0; MAX_ORDER],
            strength: 0.0,
            wanted: 0.0,
            peak: 0.0,
            random: 0x2545_f491,
        }
    }
}

impl NoiseGenerator {
    /// Follows a description. An empty one says nothing; a coefficient that would ring is held back.
    pub fn describe(&mut self, payload: &[u8]) {
        let Some((level, coefficients)) = payload.split_first() else { return };
        let dbov = -f32::from(level & 0x7f);
        let rms = if dbov < FAINTEST { 0.0 } else { 32_768.0 * 10f32.powf(dbov.min(LOUDEST) / 20.0) };
        self.order = coefficients.len().min(MAX_ORDER);
        let mut passed = 1.0;
        for (k, byte) in self.reflection.iter_mut().zip(coefficients) {
            *k = ((STEP - f32::from(*byte)) / STEP).clamp(-MOST, MOST);
            passed *= 1.0 - *k * *k;
        }
        // The filter makes its input stronger by what it predicts; even noise from −1 to 1 has a third of its power.
        self.wanted = rms * (3.0 * passed).sqrt();
        self.peak = 6.0 * rms;
    }

    /// Fills `pcm` with what comes next; a change of level takes 10 ms, so that nothing clicks.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        for sample in pcm {
            self.strength += (self.wanted - self.strength) / 80.0;
            *sample = self.next() as i16;
        }
    }

    fn next(&mut self) -> f32 {
        // Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let even = f64::from(self.random) / f64::from(u32::MAX) * 2.0 - 1.0;
        let mut forward = even as f32 * self.strength;
        for index in (0..self.order).rev() {
            let k = self.reflection[index];
            forward += k * self.state[index];
            if index + 1 < self.order {
                self.state[index + 1] = self.state[index] - k * forward;
            }
        }
        forward = forward.clamp(-self.peak, self.peak);
        if self.order > 0 {
            self.state[0] = forward;
        }
        forward
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::background::mean_square;

    fn level(pcm: &[i16]) -> f32 {
        10.0 * (mean_square(pcm) as f32 / (32_768.0 * 32_768.0)).log10()
    }

    /// Noise through one pole: 0 is white, near 1 is a rumble.
    fn noise(pole: f32, rms: f32, len: usize) -> Vec<i16> {
        let (mut random, mut last) = (77u32, 0.0f32);
        let strength = rms * (3.0 * (1.0 - pole * pole)).sqrt();
        (0..len)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                let even = (f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0) as f32;
                last = pole * last + even * strength;
                last as i16
            })
            .collect()
    }

    /// How alike neighbouring samples are, −1 to 1: the colour in one number.
    fn colour(pcm: &[i16]) -> f32 {
        let (mut product, mut energy) = (0.0, 1.0);
        for pair in pcm.windows(2) {
            product += f32::from(pair[0]) * f32::from(pair[1]);
            energy += f32::from(pair[0]) * f32::from(pair[0]);
        }
        product / energy
    }

    #[test]
    fn a_silence_is_made_again_with_its_level_and_colour() {
        for (pole, rms) in [(0.0, 40.0), (0.5, 60.0), (0.9, 100.0), (-0.6, 50.0)] {
            let silence = noise(pole, rms, 16_000);
            let mut estimator = NoiseEstimator::default();
            silence.chunks(160).for_each(|frame| estimator.note(frame));
            let mut generator = NoiseGenerator::default();
            generator.describe(&estimator.payload());
            let mut made = vec![0; 16_000];
            generator.fill(&mut made);
            let (wanted, got) = (level(&silence), level(&made[800..]));
            assert!((wanted - got).abs() < 1.5, "pole {pole}: {got} dBov for {wanted}");
            let (wanted, got) = (colour(&silence), colour(&made[800..]));
            assert!((wanted - got).abs() < 0.1, "pole {pole}: {got} for {wanted}");
        }
    }

    #[test]
    fn the_payload_is_that_of_rfc_3389() {
        let mut estimator = NoiseEstimator::default();
        // White noise of 32.768, 60 dB below the overload point.
        noise(0.0, 32.768, 80_000).chunks(160).for_each(|frame| estimator.note(frame));
        let payload = estimator.payload();
        assert!((59..=61).contains(&payload[0]), "{payload:?}");
        assert!(payload[1..].iter().all(|byte| (97..=157).contains(byte)), "white: {payload:?}");
        assert_eq!(NoiseEstimator::default().payload()[0], 120, "digital silence is as faint as it gets");
    }

    #[test]
    fn a_change_of_level_does_not_click_and_whatever_comes_stays_bounded() {
        let mut generator = NoiseGenerator::default();
        generator.describe(&[40]);
        let mut pcm = [0; 160];
        generator.fill(&mut pcm);
        assert!(pcm[..8].iter().all(|sample| sample.abs() < 80), "{:?}", &pcm[..8]);
        for byte in 0..=255u8 {
            generator.describe(&[byte; 40]);
            let mut pcm = [0; 800];
            generator.fill(&mut pcm);
            assert!(pcm.iter().all(|sample| sample.unsigned_abs() < 20_000), "{byte}");
        }
        generator.describe(&[]);
        generator.describe(&[127]);
        let mut pcm = [0; 1_600];
        generator.fill(&mut pcm);
        assert!(pcm[1_200..].iter().all(|sample| *sample == 0), "the faintest is silence");
    }
}
