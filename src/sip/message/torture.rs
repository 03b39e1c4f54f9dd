//! The torture messages of RFC 4475 and RFC 5118: each is taken or refused as its RFC says.

use super::*;
use crate::types::Transport;

/// What is to become of a message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    /// A request answered with this status.
    Refused(u16),
    /// A response, or nothing that can be answered.
    Dropped,
}

use Verdict::{Dropped, Refused, Taken};

macro_rules! samples {
    ($($name:literal => $verdict:expr,)*) => {
        const SAMPLES: &[(&str, &[u8], Verdict)] =
            &[$(($name, include_bytes!(concat!("samples/", $name, ".sip")), $verdict),)*];
    };
}

samples! {
    // RFC 4475 §3.1.1, valid
    "wsinv" => Taken,
    "intmeth" => Taken,
    "esc01" => Taken,
    "escnull" => Taken,
    "esc02" => Taken,
    "lwsdisp" => Taken,
    "longreq" => Taken,
    "dblreq" => Taken,
    "semiuri" => Taken,
    "transports" => Taken,
    "mpart01" => Taken,
    "unreason" => Taken,
    "noreason" => Taken,
    // RFC 4475 §3.1.2, invalid
    "badinv01" => Refused(400),
    "clerr" => Refused(400),
    "ncl" => Refused(400),
    "scalar02" => Refused(400),
    "scalarlg" => Dropped,
    "quotbal" => Refused(400),
    "ltgtruri" => Refused(400),
    "lwsruri" => Refused(400),
    "lwsstart" => Refused(400),
    "trws" => Refused(400),
    "escruri" => Refused(400),
    // The Date of an INVITE means nothing to us: "it may be ignored" (§3.1.2.12).
    "baddate" => Taken,
    "regbadct" => Refused(400),
    // Two that "an element may be liberal" with (§3.1.2.14, §3.1.2.15), for there is no doubt what is meant.
    "badaspec" => Taken,
    "baddn" => Taken,
    "badvers" => Refused(505),
    "mismatch01" => Refused(400),
    "mismatch02" => Refused(400),
    "bigcode" => Dropped,
    // RFC 4475 §3.2 and §3.3: well-formed, what is wrong is for the layers above, but for the last three
    "badbranch" => Taken,
    "unkscm" => Taken,
    "novelsc" => Taken,
    "unksm2" => Taken,
    "bext01" => Taken,
    "invut" => Taken,
    "regaut01" => Taken,
    "bcast" => Taken,
    "zeromf" => Taken,
    "cparam01" => Taken,
    "cparam02" => Taken,
    "regescrt" => Taken,
    "sdp01" => Taken,
    // "Ideally" (§3.3.1): what is missing is missing in the answer too.
    "insuf" => Refused(400),
    "multi01" => Refused(400),
    "mcl01" => Refused(400),
    // RFC 4475 §3.4
    "inv2543" => Taken,
    // RFC 5118 §4
    "rfc5118-valid" => Taken,
    "rfc5118-no-brackets" => Refused(400),
    "rfc5118-port-ambiguous" => Taken,
    "rfc5118-port" => Taken,
    "rfc5118-received-brackets" => Taken,
    "rfc5118-received-bare" => Taken,
    "rfc5118-sdp" => Taken,
    "rfc5118-mixed" => Taken,
    "rfc5118-two-families" => Taken,
    "rfc5118-mapped" => Taken,
    "rfc5118-three-colons" => Taken,
    "rfc5118-two-colons" => Taken,
}

fn sample(name: &str) -> Message {
    let (_, bytes, _) = SAMPLES.iter().find(|(known, ..)| *known == name).expect("a sample");
    parse(bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn request(name: &str) -> Request {
    match sample(name) {
        Message::Request(request) => request,
        Message::Response(_) => panic!("{name} is a response"),
    }
}

#[test]
fn every_message_is_taken_or_refused_as_its_rfc_says() {
    assert_eq!(SAMPLES.len(), 49 + 12);
    for (name, bytes, verdict) in SAMPLES {
        let found = match parse(bytes) {
            Ok(_) => Taken,
            Err(error) => match error.refusal("192.0.2.99:5060".parse().unwrap()) {
                Some(refusal) => {
                    let again = parse(&refusal.to_bytes());
                    // What was malformed in the request is copied, so that not every refusal can be read again.
                    assert!(again.is_ok() || refusal.status >= 400, "{name}: {again:?}");
                    Refused(refusal.status)
                }
                None => Dropped,
            },
        };
        assert_eq!(found, *verdict, "{name}: {:?}", parse(bytes).err());
    }
}

#[test]
fn what_is_taken_survives_writing_and_reading() {
    for (name, bytes, verdict) in SAMPLES {
        if *verdict == Taken {
            let first = parse(bytes).unwrap();
            let second = parse(&first.to_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
            // Content-Length moves to the end and white space is evened out; meaning stays.
            let without_length = |message: &Message| {
                let mut headers = message.headers().clone();
                headers.remove(&HeaderName::ContentLength);
                headers
            };
            assert_eq!(without_length(&first), without_length(&second), "{name}");
            assert_eq!(first.body(), second.body(), "{name}");
            assert_eq!(first.via(), second.via(), "{name}");
        }
    }
}

#[test]
fn white_space_everywhere() {
    let invite = request("wsinv");
    assert_eq!(invite.to().unwrap().tag(), Some("1918181833n"));
    assert_eq!(invite.from().unwrap().display.as_deref(), Some("J Rosenberg \\\""));
    assert_eq!(invite.from_tag(), Some("98asjd8"));
    assert_eq!((invite.max_forwards(), invite.cseq().unwrap().number), (Some(68), 9));
    let vias = invite.vias().unwrap();
    let branches: Vec<_> = vias.iter().map(|via| via.branch().unwrap()).collect();
    assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
    assert_eq!(vias[2].sent_by.host, "192.168.255.111");
    assert_eq!(invite.headers.get(&HeaderName::Subject), Some(""));
    assert_eq!(
        invite.headers.get(&HeaderName::new("newfangledheader")),
        Some("newfangled value continued newfangled value")
    );
    let contact = invite.contact().unwrap().unwrap();
    assert_eq!(contact.display.as_deref(), Some("Quoted string \"\""));
    assert_eq!(
        (contact.params.value("q"), contact.params.value("newparam")),
        (Some("0.33"), Some("newvalue"))
    );
    assert!(invite.sdp().unwrap().ends_with(b"a=rtpmap:31 LPC\r\n"));
}

#[test]
fn the_whole_range_of_characters() {
    let strange = request("intmeth");
    let name = "!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!(strange.method, Method::Other(name.into()));
    assert_eq!(strange.uri.user(), "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*");
    assert_eq!(strange.uri.password.as_deref(), Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    assert_eq!(strange.to().unwrap().display.as_deref(), Some("BEL:\u{7} NUL:\0 DEL:\u{7f}"));
    let from = strange.from().unwrap();
    assert_eq!(from.params.value("fromParam''~+*_!.-%"), Some("работающий"));
    assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
}

#[test]
fn escapes_count_only_where_they_are_escapes() {
    let invite = request("esc01");
    assert_eq!((invite.uri.user(), invite.uri.host.host.as_str()), ("sips:user@example.com", "example.net"));
    assert_eq!(invite.to().unwrap().uri.user(), "user");
    assert_eq!(invite.from().unwrap().uri.user(), "I have spaces");
    assert_eq!(request("escnull").to().unwrap().uri.user(), "null-\0-null");
    let register = request("esc02");
    assert_eq!(register.method, Method::Other("RE%47IST%45R".into()));
    assert_eq!(register.to().unwrap().display.as_deref(), Some("%Z%45"));
    assert_eq!(register.headers.all(&HeaderName::Contact).count(), 2);
}

#[test]
fn only_the_first_request_of_a_datagram_counts() {
    let register = request("dblreq");
    assert_eq!((register.method.clone(), register.body.len()), (Method::Register, 0));
}

#[test]
fn binary_bodies_are_untouched() {
    let message = request("mpart01");
    let all: Vec<u8> = (0..=255).collect();
    assert!(message.body.windows(256).any(|window| window == all));
    assert_eq!(message.sdp(), None);
}

#[test]
fn reason_phrases_may_be_anything() {
    let Message::Response(response) = sample("unreason") else { panic!() };
    assert_eq!(response.reason, "= 2**3 * 5**2 но сто девяносто девять - простое");
    let Message::Response(response) = sample("noreason") else { panic!() };
    assert_eq!((response.status, response.reason.as_str()), (100, ""));
}

#[test]
fn the_layers_above_see_what_they_have_to_refuse() {
    assert_eq!(request("unkscm").uri.scheme, Scheme::Other("nobodyknowsthisscheme".into()));
    assert_eq!(request("novelsc").uri.scheme, Scheme::Other("soap.beep".into()));
    let required: Vec<_> = sample("bext01").headers().list(&HeaderName::Require).map(str::to_owned).collect();
    assert_eq!(required, ["nothingSupportsThis", "nothingSupportsThisEither"]);
    assert_eq!(request("invut").content_type(), Some("application/unknownformat"));
    assert_eq!(request("zeromf").max_forwards(), Some(0));
    assert_eq!(request("badbranch").branch(), Some("z9hG4bK"));
    assert_eq!(request("inv2543").branch(), None);
    let bare = request("cparam01").contact().unwrap().unwrap();
    let bracketed = request("cparam02").contact().unwrap().unwrap();
    assert!(bare.params.has("unknownparam") && !bare.uri.params.has("unknownparam"));
    assert!(!bracketed.params.has("unknownparam") && bracketed.uri.params.has("unknownparam"));
    let with_headers = request("regescrt").contact().unwrap().unwrap();
    assert_eq!(with_headers.uri.headers.as_deref(), Some("Route=%3Csip:sip.example.com%3E"));
}

#[test]
fn ipv6_stands_in_brackets_and_received_may_go_without() {
    assert_eq!(request("rfc5118-valid").uri.host.host, "2001:db8::10");
    let ambiguous = request("rfc5118-port-ambiguous").uri.host;
    assert_eq!((ambiguous.host.as_str(), ambiguous.port), ("2001:db8::10:5070", None));
    assert_eq!(request("rfc5118-port").uri.host.port, Some(5070));
    for name in ["rfc5118-received-brackets", "rfc5118-received-bare"] {
        assert_eq!(
            request(name).via().unwrap().received(),
            Some("2001:db8::9:255".parse().unwrap()),
            "{name}"
        );
    }
    for name in ["rfc5118-three-colons", "rfc5118-two-colons"] {
        let asked = request(name);
        assert_eq!(asked.uri.host.host, "2001:db8::192.0.2.1", "{name}");
        assert_eq!(asked.to().unwrap().uri.to_string(), "sip:user@[2001:db8::192.0.2.1]", "{name}");
    }
    for wrong in ["[2001:db8:::1]", "[2001:db8::::192.0.2.1]", "[:::192.0.2.1::]", "[2001:::db8::192.0.2.1]"]
    {
        assert!(format!("sip:user@{wrong}").parse::<Uri>().is_err(), "{wrong}");
    }
    let vias = request("rfc5118-mixed").vias().unwrap();
    assert_eq!((vias.len(), &vias[2].transport), (3, &ViaTransport::Known(Transport::Tcp)));
}
