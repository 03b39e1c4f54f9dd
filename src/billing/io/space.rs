//! The journal's room: which segments there are, what is promised to running calls, what may be deleted.

use crate::{
    billing::record::{RECORD_LIMIT, RecordKind, SEGMENT_HEADER},
    types::CallId,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::PathBuf,
};

use super::files::SegmentFile;

/// Start, answer and end of a call, each as long as a record may be. Interim records are not promised: without room
/// they are skipped, and only a power cut could make that cost something.
const PROMISE: u64 = 3 * RECORD_LIMIT as u64;
const LIMIT: u64 = RECORD_LIMIT as u64;

/// Number of a segment file; later ones are higher.
pub(super) type SegmentNumber = u64;

/// A place in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub segment: SegmentNumber,
    pub offset: u64,
}

/// One segment file as a reader may see it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub path: PathBuf,
    /// Everything before this offset is durable.
    pub end: u64,
    /// Sequence of its last durable record; `None` while all it may hold is part of a batch not yet acknowledged.
    pub last_sequence: Option<u64>,
    /// What the file takes on the disk.
    pub bytes: u64,
}

/// An empty, preallocated file.
pub(super) struct Spare {
    pub path: PathBuf,
    pub file: Box<dyn SegmentFile>,
}

/// What the journal knows of a call that has room promised or records written and has not ended.
#[derive(Debug, Default)]
struct Running {
    promised: u64,
    seq: Option<u64>,
    last: Option<Position>,
}

/// All of it, under one lock that nobody holds while the disk works.
pub(super) struct Space {
    segment_bytes: u64,
    max_bytes: u64,
    pub segments: BTreeMap<SegmentNumber, Segment>,
    /// The segment being written: never deleted.
    pub active: Option<SegmentNumber>,
    active_left: u64,
    /// Where the batch in progress began: this segment and later ones hold records that are in no book yet.
    batch_from: Option<SegmentNumber>,
    pub spares: VecDeque<Spare>,
    promised: u64,
    /// Framed, not yet durable.
    pending: u64,
    calls: HashMap<CallId, Running>,
    next_seq: u64,
    /// Everything up to this sequence is in the database.
    pub shipped: u64,
    /// Everything up to this sequence is on the disk.
    pub durable: u64,
}

/// May a record be written?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// Yes; the number of its call within this run of the gateway.
    Seq(u64),
    NoRoom,
}

impl Space {
    pub fn new(segment_bytes: u64, max_bytes: u64) -> Space {
        Space {
            segment_bytes,
            max_bytes,
            segments: BTreeMap::new(),
            active: None,
            active_left: 0,
            batch_from: None,
            spares: VecDeque::new(),
            promised: 0,
            pending: 0,
            calls: HashMap::new(),
            next_seq: 1,
            shipped: 0,
            durable: 0,
        }
    }

    /// What can surely still be written: the end of a segment is lost to a record that doesn't fit it.
    fn free(&self) -> u64 {
        let per_spare = self.segment_bytes.saturating_sub(SEGMENT_HEADER as u64 + LIMIT);
        self.active_left.saturating_sub(LIMIT) + self.spares.len() as u64 * per_spare
    }

    fn unpromised(&self) -> u64 {
        self.free().saturating_sub(self.promised + self.pending)
    }

    /// Promises room for all records of a call; false if there is none. Asking twice promises once.
    pub fn promise(&mut self, call: CallId) -> bool {
        if self.calls.get(&call).is_some_and(|running| running.promised > 0) {
            return true;
        }
        if self.unpromised() < PROMISE {
            return false;
        }
        self.calls.entry(call).or_default().promised = PROMISE;
        self.promised += PROMISE;
        true
    }

    /// True from a call's promise or first record to its end.
    pub fn knows(&self, call: CallId) -> bool {
        self.calls.contains_key(&call)
    }

    /// Takes back what was promised to a call that ends without another record.
    pub fn release(&mut self, call: CallId) {
        if let Some(running) = self.calls.remove(&call) {
            self.promised -= running.promised;
        }
    }

    /// Admits one record: from the call's promise, else from free room.
    pub fn grant(&mut self, call: CallId, kind: RecordKind) -> Grant {
        let unpromised = self.unpromised();
        let known = self.calls.get_mut(&call);
        let promised = known.as_ref().map_or(0, |running| running.promised);
        let drawn = match kind {
            RecordKind::Interim => 0,
            // The last piece stays for the end, whatever comes before it.
            RecordKind::Start | RecordKind::Answer if promised > LIMIT => LIMIT,
            RecordKind::Start | RecordKind::Answer => 0,
            RecordKind::End => promised.min(LIMIT),
        };
        // An end is always taken, promised or not: it is the record that bills, and there is one per call.
        if drawn == 0 && unpromised < LIMIT && kind != RecordKind::End {
            return Grant::NoRoom;
        }
        let running = match known {
            Some(running) => running,
            None => self.calls.entry(call).or_default(),
        };
        running.promised -= drawn;
        self.promised -= drawn;
        Grant::Seq(*running.seq.get_or_insert_with(|| {
            self.next_seq += 1;
            self.next_seq - 1
        }))
    }

    /// A record was framed and will be written.
    pub fn framed(&mut self, bytes: usize) {
        self.pending += bytes as u64;
    }

    /// A batch is being written from here on, until [`end_batch`](Self::end_batch).
    pub fn begin_batch(&mut self) {
        self.batch_from = self.active;
    }

    /// All of the batch is durable and in the books, or none of it counts.
    pub fn end_batch(&mut self) {
        self.batch_from = None;
    }

    /// A segment is written from now on.
    pub fn activate(&mut self, number: SegmentNumber, path: PathBuf) {
        let header = SEGMENT_HEADER as u64;
        let segment = Segment { path, end: header, last_sequence: None, bytes: self.segment_bytes };
        self.segments.insert(number, segment);
        self.active = Some(number);
        self.active_left = self.segment_bytes - header;
    }

    /// The active segment takes no more. What is durable stays; the paths of segments that hold nothing durable are
    /// given back.
    pub fn abandon(&mut self) -> Vec<PathBuf> {
        self.active_left = 0;
        self.active = None;
        let empty = self.segments.extract_if(.., |_, segment| segment.last_sequence.is_none());
        empty.map(|(_, segment)| segment.path).collect()
    }

    /// A record is durable and ends at `end` of its segment.
    pub fn durable(&mut self, call: CallId, kind: RecordKind, sequence: u64, at: Position, end: u64) {
        self.pending = self.pending.saturating_sub(end - at.offset);
        self.durable = self.durable.max(sequence);
        if let Some(segment) = self.segments.get_mut(&at.segment) {
            segment.end = segment.end.max(end);
            segment.last_sequence = segment.last_sequence.max(Some(sequence));
        }
        if self.active == Some(at.segment) {
            self.active_left = self.segment_bytes.saturating_sub(end);
        }
        match kind {
            RecordKind::End => self.release(call),
            RecordKind::Start | RecordKind::Answer | RecordKind::Interim => {
                if let Some(running) = self.calls.get_mut(&call) {
                    running.last = Some(at);
                }
            }
        }
    }

    /// Where the newest record of a running call is.
    pub fn last_record(&self, call: CallId) -> Option<Position> {
        self.calls.get(&call)?.last
    }

    /// True if a file should be made ready: one whole segment beyond every promise is kept, so that a segment that has
    /// to be abandoned takes nothing promised with it.
    pub fn wants_spare(&self) -> bool {
        self.unpromised() < self.segment_bytes && self.bytes() + self.segment_bytes <= self.max_bytes
    }

    fn bytes(&self) -> u64 {
        let written: u64 = self.segments.values().map(|segment| segment.bytes).sum();
        written + self.spares.len() as u64 * self.segment_bytes
    }

    /// Removes from the books, and gives the paths of, the segments whose records are all in the database and that
    /// hold no running call's newest record: that one would be missed after a crash.
    pub fn take_deletable(&mut self) -> Vec<PathBuf> {
        let pinned = self.calls.values().filter_map(|running| running.last).map(|last| last.segment).min();
        let numbers: Vec<_> = self
            .segments
            .iter()
            .filter(|(number, segment)| {
                Some(**number) != self.active
                    && segment.last_sequence.is_some_and(|last| last <= self.shipped)
                    && self.batch_from.is_none_or(|from| **number < from)
                    && pinned.is_none_or(|pinned| **number < pinned)
            })
            .map(|(number, _)| *number)
            .collect();
        numbers.iter().filter_map(|number| self.segments.remove(number)).map(|segment| segment.path).collect()
    }

    /// Calls whose newest record alone keeps an old shipped segment, once the journal has used half of what it may:
    /// their record should be written again further on.
    pub fn holding_up(&self) -> Vec<CallId> {
        if self.bytes() * 2 < self.max_bytes {
            return Vec::new();
        }
        let Some((oldest, segment)) = self.segments.first_key_value() else { return Vec::new() };
        let is_shipped = segment.last_sequence.is_some_and(|last| last <= self.shipped);
        if !is_shipped || Some(*oldest) == self.active {
            return Vec::new();
        }
        let held = |running: &Running| running.last.is_some_and(|last| last.segment == *oldest);
        self.calls.iter().filter(|(_, running)| held(running)).map(|(call, _)| *call).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u8) -> CallId {
        CallId::from_parts(1, [n; 10])
    }

    /// One active segment with room for `promises` calls.
    fn space(promises: u64) -> Space {
        let mut space = Space::new(SEGMENT_HEADER as u64 + LIMIT + promises * PROMISE, 1 << 20);
        space.activate(1, "1".into());
        space
    }

    #[test]
    fn a_full_journal_refuses_new_calls_and_keeps_the_promise_to_running_ones() {
        let mut space = space(2);
        assert!(space.promise(call(1)) && space.promise(call(1)) && space.promise(call(2)));
        assert!(!space.promise(call(3)));
        assert_eq!(space.grant(call(1), RecordKind::Interim), Grant::NoRoom);
        let mut offset = SEGMENT_HEADER as u64;
        for (sequence, kind) in
            [RecordKind::Start, RecordKind::Answer, RecordKind::End].into_iter().enumerate()
        {
            assert_eq!(space.grant(call(1), kind), Grant::Seq(1));
            space.framed(RECORD_LIMIT);
            let at = Position { segment: 1, offset };
            offset += LIMIT;
            space.durable(call(1), kind, sequence as u64 + 1, at, offset);
            assert!(!space.promise(call(3)), "the room is used, not free");
        }
    }

    #[test]
    fn what_a_call_did_not_use_is_free_again() {
        let mut space = space(1);
        assert!(space.promise(call(1)) && !space.promise(call(2)));
        space.release(call(1));
        assert!(space.promise(call(2)));
    }

    #[test]
    fn the_end_has_its_room_however_many_answers_came() {
        let mut space = space(1);
        space.promise(call(1));
        assert_eq!(space.grant(call(1), RecordKind::Start), Grant::Seq(1));
        assert_eq!(space.grant(call(1), RecordKind::Answer), Grant::Seq(1));
        space.framed(RECORD_LIMIT);
        space.framed(RECORD_LIMIT);
        assert_eq!(space.grant(call(1), RecordKind::Answer), Grant::NoRoom);
        assert_eq!(space.grant(call(1), RecordKind::End), Grant::Seq(1));
    }

    #[test]
    fn a_segment_goes_once_it_is_shipped_and_no_running_call_needs_it() {
        let mut space = space(4);
        space.promise(call(1));
        space.grant(call(1), RecordKind::Start);
        space.durable(call(1), RecordKind::Start, 1, Position { segment: 1, offset: 64 }, 128);
        space.activate(2, "2".into());
        assert!(space.take_deletable().is_empty(), "not shipped");
        space.shipped = 1;
        assert!(space.take_deletable().is_empty(), "holds the newest record of a running call");
        space.grant(call(1), RecordKind::Interim);
        space.durable(call(1), RecordKind::Interim, 2, Position { segment: 2, offset: 64 }, 128);
        assert_eq!(space.take_deletable(), [PathBuf::from("1")]);
        space.shipped = 2;
        assert!(space.take_deletable().is_empty(), "is being written");
    }

    #[test]
    fn segments_of_a_batch_still_being_written_are_not_deleted() {
        let mut space = space(4);
        space.activate(2, "2".into());
        space.activate(3, "3".into());
        assert!(space.take_deletable().is_empty());
        space.durable(call(1), RecordKind::End, 1, Position { segment: 1, offset: 64 }, 128);
        space.shipped = 1;
        assert_eq!(space.take_deletable(), [PathBuf::from("1")]);
        assert_eq!(
            space.abandon(),
            [PathBuf::from("2"), PathBuf::from("3")],
            "the batch goes elsewhere as a whole"
        );
    }

    #[test]
    fn the_segment_in_which_a_batch_begins_is_not_deleted_for_its_older_records() {
        let mut space = space(4);
        space.durable(call(1), RecordKind::End, 1, Position { segment: 1, offset: 64 }, 128);
        space.shipped = 1;
        space.begin_batch();
        space.activate(2, "2".into());
        assert!(space.take_deletable().is_empty(), "its tail is not in the books yet");
        space.durable(call(2), RecordKind::End, 2, Position { segment: 1, offset: 128 }, 192);
        space.end_batch();
        assert!(space.take_deletable().is_empty());
        space.shipped = 2;
        assert_eq!(space.take_deletable(), [PathBuf::from("1")]);
    }

    #[test]
    fn an_end_is_taken_even_where_nothing_was_promised() {
        let mut space = space(0);
        assert_eq!(space.grant(call(1), RecordKind::Start), Grant::NoRoom);
        assert_eq!(space.grant(call(1), RecordKind::End), Grant::Seq(1));
    }

    #[test]
    fn an_abandoned_segment_without_durable_records_is_given_back() {
        let mut space = space(4);
        assert_eq!(space.abandon(), [PathBuf::from("1")]);
        space.activate(2, "2".into());
        space.grant(call(1), RecordKind::Start);
        space.durable(call(1), RecordKind::Start, 1, Position { segment: 2, offset: 64 }, 128);
        assert!(space.abandon().is_empty());
        assert!(!space.promise(call(2)), "nothing to write in");
    }
}
