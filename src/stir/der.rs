//! Just as much DER as the extensions of signers' certificates take (X.690, definite lengths only).

pub const INTEGER: u8 = 0x02;
pub const UTF8_STRING: u8 = 0x0c;
pub const IA5_STRING: u8 = 0x16;
pub const SEQUENCE: u8 = 0x30;

/// `[number]`, explicitly tagged.
pub const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Tag, content and what follows the first element.
pub fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0_usize, |length, octet| length << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The elements of a SEQUENCE, at most `most`, each read by `read`; `None` where it is none, is empty, or one is wrong.
pub fn list<T>(der: &[u8], most: usize, read: impl Fn(u8, &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let (SEQUENCE, mut rest, []) = element(der)? else { return None };
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (tag, content, after) = element(rest)?;
        found.push(read(tag, content)?);
        if found.len() > most {
            return None;
        }
        rest = after;
    }
    (!found.is_empty()).then_some(found)
}

/// The content of a string of that tag.
pub fn string(wanted: u8) -> impl Fn(u8, &[u8]) -> Option<String> {
    move |tag, content| {
        let text = std::str::from_utf8(content).ok()?;
        (tag == wanted && (wanted != IA5_STRING || text.is_ascii())).then(|| text.to_owned())
    }
}
