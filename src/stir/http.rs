//! Just as much HTTP as fetching a certificate takes (RFC 9112): one GET, one answer, nothing followed.

use super::url::Location;
use std::time::Duration;

/// Longest answer, head included. A chain of four certificates has some 5 KB.
pub const LONGEST: usize = 64 * 1024;
/// Longest head.
const LONGEST_HEAD: usize = 16 * 1024;

/// An answer with 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub body: Vec<u8>,
    /// How long it may be kept (RFC 9111 §5.2.2.1).
    pub max_age: Option<Duration>,
}

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    #[error("the answer is longer than {LONGEST} octets")]
    TooLong,
    #[error("the answer is no HTTP")]
    Garbled,
    /// Redirections too: whoever names a place is to name the right one.
    #[error("the answer is {0}")]
    Status(u16),
}

/// What is sent.
pub fn request(location: &Location) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: application/pem-certificate-chain, application/x-pem-file, */*\r\n\
         User-Agent: Tandem\r\nConnection: close\r\n\r\n",
        location.path,
        location.authority()
    )
}

/// Reads an answer from its first octet; `ended` once the server has closed. `None`: there is more to come.
///
/// # Errors
/// As [`HttpFault`] says.
pub fn read(bytes: &[u8], ended: bool) -> Result<Option<Document>, HttpFault> {
    if bytes.len() > LONGEST {
        return Err(HttpFault::TooLong);
    }
    let Some(head_end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return match (ended, bytes.len() > LONGEST_HEAD) {
            (true, _) | (_, true) => Err(HttpFault::Garbled),
            (false, false) => early_fault(bytes),
        };
    };
    let head = std::str::from_utf8(&bytes[..head_end]).map_err(|_| HttpFault::Garbled)?;
    let body = &bytes[head_end + 4..];
    let mut lines = head.split("\r\n");
    let status = status(lines.next().unwrap_or_default())?;
    if status != 200 {
        return Err(HttpFault::Status(status));
    }
    let (mut length, mut chunked, mut max_age) = (None, false, None);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(HttpFault::Garbled)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse::<usize>().map_err(|_| HttpFault::Garbled)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
            if !chunked {
                return Err(HttpFault::Garbled);
            }
        } else if name.eq_ignore_ascii_case("content-encoding") && !value.eq_ignore_ascii_case("identity") {
            return Err(HttpFault::Garbled);
        } else if name.eq_ignore_ascii_case("cache-control") {
            max_age = cache_control(value);
        }
    }
    let body = if chunked {
        chunks(body, ended)?
    } else {
        match length {
            Some(length) if length > LONGEST => return Err(HttpFault::TooLong),
            Some(length) if body.len() >= length => Some(body[..length].to_vec()),
            Some(_) if ended => return Err(HttpFault::Garbled),
            Some(_) => None,
            // RFC 9112 §6.3: without a length the body ends with the connection.
            None => ended.then(|| body.to_vec()),
        }
    };
    Ok(body.map(|body| Document { body, max_age }))
}

/// What does not begin as HTTP never will be.
fn early_fault(bytes: &[u8]) -> Result<Option<Document>, HttpFault> {
    let known = b"HTTP/1.";
    let begun = bytes.len().min(known.len());
    if bytes[..begun] == known[..begun] { Ok(None) } else { Err(HttpFault::Garbled) }
}

fn status(line: &str) -> Result<u16, HttpFault> {
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let code = rest.and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    code.ok_or(HttpFault::Garbled)
}

fn cache_control(value: &str) -> Option<Duration> {
    let mut age = None;
    for part in value.split(',').map(str::trim) {
        if part.eq_ignore_ascii_case("no-store") || part.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if let Some((name, seconds)) = part.split_once('=')
            && name.eq_ignore_ascii_case("max-age")
        {
            age = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    age
}

/// RFC 9112 §7.1; `None`: there is more to come.
fn chunks(mut rest: &[u8], ended: bool) -> Result<Option<Vec<u8>>, HttpFault> {
    let mut body = Vec::new();
    let more = if ended { Err(HttpFault::Garbled) } else { Ok(None) };
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return more };
        let size = std::str::from_utf8(&rest[..end]).map_err(|_| HttpFault::Garbled)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| HttpFault::Garbled)?;
        if size == 0 {
            return Ok(Some(body));
        }
        if size > LONGEST {
            return Err(HttpFault::TooLong);
        }
        rest = &rest[end + 2..];
        let Some((chunk, after)) = rest.split_at_checked(size) else { return more };
        body.extend_from_slice(chunk);
        rest = match after {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return more,
            _ => return Err(HttpFault::Garbled),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(body: &str, max_age: Option<u64>) -> Option<Document> {
        Some(Document { body: body.into(), max_age: max_age.map(Duration::from_secs) })
    }

    #[test]
    fn a_request_asks_for_what_the_url_names() {
        let location = Location::parse("https://h:8443/c.pem?x").unwrap();
        let request = request(&location);
        assert!(request.starts_with("GET /c.pem?x HTTP/1.1\r\nHost: h:8443\r\n"));
        assert!(request.ends_with("\r\n\r\n"));
    }

    #[test]
    fn each_way_of_framing_is_read() {
        let text = "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=600\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(read(text.as_bytes(), false), Ok(document("hello", Some(600))));
        let chunked =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=1\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        assert_eq!(read(chunked.as_bytes(), false), Ok(document("hello", None)));
        let until_close = "HTTP/1.0 200 OK\r\nCache-Control: no-store\r\n\r\nhello";
        assert_eq!(read(until_close.as_bytes(), false), Ok(None));
        assert_eq!(read(until_close.as_bytes(), true), Ok(document("hello", Some(0))));
        for whole in [text, &chunked[..chunked.len() - 2]] {
            for end in 0..whole.len() - 2 {
                assert_eq!(read(&whole.as_bytes()[..end], false), Ok(None), "{end}");
                assert!(read(&whole.as_bytes()[..end], true).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn what_is_no_document_says_why() {
        let of = |text: &str| read(text.as_bytes(), true).unwrap_err();
        assert_eq!(of("HTTP/1.1 302 Found\r\nLocation: https://other/\r\n\r\n"), HttpFault::Status(302));
        assert_eq!(of("HTTP/1.1 404 Not Found\r\n\r\n"), HttpFault::Status(404));
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"), HttpFault::TooLong);
        for garbled in [
            "",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            assert_eq!(of(garbled), HttpFault::Garbled, "{garbled}");
        }
        assert_eq!(read(b"SSH-2.0", false), Err(HttpFault::Garbled), "not waited for");
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; LONGEST]].concat();
        assert_eq!(read(&endless, false), Err(HttpFault::TooLong));
        let head = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; LONGEST_HEAD]].concat();
        assert_eq!(read(&head, false), Err(HttpFault::Garbled));
    }
}
