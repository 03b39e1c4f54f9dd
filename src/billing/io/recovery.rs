//! What a journal directory holds at start: sound records counted, torn tails cut, calls that were open found.

use crate::{
    billing::{
        cdr::Cdr,
        record::{self, RecordKind, SEGMENT_HEADER, Scan},
    },
    types::CallId,
};
use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use super::space::{Segment, SegmentNumber};

pub(super) const SEGMENT_SUFFIX: &str = "segment";
pub(super) const SPARE_SUFFIX: &str = "spare";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub segments: Vec<(SegmentNumber, Segment)>,
    /// Newest snapshot of each call without an end, in order of call id.
    pub open: Vec<Cdr>,
    pub last_sequence: u64,
    pub records: u64,
    pub torn: u64,
    pub damaged: u64,
}

pub(super) fn segment_path(directory: &Path, number: SegmentNumber) -> PathBuf {
    directory.join(format!("{number:016}.{SEGMENT_SUFFIX}"))
}

/// Reads every segment. Segments end up as long as their sound records; empty ones and spares are removed.
pub(super) fn recover(directory: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let mut open: HashMap<CallId, Cdr> = HashMap::new();
    for (number, path) in list(directory)? {
        let bytes = fs::read(&path)?;
        // A segment is named before its header is durable, so the header may be missing; records never precede it.
        let first = record::read_segment_header(&bytes);
        found.last_sequence = found.last_sequence.max(first.map_or(0, |first| first.saturating_sub(1)));
        let records = bytes.get(SEGMENT_HEADER..).unwrap_or_default();
        let mut scan = Scan::new(records);
        for record in scan.by_ref() {
            // A batch that failed in one segment was written again to the next one, under the same sequences.
            if record.header.sequence <= found.last_sequence {
                continue;
            }
            found.last_sequence = record.header.sequence;
            found.records += 1;
            match record.header.kind {
                RecordKind::End => {
                    open.remove(&record.header.call);
                }
                RecordKind::Start | RecordKind::Answer | RecordKind::Interim => match record.cdr() {
                    Ok(cdr) => {
                        open.insert(record.header.call, cdr);
                    }
                    Err(error) => {
                        tracing::error!(call = %record.header.call, %error, "journal record is not a CDR");
                        found.damaged += 1;
                    }
                },
            }
        }
        found.damaged += scan.damaged;
        found.torn += u64::from(scan.torn);
        if scan.end() == 0 {
            fs::remove_file(&path)?;
            continue;
        }
        let end = (SEGMENT_HEADER + scan.end()) as u64;
        OpenOptions::new().write(true).open(&path)?.set_len(end)?;
        let segment = Segment { path, end, last_sequence: Some(found.last_sequence), bytes: end };
        found.segments.push((number, segment));
    }
    found.open = open.into_values().collect();
    found.open.sort_by_key(|cdr| cdr.id);
    Ok(found)
}

/// The segments in order; spares of the last run go.
fn list(directory: &Path) -> io::Result<Vec<(SegmentNumber, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.extension().and_then(|suffix| suffix.to_str()) {
            Some(SEGMENT_SUFFIX) => {
                let number =
                    path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
                if let Some(number) = number {
                    segments.push((number, path));
                }
            }
            Some(SPARE_SUFFIX) => fs::remove_file(path)?,
            Some(_) | None => {}
        }
    }
    segments.sort_unstable();
    Ok(segments)
}
