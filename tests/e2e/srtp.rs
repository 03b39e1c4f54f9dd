//! SRTP by SDES in every suite, with phones whose SRTP nobody here wrote: baresip (libre) and linphone (libsrtp).

use crate::scene::{ALICE, MOBILE};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::Gateway,
    lane::Lane,
    linphone::Linphone,
    speech::{Floor, Voice},
    tls::Authority,
};
use crate::talk;
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
