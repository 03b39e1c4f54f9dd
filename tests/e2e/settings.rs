//! Settings whose other value shows at once: what peers are offered and told, where files go, when a call ends.

use crate::scene::{ALICE, SECOND, alice, builder, incoming, operator};
use crate::support::{
    gateway::{Gateway, GatewayBuilder},
    lane::Lane,
    sipp::Sipp,
    trace::TracedMessage,
    wait,
};
use std::time::Instant;
use toml::Value as Toml;

/// What alice's device is offered by a gateway so configured.
fn offered_to_a_device(
    test: &str,
    configure: impl FnOnce(GatewayBuilder<'_>) -> GatewayBuilder<'_>,
) -> TracedMessage {
    let lane = Lane::take(test);
    let from = lane.address();
    let gateway = configure(Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", from)).start();
    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-refuses").code(486, "Busy Here").at_port(device).start();
    incoming(&lane, &gateway, "operator-is-refused", from.port(), ALICE).code(486, "").start().succeed();
    phone.succeed().request("INVITE").clone()
}

#[test]
fn devices_are_offered_the_codecs_of_the_app() {
    let offer =
        offered_to_a_device("settings-codecs", |gateway| gateway.set("app.codecs", vec![Toml::from("PCMU")]));
    let codecs: Vec<_> = offer.sdp("a=rtpmap:").filter(|codec| !codec.contains("telephone-event")).collect();
    assert_eq!(codecs, ["0 PCMU/8000"]);
}

#[test]
fn devices_that_hear_tones_are_offered_no_events() {
    let offer = offered_to_a_device("settings-dtmf", |gateway| gateway.set("app.dtmf", "inband"));
    assert!(offer.sdp("a=rtpmap:").all(|codec| !codec.contains("telephone-event")), "{}", offer.text);
}

#[test]
fn devices_may_be_held_to_srtp_on_every_transport() {
    let offer = offered_to_a_device("settings-srtp", |gateway| gateway.set("app.srtp", "sdes"));
    assert!(offer.sdp("m=audio ").all(|line| line.contains(" RTP/SAVP ")), "{}", offer.text);
    assert!(offer.sdp("a=crypto:").next().is_some());
}

#[test]
fn a_call_ends_at_the_longest_duration_of_its_trunk() {
    let lane = Lane::take("settings-duration");
    let switch = operator(&lane, "operator-answers").start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("max_duration_seconds", 1);
        });
    let gateway = gateway.start();
    let caller = alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start().succeed();
    assert_eq!(caller.requests("BYE").len(), 1);
    assert_eq!(switch.succeed().requests("BYE").len(), 1);
}

#[test]
fn a_call_that_nobody_answers_ends_after_the_ring_time_of_its_trunk() {
    let lane = Lane::take("settings-ring");
    let switch = operator(&lane, "operator-rings-until-cancelled").start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("ring_seconds", 1);
        });
    let gateway = gateway.start();
    let begun = Instant::now();
    alice(&lane, &gateway, "user-is-refused").code(480, "").start().succeed();
    assert!((1.0..6.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    switch.succeed();
}

#[test]
fn data_and_journal_stand_where_they_are_wanted() {
    let lane = Lane::take("settings-folders");
    let switch = operator(&lane, "operator-answers").start();
    let gateway =
        builder(&lane, &switch).set("gateway.data_dir", "state").set("billing.journal_dir", "records");
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    switch.succeed();
    let holds = |folder: &str| {
        std::fs::read_dir(gateway.folder().join(folder)).is_ok_and(|mut all| all.next().is_some())
    };
    assert!(holds("state"), "nothing in data_dir");
    assert!(holds("records"), "nothing in journal_dir");
    assert!(!gateway.folder().join("data/journal").exists(), "a journal at the default place");
}

#[test]
fn a_running_call_is_recorded_as_often_as_configured() {
    let lane = Lane::take("settings-interim");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = builder(&lane, &switch).set("billing.interim_seconds", 1).start();
    let caller = alice(&lane, &gateway, "user-calls").pause(4 * SECOND).start();
    caller.wait_status(200);
    wait::until("an interim record", wait::SOON, || {
        gateway.cdrs().into_iter().find(|cdr| cdr["state"] == "interim")
    });
    assert_eq!(gateway.calls().len(), 1, "the call is over");
    caller.succeed();
    switch.succeed();
}
