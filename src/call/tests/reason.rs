//! What one far end says about the end of a call, told to the other and kept (RFC 3326, RFC 3398).

use super::world::*;
use crate::sip::message::{HeaderName, Method};
use crate::types::EndCause;

const REASON: HeaderName = HeaderName::Reason;

#[test]
fn the_cause_of_a_bye_reaches_the_other_side_and_the_record() {
    for from_caller in [true, false] {
        let mut w = World::new();
        let (mut alice, mut callee) = w.talking();
        let (by, other) = if from_caller { (&mut alice, &mut callee) } else { (&mut callee, &mut alice) };
        let said = "Q.850;cause=31;text=\"from 10.0.0.7\"";
        let bye = by.request(Method::Bye).with_header(REASON, said);
        w.send(by.at, &bye);
        let told = w.request(other.at, Method::Bye);
        assert_eq!(told.headers.get(&REASON), Some("Q.850;cause=31;text=\"Normal, unspecified\""));
        w.send(other.at, other.response(&told, 200));
        let cdr = w.finish();
        assert_eq!((cdr.q850, cdr.end_cause), (Some(31), Some(EndCause::NormalClearing)));
    }
}

#[test]
fn the_reason_of_a_cancel_reaches_the_phone_that_stops_ringing() {
    for (said, told) in [
        ("SIP;cause=200;text=\"x\"", "SIP;cause=200;text=\"Call completed elsewhere\""),
        ("Q.850;cause=102", "Q.850;cause=102;text=\"Recovery on timer expiry\""),
        ("nonsense", "Q.850;cause=16;text=\"Caller gave up\""),
    ] {
        let mut w = World::new();
        w.register("bob", BOB);
        let caller = w.call_in(A, "+3225550002");
        let bob = w.invited(BOB);
        w.reply(&bob, 180);
        let mut cancel = caller.cancel();
        cancel.headers.push(REASON, said);
        w.send(caller.at, &cancel);
        let cancel = w.request(bob.at, Method::Cancel);
        assert_eq!(cancel.headers.get(&REASON), Some(told));
        w.reply(&bob, 487);
        assert_eq!(w.finish().end_cause, Some(EndCause::CallerCancelled));
    }
}

#[test]
fn a_refusal_is_told_with_the_far_ends_own_cause_or_that_of_its_status() {
    for (status, said, told, cause, q850) in [
        (480, Some("Q.850;cause=19"), 480, EndCause::NoAnswer, 19),
        (480, None, 480, EndCause::Unavailable, 18),
        (404, Some("Q.850;cause=3"), 404, EndCause::NumberNotFound, 3),
        (486, Some("SIP;cause=486, Q.850;cause=17"), 486, EndCause::Busy, 17),
        (501, Some("Q.850;cause=1"), 404, EndCause::NumberNotFound, 1),
        (403, Some("Q.850;cause=250"), 403, EndCause::Forbidden, 21),
    ] {
        let mut w = World::new();
        let alice = w.dial("alice", "0499123456");
        let callee = w.invited(A);
        let fields: Vec<_> = said.iter().map(|said| (REASON, *said)).collect();
        w.reply_saying(&callee, status, "", &fields);
        let answer = w.refused(&alice, told);
        let reason = answer.headers.get(&REASON).unwrap();
        assert!(reason.starts_with(&format!("Q.850;cause={q850};")), "{status} {said:?}: {reason}");
        let cdr = w.finish();
        assert_eq!((cdr.end_cause, cdr.q850), (Some(cause), Some(q850)), "{status} {said:?}");
    }
}

#[test]
fn a_person_that_asks_to_be_left_alone_is_quoted() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_saying(&callee, 486, "", &[(HeaderName::RetryAfter, "120 (in a meeting)")]);
    assert_eq!(w.refused(&alice, 486).headers.get(&HeaderName::RetryAfter), Some("120"));
    w.finish();
}

#[test]
fn why_no_session_came_about_is_told_without_an_address() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_saying(&callee, 488, "", &[(HeaderName::Warning, "370 sbc7.core.example \"Too narrow\"")]);
    let answer = w.refused(&alice, 488);
    assert_eq!(answer.headers.get(&HeaderName::Warning), Some("370 tandem \"Insufficient bandwidth\""));
    w.finish();
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let request = alice.invite(&OFFER.replace("111 8 101", "18 101"));
    w.send(alice.at, &request);
    let answer = w.refused(&alice, 488);
    assert_eq!(answer.headers.get(&HeaderName::Warning), Some("305 tandem \"Incompatible media format\""));
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_address_that_asks_for_a_pause_gets_none_of_the_next_calls_and_the_others_do() {
    let mut w = World::with(|config| {
        let second: std::net::SocketAddr = A2.parse().unwrap();
        config.trunks[0].proxy.push(crate::types::HostPort::from(second));
    });
    let alice = w.dial("alice", "0499123456");
    let busy = w.invited(A);
    w.reply_saying(&busy, 503, "", &[(HeaderName::RetryAfter, "30")]);
    assert_eq!(w.heard(A), ["ACK"]);
    w.invited(A2);
    w.cancel(&alice);
    let again = w.dial("alice", "0499123456");
    assert!(w.heard(A).is_empty(), "it is left alone");
    w.invited(A2);
    w.cancel(&again);
    w.pass(secs(31));
    let later = w.dial("alice", "0499123456");
    w.invited(A);
    w.cancel(&later);
    w.finish_all();
}
