//! A caller that gives up, at every moment it can.

use crate::scene::{SECOND, alice, gateway, operator};
use crate::support::lane::Lane;

#[test]
fn giving_up_while_it_rings_stops_the_ringing() {
    let lane = Lane::take("cancel-ringing");
    let operator = operator(&lane, "operator-rings-until-cancelled").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-gives-up").start().succeed();
    let operator = operator.succeed();
    assert_eq!(caller.responses(487).len(), 1);
    assert_eq!(operator.requests("CANCEL").len(), 1);
    gateway.wait_idle();
}

#[test]
fn giving_up_before_anything_rings_stops_the_attempt() {
    let lane = Lane::take("cancel-trying");
    let operator = operator(&lane, "operator-only-tries").start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-gives-up-at-once").start().succeed();
    assert_eq!(operator.succeed().requests("CANCEL").len(), 1);
    gateway.wait_idle();
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let lane = Lane::take("cancel-crossing");
    let operator = operator(&lane, "operator-answers-when-cancelled").start();
    let gateway = gateway(&lane, &operator);
    let caller = alice(&lane, &gateway, "user-gives-up").start().succeed();
    assert_eq!(caller.responses(487).len(), 1, "who gave up is not connected");
    let operator = operator.succeed();
    assert_eq!((operator.requests("ACK").len(), operator.requests("BYE").len()), (1, 1));
    gateway.wait_idle();
}

#[test]
fn a_cancel_behind_the_answer_changes_nothing() {
    let lane = Lane::take("cancel-late");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    alice(&lane, &gateway, "user-cancels-too-late").pause(SECOND).start().succeed();
    let operator = operator.succeed();
    assert!(operator.requests("CANCEL").is_empty());
    assert_eq!(operator.requests("BYE").len(), 1);
    gateway.wait_idle();
}

#[test]
fn an_operator_that_gives_up_on_a_user_stops_its_phone() {
    use crate::scene::{ALICE, BOB, incoming};
    use crate::support::{gateway::Gateway, sipp::Sipp};
    let lane = Lane::take("cancel-from-operator");
    let from = lane.address();
    let device = lane.port();
    let gateway = Gateway::on(&lane).user("alice", ALICE).user("bob", BOB).trunk("operator-a", from).start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-rings-until-cancelled").at_port(device).start();
    let caller = incoming(&lane, &gateway, "operator-gives-up", from.port(), ALICE).start().succeed();
    assert_eq!(caller.responses(487).len(), 1);
    assert_eq!(phone.succeed().requests("CANCEL").len(), 1);
    gateway.wait_idle();
}
