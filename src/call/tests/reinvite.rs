//! Changes inside a call: hold and resume on both sides, and two offers at once.

use super::far::Side;
use super::world::*;
use crate::sip::message::{HeaderName, Method, Request, Typed};
use crate::types::{EndCause, MediaDirection};

fn direction_of(request: &Request) -> String {
    let text = String::from_utf8(request.body.to_vec()).unwrap();
    let names = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let found = names.into_iter().find(|name| text.contains(&format!("a={name}")));
    found.unwrap_or("sendrecv").to_owned()
}

/// A side sends an offer and acknowledges the answer; the answer's direction.
fn offer(w: &mut World, side: &mut Side, sdp: &str) -> String {
    let request = side.invite(sdp);
    w.send(side.at, &request);
    let answer = w.ack(side);
    direction_of(&Request::new(Method::Invite, side.target.clone()).with_body("application/sdp", answer.body))
}

/// A side gets a re-INVITE, answers it and is acknowledged; the direction it was told.
fn told(w: &mut World, side: &Side, sdp: &str) -> String {
    let request = w.request(side.at, Method::Invite);
    // Repetitions of it that came meanwhile.
    w.inbox(side.at).clear();
    let answer = side.response(&request, 200).with_body("application/sdp", sdp.to_owned());
    w.send(side.at, answer);
    w.request(side.at, Method::Ack);
    direction_of(&request)
}

fn directions(w: &World) -> (MediaDirection, MediaDirection) {
    (w.leg(0).config.as_ref().unwrap().direction, w.leg(1).config.as_ref().unwrap().direction)
}

const BOTH: (MediaDirection, MediaDirection) = (MediaDirection::SendRecv, MediaDirection::SendRecv);

#[test]
fn hold_and_resume_are_told_to_the_other_side() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    assert_eq!(offer(&mut w, &mut alice, &directed(OFFER, "sendonly")), "recvonly");
    assert_eq!(told(&mut w, &callee, &directed(ANSWER, "recvonly")), "sendonly");
    assert_eq!(directions(&w), (MediaDirection::RecvOnly, MediaDirection::SendOnly));
    assert_eq!(offer(&mut w, &mut alice, OFFER), "sendrecv");
    assert_eq!(told(&mut w, &callee, ANSWER), "sendrecv");
    assert_eq!(directions(&w), BOTH);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_hold_that_does_not_get_out_is_told_later() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.unreachable.push(callee.at);
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    w.pass(secs(3));
    w.unreachable.clear();
    assert!(w.call().is_live());
    assert!(w.heard(A).is_empty());
    w.pass(secs(1));
    assert_eq!(told(&mut w, &callee, &directed(ANSWER, "recvonly")), "sendonly");
    assert_eq!(directions(&w), (MediaDirection::RecvOnly, MediaDirection::SendOnly));
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_far_end_that_can_never_be_told_of_a_hold_is_lost() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.unreachable.push(callee.at);
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    w.pass(secs(15));
    assert!(w.call().is_live());
    w.pass(secs(1));
    assert_eq!(w.heard(ALICE), ["BYE"]);
    w.ok(&alice, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::DialogLost));
}

#[test]
fn a_callee_holds_the_old_way() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    let hold = ANSWER.replace("c=IN IP4 203.0.113.1", "c=IN IP4 0.0.0.0");
    offer(&mut w, &mut callee, &hold);
    assert_eq!(told(&mut w, &alice, &directed(OFFER, "recvonly")), "sendonly");
    offer(&mut w, &mut callee, ANSWER);
    assert_eq!(told(&mut w, &alice, OFFER), "sendrecv");
    assert_eq!(directions(&w), BOTH);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn when_both_hold_and_both_resume_everybody_is_heard_again() {
    for first in [0, 1] {
        let mut w = World::new();
        let (mut alice, mut callee) = w.talking();
        offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
        told(&mut w, &callee, &directed(ANSWER, "recvonly"));
        offer(&mut w, &mut callee, &directed(ANSWER, "sendonly"));
        told(&mut w, &alice, &directed(OFFER, "inactive"));
        assert_eq!(directions(&w), (MediaDirection::Inactive, MediaDirection::Inactive));
        if first == 0 {
            assert_eq!(offer(&mut w, &mut alice, OFFER), "sendonly", "the other side still holds");
            told(&mut w, &callee, &directed(ANSWER, "sendonly"));
            offer(&mut w, &mut callee, ANSWER);
            told(&mut w, &alice, OFFER);
        } else {
            assert_eq!(offer(&mut w, &mut callee, ANSWER), "sendonly");
            told(&mut w, &alice, &directed(OFFER, "sendonly"));
            offer(&mut w, &mut alice, OFFER);
            told(&mut w, &callee, ANSWER);
        }
        assert_eq!(directions(&w), BOTH, "first {first}");
        w.hang_up(&mut alice, &callee);
        w.finish();
    }
}

#[test]
fn a_quick_resume_is_told_after_the_hold_that_is_still_on_its_way() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    let hold = w.request(callee.at, Method::Invite);
    offer(&mut w, &mut alice, OFFER);
    assert!(w.heard(A).is_empty());
    let answer = callee.response(&hold, 200).with_body("application/sdp", directed(ANSWER, "recvonly"));
    w.send(callee.at, answer);
    w.request(callee.at, Method::Ack);
    assert_eq!(told(&mut w, &callee, ANSWER), "sendrecv");
    assert_eq!(directions(&w), BOTH);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_refresh_of_the_session_tells_nobody_anything() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    assert_eq!(offer(&mut w, &mut alice, OFFER), "sendrecv");
    assert!(w.heard(A).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn who_is_held_and_refreshes_its_session_stays_held() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    told(&mut w, &callee, &directed(ANSWER, "recvonly"));
    assert_eq!(offer(&mut w, &mut callee, ANSWER), "sendonly");
    assert!(w.heard(ALICE).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_caller_may_begin_on_hold() {
    let mut w = World::new();
    let mut alice = w.dial_with("alice", "0470123456", &directed(OFFER, "inactive"), |_| {});
    let callee = w.invited(A);
    assert_eq!(direction_of(&callee.invite), "inactive");
    w.reply_with(&callee, 200, &directed(ANSWER, "inactive"));
    w.ack(&mut alice);
    assert_eq!((w.leg(0).timeout, w.leg(1).timeout), (None, None));
    w.heard(A);
    offer(&mut w, &mut alice, OFFER);
    assert_eq!(told(&mut w, &callee, ANSWER), "sendrecv");
    assert_eq!(directions(&w), BOTH);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_refused_hold_leaves_the_call_as_it_is() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    let mirrored = w.request(callee.at, Method::Invite);
    w.send(callee.at, callee.response(&mirrored, 488));
    assert_eq!(w.heard(A), ["ACK"]);
    w.pass(secs(60));
    assert!(w.heard(A).is_empty(), "a refusal is not asked about again");
    assert!(w.call().is_live());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_hold_that_is_refused_for_now_is_told_when_the_far_end_is_ready() {
    for (status, wait, after) in [(500, "3", 3), (503, "0 (busy)", 0), (500, "3600;duration=9", 10)] {
        let mut w = World::new();
        let (mut alice, callee) = w.talking();
        offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
        let hold = w.request(callee.at, Method::Invite);
        w.send(callee.at, callee.response(&hold, status).with_header(HeaderName::RetryAfter, wait));
        w.request(callee.at, Method::Ack);
        if after > 0 {
            w.pass(secs(after) - ms(1));
            assert!(w.heard(A).is_empty());
            w.pass(ms(1));
        }
        assert_eq!(told(&mut w, &callee, &directed(ANSWER, "recvonly")), "sendonly");
        assert_eq!(directions(&w), (MediaDirection::RecvOnly, MediaDirection::SendOnly));
        w.hang_up(&mut alice, &callee);
        w.finish();
    }
}

#[test]
fn a_far_end_that_is_never_ready_is_told_five_times() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    for _ in 0..5 {
        let hold = w.request(callee.at, Method::Invite);
        w.send(callee.at, callee.response(&hold, 503).with_header(HeaderName::RetryAfter, "1"));
        w.request(callee.at, Method::Ack);
        w.pass(secs(1));
    }
    w.pass(secs(60));
    assert!(w.heard(A).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_offer_that_can_not_be_answered_leaves_the_session_untouched() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let configured = w.leg(0).configured;
    for (body, kind) in
        [(OFFER.replace("111 8 101", "18 101"), "application/sdp"), ("x".into(), "text/plain")]
    {
        let mut request = alice.invite(&body);
        request.headers.set(HeaderName::ContentType, kind);
        w.send(alice.at, &request);
        w.refused(&alice, 488);
    }
    assert_eq!(w.leg(0).configured, configured);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn offers_that_cross_are_both_refused_and_both_tried_again() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    let ours = w.request(callee.at, Method::Invite);
    // The callee refreshes just now; each refuses the other's (RFC 3261 §14.2).
    let theirs = callee.invite(ANSWER);
    w.send(callee.at, &theirs);
    assert_eq!(w.heard(A), ["491"]);
    w.send(callee.at, callee.ack_failure(&w.last_response(A, 491)));
    w.send(callee.at, callee.response(&ours, 491));
    assert_eq!(w.heard(A), ["ACK"]);
    w.pass(ms(1));
    let since = w.now.instant;
    w.pass(secs(5));
    let tries = w.sent_times(A, "INVITE", since);
    // We own the Call-ID of this leg: 2.1 to 4 s (RFC 3261 §14.1).
    assert!((2_100..=4_000).contains(&tries[0]), "{tries:?}");
    assert_eq!(told(&mut w, &callee, &directed(ANSWER, "recvonly")), "sendonly");
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn towards_the_owner_of_the_call_id_the_second_try_is_sooner() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    offer(&mut w, &mut callee, &directed(ANSWER, "sendonly"));
    let ours = w.request(alice.at, Method::Invite);
    w.send(alice.at, alice.response(&ours, 491));
    assert_eq!(w.heard(ALICE), ["ACK"]);
    w.pass(ms(1));
    let since = w.now.instant;
    w.pass(secs(3));
    assert!(w.sent_times(ALICE, "INVITE", since)[0] <= 2_000);
    told(&mut w, &alice, &directed(OFFER, "recvonly"));
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_hold_that_crosses_an_offer_each_time_is_told_five_times_and_a_resume_anew() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    for _ in 0..5 {
        let ours = w.request(callee.at, Method::Invite);
        w.inbox(callee.at).clear();
        w.send(callee.at, callee.response(&ours, 491));
        w.request(callee.at, Method::Ack);
        w.pass(secs(4));
    }
    w.pass(secs(60));
    assert!(w.heard(A).is_empty());
    offer(&mut w, &mut alice, OFFER);
    let ours = w.request(callee.at, Method::Invite);
    w.send(callee.at, callee.response(&ours, 491));
    w.request(callee.at, Method::Ack);
    w.pass(secs(4));
    assert_eq!(told(&mut w, &callee, ANSWER), "sendrecv");
    assert_eq!(directions(&w), BOTH);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn what_was_undone_while_waiting_is_not_told() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    let ours = w.request(callee.at, Method::Invite);
    w.send(callee.at, callee.response(&ours, 491));
    w.request(callee.at, Method::Ack);
    offer(&mut w, &mut alice, OFFER);
    w.pass(secs(10));
    assert!(w.heard(A).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_offer_before_the_last_one_is_finished_comes_too_soon() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let first = alice.invite(OFFER);
    w.send(alice.at, &first);
    let answer = w.response(alice.at, 200);
    let second = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &second);
    let refusal = w.refused(&alice, 500);
    let wait: u32 = refusal.headers.get(&HeaderName::RetryAfter).unwrap().parse().unwrap();
    assert!(wait < 10);
    let ack = alice.ack(&answer);
    w.send(alice.at, &ack);
    assert_eq!(offer(&mut w, &mut alice, &directed(OFFER, "sendonly")), "recvonly");
    told(&mut w, &callee, &directed(ANSWER, "recvonly"));
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_reinvite_without_offer_is_answered_with_ours_and_its_ack_brings_the_answer() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let request = alice.invite("");
    w.send(alice.at, &request);
    let answer = w.response(alice.at, 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("opus"));
    let moved = directed(OFFER, "sendonly").replace("m=audio 4000", "m=audio 4004").replace("111", "96");
    let ack = alice.ack(&answer).with_body("application/sdp", moved);
    w.send(alice.at, &ack);
    assert_eq!(w.leg(0).config.as_ref().unwrap().remote_rtp.port(), 4004);
    assert_eq!(told(&mut w, &callee, &directed(ANSWER, "recvonly")), "sendonly");
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_trunk_may_leave_the_offer_of_a_reinvite_to_us() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    let request = callee.invite("");
    w.send(callee.at, &request);
    let answer = w.response(callee.at, 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("PCMA"));
    let ack = callee.ack(&answer).with_body("application/sdp", ANSWER.replace("6000", "6008"));
    w.send(callee.at, &ack);
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6008);
    assert!(w.heard(ALICE).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn either_side_may_change_its_codec_and_the_other_one_keeps_its_own() {
    use crate::types::AudioCodec;
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    let codecs = |w: &World| [0, 1].map(|leg| w.leg(leg).config.as_ref().unwrap().codec);
    assert_eq!(codecs(&w), [AudioCodec::Opus, AudioCodec::Pcma]);
    offer(&mut w, &mut alice, &OFFER.replace("111 8 101", "8 101"));
    assert_eq!(codecs(&w), [AudioCodec::Pcma, AudioCodec::Pcma]);
    let mu_law = ANSWER.replace("RTP/AVP 8", "RTP/AVP 0").replace("8 PCMA", "0 PCMU");
    offer(&mut w, &mut callee, &mu_law);
    assert_eq!(codecs(&w), [AudioCodec::Pcma, AudioCodec::Pcmu]);
    offer(&mut w, &mut alice, OFFER);
    assert_eq!(codecs(&w)[1], AudioCodec::Pcmu);
    assert!(w.heard(ALICE).is_empty() && w.heard(A).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_unacknowledged_answer_to_a_reinvite_is_repeated_and_then_ends_the_call() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.pass(secs(1));
    let since = w.now.instant;
    let request = alice.invite(OFFER);
    w.send(alice.at, &request);
    w.pass(secs(33));
    let answers = w.sent_times(ALICE, "200", since);
    assert_eq!(answers[..4], [0, 500, 1_500, 3_500]);
    assert_eq!(answers.len(), 11);
    w.ok(&alice, Method::Bye);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::NoAck));
}

#[test]
fn our_ack_is_repeated_for_each_repeated_answer_to_our_reinvite() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    let ours = w.request(callee.at, Method::Invite);
    let answer = callee.response(&ours, 200).with_body("application/sdp", directed(ANSWER, "recvonly"));
    for _ in 0..3 {
        w.send(callee.at, answer.clone());
        let ack = w.request(callee.at, Method::Ack);
        assert_eq!(ack.cseq().unwrap().number, ours.cseq().unwrap().number);
        w.pass(ms(500));
    }
    assert!(w.call().is_live());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_far_end_that_knows_the_dialog_no_more_ends_the_call() {
    for status in [481, 408] {
        let mut w = World::new();
        let (mut alice, callee) = w.talking();
        offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
        let ours = w.request(callee.at, Method::Invite);
        w.send(callee.at, callee.response(&ours, status));
        assert_eq!(w.heard(A), ["ACK"], "no BYE into a dialog that is gone");
        w.ok(&alice, Method::Bye);
        assert_eq!(w.finish().end_cause, Some(EndCause::DialogLost));
    }
}

#[test]
fn a_far_end_that_answers_a_reinvite_with_nothing_ends_the_call() {
    let mut w = World::new();
    let (mut alice, _) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    w.pass(secs(33));
    w.ok(&alice, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::DialogLost));
}

#[test]
fn a_bye_while_our_reinvite_is_out_ends_all_of_it() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    let ours = w.request(callee.at, Method::Invite);
    w.bye(&mut callee);
    w.ok(&alice, Method::Bye);
    w.send(callee.at, callee.response(&ours, 487));
    w.finish();
}

#[test]
fn an_answer_to_our_reinvite_that_crosses_our_bye_is_acknowledged_each_time_it_comes() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    let ours = w.request(callee.at, Method::Invite);
    w.bye(&mut alice);
    let bye = w.request(callee.at, Method::Bye);
    let answer = callee.response(&ours, 200).with_body("application/sdp", directed(ANSWER, "recvonly"));
    for _ in 0..2 {
        w.send(callee.at, answer.clone());
        let ack = w.request(callee.at, Method::Ack);
        assert_eq!(ack.cseq().unwrap().number, ours.cseq().unwrap().number);
        assert_eq!((ack.to_tag(), &ack.uri), (bye.to_tag(), &bye.uri));
    }
    assert!(w.heard(A).is_empty(), "one BYE is enough");
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn a_repeated_answer_to_our_reinvite_is_acknowledged_while_our_bye_is_out() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
    let ours = w.request(callee.at, Method::Invite);
    let answer = callee.response(&ours, 200).with_body("application/sdp", directed(ANSWER, "recvonly"));
    w.send(callee.at, answer.clone());
    w.request(callee.at, Method::Ack);
    w.bye(&mut alice);
    w.request(callee.at, Method::Bye);
    w.send(callee.at, answer);
    assert_eq!(w.heard(A), ["ACK"]);
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn a_reinvite_that_is_refused_or_lost_after_our_bye_changes_nothing() {
    for status in [491, 401, 0] {
        let mut w = World::new();
        let (mut alice, callee) = w.talking();
        offer(&mut w, &mut alice, &directed(OFFER, "sendonly"));
        let ours = w.request(callee.at, Method::Invite);
        w.bye(&mut alice);
        w.request(callee.at, Method::Bye);
        if status > 0 {
            w.send(callee.at, callee.response(&ours, status));
            assert_eq!(w.heard(A), ["ACK"]);
        }
        w.pass(secs(5));
        w.inbox(callee.at).clear();
        w.ok(&callee, Method::Bye);
        w.finish();
    }
}

#[test]
fn a_device_that_moves_is_reached_where_it_last_spoke_from() {
    let mut w = World::new();
    let (mut caller, mut bob) = w.talking_in();
    let moved = "198.51.100.21:6000";
    let request = bob.invite(OPUS_ANSWER);
    w.send(moved.parse().unwrap(), &request);
    let answer = w.response(moved.parse().unwrap(), 200);
    let ack = bob.ack(&answer);
    w.send(moved.parse().unwrap(), &ack);
    w.bye(&mut caller);
    assert_eq!(w.heard(moved), ["BYE"]);
    let bye = w.last_request(moved.parse().unwrap(), &Method::Bye);
    w.send(moved.parse().unwrap(), bob.response(&bye, 200));
    w.finish();
}
