//! Test lines: real phones and switches call the gateway itself, and hear what they should.

use crate::scene::{ALICE, BLINK, MOBILE, SECOND, incoming};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::{Gateway, GatewayBuilder, tandem},
    keys,
    lane::Lane,
    linphone::Linphone,
    sipp::{Played, Sipp},
    speech::{self, BARESIP_G711, Floor, Voice},
    tap::{Tap, octets},
    wait,
    wav::Wav,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const ECHO: &str = "+3225559901";
pub const TONE: &str = "+3225559902";
pub const SPEECH: &str = "+3225559903";
pub const BUSY: &str = "+3225559904";
pub const NO_ANSWER: &str = "+3225559905";
pub const DIGITS: &str = "+3225559906";

/// A voice of nine seconds, and what is late is still on its way.
const WORDS: Duration = Duration::from_secs(11);

pub fn dialplan() -> String {
    let lines = [
        (ECHO, "echo"),
        (TONE, "tone"),
        (SPEECH, "speech"),
        (BUSY, "busy"),
        (NO_ANSWER, "no-answer"),
        (DIGITS, "digits"),
    ];
    let rule = |(number, line): (&str, &str)| {
        format!("[[rule]]\nname = \"{line}\"\nfrom = \"any\"\nmatch = \"{number}\"\nto = \"line:{line}\"\n")
    };
    let rules: String = lines.map(rule).concat();
    let case = "[[expect]]\nfrom = \"alice\"\ndial = \"02 555 99 01\"\nline = \"echo\"\nrule = \"echo\"\n";
    format!("country_code = \"32\"\n{rules}{case}")
}

/// A gateway with lines, alice, and a trunk whose switch is at this port.
fn builder(lane: &Lane, trunk: u16) -> GatewayBuilder<'_> {
    let switch = SocketAddr::from((Ipv4Addr::LOCALHOST, trunk));
    let gateway = Gateway::on(lane).set("sip.digest", vec![toml::Value::from("MD5")]);
    gateway.user("alice", ALICE).trunk("operator-a", switch).dialplan(&dialplan())
}

/// Records words that nobody speaks in the test.
fn other_words(lane: &Lane) -> PathBuf {
    let file = lane.path("other.wav");
    Voice::Callee.record(&file, BARESIP_G711, Duration::ZERO);
    file
}

/// The recording that the speech line plays.
fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/simulator/speech/callee.wav")
}

#[test]
fn an_app_user_hears_its_own_voice_from_the_echo_line() {
    let lane = Lane::take("lines-echo-app");
    let _floor = Floor::take();
    let gateway = builder(&lane, lane.port()).start();
    let mut phone = Baresip::on(&lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    phone.dial(ECHO);
    phone.wait_event("CALL_ESTABLISHED");
    wait::talk(WORDS);
    phone.hang_up();
    phone.wait_event("CALL_CLOSED");
    speech::assert_heard(phone.said(), &other_words(&lane), &phone.heard());
    let cdr = gateway.wait_cdr();
    assert_eq!((cdr["called_line"].as_str(), cdr["direction"].as_str()), (Some("echo"), Some("app_to_app")));
    assert_eq!(
        (cdr["end_cause"].as_str(), cdr["caller_codec"].as_str()),
        (Some("normal_clearing"), Some("opus"))
    );
    for side in ["sell", "buy"] {
        assert_eq!(cdr[side]["not_rated"], "test_line");
    }
    let leg = &cdr["caller_leg"];
    assert!(
        leg["packets_received"].as_u64() > Some(400) && leg["packets_sent"].as_u64() > Some(400),
        "{leg:#}"
    );
    assert!(leg["mos_lq"].as_f64() > Some(3.5), "{leg:#}");
    assert_eq!(cdr["legs"].as_array().map(Vec::len), Some(0));
    gateway.wait_idle();
}

#[test]
fn an_operators_engineer_hears_the_own_voice_in_g711_and_gets_reports() {
    let lane = Lane::take("lines-echo-trunk");
    let _floor = Floor::take();
    let mut phone = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Caller).start();
    let gateway = builder(&lane, phone.address().port()).start();
    phone.dial(&format!("sip:{ECHO}@{}", gateway.udp()));
    phone.wait_event("CALL_ESTABLISHED");
    wait::talk(WORDS);
    phone.hang_up();
    phone.wait_event("CALL_CLOSED");
    speech::assert_heard(phone.said(), &other_words(&lane), &phone.heard());
    let told = phone.events().lines().iter().any(|line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        event["type"] == "CALL_RTCP" && event["rtcp_stats"]["rx"]["sent"].as_u64() > Some(0)
    });
    assert!(told, "no sender report of the line");
    let cdr = gateway.wait_cdr();
    assert_eq!(
        (cdr["called_line"].as_str(), cdr["ingress_trunk"].as_str()),
        (Some("echo"), Some("operator-a"))
    );
    assert_eq!(
        (cdr["direction"].as_str(), cdr["caller_codec"].as_str()),
        (Some("trunk_to_app"), Some("PCMA"))
    );
    assert!(cdr["caller_leg"]["rtt_ms"].is_number(), "{cdr:#}");
}

#[test]
fn a_recorded_voice_is_heard_again_and_again() {
    let lane = Lane::take("lines-speech");
    let _floor = Floor::take();
    let gateway = builder(&lane, lane.port()).start();
    let mut phone = Linphone::on(&lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    phone.call(&format!("sip:{SPEECH}@tandem.test"));
    phone.wait_answer_and_speak();
    wait::talk(2 * WORDS);
    phone.hang_up();
    phone.quit();
    speech::assert_heard_on_and_on(&recording(), phone.said(), phone.heard());
    // More than the recording holds, and still a voice at the end.
    let (spoken, heard) = (Wav::read(&recording()), Wav::read(phone.heard()));
    let seconds = |wav: &Wav| wav.samples.len() as u32 / u32::from(wav.channels) / wav.rate;
    assert!(seconds(&heard) > 2 * seconds(&spoken), "{} s heard", seconds(&heard));
    let last = &heard.samples[heard.samples.len() - 3 * heard.rate as usize * usize::from(heard.channels)..];
    let loud = last.iter().filter(|sample| sample.unsigned_abs() > 1_000).count();
    assert!(loud * 10 > last.len(), "{loud} of the last {} samples are loud", last.len());
}

/// Frequency and level (dBm0) of the middle of what a phone heard.
fn measured(heard: &Path) -> (f64, f64) {
    let wav = Wav::read(heard);
    let channels = usize::from(wav.channels);
    let left: Vec<f64> = wav.samples.iter().step_by(channels).map(|sample| f64::from(*sample)).collect();
    let rate = wav.rate as usize;
    let from = left.iter().position(|sample| sample.abs() > 500.0).expect("something is heard") + rate;
    let part = &left[from..from + 2 * rate];
    let crossings: Vec<f64> = part
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| pair[0] < 0.0 && pair[1] >= 0.0)
        .map(|(at, pair)| at as f64 + pair[0] / (pair[0] - pair[1]))
        .collect();
    let cycles = crossings.len() as f64 - 1.0;
    let hertz = cycles * rate as f64 / (crossings[crossings.len() - 1] - crossings[0]);
    let square = part.iter().map(|sample| sample * sample).sum::<f64>() / part.len() as f64;
    // A sine at the top of the scale has +3.14 dBm0 (ITU-T G.711 §4).
    #[allow(clippy::approx_constant, reason = "decibels, not pi")]
    const TOP_DBM0: f64 = 3.14;
    (hertz, 10.0 * (2.0 * square / 32_768f64.powi(2)).log10() + TOP_DBM0)
}

/// What a phone hears that has dialled, in Hz and dBm0.
fn listen(phone: &mut Baresip) -> (f64, f64) {
    phone.wait_event("CALL_ESTABLISHED");
    wait::talk(5 * SECOND);
    phone.hang_up();
    phone.wait_event("CALL_CLOSED");
    let (hertz, level) = measured(&phone.heard());
    println!("{hertz:.2} Hz, {level:.2} dBm0");
    (hertz, level)
}

#[test]
fn the_tone_has_the_frequency_and_level_that_an_engineer_measures() {
    let lane = Lane::take("lines-tone");
    let _floor = Floor::take();
    let mut phone = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcmu).voice(Voice::Caller).start();
    let gateway = builder(&lane, phone.address().port()).start();
    phone.dial(&format!("sip:{TONE}@{}", gateway.udp()));
    let (hertz, level) = listen(&mut phone);
    assert!((hertz - 1_004.0).abs() < 0.5, "{hertz} Hz");
    assert!((level + 10.0).abs() < 0.3, "{level} dBm0");
}

#[test]
fn the_tone_is_as_configured_in_opus_too() {
    let lane = Lane::take("lines-tone-opus");
    let _floor = Floor::take();
    let gateway =
        builder(&lane, lane.port()).set("lines.tone_hertz", 820).set("lines.tone_dbm0", -20).start();
    let mut phone = Baresip::on(&lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    phone.dial(TONE);
    let (hertz, level) = listen(&mut phone);
    assert!((hertz - 820.0).abs() < 1.0, "{hertz} Hz");
    // A codec of voices is not made for tones.
    assert!((level + 20.0).abs() < 2.0, "{level} dBm0");
}

#[test]
fn keys_that_are_pressed_are_played_back() {
    let lane = Lane::take("lines-digits");
    let _floor = Floor::take();
    let mut engineer = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).start();
    let gateway = builder(&lane, engineer.address().port()).start();
    engineer.dial(&format!("sip:{DIGITS}@{}", gateway.udp()));
    engineer.wait_event("CALL_ESTABLISHED");
    engineer.press("159#");
    wait::until("the keys to come back", wait::SOON, || (engineer.keys_heard() == "159#").then_some(()));
    engineer.press("*024");
    wait::until("the next ones", wait::SOON, || (engineer.keys_heard() == "159#*024").then_some(()));
    assert!(wait::never(3 * SECOND, || engineer.keys_heard() != "159#*024"), "once is enough");
    engineer.hang_up();
    engineer.wait_event("CALL_CLOSED");

    // Events in the 48 kHz of Opus, from a phone of another make.
    let mut phone = Linphone::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    phone.call(&format!("sip:{DIGITS}@tandem.test"));
    phone.wait_answer_and_speak();
    phone.press("73");
    for key in ["7", "3"] {
        phone.log().wait_for(&format!("Receiving tone {key}"), wait::SOON);
    }
    phone.hang_up();
    phone.quit();
}

/// One sample of A-law (ITU-T G.711, table 1a).
fn expanded(code: u8) -> f64 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = (i32::from(code >> 4 & 7), i32::from(code & 15));
    let magnitude = if exponent == 0 { mantissa * 16 + 8 } else { (mantissa * 16 + 264) << (exponent - 1) };
    f64::from(if code & 0x80 == 0 { -magnitude } else { magnitude })
}

#[test]
fn keys_of_a_trunk_without_events_are_heard_in_the_voice_and_played_back_in_it() {
    let lane = Lane::take("lines-tones");
    let trunk = lane.port();
    let switch = SocketAddr::from((Ipv4Addr::LOCALHOST, trunk));
    let gateway = Gateway::on(&lane).dialplan(&dialplan()).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", switch, |trunk| {
        trunk.set("dtmf", "inband");
    });
    let gateway = gateway.start();
    let tap = Tap::start(&lane);
    let caller = incoming(&lane, &gateway, "operator-calls-and-plays", trunk, DIGITS);
    let caller = caller.fill("announcement", &keys::pressed(&lane, "158#")).pause(5 * SECOND).start();
    let port = caller.media_port();
    caller.succeed();
    let wire = tap.stop().sip_at(trunk);
    let packets = wire.packets(&format!("rtp && udp.dstport == {port}"), &["rtp.payload"]);
    let sound: Vec<f64> = packets.iter().flat_map(|packet| octets(&packet[0])).map(expanded).collect();
    assert!(sound.len() > 4 * 8_000, "{} samples", sound.len());
    assert_eq!(keys::found_in(&sound), "158#");
}

/// An app user calls a line and is refused with this.
fn refused(lane: &Lane, gateway: &Gateway<'_>, number: &str, code: u16, phrase: &str) -> Played {
    let user = Sipp::client(lane, "user-is-refused", gateway.udp()).user("alice").number(number);
    user.code(code, phrase).start().succeed()
}

#[test]
fn busy_is_busy_and_no_answer_rings_for_as_long_as_it_may() {
    let lane = Lane::take("lines-refuse");
    let trunk = lane.port();
    let gateway = builder(&lane, trunk).set("limits.ring_seconds", 2).start();
    let user = refused(&lane, &gateway, BUSY, 486, "Busy Here");
    assert!(user.response(486).header("Reason").unwrap_or_default().starts_with("Q.850;cause=17"));
    let switch = incoming(&lane, &gateway, "operator-is-refused", trunk, BUSY).code(486, "Busy Here");
    switch.start().succeed();
    let user = refused(&lane, &gateway, NO_ANSWER, 480, "Temporarily Unavailable");
    assert_eq!(user.responses(180).len(), 1);
    assert!(user.response(480).header("Reason").unwrap_or_default().starts_with("Q.850;cause=19"));
    let cdrs = gateway.wait_cdrs(3);
    let told =
        |n: usize| (cdrs[n]["called_line"].as_str(), cdrs[n]["end_cause"].as_str(), cdrs[n]["q850"].as_u64());
    assert_eq!(told(0), (Some("busy"), Some("busy"), Some(17)));
    assert_eq!(told(1), (Some("busy"), Some("busy"), Some(17)));
    assert_eq!(told(2), (Some("no-answer"), Some("no_answer"), Some(19)));
    assert!(cdrs.iter().all(|cdr| cdr["sell"]["not_rated"] == "test_line"));
    gateway.wait_idle();
}

#[test]
fn a_line_is_left_by_the_gateway_when_its_time_is_over() {
    let lane = Lane::take("lines-longest");
    let gateway = builder(&lane, lane.port()).set("lines.max_duration_seconds", 1).start();
    let user = Sipp::client(&lane, "user-calls-and-is-hung-up-on", gateway.udp()).user("alice");
    user.number(SPEECH).pause(BLINK).start().succeed();
    let cdr = gateway.wait_cdr();
    assert_eq!(
        (cdr["end_cause"].as_str(), cdr["released_by"].as_str()),
        (Some("max_duration"), Some("gateway"))
    );
    assert!((1_000..1_500).contains(&cdr["duration_ms"].as_u64().unwrap_or_default()), "{cdr:#}");
}

#[test]
fn a_line_is_held_and_taken_back_by_a_switch_and_its_users() {
    let lane = Lane::take("lines-hold");
    let gateway = builder(&lane, lane.port()).start();
    let user = Sipp::client(&lane, "user-holds-and-resumes", gateway.udp()).user("alice");
    user.number(ECHO).pause(BLINK).start().succeed();
    assert_eq!(gateway.wait_cdr()["end_cause"], "normal_clearing");
    gateway.wait_idle();
}

#[test]
fn a_route_to_a_line_is_explained_and_one_to_no_line_is_an_error() {
    let lane = Lane::take("lines-route");
    let gateway = builder(&lane, lane.port()).start();
    let config = gateway.config_file().to_str().expect("a plain path").to_owned();
    let route = tandem(&["route", "--config", &config, "--from", "alice", "--to", "02 555 99 01"]);
    let text = String::from_utf8_lossy(&route.stdout).into_owned();
    let told = text.lines().find(|line| line.starts_with("test line")).unwrap_or_default();
    assert!(route.status.success() && told.ends_with(" echo: the caller hears itself"), "{text}");
    let view = gateway.get("/api/v1/route?from=trunk:operator-a&to=%2B3225559905");
    assert_eq!(
        (view["outcome"]["kind"].as_str(), view["outcome"]["line"].as_str()),
        (Some("line"), Some("no-answer"))
    );
    assert_eq!(view["max_duration_seconds"], 300);
    assert!(tandem(&["check", "--config", &config]).status.success());
    let sheet = tandem(&["interconnect-sheet", "--config", &config, "--trunk", "operator-a"]);
    let sheet = String::from_utf8_lossy(&sheet.stdout).into_owned();
    assert!(sheet.contains("| digits | +3225559906: plays back the keys that are pressed |"), "{sheet}");

    let other = Lane::take("lines-check");
    let wrong = builder(&other, other.port()).dialplan(&dialplan().replace("line:echo", "line:ecco")).write();
    let check = tandem(&["check", "--config", wrong.to_str().expect("a plain path")]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    assert_eq!(check.status.code(), Some(1));
    assert!(said.contains("dialplan.toml:6: ") && said.contains("did you mean \"line:echo\"?"), "{said}");
    // The case of the dialplan that expects the line fails where the rule leads elsewhere.
    let elsewhere = dialplan().replacen("line:echo", "line:tone", 1);
    let wrong = builder(&other, other.port()).dialplan(&elsewhere).write();
    let check = tandem(&["check", "--config", wrong.to_str().expect("a plain path")]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    assert!(check.status.code() == Some(1) && said.contains("line is \"tone\", expected \"echo\""), "{said}");
}
