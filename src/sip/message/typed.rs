//! Typed access to header fields, the same on requests and responses.

use super::extension::{RAck, Reason, SessionExpires};
use super::grammar;
use super::header_name::HeaderName;
use super::headers::Headers;
use super::method::Method;
use super::name_addr::{NameAddr, NameAddrRef};
use super::via::{Via, ViaRef};
use bytes::Bytes;
use std::{fmt, str::FromStr};

/// A field that is needed and is not there or can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("missing {0} header")]
    Missing(HeaderName),
    #[error("malformed {0} header")]
    Malformed(HeaderName),
}

/// The CSeq header (RFC 3261 §20.16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    pub number: u32,
    pub method: Method,
}

impl CSeq {
    pub fn parse(text: &str) -> Option<CSeq> {
        let text = grammar::trim(text);
        let (number, method) = text.split_at(grammar::find_space(text)?);
        let number = u32::try_from(grammar::number(number)?).ok()?;
        Some(CSeq { number, method: Method::parse(grammar::trim(method))? })
    }
}

impl FromStr for CSeq {
    type Err = HeaderError;
    fn from_str(text: &str) -> Result<CSeq, HeaderError> {
        CSeq::parse(text).ok_or(HeaderError::Malformed(HeaderName::CSeq))
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// What Contact holds in a REGISTER (RFC 3261 §10.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contacts {
    /// `*`: all bindings.
    All,
    /// The addresses, in order; empty where there is no Contact.
    Listed(Vec<NameAddr>),
}

/// Fields by their meaning. A message that [`parse`](super::parse) gave has passed the checks of its
/// mandatory fields, so `via`, `from`, `to`, `call_id` and `cseq` fail only on messages put together by hand.
#[allow(clippy::wrong_self_convention, reason = "From and To are headers here, not conversions")]
pub trait Typed {
    fn headers(&self) -> &Headers;
    fn body(&self) -> &Bytes;

    /// The topmost Via.
    fn via(&self) -> Result<Via, HeaderError> {
        top_via(self.headers()).map(ViaRef::to_via)
    }
    /// All Vias, topmost first.
    fn vias(&self) -> Result<Vec<Via>, HeaderError> {
        let vias = self.headers().list(&HeaderName::Via).map(Via::parse).collect::<Result<Vec<_>, _>>();
        vias.map_err(|_| HeaderError::Malformed(HeaderName::Via))
    }
    /// The branch of the topmost Via.
    fn branch(&self) -> Option<&str> {
        top_via(self.headers()).ok()?.branch()
    }
    fn from(&self) -> Result<NameAddr, HeaderError> {
        address(self.headers(), HeaderName::From).map(NameAddrRef::to_name_addr)
    }
    fn to(&self) -> Result<NameAddr, HeaderError> {
        address(self.headers(), HeaderName::To).map(NameAddrRef::to_name_addr)
    }
    /// The tag of From.
    fn from_tag(&self) -> Option<&str> {
        address(self.headers(), HeaderName::From).ok()?.tag()
    }
    /// The tag of To.
    fn to_tag(&self) -> Option<&str> {
        address(self.headers(), HeaderName::To).ok()?.tag()
    }
    fn call_id(&self) -> Result<&str, HeaderError> {
        needed(self.headers(), HeaderName::CallId)
    }
    fn cseq(&self) -> Result<CSeq, HeaderError> {
        needed(self.headers(), HeaderName::CSeq)?.parse()
    }
    /// The first Contact; `*` is malformed here.
    fn contact(&self) -> Result<Option<NameAddr>, HeaderError> {
        addresses(self.headers(), HeaderName::Contact).next().transpose()
    }
    /// All of Contact, with `*`. A `*` beside an address is malformed (RFC 3261 §10.3).
    fn contacts(&self) -> Result<Contacts, HeaderError> {
        if self.headers().list(&HeaderName::Contact).eq(["*"]) {
            return Ok(Contacts::All);
        }
        addresses(self.headers(), HeaderName::Contact).collect::<Result<_, _>>().map(Contacts::Listed)
    }
    /// The addresses of Route, Record-Route, Path, P-Asserted-Identity, Diversion and the like, in order.
    fn addresses(&self, name: &HeaderName) -> Result<Vec<NameAddr>, HeaderError> {
        addresses(self.headers(), name.clone()).collect()
    }
    /// `None` where there is none (RFC 2543 had none) or it is no number of 0 to 255.
    fn max_forwards(&self) -> Option<u8> {
        u8::try_from(grammar::number(self.headers().get(&HeaderName::MaxForwards)?)?).ok()
    }
    /// Seconds; a malformed value counts as none, so that the default is taken (RFC 3261 §20.19).
    fn expires(&self) -> Option<u32> {
        grammar::seconds(self.headers().get(&HeaderName::Expires)?)
    }
    /// Seconds; a malformed value counts as none.
    fn min_expires(&self) -> Option<u32> {
        grammar::seconds(self.headers().get(&HeaderName::MinExpires)?)
    }
    /// Seconds to wait; the comment and the parameters are left out (RFC 3261 §20.33).
    fn retry_after(&self) -> Option<u32> {
        let value = self.headers().get(&HeaderName::RetryAfter)?;
        grammar::seconds(grammar::trim(value.split(['(', ';']).next().unwrap_or_default()))
    }
    /// Type and subtype without parameters, as written.
    fn content_type(&self) -> Option<&str> {
        let value = self.headers().get(&HeaderName::ContentType)?;
        Some(grammar::trim(grammar::split_once(value, b';').map_or(value, |(value, _)| value)))
    }
    /// The session description: the body itself, or the first such part of a multipart body (RFC 5621 §3).
    fn sdp(&self) -> Option<Bytes> {
        let disposition = self.headers().get(&HeaderName::ContentDisposition);
        super::body::sdp(self.headers().get(&HeaderName::ContentType)?, disposition, self.body())
    }
    /// True for a body that may be left aside by whoever does not understand what it is for (RFC 3261 §20.11).
    fn body_is_optional(&self) -> bool {
        self.headers().get(&HeaderName::ContentDisposition).is_some_and(super::body::is_optional)
    }
    /// The location document (PIDF-LO, RFC 6442 §3): the body itself, or the first such part of a multipart body.
    fn location(&self) -> Option<Bytes> {
        super::body::location(self.headers().get(&HeaderName::ContentType)?, self.body())
    }
    /// True if the option tag is in Supported or Require.
    fn supports(&self, option: &str) -> bool {
        self.headers().lists(&HeaderName::Supported, option) || self.requires(option)
    }
    fn requires(&self, option: &str) -> bool {
        self.headers().lists(&HeaderName::Require, option)
    }
    /// RFC 4028 §4.
    fn session_expires(&self) -> Option<SessionExpires> {
        SessionExpires::parse(self.headers().get(&HeaderName::SessionExpires)?)
    }
    /// RFC 4028 §5, seconds.
    fn min_se(&self) -> Option<u32> {
        let value = self.headers().get(&HeaderName::MinSe)?;
        grammar::seconds(grammar::trim(grammar::split_once(value, b';').map_or(value, |(value, _)| value)))
    }
    /// RFC 3262 §7.1.
    fn rseq(&self) -> Option<u32> {
        u32::try_from(grammar::number(self.headers().get(&HeaderName::RSeq)?)?).ok()
    }
    /// RFC 3262 §7.2.
    fn rack(&self) -> Option<RAck> {
        RAck::parse(self.headers().get(&HeaderName::RAck)?)
    }
    /// The values of Reason that can be read (RFC 3326 §2).
    fn reasons(&self) -> Vec<Reason> {
        self.headers().list(&HeaderName::Reason).filter_map(Reason::parse).collect()
    }
}

fn needed(headers: &Headers, name: HeaderName) -> Result<&str, HeaderError> {
    headers.get(&name).ok_or(HeaderError::Missing(name))
}

pub(crate) fn top_via(headers: &Headers) -> Result<ViaRef<'_>, HeaderError> {
    let field = needed(headers, HeaderName::Via)?;
    let top = grammar::List::new(field).next().unwrap_or_default();
    ViaRef::parse(top).map_err(|_| HeaderError::Malformed(HeaderName::Via))
}

pub(crate) fn address(headers: &Headers, name: HeaderName) -> Result<NameAddrRef<'_>, HeaderError> {
    NameAddrRef::parse(needed(headers, name.clone())?).map_err(|_| HeaderError::Malformed(name))
}

fn addresses(
    headers: &Headers,
    name: HeaderName,
) -> impl Iterator<Item = Result<NameAddr, HeaderError>> + '_ {
    let malformed = HeaderError::Malformed(name.clone());
    let fields = headers.iter().filter(move |(field, _)| **field == name);
    fields
        .flat_map(|(_, value)| grammar::List::new(value))
        .map(move |value| NameAddr::parse(value).map_err(|_| malformed.clone()))
}

/// Checks Contact without building it.
pub(crate) fn check_contacts(headers: &Headers) -> Result<(), HeaderError> {
    let (mut addresses, mut stars) = (0, 0);
    for value in headers.list(&HeaderName::Contact) {
        if value == "*" {
            stars += 1;
        } else if NameAddrRef::parse(value).is_ok() {
            addresses += 1;
        } else {
            return Err(HeaderError::Malformed(HeaderName::Contact));
        }
    }
    if stars > 1 || stars == 1 && addresses > 0 {
        return Err(HeaderError::Malformed(HeaderName::Contact));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request {
        let mut request = Request::new(Method::Register, "sip:h".parse().unwrap());
        fields.iter().for_each(|(name, value)| request.headers.push(HeaderName::new(name), *value));
        request
    }

    #[test]
    fn mandatory_fields_are_read() {
        let request = request(&[
            ("v", "SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK0"),
            ("f", "\"A\" <sip:a@h>;tag=1"),
            ("t", "sip:b@h;tag=2"),
            ("i", "c1@h"),
            ("CSeq", "0009  REGISTER"),
            ("Max-Forwards", "0068"),
        ]);
        assert_eq!((request.branch(), request.vias().unwrap().len()), (Some("z9hG4bK1"), 2));
        assert_eq!((request.from_tag(), request.to_tag()), (Some("1"), Some("2")));
        assert_eq!(request.from().unwrap().display.as_deref(), Some("A"));
        assert_eq!(request.to().unwrap().uri.to_string(), "sip:b@h");
        assert_eq!(request.call_id(), Ok("c1@h"));
        assert_eq!(request.cseq(), Ok(CSeq { number: 9, method: Method::Register }));
        assert_eq!(request.max_forwards(), Some(68));
    }

    #[test]
    fn missing_and_malformed_fields_are_told_apart() {
        let request = request(&[("From", "\"x"), ("CSeq", "36893488147419103232 REGISTER")]);
        assert_eq!(request.via(), Err(HeaderError::Missing(HeaderName::Via)));
        assert_eq!(request.from(), Err(HeaderError::Malformed(HeaderName::From)));
        assert_eq!(request.cseq(), Err(HeaderError::Malformed(HeaderName::CSeq)));
    }

    #[test]
    fn contacts_know_the_star() {
        assert_eq!(request(&[("m", "*")]).contacts(), Ok(Contacts::All));
        assert_eq!(request(&[]).contacts(), Ok(Contacts::Listed(Vec::new())));
        let two = request(&[("m", "\"a, b\" <sip:a@h>;q=0.5, <sip:b@h>"), ("Contact", "sip:c@h")]);
        let Ok(Contacts::Listed(listed)) = two.contacts() else { panic!() };
        assert_eq!(listed.iter().map(|c| c.uri.user()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(request(&[("m", "*, <sip:a@h>")]).contacts().is_err());
        assert!(request(&[("m", "*")]).contact().is_err());
    }

    #[test]
    fn counts_of_seconds_are_lenient_as_the_rfc_says() {
        let request = request(&[("Expires", "1000000000000000"), ("Retry-After", "120 (lunch);duration=60")]);
        assert_eq!((request.expires(), request.retry_after()), (Some(u32::MAX), Some(120)));
        assert_eq!(self::request(&[("Expires", "soon")]).expires(), None);
    }

    #[test]
    fn options_and_types_compare_without_case() {
        let request =
            request(&[("k", "100rel, Timer"), ("Require", "path"), ("c", "Application/SDP ; charset=utf-8")]);
        assert!(request.supports("timer") && request.supports("path") && request.requires("PATH"));
        assert!(!request.requires("timer"));
        assert_eq!(request.content_type(), Some("Application/SDP"));
    }
}
