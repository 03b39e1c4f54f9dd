//! A progress bar for long work: on standard error, and only where a person watches.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const WIDTH: u64 = 30;

/// A bar from 0 to `total`. Dropping it takes it off the screen.
pub struct Progress<W: Write = io::Stderr> {
    screen: Option<W>,
    label: String,
    total: u64,
    shown: String,
}

impl Progress {
    /// Nothing is written unless standard error is a terminal.
    pub fn new(label: impl Into<String>, total: u64) -> Progress {
        let screen = io::stderr().is_terminal().then(io::stderr);
        Progress { screen, label: label.into(), total, shown: String::new() }
    }
}

impl<W: Write> Progress<W> {
    /// Shows that `done` of the total is done.
    pub fn set(&mut self, done: u64) {
        let done = done.min(self.total);
        let filled = (done * WIDTH).checked_div(self.total).unwrap_or(WIDTH);
        let bar: String = (0..WIDTH).map(|at| if at < filled { '█' } else { '░' }).collect();
        self.draw(format!("{} {bar} {done}/{}", self.label, self.total));
    }

    /// Changes what the bar is called, as work goes from one stage to the next.
    pub fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// Draws only what changed, so that a tight loop may report each step.
    fn draw(&mut self, line: String) {
        if let Some(screen) = &mut self.screen
            && line != self.shown
        {
            let _ = write!(screen, "\r\x1b[K{line}");
            let _ = screen.flush();
            self.shown = line;
        }
    }
}

impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        if let Some(screen) = &mut self.screen
            && !self.shown.is_empty()
        {
            let _ = write!(screen, "\r\x1b[K");
            let _ = screen.flush();
        }
    }
}

/// A bar over the seconds of a conversation, drawn by whoever has a clock.
pub struct TalkBar {
    bar: Progress,
    since: Option<Instant>,
    seconds: u64,
}

impl TalkBar {
    pub fn new(label: &str, talk: Duration) -> TalkBar {
        let seconds = talk.as_secs_f64().ceil() as u64;
        TalkBar { bar: Progress::new(label, seconds), since: None, seconds }
    }

    /// The conversation begins.
    pub fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// Something else goes on.
    pub fn label(&mut self, label: &str) {
        self.bar.label(label);
    }

    pub fn draw(&mut self, now: Instant) {
        let talked = self.since.map_or(0, |since| now.saturating_duration_since(since).as_secs());
        self.bar.set(talked.min(self.seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_once_per_change_and_leaves_a_clean_line() {
        let mut screen = Vec::new();
        {
            let mut bar = Progress {
                screen: Some(&mut screen),
                label: "calls".to_owned(),
                total: 2,
                shown: String::new(),
            };
            bar.set(1);
            bar.set(1);
            bar.set(9);
        }
        let text = String::from_utf8(screen).unwrap();
        let (half, full) = (format!("{}{}", "█".repeat(15), "░".repeat(15)), "█".repeat(30));
        assert_eq!(text, format!("\r\x1b[Kcalls {half} 1/2\r\x1b[Kcalls {full} 2/2\r\x1b[K"));
    }

    #[test]
    fn where_nobody_watches_nothing_is_written() {
        let mut bar: Progress<Vec<u8>> =
            Progress { screen: None, label: "calls".to_owned(), total: 2, shown: String::new() };
        bar.set(1);
        assert!(bar.shown.is_empty());
    }
}
