//! URIs: reading, writing, comparing.

use super::*;

fn parse(text: &str) -> Uri {
    Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn parts_are_found() {
    let uri = parse("sips:alice:s%65cret@[2001:db8::1]:5061;transport=TCP;lr?subject=a%20b&priority=urgent");
    assert_eq!(uri.scheme, Scheme::Sips);
    assert_eq!((uri.user(), uri.password.as_deref()), ("alice", Some("secret")));
    assert_eq!((uri.host.host.as_str(), uri.host.port), ("2001:db8::1", Some(5061)));
    assert_eq!((uri.transport(), uri.params.get("lr")), (Some("TCP"), Some(None)));
    assert_eq!(uri.headers.as_deref(), Some("subject=a%20b&priority=urgent"));
}

#[test]
fn written_form_is_read_again() {
    for text in [
        "sip:example.com",
        "sip:+3225550001@example.com:5060;user=phone",
        "sips:alice@[2001:db8::1]",
        "sip:a%40b%3Ac@example.com",
        "sip:user;par=u%40example.net@example.com",
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com",
        "sip:h;maddr=239.255.255.1;ttl=15?to=alice%40example.com",
        "sip:h?priority",
        "sip:alice@h;pn-provider=apns;pn-prid=YWJj:remote&ZGVm==;transport=tls",
        "tel:+1-201-555-0123;phone-context=example.com",
        "nobodyknowsthisscheme:totallyopaquecontent",
        "soap.beep://192.0.2.103:3002",
    ] {
        assert_eq!(parse(text).to_string(), text);
        assert_eq!(parse(&parse(text).to_string()), parse(text));
    }
}

#[test]
fn escapes_of_the_user_part_are_resolved_and_made_again() {
    let uri = parse("sip:sips%3Auser%40example.com@example.net");
    assert_eq!(uri.user(), "sips:user@example.com");
    assert_eq!(uri.to_string(), "sip:sips%3Auser%40example.com@example.net");
    assert_eq!(parse("sip:null-%00-null@example.com").user(), "null-\0-null");
    assert_eq!(parse("sip:*21#@h").to_string(), "sip:*21%23@h");
}

#[test]
fn malformed_uris_are_refused() {
    for bad in [
        "",
        "sip",
        "sip:",
        "sip:@h",
        "sip:a b@h",
        "sip:a@",
        "sip:a@h:",
        "sip:a@h:0",
        "sip:a@h:65536",
        "sip:a@h:+1",
        "sip:a@[::1",
        "sip:a@[::1]x",
        "sip:a@[nope]",
        "sip:a@::1",
        "sip:a@b@c",
        "sip:a@h;",
        "sip:a@h;;x",
        "sip:a@h;=1",
        "sip:a@h;x=",
        "sip:a@h?",
        "sip:a%zz@h",
        "sip:%ff@h",
        "<sip:a@h>",
        "sip:a@h\r\n",
        "sip:a@h\u{0}",
        "sip:ä@h",
        "tel:",
        "tel:+",
        "tel:alice",
        "1x:y",
        "x y:z",
    ] {
        if bad == "sip:a@h;" {
            assert!(Uri::parse(bad).is_ok(), "{bad}");
        } else {
            assert!(Uri::parse(bad).is_err(), "{bad}");
        }
    }
}

#[test]
fn constructed_uris_cannot_carry_anything_else_in() {
    let uri = Uri::sip(Some("a@b\r\nEvil: 1"), HostPort { host: "h".into(), port: None })
        .with_param("x", Some("1;y\r\n"));
    assert_eq!(uri.to_string(), "sip:a%40b%0D%0AEvil%3A%201@h;x=1%3By%0D%0A");
}

#[test]
fn comparison_follows_rfc_3261() {
    // The examples of §19.1.4.
    for (a, b) in [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
        ("tel:+1-201-555-0123", "tel:+12015550123"),
        ("sip:h;x=1;x=2", "sip:h;x=1;x=2"),
    ] {
        assert!(parse(a).equivalent(&parse(b)), "{a} {b}");
        assert!(parse(b).equivalent(&parse(a)), "{b} {a}");
    }
    for (a, b) in [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@h", "sips:a@h"),
    ] {
        assert!(!parse(a).equivalent(&parse(b)), "{a} {b}");
        assert!(!parse(b).equivalent(&parse(a)), "{b} {a}");
    }
}

#[test]
fn subscriber_is_the_bare_number() {
    assert_eq!(parse("tel:+1-201-555.0123;phone-context=x").subscriber(), "+12015550123");
    assert_eq!(parse("sip:+1(201)555-0123;isub=1@h;user=phone").subscriber(), "+12015550123");
    assert_eq!(parse("sip:alice.smith@h").subscriber(), "alice.smith");
}

#[test]
fn debug_output_masks_numbers() {
    let shown = format!("{:?}", parse("sip:+3225550001@h"));
    assert!(shown.contains("+322***") && !shown.contains("5550001"), "{shown}");
}

proptest::proptest! {
    /// The short way for plain URIs and the long way for all must never tell different things.
    #[test]
    fn the_short_way_reads_what_the_long_way_reads(text in "[a-z0-9.+@:;=?%&<>\\[\\]_#-]{0,24}") {
        let whole = format!("sip:{text}");
        let long = UriRef::parse_sip(SchemeRef::Sip, &text).map(UriRef::to_uri);
        if let Some((short, rest)) = UriRef::plain_prefix(&whole) {
            let read = &whole["sip:".len()..whole.len() - rest.len()];
            let again = UriRef::parse_sip(SchemeRef::Sip, read).map(UriRef::to_uri);
            proptest::prop_assert_eq!(again, Ok(short.to_uri()));
        }
        proptest::prop_assert_eq!(UriRef::parse(&whole).map(UriRef::to_uri), long);
    }
}
