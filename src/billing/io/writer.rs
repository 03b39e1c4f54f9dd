//! The journal's writing thread: frames records, writes them in batches, syncs, then tells who waits.

use crate::{
    billing::{
        cdr::{Cdr, CdrState},
        record::{self, JournalEvent, JournalRecord, RecordHeader, RecordKind, SEGMENT_HEADER, Scan},
    },
    types::{CallId, Now},
};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    files::SegmentFile,
    journal::{Command, Shared, lock},
    last_media::LastMediaTable,
    recovery::segment_path,
    space::{Grant, Position, SegmentNumber, Spare},
};

/// How long records that nobody waits for may gather before they are written: at a few hundred calls a second this saves
/// every third sync.
const LINGER: Duration = Duration::from_millis(20);

/// Two syncs begin no closer than this. A lone record is synced at once; where they come faster, those who come next
/// share one sync: at 300 calls a second that is four of five saved, for 4 ms more until an answer is told.
const SPACING: Duration = Duration::from_millis(8);

/// The thread's own things.
pub(super) struct Writer {
    shared: Arc<Shared>,
    last_media: LastMediaTable,
    boot: i64,
    next_sequence: u64,
    active: Option<Active>,
    /// Framed and not yet durable, in order.
    backlog: Vec<Framed>,
    /// Calls to be forgotten once the backlog is durable.
    released: Vec<CallId>,
    /// After a failure nothing is written before this.
    retry_at: Option<Instant>,
    /// When the next sync may begin.
    sync_at: Instant,
    buffer: Vec<u8>,
}

struct Active {
    number: SegmentNumber,
    file: Box<dyn SegmentFile>,
    /// 0 until the header is written with the first records.
    offset: u64,
    opened: Instant,
}

struct Framed {
    call: CallId,
    kind: RecordKind,
    sequence: u64,
    written_at: i64,
    bytes: Vec<u8>,
    ticket: Option<u64>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, last_media: LastMediaTable, boot: i64, next_sequence: u64) -> Writer {
        Writer {
            shared,
            last_media,
            boot,
            next_sequence,
            active: None,
            backlog: Vec::new(),
            released: Vec::new(),
            retry_at: None,
            sync_at: Instant::now(),
            buffer: Vec::new(),
        }
    }

    /// Begins the first segment with the ends of the calls that were open, durable on return.
    pub fn begin(&mut self, closed: &mut [Cdr]) -> io::Result<()> {
        for cdr in closed {
            // The call keeps the node, boot and number under which it began.
            self.frame(RecordKind::End, cdr, None);
        }
        self.write()?;
        if self.active.is_none() {
            self.open_segment()?;
        }
        self.settle();
        Ok(())
    }

    pub fn run(mut self) {
        while let Some(commands) = self.wait() {
            for command in commands {
                self.take(command);
            }
            match self.retry_at {
                Some(at) if Instant::now() < at => self.fail_tickets(),
                Some(_) | None => self.write_backlog(),
            }
        }
        // The disk may have come back in the last moment.
        self.write_backlog();
    }

    /// Blocks until there is something to do; `None` at the end.
    fn wait(&self) -> Option<Vec<Command>> {
        let mut queue = lock(&self.shared.queue);
        let mut linger_until = None;
        loop {
            let now = Instant::now();
            let urgent_at = queue.urgent.then_some(self.sync_at);
            if [urgent_at, self.retry_at].into_iter().flatten().any(|at| at <= now) {
                break;
            }
            let wake_at = if queue.closing {
                if queue.commands.is_empty() {
                    return None;
                }
                break;
            } else if queue.commands.is_empty() {
                self.retry_at
            } else {
                let until = *linger_until.get_or_insert(now + LINGER);
                if until <= now {
                    break;
                }
                [Some(until), urgent_at, self.retry_at].into_iter().flatten().min()
            };
            queue = match wake_at {
                None => self.shared.queued.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner()),
                Some(at) => {
                    let waited = self.shared.queued.wait_timeout(queue, at - now);
                    waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
                }
            };
        }
        queue.urgent = false;
        Some(queue.commands.drain(..).collect())
    }

    fn write_backlog(&mut self) {
        if self.backlog.is_empty() {
            self.forget_released();
            return;
        }
        self.shared.begin_write();
        self.sync_at = Instant::now() + SPACING;
        match self.write() {
            Ok(()) => self.settle(),
            Err(error) => self.give_up(&error),
        }
        self.shared.end_write();
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Append { record, ticket } => self.append(record, ticket),
            Command::Carry(call) => self.carry(call),
            Command::Release(call) => self.released.push(call),
            Command::Age => {
                let too_old = |active: &Active| {
                    active.offset > 0 && active.opened.elapsed() >= self.shared.options.segment_age
                };
                if self.active.as_ref().is_some_and(too_old) {
                    self.active = None;
                    lock(&self.shared.space).abandon();
                }
            }
        }
    }

    fn append(&mut self, record: JournalRecord, ticket: Option<u64>) {
        let kind = record.kind();
        let mut cdr = record.into_cdr();
        cdr.state = match kind {
            RecordKind::Start | RecordKind::Answer => CdrState::Open,
            RecordKind::Interim => CdrState::Interim,
            RecordKind::End => CdrState::Final,
        };
        let refused = self.shared.failed.load(Ordering::Acquire) && kind == RecordKind::Interim;
        let grant = if refused { Grant::NoRoom } else { lock(&self.shared.space).grant(cdr.id, kind) };
        match grant {
            Grant::Seq(seq) => {
                cdr.node.clone_from(&self.shared.options.node);
                cdr.boot = self.boot;
                cdr.seq = seq;
                self.frame(kind, &mut cdr, ticket);
            }
            Grant::NoRoom => {
                match kind {
                    RecordKind::Interim => {
                        self.shared.skipped.fetch_add(1, Ordering::Relaxed);
                    }
                    RecordKind::Start | RecordKind::Answer | RecordKind::End => {
                        tracing::error!(call = %cdr.id, ?kind, "no room in the journal for a call without reservation");
                    }
                }
                if let Some(ticket) = ticket {
                    (self.shared.on_event)(JournalEvent::Failed { ticket });
                }
            }
        }
    }

    fn frame(&mut self, kind: RecordKind, cdr: &mut Cdr, ticket: Option<u64>) {
        let header = RecordHeader {
            sequence: self.next_sequence,
            kind,
            call: cdr.id,
            written_at: Now::read().unix_ms,
        };
        cdr.revision = header.sequence;
        let bytes = record::encode(header, cdr);
        self.queue(header, bytes, ticket);
    }

    fn queue(&mut self, header: RecordHeader, bytes: Vec<u8>, ticket: Option<u64>) {
        let RecordHeader { sequence, kind, call, written_at } = header;
        self.next_sequence = sequence + 1;
        lock(&self.shared.space).framed(bytes.len());
        self.backlog.push(Framed { call, kind, sequence, written_at, bytes, ticket });
    }

    /// Repeats a running call's newest record at the front of the journal. It is looked up here, in order with all
    /// other records, so that an end that came meanwhile is never followed by it.
    fn carry(&mut self, call: CallId) {
        let (at, path) = {
            let space = lock(&self.shared.space);
            let Some(at) = space.last_record(call) else { return };
            let Some(segment) = space.segments.get(&at.segment) else { return };
            (at, segment.path.clone())
        };
        if self.backlog.iter().any(|framed| framed.call == call) {
            return;
        }
        let mut bytes = vec![0; record::RECORD_LIMIT];
        let read = File::open(path).and_then(|file| file.read_at(&mut bytes, at.offset));
        let cdr = read.ok().and_then(|length| Scan::new(&bytes[..length]).next()?.cdr().ok());
        let Some(mut cdr) = cdr.filter(|cdr| cdr.id == call) else { return };
        if lock(&self.shared.space).grant(call, RecordKind::Interim) != Grant::NoRoom {
            self.frame(RecordKind::Interim, &mut cdr, None);
        }
    }

    /// Makes the backlog durable: in the active segment and those that follow, or, if that fails, in another one.
    fn write(&mut self) -> io::Result<()> {
        lock(&self.shared.space).begin_batch();
        let mut written = self.try_write();
        if let Err(error) = &written {
            tracing::error!(%error, "journal segment failed: trying another");
            self.abandon();
            written = self.try_write();
            if written.is_err() {
                self.abandon();
            }
        }
        lock(&self.shared.space).end_batch();
        written
    }

    fn try_write(&mut self) -> io::Result<()> {
        let mut places: Vec<(Position, u64)> = Vec::with_capacity(self.backlog.len());
        while places.len() < self.backlog.len() {
            if self.active.is_none() {
                self.open_segment()?;
            }
            let Some(active) = &mut self.active else { continue };
            self.buffer.clear();
            if active.offset == 0 {
                let first = self.backlog[places.len()].sequence;
                self.buffer.extend_from_slice(&record::segment_header(first, self.boot));
            }
            for framed in &self.backlog[places.len()..] {
                let offset = active.offset + self.buffer.len() as u64;
                let end = offset + framed.bytes.len() as u64;
                if end > self.shared.options.segment_bytes {
                    break;
                }
                self.buffer.extend_from_slice(&framed.bytes);
                places.push((Position { segment: active.number, offset }, end));
            }
            if self.buffer.len() > if active.offset == 0 { SEGMENT_HEADER } else { 0 } {
                active.file.write_at(&self.buffer, active.offset)?;
                active.file.sync()?;
                active.offset += self.buffer.len() as u64;
            }
            if places.len() < self.backlog.len() {
                self.active = None;
            }
        }
        let mut space = lock(&self.shared.space);
        if space.shipped == space.durable
            && let Some(framed) = self.backlog.first()
        {
            self.shared.oldest_unshipped_at.store(framed.written_at, Ordering::Relaxed);
        }
        for (framed, (at, end)) in self.backlog.iter().zip(&places) {
            space.durable(framed.call, framed.kind, framed.sequence, *at, *end);
        }
        Ok(())
    }

    fn open_segment(&mut self) -> io::Result<()> {
        let shared = &self.shared;
        let spare = lock(&shared.space).spares.pop_front();
        let Spare { path, file } = match spare {
            Some(spare) => spare,
            None => super::keeper::make_spare(shared)?,
        };
        shared.wake_keeper();
        let number = shared.next_file.fetch_add(1, Ordering::Relaxed);
        let named = segment_path(&shared.options.directory, number);
        let named_for_good = shared
            .files
            .rename(&path, &named)
            .and_then(|()| shared.files.sync_directory(&shared.options.directory));
        if let Err(error) = named_for_good {
            // Whichever of the two names it has.
            let _ = shared.files.remove(&path).or_else(|_| shared.files.remove(&named));
            return Err(error);
        }
        lock(&shared.space).activate(number, named);
        self.active = Some(Active { number, file, offset: 0, opened: Instant::now() });
        Ok(())
    }

    /// After a failed sync nobody knows what the pages of a file hold, and a second sync may say "ok" for data that is
    /// lost: the segment is never written again.
    fn abandon(&mut self) {
        self.active = None;
        let empty = lock(&self.shared.space).abandon();
        for path in empty {
            if let Err(error) = self.shared.files.remove(&path) {
                tracing::warn!(%error, "an abandoned journal segment can't be removed");
            }
        }
    }

    /// Everything in the backlog is durable.
    fn settle(&mut self) {
        if self.shared.failed.swap(false, Ordering::AcqRel) {
            tracing::info!("journal writing works again");
            (self.shared.on_event)(JournalEvent::Recovered);
        }
        self.retry_at = None;
        for framed in self.backlog.drain(..) {
            match framed.kind {
                RecordKind::End => self.last_media.release(framed.call),
                RecordKind::Start | RecordKind::Answer | RecordKind::Interim => {}
            }
            if let Some(ticket) = framed.ticket {
                (self.shared.on_event)(JournalEvent::Durable { ticket });
            }
        }
        self.forget_released();
        self.shared.shippable.notify_one();
    }

    fn forget_released(&mut self) {
        for call in self.released.drain(..) {
            lock(&self.shared.space).release(call);
            self.last_media.release(call);
        }
    }

    /// Nobody waits any longer; the records stay, to be tried again.
    fn give_up(&mut self, error: &io::Error) {
        if !self.shared.failed.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "CDR journal can't be written: calls end, new ones are refused");
            (self.shared.on_event)(JournalEvent::Broken);
        }
        self.retry_at = Some(Instant::now() + self.shared.options.retry_after);
        self.fail_tickets();
    }

    fn fail_tickets(&mut self) {
        for framed in &mut self.backlog {
            if let Some(ticket) = framed.ticket.take() {
                (self.shared.on_event)(JournalEvent::Failed { ticket });
            }
        }
    }
}
