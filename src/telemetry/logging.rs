//! The log: text or JSON lines on standard error, whose level changes live and whose reader can't stop a call.

mod filter;
mod writer;

pub use crate::config::LogFormat;
pub use filter::LevelError;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::Subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry, fmt, layer::SubscriberExt, reload};
use writer::{LineWriter, Lines};

/// Sets the log up for the whole process; a second call is an error.
///
/// `level` is a level (`off`, `error`, `warn`, `info`, `debug`, `trace`) or a list of them with targets, as
/// `info,tandem::sip=debug`.
pub fn start(format: LogFormat, level: &str) -> Result<LogControl, LogError> {
    let ansi = format == LogFormat::Text && io::stderr().is_terminal();
    let (subscriber, control) = build(format, ansi, level, io::stderr())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadyStarted)?;
    Ok(control)
}

/// Why the log can't be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Level(#[from] LevelError),
    #[error("the log is already started")]
    AlreadyStarted,
    #[error("the log's thread can't be started: {0}")]
    Thread(#[from] io::Error),
}

/// What may be done to a running log; cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    filter: reload::Handle<Targets, Registry>,
    level: Arc<Mutex<String>>,
    lines: Lines,
}

impl LogControl {
    /// The level as it was last set.
    pub fn level(&self) -> String {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is logged from now on. On an error nothing changes.
    pub fn set_level(&self, level: &str) -> Result<(), LevelError> {
        let targets = filter::parse(level)?;
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        // The subscriber is gone only when the process ends, and then there is nothing left to filter.
        let _ = self.filter.reload(targets);
        level.trim().clone_into(&mut current);
        Ok(())
    }

    /// Lines given up since the start because their reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.lines.dropped()
    }

    /// Waits until what was logged so far is written, but never longer than `patience`. For the end of the process.
    pub fn flush(&self, patience: Duration) {
        self.lines.flush(patience);
    }
}

/// The subscriber and its control, writing to any sink. Colours only where `ansi` is set.
fn build(
    format: LogFormat,
    ansi: bool,
    level: &str,
    sink: impl Write + Send + 'static,
) -> Result<(impl Subscriber + Send + Sync, LogControl), LogError> {
    let targets = filter::parse(level)?;
    let lines = Lines::start(sink)?;
    let (filter, handle) = reload::Layer::new(targets);
    let writer = LineWriter::new(lines.clone(), ansi);
    let layer = match format {
        LogFormat::Text => fmt::layer().with_ansi(ansi).with_writer(writer).boxed(),
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_ansi(false).with_writer(writer).boxed()
        }
    };
    let control = LogControl { filter: handle, level: Arc::new(Mutex::new(level.trim().to_owned())), lines };
    Ok((Registry::default().with(layer.with_filter(filter)), control))
}

#[cfg(test)]
impl LogControl {
    /// A control that nothing is logged through.
    pub(crate) fn for_tests() -> LogControl {
        build(LogFormat::Text, false, "info", io::sink()).expect("a good level and a thread").1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// More lines than any of these tests writes.
    const LINES: usize = 100;

    /// A sink that hands each write to the test.
    struct Told(mpsc::SyncSender<String>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, body: impl FnOnce(&LogControl)) -> Vec<String> {
        let (sender, receiver) = mpsc::sync_channel(LINES);
        let (subscriber, control) = build(format, false, level, Told(sender)).unwrap();
        tracing::subscriber::with_default(subscriber, || body(&control));
        control.flush(Duration::from_secs(10));
        receiver.try_iter().collect()
    }

    #[test]
    fn the_level_changes_live_and_a_bad_one_changes_nothing() {
        let lines = logged(LogFormat::Text, "info,quiet=error", |control| {
            tracing::debug!("first");
            tracing::info!(target: "quiet", "second");
            control.set_level("debug").unwrap();
            tracing::debug!("third");
            assert!(control.set_level("loud").is_err());
            assert_eq!(control.level(), "debug");
            tracing::debug!("fourth");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("DEBUG") && lines[0].ends_with("third\n"));
        assert!(lines[1].ends_with("fourth\n"));
    }

    #[test]
    fn a_json_line_is_one_object() {
        let lines = logged(LogFormat::Json, "info", |_| tracing::warn!(trunk = "a", "two\nlines"));
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["trunk"], "a");
        assert_eq!(line["message"], "two\nlines");
        assert_eq!(lines[0].matches('\n').count(), 1);
    }

    #[test]
    fn control_characters_of_a_peer_can_not_forge_a_line() {
        let agent = "evil\r\n2026-01-01 INFO all is well\u{1b}[2J\u{9b}";
        let lines = logged(LogFormat::Text, "info", |_| tracing::info!(%agent, "registered"));
        assert_eq!(lines.len(), 1);
        let line = lines[0].strip_suffix('\n').unwrap();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.contains("evil\\r\\n2026-01-01"), "{line}");
    }
}
