//! When a certificate ends: just as much DER as that takes (X.690, RFC 5280 §4.1).

use time::{Date, Month, PrimitiveDateTime, Time};

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT Version`, which a version 1 certificate leaves out.
const VERSION: u8 = 0xa0;

/// The end of validity of a DER certificate, in seconds since the epoch; `None` if it is no certificate.
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // Serial number, signature algorithm and issuer stand before the validity.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (SEQUENCE, validity, _) = element(fields)? else { return None };
    let (kind, end, _) = element(element(validity)?.2)?;
    moment(kind, std::str::from_utf8(end).ok()?)
}

/// Tag, content and what follows the first element.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], mut rest) = bytes.split_first_chunk()?;
    let mut length = usize::from(length);
    if length > 0x7f {
        let (digits, after) = rest.split_at_checked(length & 0x7f)?;
        // A certificate of more than 4 GiB is none.
        length = digits.iter().skip_while(|digit| **digit == 0).try_fold(0_usize, |length, digit| {
            length
                .checked_mul(256)?
                .checked_add(usize::from(*digit))
                .filter(|length| *length <= u32::MAX as usize)
        })?;
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn moment(kind: u8, text: &str) -> Option<i64> {
    let (year, rest) = match kind {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let digits = rest.strip_suffix('Z').filter(|digits| digits.len() == 10 && digits.is_ascii())?;
    let two = |at: usize| digits.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(two(0)?).ok()?, two(2)?).ok()?;
    let time = Time::from_hms(two(4)?, two(6)?, two(8)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn ending(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["sip.example.org".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_forms_of_time() {
        // Up to 2049 it is written as UTCTime, later as GeneralizedTime.
        assert_eq!(not_after(&ending(2031, 5, 6)), Some(1_935_792_000));
        assert_eq!(not_after(&ending(2061, 1, 2)), Some(2_871_849_600));
    }

    #[test]
    fn a_cut_or_foreign_file_has_no_end_and_does_no_harm() {
        let whole = ending(2031, 5, 6);
        for length in 0..whole.len() {
            let cut = not_after(&whole[..length]);
            assert!(cut.is_none(), "cut at {length}");
        }
        assert_eq!(not_after(b"\x30\x84\xff\xff\xff\xff"), None);
        assert_eq!(not_after(b"-----BEGIN CERTIFICATE-----"), None);
    }
}
