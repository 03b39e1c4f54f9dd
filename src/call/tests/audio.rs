//! Audio that is not heard: who is told, how often, and what the record says.

use super::world::*;
use crate::call::event::{Event, Input};
use crate::sip::message::Method;
use crate::types::{AudioFault, EndCause, Fax, LegId, LegKind, LegReport};

fn faults(w: &World) -> Vec<(Option<&str>, LegKind, AudioFault)> {
    w.events
        .iter()
        .filter_map(|event| match event {
            Event::AudioFault { trunk, leg, fault, .. } => Some((trunk.as_deref(), *leg, *fault)),
            _ => None,
        })
        .collect()
}

fn leg(w: &World, index: u8) -> LegId {
    LegId { call: w.call().id, index }
}

#[test]
fn both_legs_are_watched_from_the_answer_on_and_not_while_one_holds() {
    let mut w = World::new();
    w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_with(&callee, 183, ANSWER);
    assert!(!w.leg(0).conversing && !w.leg(1).conversing, "early media");

    let mut w = World::new();
    let (mut alice, _) = w.talking();
    assert!(w.leg(0).conversing && w.leg(1).conversing);
    let hold = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &hold);
    assert!(!w.leg(0).conversing && !w.leg(1).conversing, "on hold");
}

#[test]
fn what_a_trunk_announced_in_one_direction_before_it_failed_is_no_hold_of_the_next() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    w.reply_with(&first, 183, &directed(ANSWER, "sendonly"));
    w.reply(&first, 503);
    let second = w.invited(B);
    w.reply_with(&second, 200, ANSWER);
    w.ack(&mut alice);
    for index in [0, 2] {
        let leg = w.leg(index);
        assert!(leg.conversing && leg.timeout == Some(secs(30)), "leg {index}");
    }
    let silent = leg(&w, 2);
    w.input(Input::MediaTimedOut { leg: silent });
    w.ok(&alice, Method::Bye);
    w.ok(&second, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::MediaTimeout));
}

#[test]
fn a_call_between_two_trunks_is_told_of_the_one_that_counts_it() {
    let mut w = World::new();
    let mut caller = w.call_in(A, "+31201234567");
    let callee = w.invited(B);
    w.reply_with(&callee, 200, ANSWER);
    w.ack(&mut caller);
    let callee_leg = leg(&w, 1);
    w.input(Input::MediaFault { leg: callee_leg, fault: AudioFault::Missing });
    assert_eq!(faults(&w), [(Some("b"), LegKind::Trunk, AudioFault::Missing)]);
    // Both legs are a trunk's: whose side it is stands beside.
    let caller_leg = leg(&w, 0);
    w.input(Input::MediaFault { leg: caller_leg, fault: AudioFault::Silent });
    let of = w.events.iter().filter_map(|event| match event {
        Event::AudioFault { trunk, of, .. } => Some((trunk.as_deref(), of.as_deref())),
        _ => None,
    });
    assert_eq!(of.collect::<Vec<_>>(), [(Some("b"), Some("b")), (Some("b"), Some("a"))]);
    w.bye(&mut caller);
    w.request(callee.at, Method::Ack);
    w.ok(&callee, Method::Bye);
    w.finish();
    let counted = w.events.iter().find_map(|event| match event {
        Event::AttemptEnded { trunk, .. } => Some(trunk.as_deref()),
        _ => None,
    });
    let ended = w.events.iter().find_map(|event| match event {
        Event::CallEnded { trunk, ingress, .. } => Some((trunk.as_deref(), ingress.as_deref())),
        _ => None,
    });
    assert_eq!((counted, ended), (Some(Some("b")), Some((Some("b"), Some("a")))));
}

#[test]
fn each_kind_of_fault_is_told_once_a_call_for_its_trunk() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let (caller_leg, callee_leg) = (leg(&w, 0), leg(&w, 1));
    w.input(Input::MediaFault { leg: caller_leg, fault: AudioFault::Silent });
    w.input(Input::MediaFault { leg: callee_leg, fault: AudioFault::Silent });
    w.input(Input::MediaFault { leg: callee_leg, fault: AudioFault::Missing });
    w.input(Input::MediaFault { leg: caller_leg, fault: AudioFault::Unheard });
    let told =
        [(Some("a"), LegKind::App, AudioFault::Silent), (Some("a"), LegKind::Trunk, AudioFault::Missing)];
    assert_eq!(faults(&w), told);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn that_nothing_comes_is_told_after_a_report_that_nothing_is_heard_and_is_the_same_call() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let (caller_leg, callee_leg) = (leg(&w, 0), leg(&w, 1));
    for (leg, fault) in [
        (callee_leg, AudioFault::Unheard),
        (caller_leg, AudioFault::Unheard),
        (caller_leg, AudioFault::Missing),
        (callee_leg, AudioFault::Missing),
        (callee_leg, AudioFault::Unheard),
    ] {
        w.input(Input::MediaFault { leg, fault });
    }
    let told =
        [(Some("a"), LegKind::Trunk, AudioFault::Unheard), (Some("a"), LegKind::App, AudioFault::Missing)];
    assert_eq!(faults(&w), told);
    let counted = w.events.iter().filter(|event| matches!(event, Event::AudioFault { counted: false, .. }));
    assert_eq!(counted.count(), 1);
    w.hang_up(&mut alice, &callee);
    w.finish();
    // So it is at the end of a call too short for the media path.
    let (w, cdr) = ended_with([60, 0], Some(AudioFault::Unheard));
    assert_eq!(faults(&w), [(Some("a"), LegKind::Trunk, AudioFault::Missing)]);
    assert_eq!(cdr.callee_leg.unwrap().fault, Some(AudioFault::Missing));
}

/// A call that ends after a second with so many packets heard of caller and callee, and with a fault of both.
fn ended_with(packets: [u64; 2], fault: Option<AudioFault>) -> (World, crate::billing::Cdr) {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.media.closes_after = None;
    let legs = [leg(&w, 0), leg(&w, 1)];
    w.pass(secs(1));
    w.bye(&mut alice);
    for (leg, packets_received) in legs.into_iter().zip(packets) {
        let report = LegReport { packets_received, fault, ..LegReport::default() };
        w.input(Input::MediaClosed { leg, report });
    }
    w.ok(&callee, Method::Bye);
    let cdr = w.finish();
    (w, cdr)
}

#[test]
fn a_short_call_in_which_one_side_was_never_heard_is_one_way_and_its_record_says_so() {
    let (w, cdr) = ended_with([0, 60], None);
    assert_eq!(faults(&w), [(Some("a"), LegKind::App, AudioFault::Missing)]);
    assert_eq!(cdr.caller_leg.unwrap().fault, Some(AudioFault::Missing));
    assert_eq!(cdr.callee_leg.unwrap().fault, None);
    let (w, cdr) = ended_with([60, 0], None);
    assert_eq!(faults(&w), [(Some("a"), LegKind::Trunk, AudioFault::Missing)]);
    assert_eq!(cdr.callee_leg.unwrap().fault, Some(AudioFault::Missing));
}

#[test]
fn a_call_too_short_to_judge_or_heard_on_both_sides_or_on_none_is_no_fault() {
    for packets in [[0, 24], [50, 50], [0, 0], [1, 60]] {
        let (w, cdr) = ended_with(packets, None);
        assert!(faults(&w).is_empty(), "{packets:?}");
        assert_eq!(cdr.caller_leg.unwrap().fault, None);
    }
}

#[test]
fn a_call_that_carried_a_fax_says_so_in_its_record_and_how_it_showed() {
    // Heard by the media path.
    for fax in [false, true] {
        let mut w = World::new();
        let (mut alice, callee) = w.talking();
        w.media.report.fax = fax;
        w.hang_up(&mut alice, &callee);
        assert_eq!(w.finish().fax, fax.then_some(Fax::Heard));
    }
    // Asked for by either far end, and refused so that the call goes on. It is said even where it is heard as well.
    let t38 = "v=0\r\no=- 5 6 IN IP4 192.0.2.44\r\ns=-\r\nc=IN IP4 192.0.2.44\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\n\
        m=image 35000 udptl t38\r\na=T38FaxVersion:0\r\n";
    for by_trunk in [false, true] {
        let mut w = World::new();
        let (mut alice, mut callee) = w.talking();
        w.media.report.fax = by_trunk;
        let side = if by_trunk { &mut callee } else { &mut alice };
        let invite = side.invite(t38);
        w.send(side.at, &invite);
        let refusal = w.response(side.at, 488);
        let ack = side.ack_failure(&refusal);
        w.send(side.at, &ack);
        w.pass(secs(10));
        w.hang_up(&mut alice, &callee);
        let cdr = w.finish();
        assert_eq!((cdr.fax, cdr.duration_ms), (Some(Fax::T38), 10_000));
    }
    // A stream that is refused for ever asks for nothing.
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let hold = alice.invite(&format!("{}m=image 0 udptl t38\r\n", directed(OFFER, "sendonly")));
    w.send(alice.at, &hold);
    w.ack(&mut alice);
    w.inbox(callee.at).clear();
    w.hang_up(&mut alice, &callee);
    assert_eq!(w.finish().fax, None);
}
