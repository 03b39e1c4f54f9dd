//! What ends by the clock: calls nobody answers, calls that last too long, calls in which nobody is heard.

use super::world::*;
use crate::call::Input;
use crate::sip::message::Method;
use crate::types::{EndCause, LegId, ReleasedBy};

#[test]
fn a_call_that_nobody_answers_is_given_up() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.pass(secs(119));
    assert_eq!(w.heard(ALICE), ["180"]);
    w.pass(secs(1));
    assert_eq!(w.heard(A), ["CANCEL"]);
    w.reply(&callee, 487);
    w.refused(&alice, 480);
    assert!(w.heard(B).is_empty(), "who did not answer does not want to be rung by another way");
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.q850), (Some(EndCause::NoAnswer), Some(19)));
}

#[test]
fn a_trunk_may_have_its_own_patience() {
    let mut w = World::with(|config| config.trunks[0].ring = Some(secs(20)));
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.pass(secs(20));
    w.refused(&alice, 480);
    w.finish();
}

#[test]
fn the_longest_call_ends_by_itself() {
    let mut w = World::with(|config| {
        config.limits.max_duration = secs(3_600);
        config.trunks[0].max_duration = Some(secs(100));
    });
    let (alice, callee) = w.talking();
    w.pass(secs(99));
    assert!(w.heard(ALICE).is_empty());
    w.pass(secs(1));
    assert_eq!((w.heard(ALICE), w.heard(A)), (vec!["BYE".to_owned()], vec!["BYE".to_owned()]));
    w.ok(&alice, Method::Bye);
    w.ok(&callee, Method::Bye);
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.duration_ms), (Some(EndCause::MaxDuration), 100_000));
    assert_eq!(cdr.released_by, Some(ReleasedBy::Gateway));
}

#[test]
fn users_among_themselves_have_the_gateways_limit() {
    let mut w = World::with(|config| config.limits.max_duration = secs(50));
    w.register("bob", BOB);
    let mut alice = w.dial("alice", "bob");
    let bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    w.ack(&mut alice);
    w.pass(secs(50));
    w.ok(&alice, Method::Bye);
    w.ok(&bob, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::MaxDuration));
}

#[test]
fn a_call_in_which_nothing_is_heard_ends() {
    let mut w = World::new();
    let (alice, callee) = w.talking();
    assert_eq!((w.leg(0).timeout, w.leg(1).timeout), (Some(secs(30)), Some(secs(30))));
    let leg = LegId { call: w.call().id, index: 1 };
    w.input(Input::MediaTimedOut { leg });
    w.ok(&alice, Method::Bye);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::MediaTimeout));
}

#[test]
fn silence_on_hold_is_no_failure() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let hold = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &hold);
    w.ack(&mut alice);
    assert_eq!((w.leg(0).timeout, w.leg(1).timeout), (None, None));
    // The worker had seen the time-out before it heard of the hold.
    let leg = LegId { call: w.call().id, index: 0 };
    w.input(Input::MediaTimedOut { leg });
    assert!(w.call().is_live());
    let mirrored = w.request(callee.at, Method::Invite);
    let answer = callee.response(&mirrored, 200).with_body("application/sdp", directed(ANSWER, "recvonly"));
    w.send(callee.at, answer);
    assert_eq!((w.leg(0).timeout, w.leg(1).timeout), (None, None));

    let resume = alice.invite(OFFER);
    w.send(alice.at, &resume);
    w.ack(&mut alice);
    w.request(callee.at, Method::Ack);
    let mirrored = w.request(callee.at, Method::Invite);
    let answer = callee.response(&mirrored, 200).with_body("application/sdp", ANSWER);
    w.send(callee.at, answer);
    assert_eq!((w.leg(0).timeout, w.leg(1).timeout), (Some(secs(30)), Some(secs(30))));
    w.input(Input::MediaTimedOut { leg });
    w.ok(&alice, Method::Bye);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::MediaTimeout));
}

#[test]
fn without_a_media_time_out_nobody_is_watched() {
    let mut w = World::with(|config| config.media.timeout = None);
    let (mut alice, callee) = w.talking();
    assert_eq!((w.leg(0).timeout, w.leg(1).timeout), (None, None));
    w.hang_up(&mut alice, &callee);
    w.finish();
}
