//! The instruments themselves: two phones without a gateway, so that a poor score later is the gateway's.

use crate::support::{
    baresip::{Baresip, PhoneCodec},
    digest,
    gateway::PASSWORD,
    kamailio::{Kamailio, Outer},
    lane::Lane,
    linphone::Linphone,
    prometheus::Prometheus,
    sipp::Sipp,
    speech::{self, Floor, Voice},
    tls::Authority,
    wait,
};
use std::time::Duration;

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
