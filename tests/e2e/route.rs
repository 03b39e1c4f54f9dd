//! Numbers and the dialplan: what is dialled, where it goes, and what is said where it goes nowhere.

use crate::operate::command;
use crate::scene::{ALICE, BOB, MOBILE, STRANGER, alice, builder, incoming, operator};
use crate::support::{gateway::Gateway, lane::Lane, sipp::Sipp};
use std::time::Duration;

#[test]
fn a_number_reaches_the_operator_in_e164_however_it_was_dialled() {
    let lane = Lane::take("route-forms");
    let forms = ["0470123456", "0032470123456", "+32470123456", "0470-12.34.56"];
    let operator = operator(&lane, "operator-answers").calls(forms.len() as u32).start();
    let gateway = builder(&lane, &operator).start();
    for dialled in forms {
        let caller = alice(&lane, &gateway, "user-calls").number(dialled).pause(Duration::from_millis(100));
        caller.start().succeed();
    }
    for invite in operator.succeed().requests("INVITE") {
        assert!(
            invite.uri().is_some_and(|uri| uri.starts_with(&format!("sip:{MOBILE}@"))),
            "{:?}",
            invite.uri()
        );
    }
}

/// alice dials `number` and is refused with `code` and this Q.850 cause.
fn refused(test: &str, number: &str, code: u16, cause: u8) {
    let lane = Lane::take(test);
    let operator = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &operator).start();
    let played = alice(&lane, &gateway, "user-is-refused").number(number).code(code, "").start().succeed();
    let reason = played.response(code).header("Reason").unwrap_or_default();
    assert!(reason.contains(&format!("Q.850;cause={cause};")), "{reason}");
    assert!(operator.messages().is_empty());
}

#[test]
fn a_blocked_number_is_forbidden() {
    refused("route-blocked", "+3290012345", 403, 21);
}

#[test]
fn a_number_that_no_rule_takes_has_no_route() {
    refused("route-none", "+4915112345678", 404, 3);
}

#[test]
fn a_number_of_ours_that_nobody_has_does_not_exist() {
    refused("route-unknown", "+3225559999", 604, 1);
}

#[test]
fn what_is_no_number_is_incomplete() {
    refused("route-invalid", "12345678", 484, 28);
}

#[test]
fn the_number_that_is_presented_is_the_users_own() {
    let lane = Lane::take("route-caller-id");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user_with("alice", ALICE, |user| {
        user.set("caller_ids", vec![toml::Value::from(BOB)]);
    });
    let gateway = gateway.trunk("operator-a", operator.address()).start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    let from = operator.succeed().request("INVITE").header("From").unwrap_or_default().to_owned();
    assert!(from.contains(BOB) && !from.contains(ALICE), "{from}");
}

#[test]
fn a_user_makes_no_more_calls_at_once_than_it_may() {
    let lane = Lane::take("route-user-limit");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user_with("alice", ALICE, |user| {
        user.set("max_calls", 1);
    });
    let gateway = gateway.trunk("operator-a", operator.address()).start();
    let running = alice(&lane, &gateway, "user-calls").pause(Duration::from_secs(2)).start();
    running.wait_status(200);
    let refused = alice(&lane, &gateway, "user-is-refused").code(403, "").start().succeed();
    assert!(refused.response(403).header("Reason").is_some_and(|reason| reason.contains("cause=50")));
    running.succeed();
    operator.succeed();
}

#[test]
fn the_gateway_takes_no_more_calls_than_it_may() {
    let lane = Lane::take("route-gateway-limit");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &operator).user("bob", BOB).set("limits.max_calls", 1).start();
    let running = alice(&lane, &gateway, "user-calls").pause(Duration::from_secs(2)).start();
    running.wait_status(200);
    let bob = Sipp::client(&lane, "user-is-refused", gateway.udp()).user("bob").number(MOBILE).code(503, "");
    assert!(
        bob.start()
            .succeed()
            .response(503)
            .header("Reason")
            .is_some_and(|reason| reason.contains("cause=42"))
    );
    running.succeed();
    operator.succeed();
}

#[test]
fn a_call_from_a_trunk_reaches_another_trunk_only_by_a_rule_that_names_it() {
    let lane = Lane::take("route-transit");
    let from = lane.address();
    let other = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).trunk("operator-a", from).trunk("operator-b", other.address()).start();
    let caller = incoming(&lane, &gateway, "operator-is-refused", from.port(), MOBILE).code(404, "");
    caller.start().succeed();
    assert!(other.messages().is_empty());
    gateway.kill();

    let lane = Lane::take("route-transit-named");
    let from = lane.address();
    let gateway = Gateway::on(&lane).trunk("operator-a", from).trunk("operator-b", other.address());
    let gateway = gateway.dialplan(
        "country_code = \"32\"\n[[rule]]\nname = \"transit\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\n\
         trunks = [\"operator-b\"]\n",
    );
    let gateway = gateway.start();
    incoming(&lane, &gateway, "operator-calls", from.port(), MOBILE).start().succeed();
    let invite = other.succeed().request("INVITE").header("From").unwrap_or_default().to_owned();
    assert!(invite.contains(STRANGER), "{invite}");
    let labels = [("trunk", "operator-b"), ("direction", "trunk_to_trunk")];
    gateway.wait_metric("tandem_call_attempts_total", &labels, 1.0);
}

#[test]
fn a_request_that_came_too_far_or_in_a_circle_is_refused() {
    use crate::support::raw_sip::RawUdp;
    let lane = Lane::take("route-loop");
    let from = RawUdp::new(&lane);
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", from.local()).start();
    let from = from.towards(gateway.udp());
    let invite = from.invite(ALICE, "far", "").replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(from.ask(invite).0, 483);
    // A trunk is proven by its address, so that even this is an attempt with a record.
    assert_eq!(gateway.wait_cdr()["end_cause"], "too_many_hops");
    // The same request by two ways (RFC 3261 §8.2.2.2).
    let first = from.invite(ALICE, "twice", "").replace("From: <sip:", "From: \"a\" <sip:");
    let second = first.replace("z9hG4bK-twice", "z9hG4bK-other-way");
    from.send(&first);
    assert_eq!(from.ask(second).0, 482);
}

/// The order of codecs is the trunk's, whoever calls, and `tandem route` says so.
#[test]
fn a_trunk_is_offered_its_own_order_of_codecs_whatever_the_caller_offers() {
    for (wanted, offered) in [(["PCMA", "PCMU"], "8 0"), (["PCMU", "PCMA"], "0 8")] {
        let lane = Lane::take(&format!("route-codecs-{}", wanted[0]));
        let from = lane.address();
        let other = operator(&lane, "operator-answers").calls(2).start();
        let gateway =
            Gateway::on(&lane).trunk("operator-a", from).trunk_with("operator-b", other.address(), |trunk| {
                trunk.set("codecs", wanted.map(toml::Value::from).to_vec());
            });
        let gateway = gateway.dialplan(
            "country_code = \"32\"\n[[rule]]\nname = \"transit\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\n\
             trunks = [\"operator-b\"]\n",
        );
        let gateway = gateway.start();
        for (payload, encoding) in [("8", "PCMA"), ("0", "PCMU")] {
            let caller = incoming(&lane, &gateway, "operator-calls", from.port(), MOBILE);
            caller.fill("payload", payload).fill("encoding", encoding).start().succeed();
        }
        let other = other.succeed();
        for invite in other.requests("INVITE") {
            let media = invite.sdp("m=audio ").next().expect("an audio line");
            assert!(media.contains(&format!("RTP/AVP {offered} ")), "{media}");
        }
        let told = command(&gateway, &["route", "--from", "trunk:operator-a", "--to", MOBILE]);
        let told = told.to_string();
        let order = format!("[\"{}\",\"{}\"]", wanted[0], wanted[1]);
        assert!(told.contains(&order), "{told}");
    }
}
