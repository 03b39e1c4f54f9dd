//! What holds for every message: what is written is read as it was, and nothing makes the reader panic.

use super::*;
use crate::types::{HostPort, Transport};
use proptest::prelude::*;

fn host() -> impl Strategy<Value = HostPort> {
    let name = prop_oneof![
        "[a-z][a-z0-9-]{0,8}(\\.[a-z][a-z0-9]{0,5}){0,2}",
        any::<[u8; 4]>().prop_map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
        any::<[u16; 8]>().prop_map(|groups| std::net::Ipv6Addr::from(groups).to_string()),
    ];
    (name, proptest::option::of(1u16..)).prop_map(|(host, port)| HostPort { host, port })
}

/// Names that are tokens, none twice; values of any characters.
fn params() -> impl Strategy<Value = Params> {
    proptest::collection::btree_map("[a-z+.-]{1,6}", proptest::option::of("\\PC{1,6}"), 0..4).prop_map(
        |pairs| {
            let mut params = Params::new();
            pairs.iter().for_each(|(name, value)| params.set(name, value.as_deref()));
            params
        },
    )
}

/// As [`params`], of characters that a URI may hold unescaped: its parameters keep their escapes.
fn uri_params() -> impl Strategy<Value = Params> {
    let value = proptest::option::of("[a-zA-Z0-9_.!~*'()\\[\\]/:&+$-]{1,6}");
    proptest::collection::btree_map("[a-z]{1,6}", value, 0..4).prop_map(|pairs| {
        let mut params = Params::new();
        pairs.iter().for_each(|(name, value)| params.set(name, value.as_deref()));
        params
    })
}

prop_compose! {
    fn uri()(
        secure in any::<bool>(), user in proptest::option::of("\\PC{1,12}"), password in proptest::option::of("\\PC{0,6}"),
        host in host(), params in uri_params(),
    ) -> Uri {
        let make = if secure { Uri::sips } else { Uri::sip };
        let mut uri = make(user.as_deref(), host);
        uri.password = password.filter(|_| uri.user.is_some());
        uri.params = params;
        uri
    }
}

prop_compose! {
    fn address()(display in proptest::option::of("[^\r\n]{1,12}"), uri in uri(), params in params()) -> NameAddr {
        NameAddr { display, uri, params }
    }
}

prop_compose! {
    fn via()(
        transport in proptest::sample::select(&Transport::ALL), sent_by in host(), params in params(),
        branch in "z9hG4bK[a-z0-9]{1,10}",
    ) -> Via {
        let mut via = Via::new(transport, sent_by, &branch);
        params.iter().for_each(|(name, value)| via.params.set(name, value));
        via
    }
}

prop_compose! {
    fn request()(
        uri in uri(), vias in proptest::collection::vec(via(), 1..4), from in address(), to in address(),
        contacts in proptest::collection::vec(address(), 0..3), number in any::<u32>(), call_id in "[a-zA-Z0-9@.<>\"-]{1,20}",
        subject in "[^\r\n]{0,30}", body in proptest::collection::vec(any::<u8>(), 0..50),
        method in proptest::sample::select(&Method::KNOWN),
    ) -> Request {
        let mut request = Request::new(method.clone(), uri).with_body("application/octet-stream", body);
        vias.iter().for_each(|via| request.headers.push(HeaderName::Via, via.to_string()));
        let contacts: Vec<String> = contacts.iter().map(NameAddr::to_string).collect();
        if !contacts.is_empty() {
            request.headers.push(HeaderName::Contact, contacts.join(", "));
        }
        request
            .with_header(HeaderName::From, from.to_string())
            .with_header(HeaderName::To, to.to_string())
            .with_header(HeaderName::CallId, call_id)
            .with_header(HeaderName::CSeq, CSeq { number, method }.to_string())
            .with_header(HeaderName::Subject, subject.trim_matches([' ', '\t']))
    }
}

const SAMPLES: [&[u8]; 6] = [
    include_bytes!("samples/wsinv.sip"),
    include_bytes!("samples/intmeth.sip"),
    include_bytes!("samples/longreq.sip"),
    include_bytes!("samples/mpart01.sip"),
    include_bytes!("samples/unreason.sip"),
    include_bytes!("samples/rfc5118-mixed.sip"),
];

/// Asks everything of a message.
fn ask(message: &Message) {
    let _ =
        (message.vias(), message.from(), message.to(), message.cseq(), message.contacts(), message.contact());
    let _ = (message.expires(), message.retry_after(), message.session_expires(), message.min_se());
    let _ = (message.rseq(), message.rack(), message.reasons(), message.sdp(), message.max_forwards());
    let _ = (message.addresses(&HeaderName::Route), format!("{message:?}"));
}

proptest! {
    #[test]
    fn uris_are_read_as_they_were_written(uri in uri()) {
        prop_assert_eq!(Uri::parse(&uri.to_string()), Ok(uri.clone()));
        prop_assert!(uri.equivalent(&uri));
    }

    #[test]
    fn addresses_are_read_as_they_were_written(address in address()) {
        prop_assert_eq!(NameAddr::parse(&address.to_string()), Ok(address));
    }

    #[test]
    fn vias_are_read_as_they_were_written(via in via()) {
        prop_assert_eq!(Via::parse(&via.to_string()), Ok(via));
    }

    #[test]
    fn requests_are_read_as_they_were_written(request in request()) {
        let bytes = request.to_bytes();
        let Ok(Message::Request(mut read)) = parse(&bytes) else {
            return Err(TestCaseError::fail(format!("{:?} of {bytes:?}", parse(&bytes))));
        };
        read.headers.remove(&HeaderName::ContentLength);
        prop_assert_eq!(&read, &request);
        prop_assert_eq!(read.vias(), request.vias());
        prop_assert_eq!(read.contacts(), request.contacts());
    }

    #[test]
    fn responses_are_read_as_they_were_written(request in request(), status in 100u16..700, tag in "[a-z0-9]{1,8}") {
        let response = Response::to_request(&request, status).with_tag(&tag);
        prop_assert!(response.to_tag().is_some());
        let Ok(Message::Response(mut read)) = parse(&response.to_bytes()) else { return Err(TestCaseError::fail("unread")) };
        read.headers.remove(&HeaderName::ContentLength);
        prop_assert_eq!(read, response);
    }

    #[test]
    fn no_text_leaves_its_field(value in "(?s).{0,40}", name in "(?s).{0,10}") {
        let request = Request::new(Method::Options, Uri::sip(Some(&value), HostPort { host: "h".into(), port: None }))
            .with_header(HeaderName::Via, "SIP/2.0/UDP a;branch=z9hG4bK1")
            .with_header(HeaderName::From, NameAddr::new(Uri::tel(&value)).with_display(value.clone()).with_tag(&value).to_string())
            .with_header(HeaderName::new(&format!("X{name}")), value.clone())
            .with_header(HeaderName::Reason, Reason::sip(200, &value).to_string());
        let text = String::from_utf8(request.to_bytes().to_vec()).unwrap();
        // The start line, four fields, Content-Length, the empty line.
        prop_assert_eq!(text.split("\r\n").count(), 8);
        prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }

    #[test]
    fn no_octets_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes).as_ref().map(ask);
    }

    #[test]
    fn no_change_of_a_message_makes_it_panic(
        sample in proptest::sample::select(&SAMPLES),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0u8..3), 1..8),
    ) {
        let mut bytes = sample.to_vec();
        for (index, octet, change) in changes {
            let at = index.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match change {
                0 if !bytes.is_empty() => bytes[at] = octet,
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                _ => bytes.insert(at, octet),
            }
        }
        match parse(&bytes) {
            Ok(message) => {
                ask(&message);
                let again = parse(&message.to_bytes());
                prop_assert!(again.is_ok(), "{:?}: {:?}", again, String::from_utf8_lossy(&message.to_bytes()));
            }
            Err(error) => drop(error.refusal("192.0.2.1:5060".parse().unwrap()).map(|refusal| refusal.to_bytes())),
        }
    }

    #[test]
    fn no_text_makes_the_values_panic(text in "\\PC{0,60}|[<>\"\\\\;,=:@%/\\[\\] \ta-z0-9.]{0,60}") {
        let _ = (Uri::parse(&text), NameAddr::parse(&text), Via::parse(&text), CSeq::parse(&text));
        let _ = (Reason::parse(&text), RAck::parse(&text), SessionExpires::parse(&text), HeaderName::new(&text));
        let mut headers = Headers::new();
        headers.push(HeaderName::Contact, text.clone());
        let _ = headers.list(&HeaderName::Contact).map(NameAddr::parse).count();
        headers.replace_first(&HeaderName::Contact, "x");
        headers.remove_first(&HeaderName::Contact);
    }
}
