//! Lines on their way to a sink that may stall: bounded, never waited for, given up and counted when full.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for the sink. At a few hundred bytes each this is about a megabyte.
const QUEUE: usize = 4096;
/// Longest line kept, in bytes: a whole SIP message fits, a flood of them doesn't fill the memory.
const LONGEST: usize = 8 * 1024;

enum Entry {
    Line(Vec<u8>),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

/// The sending end of the queue; cheap to clone.
#[derive(Clone)]
pub(super) struct Lines {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Starts the thread that owns the sink. It ends when the last sender is gone.
    pub(super) fn start(sink: impl Write + Send + 'static) -> io::Result<Lines> {
        let (queue, entries) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || drain(entries, sink, &count))?;
        Ok(Lines { queue, dropped })
    }

    /// Queues a line or gives it up; returns at once either way.
    fn send(&self, line: Vec<u8>) {
        match self.queue.try_send(Entry::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Relaxed);
            }
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(super) fn flush(&self, patience: Duration) {
        let give_up = Instant::now() + patience;
        let (done, written) = sync_channel(1);
        // A full queue may be one that is being written right now, so it gets the same patience.
        let mut entry = Entry::Flush(done);
        loop {
            match self.queue.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(_)) if Instant::now() >= give_up => return,
                Err(TrySendError::Full(again)) => entry = again,
            }
            thread::yield_now();
        }
        let _ = written.recv_timeout(give_up.saturating_duration_since(Instant::now()));
    }
}

/// Writes until the queue closes. A sink that fails loses the line, not the process.
fn drain(entries: Receiver<Entry>, mut sink: impl Write, dropped: &AtomicU64) {
    let mut told = 0;
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                if sink.write_all(&line).is_err() {
                    dropped.fetch_add(1, Relaxed);
                }
            }
            Entry::Flush(done) => {
                let _ = sink.flush();
                let _ = done.try_send(());
            }
        }
        let total = dropped.load(Relaxed);
        if total > told
            && writeln!(sink, "{} log lines were dropped: their reader is too slow", total - told).is_ok()
        {
            told = total;
        }
    }
}

/// What tracing writes events to. One event is one line.
pub(super) struct LineWriter {
    lines: Lines,
    /// Colours are wanted, so escape characters stay (tracing itself takes them out of values).
    ansi: bool,
}

impl LineWriter {
    pub(super) fn new(lines: Lines, ansi: bool) -> LineWriter {
        LineWriter { lines, ansi }
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event { writer: self, bytes: Vec::new() }
    }
}

/// One event being written; it is sent when dropped.
pub(super) struct Event<'a> {
    writer: &'a LineWriter,
    bytes: Vec<u8>,
}

impl Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.writer.lines.send(one_line(&self.bytes, self.writer.ansi));
        }
    }
}

/// The event as one line: what a peer sent can neither start a line of its own nor steer a terminal.
fn one_line(bytes: &[u8], ansi: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let mut line = String::with_capacity(text.len() + 1);
    for character in text.trim_end_matches('\n').chars() {
        if line.len() >= LONGEST {
            line.push_str(" …");
            break;
        }
        if character.is_control() && !(ansi && character == '\u{1b}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink whose every write waits for permission.
    struct Stalled {
        permission: Receiver<()>,
        entered: SyncSender<()>,
        written: SyncSender<String>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            let _ = self.permission.recv();
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_sink_costs_lines_and_never_blocks_the_writer() {
        // Room for what the queue holds, the line that hangs, and the notice in however many parts.
        const WRITES: usize = 2 * QUEUE;
        let (permit, permission) = sync_channel(0);
        let (entered, stuck) = sync_channel(WRITES);
        let (written, read) = sync_channel(WRITES);
        let lines = Lines::start(Stalled { permission, entered, written }).unwrap();
        lines.send(b"first\n".to_vec());
        stuck.recv().unwrap();
        // The sink now hangs inside its first write; ten times the queue must still return.
        for _ in 0..10 * QUEUE {
            lines.send(b"more\n".to_vec());
        }
        assert_eq!(lines.dropped(), 9 * QUEUE as u64);
        drop(permit);
        lines.flush(Duration::from_secs(60));
        let all: Vec<String> = read.try_iter().collect();
        assert_eq!(all.iter().filter(|line| *line == "more\n").count(), QUEUE);
        let notices = all.concat();
        assert!(
            notices.contains(&format!("{} log lines were dropped", 9 * QUEUE)),
            "the loss is told once it can be"
        );
    }

    #[test]
    fn a_line_is_cut_at_its_limit() {
        let line = one_line(&[b'a'; 3 * LONGEST], false);
        assert!(line.len() < LONGEST + 8 && line.ends_with(" …\n".as_bytes()));
    }
}
