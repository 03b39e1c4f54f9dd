//! What happens to the voice and its packets on their way through.

use crate::scene::{ALICE, BLINK, MOBILE, SECOND, alice, builder, gateway, incoming, operator};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::Gateway,
    lane::Lane,
    raw_sip::{self, RawUdp},
    rtp::{self, RtpSocket},
    speech::{Floor, Voice},
    wait,
};
use std::time::{Duration, Instant};
use tandem::media::codec::g711::Law;

/// A frame of Opus that says nothing: 20 ms of CELT without content (RFC 6716 §3.1).
const OPUS_SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];
const TICK: Duration = Duration::from_millis(20);

/// Writes two seconds of a 1 kHz tone as bare A-law, as SIPp plays it; gives its path.
pub fn announcement(lane: &Lane) -> String {
    let file = lane.path("announcement.alaw");
    let samples = (0..16_000).map(|index| {
        let angle = f64::from(index) * 1_000.0 / 8_000.0 * 2.0 * std::f64::consts::PI;
        a_law((angle.sin() * 8_000.0) as i16)
    });
    std::fs::write(&file, samples.collect::<Vec<u8>>()).expect("a sound file");
    file.display().to_string()
}

/// One sample in A-law (ITU-T G.711, table 1a).
pub fn a_law(sample: i16) -> u8 {
    let (sign, magnitude) = if sample >= 0 { (0xd5, sample) } else { (0x55, !sample) };
    let magnitude = magnitude >> 4;
    let code = if magnitude < 16 {
        magnitude as u8
    } else {
        let exponent = 15 - magnitude.leading_zeros() as u8 - 4 + 1;
        (exponent << 4) | ((magnitude >> (exponent - 1)) as u8 & 0x0f)
    };
    code ^ sign
}

#[test]
fn keys_that_are_pressed_arrive_once_each_on_both_sides() {
    let lane = Lane::take("media-dtmf");
    let _floor = Floor::take();
    let callee = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway = Gateway::on(&lane).set("sip.digest", vec![toml::Value::from("MD5")]);
    let gateway = gateway.user("alice", ALICE).trunk("operator-a", callee.address()).start();
    let mut caller = Baresip::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    caller.dial(MOBILE);
    caller.wait_event("CALL_ESTABLISHED");
    caller.press("159#");
    wait::until("the keys at the operator's phone", wait::SOON, || {
        (callee.keys_heard() == "159#").then_some(())
    });
    callee.press("*024");
    wait::until("the keys at the user's phone", wait::SOON, || (caller.keys_heard() == "*024").then_some(()));
    // Neither more often than pressed, nor back to where they came from.
    assert!(wait::never(SECOND, || callee.keys_heard() != "159#" || caller.keys_heard() != "*024"));
}

#[test]
fn both_legs_are_told_by_rtcp_how_they_are_heard() {
    let lane = Lane::take("media-rtcp");
    let _floor = Floor::take();
    let callee = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway = Gateway::on(&lane).set("sip.digest", vec![toml::Value::from("MD5")]);
    let gateway = gateway.user("alice", ALICE).trunk("operator-a", callee.address()).start();
    let mut caller = Baresip::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    caller.dial(MOBILE);
    caller.wait_event("CALL_ESTABLISHED");
    // `tx` is what we report of its stream, `rx` what our sender reports say of ours.
    let told = |phone: &Baresip| {
        phone.events().lines().iter().any(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            event["type"] == "CALL_RTCP"
                && event["rtcp_stats"]["rx"]["sent"].as_u64().is_some_and(|sent| sent > 0)
        })
    };
    for phone in [&caller, &callee] {
        wait::until("a sender report", Duration::from_secs(20), || told(phone).then_some(()));
    }
    // The other way: their next reports, five seconds later, answer ours and give the round trip.
    wait::talk(7 * SECOND);
    caller.hang_up();
    caller.wait_event("CALL_CLOSED");
    let cdr = gateway.wait_cdr();
    for leg in ["caller_leg", "callee_leg"] {
        let round_trip =
            cdr[leg]["rtt_ms"].as_f64().unwrap_or_else(|| panic!("no round trip of the {leg}: {cdr:#}"));
        assert!((0.0..1_000.0).contains(&round_trip), "{leg}: {round_trip} ms");
    }
}

#[test]
fn a_users_media_goes_to_where_its_comes_from_once_and_nowhere_else_after() {
    let lane = Lane::take("media-latch");
    let file = announcement(&lane);
    let switch = operator(&lane, "operator-speaks").fill("announcement", &file).start();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-calls").pause(4 * SECOND).start();
    let at = rtp::audio_of(&caller.wait_status(200));
    let (phone, thief) = (RtpSocket::new(&lane), RtpSocket::new(&lane));
    phone.send(at, 111, 1, 960, &OPUS_SILENCE);
    let first = phone.receive(SECOND).expect("the announcement comes to where the phone's packet came from");
    assert_eq!(first.payload_type, 111);
    for count in 1..20 {
        thief.send(at, 111, count, 960, &OPUS_SILENCE);
    }
    phone.drain();
    assert!(phone.receive(SECOND).is_some(), "the phone lost its stream to somebody else");
    assert!(thief.receive(BLINK * 3).is_none(), "somebody else got the stream");
    caller.succeed();
    switch.succeed();
}

#[test]
fn without_latching_only_the_address_in_the_session_counts() {
    let lane = Lane::take("media-strict");
    let file = announcement(&lane);
    let switch = operator(&lane, "operator-speaks").fill("announcement", &file).start();
    let gateway = builder(&lane, &switch).set("app.latch", false).start();
    let caller = alice(&lane, &gateway, "user-calls").pause(2 * SECOND).start();
    let at = rtp::audio_of(&caller.wait_status(200));
    let other = RtpSocket::new(&lane);
    other.send(at, 111, 1, 960, &OPUS_SILENCE);
    assert!(other.receive(SECOND).is_none(), "the stream went to an address that no session names");
    caller.succeed();
    switch.succeed();
}

#[test]
fn a_stranger_cannot_speak_into_a_trunks_call() {
    let lane = Lane::take("media-injection");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start();
    let at = rtp::audio_of(&caller.wait_status(200));
    let trunk_side = rtp::audio_of(&switch.wait_request("INVITE"));
    let (phone, stranger) = (RtpSocket::new(&lane), RtpSocket::new(&lane));
    phone.send(at, 111, 1, 960, &OPUS_SILENCE);
    for count in 1..25 {
        stranger.send(trunk_side, 8, count, 160, &[0x2a; 160]);
    }
    assert!(phone.receive(SECOND).is_none(), "the stranger was heard");
    caller.succeed();
    switch.succeed();
}

#[test]
fn the_announcement_before_the_answer_is_heard() {
    let lane = Lane::take("media-early");
    let file = announcement(&lane);
    let switch = operator(&lane, "operator-plays-before-the-answer").fill("announcement", &file);
    let switch = switch.pause(3 * SECOND).start();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-calls").start();
    let at = rtp::audio_of(&caller.wait_status(183));
    let phone = RtpSocket::new(&lane);
    phone.send(at, 111, 1, 960, &OPUS_SILENCE);
    let heard = (0..25).filter_map(|_| phone.receive(BLINK)).count();
    let answered = caller.messages().iter().any(|message| !message.sent && message.status() == Some(200));
    assert!(heard >= 20 && !answered, "{heard} packets before the answer");
    caller.succeed();
    switch.succeed();
}

#[test]
fn packets_are_as_long_as_the_far_end_wants_and_their_clock_is_opus_48_khz() {
    let lane = Lane::take("media-ptime");
    let file = announcement(&lane);
    let switch = operator(&lane, "operator-speaks").fill("announcement", &file).start();
    let gateway = builder(&lane, &switch).set("media.ptime_ms", 40).start();
    let caller = alice(&lane, &gateway, "user-calls").pause(2 * SECOND).start();
    let answer = caller.wait_status(200);
    assert_eq!(answer.sdp("a=ptime:").next(), Some("40"), "what we would like");
    assert_eq!(switch.wait_request("INVITE").sdp("a=ptime:").next(), Some("40"));
    let phone = RtpSocket::new(&lane);
    phone.send(rtp::audio_of(&answer), 111, 1, 960, &OPUS_SILENCE);
    let packets: Vec<_> = (0..10).filter_map(|_| phone.receive(SECOND)).collect();
    let steps: Vec<_> = packets
        .windows(2)
        .filter(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1))
        .map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp))
        .collect();
    // The caller's session says a=ptime:20.
    assert!(steps.len() >= 5 && steps.iter().all(|step| *step == 960), "{steps:?}");
    assert!(packets.iter().all(|packet| packet.ssrc == packets[0].ssrc));
    caller.succeed();
    switch.succeed();
}

#[test]
fn the_session_says_how_opus_is_sent() {
    let lane = Lane::take("media-opus");
    let switch = operator(&lane, "operator-answers").start();
    let gateway =
        builder(&lane, &switch).set("opus.bitrate", 16_000).set("opus.fec", false).set("opus.dtx", false);
    let gateway = gateway.start();
    let caller = alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    let answer = caller.response(200);
    let format = answer.sdp("a=fmtp:111 ").next().unwrap_or_default();
    assert!(format.contains("maxaveragebitrate=16000"), "{format}");
    assert!(!format.contains("usedtx=1"), "{format}");
    switch.succeed();
}

#[test]
fn signalling_and_media_carry_their_marks() {
    let lane = Lane::take("media-dscp");
    let file = announcement(&lane);
    let switch = operator(&lane, "operator-speaks").fill("announcement", &file).start();
    let gateway = builder(&lane, &switch).set("network.dscp_signalling", "af31").start();
    let asking = RawUdp::new(&lane).towards(gateway.udp());
    asking.send(raw_sip::options(gateway.udp(), asking.local(), "dscp", ""));
    assert_eq!(rtp::dscp_of_next(asking.socket(), SECOND), Some(26));
    let caller = alice(&lane, &gateway, "user-calls").pause(2 * SECOND).start();
    let phone = RtpSocket::new(&lane);
    phone.send(rtp::audio_of(&caller.wait_status(200)), 111, 1, 960, &OPUS_SILENCE);
    phone.receive(SECOND).expect("the announcement");
    assert_eq!(rtp::dscp_of_next(phone.as_ref(), SECOND), Some(46), "ef by default");
    caller.succeed();
    switch.succeed();
}

#[test]
fn a_port_that_was_freed_rests_before_it_is_used_again() {
    let lane = Lane::take("media-rest");
    let switch = operator(&lane, "operator-answers").pause(TICK).calls(2).start();
    let first = lane.even_ports(8);
    let gateway =
        builder(&lane, &switch).set("network.media_ports", format!("{first}-{}", first + 7)).start();
    let ports = || {
        let caller = alice(&lane, &gateway, "user-calls").pause(TICK).start().succeed();
        rtp::audio_of(caller.response(200)).port()
    };
    let used = [ports(), ports()];
    assert_ne!(used[0], used[1], "the second call got the port of the first at once");
    switch.succeed();
}

#[test]
fn one_way_audio_is_noticed() {
    let lane = Lane::take("media-one-way");
    let file = announcement(&lane);
    let switch = operator(&lane, "operator-speaks").fill("announcement", &file).start();
    let gateway = gateway(&lane, &switch);
    alice(&lane, &gateway, "user-calls").pause(2 * SECOND).start().succeed();
    switch.succeed();
    gateway.wait_metric("tandem_media_one_way_total", &[("trunk", "operator-a")], 1.0);
}

#[test]
fn each_trunk_is_offered_the_codecs_it_wants_in_their_order() {
    let lane = Lane::take("media-codecs");
    let switch = operator(&lane, "operator-answers").start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("codecs", ["PCMU", "PCMA"].map(toml::Value::from).to_vec());
        });
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    let switch = switch.succeed();
    let media = switch.request("INVITE").sdp("m=audio ").next().unwrap_or_default().to_owned();
    assert!(media.contains("RTP/AVP 0 8"), "{media}");
}

/// True of a frame at 8 kHz most of whose power lies in one frequency.
pub fn rings(samples: &[i16], hertz: f64) -> bool {
    let step = std::f64::consts::TAU * hertz / 8_000.0;
    let (mut real, mut imaginary, mut all) = (0.0, 0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        let sample = f64::from(*sample);
        real += sample * (step * at as f64).cos();
        imaginary += sample * (step * at as f64).sin();
        all += sample * sample;
    }
    all > 1e6 && 2.0 * (real * real + imaginary * imaginary) / samples.len() as f64 > 0.9 * all
}

/// The ringback tone of France, in A-law.
fn is_ringback(packet: &rtp::RtpPacket) -> bool {
    let samples: Vec<i16> = packet.payload.iter().map(|code| Law::A.expand(*code)).collect();
    rings(&samples, 440.0)
}

/// A trunk's caller is told of early media that comes only where it `comes`; what it hears until the answer, and after.
fn heard_before_the_answer(comes: bool) -> (Vec<rtp::RtpPacket>, Vec<rtp::RtpPacket>) {
    const VOICE: [u8; 160] = [0x55; 160];
    let lane = Lane::take(&format!("media-ringback-{comes}"));
    let from = lane.port();
    let ear = RtpSocket::new(&lane);
    let switch = operator(&lane, "operator-rings-after-183").pause(3 * SECOND).start();
    let gateway = Gateway::on(&lane)
        .set("media.ringback", "fr")
        .dialplan("country_code = \"32\"\n[[rule]]\nname = \"transit\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\ntrunks = [\"operator-b\"]\n")
        .trunk("operator-a", ([127, 0, 0, 1], from).into())
        .trunk_with("operator-b", switch.address(), |trunk| {
            trunk.set("latch", true);
        })
        .start();
    let port = ear.as_ref().local_addr().expect("an address").port();
    let caller =
        incoming(&lane, &gateway, "operator-calls", from, MOBILE).fill("audio", &port.to_string()).start();
    caller.wait_status(183);
    let at = rtp::audio_of(&switch.wait_request("INVITE"));
    // The tone is there, for longer than it takes to hear it.
    let mut before: Vec<_> = (0..20).filter_map(|_| ear.receive(wait::SOON)).collect();
    if comes {
        let line = RtpSocket::new(&lane);
        let mut sent = Instant::now();
        for count in 0..40 {
            line.send(at, 8, count, 160, &VOICE);
            sent += TICK;
            while let Some(left) = sent.checked_duration_since(Instant::now()) {
                before.extend(ear.receive(left.max(Duration::from_millis(1))));
            }
        }
    }
    let mut after = Vec::new();
    while caller.messages().iter().all(|message| message.status() != Some(200)) {
        before.extend(ear.receive(TICK));
    }
    // What was on its way.
    let late = Instant::now() + 15 * TICK;
    while let Some(left) = late.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        before.extend(ear.receive(left));
    }
    while let Some(packet) = ear.receive(Duration::from_millis(500)) {
        after.push(packet);
    }
    caller.succeed();
    switch.succeed();
    (before, after)
}

#[test]
fn a_caller_hears_ringback_where_no_early_media_comes_and_none_behind_the_answer() {
    let (before, after) = heard_before_the_answer(false);
    let ringing = before.iter().filter(|packet| is_ringback(packet)).count();
    // A second and a half of it, in two seconds.
    assert!((60..=76).contains(&ringing), "{ringing} of {}", before.len());
    assert!(after.is_empty(), "{} packets behind the answer", after.len());
}

#[test]
fn ringback_ends_where_early_media_begins() {
    let (before, after) = heard_before_the_answer(true);
    let first = before.iter().position(|packet| packet.payload[0] == 0x55).expect("early media");
    let ringing = before.iter().filter(|packet| is_ringback(packet)).count();
    assert!(ringing >= 20 && ringing <= first, "{ringing} before {first}");
    assert!(before.len() - first >= 38, "{} of 40 heard", before.len() - first);
    assert!(before[first..].iter().all(|packet| packet.payload[0] == 0x55), "the tone comes again");
    assert!(after.is_empty());
}
