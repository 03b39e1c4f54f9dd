//! Key presses and silence as each trunk wants them: what its far side is sent, and what is made of what comes.

use crate::scene::{ALICE, BLINK, MOBILE, SECOND, alice, incoming, operator};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::{Gateway, GatewayBuilder},
    keys,
    lane::Lane,
    rtp::{self, RtpPacket, RtpSocket},
    sipp::Sipp,
    speech::{self, BARESIP_G711, Floor, Voice},
    wait,
    wav::Wav,
};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const KEYS: &str = "158#";
pub const TICK: Duration = Duration::from_millis(20);
/// A frame of Opus that says nothing: 20 ms of CELT without content (RFC 6716 §3.1).
pub const OPUS_SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];
/// Comfort noise at 8 kHz (RFC 3389 §4).
const NOISE: u8 = 13;

/// A gateway with alice and one trunk, which wants `key` so. For baresip, which stumbles over any challenge beside MD5.
fn gateway<'a>(
    lane: &'a Lane,
    trunk: SocketAddr,
    key: &str,
    value: impl Into<toml::Value>,
) -> GatewayBuilder<'a> {
    let gateway = Gateway::on(lane).set("sip.digest", vec![toml::Value::from("MD5")]).user("alice", ALICE);
    gateway.trunk_with("operator-a", trunk, |trunk| {
        trunk.set(key, value);
    })
}

/// The keys that sound in a recording.
fn keys_in(lane: &Lane, recording: &Path) -> String {
    let plain = lane.path("plain.wav");
    speech::convert(recording, &plain, BARESIP_G711);
    let samples: Vec<f64> = Wav::read(&plain).samples.into_iter().map(f64::from).collect();
    keys::found_in(&samples)
}

/// alice presses keys towards a trunk that has its keys so: those that the phone behind it is told, and those that it
/// hears.
fn pressed_towards(dtmf: &str) -> (String, String) {
    let lane = Lane::take(&format!("keys-out-{dtmf}"));
    let _floor = Floor::take();
    let line = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway = gateway(&lane, line.address(), "dtmf", dtmf).start();
    let mut phone = Baresip::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    phone.dial(MOBILE);
    phone.wait_event("CALL_ESTABLISHED");
    phone.press(KEYS);
    wait::talk(SECOND);
    phone.hang_up();
    phone.wait_event("CALL_CLOSED");
    line.wait_event("CALL_CLOSED");
    (line.keys_heard(), keys_in(&lane, &line.heard()))
}

#[test]
fn a_trunk_is_told_keys_by_events_or_in_the_voice_as_it_wants() {
    let nothing = String::new();
    assert_eq!(pressed_towards("rfc4733"), (KEYS.to_owned(), nothing.clone()));
    assert_eq!(pressed_towards("inband"), (nothing, KEYS.to_owned()));
}

/// A trunk that has its keys so plays their tones to alice's phone: the keys that it is told, and those that it hears.
fn played_from(dtmf: &str) -> (String, String) {
    let lane = Lane::take(&format!("keys-in-{dtmf}"));
    let _floor = Floor::take();
    let from = lane.port();
    let gateway = gateway(&lane, ([127, 0, 0, 1], from).into(), "dtmf", dtmf).start();
    let phone = Baresip::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    let switch = incoming(&lane, &gateway, "operator-calls-and-plays", from, ALICE);
    let switch = switch.fill("announcement", &keys::pressed(&lane, KEYS)).pause(3 * SECOND).start();
    let events = switch.wait_status(200).sdp("a=rtpmap:").any(|line| line.contains("telephone-event"));
    assert_eq!(events, dtmf == "rfc4733", "what the operator is answered");
    switch.succeed();
    phone.wait_event("CALL_CLOSED");
    (phone.keys_heard(), keys_in(&lane, &phone.heard()))
}

#[test]
fn tones_in_a_trunks_voice_are_keys_only_where_it_has_its_keys_there() {
    assert_eq!(played_from("rfc4733"), (String::new(), KEYS.to_owned()));
    assert_eq!(played_from("inband").0, KEYS);
}

/// Sends so many packets, one each 20 ms, and gives what comes at `ear` meanwhile.
pub fn speak(
    (mouth, to): (&RtpSocket, SocketAddr),
    (payload_type, step): (u8, u32),
    payload: &[u8],
    packets: std::ops::Range<u16>,
    ear: &RtpSocket,
) -> Vec<RtpPacket> {
    let mut heard = Vec::new();
    let mut due = Instant::now();
    for count in packets {
        mouth.send(to, payload_type, count, step, payload);
        due += TICK;
        heard.extend(listen(ear, due));
    }
    heard
}

/// What comes until then.
pub fn listen(ear: &RtpSocket, until: Instant) -> Vec<RtpPacket> {
    let mut heard = Vec::new();
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        heard.extend(ear.receive(left.max(Duration::from_millis(1))));
    }
    heard
}

/// What is sent while a side is silent that said so before.
struct Silences {
    /// To the operator, for two seconds in which the app sends nothing.
    to_trunk: Vec<RtpPacket>,
    /// To the app, for a second in which the operator describes its silence.
    to_app: Vec<RtpPacket>,
    discarded: u64,
}

/// An operator that takes comfort noise calls alice over a trunk that is set so.
fn silences(comfort_noise: bool) -> Silences {
    let lane = Lane::take(&format!("trunk-noise-{comfort_noise}"));
    let (from, device) = (lane.port(), lane.port());
    let (trunk, app) = (RtpSocket::new(&lane), RtpSocket::new(&lane));
    let gateway = gateway(&lane, ([127, 0, 0, 1], from).into(), "comfort_noise", comfort_noise).start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-answers").at_port(device).start();
    let port = trunk.as_ref().local_addr().expect("an address").port();
    let switch = incoming(&lane, &gateway, "operator-calls-with-comfort-noise", from, ALICE);
    let switch = switch.fill("audio", &port.to_string()).pause(6 * SECOND).start();
    let answer = switch.wait_status(200);
    let agreed = answer.sdp("m=audio ").next().is_some_and(|line| line.ends_with(" RTP/AVP 8 101 13"));
    assert_eq!(agreed, comfort_noise, "{}", answer.text);
    let offer = phone.wait_request("INVITE");
    let (to_trunk_leg, to_app_leg) = (rtp::audio_of(&answer), rtp::audio_of(&offer));
    // Whoever takes a codec is sent it by its own number, and sends it by the other side's (RFC 3264 §6.1).
    let opus = offer.sdp("a=rtpmap:").find_map(|line| line.split_once(" opus/")).expect("Opus").0;
    let opus = opus.parse().expect("a payload type");

    let sent = speak((&app, to_app_leg), (opus, 960), &OPUS_SILENCE, 0..50, &trunk);
    assert!(sent.len() > 40 && sent.iter().all(|packet| packet.payload_type == 8), "{}", sent.len());
    let to_trunk = listen(&trunk, Instant::now() + 2 * SECOND);
    app.drain();
    let spoken = speak((&trunk, to_trunk_leg), (8, 160), &[0xd5; 160], 0..25, &app);
    assert!(spoken.len() > 20, "{}", spoken.len());
    let mut to_app = Vec::new();
    // Each fifth of a second the level again: 60 dB below the top of the scale (RFC 3389 §3).
    for part in 0..5 {
        trunk.send_at(to_trunk_leg, NOISE, 25 + part, 160 * (25 + 10 * u32::from(part)), &[60]);
        to_app.extend(listen(&app, Instant::now() + 10 * TICK));
    }
    switch.succeed();
    phone.succeed();
    let discarded = gateway.wait_cdr()["caller_leg"]["packets_discarded"].as_u64().expect("a count");
    Silences { to_trunk, to_app, discarded }
}

/// What a trunk describes unasked is heard too: beside G.711 its number is nobody else's (RFC 3551 §6).
#[track_caller]
fn assert_heard(described: &Silences) {
    assert!(described.to_app.len() >= 45, "{} of 50 packets of noise", described.to_app.len());
    assert_eq!(described.discarded, 0);
}

#[test]
fn a_trunk_that_takes_comfort_noise_is_sent_it_for_silence() {
    let described = silences(true);
    let (noise, voice): (Vec<_>, Vec<_>) =
        described.to_trunk.iter().partition(|packet| packet.payload_type == NOISE);
    assert!((5..=25).contains(&noise.len()) && voice.len() < 20, "{} and {}", noise.len(), voice.len());
    // As silent as the app was: so many decibels below the top of the scale.
    assert!(noise.iter().all(|packet| packet.payload[0] >= 78), "{:?}", noise[0].payload);
    assert_heard(&described);
}

#[test]
fn a_trunk_that_takes_no_comfort_noise_is_sent_silence_as_sound() {
    let sounded = silences(false);
    assert!(sounded.to_trunk.iter().all(|packet| packet.payload_type == 8));
    assert!(sounded.to_trunk.len() >= 90, "{} of 100 packets of silence", sounded.to_trunk.len());
    assert_heard(&sounded);
}

#[test]
fn a_trunk_is_offered_comfort_noise_and_events_only_where_it_wants_them() {
    let cases = [
        ("comfort_noise", toml::Value::from(true), "8 0 101 13"),
        ("comfort_noise", false.into(), "8 0 101"),
        ("dtmf", "inband".into(), "8 0"),
    ];
    for (case, (key, value, formats)) in cases.into_iter().enumerate() {
        let lane = Lane::take(&format!("trunk-offer-{case}"));
        let switch = operator(&lane, "operator-answers").start();
        let gateway = gateway(&lane, switch.address(), key, value).start();
        alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
        let switch = switch.succeed();
        let media = switch.request("INVITE").sdp("m=audio ").next().unwrap_or_default();
        assert_eq!(media.split_once(" RTP/AVP ").map(|(_, formats)| formats), Some(formats), "{key}");
    }
}
