//! What happens to the voice and its packets on their way through.

use crate::support::lane::Lane;

/// Writes two seconds of a 1 kHz tone as bare A-law, as SIPp plays it; gives its path.
pub fn announcement(lane: &Lane) -> String {
    let file = lane.path("announcement.alaw");
    let samples = (0..16_000).map(|index| {
        let angle = f64::from(index) * 1_000.0 / 8_000.0 * 2.0 * std::f64::consts::PI;
        a_law((angle.sin() * 8_000.0) as i16)
    });
    std::fs::write(&file, samples.collect::<Vec<u8>>()).expect("a sound file");
    file.display().to_string()
}

/// One sample in A-law (ITU-T G.711, table 1a).
fn a_law(sample: i16) -> u8 {
    let (sign, magnitude) = if sample >= 0 { (0xd5, sample) } else { (0x55, !sample) };
    let magnitude = magnitude >> 4;
    let code = if magnitude < 16 {
        magnitude as u8
    } else {
        let exponent = 15 - magnitude.leading_zeros() as u8 - 4 + 1;
        (exponent << 4) | ((magnitude >> (exponent - 1)) as u8 & 0x0f)
    };
    code ^ sign
}
