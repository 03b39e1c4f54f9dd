//! Calls from an operator to an app user by its number: all its devices ring, the first that answers wins.

use crate::scene::{ALICE, BOB, SECOND, incoming, operator};
use crate::support::{
    gateway::Gateway,
    lane::Lane,
    sipp::{RunningSipp, Sipp},
};
use std::net::SocketAddr;

/// A gateway with alice, a trunk at a free address, and what is registered there.
fn with_devices<'a>(lane: &'a Lane, scenarios: &[&str]) -> (Gateway<'a>, SocketAddr, Vec<RunningSipp>) {
    let from = lane.address();
    let gateway = Gateway::on(lane).user("alice", ALICE).user("bob", BOB).trunk("operator-a", from).start();
    let devices = scenarios.iter().map(|scenario| {
        let port = lane.port();
        Sipp::register(lane, gateway.udp(), "alice", port);
        operator(lane, scenario).code(486, "Busy Here").at_port(port).start()
    });
    let devices = devices.collect();
    (gateway, from, devices)
}

#[test]
fn a_call_from_a_trunk_reaches_the_user_who_has_the_number() {
    let lane = Lane::take("did-answered");
    let (gateway, from, mut devices) = with_devices(&lane, &["user-answers"]);
    let caller = incoming(&lane, &gateway, "operator-calls", from.port(), ALICE).start().succeed();
    let phone = devices.remove(0).succeed();
    let invite = phone.request("INVITE");
    assert!(invite.header("From").is_some_and(|from| from.contains("+33140205050")));
    assert!(invite.sdp("a=rtpmap:").any(|codec| codec.contains("opus/48000/2")));
    assert_eq!(caller.response(200).sdp("a=rtpmap:").next(), Some("8 PCMA/8000"));
    gateway.wait_metric("tandem_call_attempts_total", &[("direction", "trunk_to_app")], 1.0);
}

#[test]
fn all_devices_ring_the_first_answer_wins_and_the_others_are_cancelled() {
    let lane = Lane::take("did-fork");
    let (gateway, from, devices) =
        with_devices(&lane, &["user-rings-until-cancelled", "user-answers", "user-rings-until-cancelled"]);
    incoming(&lane, &gateway, "operator-calls", from.port(), ALICE).start().succeed();
    let played: Vec<_> = devices.into_iter().map(RunningSipp::succeed).collect();
    assert_eq!(played.iter().map(|phone| phone.requests("INVITE").len()).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(played[1].requests("BYE").len(), 1);
    let reason = played[0].request("CANCEL").header("Reason").unwrap_or_default();
    // So that a phone does not list it as missed (RFC 3326 §3.1).
    assert!(reason.contains("SIP;cause=200"), "{reason}");
    gateway.wait_idle();
}

#[test]
fn a_device_that_is_busy_leaves_the_others_ringing() {
    let lane = Lane::take("did-one-busy");
    let (gateway, from, devices) = with_devices(&lane, &["user-refuses"]);
    let slow = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", slow);
    let slow = operator(&lane, "user-answers").pause(SECOND).at_port(slow).start();
    incoming(&lane, &gateway, "operator-calls", from.port(), ALICE).start().succeed();
    devices.into_iter().for_each(|device| drop(device.succeed()));
    slow.succeed();
}

#[test]
fn a_user_whose_only_device_is_busy_is_busy() {
    let lane = Lane::take("did-busy");
    let (gateway, from, mut devices) = with_devices(&lane, &["user-refuses"]);
    let caller = incoming(&lane, &gateway, "operator-is-refused", from.port(), ALICE).code(486, "");
    assert!(
        caller
            .start()
            .succeed()
            .response(486)
            .header("Reason")
            .is_some_and(|reason| reason.contains("cause=17"))
    );
    devices.remove(0).succeed();
}

#[test]
fn a_declined_call_stops_all_devices() {
    let lane = Lane::take("did-declined");
    let (gateway, from, mut devices) = with_devices(&lane, &["user-rings-until-cancelled"]);
    let port = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", port);
    let declining = operator(&lane, "user-refuses").code(603, "Decline").at_port(port).start();
    let caller = incoming(&lane, &gateway, "operator-is-refused", from.port(), ALICE).code(603, "");
    caller.start().succeed();
    declining.succeed();
    devices.remove(0).succeed();
    gateway.wait_idle();
}

#[test]
fn a_user_without_a_device_is_unavailable() {
    let lane = Lane::take("did-absent");
    let (gateway, from, _) = with_devices(&lane, &[]);
    let caller = incoming(&lane, &gateway, "operator-is-refused", from.port(), BOB).code(480, "");
    let played = caller.start().succeed();
    assert!(played.response(480).header("Reason").is_some_and(|reason| reason.contains("cause=20")));
}

#[test]
fn a_number_of_ours_that_nobody_has_does_not_exist() {
    let lane = Lane::take("did-unknown");
    let (gateway, from, _) = with_devices(&lane, &[]);
    let caller = incoming(&lane, &gateway, "operator-is-refused", from.port(), "+3225559999").code(604, "");
    let played = caller.start().succeed();
    assert!(played.response(604).header("Reason").is_some_and(|reason| reason.contains("cause=1")));
}

#[test]
fn the_user_hangs_up_on_a_call_from_the_trunk() {
    let lane = Lane::take("did-user-bye");
    let (gateway, from, mut devices) = with_devices(&lane, &["user-answers-and-hangs-up"]);
    let caller =
        incoming(&lane, &gateway, "operator-calls-and-is-hung-up-on", from.port(), ALICE).start().succeed();
    assert_eq!(caller.requests("BYE").len(), 1);
    devices.remove(0).succeed();
    gateway.wait_idle();
}

#[test]
fn an_app_user_rings_another_by_name_and_by_number() {
    let lane = Lane::take("did-app-to-app");
    let gateway = Gateway::on(&lane).user("alice", ALICE).user("bob", BOB).start();
    for called in ["alice", ALICE] {
        let device = lane.port();
        Sipp::register(&lane, gateway.udp(), "alice", device);
        let phone = operator(&lane, "user-answers").at_port(device).start();
        let caller =
            Sipp::client(&lane, "user-calls", gateway.udp()).user("bob").number(called).pause(SECOND);
        caller.start().succeed();
        let phone = phone.succeed();
        assert!(phone.request("INVITE").sdp("a=rtpmap:").any(|codec| codec.ends_with(" opus/48000/2")));
    }
    assert_eq!(gateway.metric("tandem_call_attempts_total", &[("direction", "app_to_app")]), 2.0);
}
