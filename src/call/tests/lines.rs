//! Calls to test lines: the callee is inside the gateway, all else is as in any call.

use super::far::Side;
use super::world::*;
use crate::call::event::Event;
use crate::media::{Line, Tone};
use crate::sip::message::{HeaderName, Message, Method, Typed};
use crate::types::{AudioCodec, Direction, EndCause, MediaDirection, ReleasedBy, TestLine};

const ECHO: &str = "+3225559901";
const TONE: &str = "+3225559902";
const SPEECH: &str = "+3225559903";
const BUSY: &str = "+3225559904";
const NO_ANSWER: &str = "+3225559905";
const DIGITS: &str = "+3225559906";

/// alice talks to a line.
fn talking(w: &mut World, number: &str) -> Side {
    let mut alice = w.dial("alice", number);
    w.ack(&mut alice);
    alice
}

#[test]
fn a_user_and_a_trunk_reach_each_line_that_answers_and_each_has_its_record() {
    let tone = Line::Tone(Tone::Steady { hertz: 1_004, dbm0: -10 });
    for (number, name, line) in [
        (ECHO, TestLine::Echo, Line::Echo),
        (TONE, TestLine::Tone, tone),
        (SPEECH, TestLine::Speech, Line::Speech),
        (DIGITS, TestLine::Digits, Line::Digits),
    ] {
        for direction in [Direction::AppToApp, Direction::TrunkToApp] {
            let mut w = World::new();
            let mut caller = match direction {
                Direction::TrunkToApp => w.call_in(A, number),
                _ => w.dial("alice", number),
            };
            w.ack(&mut caller);
            assert_eq!(w.leg(0).line, Some(line));
            let codec = w.leg(0).config.as_ref().unwrap().codec;
            assert!(w.leg(0).conversing && w.leg(0).timeout == Some(secs(30)));
            w.pass(secs(70));
            w.bye(&mut caller);
            w.response(caller.at, 200);
            assert_eq!(w.record_names(), ["start", "answer", "interim", "end"]);
            let cdr = w.finish();
            assert_eq!((cdr.called.line, cdr.direction), (Some(name), direction));
            assert_eq!((cdr.end_cause, cdr.sip_code), (Some(EndCause::NormalClearing), Some(200)));
            assert_eq!((cdr.duration_ms, cdr.released_by), (70_000, Some(ReleasedBy::Caller)));
            assert_eq!((cdr.caller_codec, cdr.caller_leg.is_some()), (Some(codec), true));
            assert!(cdr.legs.is_empty() && cdr.callee_leg.is_none(), "nobody was rung");
            let answered = |event: &&Event| matches!(event, Event::CallAnswered { .. });
            assert_eq!(w.events.iter().filter(answered).count(), 1);
        }
    }
}

#[test]
fn nobody_is_told_of_the_answer_before_its_record_is_durable() {
    let mut w = World::new();
    w.journal.answer = Verdict::Durable(ms(300));
    let mut alice = w.dial("alice", ECHO);
    w.pass(ms(299));
    assert!(w.heard(ALICE) == ["100"] && w.leg(0).config.is_none());
    assert_eq!(w.answer_record().caller_codec, Some(AudioCodec::Opus), "known already");
    w.pass(ms(1));
    w.ack(&mut alice);
    w.bye(&mut alice);
    w.response(alice.at, 200);
    w.finish();

    let mut w = World::new();
    w.journal.answer = Verdict::Fails;
    let alice = w.dial("alice", ECHO);
    w.refused(&alice, 500);
    assert_eq!(w.finish().end_cause, Some(EndCause::JournalFailed));
}

#[test]
fn who_gives_up_while_the_answer_is_written_has_an_answered_call_of_no_length() {
    let mut w = World::new();
    w.journal.answer = Verdict::Durable(ms(300));
    let alice = w.dial("alice", SPEECH);
    w.cancel(&alice);
    w.pass(ms(300));
    w.inbox(alice.at).retain(|message| super::far::name(message) == "487");
    w.refused(&alice, 487);
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.duration_ms), (Some(EndCause::NormalClearing), 300));
}

#[test]
fn the_busy_line_is_busy_with_its_cause() {
    for number in [BUSY, "025559904"] {
        let mut w = World::new();
        let alice = w.dial("alice", number);
        let answer = w.refused(&alice, 486);
        assert_eq!(answer.headers.get(&HeaderName::Reason), Some("Q.850;cause=17;text=\"User busy\""));
        let cdr = w.finish();
        assert_eq!((cdr.end_cause, cdr.q850, cdr.sip_code), (Some(EndCause::Busy), Some(17), Some(486)));
        assert_eq!(
            (cdr.called.line, cdr.released_by, cdr.answered_at),
            (Some(TestLine::Busy), Some(ReleasedBy::Callee), None)
        );
    }
}

#[test]
fn the_line_that_does_not_answer_rings_until_the_ring_time_is_over() {
    let mut w = World::with(|config| config.limits.ring = secs(40));
    let caller = w.call_in(A, NO_ANSWER);
    assert_eq!(w.heard(A), ["180"]);
    w.pass(secs(39));
    assert!(w.heard(A).is_empty());
    w.pass(secs(1));
    let answer = w.refused(&caller, 480);
    assert!(answer.headers.get(&HeaderName::Reason).unwrap().starts_with("Q.850;cause=19;"));
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.q850), (Some(EndCause::NoAnswer), Some(19)));
    assert!(cdr.ringing_at.is_some() && cdr.answered_at.is_none());

    let mut w = World::new();
    let alice = w.dial("alice", NO_ANSWER);
    assert_eq!(w.heard(ALICE), ["180"]);
    w.cancel(&alice);
    w.inbox(alice.at).retain(|message| super::far::name(message) == "487");
    w.refused(&alice, 487);
    assert_eq!(w.finish().end_cause, Some(EndCause::CallerCancelled));
}

#[test]
fn a_caller_that_insists_gets_ringing_that_has_to_arrive() {
    let mut w = World::new();
    let mut alice = w.dial_with("alice", NO_ANSWER, OFFER, |invite| {
        invite.headers.push(HeaderName::Require, "100rel");
    });
    let ringing = w.response(alice.at, 180);
    let rseq = ringing.rseq().expect("it is numbered");
    w.pass(ms(500));
    assert_eq!(w.heard(ALICE), ["180"], "said again until it is acknowledged");
    alice.learn(&ringing);
    let prack = alice.prack(rseq, "");
    w.send(alice.at, &prack);
    assert_eq!(w.heard(ALICE), ["200 PRACK"]);
    w.pass(secs(5));
    assert!(w.heard(ALICE).is_empty());
    w.cancel(&alice);
    w.inbox(alice.at).retain(|message| super::far::name(message) == "487");
    w.refused(&alice, 487);
    w.finish();
}

#[test]
fn a_caller_that_leaves_the_offer_to_us_hears_the_line_from_its_ack_on() {
    let mut w = World::new();
    let mut caller = w.call_in_with(A, ECHO, "", |_| {});
    let answer = w.response(caller.at, 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("PCMA"));
    assert!(w.leg(0).config.is_none() && w.leg(0).line.is_none());
    let ack = caller.ack(&answer).with_body("application/sdp", ANSWER);
    w.send(caller.at, &ack);
    assert_eq!(w.leg(0).config.as_ref().unwrap().codec, AudioCodec::Pcma);
    assert_eq!((w.leg(0).line, w.leg(0).timeout), (Some(Line::Echo), Some(secs(30))));
    w.bye(&mut caller);
    w.response(caller.at, 200);
    w.finish();
}

#[test]
fn a_caller_holds_and_comes_back_and_nobody_else_is_told() {
    let mut w = World::new();
    let mut alice = talking(&mut w, TONE);
    for (direction, ours, timeout) in [
        ("sendonly", MediaDirection::RecvOnly, None),
        ("sendrecv", MediaDirection::SendRecv, Some(secs(30))),
        ("inactive", MediaDirection::Inactive, None),
        ("sendrecv", MediaDirection::SendRecv, Some(secs(30))),
    ] {
        let change = alice.invite(&directed(OFFER, direction));
        w.send(alice.at, &change);
        w.ack(&mut alice);
        let leg = w.leg(0);
        assert_eq!((leg.config.as_ref().unwrap().direction, leg.timeout), (ours, timeout), "{direction}");
        assert!(w.heard(ALICE).is_empty(), "no re-INVITE of ours");
    }
    let update = alice.request(Method::Update).with_body("application/sdp", OFFER);
    w.send(alice.at, &update);
    assert_eq!(w.heard(ALICE), ["200 UPDATE"]);
    w.bye(&mut alice);
    w.response(alice.at, 200);
    w.finish();
}

#[test]
fn nobody_parks_on_a_line() {
    let mut w = World::new();
    let alice = talking(&mut w, SPEECH);
    w.pass(secs(299));
    assert!(w.heard(ALICE).is_empty());
    w.pass(secs(1));
    let bye = w.request(alice.at, Method::Bye);
    assert!(bye.headers.get(&HeaderName::Reason).unwrap().contains("Maximum call duration"));
    w.ok(&alice, Method::Bye);
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.duration_ms), (Some(EndCause::MaxDuration), 300_000));
    assert_eq!(cdr.released_by, Some(ReleasedBy::Gateway));

    // Who may call for less time than a line lasts may not call it for longer.
    let mut w = World::with(|config| {
        config.lines.max_duration = secs(100);
        config.limits.max_duration = secs(50);
    });
    let alice = talking(&mut w, ECHO);
    w.pass(secs(50));
    w.ok(&alice, Method::Bye);
    w.finish();
    let mut w = World::with(|config| config.lines.max_duration = secs(20));
    let alice = talking(&mut w, ECHO);
    w.pass(secs(20));
    w.ok(&alice, Method::Bye);
    assert_eq!(w.finish().duration_ms, 20_000);
}

#[test]
fn the_tone_is_as_configured() {
    let mut w = World::with(|config| {
        config.lines.tone_hertz = 1_000;
        config.lines.tone_dbm0 = 0;
    });
    let mut alice = talking(&mut w, TONE);
    assert_eq!(w.leg(0).line, Some(Line::Tone(Tone::Steady { hertz: 1_000, dbm0: 0 })));
    w.bye(&mut alice);
    w.response(alice.at, 200);
    w.finish();
}

#[test]
fn a_line_takes_a_channel_of_the_trunk_and_a_call_of_the_user() {
    let mut w = World::with(|config| config.trunks[0].max_channels = Some(1));
    let mut first = w.call_in(A, ECHO);
    w.ack(&mut first);
    let second = w.call_in(A, TONE);
    w.refused(&second, 503);
    w.bye(&mut first);
    w.response(first.at, 200);
    w.finish_all();

    let mut w = World::with(|config| config.users[0].max_calls = Some(1));
    let mut first = talking(&mut w, ECHO);
    let second = w.dial("alice", TONE);
    w.refused(&second, 403);
    w.bye(&mut first);
    w.response(first.at, 200);
    w.finish_all();
}

#[test]
fn a_session_timer_of_the_caller_ends_a_line_that_it_has_left() {
    let mut w = World::with(|config| {
        config.media.timeout = None;
        config.trunks[0].session_timer = Some(secs(1_800));
    });
    let mut caller = w.call_in_with(A, ECHO, OFFER, |invite| {
        invite.headers.push(HeaderName::Supported, "timer");
        invite.headers.push(HeaderName::SessionExpires, "90;refresher=uac");
    });
    let answer = w.ack(&mut caller);
    assert_eq!(answer.headers.get(&HeaderName::SessionExpires), Some("90;refresher=uac"));
    w.pass(secs(90));
    w.ok(&caller, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::SessionExpired));
}

#[test]
fn silence_and_a_lost_ack_end_a_line_as_any_call() {
    let mut w = World::new();
    let alice = talking(&mut w, ECHO);
    let leg = crate::types::LegId { call: w.call().id, index: 0 };
    w.input(crate::call::Input::MediaTimedOut { leg });
    w.ok(&alice, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::MediaTimeout));

    let mut w = World::new();
    let alice = w.dial("alice", ECHO);
    w.pass(secs(33));
    w.inbox(alice.at).retain(|message| matches!(message, Message::Request(_)));
    w.ok(&alice, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::NoAck));
}

#[test]
fn nobody_is_transferred_to_or_from_a_line() {
    let refer = |w: &mut World, side: &mut Side, to: &str| {
        let request = side.request(Method::Refer).with_header(HeaderName::ReferTo, to);
        w.send(side.at, &request);
        let challenge = w.response(side.at, 401);
        let again = side.with_credentials(&request, &challenge);
        w.send(side.at, &again);
        w.any_response(side.at).status
    };
    let mut w = World::new();
    let mut alice = talking(&mut w, ECHO);
    assert_eq!(refer(&mut w, &mut alice, "<sip:bob@example.org>"), 491);
    w.bye(&mut alice);
    w.response(alice.at, 200);
    w.finish();

    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    assert_eq!(refer(&mut w, &mut alice, &format!("<sip:{ECHO}@example.org>")), 202);
    let reports = w.everything();
    let refused = reports.iter().any(|(_, message)| match message {
        Message::Request(request) => String::from_utf8_lossy(&request.body).contains("403"),
        Message::Response(_) => false,
    });
    assert!(refused, "the transferor is told");
    w.hang_up(&mut alice, &callee);
    w.finish_all();
}
