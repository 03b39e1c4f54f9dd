//! What a certificate may speak for: the TN Authorization List (RFC 8226 §9).

use super::der::{IA5_STRING, INTEGER, SEQUENCE, context, element, list};
use std::ops::ControlFlow;

/// Entries of one list that are looked at.
const MOST_ENTRIES: usize = 10_000;

const PROVIDER: u8 = context(0);
const RANGE: u8 = context(1);
const ONE: u8 = context(2);

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A service provider, by its code: whatever numbers it has.
    Provider(String),
    /// So many numbers from the first on, all of the same length.
    Range {
        start: String,
        count: u64,
    },
    One(String),
}

/// Reads the value of the extension; `None` where it is not one.
pub fn read(der: &[u8]) -> Option<Vec<Entry>> {
    list(der, MOST_ENTRIES, entry)
}

/// Tags are explicit in this module of ASN.1.
fn entry(tag: u8, content: &[u8]) -> Option<Entry> {
    match tag {
        PROVIDER => Some(Entry::Provider(ia5(content)?.0)),
        ONE => Some(Entry::One(ia5(content)?.0)),
        RANGE => {
            let (SEQUENCE, range, []) = element(content)? else { return None };
            let (start, rest) = ia5(range)?;
            let (INTEGER, count, []) = element(rest)? else { return None };
            if count.is_empty() || count.len() > 8 || count[0] & 0x80 != 0 {
                return None;
            }
            let count = count.iter().fold(0_u64, |count, octet| count << 8 | u64::from(*octet));
            Some(Entry::Range { start, count })
        }
        _ => None,
    }
}

fn ia5(der: &[u8]) -> Option<(String, &[u8])> {
    let (IA5_STRING, text, rest) = element(der)? else { return None };
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    Some((text.to_owned(), rest))
}

/// True where the list speaks for a number, given as digits. A provider's code stands for all its numbers, which only
/// the authority knows: that is what its signature on the certificate is for.
pub fn covers(entries: &[Entry], digits: &str) -> bool {
    let found = entries.iter().try_for_each(|entry| {
        let yes = match entry {
            Entry::Provider(_) => true,
            Entry::One(number) => number == digits,
            Entry::Range { start, count } => is_within(start, *count, digits),
        };
        if yes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found.is_break()
}

fn is_within(start: &str, count: u64, digits: &str) -> bool {
    if start.len() != digits.len() || start.len() > 15 {
        return false;
    }
    match (start.parse::<u64>(), digits.parse::<u64>()) {
        (Ok(first), Ok(number)) => number.checked_sub(first).is_some_and(|distance| distance < count),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes a list, for certificates of tests.
    pub(crate) fn write(entries: &[Entry]) -> Vec<u8> {
        let short = |tag: u8, content: &[u8]| {
            let mut der = vec![tag, u8::try_from(content.len()).unwrap()];
            der.extend_from_slice(content);
            der
        };
        let text = |text: &str| short(IA5_STRING, text.as_bytes());
        let list: Vec<u8> = entries
            .iter()
            .flat_map(|entry| match entry {
                Entry::Provider(code) => short(PROVIDER, &text(code)),
                Entry::One(number) => short(ONE, &text(number)),
                Entry::Range { start, count } => {
                    let count = count.to_be_bytes();
                    let range = [text(start), short(INTEGER, &count)].concat();
                    short(RANGE, &short(SEQUENCE, &range))
                }
            })
            .collect();
        short(SEQUENCE, &list)
    }

    #[test]
    fn each_kind_of_entry_is_read() {
        let entries = vec![
            Entry::Provider("1234".into()),
            Entry::Range { start: "3225550000".into(), count: 100 },
            Entry::One("33140205050".into()),
        ];
        assert_eq!(read(&write(&entries)), Some(entries));
        // As RFC 8226 and ATIS-1000080 write the code "1234".
        let der = [0x30, 0x08, 0xa0, 0x06, 0x16, 0x04, 0x31, 0x32, 0x33, 0x34];
        assert_eq!(read(&der), Some(vec![Entry::Provider("1234".into())]));
    }

    #[test]
    fn a_number_is_covered_by_its_provider_its_range_or_itself() {
        let range = [Entry::Range { start: "3225550000".into(), count: 100 }];
        for (digits, inside) in [
            ("3225550000", true),
            ("3225550099", true),
            ("3225550100", false),
            ("3225549999", false),
            ("32255500000", false),
            ("", false),
            ("322555000*", false),
        ] {
            assert_eq!(covers(&range, digits), inside, "{digits}");
        }
        assert!(covers(&[Entry::One("112".into())], "112") && !covers(&[Entry::One("112".into())], "113"));
        assert!(covers(&[Entry::Provider("x".into())], "3225550000"));
    }

    #[test]
    fn a_list_cut_anywhere_is_none() {
        let whole = write(&[Entry::Range { start: "3225550000".into(), count: 100 }, Entry::One("1".into())]);
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "cut at {end}");
        }
        for bad in [&[0x30, 0x00][..], &[0x30, 0x80], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x31, 0x00]] {
            assert_eq!(read(bad), None);
        }
    }
}
