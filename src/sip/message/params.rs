//! The `;name=value` parameters of URIs and header values.

use super::grammar::{self, UriPart};
use smallvec::SmallVec;
use std::{borrow::Cow, fmt};

#[derive(Debug, Clone)]
struct Param {
    name: Cow<'static, str>,
    value: Option<Cow<'static, str>>,
    /// How it was written, so that it is written so again; says nothing about the value.
    quoted: bool,
}

impl PartialEq for Param {
    fn eq(&self, other: &Param) -> bool {
        self.name.eq_ignore_ascii_case(&other.name) && self.value == other.value
    }
}

impl Eq for Param {}

/// Parameters in their order. Names compare without case; of a name that stands twice the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params(SmallVec<[Param; 1]>);

impl Params {
    pub fn new() -> Params {
        Params(SmallVec::new())
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `None` if there is no such parameter, `Some(None)` if it has no value. Quotes are resolved.
    pub fn get(&self, name: &str) -> Option<Option<&str>> {
        self.find(name).map(|param| param.value.as_deref())
    }
    /// The value, where there is one.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.find(name).and_then(|param| param.value.as_deref())
    }
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
    /// Replaces the parameter where it stands, or appends it.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let value = value.map(keep_value);
        match self.0.iter_mut().find(|param| param.name.eq_ignore_ascii_case(name)) {
            Some(param) => (param.value, param.quoted) = (value, false),
            None => self.0.push(Param { name: intern(name), value, quoted: false }),
        }
    }
    /// Removes every parameter of that name; true if there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|param| !param.name.eq_ignore_ascii_case(name));
        self.0.len() != before
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|param| (param.name.as_ref(), param.value.as_deref()))
    }

    fn find(&self, name: &str) -> Option<&Param> {
        self.0.iter().find(|param| param.name.eq_ignore_ascii_case(name))
    }

    /// Reads the parameters of a header value, from the first `;` on. `None` if they are malformed.
    pub(crate) fn parse_header(text: &str) -> Option<Params> {
        let mut params = Params::new();
        for param in RawParams::new(text) {
            let RawParam { name, value } = param?;
            let quoted = value.is_some_and(|v| v.starts_with('"'));
            let value = value.map(|v| match quoted {
                true => Cow::Owned(grammar::unquote(v).into_owned()),
                false => keep_value(v),
            });
            params.0.push(Param { name: intern(name), value, quoted });
        }
        Some(params)
    }

    /// Takes over a URI's parameters, already checked; escapes stay as they are.
    pub(crate) fn from_checked_uri(text: &str) -> Params {
        let mut params = Params::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, behind) = grammar::split_once(rest, b';').unwrap_or((rest, ""));
            rest = behind;
            let (name, value) = match grammar::split_once(piece, b'=') {
                Some((name, value)) => (name, Some(keep_value(value))),
                None => (piece, None),
            };
            if !piece.is_empty() {
                params.0.push(Param { name: intern(name), value, quoted: false });
            }
        }
        params
    }

    /// Writes the parameters as they stand in a URI.
    pub(crate) fn write_uri(&self, f: &mut impl fmt::Write) -> fmt::Result {
        for param in &self.0 {
            f.write_char(';')?;
            UriPart::Parameter.keep_escaped(&param.name, f)?;
            if let Some(value) = &param.value {
                f.write_char('=')?;
                UriPart::Value.keep_escaped(value, f)?;
            }
        }
        Ok(())
    }
}

/// Writes the parameters as they stand in a header value; what is not a token or host is quoted.
impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for param in &self.0 {
            write!(f, ";{}", param.name)?;
            if let Some(value) = &param.value {
                f.write_str("=")?;
                if param.quoted || !grammar::is_parameter_value(value) {
                    grammar::quote(value, f)?;
                } else {
                    f.write_str(value)?;
                }
            }
        }
        Ok(())
    }
}

/// One parameter as written; a quoted value keeps its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawParam<'a> {
    pub name: &'a str,
    pub value: Option<&'a str>,
}

/// Walks header parameters without allocating; an item is `None` where the text is malformed, and then it ends.
pub(crate) struct RawParams<'a> {
    rest: &'a str,
}

impl<'a> RawParams<'a> {
    pub(crate) fn new(text: &'a str) -> RawParams<'a> {
        RawParams { rest: grammar::trim(text) }
    }

    fn read(&mut self) -> Option<RawParam<'a>> {
        let text = grammar::trim_start(self.rest.strip_prefix(';')?);
        let (name, rest) = text.split_at(grammar::token_length(text));
        if name.is_empty() {
            return None;
        }
        let rest = grammar::trim_start(rest);
        let Some(after) = rest.strip_prefix('=') else {
            self.rest = rest;
            return Some(RawParam { name, value: None });
        };
        let after = grammar::trim_start(after);
        let value_end = if after.starts_with('"') {
            grammar::quoted_end(after)?
        } else {
            grammar::parameter_value_length(after)
        };
        let (value, rest) = after.split_at(value_end);
        if value.is_empty() {
            return None;
        }
        self.rest = grammar::trim_start(rest);
        Some(RawParam { name, value: Some(value) })
    }
}

impl<'a> Iterator for RawParams<'a> {
    type Item = Option<RawParam<'a>>;

    fn next(&mut self) -> Option<Option<RawParam<'a>>> {
        // A single trailing ";" is met in the field and hides nothing.
        if self.rest.is_empty() || self.rest == ";" {
            return None;
        }
        let param = self.read();
        if param.is_none() {
            self.rest = "";
        }
        Some(param)
    }
}

/// The value of one parameter in unparsed header parameters, as written.
pub(crate) fn raw_value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    RawParams::new(text).flatten().find(|param| param.name.eq_ignore_ascii_case(name))?.value
}

/// Values met in every call are not allocated.
fn keep_value(value: &str) -> Cow<'static, str> {
    match value {
        "phone" => Cow::Borrowed("phone"),
        "udp" => Cow::Borrowed("udp"),
        "tcp" => Cow::Borrowed("tcp"),
        "tls" => Cow::Borrowed("tls"),
        "uac" => Cow::Borrowed("uac"),
        "uas" => Cow::Borrowed("uas"),
        other => Cow::Owned(other.to_owned()),
    }
}

/// Names met in every call are not allocated.
fn intern(name: &str) -> Cow<'static, str> {
    const KNOWN: [&str; 18] = [
        "tag",
        "branch",
        "rport",
        "received",
        "transport",
        "lr",
        "user",
        "expires",
        "q",
        "ob",
        "maddr",
        "ttl",
        "method",
        "cause",
        "text",
        "refresher",
        "reg-id",
        "+sip.instance",
    ];
    match KNOWN.into_iter().find(|known| *known == name) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_order_and_resolve_quotes() {
        let text = r#" ; a ;b = 2; +sip.instance="<urn:uuid:1>";c="x\"y" "#;
        let params = Params::parse_header(text).unwrap();
        assert_eq!(params.get("A"), Some(None));
        assert_eq!(params.value("b"), Some("2"));
        assert_eq!(params.value("+sip.instance"), Some("<urn:uuid:1>"));
        assert_eq!(params.value("c"), Some("x\"y"));
        assert_eq!(params.to_string(), r#";a;b=2;+sip.instance="<urn:uuid:1>";c="x\"y""#);
    }

    #[test]
    fn malformed_parameters_are_refused() {
        for bad in [";;", ";a=;b", ";=1", ";a=\"x", "a", ";a b", ";a=1 2", ";a=<x>"] {
            assert_eq!(Params::parse_header(bad), None, "{bad}");
        }
        assert!(Params::parse_header(";a;").is_some());
    }

    #[test]
    fn set_replaces_in_place_and_values_are_quoted_where_needed() {
        let mut params = Params::parse_header(";tag=1;x=2").unwrap();
        params.set("TAG", Some("a b\r\nc"));
        assert_eq!(params.to_string(), ";tag=\"a b  c\";x=2");
        assert!(params.remove("x") && !params.remove("x"));
    }
}
