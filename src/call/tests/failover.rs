//! Fail-over between the trunks of a route, and who must not be rung again.

use super::world::*;
use crate::routing::FailoverTable;
use crate::sip::message::{HeaderName, Method};
use crate::types::{EndCause, HostPort};
use std::net::SocketAddr;

fn set(table: &mut FailoverTable, failure: &str, action: &str) {
    table.set(failure.parse().unwrap(), action.parse().unwrap());
}

/// A world in which trunk `a` has two addresses.
fn two_addresses() -> World {
    World::with(|config| config.trunks[0].proxy.push(HostPort::from(A2.parse::<SocketAddr>().unwrap())))
}

#[test]
fn a_trunk_that_fails_hands_the_call_to_the_next() {
    for status in [408, 500, 502, 503, 504] {
        let mut w = World::new();
        let mut alice = w.dial("alice", "0470123456");
        let first = w.invited(A);
        w.reply(&first, status);
        let second = w.invited(B);
        assert_ne!(second.call_id, first.call_id);
        w.reply_with(&second, 200, ANSWER);
        w.ack(&mut alice);
        w.hang_up(&mut alice, &second);
        let cdr = w.finish();
        assert_eq!(cdr.egress_trunk.as_deref(), Some("b"));
        let legs: Vec<_> =
            cdr.legs.iter().map(|leg| (leg.trunk.as_deref(), leg.sip_code, leg.chosen)).collect();
        assert_eq!(legs, [(Some("a"), Some(status), false), (Some("b"), Some(200), true)], "{status}");
    }
}

#[test]
fn who_declined_is_not_rung_twice() {
    for status in [403, 404, 480, 484, 486, 487, 600, 603, 604, 607] {
        let mut w = World::new();
        w.dial("alice", "0470123456");
        let callee = w.invited(A);
        w.reply(&callee, 180);
        w.reply(&callee, status);
        w.pass(secs(60));
        assert!(w.heard(B).is_empty(), "{status}");
        w.finish();
    }
}

#[test]
fn a_black_hole_is_left_in_under_four_seconds_and_its_late_answer_is_hung_up() {
    let mut w = World::new();
    let start = w.now.instant;
    let mut alice = w.dial("alice", "0470123456");
    let silent = w.invited(A);
    w.pass(ms(3_900));
    let second = w.invited(B);
    assert!(w.sent_times(B, "INVITE", start)[0] < 4_000);
    w.reply(&second, 180);
    // A CANCEL would overtake its INVITE: it waits for a sign of life (RFC 3261 §9.1), which here is an answer.
    assert!(!w.heard(A).contains(&"CANCEL".to_owned()));
    w.reply_with(&silent, 200, ANSWER);
    assert_eq!(w.heard(A), ["ACK", "BYE"]);
    w.ok(&silent, Method::Bye);
    assert_eq!(w.heard(ALICE), ["100", "180"]);
    w.reply_with(&second, 200, ANSWER);
    w.ack(&mut alice);
    w.hang_up(&mut alice, &second);
    let cdr = w.finish();
    assert_eq!(cdr.egress_trunk.as_deref(), Some("b"));
    assert!(cdr.legs[0].answered_at.is_some() && !cdr.legs[0].chosen && cdr.legs[1].chosen);
    assert_eq!(cdr.legs[0].end_cause, Some(EndCause::TrunkTimeout));
}

#[test]
fn a_black_hole_that_wakes_up_is_cancelled() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let silent = w.invited(A);
    w.pass(ms(3_500));
    w.heard(A);
    w.reply(&silent, 100);
    assert_eq!(w.heard(A), ["CANCEL"]);
    w.ok(&silent, Method::Cancel);
    w.reply(&silent, 487);
    assert_eq!(w.heard(A), ["ACK"]);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_late_answer_after_the_call_is_over_is_hung_up_too() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let silent = w.invited(A);
    w.pass(secs(4));
    let second = w.invited(B);
    w.reply(&second, 486);
    w.refused(&alice, 486);
    w.pass(secs(10));
    w.heard(A);
    w.reply_with(&silent, 200, ANSWER);
    assert_eq!(w.heard(A), ["ACK", "BYE"]);
    w.finish();
}

#[test]
fn where_all_trunks_are_silent_the_caller_hears_it_from_us() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    w.pass(secs(8));
    w.refused(&alice, 504);
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.legs.len()), (Some(EndCause::TrunkTimeout), 2));
}

#[test]
fn a_dead_transport_is_left_at_once() {
    let mut w = World::new();
    w.unreachable.push(A.parse().unwrap());
    let mut alice = w.dial("alice", "0470123456");
    let second = w.invited(B);
    assert_eq!(w.now.instant, w.start);
    w.reply_with(&second, 200, ANSWER);
    w.ack(&mut alice);
    w.hang_up(&mut alice, &second);
    assert_eq!(w.finish().legs[0].end_cause, Some(EndCause::TransportFailed));
}

#[test]
fn a_trunk_that_asks_for_a_pause_gets_it() {
    let mut w = World::new();
    let first = w.dial("alice", "0470123456");
    let busy = w.invited(A);
    let refusal = busy.response(&busy.invite, 503).with_header(HeaderName::RetryAfter, "20");
    w.send(busy.at, refusal);
    w.cancel(&first);
    w.pass(secs(10));
    w.heard(A);
    w.heard(B);
    let second = w.dial("carol", "0470123456");
    assert_eq!((w.heard(A).len(), w.heard(B).len()), (0, 1));
    w.cancel(&second);
    w.pass(secs(11));
    let third = w.dial("bob", "0470123456");
    assert_eq!(w.heard(A), ["INVITE"]);
    w.cancel(&third);
    w.finish_all();
}

#[test]
fn another_address_of_a_trunk_is_tried_where_one_is_not_there_or_full() {
    for status in [0, 503] {
        let mut w = two_addresses();
        let alice = w.dial("alice", "0470123456");
        let first = w.invited(A);
        if status == 0 {
            w.pass(ms(3_500))
        } else {
            w.reply(&first, status)
        }
        w.invited(A2);
        assert!(w.heard(B).is_empty());
        w.cancel(&alice);
        assert_eq!(w.finish().legs.len(), 2);
    }
}

#[test]
fn what_a_trunk_decided_its_other_address_is_not_asked() {
    let mut w = World::with(|config| {
        config.trunks[0].proxy.push(HostPort::from(A2.parse::<SocketAddr>().unwrap()));
        set(&mut config.trunks[0].failover, "603", "next");
    });
    for status in [500, 603] {
        let alice = w.dial("alice", "0470123456");
        let first = w.invited(A);
        w.reply(&first, status);
        w.invited(B);
        assert!(w.heard(A2).is_empty(), "{status}");
        w.cancel(&alice);
        w.pass(secs(100));
        w.heard(A);
        w.heard(B);
    }
    w.finish_all();
}

#[test]
fn a_table_may_say_that_a_refusal_is_final_and_blocks_the_trunk() {
    let mut w = World::with(|config| set(&mut config.trunks[0].failover, "403", "block:30"));
    let alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    w.reply(&first, 403);
    w.refused(&alice, 403);
    assert!(w.heard(B).is_empty());
    w.heard(A);
    let again = w.dial("alice", "0470123456");
    assert!(w.heard(A).is_empty());
    w.invited(B);
    w.cancel(&again);
    w.finish_all();
}

#[test]
fn a_trunk_that_keeps_failing_is_passed_over_until_its_trial() {
    let mut w = World::new();
    for _ in 0..3 {
        let alice = w.dial("alice", "0470123456");
        let first = w.invited(A);
        w.reply(&first, 503);
        w.invited(B);
        w.cancel(&alice);
        w.heard(A);
        w.heard(B);
    }
    let alice = w.dial("alice", "0470123456");
    assert!(w.heard(A).is_empty());
    w.cancel(&alice);
    w.pass(secs(31));
    w.heard(A);
    let alice = w.dial("alice", "0470123456");
    assert_eq!(w.heard(A), ["INVITE"]);
    w.cancel(&alice);
    w.finish_all();
}

#[test]
fn a_route_whose_trunks_are_blocked_says_so() {
    use crate::routing::AdminState;
    let mut w = World::new();
    for trunk in ["a", "b"] {
        assert!(w.exchange.set_trunk(w.now, trunk, AdminState::Blocked));
    }
    let alice = w.dial("alice", "0470123456");
    let answer = w.refused(&alice, 503);
    assert_eq!(answer.headers.get(&HeaderName::RetryAfter), Some("30"));
    let cdr = w.finish();
    assert_eq!(cdr.end_cause, Some(EndCause::TrunkUnavailable));
    assert!(cdr.legs.is_empty());
}

#[test]
fn early_media_of_a_trunk_that_then_fails_gives_way_to_the_next() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    w.reply_with(&first, 183, ANSWER);
    let early = w.response(alice.at, 183);
    w.reply(&first, 503);
    let second = w.invited(B);
    assert!(w.leg(1).closed);
    w.reply(&second, 180);
    assert_eq!(w.heard(ALICE), ["180"]);
    w.reply_with(&second, 200, ANSWER);
    let answer = w.ack(&mut alice);
    assert_eq!(answer.body, early.body, "an answer once given is not given anew (RFC 3261 §13.3.1)");
    assert_eq!(w.leg(0).bridged_to.map(|leg| leg.index), Some(2));
    w.hang_up(&mut alice, &second);
    w.finish();
}
