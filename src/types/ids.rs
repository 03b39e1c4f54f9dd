//! Identities of calls and legs.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The identity of one call attempt everywhere: CDR, API, logs, trace. A UUIDv7, so that it sorts by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub Uuid);

impl CallId {
    /// Builds the identity from a calendar time and randomness, both given by the shell.
    pub fn from_parts(unix_ms: i64, random: [u8; 10]) -> CallId {
        CallId(uuid::Builder::from_unix_timestamp_millis(unix_ms.max(0) as u64, &random).into_uuid())
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CallId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<CallId, uuid::Error> {
        Uuid::parse_str(text).map(CallId)
    }
}

/// One leg of a call: 0 is the caller's, every attempt towards a callee takes the next number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId {
    pub call: CallId,
    pub index: u8,
}

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.call, self.index)
    }
}
