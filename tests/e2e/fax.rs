//! Fax on trunks: pages between real machines pass clear in G.711, and a move to T.38 is refused without harm.

use crate::scene::{ALICE, BLINK, MOBILE, SECOND, alice, gateway, incoming, operator};
use crate::support::{fax::FaxMachine, gateway::Gateway, lane::Lane, rtp, sipp::Sipp};

const TRANSIT: &str = "country_code = \"32\"\n[[rule]]\nname = \"transit\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\ntrunks = [\"operator-b\"]\n";

/// Two machines on two trunks send each other a page; the called one has this codec and packets of this length.
/// What the record says of it.
fn page(test: &str, codec: &str, law: &str, ptime: &str) -> serde_json::Value {
    let lane = Lane::take(test);
    let from = lane.port();
    let (near, far) = (lane.even_ports(2), lane.even_ports(2));
    let format = if codec == "PCMA" { "8" } else { "0" };
    let switch = operator(&lane, "operator-answers-in-a-codec")
        .fill("audio", &far.to_string())
        .fill("codec", codec)
        .fill("format", format)
        .fill("ptime", ptime)
        .start();
    let gateway = Gateway::on(&lane)
        .dialplan(TRANSIT)
        .trunk("operator-a", ([127, 0, 0, 1], from).into())
        .trunk_with("operator-b", switch.address(), |trunk| {
            trunk.set("codecs", vec![toml::Value::from(codec)]);
        })
        .start();
    let caller = incoming(&lane, &gateway, "operator-calls-and-is-hung-up-on", from, MOBILE)
        .fill("audio", &near.to_string())
        .start();
    let answered = rtp::audio_of(&caller.wait_status(200));
    let offered = rtp::audio_of(&switch.wait_request("INVITE"));
    let called = FaxMachine::start(&lane, "called", far, offered, law);
    let calling = FaxMachine::start(&lane, "caller", near, answered, "alaw");
    let (sent, taken) = (calling.wait_result(), called.wait_result());
    for told in [&sent, &taken] {
        assert_eq!(told["code"], 0, "sent: {sent}\ntaken: {taken}");
        assert_eq!(told["bit_rate"], 14_400, "the fastest modem trained at once: {told}");
        assert_eq!(told["lost"], 0, "{told}");
    }
    assert_eq!((&sent["pages_tx"], &taken["pages_rx"]), (&1.into(), &1.into()));
    assert_eq!(taken["bad_rows"], 0, "each row of the page came as it was sent: {taken}");
    let call = gateway.calls().remove(0)["id"].as_str().expect("an id").to_owned();
    assert_eq!(gateway.ask("DELETE", &format!("/api/v1/calls/{call}"), None).status, 200);
    caller.succeed();
    switch.succeed();
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["caller_codec"], &cdr["callee_codec"]), (&"PCMA".into(), &codec.into()));
    cdr["fax"].clone()
}

#[test]
fn a_page_passes_from_a_law_to_mu_law_and_packets_of_another_length() {
    assert_eq!(page("fax-laws", "PCMU", "ulaw", "30"), "heard");
}

#[test]
fn a_page_passes_untouched_where_both_sides_speak_alike() {
    // Neither side has telephone events: who listens for key presses hears a machine too.
    assert_eq!(page("fax-relay", "PCMA", "alaw", "20"), "heard");
}

#[test]
fn a_called_trunk_that_moves_to_t38_is_refused_and_the_call_goes_on_in_voice() {
    let lane = Lane::take("fax-t38-called");
    let switch = operator(&lane, "operator-moves-to-fax").start();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-calls").pause(2 * SECOND).start().succeed();
    assert!(caller.requests("INVITE").iter().all(|invite| !invite.text.contains("image")));
    let switch = switch.succeed();
    // RFC 3261 §20.43: why the session was not changed.
    assert!(switch.response(488).header("Warning").is_some_and(|warning| warning.starts_with("304 ")));
    let answer = switch.response(200);
    assert_eq!(answer.sdp("m=image ").collect::<Vec<_>>(), ["0 udptl t38"]);
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["end_cause"], &cdr["fax"]), (&"normal_clearing".into(), &"t38".into()));
    assert!(cdr["duration_ms"].as_u64().is_some_and(|ms| ms >= 1_900), "{cdr:#}");
}

#[test]
fn a_calling_trunk_that_moves_to_t38_is_refused_and_the_call_goes_on_in_voice() {
    let lane = Lane::take("fax-t38-calling");
    let device = lane.port();
    let from = lane.port();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", ([127, 0, 0, 1], from).into()).start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-answers").at_port(device).start();
    incoming(&lane, &gateway, "operator-calls-and-moves-to-fax", from, ALICE).pause(BLINK).start().succeed();
    let phone = phone.succeed();
    assert_eq!(phone.requests("INVITE").len(), 1, "the phone is not asked for what it has not got");
    let cdr = gateway.wait_cdr();
    assert_eq!((&cdr["end_cause"], &cdr["fax"]), (&"normal_clearing".into(), &"t38".into()));
}
