//! Messages to bytes.

use super::header_name::HeaderName;
use super::headers::Headers;
use super::{Request, Response};
use bytes::Bytes;
use std::fmt::Write;

/// Room for a start line and Content-Length without growing.
const START_LINE_ROOM: usize = 160;

pub(crate) fn request(request: &Request) -> Bytes {
    let mut text = String::with_capacity(size(&request.headers, &request.body));
    // Writing to a String can't fail.
    let _ = write!(text, "{} {} SIP/2.0\r\n", request.method, request.uri);
    finish(text, &request.headers, &request.body)
}

pub(crate) fn response(response: &Response) -> Bytes {
    let mut text = String::with_capacity(size(&response.headers, &response.body));
    let _ = write!(text, "SIP/2.0 {:03} ", response.status);
    text.extend(response.reason.chars().map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }));
    text.push_str("\r\n");
    finish(text, &response.headers, &response.body)
}

fn size(headers: &Headers, body: &Bytes) -> usize {
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    START_LINE_ROOM + fields + body.len()
}

fn finish(mut text: String, headers: &Headers, body: &Bytes) -> Bytes {
    for (name, value) in headers.iter() {
        // The body has one length: the one it has.
        if *name == HeaderName::ContentLength {
            continue;
        }
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    Bytes::from(bytes)
}
