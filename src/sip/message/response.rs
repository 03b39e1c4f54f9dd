//! A SIP response, and how it is made from its request.

use super::header_name::HeaderName;
use super::headers::Headers;
use super::method::Method;
use super::name_addr::NameAddr;
use super::request::{Request, note_source};
use super::status::Status;
use super::typed::Typed;
use crate::sip::glance::{SHED_TAG, STATELESS_TAG};
use bytes::Bytes;
use std::{fmt, hash::Hash, hash::Hasher, net::SocketAddr};

/// A response, received or to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub headers: Headers,
    pub body: Bytes,
}

impl Response {
    /// A response with what RFC 3261 §8.2.6.2 copies from the request: Via, From, To, Call-ID, CSeq; Record-Route
    /// where the response can make a dialog (§12.1.1), Timestamp in a 100 (§8.2.6.1). A To tag is the caller's to add.
    pub fn to_request(request: &Request, status: u16) -> Response {
        Response::to_parts(&request.method, &request.headers, status)
    }

    pub(crate) fn to_parts(method: &Method, request: &Headers, status: u16) -> Response {
        let dialog = method.forms_dialog() && (101..300).contains(&status);
        let headers = Headers::copy_from(request, |name| match name {
            HeaderName::Via | HeaderName::From | HeaderName::To | HeaderName::CallId | HeaderName::CSeq => {
                true
            }
            HeaderName::RecordRoute => dialog,
            HeaderName::Timestamp => status == 100,
            _ => false,
        });
        Response { status, reason: Status(status).phrase().to_owned(), headers, body: Bytes::new() }
    }

    /// The same response with another reason phrase.
    pub fn with_reason(mut self, reason: &str) -> Response {
        self.reason = reason.to_owned();
        self
    }

    /// The same response with a To tag, unless To has one.
    pub fn with_tag(mut self, tag: &str) -> Response {
        let Some(to) = self.headers.get(&HeaderName::To) else { return self };
        let tagged = match NameAddr::parse(to) {
            Ok(to) if to.tag().is_some() => None,
            // A parameter behind the address is the header's, with brackets and without (RFC 3261 §20).
            Ok(_) | Err(_) => Some(format!("{};tag={tag}", to.trim_end_matches(';'))),
        };
        if let Some(tagged) = tagged {
            self.headers.set(HeaderName::To, tagged);
        }
        self
    }

    /// The same response with one more field.
    pub fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Response {
        self.headers.push(name, value);
        self
    }

    /// The same response with a body and its Content-Type.
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Response {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// A To tag that is the same for each retransmission of the request, as stateless answers need it
    /// (RFC 3261 §8.2.7). Not to be guessed is no need: it belongs to no dialog.
    pub(crate) fn with_stateless_tag(self) -> Response {
        let tag = self.stateless_tag();
        self.with_tag(&tag)
    }

    /// The same, and told from all others at a glance.
    pub(crate) fn with_shed_tag(self) -> Response {
        let tag = format!("{SHED_TAG}{}", self.stateless_tag());
        self.with_tag(&tag)
    }

    fn stateless_tag(&self) -> String {
        let mut hasher = std::hash::DefaultHasher::new();
        for name in [HeaderName::CallId, HeaderName::From, HeaderName::CSeq] {
            self.headers.get(&name).hash(&mut hasher);
        }
        format!("{:0STATELESS_TAG$x}", hasher.finish())
    }

    /// Notes in the topmost Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
    pub(crate) fn note_source(&mut self, source: SocketAddr) {
        note_source(&mut self.headers, source);
    }

    /// The whole response as it goes on the wire; Content-Length is written from the body.
    pub fn to_bytes(&self) -> Bytes {
        super::writer::response(self)
    }
}

impl Typed for Response {
    fn headers(&self) -> &Headers {
        &self.headers
    }
    fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Debug output reaches logs, so numbers in it are masked and the body is left out.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?} +{} bytes", self.status, self.reason, self.headers, self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Request {
        let mut request = Request::new(Method::Invite, "sip:bob@h".parse().unwrap());
        for (name, value) in [
            (HeaderName::Via, "SIP/2.0/UDP a;branch=z9hG4bK1;rport"),
            (HeaderName::Via, "SIP/2.0/UDP b;branch=z9hG4bK0"),
            (HeaderName::RecordRoute, "<sip:p;lr>"),
            (HeaderName::From, "<sip:a@h>;tag=1"),
            (HeaderName::To, "sip:bob@h"),
            (HeaderName::CallId, "c1"),
            (HeaderName::CSeq, "7 INVITE"),
            (HeaderName::Timestamp, "54"),
            (HeaderName::Subject, "hello"),
        ] {
            request.headers.push(name, value);
        }
        request
    }

    fn names(response: &Response) -> Vec<String> {
        response.headers.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn a_response_copies_what_rfc_3261_names() {
        let request = invite();
        let trying = Response::to_request(&request, 100);
        assert_eq!(names(&trying), ["Via", "Via", "From", "To", "Call-ID", "CSeq", "Timestamp"]);
        let ringing = Response::to_request(&request, 180);
        assert_eq!(names(&ringing), ["Via", "Via", "Record-Route", "From", "To", "Call-ID", "CSeq"]);
        let busy = Response::to_request(&request, 486);
        assert_eq!(
            (names(&busy).contains(&"Record-Route".to_owned()), busy.reason.as_str()),
            (false, "Busy Here")
        );
    }

    #[test]
    fn a_tag_is_added_once() {
        let response = Response::to_request(&invite(), 180).with_tag("x1").with_tag("x2");
        assert_eq!(response.to().unwrap().tag(), Some("x1"));
        assert_eq!(response.headers.get(&HeaderName::To), Some("sip:bob@h;tag=x1"));
    }

    #[test]
    fn bodies_bring_their_type() {
        let response = Response::to_request(&invite(), 200).with_body("application/sdp", "v=0\r\n");
        assert_eq!(response.content_type(), Some("application/sdp"));
        let text = String::from_utf8(response.to_bytes().to_vec()).unwrap();
        assert!(text.ends_with("Content-Length: 5\r\n\r\nv=0\r\n"), "{text}");
    }
}
