//! Reads durable records out of the journal's files, in order: nothing waits for the database in memory.

use crate::billing::{
    cdr::Cdr,
    record::{Found, RECORD_LIMIT, SEGMENT_HEADER, Scan},
};
use std::{
    collections::HashSet,
    fs::File,
    io,
    ops::Bound,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
};

use super::{
    journal::{Shared, lock},
    space::{Position, Segment},
};

/// What one look reads at most.
const CHUNK: usize = 256 << 10;

/// A place in the journal that only moves forward.
pub(super) struct Reader {
    shared: Arc<Shared>,
    at: Position,
    /// Everything up to here was read (or is in the database since an earlier run).
    sequence: u64,
}

/// Some consecutive records.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Newest snapshot of each call.
    pub cdrs: Vec<Cdr>,
    /// Sequence of the last record.
    pub last_sequence: u64,
    /// Payloads that are no CDR.
    pub unreadable: Vec<Vec<u8>>,
}

impl Reader {
    pub fn new(shared: Arc<Shared>) -> Reader {
        let sequence = lock(&shared.space).shipped;
        Reader { shared, at: Position { segment: 0, offset: 0 }, sequence }
    }

    /// Up to `limit` records that were not read before; `None` if there are none now.
    pub fn read(&mut self, limit: usize) -> io::Result<Option<Batch>> {
        while let Some(segment) = self.current() {
            let bytes = read_range(&segment, self.at.offset)?;
            let mut scan = Scan::new(&bytes);
            let mut batch = Batch::default();
            let mut records = Vec::new();
            let mut taken = 0;
            while taken < limit
                && let Some(found) = scan.next()
            {
                if found.header.sequence > self.sequence {
                    if taken == 0 {
                        self.shared.oldest_unshipped_at.store(found.header.written_at, Ordering::Relaxed);
                    }
                    taken += 1;
                    self.sequence = found.header.sequence;
                    batch.last_sequence = found.header.sequence;
                    records.push(found);
                }
            }
            self.at.offset += match scan.end() {
                // Nothing sound in a whole chunk: go on behind it, where a record may have begun.
                0 => (bytes.len().saturating_sub(RECORD_LIMIT)).max(8) as u64,
                end => end as u64,
            };
            if taken > 0 {
                batch.take_newest(&records);
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The segment with something left to read, and `at` in it.
    fn current(&mut self) -> Option<Segment> {
        let space = lock(&self.shared.space);
        let from = space.segments.range((Bound::Included(self.at.segment), Bound::Unbounded));
        for (number, segment) in from {
            if *number != self.at.segment {
                self.at = Position { segment: *number, offset: SEGMENT_HEADER as u64 };
            }
            if self.at.offset < segment.end && segment.last_sequence > Some(self.sequence) {
                return Some(segment.clone());
            }
        }
        None
    }
}

impl Batch {
    /// Takes the newest sound record of each call. The others are not even decoded: reading them costs more than storing
    /// the one that counts.
    fn take_newest(&mut self, records: &[Found<'_>]) {
        let mut calls = HashSet::with_capacity(records.len());
        for found in records.iter().rev() {
            if calls.contains(&found.header.call) {
                continue;
            }
            match found.cdr() {
                Ok(cdr) => {
                    calls.insert(found.header.call);
                    self.cdrs.push(cdr);
                }
                Err(error) => {
                    tracing::error!(call = %found.header.call, %error, "journal record is not a CDR");
                    self.unreadable.push(found.payload().to_vec());
                }
            }
        }
        self.cdrs.reverse();
        self.unreadable.reverse();
    }
}

fn read_range(segment: &Segment, offset: u64) -> io::Result<Vec<u8>> {
    let length = (segment.end.saturating_sub(offset) as usize).min(CHUNK);
    let mut bytes = vec![0; length];
    File::open(&segment.path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
