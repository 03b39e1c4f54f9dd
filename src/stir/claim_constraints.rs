//! What a signer may claim: the constraints that an authority wrote into its certificate (RFC 8226 §8, RFC 9118).

use super::der::{IA5_STRING, SEQUENCE, UTF8_STRING, context, element, list, string};
use serde_json::{Map, Value};

/// Claims, and values of one claim, that are looked at.
const MOST: usize = 100;

/// The constraints of one certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Claims that have to be there.
    pub must_include: Vec<String>,
    /// What these claims may say, where they are there.
    pub permitted: Vec<(String, Vec<String>)>,
    /// Claims that must not be there (RFC 9118 §3).
    pub must_exclude: Vec<String>,
}

/// Reads the value of either extension; `None` where it is not one.
pub fn read(der: &[u8]) -> Option<Constraints> {
    let (SEQUENCE, mut rest, []) = element(der)? else { return None };
    let (mut constraints, mut last) = (Constraints::default(), None);
    while !rest.is_empty() {
        let (tag, content, after) = element(rest)?;
        // Each part once, in their order.
        if last.is_some_and(|last| tag <= last) {
            return None;
        }
        let names = || list(content, MOST, string(IA5_STRING));
        match tag {
            tag if tag == context(0) => constraints.must_include = names()?,
            tag if tag == context(1) => constraints.permitted = list(content, MOST, permitted)?,
            tag if tag == context(2) => constraints.must_exclude = names()?,
            _ => return None,
        }
        (rest, last) = (after, Some(tag));
    }
    last.map(|_| constraints)
}

fn permitted(tag: u8, content: &[u8]) -> Option<(String, Vec<String>)> {
    let (name_tag, name, values) = element(content).filter(|_| tag == SEQUENCE)?;
    Some((string(IA5_STRING)(name_tag, name)?, list(values, MOST, string(UTF8_STRING))?))
}

impl Constraints {
    /// True where a PASSporT with these claims keeps to them.
    pub fn allow(&self, claims: &Map<String, Value>) -> bool {
        let says = |claim: &str, value: &str| match claims.get(claim) {
            None => true,
            Some(Value::String(text)) => text == value,
            // Other values are compared as they are written.
            Some(other) => {
                let written = other.to_string();
                written == value
            }
        };
        self.must_include.iter().all(|claim| claims.contains_key(claim))
            && !self.must_exclude.iter().any(|claim| claims.contains_key(claim))
            && self.permitted.iter().all(|(claim, values)| values.iter().any(|value| says(claim, value)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    fn short(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut der = vec![tag, u8::try_from(content.len()).unwrap()];
        der.extend_from_slice(content);
        der
    }

    fn strings(tag: u8, texts: &[&str]) -> Vec<u8> {
        short(SEQUENCE, &texts.iter().flat_map(|text| short(tag, text.as_bytes())).collect::<Vec<_>>())
    }

    /// Writes an extension that permits a claim these values alone, for certificates of tests.
    pub(crate) fn permitting(claim: &str, values: &[&str]) -> Vec<u8> {
        let one = [short(IA5_STRING, claim.as_bytes()), strings(UTF8_STRING, values)].concat();
        short(SEQUENCE, &short(context(1), &short(SEQUENCE, &short(SEQUENCE, &one))))
    }

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_claim_says_only_what_is_permitted_and_is_there_where_it_must_be() {
        let constraints = read(&permitting("attest", &["B", "C"])).unwrap();
        for (value, allowed) in [
            (json!({"attest": "B"}), true),
            (json!({"attest": "A"}), false),
            (json!({"attest": ["B"]}), false),
            (json!({"orig": 1}), true),
        ] {
            assert_eq!(constraints.allow(&claims(value.clone())), allowed, "{value}");
        }
        let names = short(
            SEQUENCE,
            &[
                short(context(0), &strings(IA5_STRING, &["attest"])),
                short(context(2), &strings(IA5_STRING, &["rcd"])),
            ]
            .concat(),
        );
        let constraints = read(&names).unwrap();
        for (value, allowed) in
            [(json!({"attest": "A"}), true), (json!({}), false), (json!({"attest": "A", "rcd": {}}), false)]
        {
            assert_eq!(constraints.allow(&claims(value.clone())), allowed, "{value}");
        }
    }

    #[test]
    fn an_extension_cut_or_out_of_order_is_none() {
        let whole = permitting("attest", &["B"]);
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "cut at {end}");
        }
        let twice = [
            short(context(0), &strings(IA5_STRING, &["a"])),
            short(context(0), &strings(IA5_STRING, &["b"])),
        ];
        assert_eq!(read(&short(SEQUENCE, &twice.concat())), None);
        assert_eq!(read(&short(SEQUENCE, &[])), None);
    }
}
