//! What goes over the wire between the gateway and real phones, as Wireshark reads it: marks, keys, reports.

use crate::scene::{ALICE, MOBILE, SECOND};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::{Gateway, GatewayBuilder},
    lane::Lane,
    linphone::Linphone,
    speech::{Floor, Voice},
    tap::{Recording, Tap, number},
    wait,
};
use std::collections::BTreeMap;

fn landline(lane: &Lane) -> Baresip {
    Baresip::on(lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start()
}

fn with_line<'a>(lane: &'a Lane, line: &Baresip) -> GatewayBuilder<'a> {
    let gateway = Gateway::on(lane).set("sip.digest", vec![toml::Value::from("MD5")]);
    gateway.user("alice", ALICE).trunk("operator-a", line.address())
}

#[test]
fn signalling_and_media_of_both_legs_are_marked_as_configured() {
    let lane = Lane::take("wire-dscp");
    let _floor = Floor::take();
    let line = landline(&lane);
    let tap = Tap::start(&lane);
    let gateway =
        with_line(&lane, &line).set("network.dscp_signalling", "af31").set("network.dscp_media", "cs5");
    let gateway = gateway.start();
    let mut phone = Baresip::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    phone.dial(MOBILE);
    phone.wait_event("CALL_ESTABLISHED");
    wait::talk(2 * SECOND);
    phone.hang_up();
    phone.wait_event("CALL_CLOSED");
    line.wait_event("CALL_CLOSED");
    let sip = gateway.udp().port();
    let mut wire = tap.stop().sip_at(sip);

    for (far, least) in [(phone.address().port(), 5), (line.address().port(), 3)] {
        let filter = format!("udp.srcport == {sip} && udp.dstport == {far}");
        let marks = wire.numbers(&filter, ["ip.dsfield.dscp"]);
        assert!(marks.len() >= least, "{} messages", marks.len());
        assert!(marks.iter().all(|mark| *mark == [26]), "{marks:?}");
    }
    let (_, last) = lane.all_ports();
    for phone in [&phone, &line] {
        let port = wire.audio_of(phone.address().port());
        // RTP and RTCP, from the gateway's media ports, the upper half of the lane.
        for (from, least) in [(port, 50), (port + 1, 1)] {
            let filter = format!("udp.srcport > {} && udp.dstport == {from}", last - 100);
            let marks = wire.numbers(&filter, ["ip.dsfield.dscp"]);
            assert!(marks.len() >= least, "{} packets to {from}", marks.len());
            assert!(marks.iter().all(|mark| *mark == [40]), "{marks:?}");
        }
    }
}

/// Keys pressed on the way to or from a port: each with its length, all in milliseconds, and when it began after the
/// first one.
fn keys(wire: &Recording, direction: &str, port: u16, clock: u64) -> Vec<(String, u64, u64)> {
    let filter = format!("{direction} == {port} && rtpevent.end_of_event == 1");
    let fields = ["rtp.timestamp", "rtpevent.event_id", "rtpevent.duration"];
    let mut keys = BTreeMap::new();
    for [timestamp, event, duration] in wire.numbers(&filter, fields) {
        keys.insert(timestamp, (event, duration));
    }
    let first = keys.keys().next().copied().unwrap_or_default();
    let per_ms = clock / 1_000;
    keys.into_iter()
        .map(|(timestamp, (event, duration))| {
            let key = b"0123456789*#"[event as usize] as char;
            (key.to_string(), duration / per_ms, (timestamp - first) / per_ms)
        })
        .collect()
}

/// The same keys, as long, and as far apart as the pace of packets allows.
#[track_caller]
fn assert_unstretched(pressed: &[(String, u64, u64)], arrived: &[(String, u64, u64)], wanted: &str) {
    let names = |keys: &[(String, u64, u64)]| keys.iter().map(|key| key.0.as_str()).collect::<String>();
    assert_eq!((names(pressed).as_str(), names(arrived).as_str()), (wanted, wanted));
    for (before, after) in pressed.iter().zip(arrived) {
        assert!(before.1 >= 40, "{pressed:?} are no keys of a person");
        assert_eq!(before.1, after.1, "length in ms: {pressed:?} became {arrived:?}");
        assert!(before.2.abs_diff(after.2) <= 40, "beginnings in ms: {pressed:?} became {arrived:?}");
    }
}

#[test]
fn keys_keep_their_length_between_48_and_8_khz_both_ways() {
    let lane = Lane::take("wire-keys");
    let _floor = Floor::take();
    let line = landline(&lane);
    let gateway = with_line(&lane, &line).start();
    let tap = Tap::start(&lane);
    let mut phone = Linphone::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    phone.call(&format!("sip:{MOBILE}@tandem.test"));
    line.wait_event("CALL_ESTABLISHED");
    phone.wait_answer_and_speak();
    // A key that is pressed before the first word has nothing to be measured against.
    wait::talk(SECOND);
    phone.press("159#");
    wait::until("the keys at the operator's phone", wait::SOON, || {
        (line.keys_heard() == "159#").then_some(())
    });
    line.press("*024");
    for key in ["*", "0", "2", "4"] {
        phone.log().wait_for(&format!("Receiving tone {key}"), wait::SOON);
    }
    phone.hang_up();
    line.wait_event("CALL_CLOSED");
    phone.quit();
    let mut wire = tap.stop().sip_at(gateway.udp().port());

    let offered = wire.packets(
        &format!("sip.Method == INVITE && sdp && udp.dstport == {}", gateway.udp().port()),
        &["sdp.media_attr"],
    );
    assert!(offered.iter().any(|offer| offer[0].contains("telephone-event/48000")), "{offered:?}");
    let (app, trunk) = (wire.audio_of(phone.sip_port()), wire.audio_of(line.address().port()));
    let pressed = keys(&wire, "udp.srcport", app, 48_000);
    assert_unstretched(&pressed, &keys(&wire, "udp.dstport", trunk, 8_000), "159#");
    let pressed = keys(&wire, "udp.srcport", trunk, 8_000);
    assert_unstretched(&pressed, &keys(&wire, "udp.dstport", app, 48_000), "*024");
}

/// What a stream's reports say, checked against its packets: the packets the sender counted, and the sender that the
/// receiver heard.
#[track_caller]
fn assert_reports(wire: &Recording, rtp_filter: &str, sender_filter: &str, receiver_filter: &str) {
    let packets = wire.packets(rtp_filter, &["frame.number", "rtp.ssrc"]);
    let ssrc = number(&packets.first().expect("RTP")[1]);
    let sender = wire.packets(
        &format!("{sender_filter} && rtcp.pt == 200"),
        &["frame.number", "rtcp.senderssrc", "rtcp.sender.packetcount"],
    );
    assert!(!sender.is_empty(), "no sender report");
    for report in &sender {
        // Source descriptions and goodbyes of the same packet repeat the identity.
        assert_eq!(number(report[1].split(',').next().unwrap_or_default()), ssrc);
        let before = packets.iter().filter(|packet| number(&packet[0]) < number(&report[0])).count() as u64;
        let counted = number(&report[2]);
        assert!(counted.abs_diff(before) <= 1, "{counted} counted, {before} on the wire");
    }
    let blocks = wire.packets(
        &format!("{receiver_filter} && rtcp.ssrc.fraction"),
        &["rtcp.ssrc.identifier", "rtcp.ssrc.fraction", "rtcp.ssrc.cum_nr"],
    );
    assert!(!blocks.is_empty(), "no report of what was received");
    for block in &blocks {
        assert_eq!(number(block[0].split(',').next().unwrap_or_default()), ssrc, "{blocks:?}");
        assert_eq!((block[1].as_str(), block[2].as_str()), ("0", "0"), "loss on loopback");
    }
}

#[test]
fn reports_of_the_gateway_and_of_both_phones_say_what_was_on_the_wire() {
    let lane = Lane::take("wire-rtcp");
    let _floor = Floor::take();
    let line = landline(&lane);
    let gateway = with_line(&lane, &line).start();
    let mut phone = Baresip::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    let tap = Tap::start(&lane);
    phone.dial(MOBILE);
    phone.wait_event("CALL_ESTABLISHED");
    // Phones report each five seconds; the second one answers ours.
    wait::talk(11 * SECOND);
    phone.hang_up();
    phone.wait_event("CALL_CLOSED");
    line.wait_event("CALL_CLOSED");
    let mut wire = tap.stop().sip_at(gateway.udp().port());
    for phone in [&phone, &line] {
        let port = wire.audio_of(phone.address().port());
        let (rtcp, to, from) = (port + 1, "udp.dstport ==", "udp.srcport ==");
        // Our stream: our sender reports, the phone's receiver reports. Then the phone's stream.
        for (out, back) in [(to, from), (from, to)] {
            assert_reports(
                &wire,
                &format!("{out} {port} && rtp && !rtpevent"),
                &format!("{out} {rtcp}"),
                &format!("{back} {rtcp}"),
            );
        }
    }
    // What the phones said has reached the call record, beside the round trip that their answers make known.
    let cdr = gateway.wait_cdr();
    for leg in ["caller_leg", "callee_leg"] {
        let told =
            |name: &str| cdr[leg][name].as_f64().unwrap_or_else(|| panic!("no {name} of {leg}: {cdr:#}"));
        assert_eq!(told("remote_loss"), 0.0);
        assert!((0.0..1_000.0).contains(&told("rtt_ms")) && told("remote_jitter_ms") < 100.0, "{cdr:#}");
    }
}
