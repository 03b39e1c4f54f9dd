//! Records that no database takes: kept for a person to look at, their numbers no longer whole than all others.

use crate::types::{E164, Now, UnixMillis, days_before, shorten_number};
use serde_json::{Value, json};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::files::replace;

/// Retention is a matter of days.
const LOOK: Duration = Duration::from_secs(3_600);
/// In a record that nobody understands, so many digits in a row may be a number.
const NUMBER_DIGITS: usize = 5;

/// The file `refused.jsonl`: a line is a CDR as JSON, or `{"set_aside_at", "unreadable"}`.
pub struct RefusedRecords {
    path: PathBuf,
    /// Lines are added while others are rewritten.
    lock: Mutex<()>,
    count: AtomicU64,
}

impl RefusedRecords {
    pub(super) fn new(directory: &Path) -> RefusedRecords {
        RefusedRecords {
            path: directory.join("refused.jsonl"),
            lock: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    /// Records set aside since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Keeps a CDR that the database refuses.
    pub(super) fn keep_cdr(&self, cdr: &[u8]) {
        self.append(cdr);
    }

    /// Keeps the bytes of a record that can't be read.
    pub(super) fn keep_unreadable(&self, bytes: &[u8], now: UnixMillis) {
        let line = json!({ "set_aside_at": now, "unreadable": String::from_utf8_lossy(bytes) });
        self.append(line.to_string().as_bytes());
    }

    fn append(&self, line: &[u8]) {
        let _alone = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = OpenOptions::new().create(true).append(true).open(&self.path);
        let written = opened.and_then(|mut file| {
            file.write_all(&[line, b"\n"].concat())?;
            file.sync_data()
        });
        if let Err(error) = written {
            tracing::error!(%error, "a refused CDR can't be kept");
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Shortens the numbers of calls that started before `before`; beside each stays its keyed hash. Gives how many
    /// records changed.
    ///
    /// # Errors
    /// The file can't be read or written; then it is as it was.
    pub fn shorten_numbers(
        &self,
        before: UnixMillis,
        hash: impl Fn(&E164) -> Option<String>,
    ) -> io::Result<u64> {
        let _alone = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match fs::read(&self.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut changed = 0;
        let mut kept = String::with_capacity(text.len());
        for line in text.lines() {
            let shortened = shortened(line, before, &hash);
            changed += u64::from(shortened.is_some());
            kept.push_str(shortened.as_deref().unwrap_or(line));
            kept.push('\n');
        }
        if changed > 0 {
            replace(&self.path, kept.as_bytes())?;
        }
        Ok(changed)
    }

    /// Runs as long as the gateway. `retention_days` is asked each time, as a reload may change it.
    pub async fn keep(
        self: Arc<RefusedRecords>,
        retention_days: impl Fn() -> u32 + Send,
        hash: impl Fn(&E164) -> Option<String> + Clone + Send + 'static,
    ) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let before = days_before(Now::read().unix_ms, retention_days());
            let (records, hash) = (self.clone(), hash.clone());
            let done = tokio::task::spawn_blocking(move || records.shorten_numbers(before, hash)).await;
            match done {
                Ok(Ok(0)) | Err(_) => {}
                Ok(Ok(records)) => tracing::info!(records, "numbers of refused records shortened"),
                Ok(Err(error)) => tracing::warn!(%error, "numbers of refused records can't be shortened yet"),
            }
        }
    }
}

/// The line with its numbers shortened; `None` where they may stay, or are shortened already.
fn shortened(line: &str, before: UnixMillis, hash: &impl Fn(&E164) -> Option<String>) -> Option<String> {
    let mut record: Value = match serde_json::from_str(line) {
        Ok(record) => record,
        // Torn by a crash: it has no time, so its time is over.
        Err(_) => {
            return Some(
                json!({ "unreadable": without_numbers(line), "numbers_shortened": true }).to_string(),
            );
        }
    };
    let time = record.get("started_at").or_else(|| record.get("set_aside_at")).and_then(Value::as_i64);
    if time.is_some_and(|time| time >= before) || record.get("numbers_shortened").is_some() {
        return None;
    }
    if let Some(text) = record.get("unreadable").and_then(Value::as_str).map(without_numbers) {
        record["unreadable"] = text.into();
    } else {
        for party in ["caller", "called"] {
            let number = record.pointer(&format!("/{party}/number")).and_then(Value::as_str);
            let found = number.and_then(|number| number.parse().ok()).and_then(|number| hash(&number));
            if let Some(found) = found {
                record[party]["number_hash"] = found.into();
            }
        }
        let legs = record.get("legs").and_then(Value::as_array).map_or(0, Vec::len);
        let targets = (0..legs).map(|leg| format!("/legs/{leg}/target"));
        let places = ["/caller/number", "/called/number", "/called/dialled"].map(str::to_owned);
        for place in places.into_iter().chain(targets) {
            if let Some(Value::String(number)) = record.pointer_mut(&place) {
                *number = shorten_number(number);
            }
        }
    }
    record["numbers_shortened"] = true.into();
    Some(record.to_string())
}

/// Text in which nobody knows what is a number: each longer run of digits loses its last four.
fn without_numbers(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let run = rest[start..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| start + end);
        short.push_str(&rest[..start]);
        let digits = &rest[start..run];
        match digits.len() >= NUMBER_DIGITS {
            true => short.push_str(&shorten_number(digits)),
            false => short.push_str(digits),
        }
        rest = &rest[run..];
    }
    short + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: &E164) -> Option<String> {
        Some(format!("k:{}", number.digits().len()))
    }

    #[test]
    fn old_records_lose_their_digits_and_keep_a_hash_and_young_ones_stay() {
        let record = |at: i64| {
            json!({
                "id": "x", "started_at": at, "caller": {"user": "alice", "number": "+3225550001"},
                "called": {"dialled": "0470 12 34 56", "number": "+32470123456"},
                "legs": [{"target": "+32470123456", "started_at": 1}],
            })
            .to_string()
        };
        assert_eq!(shortened(&record(100), 100, &hash), None);
        let old = shortened(&record(99), 100, &hash).unwrap();
        let read: Value = serde_json::from_str(&old).unwrap();
        assert_eq!(read["caller"], json!({"user": "alice", "number": "+322555****", "number_hash": "k:10"}));
        assert_eq!(read["called"]["dialled"], "0470 12 ** **");
        assert_eq!(read["called"]["number_hash"], "k:11");
        assert_eq!(read["legs"][0]["target"], "+3247012****");
        assert_eq!(shortened(&old, 100, &hash), None, "once is enough");
    }

    #[test]
    fn what_nobody_understands_keeps_no_long_run_of_digits() {
        let line =
            json!({"set_aside_at": 99, "unreadable": "to 0470123456, 112 and +3225550001"}).to_string();
        assert_eq!(shortened(&line, 99, &hash), None);
        let read: Value = serde_json::from_str(&shortened(&line, 100, &hash).unwrap()).unwrap();
        assert_eq!(read["unreadable"], "to 047012****, 112 and +322555****");
        let torn = shortened("{\"called\":{\"number\":\"+3247012345", 0, &hash).unwrap();
        assert!(torn.contains("+324701****"), "{torn}");
        assert_eq!(shortened(&torn, 0, &hash), None);
    }
}
