//! A far side changes its codec or its packets in the middle of a call, and both sides go on hearing each other
//! (RFC 3264 §8.3.2, RFC 3311).

use crate::media::announcement;
use crate::scene::{ALICE, MOBILE, SECOND, alice, incoming, operator};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::{Gateway, GatewayBuilder},
    lane::Lane,
    linphone::Linphone,
    sipp::{RunningSipp, Sipp},
    speech::{self, BARESIP_G711, Floor, Voice},
    tap::{Recording, Tap, number, octets},
    wait,
    wav::Wav,
};
use crate::talk::WORDS;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem::media::codec::opus::Decoder;

/// A gateway for baresip, which stumbles over any challenge beside MD5.
fn for_baresip(lane: &Lane) -> GatewayBuilder<'_> {
    Gateway::on(lane).set("sip.digest", vec![toml::Value::from("MD5")])
}

/// A voice packet as it was on the wire.
struct Packet {
    payload_type: u64,
    sequence: u64,
    timestamp: u64,
    octets: Vec<u8>,
}

/// What went to the media port of a peer, in order.
fn sent_to(wire: &Recording, port: u16) -> Vec<Packet> {
    let filter = format!("udp.dstport == {port} && rtp && !rtpevent");
    let packets = wire.packets(&filter, &["rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.payload"]);
    let packet = |fields: Vec<String>| Packet {
        payload_type: number(&fields[0]),
        sequence: number(&fields[1]),
        timestamp: number(&fields[2]),
        octets: octets(&fields[3]),
    };
    packets.into_iter().map(packet).collect()
}

/// A stream that began in A-law went over to µ-law without a gap; its sound from there on.
#[track_caller]
fn moved_to_mu_law(packets: &[Packet], file: &Path) {
    let types: Vec<u64> = packets.iter().map(|packet| packet.payload_type).collect();
    let change = types.iter().position(|kind| *kind == 0).unwrap_or_else(|| panic!("no µ-law: {types:?}"));
    assert!(change >= 25, "half a second of A-law: {types:?}");
    assert!(types[..change].iter().all(|kind| *kind == 8), "{types:?}");
    assert!(types[change..].iter().all(|kind| *kind == 0), "{types:?}");
    for pair in packets.windows(2) {
        assert_eq!(pair[1].sequence, (pair[0].sequence + 1) % 65_536);
    }
    let sound: Vec<u8> = packets[change..].iter().flat_map(|packet| packet.octets.clone()).collect();
    speech::of_mu_law(&sound, file);
}

/// A switch that plays a tone in A-law, moves to µ-law after two seconds, and then says its words.
struct Moving {
    words: PathBuf,
}

impl Moving {
    fn new(lane: &Lane) -> Moving {
        Moving { words: speech::mu_law(lane, Voice::Callee) }
    }

    fn plays(&self, lane: &Lane, switch: Sipp) -> Sipp {
        let switch = switch.fill("announcement", &announcement(lane)).pause(2 * SECOND);
        switch.fill("words", &self.words.display().to_string())
    }

    /// Once it has moved by this request of its, `phone` and it say their words; then `phone` hangs up. Each was heard.
    #[track_caller]
    fn speaks(&self, lane: &Lane, switch: RunningSipp, by: &str, phone: &mut Baresip, tap: Tap) {
        let answer = switch.wait_received("the answer to its offer", |message| {
            message.status() == Some(200) && message.header("CSeq") == Some(by)
        });
        assert_eq!(answer.sdp("a=rtpmap:").next(), Some("0 PCMU/8000"), "{}", answer.text);
        phone.speak_again();
        wait::talk(WORDS);
        phone.hang_up();
        phone.wait_event("CALL_CLOSED");
        let (sip, media) = (switch.address().port(), switch.media_port());
        switch.succeed();
        let heard = lane.path("switch-heard.wav");
        moved_to_mu_law(&sent_to(&tap.stop().sip_at(sip), media), &heard);
        let said = self.words.with_extension("wav");
        speech::assert_heard(phone.said(), &said, &heard);
        speech::assert_heard(&said, phone.said(), &phone.heard());
    }
}

#[test]
fn an_operator_that_was_called_moves_to_mu_law_by_a_reinvite() {
    let lane = Lane::take("codecs-reinvite");
    let _floor = Floor::take();
    let moving = Moving::new(&lane);
    let switch = moving.plays(&lane, operator(&lane, "operator-changes-its-codec")).start();
    let gateway = for_baresip(&lane).user("alice", ALICE).trunk("operator-a", switch.address()).start();
    let mut phone = Baresip::on(&lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    let tap = Tap::start(&lane);
    phone.dial(MOBILE);
    moving.speaks(&lane, switch, "1 INVITE", &mut phone, tap);
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["caller_codec"], &cdr["callee_codec"]), (&"opus".into(), &"PCMU".into()));
    assert!(cdr["callee_leg"]["mos_lq"].as_f64().is_some_and(|mos| mos > 3.5), "{cdr:#}");
}

#[test]
fn an_operator_that_calls_moves_to_mu_law_by_an_update() {
    let lane = Lane::take("codecs-update");
    let _floor = Floor::take();
    let moving = Moving::new(&lane);
    let from = lane.port();
    let gateway = for_baresip(&lane).user("alice", ALICE).trunk("operator-a", ([127, 0, 0, 1], from).into());
    let gateway = gateway.start();
    let mut phone = Baresip::on(&lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    let tap = Tap::start(&lane);
    let switch = incoming(&lane, &gateway, "operator-calls-and-changes-its-codec", from, ALICE);
    let switch = moving.plays(&lane, switch).start();
    moving.speaks(&lane, switch, "3 UPDATE", &mut phone, tap);
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["caller_codec"], &cdr["callee_codec"]), (&"PCMU".into(), &"opus".into()));
}

#[test]
fn an_operator_moves_to_mu_law_while_its_call_comes_from_another_one_in_a_law() {
    let lane = Lane::take("codecs-transit");
    let _floor = Floor::take();
    let moving = Moving::new(&lane);
    let switch = moving.plays(&lane, operator(&lane, "operator-changes-its-codec")).start();
    let mut line = Baresip::on(&lane, "+33140205050").codec(PhoneCodec::Pcma).voice(Voice::Caller).start();
    let gateway = Gateway::on(&lane)
        .dialplan(
            "country_code = \"32\"\n[[rule]]\nname = \"transit\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\n\
             trunks = [\"operator-b\"]\n",
        )
        .trunk("operator-a", line.address())
        .trunk("operator-b", switch.address())
        .start();
    let tap = Tap::start(&lane);
    line.dial(&format!("sip:{MOBILE}@{}", gateway.udp()));
    moving.speaks(&lane, switch, "1 INVITE", &mut line, tap);
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["caller_codec"], &cdr["callee_codec"]), (&"PCMA".into(), &"PCMU".into()));
}

/// A linphone behind the operator, alice's, and the gateway between them; they talk to each other.
fn two_linphones(lane: &Lane) -> (Linphone, Gateway<'_>, Linphone) {
    let line = Linphone::on(lane, MOBILE).pcma().voice(Voice::Callee).answers().start();
    let at = ([127, 0, 0, 1], line.sip_port()).into();
    let gateway = Gateway::on(lane).user("alice", ALICE).trunk("operator-a", at).start();
    let mut phone = Linphone::on(lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    phone.call(&format!("sip:{MOBILE}@tandem.test"));
    for phone in [&line, &phone] {
        phone.log().wait_for("Media streams established", wait::START);
    }
    (line, gateway, phone)
}

/// Both say their words, alice hangs up, and she was heard.
#[track_caller]
fn talk(line: &mut Linphone, phone: &mut Linphone) {
    // What is played in the first second of a stream is lost.
    wait::talk(Duration::from_millis(1_500));
    line.speak();
    phone.speak();
    wait::talk(WORDS);
    phone.hang_up();
    line.log().wait_for("ended", wait::SOON);
    line.quit();
    phone.quit();
    speech::assert_heard(phone.said(), line.said(), line.heard());
}

#[test]
fn a_phone_behind_an_operator_takes_its_call_back_from_hold_in_another_codec() {
    let lane = Lane::take("codecs-linphone");
    let _floor = Floor::take();
    let (mut line, gateway, mut phone) = two_linphones(&lane);
    assert_eq!(gateway.calls()[0]["callee_codec"], "PCMA");
    line.choose_mu_law();
    line.hold_and_take_back();
    wait::until("the other codec", wait::SOON, || {
        (gateway.calls()[0]["callee_codec"] == "PCMU").then_some(())
    });
    talk(&mut line, &mut phone);
    speech::assert_heard(line.said(), phone.said(), phone.heard());
}

/// How long the packets of a stream are in its clock, as far as their timestamps tell.
fn steps(packets: &[Packet]) -> Vec<u64> {
    let in_turn = packets.windows(2).filter(|pair| pair[1].sequence == (pair[0].sequence + 1) % 65_536);
    in_turn.map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) & 0xffff_ffff).collect()
}

/// Packets of 20 ms of Opus, so many at least, become such of 60 ms, and stay so.
#[track_caller]
fn became_longer(packets: &[Packet], least: usize) -> usize {
    let steps = steps(packets);
    let change = steps.iter().position(|step| *step == 2_880);
    let change = change.unwrap_or_else(|| panic!("no packet of 60 ms: {steps:?}"));
    assert!(steps[..change].iter().filter(|step| **step == 960).count() >= least, "{steps:?}");
    // One may be cut off where the change comes.
    assert!(steps[change + 1..].iter().all(|step| *step == 2_880), "{steps:?}");
    change
}

/// What libopus makes of these packets.
fn decode(packets: &[Packet], file: &Path) {
    let mut decoder = Decoder::new(BARESIP_G711.rate).expect("a decoder");
    let mut samples = Vec::new();
    for packet in packets {
        let mut pcm = [0; 960];
        let count = decoder.decode(&packet.octets, &mut pcm).expect("Opus");
        samples.extend_from_slice(&pcm[..count]);
    }
    Wav { rate: BARESIP_G711.rate, channels: 1, samples }.write(file);
}

#[test]
fn an_app_takes_its_call_back_from_hold_with_longer_packets() {
    let lane = Lane::take("codecs-ptime");
    let _floor = Floor::take();
    let tap = Tap::start(&lane);
    let (mut line, gateway, mut phone) = two_linphones(&lane);
    phone.choose_packets_of(60);
    phone.hold_and_take_back();
    talk(&mut line, &mut phone);
    let mut wire = tap.stop().sip_at(gateway.udp().port());
    let port = wire.audio_of(phone.sip_port());
    let packets = sent_to(&wire, port);
    // Who is called says nothing before. linphone's own buffer loses some of such packets: the wire is judged.
    let change = became_longer(&packets, 0);
    let heard = lane.path("heard.wav");
    decode(&packets[change..], &heard);
    speech::assert_heard(line.said(), phone.said(), &heard);
}

#[test]
fn an_app_asks_for_longer_packets_by_an_update() {
    let lane = Lane::take("codecs-ptime-update");
    let _floor = Floor::take();
    let mut line = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", line.address()).start();
    let tap = Tap::start(&lane);
    let phone = alice(&lane, &gateway, "user-calls-and-changes-its-packets").fill("ptime", "60");
    let phone = phone.pause(WORDS + SECOND).start();
    phone.wait_received("the answer to its UPDATE", |message| {
        message.status() == Some(200) && message.header("CSeq") == Some("3 UPDATE")
    });
    line.speak_again();
    let media = phone.media_port();
    phone.succeed();
    line.wait_event("CALL_CLOSED");
    let wire = tap.stop().sip_at(gateway.udp().port());
    let packets = sent_to(&wire, media);
    let change = became_longer(&packets, 25);
    let (heard, other) = (lane.path("heard.wav"), lane.path("other.wav"));
    decode(&packets[change..], &heard);
    Voice::Caller.record(&other, BARESIP_G711, Duration::ZERO);
    speech::assert_heard(line.said(), &other, &heard);
}
