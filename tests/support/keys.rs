//! Keys of a telephone as sound: made by sox, and found in what somebody heard.

use super::lane::Lane;
use std::process::Command;

/// Keys of Q.23, low and high tone.
const KEYS: [(char, [f64; 2]); 4] =
    [('1', [697.0, 1209.0]), ('5', [770.0, 1336.0]), ('8', [852.0, 1336.0]), ('#', [941.0, 1477.0])];

/// Writes keys as sox makes them, 100 ms each and as far apart, as A-law.
pub fn pressed(lane: &Lane, keys: &str) -> String {
    let mut coded = Vec::new();
    for key in keys.chars() {
        let (_, [low, high]) = KEYS.into_iter().find(|(known, _)| *known == key).expect("a key of the table");
        let mut sox = Command::new("sox");
        sox.args(["-D", "-n", "-r", "8000", "-t", "raw", "-e", "a-law", "-", "synth", "0.1"]);
        sox.args(["sine", &low.to_string(), "sine", &high.to_string(), "remix", "-", "gain", "-10"]);
        let made = sox.args(["pad", "0", "0.1"]).output().expect("sox");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        coded.extend(made.stdout);
    }
    let file = lane.path("keys.alaw");
    std::fs::write(&file, coded).expect("a sound file");
    file.display().to_string()
}

/// The keys that sound in a stream: both of their tones are loud for 60 ms at least, and then no more.
pub fn found_in(sound: &[f64]) -> String {
    let power = |frame: &[f64], hertz: f64| {
        let step = std::f64::consts::TAU * hertz / 8_000.0;
        let sum = |wave: fn(f64) -> f64| -> f64 {
            frame.iter().enumerate().map(|(n, sample)| sample * wave(step * n as f64)).sum()
        };
        (sum(f64::sin).hypot(sum(f64::cos))) / frame.len() as f64
    };
    let heard = sound.chunks(160).map(|frame| {
        KEYS.into_iter().find(|(_, tones)| tones.iter().all(|hertz| power(frame, *hertz) > 1_500.0))
    });
    let mut found: Vec<(char, usize)> = Vec::new();
    let mut last = None;
    for key in heard.map(|key| key.map(|(key, _)| key)) {
        match (key, found.last_mut()) {
            (Some(key), Some((_, frames))) if last == Some(key) => *frames += 1,
            (Some(key), _) => found.push((key, 1)),
            (None, _) => {}
        }
        last = key;
    }
    found.into_iter().filter(|(_, frames)| *frames >= 3).map(|(key, _)| key).collect()
}
