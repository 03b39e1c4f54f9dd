//! Dates as SIP writes them (RFC 3261 §20.17): `Sat, 13 Nov 2010 23:29:00 GMT`.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const FORM: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// Of seconds since the epoch; empty for a year that has not four digits.
pub fn write(unix_s: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(unix_s).ok();
    moment.and_then(|moment| moment.format(FORM).ok()).unwrap_or_default()
}

/// In seconds since the epoch; `None` where it is no date.
pub fn read(text: &str) -> Option<i64> {
    let moment = PrimitiveDateTime::parse(text.trim(), FORM).ok()?.assume_utc().unix_timestamp();
    // A weekday that is not that of the date is found only so.
    (write(moment) == text.trim()).then_some(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_and_read_as_rfc_3261_has_it() {
        assert_eq!(write(1_289_690_940), "Sat, 13 Nov 2010 23:29:00 GMT");
        assert_eq!(read("Sat, 13 Nov 2010 23:29:00 GMT"), Some(1_289_690_940));
        for bad in ["", "Fri, 13 Nov 2010 23:29:00 GMT", "Sat, 13 Nov 2010 23:29:00 EST", "2010-11-13"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
