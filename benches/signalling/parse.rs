//! What it costs to read an INVITE and ask it what a gateway asks, beside rsip doing the same.

use rsip::prelude::{HeadersExt, ToTypedHeader};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tandem::sip::message::{Message, Typed, parse};

/// Messages read a round. The best of the rounds counts: noise only ever adds.
const MESSAGES: u32 = 2_000;
const ROUNDS: u32 = 25;

pub fn row() {
    let invite = invite();
    let own = best(|| own(&invite));
    let peer = best(|| rsip(&invite));
    println!(
        "parse       INVITE of {} bytes, method, URI, Via, From, To, tags, Call-ID, CSeq, Contact, Max-Forwards, Route:  \
         {:.2} us  (asked: <= 3)  rsip {:.2} us; ratio own/rsip={:.2}",
        invite.len(),
        own.as_secs_f64() * 1e6,
        peer.as_secs_f64() * 1e6,
        own.as_secs_f64() / peer.as_secs_f64()
    );
}

fn best(mut read: impl FnMut()) -> Duration {
    let round = || {
        let start = Instant::now();
        (0..MESSAGES).for_each(|_| read());
        start.elapsed() / MESSAGES
    };
    std::iter::repeat_with(round).take(ROUNDS as usize).min().unwrap_or_default()
}

fn own(bytes: &[u8]) {
    let Ok(Message::Request(request)) = parse(black_box(bytes)) else { panic!("not read") };
    let (from, to) = (Typed::from(&request).expect("From"), request.to().expect("To"));
    black_box((&request.method, &request.uri, request.via().expect("Via"), from.tag(), to.tag()));
    black_box((request.call_id().expect("Call-ID"), request.cseq().expect("CSeq"), request.max_forwards()));
    black_box((request.contact().expect("Contact"), request.addresses(&ROUTE).expect("Route")));
}

const ROUTE: tandem::sip::message::HeaderName = tandem::sip::message::HeaderName::Route;

fn rsip(bytes: &[u8]) {
    let request = rsip::Request::try_from(black_box(bytes)).expect("read");
    let from = request.from_header().and_then(|header| header.typed()).expect("From");
    let to = request.to_header().and_then(|header| header.typed()).expect("To");
    let via = request.via_header().and_then(|header| header.typed()).expect("Via");
    black_box((&request.method, &request.uri, via, from.tag(), to.tag()));
    let cseq = request.cseq_header().and_then(|header| header.typed()).expect("CSeq");
    black_box((
        request.call_id_header().expect("Call-ID"),
        cseq,
        request.max_forwards_header().expect("number"),
    ));
    let contact = request.contact_header().and_then(|header| header.typed()).expect("Contact");
    let route = request.headers.iter().find_map(|header| match header {
        rsip::Header::Route(route) => Some(route.typed().expect("Route")),
        _ => None,
    });
    black_box((contact, route));
}

/// As an operator's session border controller sends it: 1.2 KB.
fn invite() -> Vec<u8> {
    let body = "v=0\r\no=sbc 3928402 3928402 IN IP4 203.0.113.20\r\ns=-\r\nc=IN IP4 203.0.113.20\r\nt=0 0\r\n\
        m=audio 24680 RTP/AVP 8 0 18 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:18 G729/8000\r\n\
        a=fmtp:18 annexb=no\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n";
    format!(
        "INVITE sip:+3225550001@192.0.2.1:5060;user=phone SIP/2.0\r\n\
         Via: SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bK7f3a9c1e5b;rport\r\n\
         Via: SIP/2.0/UDP 10.20.30.40:5060;received=203.0.113.9;branch=z9hG4bK1d2c3b4a59\r\n\
         Route: <sip:192.0.2.1:5060;lr>\r\nMax-Forwards: 68\r\n\
         From: \"Operator caller\" <sip:+33123456789@operator.example;user=phone>;tag=4711-a9b8c7d6\r\n\
         To: <sip:+3225550001@192.0.2.1;user=phone>\r\nCall-ID: 5f2e8a90-77c1-4a3b-9d0e-1b2c3d4e5f60@203.0.113.1\r\n\
         CSeq: 102 INVITE\r\nContact: <sip:+33123456789@203.0.113.1:5060;transport=udp>\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO\r\nSupported: timer, 100rel, replaces\r\n\
         Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\n\
         P-Asserted-Identity: <sip:+33123456789@operator.example;user=phone>\r\nUser-Agent: Operator-SBC/9.3\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
