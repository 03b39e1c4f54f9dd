//! A look at a message before it is read: does it begin something, and for whom? Enough to turn it away at little cost.

use super::mark::Marks;
use memchr::memchr;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a message is, as far as a glance tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glance<'a> {
    /// A response or a request that belongs to something that goes on, as a mark of ours in it proves: nothing that may
    /// be turned away.
    Belongs,
    /// One that says so and proves nothing: who sends it tells.
    Claims(Head<'a>),
    /// The acknowledgement of an answer that was given without remembering anything: nobody waits for it.
    AckOfRefusal(Head<'a>),
    /// The same of a refusal at the door.
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
    /// Where some operators name the called number: To and P-Called-Party-ID.
    pub named: [&'a [u8]; 2],
}

/// How the To tag of a refusal at the door begins.
pub const SHED_TAG: &str = "shed-";
/// Hex digits of the To tag of an answer that is not remembered.
pub const STATELESS_TAG: usize = 16;

/// Looks at a whole message, or at the head of one. What is not understood belongs to nothing and begins something.
pub fn glance<'a>(marks: &Marks, message: &'a [u8]) -> Glance<'a> {
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
            head.named[0] = value.trim_ascii();
        } else if is(b"p-called-party-id", b"") {
            head.named[1] = value.trim_ascii();
        } else if is(b"call-id", b"i") {
            head.call_id = value.trim_ascii();
        } else if is(b"cseq", b"") {
            head.cseq = value.trim_ascii();
        } else if head.via.is_empty() && is(b"via", b"v") {
            head.via = value.split(|octet| *octet == b',').next().unwrap_or_default().trim_ascii();
        }
    }
    if method == b"SIP/2.0" {
        let branch = parameter(head.via, b"branch").unwrap_or_default();
        return if marks.branch_says(branch).is_some() { Glance::Belongs } else { Glance::Claims(head) };
    }
    match (method, tag) {
        (b"ACK", Some(tag)) if tag.starts_with(SHED_TAG.as_bytes()) => Glance::AckOfShed,
        (b"ACK", Some(tag)) if is_stateless(tag) => Glance::AckOfRefusal(head),
        (_, Some(tag)) if marks.is_own_tag(tag) => Glance::Belongs,
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

/// Such as an answer has that is not remembered. Whoever asks is given one, so it proves nothing and opens nothing; a
/// dialog's is longer.
fn is_stateless(tag: &[u8]) -> bool {
    tag.len() == STATELESS_TAG && tag.iter().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
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

    fn glance(message: &[u8]) -> Glance<'_> {
        super::glance(&Marks::new(7), message)
    }

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
            named: [b"<sip:112@h>", b""],
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
    fn what_belongs_carries_a_mark_of_ours_and_what_only_looks_like_it_does_not() {
        let bye = |tag: &str| format!("BYE sip:b@h SIP/2.0\r\nTo: <sip:b@h>;tag={tag}\r\n\r\n");
        let response =
            |branch: &str| format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;rport;branch={branch}\r\n\r\n");
        let (marks, others) = (Marks::new(7), Marks::new(8));
        let says = || "z9hG4bKgw1s0-1f".to_owned();
        let random = [1, 2, 3, 4, 5, 6, 7, 8];
        for message in [bye(&marks.tag(random)), response(&marks.branch(says()))] {
            assert_eq!(glance(message.as_bytes()), Glance::Belongs, "{message}");
        }
        for message in [
            bye("1"),
            // What we answer with to whoever asks.
            bye("0123456789abcdef"),
            // The form is known to everybody.
            bye("0123456789abcdef01234567"),
            bye(&others.tag(random)),
            bye(&marks.tag(random).to_uppercase()),
            response("z9hG4bKgw1s0-1f-0123456789abcdef"),
            response(&others.branch(says())),
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
        let dialog = Marks::new(7).tag([1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(glance(ack(&dialog).as_bytes()), Glance::Belongs);
    }

    #[test]
    fn the_ack_of_an_answer_that_is_not_remembered_is_known_by_the_length_of_its_tag() {
        use crate::sip::message::{Message, Response, Typed, parse};
        let invite = "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
                      To: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\r\n";
        let Ok(Message::Request(invite)) = parse(invite.as_bytes()) else { panic!("no request") };
        let answer = Response::to_request(&invite, 401).with_stateless_tag();
        let tag = answer.to_tag().unwrap();
        for method in ["ACK", "BYE", "INVITE"] {
            let message = format!("{method} sip:b@h SIP/2.0\r\nTo: <sip:b@h>;tag={tag}\r\n\r\n");
            match glance(message.as_bytes()) {
                Glance::AckOfRefusal(_) => assert_eq!(method, "ACK"),
                Glance::Claims(_) => assert_ne!(method, "ACK"),
                other => panic!("{method}: {other:?}"),
            }
        }
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
