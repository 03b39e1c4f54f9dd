//! Time as the pure machines see it: given, never asked for.

use std::time::{Duration, Instant};

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMillis = i64;

/// The moment so many days before another.
pub fn days_before(now: UnixMillis, days: u32) -> UnixMillis {
    now - i64::from(days) * 86_400_000
}

/// One moment on both clocks. Durations come from `instant`, which never jumps; calendar times from `unix_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub instant: Instant,
    pub unix_ms: UnixMillis,
}

impl Now {
    /// Reads both clocks. Only shells call this.
    pub fn read() -> Now {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Now { instant: Instant::now(), unix_ms: wall.as_millis() as UnixMillis }
    }

    /// The same moment `by` later, on both clocks.
    pub fn after(self, by: Duration) -> Now {
        Now { instant: self.instant + by, unix_ms: self.unix_ms + by.as_millis() as UnixMillis }
    }

    /// The calendar time of an instant near this one.
    pub fn unix_ms_of(self, instant: Instant) -> UnixMillis {
        if instant >= self.instant {
            self.unix_ms + (instant - self.instant).as_millis() as UnixMillis
        } else {
            self.unix_ms - (self.instant - instant).as_millis() as UnixMillis
        }
    }
}
