//! The PASSporT (RFC 8225): its header and claims, the one form in which they are signed, and how they are read.

use crate::types::Attestation;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};

/// Longer parts are no PASSporT of a call: a token of SHAKEN has about 400 characters.
const LONGEST: usize = 4_096;
/// Called identities in one PASSporT that are looked at.
const MOST_DESTINATIONS: usize = 32;

/// What sort of PASSporT it is: the `ppt` of its header (RFC 8225 §8.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extension {
    /// None: a plain one.
    Base,
    /// RFC 8588.
    Shaken,
    /// Signed by who sent a call on to another number (RFC 8946).
    Div,
    /// One that nobody here understands.
    Other(String),
}

impl Extension {
    pub fn of(ppt: Option<&str>) -> Extension {
        match ppt {
            None => Extension::Base,
            Some("shaken") => Extension::Shaken,
            Some("div") => Extension::Div,
            Some(other) => Extension::Other(other.to_owned()),
        }
    }

    pub fn ppt(&self) -> Option<&str> {
        match self {
            Extension::Base => None,
            Extension::Shaken => Some("shaken"),
            Extension::Div => Some("div"),
            Extension::Other(other) => Some(other),
        }
    }
}

/// Somebody who calls or is called: digits of a telephone number (RFC 8224 §8.3), or a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    Number(String),
    Uri(String),
}

/// What SHAKEN adds (RFC 8588 §4, §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shaken {
    pub attestation: Attestation,
    /// A UUID that leads the signer back to where the call came from.
    pub origid: String,
}

/// The header and claims of a PASSporT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passport {
    /// Where the certificate of its signer is.
    pub x5u: String,
    pub extension: Extension,
    pub orig: Party,
    pub dest: Vec<Party>,
    /// When it was signed, in seconds since the epoch.
    pub iat: i64,
    /// Only of SHAKEN.
    pub shaken: Option<Shaken>,
    /// Whom the call was for before it was sent on; only of `div`.
    pub div: Option<Party>,
}

/// Why a text is no PASSporT that could be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassportError {
    #[error("it has not three parts")]
    Parts,
    #[error("it is too long")]
    TooLong,
    #[error("a part is not base64url")]
    Base64,
    #[error("a part is not a JSON object")]
    Json,
    #[error("its header is not that of a PASSporT signed by ES256")]
    Header,
    #[error("a claim is missing or has another form")]
    Claims,
    #[error("its signature has not 64 octets")]
    Signature,
}

/// A PASSporT as it came: what it says, and what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub passport: Passport,
    /// What the signature is over, octet for octet.
    pub input: String,
    pub signature: Vec<u8>,
}

impl Passport {
    /// The header in the form that is signed: keys in order, no white space (RFC 8225 §9).
    pub fn header_json(&self) -> String {
        let mut header = Map::new();
        header.insert("alg".into(), "ES256".into());
        if let Some(ppt) = self.extension.ppt() {
            header.insert("ppt".into(), ppt.into());
        }
        header.insert("typ".into(), "passport".into());
        header.insert("x5u".into(), self.x5u.as_str().into());
        canonical(header)
    }

    /// The claims in that form.
    pub fn claims_json(&self) -> String {
        let named = |wanted: fn(&Party) -> Option<&str>| -> Vec<&str> {
            self.dest.iter().filter_map(wanted).collect()
        };
        let mut dest = Map::new();
        for (key, names) in [("tn", named(number_of)), ("uri", named(uri_of))] {
            if !names.is_empty() {
                dest.insert(key.into(), json!(names));
            }
        }
        let one = |party: &Party| match party {
            Party::Number(digits) => json!({ "tn": digits }),
            Party::Uri(uri) => json!({ "uri": uri }),
        };
        let mut claims = Map::new();
        if let Some(shaken) = &self.shaken {
            claims.insert("attest".into(), shaken.attestation.as_str().into());
        }
        claims.insert("dest".into(), Value::Object(dest));
        if let Some(div) = &self.div {
            claims.insert("div".into(), one(div));
        }
        claims.insert("iat".into(), self.iat.into());
        claims.insert("orig".into(), one(&self.orig));
        if let Some(shaken) = &self.shaken {
            claims.insert("origid".into(), shaken.origid.as_str().into());
        }
        canonical(claims)
    }

    /// What is signed: both parts in base64url, a dot between them (RFC 7515 §5.1).
    pub fn signing_input(&self) -> String {
        let encode = |text: String| BASE64URL_NOPAD.encode(text.as_bytes());
        format!("{}.{}", encode(self.header_json()), encode(self.claims_json()))
    }

    /// The full form: header, claims, signature (RFC 8225 §6).
    pub fn full_form(&self, signature: &[u8]) -> String {
        format!("{}.{}", self.signing_input(), BASE64URL_NOPAD.encode(signature))
    }

    /// The compact form, which leaves out what the receiver knows from the call (RFC 8225 §7).
    pub fn compact_form(signature: &[u8]) -> String {
        format!("..{}", BASE64URL_NOPAD.encode(signature))
    }
}

impl Signed {
    /// Reads the full form.
    ///
    /// # Errors
    /// Says what is wrong with it; extensions that nobody here understands are no error.
    pub fn read(token: &str) -> Result<Signed, PassportError> {
        if token.len() > LONGEST {
            return Err(PassportError::TooLong);
        }
        let (input, signature) = token.rsplit_once('.').ok_or(PassportError::Parts)?;
        let (header, claims) = input.split_once('.').ok_or(PassportError::Parts)?;
        let passport = read(&object(header)?, &object(claims)?)?;
        Ok(Signed { passport, input: input.to_owned(), signature: signature_of(signature)? })
    }

    /// All claims, those too that nobody here reads.
    pub fn claims(&self) -> Map<String, Value> {
        let claims = self.input.split_once('.').map(|(_, claims)| object(claims));
        claims.and_then(Result::ok).unwrap_or_default()
    }

    /// Reads the compact form of a PASSporT that must have been `expected`.
    ///
    /// # Errors
    /// It is no compact form.
    pub fn read_compact(token: &str, expected: Passport) -> Result<Signed, PassportError> {
        let signature = token.strip_prefix("..").ok_or(PassportError::Parts)?;
        if signature.len() > LONGEST {
            return Err(PassportError::TooLong);
        }
        Ok(Signed {
            input: expected.signing_input(),
            signature: signature_of(signature)?,
            passport: expected,
        })
    }
}

fn number_of(party: &Party) -> Option<&str> {
    match party {
        Party::Number(digits) => Some(digits),
        Party::Uri(_) => None,
    }
}

fn uri_of(party: &Party) -> Option<&str> {
    match party {
        Party::Uri(uri) => Some(uri),
        Party::Number(_) => None,
    }
}

/// Keys come in the order they were put there, which is that of their octets; no solidus is escaped.
fn canonical(object: Map<String, Value>) -> String {
    Value::Object(object).to_string()
}

fn signature_of(text: &str) -> Result<Vec<u8>, PassportError> {
    let octets = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| PassportError::Base64)?;
    // RFC 7518 §3.4: two integers of 32 octets each.
    if octets.len() == 64 { Ok(octets) } else { Err(PassportError::Signature) }
}

fn object(part: &str) -> Result<Map<String, Value>, PassportError> {
    let octets = BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| PassportError::Base64)?;
    match serde_json::from_slice(&octets) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(PassportError::Json),
    }
}

fn read(header: &Map<String, Value>, claims: &Map<String, Value>) -> Result<Passport, PassportError> {
    let text =
        |object: &Map<String, Value>, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    // RFC 8225 §4.1, §8.3: the type is fixed, and ES256 the one algorithm that everybody must know.
    if text(header, "typ").as_deref() != Some("passport") || text(header, "alg").as_deref() != Some("ES256") {
        return Err(PassportError::Header);
    }
    let x5u = text(header, "x5u").ok_or(PassportError::Header)?;
    let ppt = match header.get("ppt") {
        None => None,
        Some(Value::String(ppt)) => Some(ppt.as_str()),
        Some(_) => return Err(PassportError::Header),
    };
    let extension = Extension::of(ppt);
    let shaken = match &extension {
        Extension::Base | Extension::Div | Extension::Other(_) => None,
        Extension::Shaken => {
            let attest = text(claims, "attest");
            let attestation =
                Attestation::ALL.into_iter().find(|level| Some(level.as_str()) == attest.as_deref());
            let origid = text(claims, "origid").filter(|origid| !origid.is_empty());
            let (attestation, origid) = attestation.zip(origid).ok_or(PassportError::Claims)?;
            Some(Shaken { attestation, origid })
        }
    };
    let div = match &extension {
        Extension::Base | Extension::Shaken | Extension::Other(_) => None,
        Extension::Div => Some(one(claims.get("div")).ok_or(PassportError::Claims)?),
    };
    Ok(Passport {
        x5u,
        extension,
        orig: one(claims.get("orig")).ok_or(PassportError::Claims)?,
        dest: dest(claims.get("dest")).ok_or(PassportError::Claims)?,
        iat: claims.get("iat").and_then(Value::as_i64).ok_or(PassportError::Claims)?,
        shaken,
        div,
    })
}

/// RFC 8225 §5.2.1: exactly one identity.
fn one(claim: Option<&Value>) -> Option<Party> {
    let claim = claim?.as_object()?;
    match (claim.get("tn"), claim.get("uri")) {
        (Some(Value::String(digits)), None) => Some(Party::Number(digits.clone())),
        (None, Some(Value::String(uri))) => Some(Party::Uri(uri.clone())),
        _ => None,
    }
}

/// RFC 8225 §5.2.1: one or more identities, in arrays.
fn dest(claim: Option<&Value>) -> Option<Vec<Party>> {
    let claim = claim?.as_object()?;
    let mut parties = Vec::new();
    for (key, party) in [("tn", Party::Number as fn(String) -> Party), ("uri", Party::Uri)] {
        for name in claim.get(key).map_or(Some(&Vec::new()), Value::as_array)? {
            parties.push(party(name.as_str()?.to_owned()));
        }
    }
    (1..=MOST_DESTINATIONS).contains(&parties.len()).then_some(parties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stir::sign::verifies;

    /// The example of RFC 8225 Appendix A.
    fn example() -> Passport {
        Passport {
            x5u: "https://cert.example.org/passport.cer".into(),
            extension: Extension::Base,
            orig: Party::Number("12155551212".into()),
            dest: vec![Party::Uri("sip:alice@example.com".into())],
            iat: 1_471_375_418,
            shaken: None,
            div: None,
        }
    }

    #[test]
    fn the_example_of_rfc_8225_is_written_as_it_is_printed() {
        let header = "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9j\
                      ZXJ0LmV4YW1wbGUub3JnL3Bhc3Nwb3J0LmNlciJ9";
        let claims = "eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI\
                      6MTQ3MTM3NTQxOCwib3JpZyI6eyJ0biI6IjEyMTU1NTUxMjEyIn19";
        assert_eq!(example().signing_input(), format!("{header}.{claims}"));
        // Its signature is no vector: no key published with the document verifies it, in openssl neither. ES256 is
        // held against RFC 7515 below.
        let signature =
            "VLBCIVDCaeK6M4hLJb6SHQvacAQVvoiiEOWQ_iUkqk79UD81fHQ0E1b3_GluIkba7UWYRM47ZbNFdOJquE35cw";
        let signed = Signed::read(&format!("{header}.{claims}.{signature}")).unwrap();
        assert_eq!(signed.passport, example());
        assert_eq!(signed.passport.full_form(&signed.signature), format!("{header}.{claims}.{signature}"));
    }

    #[test]
    fn the_example_of_rfc_8588_is_written_and_read() {
        let passport = Passport {
            extension: Extension::Shaken,
            orig: Party::Number("12155551212".into()),
            dest: vec![Party::Number("12125551213".into())],
            iat: 1_443_208_345,
            shaken: Some(Shaken {
                attestation: Attestation::A,
                origid: "123e4567-e89b-12d3-a456-426655440000".into(),
            }),
            ..example()
        };
        assert_eq!(
            passport.header_json(),
            r#"{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"https://cert.example.org/passport.cer"}"#
        );
        assert_eq!(
            passport.claims_json(),
            r#"{"attest":"A","dest":{"tn":["12125551213"]},"iat":1443208345,"orig":{"tn":"12155551212"},"origid":"123e4567-e89b-12d3-a456-426655440000"}"#
        );
        assert_eq!(Signed::read(&passport.full_form(&[7; 64])).unwrap().passport, passport);
    }

    #[test]
    fn es256_verifies_the_example_of_rfc_7515() {
        let point = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        let mut key = vec![4];
        key.extend(point("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"));
        key.extend(point("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"));
        let input = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                     cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature =
            point("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
        assert!(verifies(&key, input.as_bytes(), &signature));
        assert!(!verifies(&key, &input.as_bytes()[1..], &signature));
    }

    #[test]
    fn what_is_no_passport_says_why() {
        let part = |json: &str| BASE64URL_NOPAD.encode(json.as_bytes());
        let signature = BASE64URL_NOPAD.encode(&[7; 64]);
        let head = r#"{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"https://a/b"}"#;
        let says = r#"{"attest":"A","dest":{"tn":["1"]},"iat":1,"orig":{"tn":"2"},"origid":"o"}"#;
        let read =
            |head: &str, says: &str| Signed::read(&format!("{}.{}.{signature}", part(head), part(says)));
        assert!(read(head, says).is_ok());
        for (from, to, error) in [
            ("ES256", "none", PassportError::Header),
            ("ES256", "HS256", PassportError::Header),
            ("\"passport\"", "\"JWT\"", PassportError::Header),
            ("\"x5u\"", "\"x5c\"", PassportError::Header),
            ("\"shaken\"", "7", PassportError::Header),
        ] {
            assert_eq!(read(&head.replace(from, to), says), Err(error), "{to}");
        }
        for (from, to) in [
            ("\"A\"", "\"D\""),
            ("\"A\"", "1"),
            ("\"o\"", "\"\""),
            ("\"iat\":1", "\"iat\":\"1\""),
            ("\"iat\":1", "\"iat\":1.5"),
            ("{\"tn\":\"2\"}", "{\"tn\":[\"2\"]}"),
            ("{\"tn\":\"2\"}", "{\"tn\":\"2\",\"uri\":\"sip:a\"}"),
            ("{\"tn\":[\"1\"]}", "{\"tn\":\"1\"}"),
            ("{\"tn\":[\"1\"]}", "{}"),
            ("\"dest\"", "\"Dest\""),
        ] {
            assert_eq!(read(head, &says.replace(from, to)), Err(PassportError::Claims), "{to}");
        }
        assert_eq!(read(head, "[]"), Err(PassportError::Json));
        assert_eq!(read(head, &says[1..]), Err(PassportError::Json));
        let token = format!("{}.{}", part(head), part(says));
        for (text, error) in [
            (token.clone(), PassportError::Parts),
            (format!("{token}.AAAA"), PassportError::Signature),
            (format!("{token}.{signature}="), PassportError::Base64),
            (format!("{token}.{signature}.{signature}"), PassportError::Base64),
            ("abc".to_owned(), PassportError::Parts),
            ("x".repeat(5_000), PassportError::TooLong),
        ] {
            assert_eq!(Signed::read(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn an_unknown_extension_is_read_and_known_as_one() {
        let rph = Passport { extension: Extension::Other("rph".into()), ..example() };
        assert_eq!(Signed::read(&rph.full_form(&[1; 64])).unwrap().passport.extension, rph.extension);
    }

    #[test]
    fn a_diversion_says_whom_the_call_was_for() {
        // As in RFC 8946 §3.
        let div = Passport {
            extension: Extension::Div,
            orig: Party::Number("12155551212".into()),
            dest: vec![Party::Number("12155551214".into())],
            iat: 1_443_208_345,
            div: Some(Party::Number("12155551213".into())),
            ..example()
        };
        assert_eq!(
            div.claims_json(),
            r#"{"dest":{"tn":["12155551214"]},"div":{"tn":"12155551213"},"iat":1443208345,"orig":{"tn":"12155551212"}}"#
        );
        let token = div.full_form(&[1; 64]);
        assert_eq!(Signed::read(&token).unwrap().passport, div);
        let plain = Passport { div: None, ..div };
        assert_eq!(Signed::read(&plain.full_form(&[1; 64])), Err(PassportError::Claims));
    }

    #[test]
    fn the_compact_form_is_checked_over_what_the_call_says() {
        let signed = Signed::read_compact(&Passport::compact_form(&[7; 64]), example()).unwrap();
        assert_eq!(signed.input, example().signing_input());
        assert_eq!(Signed::read_compact(".x", example()), Err(PassportError::Parts));
    }
}
