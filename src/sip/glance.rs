//! A look at a message before it is read: does it begin something, and for whom? Enough to turn it away at little cost.

use memchr::memchr;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a message is, as far as a glance tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glance<'a> {
    /// A response or a request that belongs to something that goes on, as what it carries of ours shows: nothing that
    /// may be turned away.
    Belongs,
    /// One that says so and shows nothing of ours: who sends it tells.
    Claims(Head<'a>),
    /// The acknowledgement of a refusal that was given without remembering anything.
    AckOfShed,
    /// A request outside any dialog.
    Begins(Head<'a>),
}

/// What there is to be seen of a message; empty what it lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head<'a> {
    pub method: &'a [u8],
    pub uri: &'a [u8],
    pub call_id: &'a [u8],
    pub cseq: &'a [u8],
    /// The topmost one.
    pub via: &'a [u8],
}

/// How the To tag of such a refusal begins.
pub const SHED_TAG: &str = "shed-";

/// Looks at a whole message, or at the head of one. What is not understood belongs to nothing and begins something.
pub fn glance(message: &[u8]) -> Glance<'_> {
    // Line ends alone keep a flow alive (RFC 5626 §3.5.1), and before a message they are nothing (RFC 3261 §7.5).
    let start = message.iter().position(|octet| !matches!(octet, b'\r' | b'\n')).unwrap_or(message.len());
    let message = &message[start..];
    if message.is_empty() {
        return Glance::Belongs;
    }
    let mut lines = Lines(message);
    let line = lines.next().unwrap_or_default();
    let mut words = line.splitn(3, |octet| *octet == b' ');
    let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut head = Head { method, uri, ..Head::default() };
    let mut tag: Option<&[u8]> = None;
    for line in lines {
        if line.is_empty() {
            break;
        }
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = (line[..colon].trim_ascii_end(), &line[colon + 1..]);
        let is = |long: &[u8], short: &[u8]| {
            name.eq_ignore_ascii_case(long) || (!short.is_empty() && name.eq_ignore_ascii_case(short))
        };
        if is(b"to", b"t") {
            tag = tag_of(value);
        } else if is(b"call-id", b"i") {
            head.call_id = value.trim_ascii();
        } else if is(b"cseq", b"") {
            head.cseq = value.trim_ascii();
        } else if head.via.is_empty() && is(b"via", b"v") {
            head.via = value.split(|octet| *octet == b',').next().unwrap_or_default().trim_ascii();
        }
    }
    if method == b"SIP/2.0" {
        return if is_own_branch(head.via) { Glance::Belongs } else { Glance::Claims(head) };
    }
    match (method, tag) {
        (b"ACK", Some(tag)) if tag.starts_with(SHED_TAG.as_bytes()) => Glance::AckOfShed,
        (_, Some(tag)) if is_own_tag(tag) => Glance::Belongs,
        (b"ACK" | b"BYE" | b"CANCEL" | b"PRACK", _) | (_, Some(_)) => Glance::Claims(head),
        (_, None) => Glance::Begins(head),
    }
}

/// The same for each repetition of a request. One that brings the credentials it was asked for is another.
pub fn identity(source: std::net::IpAddr, head: &Head<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (source, head.call_id, head.cseq, head.via).hash(&mut hasher);
    hasher.finish()
}

/// Such as we give: of a dialog, or of an answer that is not remembered.
fn is_own_tag(tag: &[u8]) -> bool {
    matches!(tag.len(), 16 | 24) && tag.iter().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
}

/// True where the branch of a Via ends like one of ours, in its proof.
fn is_own_branch(via: &[u8]) -> bool {
    let branch = parameter(via, b"branch").unwrap_or_default();
    branch.len().checked_sub(17).is_some_and(|at| branch[at] == b'-' && is_own_tag(&branch[at + 1..]))
}

/// The tag of a To header: a parameter behind the address, not of its URI.
fn tag_of(value: &[u8]) -> Option<&[u8]> {
    let behind = value.iter().rposition(|octet| *octet == b'>').map_or(value, |end| &value[end..]);
    parameter(behind, b"tag")
}

fn parameter<'a>(value: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    value.split(|octet| *octet == b';').skip(1).find_map(|parameter| {
        let equals = memchr(b'=', parameter)?;
        let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
        name.trim_ascii().eq_ignore_ascii_case(wanted).then(|| value.trim_ascii())
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
        matches!(glance(message.as_bytes()), Glance::Begins(_))
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
        let message =
            b"INVITE sip:112@h SIP/2.0\r\nv: SIP/2.0/UDP a;branch=z9hG4bK1, x\r\nVia: y\r\nTo: <sip:112@h>\r\ni :  a b\r\nCSeq: 7 INVITE\r\n\r\n";
        let head = Head {
            method: b"INVITE",
            uri: b"sip:112@h",
            call_id: b"a b",
            cseq: b"7 INVITE",
            via: b"SIP/2.0/UDP a;branch=z9hG4bK1",
        };
        assert_eq!(glance(message), Glance::Begins(head));
        // A repetition is the same to the octet; with another branch or another CSeq it is another request.
        let source = [192, 0, 2, 1].into();
        assert_eq!(identity(source, &head), identity(source, &head.clone()));
        assert_ne!(identity(source, &head), identity(source, &Head { cseq: b"8 INVITE", ..head }));
        assert_ne!(
            identity(source, &head),
            identity(source, &Head { via: b"SIP/2.0/UDP a;branch=z9hG4bK2", ..head })
        );
    }

    #[test]
    fn what_belongs_shows_something_of_ours() {
        let bye = |tag: &str| format!("BYE sip:b@h SIP/2.0\r\nTo: <sip:b@h>;tag={tag}\r\n\r\n");
        let response =
            |branch: &str| format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;rport;branch={branch}\r\n\r\n");
        for message in [
            bye("0123456789abcdef01234567"),
            bye("0123456789abcdef"),
            response("z9hG4bKgw1s0-1f-0123456789abcdef"),
        ] {
            assert_eq!(glance(message.as_bytes()), Glance::Belongs, "{message}");
        }
        for message in [
            bye("1"),
            bye("0123456789ABCDEF"),
            response("z9hG4bK1"),
            response("z9hG4bK0123456789abcdef0"),
            "SIP/2.0 200 OK\r\n\r\n".to_owned(),
        ] {
            assert!(matches!(glance(message.as_bytes()), Glance::Claims(_)), "{message}");
        }
    }

    #[test]
    fn the_ack_of_a_refusal_given_in_overload_is_known_by_its_tag() {
        let ack = |tag: &str| format!("ACK sip:b@h SIP/2.0\r\nTo: <sip:b@h>;tag={tag}\r\n\r\n");
        assert_eq!(glance(ack("shed-12ab").as_bytes()), Glance::AckOfShed);
        assert_eq!(glance(ack("0123456789abcdef").as_bytes()), Glance::Belongs);
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
