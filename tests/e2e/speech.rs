//! Real phones talk through the gateway, and each hears the other's words (PESQ ≥ 3.7, and no other speech).

use crate::scene::{ALICE, BOB, MOBILE};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::{Gateway, GatewayBuilder},
    kamailio::{Kamailio, Outer},
    lane::Lane,
    linphone::Linphone,
    speech::{Floor, Voice},
    tls::Authority,
    wait,
};
use crate::talk::{self, WORDS};

/// The phone behind the operator: it answers for the number that is called.
fn landline(lane: &Lane, codec: PhoneCodec) -> Baresip {
    Baresip::on(lane, MOBILE).codec(codec).voice(Voice::Callee).start()
}

/// A gateway for baresip, which stumbles over any challenge beside MD5.
fn for_baresip(lane: &Lane) -> GatewayBuilder<'_> {
    Gateway::on(lane).set("sip.digest", vec![toml::Value::from("MD5")])
}

/// A baresip calls a landline and both speak.
fn baresip_calls(test: &str, transport: &'static str, secure: bool, line: PhoneCodec) {
    let lane = Lane::take(test);
    let _floor = Floor::take();
    let authority = Authority::new("Tandem tests");
    let callee = landline(&lane, line);
    let gateway =
        for_baresip(&lane).user("alice", ALICE).trunk("operator-a", callee.address()).tls(&authority).start();
    let at = if transport == "tls" { gateway.tls() } else { gateway.udp() };
    let caller = Baresip::on(&lane, "alice").voice(Voice::Caller).tls(&authority).registers(at, transport);
    let mut caller = if secure { caller.srtp() } else { caller }.start();
    talk::baresip(&mut caller, &callee, MOBILE);
    gateway.wait_idle();
}

#[test]
fn baresip_over_udp_and_an_a_law_line_hear_each_other() {
    baresip_calls("speech-baresip-udp", "udp", false, PhoneCodec::Pcma);
}

#[test]
fn baresip_over_tcp_and_a_mu_law_line_hear_each_other() {
    baresip_calls("speech-baresip-tcp", "tcp", false, PhoneCodec::Pcmu);
}

#[test]
fn baresip_over_tls_with_srtp_and_an_a_law_line_hear_each_other() {
    baresip_calls("speech-baresip-tls", "tls", true, PhoneCodec::Pcma);
}

/// A linphone calls a landline and both speak.
fn linphone_calls(test: &str, transport: &'static str, secure: bool) {
    let lane = Lane::take(test);
    let _floor = Floor::take();
    let authority = Authority::new("Tandem tests");
    let callee = landline(&lane, PhoneCodec::Pcma);
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", callee.address()).tls(&authority).start();
    let at = if transport == "tls" { gateway.tls() } else { gateway.udp() };
    let caller = Linphone::on(&lane, "alice").voice(Voice::Caller).tls(&authority).registers(at, transport);
    let mut caller = if secure { caller.srtp() } else { caller }.start();
    talk::linphone(&mut caller, &callee);
    gateway.wait_idle();
}

#[test]
fn linphone_over_udp_and_an_a_law_line_hear_each_other() {
    linphone_calls("speech-linphone-udp", "udp", false);
}

#[test]
fn linphone_over_tcp_and_an_a_law_line_hear_each_other() {
    linphone_calls("speech-linphone-tcp", "tcp", false);
}

#[test]
fn linphone_over_tls_with_srtp_and_an_a_law_line_hear_each_other() {
    linphone_calls("speech-linphone-tls", "tls", true);
}

#[test]
fn a_landline_calls_an_app_user_and_both_hear_each_other() {
    let lane = Lane::take("speech-did");
    let _floor = Floor::take();
    let mut caller = Baresip::on(&lane, "+33140205050").codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway = for_baresip(&lane).user("alice", ALICE).trunk("operator-a", caller.address()).start();
    let callee = Baresip::on(&lane, "alice").voice(Voice::Caller).registers(gateway.udp(), "udp").start();
    talk::baresip(&mut caller, &callee, &format!("sip:{ALICE}@{}", gateway.udp()));
}

#[test]
fn app_users_hear_each_other_in_opus_that_nobody_touched() {
    let lane = Lane::take("speech-app-to-app");
    let _floor = Floor::take();
    let gateway = for_baresip(&lane).user("alice", ALICE).user("bob", BOB).start();
    let callee = Baresip::on(&lane, "bob").voice(Voice::Callee).registers(gateway.udp(), "udp").start();
    let mut caller = Baresip::on(&lane, "alice").voice(Voice::Caller).registers(gateway.tcp(), "tcp").start();
    caller.dial("bob");
    caller.wait_event("CALL_ESTABLISHED");
    let call = gateway.calls().remove(0);
    assert_eq!((&call["caller_codec"], &call["callee_codec"]), (&"opus".into(), &"opus".into()));
    wait::talk(WORDS);
    caller.hang_up();
    callee.wait_event("CALL_CLOSED");
    caller.wait_event("CALL_CLOSED");
    // Above what narrowband G.711 could ever carry: the band above 4 kHz went through.
    talk::both_hear(&caller, &callee);
    let cdr = gateway.wait_cdr();
    assert_eq!(cdr["direction"], "app_to_app");
}

#[test]
fn a_trunk_over_tls_with_srtp_through_an_operators_proxy_carries_the_voice() {
    let lane = Lane::take("speech-trunk-tls");
    let _floor = Floor::take();
    let authority = Authority::new("Tandem tests");
    let callee = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).srtp().start();
    let gateway = for_baresip(&lane).tls(&authority);
    let proxy = Kamailio::start(&lane, Outer::Tls, callee.address(), gateway.tls_address(), Some(&authority));
    let gateway = gateway.user("alice", ALICE).trunk_with("operator-a", proxy.outer(), |trunk| {
        trunk.set("transport", "tls").set("srtp", "sdes");
    });
    let gateway = gateway.start();
    let caller = Baresip::on(&lane, "alice")
        .voice(Voice::Caller)
        .tls(&authority)
        .srtp()
        .registers(gateway.tls(), "tls");
    let mut caller = caller.start();
    caller.dial(MOBILE);
    caller.wait_event("CALL_ESTABLISHED");
    wait::talk(WORDS);
    // The far end hangs up, so that its BYE finds the way back through the proxy.
    let mut callee = callee;
    callee.hang_up();
    caller.wait_event("CALL_CLOSED");
    callee.wait_event("CALL_CLOSED");
    assert!(proxy.log().contains("proxy: BYE"), "the proxy stays in the way");
    talk::both_hear(&caller, &callee);
}
