//! The journal's record on disk: framing, checks, and finding the records in a segment that a crash may have torn.
//!
//! ```text
//! segment  "TANDEMJ1"  first sequence u64  boot i64  CRC-32 of these u32  zeros to 64 bytes   records…   zeros
//! record   payload length u32   CRC-32 u32 of all the rest   sequence u64   version u8  kind u8  zeros 6
//!          call id 16 bytes     written at i64, unix ms      payload (JSON of the CDR)   zeros to a multiple of 8
//! ```
//! Integers are little-endian. Every record holds the whole CDR as known then, so that any one of them stands alone.

use super::cdr::Cdr;
use crate::types::{CallId, UnixMillis};

/// The layout above and the meaning of the payload. A reader takes every version up to its own.
const VERSION: u8 = 1;
const MAGIC: &[u8; 8] = b"TANDEMJ1";
pub const SEGMENT_HEADER: usize = 64;
pub const RECORD_HEADER: usize = 48;
/// No record is longer, header and padding included: what admission reserves must hold whatever a call becomes. A CDR
/// with both legs' reports and a few attempts takes about 1.5 KiB.
pub const RECORD_LIMIT: usize = 4096;
/// Records start at multiples of this, so that a reader can find the next one after damage.
const ALIGNMENT: usize = 8;

/// What moment of a call a record tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    Start,
    Answer,
    Interim,
    End,
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            RecordKind::Start => 1,
            RecordKind::Answer => 2,
            RecordKind::Interim => 3,
            RecordKind::End => 4,
        }
    }

    fn from_code(code: u8) -> Option<RecordKind> {
        match code {
            1 => Some(RecordKind::Start),
            2 => Some(RecordKind::Answer),
            3 => Some(RecordKind::Interim),
            4 => Some(RecordKind::End),
            _ => None,
        }
    }
}

/// What the journal is asked to keep. The journal writes node, boot, seq, revision and state itself.
#[derive(Debug, Clone, PartialEq)]
pub enum JournalRecord {
    Start(Box<Cdr>),
    /// Must be durable before the 200 to the INVITE is forwarded.
    Answer(Box<Cdr>),
    /// Periodic sign of life; `duration_ms`, `heard_ms` and `last_media_at` as of now.
    Interim(Box<Cdr>),
    /// Must be durable before the 200 to the BYE is sent.
    End(Box<Cdr>),
}

impl JournalRecord {
    pub fn kind(&self) -> RecordKind {
        match self {
            JournalRecord::Start(_) => RecordKind::Start,
            JournalRecord::Answer(_) => RecordKind::Answer,
            JournalRecord::Interim(_) => RecordKind::Interim,
            JournalRecord::End(_) => RecordKind::End,
        }
    }

    pub fn into_cdr(self) -> Box<Cdr> {
        match self {
            JournalRecord::Start(cdr)
            | JournalRecord::Answer(cdr)
            | JournalRecord::Interim(cdr)
            | JournalRecord::End(cdr) => cdr,
        }
    }
}

/// What the journal tells its owner. Called on the journal's own threads: hand it on, don't work in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalEvent {
    /// The record given with this ticket, and every one before it, survives a power cut.
    Durable { ticket: u64 },
    /// The record could not be made durable; it is tried again, but nobody may wait for it.
    Failed { ticket: u64 },
    /// Two segments in a row could not be written: running calls end with
    /// [`EndCause::JournalFailed`](crate::types::EndCause), new ones are refused.
    Broken,
    /// A write has been hanging for longer than `stall_after`: new calls are refused.
    Stalled,
    /// Writing works again after `Stalled` or `Broken`.
    Recovered,
}

/// Why no new call may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the CDR journal is full: the database has not taken its records")]
    JournalFull,
    #[error("the CDR journal's disk does not answer")]
    Stalled,
    #[error("the CDR journal cannot be written")]
    Failed,
}

/// All of a record but its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    pub sequence: u64,
    pub kind: RecordKind,
    pub call: CallId,
    pub written_at: UnixMillis,
}

/// Frames a CDR. If it is longer than the limit, attempts other than the chosen one are left out and counted, then
/// texts are shortened: a record always fits the space that was reserved for it.
pub fn encode(header: RecordHeader, cdr: &mut Cdr) -> Vec<u8> {
    let room = RECORD_LIMIT - RECORD_HEADER;
    let mut payload = to_json(cdr);
    while payload.len() > room {
        let Some(victim) = cdr.legs.iter().position(|leg| !leg.chosen) else { break };
        cdr.legs.remove(victim);
        cdr.legs_omitted = cdr.legs_omitted.saturating_add(1);
        payload = to_json(cdr);
    }
    let mut longest = 128;
    while payload.len() > room && longest > 0 {
        shorten(cdr, longest);
        payload = to_json(cdr);
        longest /= 2;
    }
    frame(header, &payload)
}

fn to_json(cdr: &Cdr) -> Vec<u8> {
    // Only maps with odd keys can fail here, and a CDR has none; an empty payload would be refused by the reader.
    serde_json::to_vec(cdr).unwrap_or_default()
}

fn shorten(cdr: &mut Cdr, longest: usize) {
    let cut = |text: &mut String| {
        let end = text.char_indices().nth(longest).map_or(text.len(), |(at, _)| at);
        text.truncate(end);
    };
    cut(&mut cdr.called.dialled);
    let optional = [
        &mut cdr.caller.user,
        &mut cdr.caller.account,
        &mut cdr.called.user,
        &mut cdr.ingress_trunk,
        &mut cdr.egress_trunk,
        &mut cdr.carrier,
    ];
    optional.into_iter().flatten().for_each(cut);
    for leg in &mut cdr.legs {
        cut(&mut leg.target);
        [&mut leg.trunk, &mut leg.user].into_iter().flatten().for_each(cut);
    }
}

fn frame(header: RecordHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((RECORD_HEADER + payload.len()).next_multiple_of(ALIGNMENT));
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&header.sequence.to_le_bytes());
    bytes.extend_from_slice(&[VERSION, header.kind.code(), 0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(header.call.0.as_bytes());
    bytes.extend_from_slice(&header.written_at.to_le_bytes());
    bytes.extend_from_slice(payload);
    let checksum = checksum(&bytes);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    bytes
}

/// Of everything but the checksum itself.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// The first bytes of a segment.
pub fn segment_header(first_sequence: u64, boot: i64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&first_sequence.to_le_bytes());
    header[16..24].copy_from_slice(&boot.to_le_bytes());
    let checksum = crc32fast::hash(&header[..24]);
    header[24..28].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// The first sequence of a segment, if these are the first bytes of one.
pub fn read_segment_header(bytes: &[u8]) -> Option<u64> {
    let header = bytes.get(..SEGMENT_HEADER)?;
    let whole = &header[..8] == MAGIC && crc32fast::hash(&header[..24]) == u32_at(header, 24);
    whole.then(|| u64_at(header, 8))
}

/// One record found in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    pub header: RecordHeader,
    /// Position of its first byte in what was scanned.
    pub offset: usize,
    /// Position after its last byte.
    pub end: usize,
    payload: &'a [u8],
}

impl Found<'_> {
    /// The bytes as written.
    pub fn payload(&self) -> &[u8] {
        self.payload
    }

    /// # Errors
    /// The payload is not the CDR of this or an earlier version.
    pub fn cdr(&self) -> Result<Cdr, serde_json::Error> {
        serde_json::from_slice(self.payload)
    }
}

/// Walks the records in the bytes that follow a segment's header (or any later record boundary).
#[derive(Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Stretches that held something other than a record and had a sound record after them.
    pub damaged: u64,
    /// True if something follows the last sound record: a record torn by a crash, which nobody was told is durable.
    pub torn: bool,
}

impl<'a> Scan<'a> {
    pub fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan { bytes, at: 0, damaged: 0, torn: false }
    }

    /// End of the last sound record.
    pub fn end(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        if let Some(found) = record_at(self.bytes, self.at) {
            self.at = found.end;
            return Some(found);
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.iter().all(|byte| *byte == 0) {
            return None;
        }
        // One bad record must not hide the acknowledged ones behind it. A text inside a payload can't pass for a
        // record: JSON holds no zero bytes, a header does.
        let next = (self.at + ALIGNMENT..self.bytes.len())
            .step_by(ALIGNMENT)
            .find_map(|offset| record_at(self.bytes, offset));
        match next {
            Some(found) => {
                self.damaged += 1;
                self.at = found.end;
                Some(found)
            }
            None => {
                self.torn = true;
                None
            }
        }
    }
}

fn record_at(bytes: &[u8], offset: usize) -> Option<Found<'_>> {
    let record = bytes.get(offset..)?;
    let head = record.get(..RECORD_HEADER)?;
    let length = u32_at(head, 0) as usize;
    if length == 0 || length > RECORD_LIMIT - RECORD_HEADER {
        return None;
    }
    let (version, kind) = (head[16], head[17]);
    if version == 0 || version > VERSION || head[18..24] != [0; 6] {
        return None;
    }
    let whole = record.get(..RECORD_HEADER + length)?;
    if checksum(whole) != u32_at(head, 4) {
        return None;
    }
    let header = RecordHeader {
        sequence: u64_at(head, 8),
        kind: RecordKind::from_code(kind)?,
        call: CallId(uuid::Uuid::from_slice(&head[24..40]).ok()?),
        written_at: u64_at(head, 40) as i64,
    };
    let end = offset + whole.len().next_multiple_of(ALIGNMENT);
    Some(Found { header, offset, end, payload: &whole[RECORD_HEADER..] })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
