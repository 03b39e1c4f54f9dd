//! Calls that come to nothing: what the caller is told, and why.

use super::world::*;
use crate::sip::message::{HeaderName, Response};
use crate::types::{EndCause, ReleasedBy};

fn reason(answer: &Response) -> &str {
    answer.headers.get(&HeaderName::Reason).expect("a Reason")
}

#[test]
fn what_the_far_end_decided_is_passed_on_with_a_reason() {
    for (status, cause, q850) in [
        (486, EndCause::Busy, 17),
        (600, EndCause::Busy, 17),
        (603, EndCause::Declined, 21),
        (607, EndCause::Declined, 21),
        (404, EndCause::NumberNotFound, 1),
        (604, EndCause::NumberNotFound, 1),
        (410, EndCause::NumberChanged, 22),
        (480, EndCause::Unavailable, 18),
        (484, EndCause::InvalidNumber, 28),
        (403, EndCause::Forbidden, 21),
        (488, EndCause::NotAcceptable, 88),
    ] {
        let mut w = World::new();
        let alice = w.dial("alice", "0470123456");
        let callee = w.invited(A);
        w.reply(&callee, status);
        assert_eq!(w.heard(A), ["ACK"]);
        let answer = w.refused(&alice, status);
        assert!(
            reason(&answer).starts_with(&format!("Q.850;cause={q850};")),
            "{status}: {}",
            reason(&answer)
        );
        assert!(w.heard(B).is_empty(), "{status} is final");
        let cdr = w.finish();
        assert_eq!((cdr.end_cause, cdr.sip_code), (Some(cause), Some(status)), "{status}");
        assert_eq!(cdr.released_by, Some(ReleasedBy::Callee));
        assert_eq!((cdr.answered_at, cdr.duration_ms), (None, 0));
    }
}

#[test]
fn what_the_network_failed_at_is_told_in_our_words() {
    for (status, told) in [(500, 502), (502, 502), (503, 503), (504, 504), (408, 504), (302, 502), (400, 502)]
    {
        let mut w = World::new();
        let alice = w.dial("alice", "0499123456");
        let callee = w.invited(A);
        w.reply(&callee, status);
        w.refused(&alice, told);
        w.finish();
    }
}

#[test]
fn a_codec_nobody_shares_is_refused_before_anything_rings() {
    let mut w = World::new();
    let g729 =
        OFFER.replace("111 8 101", "18").replace("a=rtpmap:111 opus/48000/2\r\na=rtpmap:8 PCMA/8000\r\n", "");
    let alice = w.dial_with("alice", "0470123456", &g729, |_| {});
    w.refused(&alice, 488);
    assert!(w.heard(A).is_empty());
    assert_eq!(w.finish().end_cause, Some(EndCause::NotAcceptable));
}

#[test]
fn descriptions_that_are_none_are_refused() {
    let mut w = World::new();
    let alice = w.dial_with("alice", "0470123456", "v=what\r\n", |_| {});
    w.refused(&alice, 400);
    w.finish();

    let mut w = World::new();
    let alice = w.dial_with("alice", "0470123456", OFFER, |invite| {
        invite.headers.set(HeaderName::ContentType, "text/plain");
    });
    let answer = w.refused(&alice, 415);
    assert_eq!(answer.headers.get(&HeaderName::Accept), Some("application/sdp"));
    w.finish();
}

#[test]
fn numbers_that_lead_nowhere_get_distinct_codes() {
    for (dialled, status, cause) in [
        ("0900123456", 403, EndCause::Blocked),
        ("0044123456789", 404, EndCause::NoRoute),
        ("+3225559999", 604, EndCause::UnknownNumber),
        ("470123456", 484, EndCause::InvalidNumber),
        ("bob", 480, EndCause::Unavailable),
    ] {
        let mut w = World::new();
        let alice = w.dial("alice", dialled);
        let answer = w.refused(&alice, status);
        assert!(reason(&answer).starts_with("Q.850;cause="));
        let cdr = w.finish();
        assert_eq!((cdr.end_cause, cdr.sip_code), (Some(cause), Some(status)), "{dialled}");
        assert_eq!(w.media.legs.len(), 0, "no port is opened for a call that can't be");
    }
}

#[test]
fn an_answer_without_a_usable_description_is_hung_up_and_no_other_trunk_rings() {
    let foreign = ANSWER.replace("RTP/AVP 8", "RTP/AVP 18").replace("8 PCMA", "18 G729");
    for answer in ["", "v=0\r\n", foreign.as_str()] {
        let mut w = World::new();
        let alice = w.dial("alice", "0470123456");
        let callee = w.invited(A);
        if answer.is_empty() {
            w.reply(&callee, 200)
        } else {
            w.reply_with(&callee, 200, answer)
        }
        assert_eq!(w.heard(A), ["ACK", "BYE"]);
        w.refused(&alice, 502);
        assert!(w.heard(B).is_empty());
        let cdr = w.finish();
        assert_eq!(cdr.end_cause, Some(EndCause::FarEndFailure));
        assert_eq!(cdr.answered_at, None);
    }
}

#[test]
fn without_media_ports_nothing_rings() {
    let mut w = World::new();
    w.media.free = 0;
    let alice = w.dial("alice", "0470123456");
    let answer = w.refused(&alice, 503);
    assert_eq!(answer.headers.get(&HeaderName::RetryAfter), Some("5"));
    assert!(w.heard(A).is_empty());
    assert_eq!(w.finish().end_cause, Some(EndCause::GatewayCongested));

    let mut w = World::new();
    w.media.free = 1;
    let alice = w.dial("alice", "0470123456");
    w.refused(&alice, 503);
    assert!(w.heard(A).is_empty());
    w.finish();
}
