//! The arithmetic and the header grammar of digest authentication (RFC 2617, RFC 7616, RFC 8760).

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use std::{borrow::Cow, fmt};

/// Hash functions for digest authentication in SIP (RFC 8760 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Md5,
    Sha256,
    Sha512_256,
}

impl Algorithm {
    /// The name in the `algorithm` parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512_256 => "SHA-512-256",
        }
    }

    /// Lower-case hexadecimal of the hash of `text`.
    pub fn hash(self, text: &str) -> String {
        #[cfg(test)]
        HASHES.set(HASHES.get() + 1);
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
            Algorithm::Sha512_256 => hex(&Sha512_256::digest(text)),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Counts the work, so that a test can compare it without a clock.
    pub(super) static HASHES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An `algorithm` parameter: a hash, and whether the session key binds nonce and cnonce (`-sess`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AlgorithmChoice {
    pub algorithm: Algorithm,
    pub session: bool,
}

impl AlgorithmChoice {
    /// Reads the parameter; without one it is MD5 (RFC 2617 §3.2.1). `None` for an algorithm nobody here
    /// knows.
    pub fn parse(text: Option<&str>) -> Option<AlgorithmChoice> {
        let text = text.unwrap_or("MD5");
        let (name, session) = match text.len().checked_sub(5).and_then(|at| text.split_at_checked(at)) {
            Some((name, suffix)) if suffix.eq_ignore_ascii_case("-sess") => (name, true),
            Some(_) | None => (text, false),
        };
        let algorithm = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256]
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))?;
        Some(AlgorithmChoice { algorithm, session })
    }
}

impl fmt::Display for AlgorithmChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.algorithm, if self.session { "-sess" } else { "" })
    }
}

/// What is stored of a user instead of the password: `H(user:realm:password)`.
pub fn ha1(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> String {
    algorithm.hash(&format!("{user}:{realm}:{password}"))
}

/// The protection a response was computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection<'a> {
    /// RFC 2069: no counter, no client nonce.
    None,
    /// `qop=auth`. `nc` is the counter as it is written, eight hexadecimal digits.
    Auth { nc: &'a str, cnonce: &'a str },
    /// `qop=auth-int`: the body is covered too.
    AuthInt { nc: &'a str, cnonce: &'a str, body: &'a [u8] },
}

/// Everything a response is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Computation<'a> {
    pub choice: AlgorithmChoice,
    /// `H(user:realm:password)`, see [`ha1`].
    pub ha1: &'a str,
    pub nonce: &'a str,
    pub method: &'a str,
    pub uri: &'a str,
    pub protection: Protection<'a>,
}

impl Computation<'_> {
    /// The `response` parameter (RFC 7616 §3.4.1).
    pub fn response(&self) -> String {
        let hash = |text: &str| self.choice.algorithm.hash(text);
        let Computation { nonce, method, uri, .. } = *self;
        let cnonce = match self.protection {
            Protection::None => "",
            Protection::Auth { cnonce, .. } | Protection::AuthInt { cnonce, .. } => cnonce,
        };
        let ha1 = match self.choice.session {
            true => Cow::Owned(hash(&format!("{}:{nonce}:{cnonce}", self.ha1))),
            false => Cow::Borrowed(self.ha1),
        };
        match self.protection {
            Protection::None => hash(&format!("{ha1}:{nonce}:{}", hash(&format!("{method}:{uri}")))),
            Protection::Auth { nc, cnonce } => {
                let ha2 = hash(&format!("{method}:{uri}"));
                hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}"))
            }
            Protection::AuthInt { nc, cnonce, body } => {
                let body = match self.choice.algorithm {
                    Algorithm::Md5 => hex(&Md5::digest(body)),
                    Algorithm::Sha256 => hex(&Sha256::digest(body)),
                    Algorithm::Sha512_256 => hex(&Sha512_256::digest(body)),
                };
                let ha2 = hash(&format!("{method}:{uri}:{body}"));
                hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:auth-int:{ha2}"))
            }
        }
    }
}

/// The parameters of a `Digest` challenge or of credentials, unquoted. Names are compared without case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestParams(Vec<(String, String)>);

/// More parameters than any known scheme has; what exceeds it is an attack on the parser's time.
const MAX_PARAMS: usize = 24;

impl DigestParams {
    /// Reads a header value that starts with the scheme `Digest`. `None` for another scheme, broken grammar,
    /// and a parameter that comes twice (RFC 7616 §3.4: a request that two readers could read differently).
    pub fn parse(value: &str) -> Option<DigestParams> {
        let value = value.trim();
        let (scheme, mut rest) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case("Digest") || !rest.starts_with([' ', '\t']) {
            return None;
        }
        let mut params: Vec<(String, String)> = Vec::with_capacity(10);
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (name, after) = rest.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            let well_formed =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !well_formed || params.len() == MAX_PARAMS || params.iter().any(|(other, _)| *other == name) {
                return None;
            }
            let after = after.trim_start();
            let (content, after) = match after.strip_prefix('"') {
                Some(quoted) => unquote(quoted)?,
                None => {
                    let (token, after) = after.split_at(after.find(',').unwrap_or(after.len()));
                    (token.trim_end().to_owned(), after)
                }
            };
            let after = after.trim_start();
            if !after.is_empty() && !after.starts_with(',') {
                return None;
            }
            params.push((name, content));
            rest = after;
        }
        Some(DigestParams(params))
    }

    /// The value of a parameter; `name` in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Splits a quoted string, whose opening quote is gone, from what follows its closing quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((content, &text[at + 1..])),
            '\\' => content.push(chars.next()?.1),
            _ => content.push(c),
        }
    }
    None
}

/// Escapes what would end a quoted string early (RFC 3261 §25.1).
pub(super) fn quote(text: &str) -> Cow<'_, str> {
    match text.contains(['"', '\\']) {
        true => Cow::Owned(text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => Cow::Borrowed(text),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,200}") {
            let _ = DigestParams::parse(&text);
            let _ = DigestParams::parse(&format!("Digest {text}"));
            let _ = AlgorithmChoice::parse(Some(&text));
        }

        #[test]
        fn a_quoted_value_comes_back_as_it_was(value in ".{0,60}", next in "[a-z0-9]{1,8}") {
            let header = format!("Digest realm=\"{}\", nonce={next}", quote(&value));
            let params = DigestParams::parse(&header).unwrap();
            prop_assert_eq!(params.get("realm"), Some(value.as_str()));
            prop_assert_eq!(params.get("nonce"), Some(next.as_str()));
        }
    }

    const PLAIN_MD5: AlgorithmChoice = AlgorithmChoice { algorithm: Algorithm::Md5, session: false };

    #[test]
    fn the_example_of_rfc_2617_section_3_5() {
        let ha1 = ha1(Algorithm::Md5, "Mufasa", "testrealm@host.com", "Circle Of Life");
        let response = Computation {
            choice: PLAIN_MD5,
            ha1: &ha1,
            nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            method: "GET",
            uri: "/dir/index.html",
            protection: Protection::Auth { nc: "00000001", cnonce: "0a4f113b" },
        }
        .response();
        assert_eq!(response, "6629fae49393a05397450978507c4ef1");
    }

    #[test]
    fn the_examples_of_rfc_7616_section_3_9_1() {
        let expected = [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ];
        for (algorithm, response) in expected {
            let ha1 = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life");
            let computation = Computation {
                choice: AlgorithmChoice { algorithm, session: false },
                ha1: &ha1,
                nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                method: "GET",
                uri: "/dir/index.html",
                protection: Protection::Auth {
                    nc: "00000001",
                    cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
                },
            };
            assert_eq!(computation.response(), response, "{algorithm}");
        }
    }

    #[test]
    fn hashes_agree_with_their_published_vectors() {
        assert_eq!(Algorithm::Md5.hash("abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(
            Algorithm::Sha256.hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            Algorithm::Sha512_256.hash("abc"),
            "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"
        );
    }

    #[test]
    fn the_algorithm_parameter_is_read_without_case_and_defaults_to_md5() {
        assert_eq!(AlgorithmChoice::parse(None), Some(PLAIN_MD5));
        assert_eq!(AlgorithmChoice::parse(Some("md5")), Some(PLAIN_MD5));
        assert_eq!(
            AlgorithmChoice::parse(Some("SHA-256-sess")),
            Some(AlgorithmChoice { algorithm: Algorithm::Sha256, session: true })
        );
        for unknown in ["", "-sess", "SHA-1", "AKAv1-MD5", "ééé"] {
            assert_eq!(AlgorithmChoice::parse(Some(unknown)), None, "{unknown}");
        }
    }

    #[test]
    fn parameters_are_read_with_quotes_escapes_and_any_spacing() {
        let params =
            DigestParams::parse(r#"DIGEST  Username="a\"b, c" ,realm = "x",nc=00000001 , qop=auth"#).unwrap();
        assert_eq!(params.get("username"), Some("a\"b, c"));
        assert_eq!(params.get("realm"), Some("x"));
        assert_eq!(params.get("nc"), Some("00000001"));
        assert_eq!(params.get("qop"), Some("auth"));
        assert_eq!(params.get("uri"), None);
    }

    #[test]
    fn broken_grammar_other_schemes_and_doubled_parameters_are_refused() {
        for bad in [
            "",
            "Digest",
            "Basic QWxhZGRpbg==",
            "Digestive realm=\"x\"",
            "Digest realm",
            "Digest realm=\"x",
            "Digest realm=\"x\"y",
            "Digest realm=\"x\\",
            "Digest realm=\"x\", realm=\"y\"",
            "Digest re alm=\"x\"",
            "Digest =\"x\"",
            "ééé x=y",
        ] {
            assert_eq!(DigestParams::parse(bad), None, "{bad}");
        }
        let many: String = (0..40).map(|n| format!("p{n}=1,")).collect();
        assert_eq!(DigestParams::parse(&format!("Digest {many}")), None);
    }
}
