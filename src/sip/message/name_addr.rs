//! Addresses as From, To, Contact, Route and the identity headers carry them: a URI with a display name and parameters.

use super::grammar;
use super::params::{self, Params};
use super::uri::{Uri, UriError, UriRef};
use crate::types::mask;
use std::{fmt, str::FromStr};

/// Text that is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameAddrError {
    #[error("display name with unbalanced quotes")]
    Quotes,
    #[error("address with unbalanced angle brackets")]
    Brackets,
    #[error("malformed address parameter")]
    Parameter,
    #[error(transparent)]
    Uri(#[from] UriError),
}

/// `"display" <uri>;params` or `uri;params`.
#[derive(Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// Without quotes, quoted pairs resolved; `None` if there is none or it is empty.
    pub display: Option<String>,
    pub uri: Uri,
    /// Of the header, not of the URI.
    pub params: Params,
}

impl NameAddr {
    /// An address without display name and parameters.
    pub fn new(uri: Uri) -> NameAddr {
        NameAddr { display: None, uri, params: Params::new() }
    }

    /// The same address with a display name.
    pub fn with_display(mut self, display: impl Into<String>) -> NameAddr {
        self.display = Some(display.into());
        self
    }

    /// The same address with a tag.
    pub fn with_tag(mut self, tag: &str) -> NameAddr {
        self.set_tag(tag);
        self
    }

    pub fn parse(text: &str) -> Result<NameAddr, NameAddrError> {
        NameAddrRef::parse(text).map(NameAddrRef::to_name_addr)
    }

    pub fn tag(&self) -> Option<&str> {
        self.params.value("tag")
    }

    pub fn set_tag(&mut self, tag: &str) {
        self.params.set("tag", Some(tag));
    }
}

impl FromStr for NameAddr {
    type Err = NameAddrError;
    fn from_str(text: &str) -> Result<NameAddr, NameAddrError> {
        NameAddr::parse(text)
    }
}

/// Always with angle brackets, so that nobody has to guess whose the parameters are (RFC 3261 §20).
impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            grammar::quote(display, f)?;
            f.write_str(" ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// Debug output reaches logs, so numbers in it are masked; `Display` is whole.
impl fmt::Debug for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let display = self.display.as_deref().unwrap_or_default();
        write!(f, "{:?} <{:?}>{}", mask(display), self.uri, mask(&self.params.to_string()))
    }
}

/// An address's parts inside the text they were read from: checked, nothing allocated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameAddrRef<'a> {
    display: &'a str,
    uri: UriRef<'a>,
    params: &'a str,
}

impl<'a> NameAddrRef<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<NameAddrRef<'a>, NameAddrError> {
        let text = grammar::trim(text);
        let open = match text.as_bytes() {
            [b'<', ..] => Some(0),
            [b'"', ..] => {
                let end = grammar::quoted_end(text).ok_or(NameAddrError::Quotes)?;
                let rest = grammar::trim_start(&text[end..]);
                if !rest.starts_with('<') {
                    return Err(NameAddrError::Brackets);
                }
                Some(text.len() - rest.len())
            }
            // A bracket behind a quote stands in a parameter: `sip:a@h;+sip.instance="<urn:…>"`.
            _ => grammar::find(text, b'<').filter(|open| grammar::find(&text[..*open], b'"').is_none()),
        };
        let (display, uri, params) = match open {
            Some(open) => {
                let display = grammar::trim_end(&text[..open]);
                // An unquoted name should be tokens; commas, dots and UTF-8 are met and do no harm, quotes do.
                if !display.starts_with('"') && display.bytes().any(|b| matches!(b, b'"' | b'>')) {
                    return Err(NameAddrError::Quotes);
                }
                let inner = &text[open + 1..];
                match UriRef::plain_prefix(inner) {
                    Some((uri, rest)) if rest.starts_with('>') => {
                        (display, Ok(uri), grammar::trim(&rest[1..]))
                    }
                    Some(_) | None => {
                        let (uri, params) =
                            grammar::split_once(inner, b'>').ok_or(NameAddrError::Brackets)?;
                        (display, UriRef::parse(grammar::trim(uri)), grammar::trim(params))
                    }
                }
            }
            None => {
                // Without brackets ";" starts the header's parameters, and "?" and "," may not stand (RFC 3261 §20).
                let end = grammar::find(text, b';').unwrap_or(text.len());
                let uri = grammar::trim(&text[..end]);
                if uri.bytes().any(|b| matches!(b, b'?' | b',')) {
                    return Err(NameAddrError::Brackets);
                }
                ("", UriRef::parse(uri), &text[end..])
            }
        };
        if params::RawParams::new(params).any(|param| param.is_none()) {
            return Err(NameAddrError::Parameter);
        }
        Ok(NameAddrRef { display, uri: uri?, params })
    }

    pub(crate) fn tag(&self) -> Option<&'a str> {
        params::raw_value(self.params, "tag")
    }

    pub(crate) fn to_name_addr(self) -> NameAddr {
        let display = grammar::unquote(self.display);
        NameAddr {
            display: (!display.is_empty()).then(|| display.into_owned()),
            uri: self.uri.to_uri(),
            params: Params::parse_header(self.params).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NameAddr {
        NameAddr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn all_forms_are_read() {
        let quoted = parse(r#""Bell, \"A.\"" <sip:a@h;x=1?s=t>;tag=7"#);
        assert_eq!(quoted.display.as_deref(), Some("Bell, \"A.\""));
        assert_eq!((quoted.uri.params.value("x"), quoted.tag()), (Some("1"), Some("7")));

        let tokens = parse("token1~` token2'+_ token3*%!.- <sip:mundane@example.com>");
        assert_eq!(tokens.display.as_deref(), Some("token1~` token2'+_ token3*%!.-"));

        let bare = parse("sip:a@h;tag=7");
        assert_eq!((bare.display, bare.uri.params.len(), bare.params.value("tag")), (None, 0, Some("7")));

        let instance = parse("sip:a@h;+sip.instance=\"<urn:uuid:1>\"");
        assert_eq!(
            (instance.uri.user(), instance.params.value("+sip.instance")),
            ("a", Some("<urn:uuid:1>"))
        );

        assert_eq!(parse("caller<sip:c@h>;tag=3").display.as_deref(), Some("caller"));
        assert_eq!(parse("\"\" <sip:c@h>").display, None);
        assert_eq!(parse("Zoë Ünal (work) <sip:c@h>").display.as_deref(), Some("Zoë Ünal (work)"));
        assert_eq!(parse("\"Watson\" < sip:t@h >").uri.user(), "t");
        assert_eq!(parse("<sip:c@h> ; tag = 1 ; x").tag(), Some("1"));
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for bad in [
            "",
            "\"Mr. J. User <sip:j@h>",
            "a\"b <sip:j@h>",
            "\"a\" sip:j@h",
            "<sip:j@h",
            "sip:j@h>",
            "<sip:j@h>x",
            "<sip:j@h>;;;;",
            "sip:user@example.com?Route=%3Csip:sip.example.com%3E",
            "sip:a@h, sip:b@h",
            "<>",
            "Bob",
        ] {
            assert!(NameAddr::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn written_form_is_read_again() {
        let address = parse("Bob \\ <sip:b@h;lr>;tag=1;+sip.instance=\"<urn:uuid:2>\"");
        assert_eq!(parse(&address.to_string()), address);
        let evil =
            NameAddr::new(Uri::parse("sip:a@h").unwrap()).with_display("x\"\r\nEvil: 1").with_tag("a;b\r\n");
        let written = evil.to_string();
        assert!(!written.contains(['\r', '\n']), "{written}");
        assert_eq!(parse(&written).params.len(), 1);
    }
}
