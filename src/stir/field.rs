//! The Identity header field (RFC 8224 §4): a PASSporT and where its certificate is.

use super::passport::Extension;
use std::fmt;

/// `token;info=<uri>;alg=ES256;ppt=shaken`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityField {
    pub token: String,
    /// The URI of the signer's certificate, without angle brackets.
    pub info: String,
    /// `None` is ES256 (RFC 8224 §4.1).
    pub alg: Option<String>,
    pub ppt: Option<String>,
}

/// A field that names no certificate, or is not of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no Identity field")]
pub struct NotAnIdentity;

impl IdentityField {
    pub fn new(token: String, info: &str, extension: &Extension) -> IdentityField {
        let ppt = extension.ppt().map(str::to_owned);
        IdentityField { token, info: info.to_owned(), alg: Some("ES256".into()), ppt }
    }

    /// # Errors
    /// The value has no token, no `info`, or something else than parameters behind the token.
    pub fn parse(value: &str) -> Result<IdentityField, NotAnIdentity> {
        let mut parts = Parts(value.trim());
        let token = parts.next().map(str::trim).filter(|token| !token.is_empty()).ok_or(NotAnIdentity)?;
        if !token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(NotAnIdentity);
        }
        let (mut info, mut alg, mut ppt) = (None, None, None);
        for part in parts {
            let (name, text) = part.split_once('=').unwrap_or((part, ""));
            let text = text.trim();
            let slot = match name.trim() {
                name if name.eq_ignore_ascii_case("info") => {
                    let uri = text.strip_prefix('<').and_then(|uri| uri.strip_suffix('>'));
                    info = Some(
                        uri.map(str::trim).filter(|uri| !uri.is_empty()).ok_or(NotAnIdentity)?.to_owned(),
                    );
                    continue;
                }
                name if name.eq_ignore_ascii_case("alg") => &mut alg,
                name if name.eq_ignore_ascii_case("ppt") => &mut ppt,
                // RFC 3261 §25.1: parameters of whatever name may stand there.
                _ => continue,
            };
            // RFC 8224 §4 writes `ppt` as a quoted string, its examples and everybody else as a token.
            *slot = Some(text.trim_matches('"').to_owned());
        }
        Ok(IdentityField { token: token.to_owned(), info: info.ok_or(NotAnIdentity)?, alg, ppt })
    }
}

impl fmt::Display for IdentityField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};info=<{}>", self.token, self.info)?;
        if let Some(alg) = &self.alg {
            write!(f, ";alg={alg}")?;
        }
        if let Some(ppt) = &self.ppt {
            write!(f, ";ppt={ppt}")?;
        }
        Ok(())
    }
}

/// What stands between semicolons; one inside angle brackets belongs to the URI there.
struct Parts<'a>(&'a str);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let mut inside = false;
        let end = self.0.bytes().position(|byte| {
            inside = match byte {
                b'<' => true,
                b'>' => false,
                _ => inside,
            };
            byte == b';' && !inside
        });
        let (part, rest) = match end {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, ""),
        };
        self.0 = rest;
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_survives_writing_and_reading() {
        let field = IdentityField::new("a.b.c".into(), "https://cert.example/1;v=2", &Extension::Shaken);
        let text = field.to_string();
        assert_eq!(text, "a.b.c;info=<https://cert.example/1;v=2>;alg=ES256;ppt=shaken");
        assert_eq!(IdentityField::parse(&text), Ok(field));
    }

    #[test]
    fn all_its_spellings_are_understood() {
        for text in [
            "a.b.c;info=<https://x/y>;alg=ES256;ppt=\"shaken\"",
            " a.b.c ; INFO = <https://x/y> ; PPT = shaken;more;other=1",
            "a.b.c;ppt=shaken;info=<https://x/y>",
        ] {
            let field = IdentityField::parse(text).unwrap();
            assert_eq!((field.token.as_str(), field.info.as_str()), ("a.b.c", "https://x/y"));
            assert_eq!(field.ppt.as_deref(), Some("shaken"));
        }
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for text in [
            "",
            ";",
            "a.b.c",
            "a.b.c;info=https://x",
            "a.b.c;info=<>",
            "a b;info=<https://x>",
            ";info=<https://x>",
        ] {
            assert_eq!(IdentityField::parse(text), Err(NotAnIdentity), "{text}");
        }
    }
}
