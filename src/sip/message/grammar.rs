//! Character classes, quoting, escaping and comma lists of SIP's grammar (RFC 3261 §25.1).

use std::borrow::Cow;

const TOKEN: u8 = 1;
const USER: u8 = 2;
const PASSWORD: u8 = 4;
const URI_PARAM: u8 = 8;
const URI_HEADER: u8 = 16;
const HOST: u8 = 32;
const HEADER_PARAM: u8 = 64;
const URI_VALUE: u8 = 128;

/// For each byte the classes it belongs to.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() {
            table[byte] = TOKEN | USER | PASSWORD | URI_PARAM | URI_VALUE | URI_HEADER | HOST;
        }
        // A parameter value ends at these; everything else that can be seen has been met in the field.
        if b > b' ' && b != 0x7f && !matches!(b, b';' | b',' | b'"' | b'<' | b'>') {
            table[byte] |= HEADER_PARAM;
        }
        byte += 1;
    }
    add(&mut table, b"-.!%*_+`'~", TOKEN);
    // unreserved marks
    add(&mut table, b"-_.!~*'()", USER | PASSWORD | URI_PARAM | URI_VALUE | URI_HEADER);
    // user-unreserved; "#" is not allowed there, but phones send it in service codes
    add(&mut table, b"&=+$,;?/#", USER);
    add(&mut table, b"&=+$,", PASSWORD);
    add(&mut table, b"[]/:&+$", URI_PARAM | URI_VALUE);
    // "=" is not allowed in a value, but push tokens end with it
    add(&mut table, b"=", URI_VALUE);
    add(&mut table, b"[]/?:+$", URI_HEADER);
    // "_" is no host character, but host names with it are met
    add(&mut table, b"-._", HOST);
    table
}

const fn add(table: &mut [u8; 256], bytes: &[u8], class: u8) {
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] |= class;
        i += 1;
    }
}

fn all(text: &str, class: u8) -> bool {
    !text.is_empty() && text.bytes().all(|b| CLASSES[b as usize] & class != 0)
}

/// How long the run of bytes of a class is that starts at `from`.
fn run(bytes: &[u8], from: usize, class: u8) -> usize {
    bytes[from..].iter().position(|b| CLASSES[*b as usize] & class == 0).unwrap_or(bytes.len() - from)
}

/// `token`: method names, header names, parameter names.
pub(crate) fn is_token(text: &str) -> bool {
    all(text, TOKEN)
}

/// How long the token is that the text starts with.
pub(crate) fn token_length(text: &str) -> usize {
    run(text.as_bytes(), 0, TOKEN)
}

/// How long the unquoted parameter value is that the text starts with.
pub(crate) fn parameter_value_length(text: &str) -> usize {
    run(text.as_bytes(), 0, HEADER_PARAM)
}

/// How long the host name or IPv4 literal is that the text starts with.
pub(crate) fn host_name_length(text: &str) -> usize {
    run(text.as_bytes(), 0, HOST)
}

/// A header parameter's unquoted value, as liberal as the field needs.
pub(crate) fn is_parameter_value(text: &str) -> bool {
    all(text, HEADER_PARAM)
}

/// Where in a URI a piece of text stands; each place has its own set of characters that need no escape.
#[derive(Debug, Clone, Copy)]
pub(crate) enum UriPart {
    User,
    Password,
    Parameter,
    Value,
    Headers,
}

impl UriPart {
    fn class(self) -> u8 {
        match self {
            UriPart::User => USER,
            UriPart::Password => PASSWORD,
            UriPart::Parameter => URI_PARAM,
            UriPart::Value => URI_VALUE,
            UriPart::Headers => URI_HEADER,
        }
    }

    /// How long the piece of this part is that the text starts with, up to its end, an escape or what may not stand here.
    pub(crate) fn plain_length(self, text: &str) -> usize {
        run(text.as_bytes(), 0, self.class())
    }

    /// True if every byte may stand in this part and every `%` starts an escape.
    pub(crate) fn accepts(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let class = self.class();
        let mut i = 0;
        while i < bytes.len() {
            if CLASSES[bytes[i] as usize] & class != 0 {
                i += 1;
            } else if bytes[i] == b'%' && hex_pair(bytes, i + 1).is_some() {
                i += 3;
            } else {
                return false;
            }
        }
        true
    }

    /// Writes text with everything escaped that may not stand here.
    pub(crate) fn escape(self, text: &str, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        let class = self.class();
        for c in text.chars() {
            if c.is_ascii() && CLASSES[c as usize] & class != 0 && c != '#' {
                out.write_char(c)?;
            } else {
                for b in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(out, "%{b:02X}")?;
                }
            }
        }
        Ok(())
    }

    /// Writes text that may already hold escapes: only what may not stand here is escaped.
    pub(crate) fn keep_escaped(self, text: &str, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        let class = self.class();
        for (i, c) in text.char_indices() {
            let escape = c == '%' && hex_pair(text.as_bytes(), i + 1).is_some();
            if escape || c.is_ascii() && CLASSES[c as usize] & class != 0 {
                out.write_char(c)?;
            } else {
                for b in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(out, "%{b:02X}")?;
                }
            }
        }
        Ok(())
    }
}

fn hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    Some(digit(*bytes.get(at)?)? << 4 | digit(*bytes.get(at + 1)?)?)
}

/// Undoes `%HH`. `None` if what comes out is not UTF-8.
pub(crate) fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if find(text, b'%').is_none() {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match if bytes[i] == b'%' { hex_pair(bytes, i + 1) } else { None } {
            Some(b) => {
                out.push(b);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// White space inside a header value. Line ends are gone by the time values are read.
pub(crate) fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// Where SP or HTAB stands first.
pub(crate) fn find_space(text: &str) -> Option<usize> {
    text.bytes().position(|b| matches!(b, b' ' | b'\t'))
}

/// Where an ASCII character stands first. The pieces of a header are short: a plain walk beats a search that first
/// prepares itself, and reading a message is some hundred searches.
pub(crate) fn find(text: &str, ascii: u8) -> Option<usize> {
    text.bytes().position(|b| b == ascii)
}

/// What stands before and behind the first of an ASCII character.
pub(crate) fn split_once(text: &str, ascii: u8) -> Option<(&str, &str)> {
    let at = find(text, ascii)?;
    Some((&text[..at], &text[at + 1..]))
}

/// True if CR or LF is in the text.
pub(crate) fn holds_line_end(text: &str) -> bool {
    memchr::memchr2(b'\r', b'\n', text.as_bytes()).is_some()
}

/// Removes SP and HTAB at both ends, nothing else: other control characters are never white space.
pub(crate) fn trim(text: &str) -> &str {
    trim_start(trim_end(text))
}

/// Removes SP and HTAB at the start.
pub(crate) fn trim_start(text: &str) -> &str {
    let mut rest = text;
    // Nearly always at most one space.
    while let [b' ' | b'\t', ..] = rest.as_bytes() {
        rest = &rest[1..];
    }
    rest
}

/// Removes SP and HTAB at the end.
pub(crate) fn trim_end(text: &str) -> &str {
    let mut rest = text;
    while let [.., b' ' | b'\t'] = rest.as_bytes() {
        rest = &rest[..rest.len() - 1];
    }
    rest
}

/// The index just behind a quoted string that starts at the first byte; `None` if it does not end.
pub(crate) fn quoted_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    debug_assert_eq!(bytes.first(), Some(&b'"'));
    let mut i = 1;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => return Some(i + 1),
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    None
}

/// The text inside a quoted string given with its quotes, quoted pairs resolved.
pub(crate) fn unquote(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    if find(inner, b'\\').is_none() {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Writes a quoted string. Control characters become quoted pairs, line ends a space: nothing leaves the quotes.
pub(crate) fn quote(text: &str, out: &mut impl std::fmt::Write) -> std::fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '\r' | '\n' => out.write_char(' ')?,
            '"' | '\\' => {
                out.write_char('\\')?;
                out.write_char(c)?;
            }
            '\t' => out.write_char(c)?,
            c if c.is_ascii_control() => {
                out.write_char('\\')?;
                out.write_char(c)?;
            }
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// The values of a comma-separated header field. Commas inside quotes and angle brackets do not separate.
#[derive(Debug, Clone)]
pub struct List<'a> {
    rest: Option<&'a str>,
}

impl<'a> List<'a> {
    pub(crate) fn new(text: &'a str) -> List<'a> {
        List { rest: (!trim(text).is_empty()).then_some(text) }
    }
}

impl<'a> Iterator for List<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest?;
        let end = separator(text, b',');
        let (value, rest) = match end {
            Some(i) => (&text[..i], Some(&text[i + 1..])),
            None => (text, None),
        };
        self.rest = rest;
        Some(trim(value))
    }
}

/// The first `separator` outside of quotes and angle brackets.
pub(crate) fn separator(text: &str, separator: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    // Most values stand alone, and need no look at their quotes.
    memchr::memchr(separator, bytes)?;
    let (mut i, mut in_brackets) = (0, false);
    while i < bytes.len() {
        match bytes[i] {
            b'"' if !in_brackets => match quoted_end(&text[i..]) {
                Some(length) => {
                    i += length;
                    continue;
                }
                None => return None,
            },
            b'<' => in_brackets = true,
            b'>' => in_brackets = false,
            b if b == separator && !in_brackets => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// A decimal number without sign; leading zeros are fine. `None` if it is anything else or too large.
pub(crate) fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.bytes().try_fold(0u64, |n, b| n.checked_mul(10)?.checked_add(u64::from(b - b'0')))
}

/// A count of seconds: too large a number is the largest we can hold (RFC 3261 §20.19), not an error.
pub(crate) fn seconds(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(number(text).and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_only_outside_quotes_and_brackets() {
        let values: Vec<_> = List::new(r#""Bell, A." <sip:a,b@c>;x=1 , sip:d, "e\", <f" <sip:g>"#).collect();
        assert_eq!(values, [r#""Bell, A." <sip:a,b@c>;x=1"#, "sip:d", r#""e\", <f" <sip:g>"#]);
        assert_eq!(List::new(" ").count(), 0);
        assert_eq!(List::new("a,,b").collect::<Vec<_>>(), ["a", "", "b"]);
    }

    #[test]
    fn quoting_survives_a_round_trip_and_lets_nothing_out() {
        for text in ["plain", r#"a "b" \c"#, "tab\there", "bell\u{7}", "ünï"] {
            let mut out = String::new();
            quote(text, &mut out).unwrap();
            assert_eq!(quoted_end(&out), Some(out.len()));
            assert_eq!(unquote(&out), text);
        }
        let mut out = String::new();
        quote("a\r\nEvil: 1", &mut out).unwrap();
        assert_eq!(out, "\"a  Evil: 1\"");
    }

    #[test]
    fn escapes_are_resolved_only_to_utf8() {
        assert_eq!(unescape("a%40b%C3%BC").unwrap(), "a@bü");
        assert_eq!(unescape("%ff"), None);
        assert_eq!(unescape("50%").unwrap(), "50%");
        let mut out = String::new();
        UriPart::User.escape("a@b:ü#", &mut out).unwrap();
        assert_eq!(out, "a%40b%3A%C3%BC%23");
    }

    #[test]
    fn numbers_have_no_sign_and_no_overflow() {
        assert_eq!(number("0068"), Some(68));
        for bad in ["", "-1", "+1", "1 ", "0x1", "36893488147419103232"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(seconds("99999999999999999999999"), Some(u32::MAX));
    }
}
