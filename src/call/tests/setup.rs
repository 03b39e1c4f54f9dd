//! Calls that come about: who is rung how, what each side is told, and what the record says.

use super::world::*;
use crate::sip::message::{HeaderName, Method, Response, Typed};
use crate::types::{AudioCodec, Direction, EndCause, ReleasedBy};

#[test]
fn a_user_rings_a_number_through_a_trunk_and_hangs_up() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    assert_eq!(callee.invite.uri.to_string(), "sip:+32470123456@203.0.113.1:5060");
    assert_eq!(callee.invite.from().unwrap().uri.user(), "+3225550001");
    assert_eq!(callee.invite.max_forwards(), Some(69));
    assert_ne!(callee.call_id, alice.call_id, "a B2BUA's legs are dialogs of their own");
    w.pass(ms(300));
    w.reply(&callee, 180);
    assert_eq!(w.heard(ALICE), ["100", "180"]);
    w.pass(secs(2));
    w.reply_with(&callee, 200, ANSWER);
    assert_eq!(w.heard(A), ["ACK"]);
    let answer = w.ack(&mut alice);
    assert!(answer.body.starts_with(b"v=0"));
    let known = (w.answer_record().caller_codec, w.answer_record().callee_codec);
    assert_eq!(known, (Some(AudioCodec::Opus), Some(AudioCodec::Pcma)), "before the caller knows of it");
    assert_eq!(w.leg(0).config.as_ref().unwrap().codec, AudioCodec::Opus);
    assert_eq!(w.leg(1).config.as_ref().unwrap().codec, AudioCodec::Pcma);
    assert!(w.leg(0).bridged_to.is_some());
    w.pass(secs(10));

    w.bye(&mut alice);
    assert_eq!(w.heard(A), ["BYE"]);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.heard(ALICE), ["200 BYE"]);
    let cdr = w.finish();
    assert_eq!(w.record_names(), ["start", "answer", "end"]);
    assert_eq!(cdr.direction, Direction::AppToTrunk);
    assert_eq!(cdr.end_cause, Some(EndCause::NormalClearing));
    assert_eq!(cdr.released_by, Some(ReleasedBy::Caller));
    assert_eq!((cdr.pdd_ms, cdr.duration_ms, cdr.sip_code), (Some(300), 10_000, Some(200)));
    assert_eq!((cdr.caller.user.as_deref(), cdr.egress_trunk.as_deref()), (Some("alice"), Some("a")));
    assert_eq!(cdr.called.number.as_ref().unwrap().as_str(), "+32470123456");
    assert_eq!(cdr.legs.len(), 1);
    assert!(cdr.legs[0].chosen);
}

#[test]
fn an_app_is_asked_for_a_narrow_band_where_the_other_side_is_a_telephone_and_only_there() {
    let narrow = "maxplaybackrate=8000;sprop-maxcapturerate=8000;";
    let body = |body: &[u8]| String::from_utf8_lossy(body).into_owned();

    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let trunk = w.invited(A);
    w.reply_with(&trunk, 200, ANSWER);
    let answer = body(&w.ack(&mut alice).body);
    assert!(answer.contains(narrow) && answer.contains("useinbandfec=1;usedtx=1"), "{answer}");

    let mut w = World::new();
    w.register("bob", BOB);
    w.call_in(A, "+3225550002");
    let offer = body(&w.invited(BOB).invite.body);
    assert!(offer.contains(narrow), "{offer}");

    let mut w = World::new();
    w.register("bob", BOB);
    let mut alice = w.dial("alice", "bob");
    let bob = w.invited(BOB);
    assert!(!body(&bob.invite.body).contains("maxplaybackrate"), "apps keep the full band among themselves");
    w.reply_with(&bob, 200, OPUS_ANSWER);
    assert!(!body(&w.ack(&mut alice).body).contains("maxplaybackrate"));
}

#[test]
fn a_trunk_rings_a_user_by_its_number_and_the_user_hangs_up() {
    let mut w = World::new();
    w.register("bob", BOB);
    let mut caller = w.call_in(A, "+3225550002");
    let mut bob = w.invited(BOB);
    assert_eq!(bob.invite.uri.to_string(), format!("sip:bob@{BOB}"));
    assert_eq!(bob.invite.from().unwrap().uri.user(), "+33123456789");
    w.reply(&bob, 180);
    assert_eq!(w.heard(A), ["180"]);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    assert_eq!(w.heard(BOB), ["ACK"]);
    w.ack(&mut caller);
    w.pass(secs(3));
    w.bye(&mut bob);
    assert_eq!(w.heard(BOB), ["200 BYE"]);
    assert_eq!(w.heard(A), ["BYE"]);
    w.ok(&caller, Method::Bye);
    let cdr = w.finish();
    assert_eq!(cdr.direction, Direction::TrunkToApp);
    assert_eq!((cdr.ingress_trunk.as_deref(), cdr.egress_trunk), (Some("a"), None));
    assert_eq!(cdr.called.user.as_deref(), Some("bob"));
    assert_eq!((cdr.released_by, cdr.duration_ms), (Some(ReleasedBy::Callee), 3_000));
}

#[test]
fn users_talk_opus_to_each_other_untouched() {
    let mut w = World::new();
    w.register("bob", BOB);
    let mut alice = w.dial("alice", "bob");
    let bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    w.ack(&mut alice);
    assert_eq!(w.leg(0).config.as_ref().unwrap().codec, AudioCodec::Opus);
    assert_eq!(w.leg(1).config.as_ref().unwrap().codec, AudioCodec::Opus);
    w.bye(&mut alice);
    w.request(bob.at, Method::Ack);
    w.ok(&bob, Method::Bye);
    assert_eq!(w.finish().direction, Direction::AppToApp);
}

#[test]
fn a_trunk_reaches_another_trunk_only_where_a_rule_says_so() {
    let mut w = World::new();
    let mut caller = w.call_in(A, "+31201234567");
    let callee = w.invited(B);
    w.reply_with(&callee, 200, ANSWER);
    w.ack(&mut caller);
    w.bye(&mut caller);
    w.request(callee.at, Method::Ack);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.finish().direction, Direction::TrunkToTrunk);

    let mut w = World::new();
    let caller = w.call_in(A, "+32470123456");
    w.refused(&caller, 404);
    assert_eq!(w.finish().end_cause, Some(EndCause::NoRoute));
}

#[test]
fn both_legs_name_the_gateway_and_what_it_understands() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    let headers = &callee.invite.headers;
    assert_eq!(headers.get(&HeaderName::UserAgent), Some("Tandem"));
    assert!(headers.get(&HeaderName::Allow).unwrap().contains("BYE"));
    assert_eq!(headers.get(&HeaderName::Contact), Some("<sip:192.0.2.1:5060>"));
    w.reply(&callee, 486);
    assert_eq!(w.refused(&alice, 486).headers.get(&HeaderName::Server), Some("Tandem"));
    w.finish();
}

#[test]
fn an_answer_that_could_not_be_hung_up_on_makes_no_call() {
    for contact in ["<tel:+32470123456>", "<mailto:sbc@operator.example>"] {
        for early in [false, true] {
            let mut w = World::new();
            let alice = w.dial("alice", "0470123456");
            let callee = w.invited(A);
            if early {
                w.reply(&callee, 180);
            }
            let mut answer = callee.response(&callee.invite, 200).with_body("application/sdp", ANSWER);
            answer.headers.set(HeaderName::Contact, contact);
            w.send(callee.at, answer.clone());
            let (ack, bye) = (w.request(callee.at, Method::Ack), w.request(callee.at, Method::Bye));
            let place = if early { callee.contact() } else { format!("<{}>", callee.invite.uri) };
            for request in [&ack, &bye] {
                assert_eq!(format!("<{}>", request.uri), place);
                assert_eq!(request.to_tag(), callee.own.tag());
            }
            assert_eq!(ack.cseq().unwrap().number, callee.invite.cseq().unwrap().number);
            w.send(callee.at, answer);
            assert_eq!(w.heard(A), ["ACK"], "that one was lost");
            w.ok(&callee, Method::Bye);
            w.refused(&alice, EndCause::FarEndFailure.sip_code());
            assert!(w.heard(B).is_empty(), "it has been rung");
            let cdr = w.finish();
            assert_eq!((cdr.end_cause, cdr.answered_at), (Some(EndCause::FarEndFailure), None));
            assert!(!w.record_names().contains(&"answer"));
        }
    }
}

#[test]
fn an_answer_that_nobody_waits_for_is_hung_up_on_whatever_it_names() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.cancel(&alice);
    w.request(callee.at, Method::Cancel);
    w.ok(&callee, Method::Cancel);
    let mut answer = callee.response(&callee.invite, 200).with_body("application/sdp", ANSWER);
    answer.headers.set(HeaderName::Contact, "<tel:+32470123456>");
    w.send(callee.at, answer.clone());
    assert_eq!(w.heard(A), ["ACK", "BYE"]);
    w.ok(&callee, Method::Bye);
    // The call is forgotten by now.
    let mut other = answer;
    other.headers.set(HeaderName::To, format!("<{}>;tag=other", callee.invite.to().unwrap().uri));
    w.send(callee.at, other);
    assert_eq!(w.heard(A), ["ACK", "BYE"]);
    w.send(callee.at, Response::to_request(&w.last_request(callee.at, &Method::Bye), 200));
    w.finish();
}
