//! A user's devices ring together; one of them gets the call.

use super::far::Side;
use super::world::*;
use crate::sip::message::{HeaderName, Method};
use crate::types::EndCause;

/// Bob's devices ring.
fn ringing(w: &mut World, at: &[&str]) -> (Side, Vec<Side>) {
    for device in at {
        w.register("bob", device);
    }
    let caller = w.call_in(A, "+3225550002");
    let devices = at.iter().map(|device| w.invited(device)).collect();
    (caller, devices)
}

#[test]
fn the_first_answer_wins_and_the_others_are_told_why_they_stop() {
    let mut w = World::new();
    let (mut caller, devices) = ringing(&mut w, &[BOB, BOB2, BOB3]);
    w.reply(&devices[0], 180);
    w.reply(&devices[1], 180);
    assert_eq!(w.heard(A), ["180"], "the caller hears once that it rings");
    w.reply_with(&devices[1], 200, OPUS_ANSWER);
    assert_eq!(w.heard(BOB2), ["ACK"]);
    let cancel = w.request(devices[0].at, Method::Cancel);
    assert_eq!(
        cancel.headers.get(&HeaderName::Reason),
        Some("SIP;cause=200;text=\"Call completed elsewhere\"")
    );
    w.ok(&devices[0], Method::Cancel);
    w.reply(&devices[0], 487);
    assert_eq!(w.heard(BOB), ["ACK"]);
    // The third one never said a word: its CANCEL waits for one.
    assert!(w.heard(BOB3).is_empty());
    w.reply(&devices[2], 100);
    assert_eq!(w.heard(BOB3), ["CANCEL"]);
    w.reply(&devices[2], 487);
    w.ack(&mut caller);
    w.pass(secs(5));
    w.hang_up(&mut caller, &devices[1]);
    let cdr = w.finish();
    let chosen: Vec<_> = cdr.legs.iter().map(|leg| leg.chosen).collect();
    assert_eq!(chosen, [false, true, false]);
    assert_eq!(cdr.duration_ms, 5_000);
}

#[test]
fn of_two_answers_the_second_is_acknowledged_and_hung_up() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut w = World::new();
        let (mut caller, devices) = ringing(&mut w, &[BOB, BOB2]);
        w.reply(&devices[0], 180);
        w.reply(&devices[1], 180);
        w.reply_with(&devices[first], 200, OPUS_ANSWER);
        w.reply_with(&devices[second], 200, ANSWER);
        let loser = [BOB, BOB2][second];
        assert_eq!(w.heard(loser), ["CANCEL", "ACK", "BYE"]);
        w.ok(&devices[second], Method::Bye);
        w.ack(&mut caller);
        w.hang_up(&mut caller, &devices[first]);
        let cdr = w.finish();
        assert!(cdr.legs[first].chosen && !cdr.legs[second].chosen);
        assert_eq!(cdr.callee_codec, Some(crate::types::AudioCodec::Opus), "of the one that was taken");
        assert_eq!(cdr.end_cause, Some(EndCause::NormalClearing));
    }
}

#[test]
fn two_answers_while_the_journal_writes_make_one_call() {
    let mut w = World::new();
    w.journal.answer = Verdict::Durable(ms(50));
    let (mut caller, devices) = ringing(&mut w, &[BOB, BOB2]);
    w.reply_with(&devices[0], 200, OPUS_ANSWER);
    w.reply_with(&devices[1], 200, OPUS_ANSWER);
    w.pass(ms(50));
    assert_eq!(w.heard(BOB), ["ACK"]);
    assert_eq!(w.heard(BOB2), ["ACK", "BYE"]);
    w.ack(&mut caller);
    w.hang_up(&mut caller, &devices[0]);
    w.finish();
}

#[test]
fn a_person_that_declines_speaks_for_all_devices() {
    let mut w = World::new();
    let (caller, devices) = ringing(&mut w, &[BOB, BOB2]);
    w.reply(&devices[0], 180);
    w.reply(&devices[1], 180);
    w.reply(&devices[0], 603);
    assert_eq!(w.heard(BOB2), ["CANCEL"]);
    w.reply(&devices[1], 487);
    w.refused(&caller, 603);
    assert_eq!(w.finish().end_cause, Some(EndCause::Declined));
}

#[test]
fn one_busy_device_leaves_the_others_ringing_and_the_best_answer_is_told() {
    let mut w = World::new();
    let (caller, devices) = ringing(&mut w, &[BOB, BOB2, BOB3]);
    w.reply(&devices[0], 486);
    w.reply(&devices[1], 500);
    assert!(w.heard(A).is_empty());
    w.reply(&devices[2], 480);
    w.refused(&caller, 486);
    assert_eq!(w.finish().end_cause, Some(EndCause::Busy));
}

#[test]
fn devices_that_are_gone_do_not_hold_the_others_up() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("bob", BOB2);
    w.unreachable.push(BOB.parse().unwrap());
    let mut caller = w.call_in(A, "+3225550002");
    let device = w.invited(BOB2);
    w.reply_with(&device, 200, OPUS_ANSWER);
    w.ack(&mut caller);
    w.hang_up(&mut caller, &device);
    w.finish();
}

#[test]
fn a_user_whose_only_device_is_silent_is_absent_within_seconds() {
    let mut w = World::new();
    let (caller, _) = ringing(&mut w, &[BOB]);
    w.pass(secs(7));
    w.refused(&caller, 480);
    assert_eq!(w.finish().end_cause, Some(EndCause::Unavailable));
}

#[test]
fn who_calls_itself_rings_its_other_devices_only() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("bob", BOB2);
    let bob = w.dial("bob", "bob");
    assert!(w.heard(BOB).is_empty());
    w.invited(BOB2);
    w.cancel(&bob);
    w.finish();
}

#[test]
fn users_behind_one_proxy_reach_each_other() {
    let mut w = World::new();
    // Carol's device and alice's share an address.
    w.register("carol", ALICE);
    let alice = w.dial("alice", "carol");
    w.invited(ALICE);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_second_fork_of_one_device_is_hung_up() {
    let mut w = World::new();
    let (mut caller, devices) = ringing(&mut w, &[BOB]);
    w.reply_with(&devices[0], 200, OPUS_ANSWER);
    w.ack(&mut caller);
    w.heard(BOB);
    let mut other = Side::called(devices[0].at, devices[0].invite.clone(), "fork2", "UDP");
    w.reply_with(&other, 200, OPUS_ANSWER);
    let ack = w.request(other.at, Method::Ack);
    let bye = w.request(other.at, Method::Bye);
    for request in [&ack, &bye] {
        assert_eq!(crate::sip::message::Typed::to_tag(request), Some("fork2"));
    }
    w.send(other.at, other.response(&bye, 200));
    other.cseq += 1;
    assert!(w.call().is_live(), "the call goes on");
    w.hang_up(&mut caller, &devices[0]);
    w.finish();
}
