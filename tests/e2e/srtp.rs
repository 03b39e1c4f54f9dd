//! SRTP by SDES in every suite, with peers whose SRTP nobody here wrote: baresip (libre), linphone and a talker (libsrtp).

use crate::scene::{ALICE, MOBILE};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::Gateway,
    lane::Lane,
    linphone::Linphone,
    raw_sip::RawUdp,
    speech::{Floor, Voice},
    tls::Authority,
    trace::TracedMessage,
};
use crate::talk;
use serde_json::Value;
use std::process::Command;
use toml::Value as Toml;

fn only(suite: &str) -> Vec<Toml> {
    vec![Toml::from(suite)]
}

/// A baresip calls a landline whose trunk takes one suite, and both hear each other.
fn over_a_trunk(test: &str, suite: &str) {
    let lane = Lane::take(test);
    let _floor = Floor::take();
    let callee = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).srtp().start();
    let gateway = Gateway::on(&lane).set("sip.digest", only("MD5")).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", callee.address(), |trunk| {
        trunk.set("srtp", "sdes").set("srtp_suites", only(suite));
    });
    let gateway = gateway.start();
    let mut caller = Baresip::on(&lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    talk::baresip(&mut caller, &callee, MOBILE);
    let cdr = gateway.wait_cdr();
    // The short tag is for RTP alone (RFC 4568 §6.2.2), but libre puts it on its RTCP too, which is not taken then.
    let most = if suite.ends_with("_32") { 10 } else { 0 };
    let discarded = cdr["callee_leg"]["packets_discarded"].as_u64();
    assert!(discarded.is_some_and(|discarded| discarded <= most), "each packet was proven: {cdr:#}");
}

#[test]
fn aes_256_in_galois_counter_mode_carries_the_voice_over_a_trunk() {
    over_a_trunk("srtp-gcm-256", "AEAD_AES_256_GCM");
}

#[test]
fn aes_128_in_galois_counter_mode_carries_the_voice_over_a_trunk() {
    over_a_trunk("srtp-gcm-128", "AEAD_AES_128_GCM");
}

#[test]
fn aes_128_in_counter_mode_carries_the_voice_over_a_trunk_with_a_tag_of_32_bits() {
    over_a_trunk("srtp-cm-128-32", "AES_CM_128_HMAC_SHA1_32");
}

/// A linphone whose user may use one suite calls a landline, and both hear each other.
fn from_an_app(test: &str, suite: &str) {
    let lane = Lane::take(test);
    let _floor = Floor::take();
    let authority = Authority::new("Tandem tests");
    let callee = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", callee.address()).tls(&authority);
    let gateway = gateway.set("app.srtp_suites", only(suite)).start();
    let caller = Linphone::on(&lane, "alice").voice(Voice::Caller).tls(&authority).srtp();
    let mut caller = caller.registers(gateway.tls(), "tls").start();
    talk::linphone(&mut caller, &callee);
    gateway.wait_idle();
}

#[test]
fn aes_256_in_counter_mode_carries_the_voice_of_a_linphone_with_a_tag_of_80_bits() {
    from_an_app("srtp-cm-256-80", "AES_256_CM_HMAC_SHA1_80");
}

#[test]
fn aes_256_in_counter_mode_carries_the_voice_of_a_linphone_with_a_tag_of_32_bits() {
    from_an_app("srtp-cm-256-32", "AES_256_CM_HMAC_SHA1_32");
}

const ECHO: &str = "+3225559901";

/// A request inside the dialog that the answer to an INVITE of `tag` made.
fn inside(from: &RawUdp, answer: &TracedMessage, tag: &str, cseq: &str) -> String {
    let (me, to) = (from.local(), answer.header("To").expect("a To"));
    let target = answer.header("Contact").expect("a Contact").trim_matches(['<', '>']).to_owned();
    let (number, method) = cseq.split_once(' ').expect("a number and a method");
    format!(
        "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK-{tag}-{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:+33140205050@{me}>;tag={tag}\r\nTo: {to}\r\nCall-ID: {tag}@raw\r\n\
         CSeq: {cseq}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// An operator announces the key identifier 7 in two octets and speaks to the echo line with `named` in its packets:
/// what its libsrtp made of what came back, and the record.
fn talk_with_a_key_identifier(test: &str, named: &str) -> (Value, Value) {
    let lane = Lane::take(test);
    let from = RawUdp::new(&lane);
    let echo = format!("[[rule]]\nname = \"echo\"\nfrom = \"any\"\nmatch = \"{ECHO}\"\nto = \"line:echo\"\n");
    let gateway = Gateway::on(&lane).trunk_with("operator-a", from.local(), |trunk| {
        trunk.set("srtp", "sdes");
    });
    let gateway = gateway.dialplan(&format!("country_code = \"32\"\n{echo}")).start();
    let from = from.towards(gateway.udp());
    let (media, key) = (lane.even_ports(2), "d2UgYXJlIG5vdCB0aGUga2V5cyBvZiB0b2RheSE0");
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {media} RTP/SAVP 8\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20|7:2\r\n"
    );
    let (status, answer) = from.ask(from.invite(ECHO, test, &sdp));
    assert_eq!(status, 200, "{answer}");
    let answer = TracedMessage::now(false, &answer);
    from.send(inside(&from, &answer, test, "1 ACK"));
    let port = answer.sdp("m=audio ").next().and_then(|line| line.split(' ').next()).expect("a port");
    let keys = answer.sdp("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:").next().expect("keys");
    let far_key = keys.strip_suffix("|7:2").expect("the identifier that was offered");
    let mut talker = Command::new("/usr/bin/python3");
    talker.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/srtp_talker.py"));
    talker.args(["--bind", &media.to_string(), "--far", &format!("127.0.0.1:{port}"), "--key", key]);
    let talked = talker.args(["--far-key", far_key, "--mki", named, "--far-mki", "0007"]).output();
    let talked = talked.expect("python3 runs");
    assert!(talked.status.success(), "{}", String::from_utf8_lossy(&talked.stderr));
    assert_eq!(from.ask(inside(&from, &answer, test, "2 BYE")).0, 200);
    (serde_json::from_slice(&talked.stdout).expect("JSON"), gateway.wait_cdr())
}

#[test]
fn packets_with_a_key_identifier_are_what_libsrtp_sends_and_takes() {
    let (talked, cdr) = talk_with_a_key_identifier("srtp-mki", "0007");
    let heard = talked["heard"].as_u64().expect("a number");
    assert!(heard > 40, "{talked}");
    assert_eq!(
        (&talked["ours"], &talked["named"], &talked["broken"]),
        (&heard.into(), &heard.into(), &0.into())
    );
    assert_eq!(cdr["caller_leg"]["packets_discarded"], 0, "{cdr:#}");
}

#[test]
fn packets_with_another_key_identifier_than_announced_are_not_heard() {
    let (talked, cdr) = talk_with_a_key_identifier("srtp-mki-other", "0008");
    assert_eq!(talked["heard"], 0, "{talked}");
    assert!(cdr["caller_leg"]["packets_discarded"].as_u64().is_some_and(|count| count >= 50), "{cdr:#}");
}
