//! The operator's own record of its calls, independent of the gateway's CDRs: one JSON line a call.

use crate::types::{AudioCodec, UnixMillis};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Which end of a call the operator's side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The call came in, from the gateway.
    Callee,
    /// The operator placed it.
    Caller,
}

/// Who ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleasedBy {
    Caller,
    Callee,
    /// A timer ran out, the transport failed, or the operator was stopped.
    Nobody,
}

/// One call. Times are milliseconds since the Unix epoch by the operator's clock; durations come from its monotonic
/// clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts the calls of this run from 1.
    pub call: u64,
    pub side: Side,
    pub call_id: String,
    pub transport: String,
    /// Who calls: From, or P-Asserted-Identity or P-Preferred-Identity where it is there.
    pub calling: String,
    /// The number as it stands in the Request-URI.
    pub called: String,
    /// How the call was treated; `placed` for calls of our own.
    pub treatment: String,
    /// The INVITE.
    pub started_at: UnixMillis,
    /// The first 180 or 183.
    pub ringing_at: Option<UnixMillis>,
    /// The 2xx.
    pub answered_at: Option<UnixMillis>,
    pub released_at: UnixMillis,
    /// From the INVITE to the answer.
    pub setup_ms: Option<u64>,
    /// From the answer to the release; 0 where there was no answer.
    pub duration_ms: u64,
    /// The final status of the INVITE; 0 where there was none.
    pub status: u16,
    pub released_by: ReleasedBy,
    /// The Reason header of the message that ended it, or what failed.
    pub reason: Option<String>,
    /// True from the ACK of our 2xx on.
    pub acknowledged: bool,
    pub codec: Option<AudioCodec>,
    #[serde(flatten)]
    pub media: Media,
    /// The file with what was heard.
    pub recording: Option<String>,
}

/// What passed in the media of a call, counted at the operator's end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Media {
    pub packets_heard: u64,
    /// Of whole RTP packets, header and payload.
    pub bytes_heard: u64,
    /// By sequence numbers.
    pub packets_lost: u64,
    pub packets_sent: u64,
    pub bytes_sent: u64,
    pub jitter_ms: Option<f32>,
    pub last_heard_at: Option<UnixMillis>,
    /// Keys pressed at the far end, as `12#`.
    pub keys: String,
}

/// The file. Each line is handed to the system before the next call is looked at, so that a killed operator keeps
/// every call it has ended.
#[derive(Debug)]
pub struct Ledger {
    file: File,
}

impl Ledger {
    /// Opens a ledger to append to, making it if need be.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<Ledger> {
        Ok(Ledger { file: OpenOptions::new().create(true).append(true).open(path)? })
    }

    /// Writes one call.
    ///
    /// # Errors
    /// Those of the file system; the call is then missing from the file.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_string(entry)?;
        line.push('\n');
        // One write a line: two operators on one ledger can't mix theirs.
        self.file.write_all(line.as_bytes())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn entry() -> Entry {
        Entry {
            call: 1,
            side: Side::Callee,
            call_id: "c1@gw".to_owned(),
            transport: "udp".to_owned(),
            calling: "+3225550001".to_owned(),
            called: "+32470123456".to_owned(),
            treatment: "answer".to_owned(),
            started_at: 1_772_366_400_000,
            ringing_at: Some(1_772_366_400_002),
            answered_at: Some(1_772_366_401_000),
            released_at: 1_772_366_411_500,
            setup_ms: Some(1_000),
            duration_ms: 10_500,
            status: 200,
            released_by: ReleasedBy::Caller,
            reason: None,
            acknowledged: true,
            codec: Some(AudioCodec::Pcma),
            media: Media { packets_heard: 525, bytes_heard: 84_000, ..Media::default() },
            recording: None,
        }
    }

    #[test]
    fn each_call_is_a_line_that_reads_back_and_old_lines_stay() {
        let path = std::env::temp_dir().join(format!("tandem-ledger-{}.jsonl", std::process::id()));
        let second = Entry { call: 2, ..entry() };
        Ledger::open(&path).unwrap().write(&entry()).unwrap();
        Ledger::open(&path).unwrap().write(&second).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let read: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, [entry(), second]);
        assert!(
            text.contains("\"packets_heard\":525") && text.contains("\"released_by\":\"caller\""),
            "{text}"
        );
    }

    #[test]
    fn a_number_cannot_bring_a_line_of_its_own() {
        let odd = Entry { called: "1\n{\"call\":9}".to_owned(), ..entry() };
        assert_eq!(serde_json::to_string(&odd).unwrap().lines().count(), 1);
    }
}
