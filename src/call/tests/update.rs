//! UPDATE from either side, before and after the answer (RFC 3311).

use super::far::Side;
use super::world::*;
use crate::config::Prack;
use crate::sip::message::{HeaderName, Method, Typed};
use crate::types::MediaDirection;

fn update(w: &mut World, side: &mut Side, sdp: &str) -> u16 {
    let request = side.request(Method::Update);
    let request = if sdp.is_empty() { request } else { request.with_body("application/sdp", sdp.to_owned()) };
    w.send(side.at, &request);
    w.any_response(side.at).status
}

#[test]
fn an_offer_in_an_update_changes_the_session_and_is_told_to_the_other_side() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let request = alice.request(Method::Update).with_body("application/sdp", directed(OFFER, "sendonly"));
    w.send(alice.at, &request);
    let answer = w.response(alice.at, 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("a=recvonly"));
    assert!(answer.headers.lists(&HeaderName::Allow, "UPDATE"));
    assert_eq!(w.leg(0).config.as_ref().unwrap().direction, MediaDirection::RecvOnly);
    let told = w.request(callee.at, Method::Invite);
    assert!(String::from_utf8_lossy(&told.body).contains("a=sendonly"));
    let answer = callee.response(&told, 200).with_body("application/sdp", directed(ANSWER, "recvonly"));
    w.send(callee.at, answer);
    w.request(callee.at, Method::Ack);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_update_without_an_offer_only_shows_that_somebody_is_there() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    let configured = (w.leg(0).configured, w.leg(1).configured);
    assert_eq!(update(&mut w, &mut alice, ""), 200);
    assert_eq!(update(&mut w, &mut callee, ""), 200);
    assert_eq!((w.leg(0).configured, w.leg(1).configured), configured);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_update_that_can_not_be_taken_leaves_the_session_as_it_is() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let configured = w.leg(0).configured;
    assert_eq!(update(&mut w, &mut alice, &OFFER.replace("111 8 101", "18 101")), 488);
    assert_eq!(update(&mut w, &mut alice, "v=0\r\n"), 488);
    assert_eq!(w.leg(0).configured, configured);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_loopback_address_from_far_away_leads_nowhere() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    let configured = w.leg(1).configured;
    assert_eq!(update(&mut w, &mut callee, &ANSWER.replace("203.0.113.1", "127.0.0.1")), 488);
    assert_eq!(w.leg(1).configured, configured);
    // A user's packets will show where it is.
    assert_eq!(update(&mut w, &mut alice, &OFFER.replace("198.51.100.10", "127.0.0.1")), 200);
    let config = w.leg(0).config.as_ref().unwrap();
    assert!(config.remote_rtp.ip().is_unspecified() && config.direction == MediaDirection::SendRecv);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_update_that_crosses_our_offer_is_glare() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    assert_eq!(update(&mut w, &mut alice, &directed(OFFER, "sendonly")), 200);
    let ours = w.request(callee.at, Method::Invite);
    assert_eq!(update(&mut w, &mut callee, ANSWER), 491);
    assert_eq!(update(&mut w, &mut callee, ""), 200, "without an offer nothing crosses");
    let answer = callee.response(&ours, 200).with_body("application/sdp", directed(ANSWER, "recvonly"));
    w.send(callee.at, answer);
    w.request(callee.at, Method::Ack);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn before_its_offer_has_an_answer_a_caller_has_to_wait() {
    let mut w = World::with(|config| config.trunks[0].prack = Prack::Supported);
    let mut caller = w.call_in_with(A, "+31201234567", OFFER, |invite| {
        invite.headers.push(HeaderName::Supported, "100rel");
    });
    let callee = w.invited(B);
    w.reply(&callee, 180);
    let ringing = w.response(caller.at, 180);
    caller.learn(&ringing);
    let early = caller.request(Method::Update).with_body("application/sdp", OFFER);
    w.send(caller.at, &early);
    let refusal = w.response(caller.at, 500);
    let wait: u32 = refusal.headers.get(&HeaderName::RetryAfter).unwrap().parse().unwrap();
    assert!(wait < 10);
    prack(&mut w, &mut caller, ringing.rseq().unwrap());
    w.reply_with(&callee, 183, ANSWER);
    let progress = w.response(caller.at, 183);
    prack(&mut w, &mut caller, progress.rseq().unwrap());
    assert_eq!(update(&mut w, &mut caller, &OFFER.replace("4000", "4002")), 200);
    assert_eq!(w.leg(0).config.as_ref().unwrap().remote_rtp.port(), 4002);
    w.cancel(&caller);
    w.finish();
}

fn prack(w: &mut World, caller: &mut Side, rseq: u32) {
    let request = caller.prack(rseq, "");
    w.send(caller.at, &request);
    w.response(caller.at, 200);
}

#[test]
fn a_callee_may_change_what_it_has_answered_reliably_and_nothing_before() {
    let mut w = World::with(|config| config.trunks[0].prack = Prack::Supported);
    let mut alice = w.dial("alice", "0470123456");
    let mut callee = w.invited(A);
    w.reply_with(&callee, 183, ANSWER);
    assert_eq!(update(&mut w, &mut callee, &ANSWER.replace("6000", "6002")), 491);
    w.reply_saying(&callee, 183, ANSWER, &[(HeaderName::Require, "100rel"), (HeaderName::RSeq, "5")]);
    w.ok(&callee, Method::Prack);
    w.heard(A);
    assert_eq!(update(&mut w, &mut callee, &ANSWER.replace("6000", "6002")), 200);
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6002);
    w.reply(&callee, 200);
    assert_eq!(w.heard(A), ["ACK"]);
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6002, "what was changed stays");
    w.ack(&mut alice);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_old_update_and_one_outside_any_dialog_are_refused() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    alice.cseq = 0;
    assert_eq!(update(&mut w, &mut alice, ""), 500);
    alice.cseq = 10;
    let mut lost = alice.request(Method::Update);
    lost.headers.set(HeaderName::CallId, "another");
    w.send(alice.at, &lost);
    assert_eq!(w.heard(ALICE), ["481 UPDATE"]);
    w.hang_up(&mut alice, &callee);
    w.finish();
}
