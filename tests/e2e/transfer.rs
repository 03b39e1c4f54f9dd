//! Calls that are moved on, by real phones and by an operator (RFC 3515, RFC 3891, RFC 5589).

use crate::scene::{ALICE, BLINK, BOB, MOBILE, SECOND, alice, incoming, operator};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::Gateway,
    lane::Lane,
    linphone::Linphone,
    sipp::Sipp,
    trace::TracedMessage,
    wait,
};
use toml::Value as Toml;

/// The phone behind the operator: it answers for the number that is called.
fn landline(lane: &Lane) -> Baresip {
    Baresip::on(lane, MOBILE).codec(PhoneCodec::Pcma).start()
}

/// A gateway with alice and bob, and the landline behind its trunk; baresip stumbles over any challenge beside MD5.
fn gateway<'a>(lane: &'a Lane, landline: &Baresip) -> Gateway<'a> {
    let gateway = Gateway::on(lane).set("sip.digest", vec![toml::Value::from("MD5")]);
    gateway.user("alice", ALICE).user("bob", BOB).trunk("operator-a", landline.address()).start()
}

/// Whatever either presses the other one hears: they are joined, both ways.
#[track_caller]
fn hear_each_other(one: &Baresip, other: &Baresip) {
    one.press("5");
    other.events().wait_for("CALL_DTMF_START", wait::SOON);
    other.press("7");
    one.events().wait_for("CALL_DTMF_START", wait::SOON);
    assert_eq!((one.keys_heard().as_str(), other.keys_heard().as_str()), ("7", "5"));
}

/// The two records of a transfer, both at the cost of the one who asked for it.
#[track_caller]
fn paid_by_alice(gateway: &Gateway<'_>) {
    let cdrs = gateway.wait_cdrs(2);
    let first = cdrs.iter().find(|cdr| cdr["transfer_of"].is_null()).expect("the call that was moved");
    assert!(cdrs.iter().any(|cdr| cdr["transfer_of"] == first["id"]));
    assert!(cdrs.iter().all(|cdr| cdr["caller_user"] == "alice" && cdr["end_cause"] == "normal_clearing"));
    gateway.wait_idle();
}

#[test]
fn baresip_moves_its_call_without_asking() {
    let lane = Lane::take("transfer-blind");
    let mut landline = landline(&lane);
    let gateway = gateway(&lane, &landline);
    let bob = Baresip::on(&lane, "bob").registers(gateway.udp(), "udp").start();
    let mut alice = Baresip::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    alice.dial(MOBILE);
    alice.wait_event("CALL_ESTABLISHED");
    alice.transfer("sip:bob@tandem.test");
    bob.wait_event("CALL_ESTABLISHED");
    alice.wait_event("CALL_CLOSED");
    hear_each_other(&landline, &bob);
    landline.hang_up();
    bob.wait_event("CALL_CLOSED");
    paid_by_alice(&gateway);
}

#[test]
fn a_target_that_is_busy_or_not_there_leaves_the_call_where_it_is() {
    for (code, phrase) in [(486, "Busy Here"), (480, "Temporarily Unavailable")] {
        let lane = Lane::take(&format!("transfer-failed-{code}"));
        let switch = operator(&lane, "operator-answers").start();
        let gateway = Gateway::on(&lane).user("alice", ALICE).user("bob", BOB);
        let gateway = gateway.trunk("operator-a", switch.address()).start();
        let phone = (code == 486).then(|| {
            let device = lane.port();
            Sipp::register(&lane, gateway.udp(), "bob", device);
            operator(&lane, "operator-refuses-at-once").code(code, phrase).at_port(device).start()
        });
        let caller = alice(&lane, &gateway, "user-fails-to-transfer").fill("target", "bob");
        caller.code(code, phrase).start().succeed();
        // alice hung up herself, so that her call had gone on.
        assert_eq!(switch.succeed().requests("BYE").len(), 1);
        if let Some(phone) = phone {
            let phone = phone.succeed();
            assert_eq!(phone.request("INVITE").header("Referred-By"), Some("<sip:alice@tandem.test>"));
        }
        let cdrs = gateway.wait_cdrs(2);
        assert_eq!(cdrs.iter().filter(|cdr| !cdr["transfer_of"].is_null()).count(), 1);
        gateway.wait_idle();
    }
}

/// linphone talks to the landline, calls bob beside it, and leaves the two to each other: once bob has answered, or
/// while his phone still rings.
fn linphone_consults(test: &str, answered: bool) {
    let lane = Lane::take(test);
    let landline = landline(&lane);
    let gateway = gateway(&lane, &landline);
    let bob = Baresip::on(&lane, "bob").registers(gateway.udp(), "udp");
    let mut bob = if answered { bob } else { bob.answers_by_hand() }.start();
    let mut alice = Linphone::on(&lane, "alice").registers(gateway.udp(), "udp").start();
    alice.call(&format!("sip:{MOBILE}@tandem.test"));
    alice.log().wait_for("Media streams established", wait::SOON);
    alice.pause();
    alice.log().wait_for("paused", wait::SOON);
    alice.call("sip:bob@tandem.test");
    if answered {
        bob.wait_event("CALL_ESTABLISHED");
    } else {
        bob.wait_event("CALL_INCOMING");
    }
    let mark = alice.log().len();
    wait::talk(SECOND);
    alice.leave_to_each_other(1, 2);
    if !answered {
        alice.log().wait_for_after(mark, "transfer", wait::SOON);
        wait::talk(SECOND);
        bob.accept();
        bob.wait_event("CALL_ESTABLISHED");
    }
    wait::talk(SECOND);
    hear_each_other(&landline, &bob);
    bob.hang_up();
    landline.wait_event("CALL_CLOSED");
    alice.quit();
    paid_by_alice(&gateway);
}

#[test]
fn linphone_leaves_two_calls_to_each_other() {
    linphone_consults("transfer-attended", true);
}

#[test]
fn linphone_leaves_its_call_to_a_phone_that_still_rings() {
    linphone_consults("transfer-ringing", false);
}

/// RFC 3891: what one phone has begun another one of the same user goes on with.
#[test]
fn another_phone_of_the_user_takes_the_call_over() {
    let lane = Lane::take("transfer-replaces");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", switch.address()).start();
    let first = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start();
    let answer = first.wait_status(200);
    let tag = |name: &str| {
        let field = answer.header(name).unwrap_or_default();
        field.split("tag=").nth(1).unwrap_or_else(|| panic!("no tag in {field}")).to_owned()
    };
    let call_id = answer.header("Call-ID").expect("a Call-ID");
    let replaces = format!("Replaces: {call_id};to-tag={};from-tag={}", tag("To"), tag("From"));
    let second =
        alice(&lane, &gateway, "user-calls").fill("more", &format!("{replaces}\n      Require: replaces"));
    second.start().succeed();
    assert_eq!(first.succeed().requests("BYE").len(), 1);
    let switch = switch.succeed();
    let calls: Vec<_> =
        switch.requests("INVITE").iter().filter_map(|invite| invite.header("Call-ID")).collect();
    assert!(calls.iter().all(|id| *id == calls[0]), "the operator keeps its one call: {calls:?}");
    assert_eq!(switch.requests("BYE").len(), 1);
    paid_by_alice(&gateway);
}

/// Numbers that the operator may reach through another one's trunk.
const TRANSIT: &str = r#"
country_code = "32"
[[rule]]
name = "our numbers"
from = "any"
match = "+322555"
to = "users"
[[rule]]
name = "transit"
from = "trunk:operator-a"
match = "+32"
trunks = ["operator-b"]
[[rule]]
name = "Belgium"
match = "+32"
trunks = ["operator-a"]
"#;

#[test]
fn an_operator_that_may_moves_its_call_to_a_user_and_to_no_number() {
    let rings = include_str!("sipp/user-transfers.xml");
    // The report that it rings is the second of three there.
    let rings = rings.split("  <recv request=\"NOTIFY\">").nth(2).expect("a report");
    let rings = format!("  <recv request=\"NOTIFY\">{rings}").replace("assign_to=\"b\"", "assign_to=\"a\"");
    for (target, progress, outcome) in
        [(BOB, rings.replace("assign_to=\"eb\"", "assign_to=\"c\""), "200"), (MOBILE, String::new(), "403")]
    {
        let lane = Lane::take(&format!("transfer-operator-{outcome}"));
        let switch = operator(&lane, "operator-transfers").fill("target", target).fill("progress", &progress);
        let switch = switch.fill("outcome", outcome).start();
        let gateway = Gateway::on(&lane).user("alice", ALICE).user("bob", BOB).trunk_with(
            "operator-a",
            switch.address(),
            |trunk| {
                trunk.set("transfer", "users");
            },
        );
        // As a call of its own it would get through.
        let gateway = gateway.trunk("operator-b", lane.address()).dialplan(TRANSIT).start();
        let device = lane.port();
        Sipp::register(&lane, gateway.udp(), "bob", device);
        let bob = operator(&lane, "user-answers").at_port(device).start();
        alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start().succeed();
        switch.succeed();
        if outcome == "200" {
            bob.succeed();
        } else {
            assert!(bob.messages().is_empty());
        }
        let cdrs = gateway.wait_cdrs(2);
        let first = cdrs.iter().find(|cdr| cdr["transfer_of"].is_null()).expect("the call that was moved");
        let second = cdrs.iter().find(|cdr| cdr["transfer_of"] == first["id"]).expect("the call it became");
        assert_eq!(first["caller_user"], "alice");
        let cause = if outcome == "200" { "normal_clearing" } else { "blocked" };
        assert_eq!(second["end_cause"], cause, "{second}");
        gateway.wait_idle();
    }
}

/// A message's dialog as its caller names it to others (RFC 3891 §3).
fn dialog_of(answer: &TracedMessage) -> String {
    let tag = |name: &str| {
        let field = answer.header(name).unwrap_or_default();
        field.split("tag=").nth(1).unwrap_or_else(|| panic!("no tag in {field}")).to_owned()
    };
    let call_id = answer.header("Call-ID").expect("a Call-ID");
    format!("{call_id};to-tag={};from-tag={}", tag("To"), tag("From"))
}

/// A gateway whose operator calls from two ports and may move calls, with alice's and bob's phones.
fn with_attendant<'l>(lane: &'l Lane, ports: [u16; 2]) -> Gateway<'l> {
    let peers: Vec<Toml> = ports.iter().map(|port| format!("127.0.0.1:{port}").into()).collect();
    let gateway = Gateway::on(lane).user("alice", ALICE).user("bob", BOB);
    let first = ([127, 0, 0, 1], ports[0]).into();
    let gateway = gateway.trunk_with("operator-a", first, |trunk| {
        trunk.set("transfer", "users").set("peers", peers);
    });
    gateway.start()
}

#[test]
fn an_operator_that_may_leaves_two_users_to_each_other() {
    let lane = Lane::take("transfer-operator-attended");
    let ports = [lane.port(), lane.port()];
    let gateway = with_attendant(&lane, ports);
    let devices = [lane.port(), lane.port()];
    Sipp::register(&lane, gateway.udp(), "alice", devices[0]);
    Sipp::register(&lane, gateway.udp(), "bob", devices[1]);
    let alice = operator(&lane, "user-answers").at_port(devices[0]).start();
    let bob = operator(&lane, "user-answers-and-hangs-up").at_port(devices[1]).pause(3 * SECOND).start();
    let first = incoming(&lane, &gateway, "operator-calls-and-is-hung-up-on", ports[0], ALICE).start();
    let replaces =
        dialog_of(&first.wait_status(200)).replace(';', "%3B").replace('=', "%3D").replace('@', "%40");
    let second = incoming(&lane, &gateway, "operator-leaves-two-calls", ports[1], BOB);
    second.fill("target", ALICE).fill("replaces", &replaces).pause(BLINK).start().succeed();
    first.succeed();
    // Of both calls the operator has nothing left when bob hangs up, and alice hears of it.
    bob.succeed();
    assert_eq!(alice.succeed().requests("BYE").len(), 1);
    let cdrs = gateway.wait_cdrs(2);
    assert!(cdrs.iter().any(|cdr| cdrs.iter().any(|first| cdr["transfer_of"] == first["id"])), "{cdrs:#?}");
    assert!(cdrs.iter().all(|cdr| cdr["end_cause"] == "normal_clearing"), "{cdrs:#?}");
    gateway.wait_idle();
}

#[test]
fn an_operator_that_may_goes_on_with_its_call_from_another_place() {
    let lane = Lane::take("transfer-operator-replaces");
    let ports = [lane.port(), lane.port()];
    let gateway = with_attendant(&lane, ports);
    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let alice = operator(&lane, "user-answers").at_port(device).start();
    let first = incoming(&lane, &gateway, "operator-calls-and-is-hung-up-on", ports[0], ALICE).start();
    let replaces = format!("Replaces: {}\n      Require: replaces", dialog_of(&first.wait_status(200)));
    let second = incoming(&lane, &gateway, "operator-calls", ports[1], ALICE).fill("more", &replaces);
    second.start().succeed();
    first.succeed();
    assert_eq!(alice.succeed().requests("INVITE").len(), 1, "the phone notices nothing");
    gateway.wait_idle();
}
