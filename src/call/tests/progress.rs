//! What a caller learns and hears before the answer.

use super::far::Side;
use super::world::*;
use crate::config::Prack;
use crate::sip::message::{HeaderName, Method, Typed};
use crate::types::{AudioCodec, LegId};

#[test]
fn a_caller_hears_100_while_nothing_has_come_back() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    w.invited(A);
    w.pass(ms(199));
    assert!(w.heard(ALICE).is_empty());
    w.pass(ms(1));
    assert_eq!(w.heard(ALICE), ["100"]);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn ringing_is_passed_on_with_one_tag_and_a_contact() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    let ringing = w.response(alice.at, 180);
    assert!(ringing.body.is_empty());
    assert_eq!(ringing.headers.get(&HeaderName::Contact), Some("<sip:192.0.2.1:5060>"));
    w.reply_with(&callee, 200, ANSWER);
    let answer = w.ack(&mut alice);
    assert_eq!(answer.to_tag(), ringing.to_tag());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn early_media_reaches_the_caller_and_ringing_after_it_changes_nothing() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 183, ANSWER);
    let progress = w.response(alice.at, 183);
    assert!(!progress.body.is_empty());
    assert_eq!(w.leg(0).config.as_ref().unwrap().codec, AudioCodec::Opus);
    assert_eq!(w.leg(1).config.as_ref().unwrap().codec, AudioCodec::Pcma);
    assert_eq!(w.media.bridges, 1);
    // Announcements pause: silence before the answer ends no call.
    assert_eq!((w.leg(0).timeout, w.leg(1).timeout), (None, None));

    w.reply(&callee, 180);
    let ringing = w.response(alice.at, 180);
    assert_eq!(ringing.body, progress.body, "the description of the early dialog stays");
    w.reply_with(&callee, 200, ANSWER);
    let answer = w.ack(&mut alice);
    assert_eq!(answer.body, progress.body);
    assert_eq!((w.media.bridges, w.leg(0).configured, w.leg(1).configured), (1, 1, 1));
    assert_eq!(w.leg(1).timeout, Some(secs(30)));
    w.request(callee.at, Method::Ack);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn another_description_in_the_answer_arms_the_media_path_again() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 183, ANSWER);
    w.reply_with(&callee, 200, &ANSWER.replace("6000", "6002"));
    w.ack(&mut alice);
    assert_eq!(w.leg(1).configured, 2);
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6002);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_answer_may_stand_in_the_183_only() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 183, ANSWER);
    w.reply(&callee, 200);
    w.ack(&mut alice);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn without_early_media_the_caller_hears_its_own_ringback() {
    let mut w = World::with(|config| config.trunks[0].early_media = false);
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 183, ANSWER);
    assert!(w.response(alice.at, 180).body.is_empty());
    assert!(w.leg(1).config.is_none());
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_183_without_media_says_that_it_rings() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 183);
    assert_eq!(w.heard(ALICE), ["180"]);
    w.cancel(&alice);
    assert!(w.finish().ringing_at.is_some());
}

#[test]
fn queued_and_forwarded_are_passed_on_but_nobody_rings_yet() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 181);
    w.reply(&callee, 182);
    assert_eq!(w.heard(ALICE), ["181", "182"]);
    w.cancel(&alice);
    assert_eq!(w.finish().ringing_at, None);
}

#[test]
fn a_storm_of_progress_is_told_once_a_second_and_configures_nothing() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    for _ in 0..100 {
        w.reply_with(&callee, 183, ANSWER);
        w.pass(ms(20));
    }
    assert_eq!(w.heard(ALICE), ["183", "183"]);
    assert_eq!((w.leg(1).configured, w.media.bridges), (1, 1));
    w.cancel(&alice);
    w.finish();
}

#[test]
fn the_description_is_found_beside_isup() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    let body = format!(
        "--x\r\nContent-Type: application/isup;version=itu-t92+\r\n\r\n\u{1}\u{2}\r\n\
         --x\r\nContent-Type: application/sdp\r\n\r\n{ANSWER}\r\n--x--\r\n"
    );
    let answer = callee.response(&callee.invite, 200).with_body("multipart/mixed;boundary=x", body);
    w.send(callee.at, answer);
    w.ack(&mut alice);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_trunk_that_says_so_is_believed_whether_its_early_media_may_be_heard() {
    let early = |value| [(HeaderName::PEarlyMedia, value)];
    let mut w = World::with(|config| config.trunks[0].p_early_media = true);
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    assert_eq!(callee.invite.headers.get(&HeaderName::PEarlyMedia), Some("supported"));
    w.reply_saying(&callee, 183, ANSWER, &early("inactive"));
    assert!(w.response(alice.at, 180).body.is_empty(), "its own phone rings");
    w.reply_saying(&callee, 183, ANSWER, &early("sendrecv, gated"));
    assert!(!w.response(alice.at, 183).body.is_empty());
    w.reply_saying(&callee, 180, "", &early("recvonly"));
    assert!(w.response(alice.at, 180).body.is_empty());
    w.cancel(&alice);
    w.finish();
}

/// Two phones behind a trunk that says whose early media may be heard; the first one is heard, and alice.
fn two_forks(w: &mut World, first: &str) -> (Side, Side, Side) {
    let alice = w.dial("alice", "0470123456");
    let one = w.invited(A);
    let two = Side::called(one.at, one.invite.clone(), "other", "UDP");
    w.reply_saying(&one, 183, ANSWER, &[(HeaderName::PEarlyMedia, first)]);
    (alice, one, two)
}

#[test]
fn each_fork_has_a_permission_of_its_own_to_be_heard() {
    let mut w = World::with(|config| config.trunks[0].p_early_media = true);
    let (mut alice, one, two) = two_forks(&mut w, "sendrecv");
    let announced = w.response(alice.at, 183);
    // Another phone rings, and may not be heard: the announcement goes on.
    w.reply_saying(&two, 180, "", &[(HeaderName::PEarlyMedia, "inactive")]);
    assert_eq!(w.response(alice.at, 180).body, announced.body);
    w.reply_with(&two, 183, &ANSWER.replace("6000", "6100"));
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6000, "it may still not be heard");
    assert_eq!(w.leg(0).tone, None);
    // Its own word takes it back.
    w.reply_saying(&one, 180, "", &[(HeaderName::PEarlyMedia, "inactive")]);
    assert!(w.response(alice.at, 183).body == announced.body && w.response(alice.at, 180).body.is_empty());
    assert_eq!(w.leg(0).tone, Some(None), "nobody may be heard: ringback");
    // What the other one has described is heard once it may be.
    w.reply_saying(&two, 180, "", &[(HeaderName::PEarlyMedia, "sendrecv")]);
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6100);
    w.reply(&one, 200);
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6000);
    w.ack(&mut alice);
    w.heard(A);
    w.hang_up(&mut alice, &one);
    w.finish();
}

#[test]
fn a_fork_that_may_not_be_heard_changes_its_session_for_its_answer_alone() {
    let mut w = World::with(|config| {
        config.trunks[0].p_early_media = true;
        config.trunks[0].prack = Prack::Supported;
    });
    let (mut alice, _, mut two) = two_forks(&mut w, "sendrecv");
    let said =
        [(HeaderName::PEarlyMedia, "inactive"), (HeaderName::Require, "100rel"), (HeaderName::RSeq, "7")];
    w.reply_saying(&two, 183, &ANSWER.replace("6000", "6100"), &said);
    w.ok(&two, Method::Prack);
    w.heard(A);
    let moved = ANSWER.replace("6000", "6102");
    let update = two.request(Method::Update).with_body("application/sdp", moved);
    w.send(two.at, &update);
    w.response(two.at, 200);
    let heard = |w: &World| (w.leg(1).config.as_ref().unwrap().remote_rtp.port(), w.leg(1).configured);
    assert_eq!(heard(&w), (6000, 1));
    w.reply(&two, 200);
    assert_eq!(heard(&w), (6102, 2));
    w.ack(&mut alice);
    w.heard(A);
    w.hang_up(&mut alice, &two);
    w.finish();
}

#[test]
fn a_fork_that_ends_before_the_others_is_told_to_nobody_and_heard_no_more() {
    for reliable in [false, true] {
        let mut w = World::with(|config| config.trunks[0].prack = Prack::Supported);
        let (mut alice, one, two) = two_forks(&mut w, "sendrecv");
        w.reply(&two, 180);
        w.heard(ALICE);
        w.pass(secs(2));
        let far = LegId { call: w.call().id, index: 1 };
        assert_eq!(w.leg(0).tone, Some(Some(far)), "its voice would end the tone");
        let said = [(HeaderName::Require, "100rel"), (HeaderName::RSeq, "3")];
        w.reply_saying(&one, 199, "", if reliable { &said[..] } else { &[] });
        if reliable {
            let prack = w.request(one.at, Method::Prack);
            assert_eq!(prack.to_tag(), one.own.tag());
            w.send(one.at, one.response(&prack, 200));
        }
        w.pass(secs(2));
        assert!(w.heard(ALICE).is_empty(), "alice has one dialog with us");
        assert_eq!(w.leg(0).tone, Some(None), "what comes of it is no voice any more");
        let mut dead = Side::called(one.at, one.invite.clone(), one.own.tag().unwrap(), "UDP");
        let update = dead.request(Method::Update);
        w.send(dead.at, &update);
        assert_eq!(w.heard(A), ["481 UPDATE"]);
        w.reply_with(&two, 200, &ANSWER.replace("6000", "6100"));
        assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6100);
        w.ack(&mut alice);
        w.heard(A);
        w.hang_up(&mut alice, &two);
        w.finish();
    }
}

#[test]
fn when_the_fork_that_was_heard_ends_another_one_that_may_be_is_heard_again() {
    let mut w = World::new();
    let (alice, one, two) = two_forks(&mut w, "sendrecv");
    let heard = |w: &World| w.leg(1).config.as_ref().unwrap().remote_rtp.port();
    assert_eq!(heard(&w), 6000);
    w.reply_saying(&two, 183, &ANSWER.replace("6000", "6100"), &[(HeaderName::PEarlyMedia, "sendrecv")]);
    assert_eq!(heard(&w), 6100);
    w.reply_saying(&two, 199, "", &[]);
    w.pass(secs(2));
    let far = LegId { call: w.call().id, index: 1 };
    assert_eq!((heard(&w), w.leg(0).tone), (6000, Some(Some(far))), "its voice ends the tone");
    w.reply_saying(&one, 199, "", &[]);
    w.pass(secs(2));
    assert_eq!(w.leg(0).tone, Some(None));
    w.heard(ALICE);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_trunk_that_was_not_asked_is_not_believed() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    assert_eq!(callee.invite.headers.get(&HeaderName::PEarlyMedia), None);
    w.reply_saying(&callee, 183, ANSWER, &[(HeaderName::PEarlyMedia, "inactive")]);
    assert!(!w.response(alice.at, 183).body.is_empty());
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_calling_trunk_that_asks_is_told_that_early_media_may_be_heard() {
    for asks in [true, false] {
        let mut w = World::with(|config| config.trunks[0].p_early_media = true);
        let caller = w.call_in_with(A, "+31201234567", OFFER, |invite| {
            if asks {
                invite.headers.push(HeaderName::PEarlyMedia, "supported");
            }
        });
        let callee = w.invited(B);
        w.reply_with(&callee, 183, ANSWER);
        let told = w.response(caller.at, 183);
        assert_eq!(told.headers.get(&HeaderName::PEarlyMedia), asks.then_some("sendrecv"));
        w.cancel(&caller);
        w.finish();
    }
}

#[test]
fn a_storm_of_progress_is_no_storm_for_the_caller() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    for _ in 0..200 {
        for status in [180, 181, 182] {
            w.reply(&callee, status);
        }
    }
    assert_eq!(w.heard(ALICE).len(), 20);
    w.reply_with(&callee, 183, ANSWER);
    assert_eq!(w.heard(ALICE), ["183"], "that a voice begins is news");
    w.reply_with(&callee, 200, ANSWER);
    w.request(callee.at, crate::sip::message::Method::Ack);
    w.ack(&mut alice);
    w.hang_up(&mut alice, &callee);
    assert_eq!(w.finish().end_cause, Some(crate::types::EndCause::NormalClearing));
}
