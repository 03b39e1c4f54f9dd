//! A SIP request.

use super::header_name::HeaderName;
use super::headers::Headers;
use super::method::Method;
use super::typed::Typed;
use super::uri::Uri;
use super::via::Via;
use bytes::Bytes;
use std::{fmt, net::SocketAddr};

/// A request, received or to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: Headers,
    pub body: Bytes,
}

impl Request {
    /// A request without header fields.
    pub fn new(method: Method, uri: Uri) -> Request {
        Request { method, uri, headers: Headers::new(), body: Bytes::new() }
    }

    /// The same request with one more field.
    pub fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Request {
        self.headers.push(name, value);
        self
    }

    /// The same request with a body and its Content-Type.
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Request {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// Notes in the topmost Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn note_source(&mut self, source: SocketAddr) {
        note_source(&mut self.headers, source);
    }

    /// The whole request as it goes on the wire; Content-Length is written from the body.
    pub fn to_bytes(&self) -> Bytes {
        super::writer::request(self)
    }
}

/// Shared with refusals, whose Via may be malformed: then it stays as it is.
pub(crate) fn note_source(headers: &mut Headers, source: SocketAddr) {
    let Some(mut via) = headers.list(&HeaderName::Via).next().and_then(|value| Via::parse(value).ok()) else {
        return;
    };
    via.note_source(source);
    headers.replace_first(&HeaderName::Via, &via.to_string());
}

impl Typed for Request {
    fn headers(&self) -> &Headers {
        &self.headers
    }
    fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Debug output reaches logs, so numbers in it are masked and the body is left out.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?} +{} bytes", self.method, self.uri, self.headers, self.body.len())
    }
}
