//! The instruments themselves: two phones without a gateway, so that a poor score later is the gateway's.

use crate::support::{
    baresip::{Baresip, PhoneCodec},
    digest,
    gateway::PASSWORD,
    impairment::{Fate, ImpairedStream, Impairment, MediaPort, Packet, Tally},
    kamailio::{Kamailio, Outer},
    lane::Lane,
    linphone::Linphone,
    prometheus::Prometheus,
    rtp::{self, RtpSocket},
    sipp::Sipp,
    speech::{self, Floor, Voice},
    tls::Authority,
    wait,
    wire::Wire,
};
use std::time::{Duration, Instant};
use tandem::media::recovery::wire::{Impairments, Loss};

/// One phone calls the other, both speak their nine seconds, both recordings are judged.
fn two_phones_hear_each_other(test: &str, codec: PhoneCodec, transport: &str, secure: bool) {
    let lane = Lane::take(test);
    let _floor = Floor::take();
    let authority = Authority::new("Tandem tests");
    let phone = |name: &str, voice| {
        let builder = Baresip::on(&lane, name).codec(codec).voice(voice).tls(&authority);
        if secure { builder.srtp() } else { builder }.start()
    };
    let callee = phone("callee", Voice::Callee);
    let mut caller = phone("caller", Voice::Caller);
    let at = if transport == "tls" { callee.tls_address() } else { callee.address() };
    caller.dial(&format!("sip:callee@{at};transport={transport}"));
    caller.wait_event("CALL_ESTABLISHED");
    callee.wait_event("CALL_ESTABLISHED");
    wait::talk(Duration::from_secs(11));
    caller.hang_up();
    callee.wait_event("CALL_CLOSED");
    caller.wait_event("CALL_CLOSED");
    speech::assert_heard(caller.said(), callee.said(), &callee.heard());
    speech::assert_heard(callee.said(), caller.said(), &caller.heard());
}

#[test]
fn baresip_speaks_opus_over_udp() {
    two_phones_hear_each_other("harness-udp", PhoneCodec::Opus, "udp", false);
}

#[test]
fn baresip_speaks_a_law_over_tcp() {
    two_phones_hear_each_other("harness-tcp", PhoneCodec::Pcma, "tcp", false);
}

#[test]
fn baresip_speaks_opus_over_tls_with_srtp() {
    two_phones_hear_each_other("harness-tls", PhoneCodec::Opus, "tls", true);
}

/// linphone calls a baresip through a registrar, and both recordings are judged.
fn linphone_and_baresip_hear_each_other(test: &str, outer: Outer, transport: &'static str, secure: bool) {
    let lane = Lane::take(test);
    let _floor = Floor::take();
    let authority = Authority::new("Tandem tests");
    let registrar = Kamailio::registrar(&lane, outer, Some(&authority));
    let callee = Baresip::on(&lane, "bob")
        .voice(Voice::Callee)
        .tls(&authority)
        .registers(registrar.outer(), transport);
    let callee = if secure { callee.srtp() } else { callee }.start();
    let caller = Linphone::on(&lane, "alice").voice(Voice::Caller).tls(&authority);
    let caller = caller.registers(registrar.outer(), transport);
    let mut caller = if secure { caller.srtp() } else { caller }.start();
    caller.call("sip:bob@tandem.test");
    caller.wait_answer_and_speak();
    wait::talk(Duration::from_secs(12));
    caller.hang_up();
    callee.wait_event("CALL_CLOSED");
    caller.quit();
    speech::assert_heard(caller.said(), callee.said(), &callee.heard());
    speech::assert_heard(callee.said(), caller.said(), caller.heard());
}

#[test]
fn linphone_speaks_opus_over_udp() {
    linphone_and_baresip_hear_each_other("harness-linphone-udp", Outer::Udp, "udp", false);
}

#[test]
fn linphone_speaks_opus_over_tls_with_srtp() {
    linphone_and_baresip_hear_each_other("harness-linphone-tls", Outer::Tls, "tls", true);
}

#[test]
fn kamailio_stays_in_the_way_of_a_call_over_tls() {
    let lane = Lane::take("harness-kamailio");
    let _floor = Floor::take();
    let authority = Authority::new("Tandem tests");
    let switch = Baresip::on(&lane, "switch").voice(Voice::Callee).start();
    let mut phone = Baresip::on(&lane, "phone").voice(Voice::Caller).tls(&authority).start();
    let proxy = Kamailio::start(&lane, Outer::Tls, switch.address(), phone.tls_address(), Some(&authority));
    phone.dial(&format!("sip:switch@{};transport=tls", proxy.outer()));
    phone.wait_event("CALL_ESTABLISHED");
    phone.hang_up();
    switch.wait_event("CALL_CLOSED");
    assert!(proxy.log().contains("proxy: BYE"), "the BYE passed the proxy by");
}

#[test]
fn prometheus_answers_what_it_scraped() {
    let lane = Lane::take("harness-prometheus");
    let first = Prometheus::start(&lane, &[], &[]);
    let lane = Lane::take("harness-prometheus-2");
    let second = Prometheus::start(&lane, &[first.address()], &[]);
    second.wait_scraped(1);
    assert!(second.wait_value("sum(prometheus_build_info)", |value| value > 0.0) == 1.0);
    assert!(second.try_query("sum(").is_err());
}

#[test]
fn sipp_plays_operator_and_caller_and_shows_what_it_received() {
    let lane = Lane::take("harness-sipp");
    let operator = Sipp::server(&lane, "operator-asks-407").key("operator_realm", "operator.test").start();
    let caller = Sipp::client(&lane, "user-calls", operator.address()).user("alice").number("+32470123456");
    let caller = caller.pause(Duration::from_millis(200)).start().succeed();
    let operator = operator.succeed();
    assert_eq!(caller.responses(407).len(), 1);
    let field = operator.requests("INVITE")[1].header("Proxy-Authorization").expect("a proof");
    assert!(digest::proves(field, "INVITE", PASSWORD), "{field}");
    assert!(!digest::proves(field, "INVITE", "another"), "{field}");
    assert_eq!(operator.request("INVITE").sdp("a=rtpmap:111 ").next(), Some("opus/48000/2"));

    let refusing = Sipp::server(&lane, "operator-refuses").code(486, "Busy Here").start();
    let caller = Sipp::client(&lane, "operator-is-refused", refusing.address())
        .code(486, "")
        .key("calling", "+3225559999");
    assert!(caller.start().succeed().response(486).header("Server").is_some());
    assert_eq!(refusing.succeed().count("FailedCall(C)"), 0);
}

/// A thousand packets, 20 ms apart, through one impaired stream: what came out, and what the stream says it did.
fn through(plan: &Impairment) -> (Vec<u16>, Tally) {
    let mut stream = ImpairedStream::new(plan);
    let start = Instant::now();
    let mut arrived = Vec::new();
    let mut take = |stream: &mut ImpairedStream, now: Instant| {
        while let Some(packet) = stream.poll_output(now) {
            arrived.push(u16::from_be_bytes([packet.bytes[2], packet.bytes[3]]));
        }
    };
    for count in 0..1_000_u16 {
        let sent = start + 20 * Duration::from_millis(1) * u32::from(count);
        take(&mut stream, sent);
        stream.handle_input(sent, packet(count));
    }
    take(&mut stream, start + Duration::from_secs(60));
    (arrived, stream.tally().clone())
}

fn packet(count: u16) -> Packet {
    let [high, low] = count.to_be_bytes();
    Packet { port: MediaPort::Rtp, bytes: vec![0x80, 8, high, low] }
}

#[test]
fn a_wire_can_make_a_clock_that_is_right_a_slow_or_a_fast_one() {
    let (delay, tick) = (Duration::from_millis(50), Duration::from_millis(20));
    for drift_ppm in [-2_000, 2_000] {
        let drifting = Impairments { drift_ppm, ..Impairments::default() };
        let mut stream = ImpairedStream::new(&Impairment::none().by_chance(drifting, 1).delay(delay));
        let start = Instant::now();
        for count in 0..1_000_u16 {
            let sent = tick * u32::from(count);
            stream.handle_input(start + sent, packet(count));
            let due = stream.poll_timeout().expect("it is on its way");
            let moved = sent.as_nanos() as i64 * i64::from(drift_ppm) / 1_000_000;
            let expected = (sent + delay).as_nanos() as i64 + moved;
            assert_eq!((due - start).as_nanos() as i64, expected, "packet {count} at {drift_ppm} ppm");
            assert_eq!(stream.poll_output(due), Some(packet(count)));
        }
        assert_eq!(stream.tally().delivered, 1_000);
    }
}

#[test]
fn a_wire_of_chances_tells_what_it_did_and_leaves_the_script_alone() {
    let chances = Impairments {
        loss: Loss::Random(0.05),
        detour: (0.05, Duration::from_millis(50)),
        doubled: 0.05,
        ..Impairments::default()
    };
    let plan = |seed| Impairment::script([(500, Fate::Drop), (501, Fate::Pass)]).by_chance(chances, seed);
    let (arrived, tally) = through(&plan(1));
    assert_eq!((&arrived, &tally), (&through(&plan(1)).0, &through(&plan(1)).1));
    assert_ne!(tally.dropped, through(&plan(2)).1.dropped);
    for share in [&tally.dropped, &tally.doubled, &tally.overtaken] {
        assert!((20..=90).contains(&share.len()), "{tally:?}");
    }
    assert!(tally.dropped.contains(&500) && !tally.dropped.contains(&501));
    assert_eq!(arrived.len(), 1_000 + tally.doubled.len() - tally.dropped.len());
    assert_eq!((tally.seen, tally.delivered), (1_000, arrived.len() as u64));
    let times = |packet: u16| arrived.iter().filter(|arrived| **arrived == packet).count();
    assert!(tally.dropped.iter().all(|packet| times(*packet) == 0));
    assert!(tally.doubled.iter().all(|packet| times(*packet) == 2));
    let behind = |place: &usize| arrived[..*place].iter().any(|before| *before > arrived[*place]);
    let behind: Vec<u16> = (0..arrived.len()).filter(behind).map(|place| arrived[place]).collect();
    assert_eq!(behind, tally.overtaken);
    // The others meet what they would without a script.
    let alone = through(&Impairment::none().by_chance(chances, 1)).1;
    let of_chance =
        |dropped: &[u16]| dropped.iter().copied().filter(|packet| *packet < 500).collect::<Vec<_>>();
    assert_eq!(of_chance(&alone.dropped), of_chance(&tally.dropped));
}

#[test]
fn a_wire_stays_in_the_way_of_a_call_and_does_to_its_media_what_the_script_says() {
    let lane = Lane::take("harness-wire");
    let operator = Sipp::server(&lane, "operator-asks-407").key("operator_realm", "operator.test");
    let operator = operator.arg("-rtp_echo").start();
    let fates = [(3, Fate::Drop), (4, Fate::Drop), (6, Fate::Twice), (8, Fate::Behind(2))];
    let back = Duration::from_millis(100);
    let wire = Wire::on(&lane, operator.address()).to_gateway(Impairment::script(fates));
    let wire = wire.to_peer(Impairment::none().delay(back)).start();
    let caller = Sipp::client(&lane, "user-calls", wire.address()).user("alice").number("+32470123456");
    let caller = caller.pause(Duration::from_secs(2)).start();
    let at = rtp::audio_of(&caller.wait_status(200));
    let asked = rtp::audio_of(&operator.wait_request("INVITE"));
    assert!(at.port() != operator.media_port() && asked.port() != caller.media_port());
    let phone = RtpSocket::new(&lane);
    let sent = Instant::now();
    for count in 0..12 {
        phone.send(at, 8, count, 160, &[0xd5; 160]);
    }
    let heard: Vec<u16> =
        (0..11).filter_map(|_| phone.receive(wait::SOON)).map(|packet| packet.sequence).collect();
    assert_eq!(heard, [0, 1, 2, 5, 6, 6, 7, 9, 10, 8, 11]);
    assert!(sent.elapsed() >= back);
    // It counts after it has sent.
    let tallies = wait::until("the wire to count", wait::SOON, || {
        Some(wire.call()).filter(|tallies| tallies.to_peer.delivered >= 11)
    });
    let expected = Tally {
        seen: 12,
        delivered: 11,
        dropped: vec![3, 4],
        doubled: vec![6],
        overtaken: vec![8],
        reports: 0,
        voip_metrics: 0,
    };
    assert_eq!(tallies.to_gateway, expected);
    assert_eq!((tallies.to_peer.seen, tallies.to_peer.delivered), (11, 11));
    caller.succeed();
    let operator = operator.succeed();
    assert!(
        operator
            .request("BYE")
            .headers("Via")
            .next()
            .is_some_and(|via| via.contains(&wire.address().to_string()))
    );
}
