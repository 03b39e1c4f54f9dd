//! What stands behind a telephone number in a URI: its context (RFC 3966 §5.1.5), where it was ported to (RFC 4694) and
//! its trunk group (RFC 4904), in `tel:` and in the user part of `sip:` alike (RFC 3261 §19.1.6).

use super::grammar;
use super::uri::{Scheme, Uri};

/// Parameters that say where a number is to be routed, in the order in which they are passed on.
const PORTABILITY: [&str; 5] = ["npdi", "rn", "rn-context", "cic", "cic-context"];

impl Uri {
    /// Who is called: a number with what belongs to it, a name, or the URN of a service, whole (RFC 5031). Parameters
    /// nobody routes by are left out.
    pub fn called(&self) -> String {
        match &self.scheme {
            Scheme::Other(scheme) => format!("{scheme}:{}", self.user()),
            Scheme::Sip | Scheme::Sips | Scheme::Tel => {
                let number = self.subscriber();
                // A domain as context says whose number it is, which the dialplan knows better.
                let context = self.number_param("phone-context").flatten();
                let context = context.filter(|context| context.starts_with('+') && !number.starts_with('+'));
                let context = context.map_or(String::new(), |context| format!(";phone-context={context}"));
                format!("{number}{context}{}", self.portability())
            }
        }
    }

    /// The portability parameters as they stand in a URI, `;npdi;rn=+3299`; empty where there are none.
    pub fn portability(&self) -> String {
        let found = PORTABILITY.iter().filter_map(|name| Some((name, self.number_param(name)?)));
        found
            .map(|(name, value)| match value {
                Some(value) => format!(";{name}={value}"),
                None => format!(";{name}"),
            })
            .collect()
    }

    /// The trunk group; `None` without the context it means something in (RFC 4904 §5).
    pub fn trunk_group(&self) -> Option<String> {
        self.number_param("trunk-context")?;
        self.number_param("tgrp")?
    }

    /// A parameter of the number; `Some(None)` where it has no value. Values that could not stand in a URI are none.
    fn number_param(&self, name: &str) -> Option<Option<String>> {
        let value = match self.scheme {
            Scheme::Tel => {
                let value = self.params.get(name)?;
                value.map(|value| grammar::unescape(value).unwrap_or_default().into_owned())
            }
            Scheme::Sip | Scheme::Sips => {
                let params = self.user().split(';').skip(1);
                let mut pairs = params.map(|param| match param.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (param, None),
                });
                pairs.find(|(known, _)| known.eq_ignore_ascii_case(name))?.1.map(str::to_owned)
            }
            Scheme::Other(_) => return None,
        };
        let fits = |value: &String| {
            !value.is_empty()
                && value.len() <= 64
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._()!~*'".contains(&b))
        };
        match value {
            Some(value) => Some(Some(value).filter(fits)).filter(Option::is_some),
            None => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_examples_of_the_rfcs_are_read() {
        for (text, called) in [
            // RFC 3966 §6.
            ("tel:+1-201-555-0123", "+12015550123"),
            ("tel:7042;phone-context=example.com", "7042"),
            ("tel:863-1234;phone-context=+1-914-555", "8631234;phone-context=+1-914-555"),
            // RFC 3261 §19.1.6.
            ("sip:+358-555-1234567;postd=pp22;isub=1411@foo.com;user=phone", "+3585551234567"),
            // RFC 4694 §6.
            ("tel:+1-800-123-4567;cic=+1-6789", "+18001234567;cic=+1-6789"),
            ("tel:+1-202-533-1234;npdi;rn=+1-202-544-0000", "+12025331234;npdi;rn=+1-202-544-0000"),
            ("tel:+1-202-533-1234;npdi", "+12025331234;npdi"),
            (
                "sip:+1-202-533-1234;RN=2025440000;rn-context=+1;npdi@gw;user=phone",
                "+12025331234;npdi;rn=2025440000;rn-context=+1",
            ),
            ("sip:alice@example.org", "alice"),
            ("urn:service:sos.fire", "urn:service:sos.fire"),
        ] {
            assert_eq!(uri(text).called(), called, "{text}");
        }
    }

    #[test]
    fn trunk_groups_have_a_context() {
        // RFC 4904 §6.
        let group = "sip:+15555551212;tgrp=TG-1;trunk-context=example.com@gateway.example.com;user=phone";
        assert_eq!(uri(group).trunk_group().as_deref(), Some("TG-1"));
        assert_eq!(
            uri("tel:+15555551212;tgrp=TG-1;trunk-context=+1-630").trunk_group().as_deref(),
            Some("TG-1")
        );
        assert_eq!(uri("sip:+15555551212;tgrp=TG-1@gateway.example.com").trunk_group(), None);
        assert_eq!(uri("sip:alice@gateway.example.com;tgrp=TG-1;trunk-context=a").trunk_group(), None);
    }

    proptest! {
        #[test]
        fn whatever_stands_behind_a_number_it_stays_the_number(params in "(;[a-z%=+0-9 -]{0,9}){0,4}") {
            let number = "+32470123456";
            if let Ok(uri) = format!("tel:{number}{params}").parse::<Uri>() {
                prop_assert!(uri.called().starts_with(number));
                prop_assert_eq!(uri.subscriber(), number);
            }
            if let Ok(uri) = format!("sip:{number}{params}@a").parse::<Uri>() {
                let called = uri.called();
                prop_assert!(called.starts_with(number), "{}", called);
                prop_assert!(!called.contains(['@', ' ', '%', '<', '>']));
            }
        }
    }
}
