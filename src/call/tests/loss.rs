//! Packets that are lost, come twice or come too late.

use super::far::Side;
use super::world::*;
use crate::sip::message::{HeaderName, Method, Typed};
use crate::types::EndCause;

#[test]
fn a_lost_ack_has_the_200_repeated_and_after_64_t1_the_call_ended() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    let since = w.now.instant;
    w.reply_with(&callee, 200, ANSWER);
    w.pass(secs(31));
    assert!(!w.heard(ALICE).contains(&"BYE".to_owned()));
    w.pass(secs(1));
    let answers = w.sent_times(ALICE, "200", since);
    assert_eq!(answers, [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!(w.heard(ALICE), ["200", "BYE"]);
    w.ok(&alice, Method::Bye);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::NoAck));
}

#[test]
fn a_call_that_ends_before_its_ack_says_bye_after_it() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let mut callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    w.bye(&mut callee);
    assert_eq!(w.heard(A), ["ACK", "200 BYE"]);
    // RFC 3261 §15: no BYE before the ACK of what it ends.
    let answer = w.response(alice.at, 200);
    assert!(w.heard(ALICE).is_empty());
    let ack = alice.ack(&answer);
    w.send(alice.at, &ack);
    assert_eq!(w.heard(ALICE), ["BYE"]);
    w.ok(&alice, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::NormalClearing));
}

#[test]
fn a_call_that_ends_without_its_ack_says_bye_after_64_t1() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let mut callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    w.bye(&mut callee);
    w.pass(secs(33));
    assert_eq!(w.heard(ALICE).last().map(String::as_str), Some("BYE"));
    w.ok(&alice, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::NormalClearing));
}

#[test]
fn an_ack_with_another_number_acknowledges_nothing() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    let answer = w.response(alice.at, 200);
    let mut wrong = alice.ack(&answer);
    wrong.headers.set(HeaderName::CSeq, "99 ACK");
    w.send(alice.at, &wrong);
    w.pass(ms(500));
    assert_eq!(w.heard(ALICE), ["200"], "repeated, since nothing was acknowledged");
    let ack = alice.ack(&answer);
    w.send(alice.at, &ack);
    w.pass(secs(5));
    assert!(w.heard(ALICE).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_bye_proves_the_answer_was_heard_though_its_ack_was_lost() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    let answer = w.response(alice.at, 200);
    alice.learn(&answer);
    w.hang_up(&mut alice, &callee);
    w.pass(secs(10));
    assert!(w.heard(ALICE).is_empty(), "the 200 is not repeated any more");
    w.finish();
}

#[test]
fn a_repeated_invite_makes_one_call() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let invite = alice.invite.clone();
    let callee = w.invited(A);
    w.send(alice.at, &invite);
    w.reply(&callee, 180);
    w.send(alice.at, &invite);
    assert_eq!(w.heard(ALICE), ["180", "180"], "what was said last is said again");
    w.reply_with(&callee, 200, ANSWER);
    w.send(alice.at, &invite);
    w.ack(&mut alice);
    w.send(alice.at, &invite);
    assert_eq!(w.heard(A), ["ACK"]);
    assert!(w.heard(ALICE).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn our_invite_is_repeated_until_something_comes_back() {
    let mut w = World::new();
    let since = w.now.instant;
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.pass(ms(1_600));
    assert_eq!(w.sent_times(A, "INVITE", since), [0, 500, 1_500]);
    w.reply(&callee, 100);
    w.pass(secs(10));
    assert_eq!(w.sent_times(A, "INVITE", since).len(), 3);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn each_repeated_answer_is_acknowledged_again() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    for _ in 0..4 {
        w.reply_with(&callee, 200, ANSWER);
        assert_eq!(w.heard(A), ["ACK"]);
        w.pass(ms(500));
    }
    w.hang_up(&mut alice, &callee);
    // The far end has not heard our first ACK: it repeats its answer even now.
    w.heard(A);
    w.reply_with(&callee, 200, ANSWER);
    assert_eq!(w.heard(A)[0], "ACK");
    w.finish();
}

#[test]
fn a_fork_behind_the_trunk_that_answers_second_is_hung_up() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let other = Side::called(callee.at, callee.invite.clone(), "second", "UDP");
    w.reply_with(&other, 200, ANSWER);
    w.request(other.at, Method::Ack);
    let bye = w.request(other.at, Method::Bye);
    assert_eq!(bye.to_tag(), Some("second"));
    w.send(other.at, other.response(&bye, 200));
    assert!(w.call().is_live());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_answer_after_a_failure_of_the_same_invite_is_hung_up() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 486);
    w.refused(&alice, 486);
    assert!(w.exchange.calls().next().is_none());
    w.heard(A);
    let other = Side::called(callee.at, callee.invite.clone(), "second", "UDP");
    w.reply_with(&other, 200, ANSWER);
    assert_eq!(w.heard(A), ["ACK", "BYE"]);
    w.ok(&other, Method::Bye);
    w.finish();
}

#[test]
fn responses_to_nothing_we_sent_do_nothing() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let mut forged = callee.response(&callee.invite, 200);
    forged.headers.set(HeaderName::Via, "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-1-0000000000000000");
    w.send(STRANGER.parse().unwrap(), forged);
    assert!(w.heard(STRANGER).is_empty() && w.heard(A).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}
