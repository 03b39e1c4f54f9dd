//! A disk that does what a test tells it: fails, hangs, or loses power with half of its writes done.

use super::super::files::{JournalFiles, RealFiles, SegmentFile};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
};

/// Shared between the test and every file of its journal.
#[derive(Clone, Default)]
pub struct Disk {
    state: Arc<(Mutex<State>, Condvar)>,
}

/// Is told what was written since the last sync.
type BeforeSync = Box<dyn FnMut(&[(PathBuf, u64, usize)]) + Send>;

#[derive(Default)]
struct State {
    failing_syncs: u32,
    /// Syncs that succeed before one fails.
    fail_after: Option<u32>,
    creating_fails: bool,
    hanging: bool,
    /// Writes since the last sync of their file.
    unsynced: Vec<(PathBuf, u64, usize)>,
    before_sync: Option<BeforeSync>,
}

impl Disk {
    pub fn fail_syncs(&self, count: u32) {
        self.state.0.lock().unwrap().failing_syncs = count;
    }

    /// Lets `count` syncs pass, then fails one.
    pub fn fail_sync_after(&self, count: u32) {
        self.state.0.lock().unwrap().fail_after = Some(count);
    }

    pub fn fail_creating(&self, fails: bool) {
        self.state.0.lock().unwrap().creating_fails = fails;
    }

    pub fn hang(&self, hanging: bool) {
        self.state.0.lock().unwrap().hanging = hanging;
        self.state.1.notify_all();
    }

    /// `look` sees, before every sync, where data was written that a power cut may still take: file, offset, length.
    pub fn before_sync(&self, look: impl FnMut(&[(PathBuf, u64, usize)]) + Send + 'static) {
        self.state.0.lock().unwrap().before_sync = Some(Box::new(look));
    }
}

impl JournalFiles for Disk {
    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn SegmentFile>> {
        if self.state.0.lock().unwrap().creating_fails {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let file = RealFiles.create(path, length)?;
        Ok(Box::new(DiskFile { disk: self.clone(), path: path.to_owned(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        RealFiles.sync_directory(path)
    }
}

struct DiskFile {
    disk: Disk,
    /// As created: the first part of the name stays through the renaming's new number, so it is looked up by content.
    path: PathBuf,
    file: Box<dyn SegmentFile>,
}

impl SegmentFile for DiskFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)?;
        self.disk.state.0.lock().unwrap().unsynced.push((self.path.clone(), offset, bytes.len()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state.0.lock().unwrap();
        if let Some(mut look) = state.before_sync.take() {
            look(&state.unsynced);
            state.before_sync = Some(look);
        }
        while state.hanging {
            state = self.disk.state.1.wait(state).unwrap();
        }
        if state.fail_after == Some(0) {
            state.failing_syncs = 1;
        }
        state.fail_after = state.fail_after.and_then(|left| left.checked_sub(1));
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            return Err(io::Error::other("the disk says no"));
        }
        state.unsynced.clear();
        drop(state);
        // Nothing here cuts the machine's power, so the real sync is left out: tests stay fast.
        Ok(())
    }
}
