//! Inside a running call: hold, lost and repeated messages, strangers (RFC 3261 §12 to §17, RFC 6026).

use crate::scene::{SECOND, alice, builder, gateway, operator};
use crate::support::{lane::Lane, wait};
use std::time::Duration;

#[test]
fn the_user_holds_and_the_operator_is_told() {
    let lane = Lane::take("dialog-hold");
    let operator = operator(&lane, "operator-is-held-and-taken-back").start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-holds-and-resumes").start().succeed();
    operator.succeed();
    gateway.wait_idle();
}

#[test]
fn a_hold_by_address_is_a_hold() {
    let lane = Lane::take("dialog-hold-address");
    let operator = operator(&lane, "operator-is-held-and-taken-back").start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-holds-by-address").start().succeed();
    operator.succeed();
    gateway.wait_idle();
}

#[test]
fn the_operator_holds_and_takes_the_call_back() {
    let lane = Lane::take("dialog-operator-hold");
    let operator = operator(&lane, "operator-holds-and-resumes").pause(SECOND).start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-is-held-and-hung-up-on").start().succeed();
    operator.succeed();
    gateway.wait_idle();
}

#[test]
fn silence_on_hold_is_no_media_time_out() {
    let lane = Lane::take("dialog-hold-silence");
    let operator = operator(&lane, "operator-is-held-and-taken-back").start();
    let gateway = builder(&lane, &operator).set("media.timeout_seconds", 2).start();
    // Four seconds of hold are twice the time-out; the rest of the call is shorter than one.
    alice(&lane, &gateway, "user-holds-and-resumes").pause(4 * SECOND).start().succeed();
    operator.succeed();
}

#[test]
fn an_answer_that_was_lost_is_sent_again() {
    let lane = Lane::take("dialog-lost-answer");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-loses-the-answer").deaf_in_pauses().start().succeed();
    operator.succeed();
    assert!(caller.responses(200).len() >= 3, "{caller}");
}

#[test]
fn a_call_that_is_never_acknowledged_is_hung_up_on_both_sides() {
    let lane = Lane::take("dialog-no-ack");
    let operator = operator(&lane, "operator-answers").start();
    // 64 × T1 of RFC 3261 §13.3.1.4 are 3.2 s here instead of 32.
    let gateway = builder(&lane, &operator).set("sip.t1_ms", 50).start();
    let caller = alice(&lane, &gateway, "user-never-acknowledges").start().succeed();
    assert!(caller.responses(200).len() >= 4, "{caller}");
    assert_eq!(operator.succeed().requests("BYE").len(), 1);
    gateway.wait_idle();
}

#[test]
fn an_acknowledgement_that_was_lost_is_sent_again() {
    let lane = Lane::take("dialog-lost-ack");
    let operator = operator(&lane, "operator-loses-an-ack").deaf_in_pauses().start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start().succeed();
    let operator = operator.succeed();
    assert!(operator.requests("ACK").len() >= 3, "{operator}");
}

#[test]
fn requests_that_come_twice_happen_once() {
    let lane = Lane::take("dialog-repeats");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-repeats-everything").deaf_in_pauses().start().succeed();
    let operator = operator.succeed();
    assert_eq!(operator.requests("INVITE").len(), 1);
    assert_eq!(operator.requests("ACK").len(), 1);
    assert_eq!(operator.requests("BYE").len(), 1);
    let byes = caller.responses(200).into_iter().filter(|ok| ok.header("CSeq") == Some("3 BYE")).count();
    assert_eq!(byes, 2, "each BYE is answered");
}

#[test]
fn a_bye_whose_answer_was_lost_is_answered_again() {
    let lane = Lane::take("dialog-lost-bye-answer");
    let operator = operator(&lane, "operator-repeats-its-bye").deaf_in_pauses().start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-calls-and-is-hung-up-on").start().succeed();
    let operator = operator.succeed();
    let byes = operator
        .responses(200)
        .into_iter()
        .filter(|ok| ok.header("CSeq").is_some_and(|c| c.ends_with("BYE")));
    assert!(byes.count() >= 2);
    gateway.wait_idle();
}

#[test]
fn a_bye_with_a_tag_that_nobody_gave_gets_481_and_the_call_lives() {
    let lane = Lane::take("dialog-wrong-tag");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-talks-outside-the-dialog").start().succeed();
    assert_eq!(caller.responses(481).len(), 1);
    assert_eq!(operator.succeed().requests("BYE").len(), 1);
}

#[test]
fn nothing_is_held_once_all_calls_are_over() {
    let lane = Lane::take("dialog-leak");
    let operator = operator(&lane, "operator-answers").calls(20).start();
    let gateway = builder(&lane, &operator).set("limits.max_calls_per_user", 50).start();
    let free = gateway.metric("tandem_media_ports_free", &[]);
    let callers =
        alice(&lane, &gateway, "user-calls").calls(20).pause(Duration::from_millis(300)).arg("-r").arg("20");
    callers.start().succeed();
    operator.succeed();
    gateway.wait_idle();
    assert_eq!(gateway.metric("tandem_calls_active", &[]), 0.0);
    wait::until("the media ports to come back", wait::SOON, || {
        (gateway.metric("tandem_media_ports_free", &[]) == free).then_some(())
    });
}
