//! Ringback of our own: for callers whose session runs before the answer and who would hear nothing.

use super::far::Side;
use super::world::*;
use crate::config::{Config, Prack};
use crate::sip::message::{HeaderName, Method, Typed};
use crate::types::LegId;

/// What plays on the caller's leg: nothing, or a tone and the leg whose voice ends it.
fn tone(w: &World) -> Option<Option<LegId>> {
    w.leg(0).tone
}

/// alice calls, and the trunk's early media is announced.
fn announced(w: &mut World) -> (Side, Side) {
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 183, ANSWER);
    (alice, callee)
}

#[test]
fn a_caller_whose_far_end_sends_no_early_media_hears_ringback_until_the_answer() {
    let mut w = World::new();
    let (mut alice, callee) = announced(&mut w);
    w.pass(ms(300));
    w.reply(&callee, 180);
    w.pass(ms(699));
    assert_eq!(tone(&w), None, "it may still come");
    w.pass(ms(1));
    let far = LegId { call: w.call().id, index: 1 };
    assert_eq!(tone(&w), Some(Some(far)), "the first voice of the far end is to end it");
    w.pass(secs(10));
    w.reply(&callee, 180);
    assert_eq!(tone(&w), Some(Some(far)));
    w.reply_with(&callee, 200, ANSWER);
    w.ack(&mut alice);
    assert_eq!(tone(&w), None);
    w.request(callee.at, Method::Ack);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_call_that_is_answered_within_the_second_has_no_tone_and_one_without_a_session_neither() {
    let mut w = World::new();
    let (mut alice, callee) = announced(&mut w);
    w.pass(ms(900));
    w.reply_with(&callee, 200, ANSWER);
    w.ack(&mut alice);
    w.pass(secs(5));
    assert_eq!(tone(&w), None);
    w.request(callee.at, Method::Ack);
    w.hang_up(&mut alice, &callee);
    w.finish();

    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.pass(secs(5));
    assert_eq!(tone(&w), None, "its own phone rings");
    w.cancel(&alice);
    w.request(callee.at, Method::Cancel);
    w.reply(&callee, 487);
    w.finish();
}

#[test]
fn who_may_hear_nothing_hears_ringback_at_once() {
    let asks = |config: &mut Config| config.trunks[0].p_early_media = true;
    let mut w = World::with(asks);
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_saying(&callee, 183, ANSWER, &[(HeaderName::PEarlyMedia, "sendrecv")]);
    w.reply_saying(&callee, 180, "", &[(HeaderName::PEarlyMedia, "inactive")]);
    assert_eq!(tone(&w), Some(None), "no voice of the far end counts");
    // It is permitted again: what sounds ends with the voice now.
    w.reply_saying(&callee, 183, &ANSWER.replace("6000", "6002"), &[(HeaderName::PEarlyMedia, "sendrecv")]);
    assert!(matches!(tone(&w), Some(Some(_))));
    w.cancel(&alice);
    w.request(callee.at, Method::Cancel);
    w.reply(&callee, 487);
    w.finish();
}

#[test]
fn the_next_trunk_rings_in_the_session_that_the_first_one_opened() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    w.reply_with(&first, 183, ANSWER);
    w.pass(secs(2));
    assert!(tone(&w).is_some());
    w.reply(&first, 503);
    assert_eq!(tone(&w), None, "nobody rings");
    w.heard(A);
    let second = w.invited(B);
    w.pass(ms(100));
    assert_eq!(tone(&w), None);
    w.reply(&second, 180);
    assert_eq!(tone(&w), Some(None));
    w.cancel(&alice);
    w.request(second.at, Method::Cancel);
    w.reply(&second, 487);
    w.finish();
}

#[test]
fn a_prack_that_comes_while_the_next_trunk_has_not_rung_starts_no_tone() {
    let mut w = World::new();
    let mut alice = w.dial_with("alice", "0470123456", "", |invite| {
        invite.headers.push(HeaderName::Require, "100rel");
    });
    let first = w.invited(A);
    w.reply(&first, 180);
    let ringing = w.response(alice.at, 180);
    alice.learn(&ringing);
    w.reply(&first, 503);
    let second = w.invited(B);
    w.reply(&second, 100);
    let prack = alice.prack(ringing.rseq().unwrap(), OPUS_ANSWER);
    w.send(alice.at, &prack);
    w.response(alice.at, 200);
    w.pass(secs(2));
    assert_eq!(tone(&w), None, "nobody rings");
    w.reply(&second, 180);
    assert_eq!(tone(&w), Some(None));
    w.cancel(&alice);
    w.request(second.at, Method::Cancel);
    w.reply(&second, 487);
    w.finish();
}

#[test]
fn a_trunk_whose_session_its_prack_completed_hears_the_phone_ring() {
    let mut w = World::with(|config| config.trunks[0].prack = Prack::Supported);
    w.register("bob", BOB);
    let mut caller = w.call_in_with(A, "+3225550002", "", |invite| {
        invite.headers.push(HeaderName::Supported, "100rel");
    });
    let bob = w.invited(BOB);
    w.reply(&bob, 180);
    let ringing = w.response(caller.at, 180);
    assert!(!ringing.body.is_empty(), "our offer");
    caller.learn(&ringing);
    let prack = caller.prack(ringing.rseq().unwrap(), ANSWER);
    w.send(caller.at, &prack);
    assert_eq!(tone(&w), Some(None));
    w.reply_with(&bob, 200, OPUS_ANSWER);
    w.heard(BOB);
    w.response(caller.at, 200);
    let answer = w.response(caller.at, 200);
    assert_eq!(tone(&w), None);
    let ack = caller.ack(&answer);
    w.send(caller.at, &ack);
    w.hang_up(&mut caller, &bob);
    w.finish();
}
