//! Feeds arbitrary datagrams to the glance at the door and to the SIP reader: nothing may panic, and what is taken is
//! written as it was read.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the target compiles whole rooms and calls only part of them")]

#[path = "."]
mod sip {
    #[path = "../../src/sip/glance.rs"]
    pub mod glance;
    #[path = "../../src/sip/mark.rs"]
    pub mod mark;
    #[path = "../../src/sip/message/mod.rs"]
    pub mod message;
}
#[path = "../../src/types/mod.rs"]
mod types;

use sip::glance::glance;
use sip::mark::Marks;
use sip::message::{self, HeaderName, Headers, Message, NameAddr, Typed, Via, parse};

fn without_length(message: &Message) -> Headers {
    let mut headers = message.headers().clone();
    headers.remove(&HeaderName::ContentLength);
    headers
}

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    let _ = glance(&Marks::new(7), datagram);
    let message = match parse(datagram) {
        Ok(message) => message,
        Err(error) => {
            let source = "192.0.2.1:5060".parse().expect("a literal");
            if let Some(refusal) = error.refusal(source) {
                let bytes = refusal.to_bytes();
                // Status line, the fields it copied, a length, an empty line: nothing got out of its field.
                let lines = bytes.split(|octet| *octet == b'\n').count();
                assert_eq!(lines, refusal.headers.len() + 4);
            }
            return;
        }
    };
    let again = parse(&message.to_bytes()).expect("what was read is written readably");
    assert_eq!(without_length(&again), without_length(&message));
    assert_eq!(again.body(), message.body());
    let (via, from, to) = (message.via(), message.from(), message.to());
    let (via, from, to) = (via.expect("checked"), from.expect("checked"), to.expect("checked"));
    assert_eq!(Via::parse(&via.to_string()), Ok(via));
    for address in [from, to] {
        assert_eq!(NameAddr::parse(&address.to_string()).as_ref(), Ok(&address));
        assert!(address.uri.equivalent(&address.uri));
        let _ = address.uri.subscriber();
    }
    message.call_id().expect("checked");
    message.cseq().expect("checked");
    if let Message::Request(request) = &message {
        message.contacts().expect("checked");
        let response = message::Response::to_request(request, 180).with_tag("t");
        assert_eq!(
            parse(&response.to_bytes()).expect("our response is readable").to_tag(),
            response.to_tag()
        );
    }
    let _ = (
        message.expires(),
        message.retry_after(),
        message.session_expires(),
        message.min_se(),
        message.sdp(),
        message.location(),
    );
    let _ = (message.rseq(), message.rack(), message.reasons(), message.max_forwards());
    let _ = (message.addresses(&HeaderName::Route), message.addresses(&HeaderName::PAssertedIdentity));
    let _ = format!("{message:?}");
});
