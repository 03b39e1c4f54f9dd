//! `tandem call`, the test phone of the command line, through a gateway to a real landline and to SIPp.

use crate::scene::{ALICE, MOBILE, gateway, operator};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::{Gateway, PASSWORD, tandem},
    lane::Lane,
    speech::{self, BARESIP_G711, Floor, Voice},
    tls::Authority,
    wait,
};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path, time::Duration};

/// How a call ended: exit code, verdict, and what was told on the way.
struct Told {
    exit: Option<i32>,
    verdict: Value,
    errors: String,
}

/// Makes one call as alice; `more` are further options.
fn call(server: &str, password: &str, to: &str, more: &[&str]) -> Told {
    let who = ["call", "--server", server, "--user", "alice", "--password", password, "--to", to];
    let output = tandem(&[&who[..], more].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let verdict = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    Told { exit: output.status.code(), verdict, errors }
}

fn uri(at: SocketAddr, transport: &str) -> String {
    format!("sip:{at};transport={transport}")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// What the verdict must say of any call that went well.
#[track_caller]
fn assert_good(told: &Told, codec: &str, srtp: bool) {
    let call = &told.verdict["call"];
    assert_eq!(
        (told.exit, &told.verdict["ok"]),
        (Some(0), &json!(true)),
        "{:#} {}",
        told.verdict,
        told.errors
    );
    assert_eq!([&call["codec"], &call["srtp"]], [&json!(codec), &json!(srtp)]);
    assert_eq!((&call["status"], &call["ended_by"]), (&json!(200), &json!("us")));
    let set_up =
        |name: &str| call["set_up"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {call:#}"));
    assert!(set_up("ringing_ms") <= set_up("answered_ms") && set_up("answered_ms") < 5_000, "{call:#}");
    let media = |name: &str| call["media"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {call:#}"));
    let talked = call["talked_ms"].as_f64().expect("a duration");
    // Fifty packets a second, give or take the first and the last moments; Opus sends next to none in silence.
    let expected = talked / 20.0;
    let least = if codec == "opus" { 0.5 } else { 0.8 };
    for way in ["packets_sent", "packets_received"] {
        assert!((expected * least..expected * 1.1).contains(&media(way)), "{way} of {expected}: {call:#}");
    }
    assert!(media("packets_lost") <= 2.0 && media("jitter_ms") < 20.0, "{call:#}");
    assert!(media("mos_lq") > 4.0, "{call:#}");
}

#[test]
fn the_test_phone_and_a_landline_hear_each_other_over_tls_with_srtp() {
    let lane = Lane::take("phone-tls");
    let _floor = Floor::take();
    let authority = Authority::new("Tandem tests");
    let landline = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", landline.address());
    let gateway = gateway.tls(&authority).start();
    let (said, heard) = (lane.path("said.wav"), lane.path("heard.wav"));
    Voice::Caller.record(&said, BARESIP_G711, Duration::from_millis(500));
    let ca = authority.write(lane.folder());
    let told = call(
        &uri(gateway.tls(), "tls"),
        PASSWORD,
        MOBILE,
        &[
            &["--ca", text(&ca), "--play", text(&said), "--record", text(&heard), "--seconds", "12"][..],
            &["--expect", text(landline.said()), "--register", "--domain", "tandem.test"],
        ]
        .concat(),
    );
    landline.wait_event("CALL_CLOSED");
    assert_good(&told, "opus", true);
    assert_eq!(told.verdict["registration"]["status"], 200);
    let verdict = &told.verdict["call"]["heard"];
    assert!(verdict["coverage"].as_f64() > Some(0.95) && verdict["echo"].as_f64() < Some(0.1), "{verdict}");
    // The phone's own judgement, checked by the usual judge, on both ends.
    speech::assert_heard(landline.said(), &said, &heard);
    speech::assert_heard(&said, landline.said(), &landline.heard());
    gateway.wait_idle();
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["caller_user"], &cdr["released_by"]), (&json!("alice"), &json!("caller")));
}

/// A short call in one codec over one transport: the line is not silent.
fn a_short_call(test: &str, transport: &str, codec: &str, line: PhoneCodec) {
    let lane = Lane::take(test);
    let landline = Baresip::on(&lane, MOBILE).codec(line).voice(Voice::Callee).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", landline.address()).start();
    let told = call(&uri(gateway.udp(), transport), PASSWORD, MOBILE, &["--codec", codec, "--seconds", "3"]);
    landline.wait_event("CALL_CLOSED");
    assert_good(&told, &codec.to_uppercase(), false);
    let sound = &told.verdict["call"]["sound"];
    assert_eq!(sound["heard"], true);
    assert!(sound["sound_ms"].as_u64() > Some(1_000) && sound["echo"].as_f64() < Some(0.1), "{sound}");
    assert_eq!(told.verdict["call"]["heard"], Value::Null, "nobody said what there would be to hear");
    assert_eq!(gateway.wait_cdr()["caller_codec"], codec.to_uppercase());
}

#[test]
fn the_test_phone_speaks_a_law_over_udp() {
    a_short_call("phone-udp", "udp", "pcma", PhoneCodec::Pcmu);
}

#[test]
fn the_test_phone_speaks_mu_law_over_tcp() {
    a_short_call("phone-tcp", "tcp", "pcmu", PhoneCodec::Pcmu);
}

#[test]
fn the_test_phone_is_not_content_with_other_words_than_expected() {
    let lane = Lane::take("phone-other");
    let landline = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", landline.address()).start();
    // The simulated operator says something else than this landline does.
    let told =
        call(&uri(gateway.udp(), "udp"), PASSWORD, MOBILE, &["--seconds", "4", "--expect", "operator"]);
    assert_eq!(
        (told.exit, &told.verdict["flaw"]),
        (Some(1), &json!("not_what_was_said")),
        "{:#}",
        told.verdict
    );
    assert_eq!(told.verdict["call"]["heard"]["heard"], false);
    assert!(told.errors.contains("was not heard"), "{}", told.errors);
}

#[test]
fn the_test_phone_says_that_the_line_is_busy() {
    let lane = Lane::take("phone-busy");
    let switch = operator(&lane, "operator-refuses").code(486, "Busy Here").start();
    let gateway = gateway(&lane, &switch);
    let told = call(&uri(gateway.udp(), "udp"), PASSWORD, MOBILE, &["--json"]);
    switch.succeed();
    assert_eq!((told.exit, &told.verdict["flaw"]), (Some(1), &json!("not_answered")), "{:#}", told.verdict);
    let call = &told.verdict["call"];
    assert_eq!(
        (&call["status"], &call["answered_at"], &call["codec"]),
        (&json!(486), &Value::Null, &Value::Null)
    );
    assert!(call["reason"].as_str().is_some_and(|reason| reason.contains("cause=17")), "{call:#}");
    assert!(told.errors.contains("486 Busy Here"), "{}", told.errors);
}

#[test]
fn the_test_phone_says_that_the_line_is_silent() {
    let lane = Lane::take("phone-silent");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &switch);
    let told = call(&uri(gateway.udp(), "udp"), PASSWORD, MOBILE, &["--seconds", "1"]);
    switch.succeed();
    assert_eq!((told.exit, &told.verdict["flaw"]), (Some(1), &json!("nothing_heard")), "{:#}", told.verdict);
    assert_eq!(told.verdict["call"]["media"]["mos_lq"], Value::Null, "what was not measured is no figure");
    assert!(told.errors.contains("silent"), "{}", told.errors);
}

#[test]
fn the_test_phone_with_a_wrong_password_rings_nobody() {
    let lane = Lane::take("phone-password");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &switch);
    let server = uri(gateway.udp(), "udp");
    let told = call(&server, "wrong", MOBILE, &[]);
    assert_eq!((told.exit, &told.verdict["call"]["status"]), (Some(1), &json!(401)), "{:#}", told.verdict);
    assert!(told.errors.contains("not answered: 401"), "{}", told.errors);
    let told = call(&server, "wrong", MOBILE, &["--register"]);
    assert_eq!((told.exit, &told.verdict["flaw"]), (Some(1), &json!("not_registered")), "{:#}", told.verdict);
    assert_eq!((&told.verdict["registration"]["status"], &told.verdict["call"]), (&json!(401), &Value::Null));
    assert!(switch.messages().is_empty(), "nobody may be rung");
    assert_eq!(gateway.cdrs(), Vec::<Value>::new());
}

#[test]
fn the_test_phone_hangs_up_when_it_is_interrupted() {
    let lane = Lane::take("phone-interrupted");
    let landline = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", landline.address()).start();
    let mut command = std::process::Command::new(crate::support::gateway::BINARY);
    let server = uri(gateway.udp(), "udp");
    command.args(["call", "--server", &server, "--user", "alice", "--password", PASSWORD, "--to", MOBILE]);
    command.args(["--seconds", "60"]);
    let mut phone = crate::support::process::Process::start("tandem call", command);
    landline.wait_event("CALL_ESTABLISHED");
    wait::talk(Duration::from_secs(1));
    phone.signal(libc::SIGINT);
    assert!(phone.wait_exit(wait::SOON).success(), "it was answered and heard all the same");
    landline.wait_event("CALL_CLOSED");
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["released_by"], &cdr["end_cause"]), (&json!("caller"), &json!("normal_clearing")));
}

#[test]
fn the_test_phone_tells_wrong_usage_from_failure() {
    for wrong in [&["--codec", "g729"][..], &["--seconds", "0"], &["--srtp", "dtls"]] {
        let told = call("sip:127.0.0.1:5060", PASSWORD, MOBILE, wrong);
        assert_eq!((told.exit, &told.verdict), (Some(2), &Value::Null), "{wrong:?}: {}", told.errors);
    }
    let nowhere = call("sip:a b", PASSWORD, MOBILE, &[]);
    assert_eq!(nowhere.exit, Some(2), "{}", nowhere.errors);
    let missing = call("sip:127.0.0.1:5060", PASSWORD, MOBILE, &["--play", "there-is-no-such.wav"]);
    assert_eq!(missing.exit, Some(1), "{}", missing.errors);
}
