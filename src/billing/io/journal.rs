//! The CDR journal: admission, durable records by group commit, recovery after a crash.
//!
//! Two threads: the writer (`writer.rs`) frames, writes and syncs; the keeper (`keeper.rs`) makes files ready ahead of
//! need, deletes those the database has, and notices a disk that hangs.

use crate::{
    billing::{
        cdr::Cdr,
        record::{JournalEvent, JournalRecord, Refusal},
    },
    types::{CallId, Now},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

use super::{
    files::{JournalFiles, RealFiles, replace},
    keeper::Keeper,
    last_media::LastMediaTable,
    reader::Reader,
    recovery::{self, Found},
    refused::RefusedRecords,
    space::Space,
    writer::Writer,
};

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    pub directory: PathBuf,
    /// Name of this gateway, in every CDR.
    pub node: String,
    /// Size of a segment file. 16 MiB: about 10,000 records, so that files come and go every few minutes at most, and
    /// one made in advance covers the time that making the next takes.
    pub segment_bytes: u64,
    /// What the journal may take on the disk. 256 MiB: some 60,000 calls while the database is away.
    pub max_bytes: u64,
    /// A segment is left for another after this, so that whole numbers stay no longer in the journal than they must.
    /// One day: far below every retention of numbers.
    pub segment_age: Duration,
    /// A write that takes longer refuses new calls. 1 s: a caller waits for its answer as long as that.
    pub stall_after: Duration,
    /// Pause between attempts while nothing can be written.
    pub retry_after: Duration,
}

impl JournalOptions {
    pub fn new(directory: impl Into<PathBuf>, node: impl Into<String>) -> JournalOptions {
        JournalOptions {
            directory: directory.into(),
            node: node.into(),
            segment_bytes: 16 << 20,
            max_bytes: 256 << 20,
            segment_age: Duration::from_secs(86_400),
            stall_after: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
        }
    }
}

/// The journal can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("journal directory {0}: another gateway is using it")]
    InUse(PathBuf),
    #[error("journal directory {0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("journal: max_bytes must hold at least three segments of at least 64 KiB")]
    TooSmall,
}

/// What the last run left behind.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Calls that were open, now closed as `GatewayCrashed` and durable so.
    pub closed: Vec<Cdr>,
    /// Sound records found, shipped or not.
    pub records: u64,
    /// Segments that ended in a record torn by a crash; such a record was never acknowledged.
    pub torn: u64,
    /// Damaged stretches with sound records behind them: the disk lost something it had promised to keep.
    pub damaged: u64,
}

/// Figures for metrics and health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalStatus {
    /// Durable records not yet in the database.
    pub records: u64,
    /// Age of the oldest of them, in milliseconds.
    pub age_ms: u64,
    /// Ended calls put into the database since the start.
    pub stored_total: u64,
    /// Records the database would not take, kept in `refused.jsonl`.
    pub refused_total: u64,
    /// Interim records skipped for want of room.
    pub skipped_total: u64,
}

/// The handle. Cheap to clone; the journal ends, with everything given to it written, when the last clone goes.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    last_media: LastMediaTable,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: File,
}

/// What the handle, the two threads and the readers share.
pub(super) struct Shared {
    pub options: JournalOptions,
    pub files: Box<dyn JournalFiles>,
    pub on_event: Box<dyn Fn(JournalEvent) + Send + Sync>,
    pub queue: Mutex<Queue>,
    pub queued: Condvar,
    pub space: Mutex<Space>,
    /// Wakes the keeper before its tick.
    pub keep: (Mutex<bool>, Condvar),
    pub next_file: AtomicU64,
    /// Start of the write in progress in ms since `born`, plus 1; 0 while idle.
    busy_since: AtomicU64,
    pub failed: AtomicBool,
    born: Instant,
    /// Rings when records became durable.
    pub shippable: Notify,
    pub oldest_unshipped_at: AtomicI64,
    pub stored: AtomicU64,
    pub refused: Arc<RefusedRecords>,
    pub skipped: AtomicU64,
}

#[derive(Default)]
pub(super) struct Queue {
    pub commands: VecDeque<Command>,
    /// Somebody waits for one of them.
    pub urgent: bool,
    pub closing: bool,
}

pub(super) enum Command {
    Append {
        record: JournalRecord,
        ticket: Option<u64>,
    },
    /// Writes the newest record of a call again, so that its old segment can go.
    Carry(CallId),
    /// Forgets a call once the records given before are durable.
    Release(CallId),
    /// Leaves the active segment if it is older than it may be.
    Age,
}

/// Survives restarts: which runs there were.
#[derive(Serialize, Deserialize)]
struct Identity {
    node: String,
    boot: i64,
}

impl Journal {
    /// Opens the directory (made if missing), closes the calls the last run left open and starts the threads.
    /// `finish` rates each of those calls before its end is written; it sees them closed.
    ///
    /// # Errors
    /// The directory is used by another process, can't be written, or is corrupt beyond reading.
    pub fn open(
        options: JournalOptions,
        finish: impl FnMut(&mut Cdr),
        on_event: impl Fn(JournalEvent) + Send + Sync + 'static,
    ) -> Result<(Journal, Recovery), JournalError> {
        Journal::open_on(Box::new(RealFiles), options, Now::read(), finish, on_event)
    }

    /// As [`open`](Self::open), on files and at a time of the caller's choice.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        files: Box<dyn JournalFiles>,
        options: JournalOptions,
        now: Now,
        mut finish: impl FnMut(&mut Cdr),
        on_event: impl Fn(JournalEvent) + Send + Sync + 'static,
    ) -> Result<(Journal, Recovery), JournalError> {
        if options.segment_bytes < 64 << 10 || options.max_bytes < 3 * options.segment_bytes {
            return Err(JournalError::TooSmall);
        }
        let directory = options.directory.clone();
        let failed = |error| JournalError::Io(directory.clone(), error);
        fs::create_dir_all(&directory).map_err(failed)?;
        let lock = lock_directory(&directory)?;
        let boot = next_boot(&directory, &options.node, now).map_err(failed)?;
        let (last_media, noted) = LastMediaTable::open(&directory).map_err(failed)?;
        let found = recovery::recover(&directory).map_err(failed)?;
        let shipped = read_checkpoint(&directory);
        let Found { segments, mut open, last_sequence, records, torn, damaged } = found;

        let mut space = Space::new(options.segment_bytes, options.max_bytes);
        // All segments deleted and the newest one never begun: the checkpoint still knows how far we were.
        space.durable = last_sequence.max(shipped);
        space.shipped = shipped.min(space.durable);
        let next_file = segments.last().map_or(1, |(number, _)| number + 1);
        space.segments.extend(segments);
        let next_sequence = space.durable + 1;
        let shared = Arc::new(Shared {
            options,
            files,
            on_event: Box::new(on_event),
            queue: Mutex::default(),
            queued: Condvar::new(),
            space: Mutex::new(space),
            keep: (Mutex::new(false), Condvar::new()),
            next_file: AtomicU64::new(next_file),
            busy_since: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            born: now.instant,
            shippable: Notify::new(),
            oldest_unshipped_at: AtomicI64::new(now.unix_ms),
            stored: AtomicU64::new(0),
            refused: Arc::new(RefusedRecords::new(&directory)),
            skipped: AtomicU64::new(0),
        });
        let keeper = Keeper::new(shared.clone());
        let mut writer = Writer::new(shared.clone(), last_media.clone(), boot, next_sequence);
        for cdr in &mut open {
            cdr.close_after_crash(noted.get(&cdr.id).copied(), now.unix_ms);
            finish(cdr);
        }
        keeper.make_ready().map_err(failed)?;
        writer.begin(&mut open).map_err(failed)?;
        last_media.forget_last_run().map_err(failed)?;
        keeper.make_ready().map_err(failed)?;

        let threads = vec![
            spawn("journal", move || writer.run()).map_err(failed)?,
            spawn("journal-keeper", move || keeper.run()).map_err(failed)?,
        ];
        let inner = Inner { shared, last_media, threads: Mutex::new(threads), _lock: lock };
        let recovery = Recovery { closed: open, records, torn, damaged };
        Ok((Journal { inner: Arc::new(inner) }, recovery))
    }

    /// Admits a call: room for its start, answer and end is set aside on the disk, so that they can't fail for want of
    /// it. Without room, or while the disk does not answer, the call must not begin.
    ///
    /// # Errors
    /// The refusal says why.
    pub fn reserve(&self, call: CallId) -> Result<(), Refusal> {
        let shared = &self.inner.shared;
        if shared.failed.load(Ordering::Acquire) {
            return Err(Refusal::Failed);
        }
        if shared.is_stalled() {
            return Err(Refusal::Stalled);
        }
        let mut space = lock(&shared.space);
        let promised = space.promise(call);
        let wants_spare = space.wants_spare();
        drop(space);
        if wants_spare {
            shared.wake_keeper();
        }
        if promised { Ok(()) } else { Err(Refusal::JournalFull) }
    }

    /// Gives a record to be written. Records are written in the order given; with a ticket, [`JournalEvent::Durable`]
    /// or [`JournalEvent::Failed`] follows. Never blocks on the disk.
    pub fn append(&self, record: JournalRecord, ticket: Option<u64>) {
        self.inner.shared.command(Command::Append { record, ticket });
    }

    /// Forgets a call: its room, and when it was last heard. Records given before are written first, as its `End` needs
    /// both until it is durable; after that there is nothing left to do.
    pub fn release(&self, call: CallId) {
        let shared = &self.inner.shared;
        if lock(&shared.space).knows(call) {
            shared.command(Command::Release(call));
        }
    }

    /// False while writes hang or fail: `/health/ready` says so, and no new call is admitted.
    pub fn healthy(&self) -> bool {
        !self.inner.shared.failed.load(Ordering::Acquire) && !self.inner.shared.is_stalled()
    }

    /// The table in which media of running calls is dated.
    pub fn last_media(&self) -> &LastMediaTable {
        &self.inner.last_media
    }

    pub fn status(&self) -> JournalStatus {
        let shared = &self.inner.shared;
        let records = {
            let space = lock(&shared.space);
            space.durable.saturating_sub(space.shipped)
        };
        let oldest = shared.oldest_unshipped_at.load(Ordering::Relaxed);
        let age_ms = if records == 0 { 0 } else { (Now::read().unix_ms - oldest).max(0) as u64 };
        JournalStatus {
            records,
            age_ms,
            stored_total: shared.stored.load(Ordering::Relaxed),
            refused_total: shared.refused.count(),
            skipped_total: shared.skipped.load(Ordering::Relaxed),
        }
    }

    /// Records that no database takes.
    pub fn refused(&self) -> Arc<RefusedRecords> {
        self.inner.shared.refused.clone()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::new(self.inner.shared.clone())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.shared.queue).closing = true;
        self.shared.queued.notify_all();
        self.shared.wake_keeper();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a journal thread panicked");
            }
        }
    }
}

impl Shared {
    pub fn command(&self, command: Command) {
        let urgent = matches!(command, Command::Append { ticket: Some(_), .. });
        let mut queue = lock(&self.queue);
        // The writer already watches a queue that has something in it: only haste is news.
        let news = queue.commands.is_empty() || (urgent && !queue.urgent);
        queue.urgent |= urgent;
        queue.commands.push_back(command);
        drop(queue);
        if news {
            self.queued.notify_one();
        }
    }

    pub fn begin_write(&self) {
        self.busy_since.store(self.born.elapsed().as_millis() as u64 + 1, Ordering::Release);
    }

    pub fn end_write(&self) {
        self.busy_since.store(0, Ordering::Release);
    }

    pub fn is_stalled(&self) -> bool {
        match self.busy_since.load(Ordering::Acquire) {
            0 => false,
            since => {
                let busy_ms = (self.born.elapsed().as_millis() as u64 + 1).saturating_sub(since);
                Duration::from_millis(busy_ms) > self.options.stall_after
            }
        }
    }

    pub fn wake_keeper(&self) {
        *lock(&self.keep.0) = true;
        self.keep.1.notify_all();
    }

    pub fn is_closing(&self) -> bool {
        lock(&self.queue).closing
    }

    /// Everything up to `sequence` is in the database.
    pub fn set_shipped(&self, sequence: u64) {
        // Without the file a restart ships some records twice, which changes nothing.
        if let Err(error) =
            replace(&checkpoint_path(&self.options.directory), sequence.to_string().as_bytes())
        {
            tracing::warn!(%error, "the journal's checkpoint can't be written");
        }
        let mut space = lock(&self.space);
        space.shipped = space.shipped.max(sequence);
        drop(space);
        self.wake_keeper();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every section leaves its data whole, so a panic elsewhere is no reason to stop accounting.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Two gateways on one journal would destroy it.
fn lock_directory(directory: &Path) -> Result<File, JournalError> {
    let failed = |error| JournalError::Io(directory.to_owned(), error);
    let lock = File::create(directory.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(JournalError::InUse(directory.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A number higher than that of every earlier run. It starts from the clock, so that a journal begun anew does not
/// repeat the numbers that the database already has.
fn next_boot(directory: &Path, node: &str, now: Now) -> io::Result<i64> {
    let path = directory.join("node");
    let last = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Identity>(&bytes).map_or(0, |identity| identity.boot),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let identity = Identity { node: node.to_owned(), boot: now.unix_ms.max(last + 1) };
    replace(&path, &serde_json::to_vec(&identity)?)?;
    Ok(identity.boot)
}

fn checkpoint_path(directory: &Path) -> PathBuf {
    directory.join("checkpoint")
}

/// 0 if there is none or it can't be read: everything found is then shipped again, which changes nothing.
fn read_checkpoint(directory: &Path) -> u64 {
    fs::read_to_string(checkpoint_path(directory)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
