//! Callers that leave the offer to us: it stands in the 200, and their ACK brings the answer.

use super::world::*;
use crate::sip::message::{HeaderName, Method};
use crate::types::{AudioCodec, EndCause};

const TRUNK_ANSWER: &str = "v=0\r\no=- 3 3 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
    m=audio 7000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n";

#[test]
fn the_offer_stands_in_the_200_and_the_answer_in_the_ack() {
    let mut w = World::new();
    w.register("bob", BOB);
    let mut caller = w.call_in_with(A, "+3225550002", "", |_| {});
    let bob = w.invited(BOB);
    w.reply_with(&bob, 183, OPUS_ANSWER);
    assert_eq!(w.heard(A), ["180"]);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    let answer = w.response(caller.at, 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("PCMA"));
    assert!(w.leg(0).config.is_none());
    let ack = caller.ack(&answer).with_body("application/sdp", TRUNK_ANSWER);
    w.send(caller.at, &ack);
    assert_eq!(w.leg(0).config.as_ref().unwrap().codec, AudioCodec::Pcma);
    assert_eq!(w.leg(0).config.as_ref().unwrap().remote_rtp.port(), 7000);
    assert!(w.leg(0).bridged_to.is_some());
    assert_eq!((w.leg(0).timeout, w.leg(1).timeout), (Some(secs(30)), Some(secs(30))));
    w.hang_up(&mut caller, &bob);
    let cdr = w.finish();
    assert_eq!(cdr.caller_codec, Some(AudioCodec::Pcma));
}

#[test]
fn an_ack_without_a_usable_answer_ends_the_call() {
    for body in ["", "v=0\r\n"] {
        let mut w = World::new();
        w.register("bob", BOB);
        let mut caller = w.call_in_with(A, "+3225550002", "", |_| {});
        let bob = w.invited(BOB);
        w.reply_with(&bob, 200, OPUS_ANSWER);
        let answer = w.response(caller.at, 200);
        let mut ack = caller.ack(&answer);
        if !body.is_empty() {
            ack.headers.push(HeaderName::ContentType, "application/sdp");
            ack.body = body.into();
        }
        w.send(caller.at, &ack);
        w.ok(&caller, Method::Bye);
        w.ok(&bob, Method::Bye);
        assert_eq!(w.finish().end_cause, Some(EndCause::NotAcceptable), "{body:?}");
    }
}

#[test]
fn early_media_can_not_be_passed_on_and_the_caller_hears_that_it_rings() {
    let mut w = World::new();
    let mut alice = w.dial_with("alice", "0470123456", "", |_| {});
    let callee = w.invited(A);
    w.reply_with(&callee, 183, ANSWER);
    assert_eq!(w.heard(ALICE), ["180"]);
    w.reply_with(&callee, 200, ANSWER);
    let answer = w.response(alice.at, 200);
    let ack = alice.ack(&answer).with_body("application/sdp", OFFER.replace("111", "96"));
    w.send(alice.at, &ack);
    assert_eq!(w.leg(0).config.as_ref().unwrap().codec, AudioCodec::Opus);
    w.request(callee.at, Method::Ack);
    w.hang_up(&mut alice, &callee);
    w.finish();
}
