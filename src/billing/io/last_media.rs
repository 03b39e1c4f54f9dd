//! The memory-mapped table of last media times: what a killed gateway still knows of the calls it was carrying.
//!
//! Files `last-media.N` of 4,096 slots: call id (16 bytes), unix ms (i64), zeros. The kernel keeps the pages after
//! `kill -9`; after a power cut the journal's interim records take their place.

use super::files::preallocate;
use crate::types::{ActivityMark, CallId, Now};
use memmap2::MmapMut;
use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

/// 32 bytes, so that no slot crosses a disk sector.
const SLOT: usize = 32;
/// 128 KiB a file: small beside a call's codecs, and one file serves most gateways.
const SLOTS_PER_FILE: usize = 4096;

/// The table. Cheap to clone; shared by the journal and by whoever opens media.
#[derive(Clone)]
pub struct LastMediaTable {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: HashMap<CallId, Arc<Slot>>,
    /// Shared with the slots: the last one to let go of a slot gives it back.
    free: Arc<Mutex<Vec<Place>>>,
    files: usize,
}

/// One slot's memory.
#[derive(Clone)]
struct Place {
    map: Arc<Mapped>,
    offset: usize,
}

struct Mapped {
    // Only its pages are used, through atomics at aligned offsets.
    start: *mut u8,
    _map: MmapMut,
}

// SAFETY: `start` points into `_map`, which lives as long as this value and never moves; all access is atomic.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Place {
    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at < SLOT / 8);
        // SAFETY: offset and word lie within the mapping and are multiples of 8 from a page boundary.
        unsafe { AtomicU64::from_ptr(self.map.start.add(self.offset + at * 8).cast()) }
    }

    fn time(&self) -> &AtomicI64 {
        // SAFETY: as in `word`.
        unsafe { AtomicI64::from_ptr(self.map.start.add(self.offset + 16).cast()) }
    }

    fn write_call(&self, call: CallId) {
        let (high, low) = call.0.as_u64_pair();
        self.word(0).store(high.to_be(), Ordering::Relaxed);
        self.word(1).store(low.to_be(), Ordering::Relaxed);
    }
}

/// A slot in use. It is not used again while a mark of it lives, so that a late mark never dates another call.
struct Slot {
    place: Place,
    /// Calendar time is taken from here on by the monotonic clock: setting the wall clock forward in the middle of a
    /// call must not lengthen it.
    opened: Now,
    free: Arc<Mutex<Vec<Place>>>,
}

impl Slot {
    fn clear(&self) {
        self.place.time().store(0, Ordering::Relaxed);
        self.place.word(0).store(0, Ordering::Relaxed);
        self.place.word(1).store(0, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.clear();
        lock(&self.free).push(self.place.clone());
    }
}

struct Mark(Arc<Slot>);

impl ActivityMark for Mark {
    fn mark(&mut self, unix_ms: i64) {
        let possible = Now::read();
        let elapsed = possible.instant.saturating_duration_since(self.0.opened.instant).as_millis() as i64;
        self.0.place.time().fetch_max(unix_ms.min(self.0.opened.unix_ms + elapsed), Ordering::Relaxed);
    }
}

impl LastMediaTable {
    /// Reads what the last run left and starts an empty table in its place.
    ///
    /// # Errors
    /// The directory can't be read or written.
    pub fn open(directory: &Path) -> io::Result<(LastMediaTable, HashMap<CallId, i64>)> {
        let mut noted = HashMap::new();
        for file in 0.. {
            let path = file_path(directory, file);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            for slot in bytes.chunks_exact(SLOT) {
                let Ok(id) = uuid::Uuid::from_slice(&slot[..16]) else { continue };
                let at = i64::from_ne_bytes([16, 17, 18, 19, 20, 21, 22, 23].map(|i| slot[i]));
                if !id.is_nil() && at > 0 {
                    noted.insert(CallId(id), at);
                }
            }
        }
        let inner = Inner { directory: directory.to_owned(), state: Mutex::default() };
        Ok((LastMediaTable { inner: Arc::new(inner) }, noted))
    }

    /// A place to mark the call's media; asked again for the same call, the same place. `None` if the table can't grow
    /// (disk full): after a crash such a call ends at its last interim record.
    pub fn slot(&self, call: CallId) -> Option<Box<dyn ActivityMark>> {
        let mut state = lock(&self.inner.state);
        if let Some(slot) = state.calls.get(&call) {
            return Some(Box::new(Mark(slot.clone())));
        }
        let taken = lock(&state.free).pop();
        let place = match taken {
            Some(place) => place,
            None => match self.grow(&mut state) {
                Ok(place) => place,
                Err(error) => {
                    tracing::warn!(%error, "the table of last media times can't grow");
                    return None;
                }
            },
        };
        // The time first: between the two stores a crash leaves an id without a time, which is no entry.
        place.time().store(0, Ordering::Release);
        place.write_call(call);
        let slot = Arc::new(Slot { place, opened: Now::read(), free: state.free.clone() });
        state.calls.insert(call, slot.clone());
        Some(Box::new(Mark(slot)))
    }

    /// Forgets the call: its last record is durable.
    pub(super) fn release(&self, call: CallId) {
        let slot = lock(&self.inner.state).calls.remove(&call);
        if let Some(slot) = slot {
            slot.clear();
        }
    }

    /// Removes the files of the last run beyond those in use; called once its open calls are closed in the journal.
    ///
    /// # Errors
    /// A file can't be removed.
    pub(super) fn forget_last_run(&self) -> io::Result<()> {
        for file in lock(&self.inner.state).files.. {
            match fs::remove_file(file_path(&self.inner.directory, file)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn grow(&self, state: &mut State) -> io::Result<Place> {
        let path = file_path(&self.inner.directory, state.files);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        // Real blocks, not a hole: writing to a mapped hole of a full disk would end the process (SIGBUS).
        preallocate(&file, (SLOTS_PER_FILE * SLOT) as u64)?;
        // SAFETY: the file is ours alone (the journal directory is locked), and nobody shortens it while it is mapped.
        let mut map = unsafe { MmapMut::map_mut(&file)? };
        let map = Arc::new(Mapped { start: map.as_mut_ptr(), _map: map });
        state.files += 1;
        let mut places =
            (0..SLOTS_PER_FILE).rev().map(|slot| Place { map: map.clone(), offset: slot * SLOT });
        let mut free = lock(&state.free);
        free.extend(places.by_ref().take(SLOTS_PER_FILE - 1));
        Ok(Place { map, offset: 0 })
    }
}

fn file_path(directory: &Path, file: usize) -> PathBuf {
    directory.join(format!("last-media.{file}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every section leaves its data whole, so a panic elsewhere is no reason to stop accounting.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
