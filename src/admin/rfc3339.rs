//! Calendar times as the API writes them: `2026-03-01T12:00:00.250Z` (RFC 3339, UTC, milliseconds).

use crate::types::UnixMillis;
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// Writes a time; one outside the years 0 to 9999 comes out as the epoch.
pub fn format(unix_ms: UnixMillis) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let at = at.ok().filter(|at| (0..=9999).contains(&at.year())).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.format(form).unwrap_or_default()
}

/// Reads a time with any offset; the error says what to write.
pub fn parse(text: &str) -> Result<UnixMillis, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map(|at| (at.unix_timestamp_nanos() / 1_000_000) as UnixMillis)
        .map_err(|_| format!("\"{text}\" is not a time; write it as 2026-03-01T12:00:00Z"))
}

pub fn serialize<S: Serializer>(unix_ms: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*unix_ms))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixMillis, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The same for times that may be absent.
pub mod option {
    use super::*;

    pub fn serialize<S: Serializer>(unix_ms: &Option<UnixMillis>, serializer: S) -> Result<S::Ok, S::Error> {
        match unix_ms {
            Some(unix_ms) => serializer.serialize_some(&format(*unix_ms)),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixMillis>, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            Some(text) => parse(&text).map(Some).map_err(D::Error::custom),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_writing_and_reading_to_the_millisecond() {
        for unix_ms in [0, 1_772_366_400_250, -1_500, 253_402_300_799_999] {
            assert_eq!(parse(&format(unix_ms)), Ok(unix_ms));
        }
        assert_eq!(format(1_772_366_400_250), "2026-03-01T12:00:00.250Z");
        assert_eq!(parse("2026-03-01T13:00:00.25+01:00"), Ok(1_772_366_400_250));
        assert!(parse("yesterday").unwrap_err().contains("2026-03-01T12:00:00Z"));
    }
}
