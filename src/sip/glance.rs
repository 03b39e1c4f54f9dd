//! A look at a message before it is read: does it begin something, and for whom? Enough to turn it away at little cost.

use memchr::memchr;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a message is, as far as a glance tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glance<'a> {
    /// A response, or a request that belongs to something that goes on: nothing that may be turned away.
    Belongs,
    /// The acknowledgement of a refusal that was given without remembering anything.
    AckOfShed,
    /// A request outside any dialog.
    Begins { method: &'a [u8], uri: &'a [u8], call_id: &'a [u8] },
}

/// How the To tag of such a refusal begins.
pub const SHED_TAG: &str = "shed-";

/// Looks at a whole message, or at the head of one. What is not understood belongs to nothing and begins something.
pub fn glance(message: &[u8]) -> Glance<'_> {
    // Line ends alone keep a flow alive (RFC 5626 §3.5.1), and before a message they are nothing (RFC 3261 §7.5).
    let start = message.iter().position(|octet| !matches!(octet, b'\r' | b'\n')).unwrap_or(message.len());
    let message = &message[start..];
    if message.is_empty() || message.starts_with(b"SIP/2.0 ") {
        return Glance::Belongs;
    }
    let mut lines = Lines(message);
    let line = lines.next().unwrap_or_default();
    let mut words = line.splitn(3, |octet| *octet == b' ');
    let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match method {
        b"BYE" | b"CANCEL" | b"PRACK" => return Glance::Belongs,
        _ => {}
    }
    let (mut tag, mut call_id): (Option<&[u8]>, &[u8]) = (None, &[]);
    for line in lines {
        if line.is_empty() {
            break;
        }
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = (line[..colon].trim_ascii_end(), &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"to") || name.eq_ignore_ascii_case(b"t") {
            tag = tag_of(value);
        } else if name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i") {
            call_id = value.trim_ascii();
        }
    }
    match (method, tag) {
        (b"ACK", Some(tag)) if tag.starts_with(SHED_TAG.as_bytes()) => Glance::AckOfShed,
        (b"ACK", _) | (_, Some(_)) => Glance::Belongs,
        (_, None) => Glance::Begins { method, uri, call_id },
    }
}

/// The same for each repetition of a request, and for the one that brings the credentials it was asked for.
pub fn identity(source: std::net::IpAddr, call_id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (source, call_id).hash(&mut hasher);
    hasher.finish()
}

/// The tag of a To header: a parameter behind the address, not of its URI.
fn tag_of(value: &[u8]) -> Option<&[u8]> {
    let behind = value.iter().rposition(|octet| *octet == b'>').map_or(value, |end| &value[end..]);
    behind.split(|octet| *octet == b';').skip(1).find_map(|parameter| {
        let equals = memchr(b'=', parameter)?;
        let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
        name.trim_ascii().eq_ignore_ascii_case(b"tag").then(|| value.trim_ascii())
    })
}

/// The lines of a head, each with what is folded into it (RFC 3261 §7.3.1).
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            end += memchr(b'\n', &self.0[end..]).map_or(self.0.len() - end, |at| at + 1);
            match self.0.get(end) {
                Some(b' ' | b'\t') if end > 2 => {}
                Some(_) | None => break,
            }
        }
        let (line, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(message: &str) -> bool {
        matches!(glance(message.as_bytes()), Glance::Begins { .. })
    }

    #[test]
    fn only_requests_outside_a_dialog_begin_something() {
        let with = |method: &str, to: &str| {
            format!(
                "{method} sip:b@h SIP/2.0\r\nVia: x\r\n{to}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\nbody\r\nTo: <x>;tag=1\r\n"
            )
        };
        for to in ["To: <sip:b@h>", "t:sip:b@h", "TO : \"tag=1\" <sip:b@h;tag=2>", "To: <sip:b@h>\r\n ;x=tag"]
        {
            for method in ["INVITE", "REGISTER", "OPTIONS", "SUBSCRIBE", "FOO"] {
                assert!(begins(&with(method, to)), "{method} {to}");
            }
            for method in ["BYE", "CANCEL", "PRACK", "ACK"] {
                assert!(!begins(&with(method, to)), "{method} {to}");
            }
        }
        for to in [
            "To: <sip:b@h>;tag=1",
            "t: sip:b@h;tag=1",
            "tO: <sip:b@h>;x=y\r\n\t; TAG = 1",
            "To:<sip:b@h>;tag=",
        ] {
            assert!(!begins(&with("INVITE", to)), "{to}");
        }
        assert!(!begins("SIP/2.0 200 OK\r\nTo: <sip:b@h>\r\n\r\n"));
        assert!(!begins("\r\n\r\nSIP/2.0 200 OK\r\n\r\n"));
        assert!(begins("garbage"));
        assert!(!begins("") && !begins("\r\n\r\n"));
    }

    #[test]
    fn a_request_is_known_by_its_call_id_and_called_by_its_uri() {
        let message = b"INVITE sip:112@h SIP/2.0\r\nTo: <sip:112@h>\r\ni :  a b\r\n\r\n";
        assert_eq!(glance(message), Glance::Begins { method: b"INVITE", uri: b"sip:112@h", call_id: b"a b" });
    }

    #[test]
    fn the_ack_of_a_refusal_given_in_overload_is_known_by_its_tag() {
        let ack = |tag: &str| format!("ACK sip:b@h SIP/2.0\r\nTo: <sip:b@h>;tag={tag}\r\n\r\n");
        assert_eq!(glance(ack("shed-12ab").as_bytes()), Glance::AckOfShed);
        assert_eq!(glance(ack("12ab").as_bytes()), Glance::Belongs);
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_a_glance_ends(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = glance(&bytes);
            let text: Vec<u8> = b"INVITE sip:x SIP/2.0\r\n".iter().chain(&bytes).copied().collect();
            let _ = glance(&text);
        }
    }
}
