//! What was heard, judged: by how much it is late, and how it sounds (narrowband PESQ, ITU-T P.862).

use crate::speech;
use std::path::PathBuf;
use std::process::Command;

/// Samples by which `heard` lies behind `said`, where both are speech from the same beginning.
pub fn lag(said: &[i16], heard: &[i16]) -> usize {
    let most = 400;
    let end = said.len().min(heard.len().saturating_sub(most)).min(48_000);
    let start = 8_000.min(end);
    let score = |lag: usize| -> f64 {
        let pairs = said[start..end].iter().zip(&heard[start + lag..]);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    (0..most).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap_or(0)
}

/// Mean PESQ of what was heard; `None` where the tests' Python packages are not installed.
pub fn pesq(said: &[i16], heard: &[Vec<i16>]) -> Option<f64> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let python = cache.join("tandem/venv/bin/python3");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tools/pesq_score.py");
    let folder = std::env::temp_dir().join(format!("tandem-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).ok()?;
    let file = |name: &str, sound: &[i16]| {
        let path = folder.join(name);
        std::fs::write(&path, speech::wav(sound)).ok().map(|()| path)
    };
    let said = file("said.wav", said)?;
    let score = |heard: &Vec<i16>| -> Option<f64> {
        let heard = file("heard.wav", heard)?;
        let output = Command::new(&python).arg(&script).arg(&said).arg(heard).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let score = text.split("\"pesq_nb\":").nth(1)?;
        score.trim_start().split([',', '}']).next()?.trim().parse().ok()
    };
    let scores: Option<Vec<f64>> = heard.iter().map(score).collect();
    let _ = std::fs::remove_dir_all(&folder);
    scores.filter(|scores| !scores.is_empty()).map(|scores| scores.iter().sum::<f64>() / scores.len() as f64)
}
