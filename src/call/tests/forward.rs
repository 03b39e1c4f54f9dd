//! Calls that a user's device sends on (RFC 5359 §2.7-2.9): in whose name, how far, at whose cost.

use super::far::Side;
use super::transfer::{refer, report};
use super::world::*;
use crate::billing::Cdr;
use crate::config::{Config, Prack, Transfer};
use crate::sip::message::{HeaderName, Method, Typed};
use crate::types::{AudioCodec, Direction, EndCause, ReleasedBy};

/// A device sends its user's call there, saying these fields.
pub(super) fn send_on_saying(w: &mut World, device: &Side, to: &str, fields: &[(HeaderName, &str)]) {
    let mut response = device.response(&device.invite, 302);
    response.headers.set(HeaderName::Contact, to);
    fields.iter().for_each(|(name, value)| response.headers.push(name.clone(), *value));
    w.send(device.at, response);
}

fn send_on(w: &mut World, device: &Side, to: &str) {
    send_on_saying(w, device, to, &[]);
    assert_eq!(w.heard(&device.at.to_string()), ["ACK"]);
}

/// Trunk `b` calls bob, whose only device rings.
fn called(w: &mut World) -> (Side, Side) {
    w.register("bob", BOB);
    let caller = w.call_in(B, "+3225550002");
    let bob = w.invited(BOB);
    (caller, bob)
}

/// Both records: of the call as it came, and of what became of it.
fn both(w: &World) -> (Cdr, Cdr) {
    let ends = w.ends();
    assert_eq!(ends.len(), 2, "{ends:?}");
    let first = ends.iter().find(|cdr| cdr.forwarded_of.is_none()).expect("the call as it came");
    let second = ends.iter().find(|cdr| cdr.forwarded_of == Some(first.id)).expect("what became of it");
    ((*first).clone(), (*second).clone())
}

fn told(w: &mut World, at: &Side, name: HeaderName) -> Vec<String> {
    let invite = w.last_request(at.at, &Method::Invite);
    invite.headers.list(&name).map(str::to_owned).collect()
}

#[test]
fn a_call_goes_on_to_a_number_in_the_users_name_and_at_its_cost() {
    let mut w = World::new();
    let (mut caller, bob) = called(&mut w);
    send_on(&mut w, &bob, "<sip:0499123456@example.org;user=phone>");
    assert_eq!(w.heard(B), ["181"], "RFC 5359 §2.7 F3");
    let mut callee = w.invited(A);
    assert_eq!(callee.invite.uri.user(), "+32499123456");
    // This trunk is told of no diversions: it knows our numbers only.
    assert_eq!(callee.other.uri.user(), "+3225550002");
    assert_eq!(callee.invite.headers.get(&HeaderName::ReferredBy), None);
    w.reply(&callee, 100);
    w.pass(secs(3));
    w.reply_with(&callee, 183, ANSWER);
    w.reply(&callee, 180);
    assert_eq!(w.heard(B), ["180"], "its own phone rings");
    w.pass(secs(4));
    w.reply_with(&callee, 200, ANSWER);
    assert_eq!(w.heard(A), ["ACK"]);
    w.ack(&mut caller);
    let (leg, media) = w.media.legs.iter().find(|(_, media)| media.bridged_to.is_some()).unwrap();
    assert_ne!(leg.call, media.bridged_to.unwrap().call, "the voices of two calls are joined");
    w.pass(secs(20));
    w.bye(&mut callee);
    w.ok(&caller, Method::Bye);
    w.finish_all();
    let (first, second) = both(&w);
    assert_eq!((first.direction, second.direction), (Direction::TrunkToApp, Direction::AppToTrunk));
    assert_eq!((first.duration_ms, second.duration_ms), (20_000, 20_000));
    assert_eq!(first.caller.account, None, "who called pays its own operator");
    assert_eq!((second.caller.user.as_deref(), second.caller.account.as_deref()), (Some("bob"), Some("bob")));
    assert_eq!(second.called.number.as_ref().unwrap().as_str(), "+32499123456");
    assert_eq!((first.called.user.as_deref(), second.egress_trunk.as_deref()), (Some("bob"), Some("a")));
    let device = &first.legs[0];
    assert_eq!((device.sip_code, device.end_cause), (Some(302), Some(EndCause::Redirected)));
    assert!(!device.chosen && second.legs[0].chosen);
    assert_eq!((first.pdd_ms, second.pdd_ms), (Some(3_000), Some(3_000)));
    for cdr in [first, second] {
        assert_eq!(cdr.end_cause, Some(EndCause::NormalClearing));
        assert_eq!(cdr.released_by, Some(ReleasedBy::Callee));
    }
}

#[test]
fn a_trunk_that_is_told_of_diversions_hears_who_calls_and_who_sent_the_call_on_and_why() {
    for (rings, said, word, cause) in [
        (false, "", "unconditional", "302"),
        (true, "", "deflection", "487"),
        (true, "<sip:bob@example.org>;reason=no-answer", "no-answer", "408"),
        (false, "<sip:+32900111111@evil.example>;reason=user-busy", "user-busy", "486"),
        (false, "<sip:bob@example.org>;reason=whim", "unconditional", "302"),
    ] {
        let mut w = World::with(|config| config.trunks[0].diversion = true);
        let (caller, bob) = called(&mut w);
        if rings {
            w.reply(&bob, 180);
        }
        let fields = [(HeaderName::Diversion, said)];
        send_on_saying(&mut w, &bob, "<tel:+32499123456>", if said.is_empty() { &[] } else { &fields });
        let callee = w.invited(A);
        assert_eq!(callee.other.uri.user(), "+33123456789", "the caller's number");
        let diverted = told(&mut w, &callee, HeaderName::Diversion);
        assert_eq!(diverted, [format!("<sip:+3225550002@192.0.2.1>;reason={word}")]);
        let history = told(&mut w, &callee, HeaderName::HistoryInfo);
        assert_eq!(
            history,
            [
                "<sip:+3225550002@192.0.2.1?Reason=SIP%3Bcause%3D302>;index=1".to_owned(),
                format!("<sip:+32499123456@192.0.2.1;cause={cause}>;index=1.1;mp=1"),
            ]
        );
        w.cancel(&caller);
        w.finish_all();
    }
}

#[test]
fn who_withholds_its_number_is_not_known_where_its_call_is_sent() {
    for diversion in [true, false] {
        let mut w = World::with(|config| {
            (config.trunks[0].diversion, config.trunks[0].tell_withheld) = (diversion, Some(false));
        });
        w.register("bob", BOB);
        let caller = w.call_in_with(B, "+3225550002", OFFER, |invite| {
            invite.headers.push(HeaderName::Privacy, "id");
        });
        let bob = w.invited(BOB);
        send_on(&mut w, &bob, "<sip:0499123456@example.org>");
        let callee = w.invited(A);
        assert_eq!(callee.other.uri.user(), "anonymous");
        let text = String::from_utf8(callee.invite.to_bytes().to_vec()).unwrap();
        assert!(!text.contains("33123456789"), "{text}");
        w.cancel(&caller);
        w.finish_all();
    }
}

#[test]
fn a_call_goes_on_to_another_user_who_sees_who_calls() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("carol", CAROL);
    let mut alice = w.dial("alice", "bob");
    let bob = w.invited(BOB);
    send_on(&mut w, &bob, "<sip:carol@example.org>");
    assert_eq!(w.heard(ALICE), ["181"]);
    let carol = w.invited(CAROL);
    assert_eq!(carol.other.uri.user(), "+3225550001");
    assert_eq!(carol.invite.headers.get(&HeaderName::ReferredBy), None);
    w.reply(&carol, 180);
    w.reply_with(&carol, 200, OPUS_ANSWER);
    assert_eq!(w.heard(CAROL), ["ACK"]);
    w.ack(&mut alice);
    // A hold goes through both calls.
    let hold = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &hold);
    w.ack(&mut alice);
    let retold = w.request(carol.at, Method::Invite);
    assert!(String::from_utf8_lossy(&retold.body).contains("a=sendonly"));
    w.send(carol.at, carol.response(&retold, 200).with_body("application/sdp", OPUS_ANSWER));
    w.request(carol.at, Method::Ack);
    w.pass(secs(5));
    w.bye(&mut alice);
    w.ok(&carol, Method::Bye);
    w.finish_all();
    let (first, second) = both(&w);
    assert_eq!((first.direction, second.direction), (Direction::AppToApp, Direction::AppToApp));
    assert_eq!(
        (first.caller.account.as_deref(), second.caller.account.as_deref()),
        (Some("alice"), Some("bob"))
    );
    assert_eq!(first.caller_codec, Some(AudioCodec::Opus));
    assert_eq!((first.duration_ms, second.duration_ms), (5_000, 5_000));
}

/// A change of the configuration.
type Change<'a> = &'a dyn Fn(&mut Config);

#[test]
fn nobody_gets_further_by_it_than_the_user_could_call() {
    let limited = |config: &mut Config| config.limits.max_calls_per_user = 0;
    let users_only = |config: &mut Config| config.app.forward = Transfer::Users;
    let any = |_: &mut Config| {};
    let cases: [(&str, EndCause, Change<'_>); 7] = [
        ("<sip:090012345@example.org>", EndCause::Blocked, &any),
        ("<sip:+4412345678@example.org>", EndCause::NoRoute, &any),
        ("<sip:0499123456@example.org>", EndCause::UserLimit, &limited),
        ("<sip:0499123456@example.org>", EndCause::Blocked, &users_only),
        // A test line, a short code, nobody.
        ("<sip:+3225559901@example.org>", EndCause::Blocked, &any),
        ("<sip:1207@example.org>", EndCause::Blocked, &any),
        ("<sip:nobody@example.org>", EndCause::NumberNotFound, &any),
    ];
    for (to, cause, change) in cases {
        let mut w = World::with(change);
        let (caller, bob) = called(&mut w);
        send_on(&mut w, &bob, to);
        w.refused(&caller, 480);
        assert!(w.heard(A).is_empty(), "{to}");
        w.finish_all();
        let (first, second) = both(&w);
        assert_eq!((first.end_cause, second.end_cause), (Some(EndCause::Unavailable), Some(cause)), "{to}");
        assert_eq!(second.caller.account.as_deref(), Some("bob"), "{to}");
    }
}

#[test]
fn what_is_no_place_to_go_to_is_not_followed() {
    let off = |config: &mut Config| config.app.forward = Transfer::Off;
    let any = |_: &mut Config| {};
    let cases: [(&str, Change<'_>); 6] = [
        ("<sip:0499123456@example.org>", &off),
        ("<sip:carol@elsewhere.example>", &any),
        ("<urn:service:sos>", &any),
        ("<sip:example.org>", &any),
        ("<sip:carol@example.org;method=MESSAGE>", &any),
        ("<mailto:bob@example.org>", &any),
    ];
    for (to, change) in cases {
        let mut w = World::with(change);
        w.register("carol", CAROL);
        w.heard(CAROL);
        let (caller, bob) = called(&mut w);
        send_on(&mut w, &bob, to);
        w.refused(&caller, 502);
        assert!(w.heard(A).is_empty() && w.heard(CAROL).is_empty(), "{to}");
        w.finish();
    }
    // Help is for who asks for it.
    let mut w = World::new();
    let (caller, bob) = called(&mut w);
    send_on(&mut w, &bob, "<sip:112@example.org>");
    w.refused(&caller, 480);
    assert!(w.heard(A).is_empty());
    assert_eq!(w.finish().end_cause, Some(EndCause::Unavailable));
    // Another service than a redirection.
    let mut w = World::new();
    let (caller, bob) = called(&mut w);
    let mut response = bob.response(&bob.invite, 305);
    response.headers.set(HeaderName::Contact, "<sip:0499123456@example.org>");
    w.send(bob.at, response);
    w.refused(&caller, 502);
    w.finish();
}

#[test]
fn of_several_places_the_one_that_is_liked_best_counts() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (caller, bob) = called(&mut w);
    let to = "<sip:0499123456@example.org>;q=0.3, <sip:x@elsewhere.example>, <sip:carol@192.0.2.1>;q=0.9";
    send_on(&mut w, &bob, to);
    w.invited(CAROL);
    w.cancel(&caller);
    w.finish_all();
    assert!(w.heard(A).is_empty());
}

#[test]
fn a_circle_ends() {
    // To itself, by name and by number.
    for to in ["<sip:bob@example.org>", "<sip:+3225550002@example.org>"] {
        let mut w = World::new();
        w.register("bob", BOB2);
        let (caller, bob) = called(&mut w);
        let other = w.invited(BOB2);
        w.reply(&other, 480);
        send_on(&mut w, &bob, to);
        w.refused(&caller, 480);
        w.finish_all();
        assert_eq!(both(&w).1.end_cause, Some(EndCause::LoopDetected));
    }
    // Over another one.
    let mut w = World::new();
    w.register("carol", CAROL);
    let (caller, bob) = called(&mut w);
    send_on(&mut w, &bob, "<sip:carol@example.org>");
    let carol = w.invited(CAROL);
    send_on(&mut w, &carol, "<sip:bob@example.org>");
    w.refused(&caller, 480);
    assert!(w.heard(BOB).is_empty());
    w.finish_all();
    let mut causes: Vec<_> = w.ends().iter().filter_map(|cdr| cdr.end_cause).collect();
    causes.sort_by_key(|cause| cause.as_str());
    assert_eq!(causes, [EndCause::LoopDetected, EndCause::Unavailable, EndCause::Unavailable]);
    // By a trunk whose word counts: the call comes back and says whom it came by.
    let mut w = World::with(|config| config.trunks[1].trusted = true);
    w.register("bob", BOB);
    let caller = w.call_in_with(B, "+3225550002", OFFER, |invite| {
        invite.headers.push(HeaderName::Diversion, "<sip:+3225550002@b.example>;reason=unconditional");
    });
    let bob = w.invited(BOB);
    send_on(&mut w, &bob, "<sip:0499123456@example.org>");
    w.refused(&caller, 480);
    assert!(w.heard(A).is_empty());
    w.finish_all();
    // Hops are counted across it.
    let mut w = World::new();
    w.register("bob", BOB);
    let caller = w.call_in_with(B, "+3225550002", OFFER, |invite| {
        invite.headers.set(HeaderName::MaxForwards, "2");
    });
    let bob = w.invited(BOB);
    send_on(&mut w, &bob, "<sip:0499123456@example.org>");
    let callee = w.invited(A);
    assert_eq!(callee.invite.headers.get(&HeaderName::MaxForwards), Some("0"));
    w.cancel(&caller);
    w.finish_all();
}

#[test]
fn a_call_that_is_sent_on_twice_is_paid_for_by_the_last_one_and_each_step_has_its_record() {
    let mut w = World::with(|config| config.trunks[0].diversion = true);
    w.register("carol", CAROL);
    let (mut caller, bob) = called(&mut w);
    send_on(&mut w, &bob, "<sip:carol@example.org>");
    let carol = w.invited(CAROL);
    w.reply(&carol, 180);
    send_on(&mut w, &carol, "<sip:0499123456@example.org>");
    let callee = w.invited(A);
    let diverted = told(&mut w, &callee, HeaderName::Diversion);
    let expected =
        ["<sip:+3225550003@192.0.2.1>;reason=deflection", "<sip:+3225550002@192.0.2.1>;reason=unconditional"];
    assert_eq!(diverted, expected);
    w.reply_with(&callee, 200, ANSWER);
    w.heard(A);
    w.ack(&mut caller);
    w.pass(secs(7));
    w.bye(&mut caller);
    w.ok(&callee, Method::Bye);
    w.finish_all();
    let ends = w.ends();
    let first = ends.iter().find(|cdr| cdr.forwarded_of.is_none()).unwrap();
    let second = ends.iter().find(|cdr| cdr.forwarded_of == Some(first.id)).unwrap();
    let third = ends.iter().find(|cdr| cdr.forwarded_of == Some(second.id)).unwrap();
    let durations = [first, second, third].map(|cdr| cdr.duration_ms);
    assert_eq!(durations, [7_000, 0, 7_000]);
    let accounts = [first, second, third].map(|cdr| cdr.caller.account.as_deref());
    assert_eq!(accounts, [None, Some("bob"), Some("carol")]);
    assert_eq!(second.end_cause, Some(EndCause::Unavailable));
}

/// bob's two devices ring.
fn two_ring(w: &mut World) -> (Side, Side, Side) {
    w.register("bob", BOB2);
    w.register("bob", BOB);
    let caller = w.call_in(B, "+3225550002");
    let (one, other) = (w.invited(BOB), w.invited(BOB2));
    w.reply(&other, 180);
    w.heard(B);
    (caller, one, other)
}

/// A device that is busy sends the call on.
fn send_on_busy(w: &mut World, device: &Side, to: &str) {
    let busy = "<sip:bob@example.org>;reason=user-busy";
    send_on_saying(w, device, to, &[(HeaderName::Diversion, busy)]);
    assert_eq!(w.heard(&device.at.to_string()), ["ACK"]);
}

/// A device that forwards all calls sends this one on.
fn send_on_always(w: &mut World, device: &Side, to: &str) {
    let always = "<sip:bob@example.org>;reason=unconditional";
    send_on_saying(w, device, to, &[(HeaderName::Diversion, always)]);
    assert_eq!(w.heard(&device.at.to_string()), ["ACK"]);
}

#[test]
fn who_forwards_all_calls_is_followed_at_once_and_the_other_devices_stop_ringing() {
    let to = "<sip:0499123456@example.org>";
    let said = &[(HeaderName::Diversion, "<sip:bob@example.org>;reason=unconditional")];
    let mut w = World::new();
    let (mut caller, one, other) = two_ring(&mut w);
    send_on_saying(&mut w, &one, to, said);
    let cancel = w.request(other.at, Method::Cancel);
    assert!(cancel.headers.get(&HeaderName::Reason).unwrap().starts_with("Q.850;cause=23;"));
    w.ok(&other, Method::Cancel);
    w.reply(&other, 487);
    assert_eq!(w.heard(B), ["181"]);
    let callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    w.heard(A);
    w.ack(&mut caller);
    w.pass(secs(5));
    w.hang_up(&mut caller, &callee);
    w.finish_all();
    let (first, second) = both(&w);
    assert_eq!((first.duration_ms, second.duration_ms), (5_000, 5_000));
    let mut codes: Vec<_> = first.legs.iter().map(|leg| leg.sip_code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(302), Some(487)]);
    assert!(first.legs.iter().all(|leg| leg.end_cause == Some(EndCause::Redirected) && !leg.chosen));
    // It counts before what another one says of this call alone.
    let mut w = World::new();
    w.register("bob", BOB3);
    w.register("carol", CAROL);
    let (caller, one, other) = two_ring(&mut w);
    send_on_busy(&mut w, &one, to);
    assert!(w.heard(A).is_empty());
    let all = [(HeaderName::Diversion, "<sip:bob@example.org>;reason=unconditional")];
    send_on_saying(&mut w, &other, "<sip:carol@example.org>", &all);
    w.invited(CAROL);
    assert!(w.heard(A).is_empty());
    w.cancel(&caller);
    w.finish_all();
}

#[test]
fn who_says_nothing_of_all_calls_or_wants_peace_at_one_phone_lets_the_others_ring() {
    let disturbed = &[(HeaderName::Diversion, "<sip:bob@example.org>;reason=do-not-disturb")][..];
    for said in [&[][..], disturbed] {
        let mut w = World::new();
        let (mut caller, one, other) = two_ring(&mut w);
        send_on_saying(&mut w, &one, "<sip:0499123456@example.org>", said);
        assert!(w.heard(BOB2).is_empty() && w.heard(A).is_empty());
        w.reply_with(&other, 200, OPUS_ANSWER);
        w.ack(&mut caller);
        w.heard(BOB2);
        w.hang_up(&mut caller, &other);
        w.finish();
    }
}

#[test]
fn a_phone_that_forwards_to_nowhere_does_not_keep_the_others_from_ringing() {
    for to in ["<sip:090012345@example.org>", "<sip:112@example.org>", "<sip:bob@example.org>"] {
        let mut w = World::new();
        let (mut caller, one, other) = two_ring(&mut w);
        send_on_always(&mut w, &one, to);
        assert!(w.heard(BOB2).is_empty(), "{to}");
        w.reply_with(&other, 200, OPUS_ANSWER);
        w.ack(&mut caller);
        w.heard(BOB2);
        w.hang_up(&mut caller, &other);
        assert_eq!(w.finish().legs.iter().filter(|leg| leg.chosen).count(), 1, "{to}");
        // Nor for ever.
        let mut w = World::new();
        let (caller, one, other) = two_ring(&mut w);
        send_on_always(&mut w, &one, to);
        w.pass(secs(120));
        assert_eq!(w.heard(BOB2), ["CANCEL"], "{to}");
        w.reply(&other, 487);
        w.refused(&caller, 480);
        assert_eq!(w.finish().end_cause, Some(EndCause::NoAnswer), "{to}");
    }
}

#[test]
fn while_another_device_rings_nothing_goes_on_and_its_answer_counts_first() {
    let to = "<sip:0499123456@example.org>";
    let mut w = World::new();
    let (mut caller, one, other) = two_ring(&mut w);
    send_on_busy(&mut w, &one, to);
    assert!(w.heard(A).is_empty() && w.heard(B).is_empty());
    w.reply_with(&other, 200, OPUS_ANSWER);
    w.ack(&mut caller);
    w.heard(BOB2);
    w.hang_up(&mut caller, &other);
    assert_eq!(w.finish().legs.iter().filter(|leg| leg.chosen).count(), 1);
    // Its refusal does not.
    for status in [486, 480, 500] {
        let mut w = World::new();
        let (caller, one, other) = two_ring(&mut w);
        send_on_busy(&mut w, &one, to);
        w.reply(&other, status);
        w.invited(A);
        w.cancel(&caller);
        w.finish_all();
    }
    // A person that declines speaks for all devices.
    let mut w = World::new();
    let (caller, one, other) = two_ring(&mut w);
    send_on_busy(&mut w, &one, to);
    w.reply(&other, 603);
    w.refused(&caller, 603);
    assert!(w.heard(A).is_empty());
    w.finish();
    // And nobody rings for ever where one has said where to go.
    let mut w = World::new();
    let (mut caller, one, other) = two_ring(&mut w);
    send_on_busy(&mut w, &one, to);
    w.pass(secs(120));
    assert_eq!(w.heard(BOB2), ["CANCEL"]);
    w.reply(&other, 487);
    let callee = w.invited(A);
    w.reply(&callee, 100);
    w.pass(secs(100));
    w.reply_with(&callee, 200, ANSWER);
    w.heard(A);
    w.ack(&mut caller);
    w.hang_up(&mut caller, &callee);
    w.finish_all();
    assert_eq!(both(&w).0.duration_ms, 0);
}

#[test]
fn only_the_device_that_was_rung_sends_its_users_call_on() {
    // What a stranger says in its place.
    let mut w = World::new();
    let (caller, bob) = called(&mut w);
    let mut forged = bob.response(&bob.invite, 302);
    forged.headers.set(HeaderName::Contact, "<sip:0499123456@example.org>");
    w.send(STRANGER.parse().unwrap(), forged);
    assert!(w.heard(A).is_empty());
    w.refused(&caller, 502);
    w.finish();
    // One that is registered no more.
    let mut w = World::new();
    let (caller, bob) = called(&mut w);
    let mut leaves = w.registering("bob", BOB);
    let answer = w.register_as(&mut leaves, "bob", 0);
    assert_eq!(answer.status, 200);
    send_on(&mut w, &bob, "<sip:0499123456@example.org>");
    assert!(w.heard(A).is_empty());
    w.refused(&caller, 480);
    w.finish();
}

#[test]
fn the_caller_hears_what_becomes_of_its_call_and_may_give_up() {
    let to = "<sip:0499123456@example.org>";
    for (status, heard) in [(486, 486), (603, 603), (404, 404), (503, 503)] {
        let mut w = World::new();
        let (caller, bob) = called(&mut w);
        send_on(&mut w, &bob, to);
        let callee = w.invited(A);
        w.reply(&callee, status);
        w.refused(&caller, heard);
        w.finish_all();
        let (first, second) = both(&w);
        assert_eq!(first.sip_code, Some(heard));
        assert_eq!(first.end_cause.map(EndCause::outcome), second.end_cause.map(EndCause::outcome));
    }
    let mut w = World::new();
    let (caller, bob) = called(&mut w);
    send_on(&mut w, &bob, to);
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.cancel(&caller);
    assert_eq!(w.heard(A), ["CANCEL"]);
    w.reply(&callee, 487);
    w.finish_all();
    let (first, second) = both(&w);
    assert_eq!([first.end_cause, second.end_cause], [Some(EndCause::CallerCancelled); 2]);
    // While the records of the answer are written.
    for gives_up in ["caller", "callee"] {
        let mut w = World::new();
        w.journal.answer = Verdict::Durable(ms(50));
        let (caller, bob) = called(&mut w);
        send_on(&mut w, &bob, to);
        let mut callee = w.invited(A);
        w.reply_with(&callee, 200, ANSWER);
        w.pass(ms(60));
        assert_eq!(w.heard(A), ["ACK"]);
        if gives_up == "caller" {
            w.cancel(&caller);
        } else {
            w.bye(&mut callee);
        }
        w.pass(ms(60));
        if gives_up == "caller" {
            w.ok(&callee, Method::Bye);
        }
        assert!(w.heard(B).iter().any(|heard| heard.starts_with('4')), "{gives_up}");
        w.finish_all();
    }
}

#[test]
fn a_callers_200_waits_for_the_prack_of_its_progress() {
    let mut w = World::with(|config| config.trunks[1].prack = Prack::Supported);
    w.register("bob", BOB);
    let mut caller = w.call_in_with(B, "+3225550002", "", |invite| {
        invite.headers.push(HeaderName::Supported, "100rel");
    });
    let bob = w.invited(BOB);
    send_on(&mut w, &bob, "<sip:0499123456@example.org>");
    let progress = w.response(caller.at, 181);
    assert!(!progress.body.is_empty(), "our offer");
    caller.learn(&progress);
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.reply_with(&callee, 200, ANSWER);
    assert_eq!(w.heard(A), ["ACK"]);
    assert!(w.heard(B).is_empty());
    let prack = caller.prack(progress.rseq().unwrap(), ANSWER);
    w.send(caller.at, &prack);
    w.response(caller.at, 200);
    let answer = w.response(caller.at, 200);
    let ack = caller.ack(&answer);
    w.send(caller.at, &ack);
    assert!(w.media.legs.values().any(|media| media.bridged_to.is_some()));
    w.pass(secs(3));
    w.bye(&mut caller);
    w.ok(&callee, Method::Bye);
    w.finish_all();
}

#[test]
fn a_caller_whose_session_runs_hears_ringback_once_somebody_rings() {
    let mut w = World::with(|config| config.trunks[1].prack = Prack::Supported);
    w.register("bob", BOB);
    let mut caller = w.call_in_with(B, "+3225550002", "", |invite| {
        invite.headers.push(HeaderName::Supported, "100rel");
    });
    let bob = w.invited(BOB);
    send_on(&mut w, &bob, "<sip:0499123456@example.org>");
    let progress = w.response(caller.at, 181);
    caller.learn(&progress);
    let prack = caller.prack(progress.rseq().unwrap(), ANSWER);
    w.send(caller.at, &prack);
    let tone = |w: &World| w.media.legs.values().any(|media| media.tone.is_some());
    assert!(!tone(&w), "nobody rings yet");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    assert!(tone(&w));
    w.reply(&callee, 486);
    w.finish_all();
}

#[test]
fn an_apps_network_meets_no_phone_network_by_it() {
    let mut w = World::with(|config| {
        let mut app = config.trunks[1].clone();
        (app.name, app.app_side) = ("app".into(), true);
        app.proxy = vec![STRANGER.parse::<std::net::SocketAddr>().unwrap().into()];
        config.trunks.push(app);
    });
    w.register("bob", BOB);
    let caller = w.call_in(STRANGER, "+3225550002");
    let bob = w.invited(BOB);
    send_on(&mut w, &bob, "<sip:0499123456@example.org>");
    w.refused(&caller, 480);
    assert!(w.heard(A).is_empty());
    w.finish_all();
    assert_eq!(both(&w).1.end_cause, Some(EndCause::Blocked));
}

#[test]
fn who_is_moved_to_a_user_goes_where_that_users_device_sends_it() {
    for answers in [true, false] {
        let mut w = World::new();
        w.register("bob", BOB);
        w.register("carol", CAROL);
        let (mut alice, mut callee) = w.talking();
        assert_eq!(refer(&mut w, &mut alice, "<sip:carol@example.org>"), 202);
        report(&mut w, &alice);
        let carol = w.invited(CAROL);
        send_on(&mut w, &carol, "<sip:bob@example.org>");
        let bob = w.invited(BOB);
        w.reply(&bob, 180);
        assert_eq!(report(&mut w, &alice), ("SIP/2.0 180 Ringing".into(), false));
        if answers {
            w.reply_with(&bob, 200, OPUS_ANSWER);
            assert_eq!(w.heard(BOB), ["ACK"]);
            assert_eq!(report(&mut w, &alice), ("SIP/2.0 200 OK".into(), true));
            w.ok(&alice, Method::Bye);
            w.pass(secs(9));
            w.bye(&mut callee);
            w.ok(&bob, Method::Bye);
        } else {
            w.reply(&bob, 486);
            assert_eq!(report(&mut w, &alice), ("SIP/2.0 486 Busy Here".into(), true));
            w.hang_up(&mut alice, &callee);
        }
        w.finish_all();
        let ends = w.ends();
        let moved = ends.iter().find(|cdr| cdr.transfer_of.is_some()).unwrap();
        let sent_on = ends.iter().find(|cdr| cdr.forwarded_of == Some(moved.id)).unwrap();
        assert_eq!(
            (moved.caller.user.as_deref(), sent_on.caller.user.as_deref()),
            (Some("alice"), Some("carol"))
        );
        assert_eq!((moved.duration_ms, sent_on.duration_ms), (0, if answers { 9_000 } else { 0 }));
    }
}

#[test]
fn who_calls_back_to_somebody_that_asked_for_help_is_sent_nowhere() {
    let mut w = World::new();
    w.register("alice", ALICE);
    let mut alice = w.dial("alice", "112");
    let help = w.invited(A);
    w.reply_with(&help, 200, ANSWER);
    w.heard(A);
    w.ack(&mut alice);
    w.hang_up(&mut alice, &help);
    w.heard(A);
    let back = w.call_in(A, "+3225550001");
    let phone = w.invited(ALICE);
    send_on(&mut w, &phone, "<sip:0499123456@example.org>");
    w.refused(&back, 502);
    assert!(w.heard(B).is_empty());
    w.finish_all();
}
