//! The journal on disks that fail, hang, fill up and lose power; the shipper with a database that comes and goes.

mod disk;
mod journal;
mod power_cut;
mod shipper;

use super::{Journal, JournalOptions};
use crate::{
    billing::{Cdr, JournalEvent, JournalRecord},
    types::{CallId, Direction},
};
use std::{
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

/// Long enough that only a bug reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of the test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tandem-journal-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// What a process that dies now leaves behind.
    fn image(&self) -> Directory {
        let image = Directory::new();
        copy(&self.0, &image.0);
        image
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> =
            std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|suffix| suffix == "segment"));
        paths.sort();
        paths
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        // The keeper may remove a file between listing and copying.
        let _ = std::fs::copy(&path, to.join(path.file_name().unwrap()));
    }
}

fn options(directory: &Directory) -> JournalOptions {
    JournalOptions {
        segment_bytes: 64 << 10,
        max_bytes: 512 << 10,
        retry_after: Duration::from_millis(5),
        ..JournalOptions::new(&directory.0, "gw1")
    }
}

/// A journal and what it says.
struct Opened {
    journal: Journal,
    events: mpsc::Receiver<JournalEvent>,
    closed: Vec<Cdr>,
    torn: u64,
    damaged: u64,
}

fn open(directory: &Directory) -> Opened {
    open_with(options(directory), Box::new(super::files::RealFiles))
}

fn open_with(options: JournalOptions, files: Box<dyn super::files::JournalFiles>) -> Opened {
    // More than any of these tests is told.
    let (sender, events) = mpsc::sync_channel(100_000);
    let sender = std::sync::Mutex::new(sender);
    let on_event = move |event| {
        let _ = sender.lock().unwrap().send(event);
    };
    let (journal, recovery) =
        Journal::open_on(files, options, crate::types::Now::read(), |_| {}, on_event).unwrap();
    let super::Recovery { closed, torn, damaged, records: _ } = recovery;
    Opened { journal, events, closed, torn, damaged }
}

impl Opened {
    fn next_event(&self) -> JournalEvent {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Writes and waits until it is durable.
    fn write(&self, record: JournalRecord) {
        self.journal.append(record, Some(u64::MAX));
        assert_eq!(self.next_event(), JournalEvent::Durable { ticket: u64::MAX });
    }
}

fn call(n: u32) -> CallId {
    let mut random = [0; 10];
    random[..4].copy_from_slice(&n.to_le_bytes());
    random[9] = 1;
    CallId::from_parts(1_700_000_000_000 + i64::from(n), random)
}

fn cdr(n: u32) -> Box<Cdr> {
    let mut cdr = Cdr::new(call(n), Direction::AppToTrunk, 1_700_000_000_000);
    cdr.called.number = "+32470123456".parse().ok();
    cdr.called.dialled = "0470123456".into();
    Box::new(cdr)
}

fn answered(n: u32) -> Box<Cdr> {
    let mut cdr = cdr(n);
    cdr.answered_at = Some(1_700_000_001_000);
    cdr
}

/// Waits for another thread without caring how long it takes.
fn until(mut done: impl FnMut() -> bool) {
    let give_up = std::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < give_up, "it never happened");
        std::thread::yield_now();
    }
}
