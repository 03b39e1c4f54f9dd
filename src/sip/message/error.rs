//! Why a message can't be taken, and the response that says so.

use super::header_name::HeaderName;
use super::headers::Headers;
use super::method::Method;
use super::response::Response;
use super::typed::HeaderError;
use super::uri::UriError;
use std::net::SocketAddr;

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Nothing but line ends: a keep-alive (RFC 5626 §3.5.1), to be ignored.
    #[error("empty message")]
    Empty,
    #[error("malformed start line")]
    StartLine,
    #[error("SIP version not supported")]
    Version,
    #[error("malformed method")]
    Method,
    #[error("malformed Request-URI: {0}")]
    RequestUri(UriError),
    #[error("Request-URI with headers")]
    RequestUriHeaders,
    #[error("Request-URI too long")]
    RequestUriTooLong,
    #[error("malformed status code")]
    StatusCode,
    #[error("malformed header line")]
    HeaderLine,
    #[error("line end that is not CRLF")]
    LineEnd,
    #[error("header section without an end")]
    Unfinished,
    #[error("missing {0} header")]
    Missing(HeaderName),
    #[error("several {0} headers")]
    Repeated(HeaderName),
    #[error("malformed {0} header")]
    Malformed(HeaderName),
    #[error("CSeq does not name the request's method")]
    CSeqMethod,
    #[error("body shorter than Content-Length")]
    BodyTooShort,
    #[error("message too large")]
    TooLarge,
    /// Content-Length announces more than is taken.
    #[error("body too large")]
    BodyTooLarge,
    #[error("too many header fields")]
    TooManyHeaders,
    #[error("header line too long")]
    LineTooLong,
}

impl ParseErrorKind {
    /// The status a request with this fault is answered with (RFC 3261 §21.4.1, §21.4.11, §21.4.12, §21.5.6, §21.5.7).
    pub fn status(&self) -> u16 {
        match self {
            ParseErrorKind::Version => 505,
            ParseErrorKind::BodyTooLarge => 413,
            ParseErrorKind::RequestUriTooLong => 414,
            ParseErrorKind::TooLarge | ParseErrorKind::TooManyHeaders | ParseErrorKind::LineTooLong => 513,
            ParseErrorKind::Empty
            | ParseErrorKind::StartLine
            | ParseErrorKind::Method
            | ParseErrorKind::RequestUri(_)
            | ParseErrorKind::RequestUriHeaders
            | ParseErrorKind::StatusCode
            | ParseErrorKind::HeaderLine
            | ParseErrorKind::LineEnd
            | ParseErrorKind::Unfinished
            | ParseErrorKind::Missing(_)
            | ParseErrorKind::Repeated(_)
            | ParseErrorKind::Malformed(_)
            | ParseErrorKind::CSeqMethod
            | ParseErrorKind::BodyTooShort => 400,
        }
    }

    /// The reason phrase: for 400 it names the fault, as RFC 3261 §21.4.1 asks.
    pub fn phrase(&self) -> String {
        match self.status() {
            400 => format!("Bad Request - {self}"),
            status => super::Status(status).phrase().to_owned(),
        }
    }

    /// A short fixed name for counters.
    pub fn label(&self) -> &'static str {
        match self {
            ParseErrorKind::Empty => "empty",
            ParseErrorKind::StartLine | ParseErrorKind::Method | ParseErrorKind::StatusCode => "start_line",
            ParseErrorKind::Version => "version",
            ParseErrorKind::RequestUri(_)
            | ParseErrorKind::RequestUriHeaders
            | ParseErrorKind::RequestUriTooLong => "request_uri",
            ParseErrorKind::HeaderLine | ParseErrorKind::LineEnd | ParseErrorKind::Unfinished => {
                "header_line"
            }
            ParseErrorKind::Missing(_)
            | ParseErrorKind::Repeated(_)
            | ParseErrorKind::Malformed(_)
            | ParseErrorKind::CSeqMethod => "header",
            ParseErrorKind::BodyTooShort => "body",
            ParseErrorKind::BodyTooLarge
            | ParseErrorKind::TooLarge
            | ParseErrorKind::TooManyHeaders
            | ParseErrorKind::LineTooLong => "too_large",
        }
    }
}

impl From<HeaderError> for ParseErrorKind {
    fn from(error: HeaderError) -> ParseErrorKind {
        match error {
            HeaderError::Missing(name) => ParseErrorKind::Missing(name),
            HeaderError::Malformed(name) => ParseErrorKind::Malformed(name),
        }
    }
}

/// What could be read of a request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialRequest {
    pub method: Method,
    /// The fields that could be read; those a response copies are there, if perhaps malformed.
    pub headers: Headers,
}

/// A message that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    pub kind: ParseErrorKind,
    /// There if it was a request of which enough could be read to answer it.
    pub request: Option<Box<PartialRequest>>,
}

impl ParseError {
    /// The status the request is answered with.
    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// The stateless response that refuses the request, for the address it came from. `None` for responses, for ACK
    /// (never answered: RFC 3261 §17.1.1.3) and where nothing to address a response with could be read.
    pub fn refusal(&self, source: SocketAddr) -> Option<Response> {
        let request = self.request.as_deref().filter(|request| request.method != Method::Ack)?;
        let mut response = Response::to_parts(&request.method, &request.headers, self.status());
        response.reason = self.kind.phrase();
        response.note_source(source);
        Some(response.with_stateless_tag())
    }
}
