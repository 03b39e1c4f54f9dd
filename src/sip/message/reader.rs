//! The wire reader: bytes to messages, within stated limits, strict where leniency would let something in.

use super::error::{ParseError, ParseErrorKind as Kind, PartialRequest};
use super::header_name::HeaderName;
use super::headers::Headers;
use super::lines::{FieldLine, Lines};
use super::method::Method;
use super::typed::{self, CSeq};
use super::uri::{Uri, UriRef};
use super::{Message, Request, Response, grammar};
use bytes::Bytes;
use std::{ops::Range, sync::Arc};

/// What a message may cost. The defaults are the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the whole message. An INVITE with certificates, history and a WebRTC offer stays under 20 KB;
    /// 32 KiB leaves room and bounds what one source can make us hold.
    pub message: usize,
    /// Header fields. Long Via and Record-Route chains need some 70 (the hop limit); the rest is for extensions.
    pub header_fields: usize,
    /// Octets of one header field with its folded lines, and of the start line. STIR Identity headers with
    /// certificates reach 4 KB.
    pub line: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { message: 32 * 1024, header_fields: 128, line: 8 * 1024 }
    }
}

/// Reads a datagram: one message, perhaps behind line ends. Octets behind Content-Length are dropped
/// (RFC 3261 §18.3).
pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
    parse_with(bytes, &Limits::default())
}

/// As [`parse`], with other limits.
pub fn parse_with(bytes: &[u8], limits: &Limits) -> Result<Message, ParseError> {
    read(bytes, limits, |body| Bytes::copy_from_slice(&bytes[body]))
}

/// The Content-Length of a head that came by a stream, where it says where the next message starts
/// (RFC 3261 §18.3). Whatever two readers could understand differently is an error: no folding of the length, no
/// second length, no line end but CRLF, no line that is not a field. `head` ends with its empty line.
pub(crate) fn framing_length(head: &[u8]) -> Result<u64, Kind> {
    let text = text_of(head);
    let lines = Lines::of(text.as_bytes());
    if lines.bare_line_end {
        return Err(Kind::LineEnd);
    }
    let mut length = None;
    for line in lines.fields(&text) {
        let field = &text[line.start..line.end];
        if field.is_empty() {
            continue;
        }
        let (name, value) = field.split_once(':').ok_or(Kind::HeaderLine)?;
        let name = grammar::trim_end(name);
        if !grammar::is_token(name) {
            return Err(Kind::HeaderLine);
        }
        if name.eq_ignore_ascii_case("l") || name.eq_ignore_ascii_case("Content-Length") {
            if length.is_some() {
                return Err(Kind::Repeated(HeaderName::ContentLength));
            }
            let value = grammar::number(grammar::trim(value));
            length = Some(value.ok_or(Kind::Malformed(HeaderName::ContentLength))?);
        }
    }
    length.ok_or(Kind::Missing(HeaderName::ContentLength))
}

/// Refuses a message for a reason its transport found, with what can be read of it.
pub(crate) fn refuse(head: &[u8], kind: Kind, limits: &Limits) -> ParseError {
    // Enough to hold all that a response copies, whatever is wrong with the rest.
    let head = &head[..head.len().min(limits.message)];
    let request = read(head, limits, |_| Bytes::new()).map_or_else(
        |error| error.request,
        |message| match message {
            Message::Request(Request { method, headers, .. }) => {
                Some(Box::new(PartialRequest { method, headers }))
            }
            Message::Response(_) => None,
        },
    );
    ParseError { kind, request }
}

fn read(
    bytes: &[u8],
    limits: &Limits,
    body: impl FnOnce(Range<usize>) -> Bytes,
) -> Result<Message, ParseError> {
    let bare = |kind| ParseError { kind, request: None };
    // Line ends before the start line are ignored (RFC 3261 §7.5).
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).ok_or_else(|| bare(Kind::Empty))?;
    let lines = Lines::of(&bytes[start..]);
    let (head_end, body_start) = match lines.body {
        Some(body) => (start + body - 2, start + body),
        None => (bytes.len(), bytes.len()),
    };
    let mut faults = Faults::default();
    if bytes.len() - start > limits.message {
        faults.note(Kind::TooLarge);
    }
    // A head far beyond all limits is not looked at.
    if head_end - start > limits.message {
        return Err(bare(Kind::TooLarge));
    }
    let text = text_of(&bytes[start..head_end]);
    // Other characters in place of what was no UTF-8 move the lines.
    let lines = if text.len() == head_end - start { lines } else { Lines::of(text.as_bytes()) };
    if body_start == bytes.len() && !bytes.ends_with(b"\r\n\r\n") {
        faults.note(Kind::Unfinished);
    }
    let start_line = &text[..lines.start_line_end(&text)];
    if start_line.len() > limits.line {
        faults.note(Kind::RequestUriTooLong);
    }
    let start_line = StartLine::parse(start_line, &mut faults);
    let headers = read_headers(&text, &lines, limits, &mut faults);
    let request_method = match &start_line {
        Some(StartLine::Request { method, .. }) => Some(method),
        Some(StartLine::Response { .. }) | None => None,
    };
    check(&headers, request_method, &mut faults);
    let length = match content_length(&headers, &mut faults) {
        Some(length) if length > (bytes.len() - body_start) as u64 => {
            faults.note(Kind::BodyTooShort);
            0
        }
        // The comparison above makes it fit.
        Some(length) => length as usize,
        None => bytes.len() - body_start,
    };
    let body_range = body_start..body_start + length;
    match (start_line, faults.first) {
        (Some(StartLine::Request { method, uri: Some(uri) }), None) => {
            Ok(Message::Request(Request { method, uri, headers, body: body(body_range) }))
        }
        (Some(StartLine::Response { status, reason }), None) => {
            Ok(Message::Response(Response { status, reason, headers, body: body(body_range) }))
        }
        (Some(StartLine::Request { method, .. }), fault) => {
            // An answer finds its way by Via and its request by the CSeq (RFC 3261 §17.1.3); what else is missing it
            // lacks as well.
            let request = [HeaderName::Via, HeaderName::CSeq]
                .iter()
                .all(|name| headers.contains(name))
                .then(|| Box::new(PartialRequest { method, headers }));
            Err(ParseError { kind: fault.unwrap_or(Kind::StartLine), request })
        }
        (Some(StartLine::Response { .. }) | None, fault) => Err(bare(fault.unwrap_or(Kind::StartLine))),
    }
}

/// The first fault is the one that is told.
#[derive(Default)]
struct Faults {
    first: Option<Kind>,
}

impl Faults {
    fn note(&mut self, kind: Kind) {
        self.first.get_or_insert(kind);
    }
}

/// SIP is UTF-8 (RFC 3261 §7). Other bytes come from old exchanges in display names and subjects: they become
/// U+FFFD, which no URI, token or number may hold, so they harm only where they are text.
fn text_of(bytes: &[u8]) -> Arc<str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Arc::from(text),
        Err(_) => Arc::from(String::from_utf8_lossy(bytes)),
    }
}

enum StartLine {
    Request { method: Method, uri: Option<Uri> },
    Response { status: u16, reason: String },
}

impl StartLine {
    /// `None` if it is no start line at all; a request whose method can be read can at least be refused.
    fn parse(line: &str, faults: &mut Faults) -> Option<StartLine> {
        if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/")) {
            return StartLine::parse_status(line, faults);
        }
        // Single spaces only (RFC 3261 §7.1).
        let (Some((method, rest)), Some((_, version))) =
            (grammar::split_once(line, b' '), line.rsplit_once(' '))
        else {
            faults.note(Kind::StartLine);
            return None;
        };
        let Some(method) = Method::parse(method) else {
            faults.note(Kind::Method);
            return None;
        };
        // The last word may be the only one behind the method.
        let uri = rest.strip_suffix(version).and_then(|uri| uri.strip_suffix(' ')).unwrap_or_default();
        if !version.eq_ignore_ascii_case("SIP/2.0") {
            let other_version = version.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/"));
            faults.note(if other_version { Kind::Version } else { Kind::StartLine });
            return Some(StartLine::Request { method, uri: None });
        }
        let uri = match UriRef::parse(uri) {
            Ok(uri) if uri.has_headers() => {
                // RFC 3261 §19.1.1: headers are not allowed in a Request-URI.
                faults.note(Kind::RequestUriHeaders);
                None
            }
            Ok(uri) => Some(uri.to_uri()),
            Err(error) => {
                faults.note(Kind::RequestUri(error));
                None
            }
        };
        Some(StartLine::Request { method, uri })
    }

    fn parse_status(line: &str, faults: &mut Faults) -> Option<StartLine> {
        let (version, rest) = line.split_once(' ').unwrap_or((line, ""));
        if !version.eq_ignore_ascii_case("SIP/2.0") {
            faults.note(Kind::Version);
            return None;
        }
        // Some leave out the space when the phrase is empty.
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = match (code.len(), grammar::number(code)) {
            (3, Some(code @ 100..=699)) => code as u16,
            _ => {
                faults.note(Kind::StatusCode);
                return None;
            }
        };
        Some(StartLine::Response { status, reason: reason.to_owned() })
    }
}

/// Reads the header lines. Bad lines are noted and left out, so that a refusal has what it needs.
fn read_headers(text: &Arc<str>, lines: &Lines, limits: &Limits, faults: &mut Faults) -> Headers {
    // A guess that fits nearly all messages; more is no harm.
    let mut headers = Headers::over(Arc::clone(text), 24);
    let start_line = &text[..lines.start_line_end(text)];
    if text[start_line.len()..].starts_with("\r\n ") || text[start_line.len()..].starts_with("\r\n\t") {
        faults.note(Kind::StartLine);
    }
    // The start line was cut at its first CRLF, so a bare line end is in it still.
    if lines.bare_line_end && grammar::holds_line_end(start_line) {
        faults.note(Kind::LineEnd);
    }
    for line in lines.fields(text) {
        if line.end - line.start > limits.line {
            faults.note(Kind::LineTooLong);
        } else if headers.len() >= limits.header_fields {
            faults.note(Kind::TooManyHeaders);
            break;
        } else {
            push_field(&mut headers, text, &line, lines.bare_line_end, faults);
        }
    }
    headers
}

fn push_field(
    headers: &mut Headers,
    text: &str,
    field: &FieldLine,
    bare_line_end: bool,
    faults: &mut Faults,
) {
    let line = &text[field.start..field.end];
    if line.is_empty() {
        return;
    }
    // Only SP and HTAB may stand before the colon: any other character there is a way to smuggle a field past
    // one reader into the next.
    let name = &line[..grammar::token_length(line)];
    let Some(value) = grammar::trim_start(&line[name.len()..]).strip_prefix(':') else {
        return faults.note(Kind::HeaderLine);
    };
    let Some(name) = HeaderName::parse(name) else {
        return faults.note(Kind::HeaderLine);
    };
    let value = grammar::trim_start(value);
    let start = field.end - value.len();
    let value = grammar::trim_end(value);
    if field.folded {
        let value = unfold(value);
        match grammar::holds_line_end(&value) {
            true => faults.note(Kind::LineEnd),
            false => headers.push(name, value),
        }
    } else if bare_line_end && grammar::holds_line_end(value) {
        faults.note(Kind::LineEnd);
    } else {
        headers.push_shared(name, start, start + value.len());
    }
}

/// A line end and the white space behind it read as one space (RFC 3261 §7.3.1).
fn unfold(value: &str) -> String {
    let mut lines = value.split("\r\n");
    let mut out = grammar::trim(lines.next().unwrap_or_default()).to_owned();
    for line in lines {
        let line = grammar::trim(line);
        if !line.is_empty() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(line);
        }
    }
    out
}

/// The fields every message needs, once, and readable (RFC 3261 §8.1.1, §20).
fn check(headers: &Headers, request_method: Option<&Method>, faults: &mut Faults) {
    const ONCE: [HeaderName; 7] = [
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
        HeaderName::CSeq,
        HeaderName::MaxForwards,
        HeaderName::ContentLength,
        HeaderName::ContentType,
    ];
    let mut counts = [0u8; ONCE.len()];
    for (name, _) in headers.iter() {
        if let Some(i) = ONCE.iter().position(|once| once == name) {
            counts[i] = counts[i].saturating_add(1);
        }
    }
    for (name, count) in ONCE.into_iter().zip(counts) {
        if count > 1 {
            faults.note(Kind::Repeated(name));
        }
    }
    if let Err(error) = typed::top_via(headers) {
        faults.note(error.into());
    }
    for name in [HeaderName::From, HeaderName::To] {
        if let Err(error) = typed::address(headers, name) {
            faults.note(error.into());
        }
    }
    match headers.get(&HeaderName::CallId) {
        Some(id) if id.is_empty() || grammar::find_space(id).is_some() => {
            faults.note(Kind::Malformed(HeaderName::CallId))
        }
        Some(_) => {}
        None => faults.note(Kind::Missing(HeaderName::CallId)),
    }
    match headers.get(&HeaderName::CSeq).map(CSeq::parse) {
        None => faults.note(Kind::Missing(HeaderName::CSeq)),
        Some(None) => faults.note(Kind::Malformed(HeaderName::CSeq)),
        Some(Some(cseq)) => {
            if request_method.is_some_and(|method| *method != cseq.method) {
                faults.note(Kind::CSeqMethod);
            }
        }
    }
    if request_method.is_some() {
        let hops = headers.get(&HeaderName::MaxForwards).map(grammar::number);
        if hops.is_some_and(|hops| hops.is_none_or(|hops| hops > 255)) {
            faults.note(Kind::Malformed(HeaderName::MaxForwards));
        }
        if let Err(error) = typed::check_contacts(headers) {
            faults.note(error.into());
        }
    }
}

fn content_length(headers: &Headers, faults: &mut Faults) -> Option<u64> {
    let length = grammar::number(headers.get(&HeaderName::ContentLength)?);
    if length.is_none() {
        faults.note(Kind::Malformed(HeaderName::ContentLength));
    }
    length
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
