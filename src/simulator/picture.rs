//! What each side said and heard as one SVG: waveforms on a common time line and where the check recognised the words.

use super::{heard::Verdict, spectrum::RATE, wav::Wav};
use std::fmt::Write;

/// One direction of a call.
pub struct Row<'a> {
    /// As "Alice → telephone, PCMA".
    pub title: &'a str,
    pub said: &'a Wav,
    pub heard: &'a Wav,
    pub verdict: &'a Verdict,
    /// Measures to print, as "loss 0.0 %".
    pub notes: &'a [String],
}

const WIDTH: usize = 960;
const LEFT: usize = 20;
const PLOT: usize = WIDTH - 2 * LEFT;
const ROW: usize = 230;
const WAVE: f32 = 34.0;

/// Draws all rows under a heading.
pub fn draw(heading: &str, rows: &[Row<'_>]) -> String {
    let mut svg = String::new();
    let height = 60 + rows.len() * ROW;
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#1f2933\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"34\" font-size=\"20\" font-weight=\"600\">{}</text>\n",
        escape(heading)
    );
    for (n, row) in rows.iter().enumerate() {
        draw_row(&mut svg, row, 60 + n * ROW);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_row(svg: &mut String, row: &Row<'_>, top: usize) {
    let said = row.said.resampled(RATE).samples;
    let heard = row.heard.resampled(RATE).samples;
    let offset = (row.verdict.offset_ms / 1000.0 * RATE as f32) as i64;
    // Both waveforms are shown on the recording's clock, from the earlier beginning to the later end.
    let start = offset.min(0);
    let end = (heard.len() as i64).max(offset + said.len() as i64).max(start + 1);
    let scale = PLOT as f64 / (end - start) as f64;
    let x_of = |sample: i64| LEFT as f64 + (sample - start) as f64 * scale;

    let (colour, word) = match row.verdict.fault {
        None => ("#0b7a3b", "heard"),
        Some(fault) => ("#b42318", fault.as_str()),
    };
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"600\">{}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-weight=\"600\" fill=\"{colour}\">{word}</text>\n",
        top + 14,
        escape(row.title),
        WIDTH - LEFT,
        top + 14
    );
    let said_middle = top as f32 + 62.0;
    let heard_middle = top as f32 + 140.0;
    for (name, middle) in [("said", said_middle), ("heard", heard_middle)] {
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.0}\" font-size=\"11\" fill=\"#52606d\">{name}</text>",
            middle - WAVE - 2.0
        );
    }
    wave(svg, &said, |column| column_range(column, start - offset, scale), said_middle, "#7b8794");
    wave(svg, &heard, |column| column_range(column, start, scale), heard_middle, "#1f6feb");

    // The strip: one cell per 50 ms of the reference that has speech.
    for (cell, frames) in row.verdict.track.chunks(5).enumerate() {
        let voiced: Vec<f32> = frames.iter().flatten().copied().collect();
        if voiced.is_empty() {
            continue;
        }
        let similarity = voiced.iter().sum::<f32>() / voiced.len() as f32;
        let hue = (similarity.clamp(0.3, 0.95) - 0.3) / 0.65 * 130.0;
        let at = x_of(offset + cell as i64 * 400);
        let _ = writeln!(
            svg,
            "<rect x=\"{at:.1}\" y=\"{}\" width=\"{:.1}\" height=\"9\" fill=\"hsl({hue:.0} 65% 45%)\"/>",
            top + 180,
            400.0 * scale + 0.3
        );
    }
    let seconds = (end - start) / i64::from(RATE);
    for second in (0..=seconds).step_by((seconds as usize / 12 + 1).max(1)) {
        let at = x_of(second * i64::from(RATE));
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" font-size=\"10\" fill=\"#7b8794\">{second} s</text>",
            top + 203
        );
    }
    let mut notes = vec![
        format!("recognised {:.1} %", row.verdict.coverage * 100.0),
        format!("similarity {:.2}", row.verdict.similarity),
        format!("level {:+.1} dB", row.verdict.gain_db),
    ];
    notes.extend_from_slice(row.notes);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" font-size=\"12\" fill=\"#52606d\">{}</text>",
        top + 221,
        escape(&notes.join(" · "))
    );
}

/// First and last sample under a column of the plot.
fn column_range(column: usize, first: i64, scale: f64) -> (i64, i64) {
    let from = first + (column as f64 / scale) as i64;
    (from, (first + ((column + 1) as f64 / scale) as i64).max(from + 1))
}

fn wave(svg: &mut String, samples: &[i16], range: impl Fn(usize) -> (i64, i64), middle: f32, colour: &str) {
    let mut path = String::new();
    for column in 0..PLOT {
        let (from, to) = range(column);
        let clip = |at: i64| at.clamp(0, samples.len() as i64) as usize;
        let under = &samples[clip(from)..clip(to)];
        let (Some(low), Some(high)) = (under.iter().min(), under.iter().max()) else { continue };
        // Twice the amplitude fills the height: speech rarely passes half of full scale.
        let y = |sample: i16| middle - (f32::from(sample) / 16_384.0).clamp(-1.0, 1.0) * WAVE;
        let _ = write!(path, "M{} {:.1}V{:.1}", LEFT + column, y(*high) - 0.3, y(*low) + 0.3);
    }
    let _ = writeln!(svg, "<path d=\"{path}\" stroke=\"{colour}\" fill=\"none\"/>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::{heard, speech};

    #[test]
    fn a_picture_shows_both_waves_the_strip_and_the_verdict() {
        let (said, own) = (speech::caller(), speech::callee());
        let good = heard::judge(&said, &said, Some(&own));
        let silent = Wav { rate: 8_000, samples: vec![0; 8_000] };
        let bad = heard::judge(&said, &silent, Some(&own));
        let notes = ["loss <0.1 %".to_owned()];
        let svg = draw(
            "Alice & Bob",
            &[
                Row { title: "there", said: &said, heard: &said, verdict: &good, notes: &notes },
                Row { title: "back", said: &said, heard: &silent, verdict: &bad, notes: &[] },
            ],
        );
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<path ").count(), 4);
        assert!(svg.matches("<rect ").count() > 50);
        for text in ["Alice &amp; Bob", ">heard<", ">silence<", "loss &lt;0.1 %"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.len() < 200_000);
    }

    #[test]
    fn empty_recordings_are_drawn_too() {
        let empty = Wav { rate: 8_000, samples: Vec::new() };
        let verdict = heard::judge(&empty, &empty, None);
        let row = Row { title: "", said: &empty, heard: &empty, verdict: &verdict, notes: &[] };
        assert!(draw("", &[row]).contains("too little speech"));
    }
}
