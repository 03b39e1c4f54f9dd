//! SIP messages: read from the wire, asked by meaning, written back. The one home of rsip.

mod body;
mod error;
mod extension;
mod grammar;
mod header_name;
mod headers;
mod lines;
mod method;
mod name_addr;
mod params;
mod reader;
mod request;
mod response;
mod status;
mod telephone;
mod typed;
mod uri;
mod via;
mod writer;

pub use error::{ParseError, ParseErrorKind, PartialRequest};
pub use extension::{RAck, Reason, Refresher, SessionExpires};
pub use grammar::List;
pub(crate) use grammar::unescape;
pub use header_name::HeaderName;
pub use headers::Headers;
pub use method::Method;
pub use name_addr::{NameAddr, NameAddrError};
pub use params::Params;
pub use reader::{Limits, parse, parse_with};
pub(crate) use reader::{framing_length, refuse};
pub use request::Request;
pub use response::Response;
pub use status::Status;
pub use typed::{CSeq, Contacts, HeaderError, Typed};
pub use uri::{Scheme, Uri, UriError};
pub use via::{Via, ViaError, ViaTransport};

use bytes::Bytes;

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Request(Request),
    Response(Response),
}

impl Message {
    /// The whole message as it goes on the wire; Content-Length is written from the body.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Message::Request(request) => request.to_bytes(),
            Message::Response(response) => response.to_bytes(),
        }
    }
}

impl Typed for Message {
    fn headers(&self) -> &Headers {
        match self {
            Message::Request(request) => &request.headers,
            Message::Response(response) => &response.headers,
        }
    }
    fn body(&self) -> &Bytes {
        match self {
            Message::Request(request) => &request.body,
            Message::Response(response) => &response.body,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod torture;
