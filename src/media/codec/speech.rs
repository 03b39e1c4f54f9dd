//! Speech for tests: syllables of a voice whose pitch moves, which codecs take for speech, and the recorded sentences.

/// `len` samples at 8 kHz from sample `from` on.
pub fn speech(from: usize, len: usize) -> Vec<i16> {
    (from..from + len).map(sample).collect()
}

/// What caller and callee of the demo say, at 8 kHz.
pub fn recorded() -> [Vec<i16>; 2] {
    let files: [&[u8]; 2] = [
        include_bytes!("../../simulator/speech/caller.wav"),
        include_bytes!("../../simulator/speech/callee.wav"),
    ];
    // A header of 44 bytes, then nothing but samples.
    files.map(|wav| wav[44..].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
}

fn sample(n: usize) -> i16 {
    let t = n as f32 / 8000.0;
    let tau = std::f32::consts::TAU;
    // Four syllables a second, each with its own rise and fall, a pause after every fifth.
    let syllable = (t * 4.0) as usize;
    let envelope = if syllable % 6 == 5 { 0.0 } else { (t * 4.0 * tau / 2.0).sin().abs().powf(0.7) };
    let vowel = [(700.0, 1200.0), (300.0, 2300.0), (500.0, 900.0), (400.0, 2000.0)][syllable % 4];
    // A pitch that glides: the phase is its integral.
    let phase = tau * (130.0 * t + 8.0 * (t * tau * 0.8).sin() / (tau * 0.8));
    let voice: f32 = (1..=24)
        .map(|harmonic| {
            let hertz = 130.0 * harmonic as f32;
            let near = |formant: f32| (-((hertz - formant) / 180.0).powi(2)).exp();
            (phase * harmonic as f32).sin() * (0.05 + near(vowel.0) + 0.6 * near(vowel.1))
        })
        .sum();
    (voice * envelope * 5000.0).clamp(-32_000.0, 32_000.0) as i16
}
