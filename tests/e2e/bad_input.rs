//! What no well-behaved peer sends: a clear answer, nothing lost, no crash, no leak.

use crate::scene::{ALICE, BLINK, BOB, MOBILE, SECOND, alice, builder, gateway, operator};
use crate::support::{
    gateway::Gateway,
    lane::Lane,
    raw_sip::{self, RawUdp, over_tcp},
    sipp::Sipp,
    wait,
};
use std::net::SocketAddr;
use std::time::Duration;

/// The gateway still answers a good request.
#[track_caller]
fn is_well(lane: &Lane, gateway: &Gateway<'_>) {
    Sipp::client(lane, "anyone-asks-options", gateway.udp()).code(200, "").start().succeed();
}

fn options(lane: &Lane, to: SocketAddr, tag: &str, extra: &str) -> (RawUdp, String) {
    let from = RawUdp::new(lane).towards(to);
    let text = raw_sip::options(to, from.local(), tag, extra);
    (from, text)
}

#[test]
fn options_are_answered_with_what_the_gateway_takes() {
    let lane = Lane::take("bad-none");
    let gateway = Gateway::on(&lane).start();
    is_well(&lane, &gateway);
    let received = [("method", "OPTIONS"), ("transport", "udp"), ("flow", "received")];
    gateway.wait_metric("tandem_sip_requests_total", &received, 1.0);
    gateway.wait_metric("tandem_sip_responses_total", &[("class", "2xx"), ("method", "OPTIONS")], 1.0);
}

#[test]
fn noise_gets_no_answer_and_does_no_harm() {
    let lane = Lane::take("bad-noise");
    let gateway = Gateway::on(&lane).start();
    let from = RawUdp::new(&lane).towards(gateway.udp());
    let noise: [&[u8]; 6] =
        [b"", b"\0", b"\r\n\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 1_400], b"SIP/2.0 200 OK\r\n\r\n"];
    for bytes in noise {
        from.send(bytes);
    }
    assert_eq!(from.receive(Duration::from_millis(500)), None, "an answer to noise feeds an attack");
    is_well(&lane, &gateway);
}

#[test]
fn a_request_without_what_it_must_have_is_a_bad_request() {
    let lane = Lane::take("bad-missing");
    let gateway = Gateway::on(&lane).start();
    for (tag, from_text, to_text) in [
        ("cseq", "CSeq: 1 OPTIONS", "CSeq: one OPTIONS"),
        ("method", "CSeq: 1 OPTIONS", "CSeq: 1 INVITE"),
        ("uri", "OPTIONS sip:", "OPTIONS :"),
    ] {
        let (from, text) = options(&lane, gateway.udp(), tag, "");
        let (status, answer) = from.ask(text.replace(from_text, to_text));
        assert!((400..500).contains(&status), "{tag}: {answer}");
    }
    assert!(gateway.metric("tandem_sip_refused_total", &[("reason", "malformed")]) >= 1.0);
    is_well(&lane, &gateway);
}

#[test]
fn another_sip_version_is_refused_by_name() {
    let lane = Lane::take("bad-version");
    let gateway = Gateway::on(&lane).start();
    let (from, text) = options(&lane, gateway.udp(), "version", "");
    assert_eq!(from.ask(text.replacen("SIP/2.0", "SIP/7.0", 1)).0, 505);
}

#[test]
fn a_content_length_beyond_the_datagram_is_a_bad_request() {
    let lane = Lane::take("bad-length-udp");
    let gateway = Gateway::on(&lane).start();
    let (from, text) = options(&lane, gateway.udp(), "long", "");
    assert_eq!(from.ask(text.replace("Content-Length: 0", "Content-Length: 9999")).0, 400);
    // Less than there is: the rest is dropped (RFC 3261 §18.3).
    let (from, text) = options(&lane, gateway.udp(), "short", "");
    assert_eq!(from.ask(text + "rubbish behind the message").0, 200);
}

#[test]
fn an_absurd_content_length_closes_the_stream_and_its_bytes_become_no_request() {
    let lane = Lane::take("bad-length-tcp");
    let gateway = Gateway::on(&lane).start();
    let (_, good) = options(&lane, gateway.tcp(), "smuggled", "");
    let good = good.replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    for length in ["4294967328", "-1", "99999999999999999999"] {
        let bad = good
            .replace("Content-Length: 0", &format!("Content-Length: {length}"))
            .replace("smuggled", "bad");
        let (answer, closed) = over_tcp(gateway.tcp(), format!("{bad}{good}").as_bytes(), 3 * SECOND);
        assert!(closed, "{length}: the stream stays open");
        assert!(!answer.contains("smuggled"), "{length}: the body became a request\n{answer}");
    }
    is_well(&lane, &gateway);
}

#[test]
fn messages_split_and_joined_in_a_stream_are_all_answered() {
    let lane = Lane::take("bad-pieces");
    let gateway = Gateway::on(&lane).start();
    let (_, one) = options(&lane, gateway.tcp(), "one", "");
    let (_, two) = options(&lane, gateway.tcp(), "two", "");
    let both = format!("\r\n\r\n{one}{two}").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let (answer, _) = over_tcp(gateway.tcp(), both.as_bytes(), SECOND);
    assert_eq!(answer.matches("SIP/2.0 200 OK").count(), 2, "{answer}");
}

#[test]
fn a_message_beyond_the_limit_is_too_large() {
    let lane = Lane::take("bad-large");
    let gateway = Gateway::on(&lane).set("sip.max_message_bytes", 4_096).start();
    let with_body = |tag: &str, length: usize| {
        let (from, text) = options(&lane, gateway.udp(), tag, "Content-Type: text/plain\r\n");
        let text = text.replace("Content-Length: 0", &format!("Content-Length: {length}"));
        from.ask(text + &"x".repeat(length)).0
    };
    assert_eq!(with_body("large", 3_000), 200);
    assert_eq!(with_body("larger", 5_000), 513);
    gateway.wait_metric("tandem_sip_refused_total", &[("reason", "too_large")], 1.0);
}

#[test]
fn a_flood_of_headers_is_refused() {
    let lane = Lane::take("bad-headers");
    let gateway = Gateway::on(&lane).start();
    let flood: String = (0..2_000).map(|index| format!("X-{index}: y\r\n")).collect();
    let (from, text) = options(&lane, gateway.udp(), "flood", &flood);
    let (status, _) = from.ask(text);
    assert!(matches!(status, 400 | 413 | 513), "{status}");
    is_well(&lane, &gateway);
}

#[test]
fn an_unknown_method_is_not_implemented_and_a_known_one_not_allowed() {
    let lane = Lane::take("bad-method");
    let gateway = Gateway::on(&lane).start();
    for (method, expected) in [("DANCE", 501), ("SUBSCRIBE", 405), ("MESSAGE", 405)] {
        let (from, text) = options(&lane, gateway.udp(), method, "");
        let (status, answer) = from.ask(text.replace("OPTIONS", method));
        assert_eq!(status, expected, "{answer}");
        assert!(answer.contains("\r\nAllow: "), "{answer}");
    }
}

#[test]
fn an_extension_that_nobody_here_knows_is_a_bad_extension() {
    let lane = Lane::take("bad-require");
    let from = RawUdp::new(&lane);
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", from.local()).start();
    let from = from.towards(gateway.udp());
    let invite = from.invite(ALICE, "require", "").replace("CSeq:", "Require: telepathy\r\nCSeq:");
    let (status, answer) = from.ask(invite);
    assert_eq!(status, 420);
    assert!(answer.contains("Unsupported: telepathy"), "{answer}");
}

#[test]
fn a_session_description_that_is_none_is_refused_and_leaks_no_port() {
    let lane = Lane::take("bad-sdp");
    let from = RawUdp::new(&lane);
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", from.local()).start();
    let from = from.towards(gateway.udp());
    let free = gateway.metric("tandem_media_ports_free", &[]);
    let many = format!(
        "v=0\r\no=x 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n{}",
        "m=audio 40000 RTP/AVP 8\r\n".repeat(500)
    );
    for (tag, sdp) in [("words", "hello"), ("cut", "v=0\r\no=x"), ("many", many.as_str())] {
        let (status, answer) = from.ask(from.invite(ALICE, tag, sdp));
        assert!(matches!(status, 400 | 488), "{tag}: {answer}");
    }
    gateway.wait_idle();
    assert_eq!(gateway.metric("tandem_media_ports_free", &[]), free);
}

#[test]
fn an_invite_that_never_completes_frees_all_it_had() {
    let lane = Lane::take("bad-incomplete");
    let from = RawUdp::new(&lane);
    let device = lane.port();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", from.local());
    let gateway = gateway.set("limits.ring_seconds", 2).start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-rings-until-cancelled").at_port(device).start();
    let free = gateway.metric("tandem_media_ports_free", &[]);
    let from = from.towards(gateway.udp());
    let sdp = "v=0\r\no=x 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n";
    from.send(from.invite(ALICE, "gone", sdp));
    phone.succeed();
    gateway.wait_idle();
    wait::until("the ports to be free again", wait::SOON, || {
        (gateway.metric("tandem_media_ports_free", &[]) == free).then_some(())
    });
}

#[test]
fn a_full_port_range_is_congestion_and_the_running_call_lives() {
    let lane = Lane::take("bad-ports");
    let switch = operator(&lane, "operator-answers").start();
    let first = lane.even_ports(4);
    let gateway = builder(&lane, &switch).user("bob", BOB);
    let gateway = gateway.set("network.media_ports", format!("{first}-{}", first + 3)).start();
    let running = alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start();
    running.wait_status(200);
    assert_eq!(gateway.metric("tandem_media_ports_free", &[]), 0.0);
    let bob = Sipp::client(&lane, "user-is-refused", gateway.udp()).user("bob").number(MOBILE).code(503, "");
    let refused = bob.start().succeed();
    assert!(refused.response(503).header("Reason").is_some_and(|reason| reason.contains("cause=42")));
    running.succeed();
    switch.succeed();
}

#[test]
fn an_operator_that_answers_without_a_session_is_hung_up_on() {
    let lane = Lane::take("bad-no-answer-sdp");
    let switch = operator(&lane, "operator-answers-without-session").start();
    let gateway = gateway(&lane, &switch);
    alice(&lane, &gateway, "user-is-refused").code(502, "").start().finish();
    let switch = switch.succeed();
    assert_eq!((switch.requests("ACK").len(), switch.requests("BYE").len()), (1, 1));
    gateway.wait_idle();
}

#[test]
fn an_operator_that_answers_with_a_codec_nobody_offered_is_hung_up_on() {
    let lane = Lane::take("bad-answer-codec");
    let switch = operator(&lane, "operator-answers-another-codec").start();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-is-refused").code(488, "").start().finish();
    assert!(caller.responses(200).is_empty(), "a codec mismatch is no success");
    let switch = switch.succeed();
    assert_eq!((switch.requests("ACK").len(), switch.requests("BYE").len()), (1, 1));
    gateway.wait_idle();
}

#[test]
fn a_flood_from_one_address_is_held_and_a_running_call_is_not_harmed() {
    let lane = Lane::take("bad-flood");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &switch).set("guard.requests_per_second", 5).set("guard.burst", 10).start();
    let running = alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start();
    running.wait_status(200);
    let flood = RawUdp::new(&lane).towards(gateway.udp());
    for index in 0..200 {
        let me = flood.local();
        flood.send(format!(
            "REGISTER sip:tandem.test SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK-f{index};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:x{index}@tandem.test>;tag=f\r\nTo: <sip:x{index}@tandem.test>\r\n\
             Call-ID: f{index}\r\nCSeq: 1 REGISTER\r\nContact: <sip:x@{me}>\r\nContent-Length: 0\r\n\r\n"
        ));
    }
    let mut challenges = 0;
    while let Some(answer) = flood.receive(BLINK * 3) {
        challenges += usize::from(raw_sip::status(&answer) == Some(401));
    }
    assert!(challenges <= 25, "{challenges} of 200 strangers were worth a nonce");
    running.succeed();
    switch.succeed();
}

#[test]
fn streams_from_one_address_are_counted() {
    let lane = Lane::take("bad-streams");
    let gateway = Gateway::on(&lane).set("sip.max_streams_per_address", 2).start();
    let open = || std::net::TcpStream::connect(gateway.tcp()).expect("it listens");
    let _held = [open(), open()];
    let (_, text) = options(&lane, gateway.tcp(), "third", "");
    let (answer, closed) =
        over_tcp(gateway.tcp(), text.replace("SIP/2.0/UDP", "SIP/2.0/TCP").as_bytes(), 2 * SECOND);
    assert!(closed && answer.is_empty(), "{answer}");
}

#[test]
fn a_stream_that_says_nothing_is_closed() {
    let lane = Lane::take("bad-idle");
    let gateway = Gateway::on(&lane).set("sip.stream_idle_seconds", 10).start();
    let (_, closed) = over_tcp(gateway.tcp(), b"\r\n", Duration::from_secs(25));
    assert!(closed);
}
