//! `sip:`, `sips:` and `tel:` URIs (RFC 3261 §19.1, RFC 3966).

use super::grammar::{self, UriPart};
use super::params::Params;
use crate::types::{HostPort, mask};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Text that is not a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("URI without a scheme")]
    Scheme,
    #[error("malformed user part of a URI")]
    User,
    #[error("malformed host of a URI")]
    Host,
    #[error("malformed port of a URI")]
    Port,
    #[error("malformed parameter of a URI")]
    Parameter,
    #[error("malformed header part of a URI")]
    Headers,
}

/// What stands before the first colon of a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    /// In lower case. A Request-URI with such a scheme is answered 416 (RFC 3261 §8.2.2.1).
    Other(String),
}

impl Scheme {
    pub fn as_str(&self) -> &str {
        match self {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(name) => name,
        }
    }
}

/// A URI in its parts. `==` compares the parts as they are; [`equivalent`](Uri::equivalent) is the comparison of
/// RFC 3261 §19.1.4, which is not transitive and so can't be `==`.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    pub scheme: Scheme,
    /// Unescaped. The number of a `tel:` URI; all that follows the colon in a scheme we do not know.
    pub user: Option<String>,
    /// Unescaped.
    pub password: Option<String>,
    /// Empty for `tel:` and schemes we do not know.
    pub host: HostPort,
    /// Escapes stay as written.
    pub params: Params,
    /// All that follows `?`, as written.
    pub headers: Option<String>,
}

impl Uri {
    /// A `sip:` URI without parameters.
    pub fn sip(user: Option<&str>, host: HostPort) -> Uri {
        Uri::new(Scheme::Sip, user, host)
    }
    /// A `sips:` URI without parameters.
    pub fn sips(user: Option<&str>, host: HostPort) -> Uri {
        Uri::new(Scheme::Sips, user, host)
    }
    /// A `tel:` URI without parameters (RFC 3966).
    pub fn tel(number: &str) -> Uri {
        Uri::new(Scheme::Tel, Some(number), HostPort { host: String::new(), port: None })
    }

    fn new(scheme: Scheme, user: Option<&str>, host: HostPort) -> Uri {
        let user = user.map(str::to_owned);
        Uri { scheme, user, password: None, host, params: Params::new(), headers: None }
    }

    /// The same URI with one more parameter.
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Uri {
        self.params.set(name, value);
        self
    }

    /// Reads a URI; white space is not tolerated.
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        UriRef::parse(text).map(UriRef::to_uri)
    }

    /// The user part, or an empty string.
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }

    /// True for `sip:` and `sips:`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The digits of a `tel:` URI or of a telephone number in a `sip:` user part, visual separators and parameters
    /// removed (RFC 3966 §5.1.1, RFC 3261 §19.1.6); what is not a number comes back as it is.
    pub fn subscriber(&self) -> String {
        let number = self.user().split(';').next().unwrap_or_default();
        let bare: String = number.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect();
        let digits = bare.strip_prefix('+').unwrap_or(&bare);
        let is_number =
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b"*#".contains(&b));
        if is_number { bare } else { number.to_owned() }
    }

    /// The `transport` parameter, lower or upper case as written.
    pub fn transport(&self) -> Option<&str> {
        self.params.value("transport")
    }

    /// RFC 3261 §19.1.4, for `tel:` RFC 3966 §4: true if both address the same thing.
    pub fn equivalent(&self, other: &Uri) -> bool {
        if self.scheme != other.scheme {
            return false;
        }
        match self.scheme {
            Scheme::Sip | Scheme::Sips => self.equivalent_sip(other),
            Scheme::Tel => {
                self.subscriber().eq_ignore_ascii_case(&other.subscriber())
                    && self.params.len() == other.params.len()
                    && self
                        .params
                        .iter()
                        .all(|(name, _)| same_param(other.params.get(name), self.params.get(name)))
            }
            Scheme::Other(_) => self == other,
        }
    }

    fn equivalent_sip(&self, other: &Uri) -> bool {
        // A parameter of one side only is ignored, except these.
        const NEVER_IGNORED: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
        self.user == other.user
            && self.password == other.password
            && same_host(&self.host, &other.host)
            && NEVER_IGNORED.iter().all(|name| same_param(self.params.get(name), other.params.get(name)))
            && self.params.iter().all(|(name, _)| {
                // Asked by name, so that of a name that stands twice the first counts on both sides.
                let theirs = other.params.get(name);
                theirs.is_none() || same_param(theirs, self.params.get(name))
            })
            && same_headers(self.headers.as_deref(), other.headers.as_deref())
    }
}

fn same_host(a: &HostPort, b: &HostPort) -> bool {
    let same_address = match (a.host.parse::<Ipv6Addr>(), b.host.parse::<Ipv6Addr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a.host.eq_ignore_ascii_case(&b.host),
    };
    same_address && a.port == b.port
}

fn same_param(a: Option<Option<&str>>, b: Option<Option<&str>>) -> bool {
    let decode = |value: &str| {
        grammar::unescape(value).map_or_else(|| value.to_owned(), |v| v.into_owned()).to_ascii_lowercase()
    };
    match (a, b) {
        (Some(Some(a)), Some(Some(b))) => decode(a) == decode(b),
        (Some(None), Some(None)) | (None, None) => true,
        _ => false,
    }
}

/// Headers match in any order; values are compared as text.
fn same_headers(a: Option<&str>, b: Option<&str>) -> bool {
    let sorted = |headers: Option<&str>| {
        let mut pairs: Vec<(String, String)> = headers
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let value = grammar::unescape(value).map_or_else(|| value.to_owned(), |v| v.into_owned());
                (name.to_ascii_lowercase(), value)
            })
            .collect();
        pairs.sort();
        pairs
    };
    sorted(a) == sorted(b)
}

impl FromStr for Uri {
    type Err = UriError;
    fn from_str(text: &str) -> Result<Uri, UriError> {
        Uri::parse(text)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme.as_str())?;
        match &self.scheme {
            Scheme::Other(_) => {
                return self.user().chars().filter(|c| is_opaque(*c)).try_for_each(|c| write!(f, "{c}"));
            }
            Scheme::Tel => UriPart::User.escape(self.user(), f)?,
            Scheme::Sip | Scheme::Sips => {
                if let Some(user) = &self.user {
                    UriPart::User.escape(user, f)?;
                    if let Some(password) = &self.password {
                        f.write_str(":")?;
                        UriPart::Password.escape(password, f)?;
                    }
                    f.write_str("@")?;
                }
                self.host.fmt(f)?;
            }
        }
        self.params.write_uri(f)?;
        match &self.headers {
            Some(headers) => {
                f.write_str("?")?;
                headers.split('&').enumerate().try_for_each(|(i, pair)| {
                    f.write_str(if i == 0 { "" } else { "&" })?;
                    match pair.split_once('=') {
                        Some((name, value)) => {
                            UriPart::Headers.keep_escaped(name, f)?;
                            f.write_str("=")?;
                            UriPart::Headers.keep_escaped(value, f)
                        }
                        None => UriPart::Headers.keep_escaped(pair, f),
                    }
                })
            }
            None => Ok(()),
        }
    }
}

/// Debug output reaches logs, so numbers in it are masked; `Display` is whole.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = mask(&self.params.to_string());
        write!(f, "{}:{}@{}{params}", self.scheme.as_str(), mask(self.user()), self.host)
    }
}

fn is_opaque(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | '"')
}

/// A URI's parts inside the text they were read from: checked, nothing allocated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UriRef<'a> {
    scheme: SchemeRef<'a>,
    user: Option<&'a str>,
    password: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
    params: &'a str,
    headers: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SchemeRef<'a> {
    Sip,
    Sips,
    Tel,
    Other(&'a str),
}

impl<'a> UriRef<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<UriRef<'a>, UriError> {
        if let Some((uri, "")) = UriRef::plain_prefix(text) {
            return Ok(uri);
        }
        let (scheme, rest) = grammar::split_once(text, b':').ok_or(UriError::Scheme)?;
        if scheme.eq_ignore_ascii_case("sip") {
            UriRef::parse_sip(SchemeRef::Sip, rest)
        } else if scheme.eq_ignore_ascii_case("sips") {
            UriRef::parse_sip(SchemeRef::Sips, rest)
        } else if scheme.eq_ignore_ascii_case("tel") {
            UriRef::parse_tel(rest)
        } else {
            let mut bytes = scheme.bytes();
            let named = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
                && bytes.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            if !named || rest.is_empty() || !rest.chars().all(is_opaque) {
                return Err(UriError::Scheme);
            }
            Ok(UriRef { scheme: SchemeRef::Other(scheme), user: Some(rest), ..UriRef::EMPTY })
        }
    }

    const EMPTY: UriRef<'static> = UriRef {
        scheme: SchemeRef::Sip,
        user: None,
        password: None,
        host: "",
        port: None,
        params: "",
        headers: None,
    };

    /// The shape of nearly all URIs, `sip:user@host:port;parameters` without escapes, at the start of a text, read in
    /// one walk: the URI and what stands behind it. `None` says nothing of the text but that it is of another shape.
    pub(crate) fn plain_prefix(text: &'a str) -> Option<(UriRef<'a>, &'a str)> {
        let text = text.strip_prefix("sip:")?;
        let user_end = UriPart::User.plain_length(text);
        let (user, rest) = match text.as_bytes().get(user_end) {
            Some(b'@') if user_end > 0 => (Some(&text[..user_end]), &text[user_end + 1..]),
            Some(_) if grammar::find(&text[user_end..], b'@').is_some() => return None,
            Some(_) | None => (None, text),
        };
        let (host, mut rest) = rest.split_at(grammar::host_name_length(rest));
        let mut port = None;
        if let [b':', digits @ ..] = rest.as_bytes() {
            let length = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
            port = Some(parse_port(&rest[1..1 + length])?);
            rest = &rest[1 + length..];
        }
        let params = rest;
        while let [b';', ..] = rest.as_bytes() {
            let name = UriPart::Parameter.plain_length(&rest[1..]);
            rest = &rest[1 + name..];
            let mut value = 1;
            if let [b'=', ..] = rest.as_bytes() {
                value = UriPart::Value.plain_length(&rest[1..]);
                rest = &rest[1 + value..];
            }
            if name == 0 || value == 0 {
                return None;
            }
        }
        let params = &params[..params.len() - rest.len()];
        (!host.is_empty()).then_some((UriRef { user, host, port, params, ..UriRef::EMPTY }, rest))
    }

    fn parse_sip(scheme: SchemeRef<'a>, text: &'a str) -> Result<UriRef<'a>, UriError> {
        // "@" must be escaped everywhere else, while ";" and "?" are fine in the user part: the user part is first.
        let (user, password, rest) = match grammar::split_once(text, b'@') {
            Some((info, rest)) => {
                let (user, password) = match grammar::split_once(info, b':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (info, None),
                };
                let user_fits = !user.is_empty() && UriPart::User.accepts(user);
                if !user_fits || !password.is_none_or(|p| UriPart::Password.accepts(p)) {
                    return Err(UriError::User);
                }
                if grammar::unescape(user).is_none()
                    || password.is_some_and(|p| grammar::unescape(p).is_none())
                {
                    return Err(UriError::User);
                }
                (Some(user), password, rest)
            }
            None => (None, None, text),
        };
        let (rest, headers) = match grammar::split_once(rest, b'?') {
            Some((rest, headers)) => (rest, Some(headers)),
            None => (rest, None),
        };
        let host_end = grammar::find(rest, b';').unwrap_or(rest.len());
        let (host_port, params) = rest.split_at(host_end);
        let (host, port) = parse_host_port(host_port)?;
        check_params(params)?;
        if !headers.is_none_or(headers_fit) {
            return Err(UriError::Headers);
        }
        Ok(UriRef { scheme, user, password, host, port, params, headers })
    }

    fn parse_tel(text: &'a str) -> Result<UriRef<'a>, UriError> {
        let number_end = grammar::find(text, b';').unwrap_or(text.len());
        let (number, params) = text.split_at(number_end);
        let digits = number.strip_prefix('+').unwrap_or(number);
        let fits = |b: u8| b.is_ascii_hexdigit() || b"-.()*#".contains(&b);
        // "#" has to be escaped in RFC 3966 §3 and is written bare by many.
        let unescaped = grammar::unescape(digits).ok_or(UriError::User)?;
        if !unescaped.bytes().any(|b| b.is_ascii_hexdigit() || b == b'*' || b == b'#')
            || !unescaped.bytes().all(fits)
        {
            return Err(UriError::User);
        }
        check_params(params)?;
        Ok(UriRef { scheme: SchemeRef::Tel, user: Some(number), params, ..UriRef::EMPTY })
    }

    pub(crate) fn has_headers(&self) -> bool {
        self.headers.is_some()
    }

    pub(crate) fn to_uri(self) -> Uri {
        // Whether it can be unescaped was checked when it was read.
        let own = |text: &str| grammar::unescape(text).unwrap_or_default().into_owned();
        let (scheme, user) = match self.scheme {
            SchemeRef::Sip => (Scheme::Sip, self.user.map(own)),
            SchemeRef::Sips => (Scheme::Sips, self.user.map(own)),
            SchemeRef::Tel => (Scheme::Tel, self.user.map(own)),
            SchemeRef::Other(name) => {
                (Scheme::Other(name.to_ascii_lowercase()), self.user.map(str::to_owned))
            }
        };
        Uri {
            scheme,
            user,
            password: self.password.map(own),
            host: HostPort { host: own_host(self.host), port: self.port },
            params: Params::from_checked_uri(self.params),
            headers: self.headers.map(str::to_owned),
        }
    }
}

/// Host without brackets, and port.
pub(crate) fn parse_host_port(text: &str) -> Result<(&str, Option<u16>), UriError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(UriError::Host)?;
            if host.parse::<Ipv6Addr>().is_err() && one_colon_less(host).is_none() {
                return Err(UriError::Host);
            }
            (host, rest)
        }
        None => text.split_at(grammar::host_name_length(text)),
    };
    match port.strip_prefix(':') {
        _ if host.is_empty() => Err(UriError::Host),
        Some(port) => Ok((host, Some(parse_port(port).ok_or(UriError::Port)?))),
        None if port.is_empty() => Ok((host, None)),
        None => Err(UriError::Host),
    }
}

/// The grammar of RFC 3261 has three colons before an embedded IPv4 address, which is to be tolerated
/// (RFC 5118 §4.10): the address as it was meant, `None` if it is not written so.
fn one_colon_less(host: &str) -> Option<String> {
    let (start, embedded) = host.split_once(":::")?;
    let mended = format!("{start}::{embedded}");
    (embedded.parse::<Ipv4Addr>().is_ok() && mended.parse::<Ipv6Addr>().is_ok()).then_some(mended)
}

/// A host as [`parse_host_port`] gave it, to keep.
pub(crate) fn own_host(host: &str) -> String {
    let literal = grammar::find(host, b':').is_some();
    literal.then(|| one_colon_less(host)).flatten().unwrap_or_else(|| host.to_owned())
}

/// Nothing listens on port 0.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    grammar::number(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

fn check_params(text: &str) -> Result<(), UriError> {
    let fits = |piece: &str| {
        let (name, value) = match grammar::split_once(piece, b'=') {
            Some((name, value)) => (name, Some(value)),
            None => (piece, None),
        };
        !name.is_empty()
            && UriPart::Parameter.accepts(name)
            && value.is_none_or(|v| !v.is_empty() && UriPart::Value.accepts(v))
    };
    match text.strip_prefix(';') {
        // A single trailing ";" is met in the field.
        Some(text) => {
            let text = text.strip_suffix(';').unwrap_or(text);
            if text.is_empty() || text.split(';').all(fits) { Ok(()) } else { Err(UriError::Parameter) }
        }
        None => Ok(()),
    }
}

fn headers_fit(text: &str) -> bool {
    text.split('&').all(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        !name.is_empty() && UriPart::Headers.accepts(name) && UriPart::Headers.accepts(value)
    })
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
