//! The wire reader on ordinary and hostile messages.

use super::super::*;
use super::*;

/// A message from lines; the empty line and the body come behind.
fn message(lines: &[&str], body: &str) -> Vec<u8> {
    let mut text = lines.join("\r\n");
    text.push_str("\r\n\r\n");
    text.push_str(body);
    text.into_bytes()
}

const OPTIONS: [&str; 7] = [
    "OPTIONS sip:h SIP/2.0",
    "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
    "Max-Forwards: 70",
    "From: <sip:a@h>;tag=1",
    "To: <sip:b@h>",
    "Call-ID: c1",
    "CSeq: 1 OPTIONS",
];

fn with(extra: &[&str], body: &str) -> Vec<u8> {
    message(&[&OPTIONS[..], extra].concat(), body)
}

fn request(bytes: &[u8]) -> Request {
    match parse(bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn fault(bytes: &[u8]) -> ParseErrorKind {
    parse(bytes).expect_err("a fault").kind
}

#[test]
fn an_ordinary_request_is_read() {
    let request = request(&with(&["Content-Type: text/plain", "Content-Length: 2"], "hi"));
    assert_eq!((request.method.clone(), request.uri.to_string().as_str()), (Method::Options, "sip:h"));
    assert_eq!((request.headers.len(), &request.body[..]), (8, &b"hi"[..]));
    assert_eq!(request.call_id(), Ok("c1"));
}

#[test]
fn line_ends_before_and_octets_behind_are_ignored() {
    let mut bytes = b"\r\n\r\n".to_vec();
    bytes.extend(with(&["l: 2"], "hi and more"));
    assert_eq!(&request(&bytes).body[..], b"hi");
    assert_eq!(fault(b"\r\n\r\n"), ParseErrorKind::Empty);
    assert_eq!(fault(b""), ParseErrorKind::Empty);
}

#[test]
fn a_datagram_without_content_length_is_all_body() {
    assert_eq!(&request(&with(&[], "\x01\x02")).body[..], b"\x01\x02");
    let binary = [&with(&["l: 3"], "")[..], &[0, 255, 254]].concat();
    assert_eq!(&request(&binary).body[..], [0, 255, 254]);
}

#[test]
fn wrong_content_lengths_are_refused() {
    for (field, kind) in [
        ("Content-Length: 9999", ParseErrorKind::BodyTooShort),
        ("Content-Length: 4294967328", ParseErrorKind::BodyTooShort),
        ("Content-Length: 18446744073709551648", ParseErrorKind::Malformed(HeaderName::ContentLength)),
        ("Content-Length: -999", ParseErrorKind::Malformed(HeaderName::ContentLength)),
        ("Content-Length: 3 3", ParseErrorKind::Malformed(HeaderName::ContentLength)),
        ("Content-Length:", ParseErrorKind::Malformed(HeaderName::ContentLength)),
    ] {
        assert_eq!(fault(&with(&[field], "hi")), kind, "{field}");
    }
    let twice = fault(&with(&["Content-Length: 2", "l: 2"], "hi"));
    assert_eq!(twice, ParseErrorKind::Repeated(HeaderName::ContentLength));
}

#[test]
fn only_space_and_tab_may_stand_before_the_colon() {
    assert_eq!(request(&with(&["Subject \t: x"], "")).headers.get(&HeaderName::Subject), Some("x"));
    for name in [
        "Subject\u{b}",
        "Subject\u{0}",
        "Sub ject",
        "Subject\u{a0}",
        " Subject",
        "\u{1}Subject",
        "Subject\r",
        "",
    ] {
        let bytes = with(&[&format!("{name}: x")], "");
        if name == " Subject" {
            // It is a folded line of the field before.
            assert_eq!(fault(&bytes), ParseErrorKind::Malformed(HeaderName::CSeq));
        } else {
            assert_eq!(fault(&bytes), ParseErrorKind::HeaderLine, "{name:?}");
        }
    }
    assert_eq!(fault(&with(&["no colon"], "")), ParseErrorKind::HeaderLine);
}

#[test]
fn bare_line_ends_hide_nothing() {
    for field in ["Subject: a\nEvil: 1", "Subject: a\rEvil: 1", "Subject: a\r\n b\nEvil: 1"] {
        assert_eq!(fault(&with(&[field], "")), ParseErrorKind::LineEnd, "{field:?}");
    }
    let bare = String::from_utf8(with(&[], "")).unwrap().replace("\r\n", "\n");
    assert!(parse(bare.as_bytes()).is_err());
    let start =
        String::from_utf8(with(&[], "")).unwrap().replace("SIP/2.0\r\nVia", "SIP/2.0\nX: y SIP/2.0\r\nVia");
    assert!(parse(start.as_bytes()).is_err());
}

#[test]
fn folded_lines_are_one_value() {
    let request = request(&with(&["Subject: first\r\n\tsecond\r\n   \r\n third", "X-Other: 1"], ""));
    assert_eq!(request.headers.get(&HeaderName::Subject), Some("first second third"));
    assert_eq!(request.headers.get(&HeaderName::new("X-Other")), Some("1"));
}

#[test]
fn text_that_is_not_utf8_spoils_only_itself() {
    let latin =
        [&with(&["Subject: caf"], "")[..with(&["Subject: caf"], "").len() - 4], b"\xe9\r\n\r\n"].concat();
    assert_eq!(request(&latin).headers.get(&HeaderName::Subject), Some("caf\u{fffd}"));
    let mut in_uri = OPTIONS.join("\r\n").replace("sip:b@h", "sip:b?@h").into_bytes();
    in_uri.iter_mut().filter(|b| **b == b'?').for_each(|b| *b = 0xe9);
    in_uri.extend(b"\r\n\r\n");
    assert_eq!(fault(&in_uri), ParseErrorKind::Malformed(HeaderName::To));
}

#[test]
fn limits_bound_lines_fields_and_size() {
    let many: Vec<String> = (0..200).map(|i| format!("X-{i}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(fault(&with(&many, "")), ParseErrorKind::TooManyHeaders);
    let long = format!("Subject: {}", "x".repeat(9000));
    assert_eq!(fault(&with(&[&long], "")), ParseErrorKind::LineTooLong);
    assert_eq!(fault(&with(&[], &"x".repeat(40_000))), ParseErrorKind::TooLarge);
    let uri = format!("OPTIONS sip:{}@h SIP/2.0", "x".repeat(9000));
    let bytes = message(&[&[uri.as_str()], &OPTIONS[1..]].concat(), "");
    let error = parse(&bytes).unwrap_err();
    assert_eq!((error.kind.clone(), error.status()), (ParseErrorKind::RequestUriTooLong, 414));
}

#[test]
fn a_refusal_goes_back_the_way_the_request_came() {
    let source = "203.0.113.7:40000".parse().unwrap();
    let bytes = with(&["Content-Length: 99"], "");
    let refusal = parse(&bytes).unwrap_err().refusal(source).unwrap();
    assert_eq!(
        (refusal.status, refusal.reason.as_str()),
        (400, "Bad Request - body shorter than Content-Length")
    );
    assert_eq!(refusal.via().unwrap().received(), Some(source.ip()));
    assert!(refusal.to_tag().is_some());
    let again = parse(&bytes).unwrap_err().refusal(source).unwrap();
    assert_eq!(again, refusal);
    let ack = String::from_utf8(bytes).unwrap().replace("OPTIONS", "ACK");
    assert_eq!(parse(ack.as_bytes()).unwrap_err().refusal(source), None);
    assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap_err().refusal(source), None);
}

#[test]
fn what_is_missing_is_named() {
    for (missing, line) in OPTIONS.iter().enumerate().skip(1) {
        let lines: Vec<&str> =
            OPTIONS.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, l)| *l).collect();
        let result = parse(&message(&lines, ""));
        if line.starts_with("Max-Forwards") {
            assert!(result.is_ok());
        } else {
            let name = HeaderName::new(line.split(':').next().unwrap());
            assert_eq!(result.unwrap_err().kind, ParseErrorKind::Missing(name));
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_no_message() {
    let whole = with(&["Content-Length: 2"], "hi");
    for end in 0..whole.len() {
        assert!(parse(&whole[..end]).is_err(), "{end}");
    }
}

/// As phones and carriers send it.
#[test]
fn messages_of_the_field_are_read() {
    let register = request(&message(
        &[
            "REGISTER sip:example.org SIP/2.0",
            "Via: SIP/2.0/TLS 192.168.1.20:54321;alias;branch=z9hG4bK.Xy~1;rport",
            "From: <sip:alice@example.org>;tag=~abc",
            "To: sip:alice@example.org",
            "CSeq: 20 REGISTER",
            "Call-ID: uU3yHAV5jq",
            "Max-Forwards: 70",
            "Supported: replaces, outbound, gruu, path, record-aware",
            "Accept: application/sdp",
            "Contact: <sip:alice@192.168.1.20:54321;pn-prid=ab:remote&cd==;transport=tls>;reg-id=1;\
             +sip.instance=\"<urn:uuid:00000000-0000-0000-0000-0a1b2c3d4e5f>\";\
             +org.linphone.specs=\"ephemeral/1.1,groupchat/1.2,lime\";expires=3600",
            "Expires: 3600",
            "User-Agent: LinphoneAndroid/5.2 (Pixel 7) LinphoneSDK/5.3",
        ],
        "",
    ));
    let contact = register.contact().unwrap().unwrap();
    assert_eq!(
        contact.params.value("+sip.instance"),
        Some("<urn:uuid:00000000-0000-0000-0000-0a1b2c3d4e5f>")
    );
    assert_eq!(contact.params.value("+org.linphone.specs"), Some("ephemeral/1.1,groupchat/1.2,lime"));
    assert_eq!(contact.uri.params.value("pn-prid"), Some("ab:remote&cd=="));
    assert_eq!((contact.params.value("expires"), register.expires()), (Some("3600"), Some(3600)));

    let invite = request(&message(
        &[
            "INVITE tel:+3225550001;phone-context=example.net SIP/2.0",
            "v:SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK+5f2e1/2;rport=5060;received=192.0.2.7, \
             SIP/2.0/TCP [2001:db8::7];branch=z9hG4bK0",
            "f:\"Bell, A. \\\"AB\\\"\" <sip:+3225550002;npdi;rn=+322555@carrier.example.net;user=phone>;tag=7",
            "t:tel:+32-2-555.00.01",
            "i:1-2@192.0.2.7",
            "CSeq:1 INVITE",
            "m:<sip:192.0.2.7:5060;transport=UDP>;isfocus",
            "P-Asserted-Identity: \"A, B\" <sip:+3225550002@carrier.example.net>, <tel:+3225550002>",
            "Diversion: <sip:+3225550003@carrier.example.net>;reason=unconditional;privacy=off",
            "Remote-Party-ID: \"A\" <sip:+3225550002@h>;party=calling;screen=yes;privacy=off",
            "k:timer",
            "x:1800;refresher=uac",
            "Min-SE:  90",
            "l:0",
        ],
        "",
    ));
    assert_eq!((invite.uri.scheme.clone(), invite.uri.user()), (Scheme::Tel, "+3225550001"));
    assert_eq!(invite.vias().unwrap().len(), 2);
    assert_eq!(invite.to().unwrap().uri.subscriber(), "+3225550001");
    let identities = invite.addresses(&HeaderName::PAssertedIdentity).unwrap();
    assert_eq!(identities.iter().map(|i| i.uri.user()).collect::<Vec<_>>(), ["+3225550002"; 2]);
    let timer = invite.session_expires().unwrap();
    assert_eq!((timer.seconds, timer.refresher, invite.min_se()), (1800, Some(Refresher::Uac), Some(90)));
}
