//! Header field names: known ones without allocation, compact forms understood, compared without case.

use super::grammar;
use std::{fmt, hash, str::FromStr};

macro_rules! header_names {
    ($($variant:ident => $name:literal $($compact:literal)?,)*) => {
        /// The name of a header field. `Other` never holds a known name when made by [`HeaderName::new`].
        #[derive(Debug, Clone)]
        pub enum HeaderName {
            $($variant,)*
            /// A name nobody here knows, as written.
            Other(Box<str>),
        }

        impl HeaderName {
            /// The name as we write it: the long form, capitals as in the RFC.
            pub fn as_str(&self) -> &str {
                match self {
                    $(HeaderName::$variant => $name,)*
                    HeaderName::Other(name) => name,
                }
            }

            /// The name of a known field, long or compact.
            fn known(name: &str) -> Option<HeaderName> {
                if let [letter] = name.as_bytes() {
                    let letter = letter.to_ascii_lowercase();
                    $($(if letter == $compact { return Some(HeaderName::$variant); })?)*
                    return None;
                }
                let start = *BY_LENGTH.get(name.len())? as usize;
                let end = *BY_LENGTH.get(name.len() + 1)? as usize;
                let order = &ORDER[start..end];
                // The first letters tell most names of a length apart, and nearly everybody writes as the RFCs do.
                let first = name.bytes().next()? | 0x20;
                let index = order.iter().find(|i| {
                    let known = NAMES[**i as usize];
                    known.as_bytes()[0] | 0x20 == first && (known == name || known.eq_ignore_ascii_case(name))
                })?;
                Some(KNOWN[*index as usize].clone())
            }
        }

        const NAMES: &[&str] = &[$($name,)*];
        static KNOWN: &[HeaderName] = &[$(HeaderName::$variant,)*];
    };
}

header_names! {
    Accept => "Accept",
    AcceptContact => "Accept-Contact" b'a',
    AcceptEncoding => "Accept-Encoding",
    AcceptLanguage => "Accept-Language",
    AlertInfo => "Alert-Info",
    Allow => "Allow",
    AllowEvents => "Allow-Events" b'u',
    AuthenticationInfo => "Authentication-Info",
    Authorization => "Authorization",
    CallId => "Call-ID" b'i',
    CallInfo => "Call-Info",
    Contact => "Contact" b'm',
    ContentDisposition => "Content-Disposition",
    ContentEncoding => "Content-Encoding" b'e',
    ContentLanguage => "Content-Language",
    ContentLength => "Content-Length" b'l',
    ContentType => "Content-Type" b'c',
    CSeq => "CSeq",
    Date => "Date",
    Diversion => "Diversion",
    ErrorInfo => "Error-Info",
    Event => "Event" b'o',
    Expires => "Expires",
    From => "From" b'f',
    Geolocation => "Geolocation",
    GeolocationRouting => "Geolocation-Routing",
    HistoryInfo => "History-Info",
    Identity => "Identity" b'y',
    InReplyTo => "In-Reply-To",
    InfoPackage => "Info-Package",
    MaxForwards => "Max-Forwards",
    MimeVersion => "MIME-Version",
    MinExpires => "Min-Expires",
    MinSe => "Min-SE",
    Organization => "Organization",
    PAccessNetworkInfo => "P-Access-Network-Info",
    PAssertedIdentity => "P-Asserted-Identity",
    PCalledPartyId => "P-Called-Party-ID",
    PChargingVector => "P-Charging-Vector",
    PEarlyMedia => "P-Early-Media",
    PPreferredIdentity => "P-Preferred-Identity",
    Path => "Path",
    Priority => "Priority",
    Privacy => "Privacy",
    ProxyAuthenticate => "Proxy-Authenticate",
    ProxyAuthorization => "Proxy-Authorization",
    ProxyRequire => "Proxy-Require",
    RAck => "RAck",
    Reason => "Reason",
    RecordRoute => "Record-Route",
    RecvInfo => "Recv-Info",
    ReferTo => "Refer-To" b'r',
    ReferredBy => "Referred-By" b'b',
    RejectContact => "Reject-Contact" b'j',
    RemotePartyId => "Remote-Party-ID",
    Replaces => "Replaces",
    ReplyTo => "Reply-To",
    RequestDisposition => "Request-Disposition" b'd',
    Require => "Require",
    ResourcePriority => "Resource-Priority",
    RetryAfter => "Retry-After",
    Route => "Route",
    RSeq => "RSeq",
    Server => "Server",
    ServiceRoute => "Service-Route",
    SessionExpires => "Session-Expires" b'x',
    SipEtag => "SIP-ETag",
    SipIfMatch => "SIP-If-Match",
    Subject => "Subject" b's',
    SubscriptionState => "Subscription-State",
    Supported => "Supported" b'k',
    Timestamp => "Timestamp",
    To => "To" b't',
    Unsupported => "Unsupported",
    UserAgent => "User-Agent",
    UserToUser => "User-to-User",
    Via => "Via" b'v',
    Warning => "Warning",
    WwwAuthenticate => "WWW-Authenticate",
}

/// One more than the longest known name, and room for the end of its range.
const LENGTHS: usize = 24;

/// Where in [`ORDER`] the names of each length start.
static BY_LENGTH: [u8; LENGTHS] = index().0;
/// Indices of the names, by length, so that a look-up compares with a handful only.
static ORDER: [u8; NAMES.len()] = index().1;

const fn index() -> ([u8; LENGTHS], [u8; NAMES.len()]) {
    let (mut starts, mut order) = ([0u8; LENGTHS], [0u8; NAMES.len()]);
    let (mut length, mut filled) = (0, 0);
    while length < LENGTHS {
        starts[length] = filled as u8;
        let mut i = 0;
        while i < NAMES.len() {
            assert!(NAMES[i].len() + 1 < LENGTHS, "LENGTHS is too small for a name");
            if NAMES[i].len() == length {
                order[filled] = i as u8;
                filled += 1;
            }
            i += 1;
        }
        length += 1;
    }
    (starts, order)
}

impl HeaderName {
    /// The name in any case, long or compact. What is not a token can't be sent, so its other characters are dropped.
    pub fn new(name: &str) -> HeaderName {
        HeaderName::parse(name).unwrap_or_else(|| {
            let token: String =
                name.chars().filter(|c| grammar::is_token(c.encode_utf8(&mut [0; 4]))).collect();
            HeaderName::known(&token).unwrap_or(HeaderName::Other(token.into()))
        })
    }

    /// The name in any case, long or compact; `None` if it is not a token.
    pub fn parse(name: &str) -> Option<HeaderName> {
        match HeaderName::known(name) {
            Some(known) => Some(known),
            None => grammar::is_token(name).then(|| HeaderName::Other(name.into())),
        }
    }
}

impl From<&str> for HeaderName {
    fn from(name: &str) -> HeaderName {
        HeaderName::new(name)
    }
}

impl FromStr for HeaderName {
    type Err = ();
    fn from_str(name: &str) -> Result<HeaderName, ()> {
        HeaderName::parse(name).ok_or(())
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &HeaderName) -> bool {
        match (self, other) {
            (HeaderName::Other(a), HeaderName::Other(b)) => a.eq_ignore_ascii_case(b),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

impl Eq for HeaderName {}

impl hash::Hash for HeaderName {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        if let HeaderName::Other(name) = self {
            name.bytes().for_each(|b| state.write_u8(b.to_ascii_lowercase()));
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for known in KNOWN {
            assert_eq!(&HeaderName::new(known.as_str()), known);
            assert_eq!(&HeaderName::new(&known.as_str().to_ascii_uppercase()), known);
            assert!(!matches!(HeaderName::new(&known.as_str().to_ascii_lowercase()), HeaderName::Other(_)));
        }
    }

    #[test]
    fn compact_forms_are_understood() {
        let compact: Vec<_> =
            "vftimlcskeorbuxyajd".chars().map(|c| HeaderName::new(&c.to_string()).to_string()).collect();
        assert_eq!(
            compact,
            [
                "Via",
                "From",
                "To",
                "Call-ID",
                "Contact",
                "Content-Length",
                "Content-Type",
                "Subject",
                "Supported",
                "Content-Encoding",
                "Event",
                "Refer-To",
                "Referred-By",
                "Allow-Events",
                "Session-Expires",
                "Identity",
                "Accept-Contact",
                "Reject-Contact",
                "Request-Disposition",
            ]
        );
        assert_eq!(HeaderName::new("V"), HeaderName::Via);
    }

    #[test]
    fn unknown_names_keep_their_spelling_and_compare_without_case() {
        assert_eq!(HeaderName::new("X-Foo").as_str(), "X-Foo");
        assert_eq!(HeaderName::new("X-Foo"), HeaderName::new("x-foo"));
        assert_eq!(HeaderName::parse("Sub ject"), None);
        assert_eq!(HeaderName::parse(""), None);
        assert_eq!(HeaderName::new("X-Foo: 1\r\nEvil").as_str(), "X-Foo1Evil");
    }
}
