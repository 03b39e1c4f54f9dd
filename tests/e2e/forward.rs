//! Calls that an app user's device sends on (302): where they go, what the next place hears, and who pays.

use crate::scene::{ALICE, BLINK, BOB, MOBILE, SECOND, STRANGER, incoming, operator};
use crate::support::{
    gateway::{Gateway, tandem},
    lane::Lane,
    sipp::{RunningSipp, Sipp},
};
use serde_json::Value;

/// A number that the default dialplan gives to nobody.
const PREMIUM: &str = "<sip:090012345@tandem.test>";

/// A gateway with alice, bob and two operators, the one that is called behind `switch`, and where the other calls from.
fn gateway<'a>(lane: &'a Lane, switch: &RunningSipp, diversion: bool) -> (Gateway<'a>, u16) {
    let from = lane.port();
    let gateway = Gateway::on(lane).user("alice", ALICE).user("bob", BOB);
    let gateway = gateway.trunk_with("operator-a", switch.address(), |trunk| {
        trunk.set("diversion", diversion);
    });
    let gateway = gateway.trunk("operator-b", ([127, 0, 0, 1], from).into());
    let gateway = gateway.section("rate", |rate| {
        rate.set("prefix", "+32").set("per_minute", "0.60").set("currency", "EUR");
    });
    (gateway.start(), from)
}

/// A device of the user that plays this scenario, and may send its calls there.
fn device(lane: &Lane, gateway: &Gateway<'_>, user: &str, scenario: &str, to: &str) -> RunningSipp {
    let port = lane.port();
    Sipp::register(lane, gateway.udp(), user, port);
    operator(lane, scenario).fill("to", to).at_port(port).start()
}

/// The record of the call as it came, and of what became of it.
fn records(gateway: &Gateway<'_>) -> (Value, Value) {
    let cdrs = gateway.wait_cdrs(2);
    let first = cdrs.iter().find(|cdr| cdr["forwarded_of"].is_null()).expect("the call as it came");
    let second = cdrs.iter().find(|cdr| cdr["forwarded_of"] == first["id"]).expect("what became of it");
    (first.clone(), second.clone())
}

#[test]
fn a_call_is_sent_on_to_a_number_and_the_one_who_sent_it_pays() {
    for diversion in [true, false] {
        let lane = Lane::take(&format!("forward-number-{diversion}"));
        let switch = operator(&lane, "operator-answers").start();
        let (gateway, from) = gateway(&lane, &switch, diversion);
        let phone = device(&lane, &gateway, "bob", "user-sends-on", &format!("<sip:{MOBILE}@tandem.test>"));
        let caller = incoming(&lane, &gateway, "operator-calls", from, BOB).pause(2 * SECOND).start();
        let caller = caller.succeed();
        phone.succeed();
        caller.response(181);
        let switch = switch.succeed();
        let invite = switch.request("INVITE");
        assert!(invite.uri().is_some_and(|uri| uri.contains(MOBILE)));
        let shown = invite.header("From").unwrap_or_default().to_owned();
        let diverted: Vec<_> = invite.headers("Diversion").collect();
        if diversion {
            assert!(shown.contains(STRANGER), "{shown}");
            assert!(diverted[0].contains(BOB) && diverted[0].contains("reason=deflection"), "{diverted:?}");
            assert_eq!(invite.headers("History-Info").count(), 2);
        } else {
            assert!(shown.contains(BOB) && diverted.is_empty(), "{shown} {diverted:?}");
        }
        let (first, second) = records(&gateway);
        assert_eq!((&first["direction"], &first["called_user"]), (&"trunk_to_app".into(), &"bob".into()));
        assert_eq!((&first["account"], &first["ingress_trunk"]), (&Value::Null, &"operator-b".into()));
        assert_eq!(first["legs"][0]["end_cause"], "redirected");
        assert_eq!(
            (&second["direction"], &second["called_number"]),
            (&"app_to_trunk".into(), &MOBILE.into())
        );
        assert_eq!((&second["caller_user"], &second["account"]), (&"bob".into(), &"default".into()));
        assert!(second["sell"]["billed_seconds"].as_u64() >= Some(1), "{second:#}");
        assert_eq!(first["sell"]["not_rated"], "received");
        for cdr in [&first, &second] {
            assert_eq!(cdr["end_cause"], "normal_clearing");
            assert!(cdr["duration_ms"].as_u64() >= Some(1_900), "{cdr:#}");
        }
        let config = gateway.config_file().to_str().expect("a plain path");
        let list = tandem(&["cdr", "list", "--config", config]);
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert_eq!(list.matches("forwarded").count(), 1, "{list}");
        gateway.wait_idle();
    }
}

#[test]
fn a_call_is_sent_on_to_another_user() {
    let lane = Lane::take("forward-user");
    let switch = operator(&lane, "operator-says-nothing").start();
    let (gateway, from) = gateway(&lane, &switch, false);
    let phone = device(&lane, &gateway, "bob", "user-sends-on", "<sip:alice@tandem.test>");
    let other = device(&lane, &gateway, "alice", "user-answers", "");
    incoming(&lane, &gateway, "operator-calls", from, BOB).start().succeed();
    phone.succeed();
    let other = other.succeed();
    assert!(other.request("INVITE").header("From").is_some_and(|from| from.contains(STRANGER)));
    let (_, second) = records(&gateway);
    assert_eq!((&second["direction"], &second["called_user"]), (&"app_to_app".into(), &"alice".into()));
    assert_eq!((&second["caller_user"], &second["sell"]["not_rated"]), (&"bob".into(), &"app_to_app".into()));
    assert!(switch.messages().is_empty());
    gateway.wait_idle();
}

#[test]
fn a_call_is_sent_no_further_than_its_user_may_call() {
    let lane = Lane::take("forward-forbidden");
    let switch = operator(&lane, "operator-says-nothing").start();
    let (gateway, from) = gateway(&lane, &switch, true);
    let phone = device(&lane, &gateway, "bob", "user-sends-on", PREMIUM);
    let caller = incoming(&lane, &gateway, "operator-is-refused", from, BOB).code(480, "");
    caller.start().succeed();
    phone.succeed();
    let (first, second) = records(&gateway);
    assert_eq!((&first["end_cause"], &second["end_cause"]), (&"unavailable".into(), &"blocked".into()));
    assert_eq!(second["caller_user"], "bob");
    assert!(switch.messages().is_empty());
    gateway.wait_idle();
}

#[test]
fn how_far_a_device_may_send_a_call_is_a_setting() {
    for (how, to, code) in [
        ("users", format!("<sip:{MOBILE}@tandem.test>"), 480),
        ("off", "<sip:alice@tandem.test>".to_owned(), 502),
    ] {
        let lane = Lane::take(&format!("forward-{how}"));
        let from = lane.port();
        let gateway = Gateway::on(&lane).user("alice", ALICE).user("bob", BOB).set("app.forward", how);
        let gateway = gateway.trunk("operator-b", ([127, 0, 0, 1], from).into()).start();
        let phone = device(&lane, &gateway, "bob", "user-sends-on", &to);
        incoming(&lane, &gateway, "operator-is-refused", from, BOB)
            .code(code, "")
            .pause(BLINK)
            .start()
            .succeed();
        phone.succeed();
        gateway.wait_idle();
    }
}
