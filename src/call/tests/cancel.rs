//! A caller that gives up, at every moment it can.

use super::world::*;
use crate::sip::message::{HeaderName, Method};
use crate::types::{EndCause, ReleasedBy};

#[test]
fn before_the_ports_are_open() {
    let mut w = World::new();
    w.media.opens_after = ms(300);
    let alice = w.dial("alice", "0470123456");
    w.pass(ms(100));
    w.cancel(&alice);
    assert_eq!(w.heard(ALICE), ["200 CANCEL"]);
    w.pass(secs(1));
    w.refused(&alice, 487);
    assert!(w.heard(A).is_empty(), "nothing rings any more");
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.released_by), (Some(EndCause::CallerCancelled), Some(ReleasedBy::Caller)));
}

#[test]
fn before_the_callees_ports_are_open() {
    let mut w = World::new();
    w.media.opens_after = ms(300);
    let alice = w.dial("alice", "0470123456");
    w.pass(ms(400));
    assert_eq!(w.media.legs.len(), 2);
    w.cancel(&alice);
    w.pass(secs(1));
    assert!(w.heard(A).is_empty());
    w.finish();
}

#[test]
fn before_the_trunk_said_anything_the_cancel_waits_for_its_100() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.cancel(&alice);
    assert_eq!(w.heard(ALICE), ["200 CANCEL", "487"]);
    assert!(w.heard(A).is_empty(), "a CANCEL must not overtake its INVITE");
    w.reply(&callee, 100);
    assert_eq!(w.heard(A), ["CANCEL"]);
    w.ok(&callee, Method::Cancel);
    w.reply(&callee, 487);
    assert_eq!(w.heard(A), ["ACK"]);
    let cdr = w.finish();
    assert_eq!(cdr.legs[0].sip_code, Some(487));
}

#[test]
fn while_it_rings() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.pass(secs(3));
    w.cancel(&alice);
    assert_eq!(w.heard(ALICE), ["180", "200 CANCEL", "487"]);
    let cancel = w.request(callee.at, Method::Cancel);
    assert!(cancel.headers.get(&HeaderName::Reason).unwrap().starts_with("Q.850;cause=16"));
    w.ok(&callee, Method::Cancel);
    w.reply(&callee, 487);
    let cdr = w.finish();
    assert!(cdr.ringing_at.is_some());
    assert_eq!((cdr.sip_code, cdr.q850), (Some(487), Some(16)));
}

#[test]
fn the_487_waits_until_the_end_is_on_disk() {
    let mut w = World::new();
    w.journal.end = Verdict::Durable(ms(80));
    let alice = w.dial("alice", "0470123456");
    w.invited(A);
    w.cancel(&alice);
    assert_eq!(w.heard(ALICE), ["200 CANCEL"]);
    w.pass(ms(80));
    assert_eq!(w.heard(ALICE), ["487"]);
    w.finish();
}

#[test]
fn while_the_answer_waits_for_the_journal_it_loses_and_becomes_a_bye() {
    let mut w = World::new();
    w.journal.answer = Verdict::Durable(secs(1));
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    w.cancel(&alice);
    assert_eq!(w.heard(ALICE), ["200 CANCEL"]);
    assert!(w.heard(A).is_empty());
    w.pass(secs(1));
    assert_eq!(w.heard(A), ["ACK", "BYE"]);
    w.ack(&mut alice);
    assert_eq!(w.heard(ALICE), ["BYE"]);
    w.ok(&alice, Method::Bye);
    w.ok(&callee, Method::Bye);
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.sip_code), (Some(EndCause::NormalClearing), Some(200)));
    assert_eq!((cdr.released_by, cdr.duration_ms), (Some(ReleasedBy::Caller), 1_000));
    assert_eq!(w.record_names(), ["start", "answer", "end"]);
}

#[test]
fn after_the_answer_it_changes_nothing() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    let answer = w.response(alice.at, 200);
    w.cancel(&alice);
    assert_eq!(w.heard(ALICE), ["200 CANCEL"]);
    assert_eq!(w.heard(A), ["ACK"]);
    let ack = alice.ack(&answer);
    w.send(alice.at, &ack);
    w.hang_up(&mut alice, &callee);
    assert_eq!(w.finish().end_cause, Some(EndCause::NormalClearing));
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.cancel(&alice);
    w.reply_with(&callee, 200, ANSWER);
    assert_eq!(w.heard(A), ["CANCEL", "ACK", "BYE"]);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.heard(ALICE), ["180", "200 CANCEL", "487"]);
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.answered_at), (Some(EndCause::CallerCancelled), None));
}

#[test]
fn after_a_refusal_it_is_answered_and_does_nothing() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 486);
    w.cancel(&alice);
    assert_eq!(w.heard(ALICE), ["486", "200 CANCEL"]);
    w.finish();
}

#[test]
fn of_an_unknown_call_or_from_another_address_it_is_refused() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    w.invited(A);
    w.send(STRANGER.parse().unwrap(), alice.cancel());
    assert_eq!(w.heard(STRANGER), ["481 CANCEL"]);
    assert!(w.call().is_live());
    let mut nobody = w.side(CAROL.parse().unwrap(), "carol", "sip:0470123456@example.org");
    nobody.invite(OFFER);
    w.cancel(&nobody);
    assert_eq!(w.heard(CAROL), ["481 CANCEL"]);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_far_end_that_ignores_the_cancel_holds_no_channel() {
    let mut w = World::with(|config| config.trunks[0].max_channels = Some(1));
    let alice = w.dial("alice", "0499123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.cancel(&alice);
    assert_eq!(w.heard(A), ["CANCEL"]);
    let again = w.dial("alice", "0499123456");
    w.invited(A);
    w.cancel(&again);
    w.finish_all();
}
