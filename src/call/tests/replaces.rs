//! Phones that take a running call of their user over from another phone (RFC 3891).

use super::far::Side;
use super::world::*;
use crate::config::Config;
use crate::sip::message::{HeaderName, Method, Request};
use crate::types::{Direction, EndCause};

/// Another phone of alice's.
const SECOND: &str = "198.51.100.11:5060";

/// A user's phone at another place sends an INVITE with this Replaces, proven.
fn take_over(w: &mut World, user: &str, at: &str, sdp: &str, replaces: &str) -> Side {
    take_over_calling(w, "whoever", user, at, sdp, replaces)
}

/// The same where the INVITE goes to this number.
fn take_over_calling(w: &mut World, called: &str, user: &str, at: &str, sdp: &str, replaces: &str) -> Side {
    let at = at.parse().unwrap();
    let mut side =
        w.side(at, user, &format!("sip:{called}@example.org")).with_password(user, &format!("{user}-secret"));
    let mut invite: Request = side.invite(sdp);
    invite.headers.push(HeaderName::Replaces, replaces);
    invite.headers.push(HeaderName::Require, "replaces");
    w.send(at, &invite);
    let challenge = w.response(at, 401);
    let ack = side.ack_failure(&challenge);
    w.send(at, &ack);
    let again = side.with_credentials(&invite, &challenge);
    w.send(at, &again);
    side
}

/// A phone's dialog, as Replaces names it.
fn dialog(side: &Side) -> String {
    let (to, from) = (side.other.tag().unwrap(), side.own.tag().unwrap());
    format!("{};to-tag={to};from-tag={from}", side.call_id)
}

#[test]
fn another_phone_of_the_user_goes_on_with_the_call() {
    for sdp in [OFFER, ""] {
        let mut w = World::new();
        let (alice, mut callee) = w.talking();
        w.pass(secs(10));
        let mut second = take_over(&mut w, "alice", SECOND, sdp, &dialog(&alice));
        let answer = w.response(second.at, 200);
        let ack = second.ack(&answer);
        let ack =
            if sdp.is_empty() { ack.with_body("application/sdp", OFFER.replace("111", "96")) } else { ack };
        w.send(second.at, &ack);
        assert_eq!(w.heard(ALICE), ["BYE"], "the first phone is let go");
        w.ok(&alice, Method::Bye);
        assert!(w.heard(A).is_empty(), "the far end notices nothing");
        w.pass(secs(20));
        w.bye(&mut callee);
        w.ok(&second, Method::Bye);
        w.finish_all();
        let (first, taken) = match w.ends()[..] {
            [one, other] if one.transfer_of.is_none() => (one.clone(), other.clone()),
            [one, other] => (other.clone(), one.clone()),
            _ => panic!("two records"),
        };
        assert_eq!((first.duration_ms, taken.duration_ms), (30_000, 20_000), "{sdp:?}");
        assert_eq!((taken.transfer_of, taken.direction), (Some(first.id), Direction::AppToApp));
        assert_eq!(first.legs.len(), 1);
    }
}

#[test]
fn a_call_that_was_held_is_taken_back_by_the_other_phone() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let hold = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &hold);
    w.ack(&mut alice);
    let held = w.request(callee.at, Method::Invite);
    w.send(callee.at, callee.response(&held, 200).with_body("application/sdp", directed(ANSWER, "recvonly")));
    w.request(callee.at, Method::Ack);
    let mut second = take_over(&mut w, "alice", SECOND, OFFER, &dialog(&alice));
    w.ack(&mut second);
    let back = w.request(callee.at, Method::Invite);
    assert!(String::from_utf8_lossy(&back.body).contains("a=sendrecv"));
    w.send(callee.at, callee.response(&back, 200).with_body("application/sdp", ANSWER));
    w.request(callee.at, Method::Ack);
    w.ok(&alice, Method::Bye);
    w.bye(&mut second);
    w.ok(&callee, Method::Bye);
    w.finish_all();
}

#[test]
fn nobody_takes_over_what_is_not_its_own() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let own = dialog(&alice);
    for (user, replaces, status) in [
        ("bob", own.clone(), 403),
        ("alice", "none;to-tag=1;from-tag=2".to_owned(), 481),
        ("alice", "broken".to_owned(), 400),
        ("alice", format!("{own};early-only"), 486),
    ] {
        let side = take_over(&mut w, user, SECOND, OFFER, &replaces);
        w.refused(&side, status);
    }
    // A trunk has no phones here.
    let caller = w.call_in_with(B, "+3225550002", OFFER, |invite| {
        invite.headers.push(HeaderName::Replaces, own.clone());
    });
    w.refused(&caller, 403);
    assert!(w.call().is_live() && w.heard(A).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish_all();
}

#[test]
fn taking_a_call_over_is_no_way_around_a_limit_whatever_number_it_names() {
    type Limit = (u16, fn(&mut Config));
    let limits: [Limit; 2] = [
        (403, |config| config.limits.max_calls_per_user = 1),
        (503, |config| config.limits.max_calls = Some(1)),
    ];
    for (status, limit) in limits {
        for called in ["0499123456", "whoever", "090012345"] {
            let mut w = World::with(limit);
            let (mut alice, callee) = w.talking();
            let replaces = dialog(&alice);
            let side = take_over_calling(&mut w, called, "alice", SECOND, OFFER, &replaces);
            w.refused(&side, status);
            assert!(w.heard(ALICE).is_empty() && w.heard(A).is_empty(), "{called}");
            w.hang_up(&mut alice, &callee);
            w.finish_all();
            assert!(w.ends().iter().all(|cdr| cdr.transfer_of.is_none()), "{called}");
        }
    }
}

#[test]
fn a_call_that_ends_while_it_is_taken_over_leaves_nothing() {
    let mut w = World::new();
    let (alice, mut callee) = w.talking();
    w.journal.answer = Verdict::Durable(ms(200));
    let second = take_over(&mut w, "alice", SECOND, OFFER, &dialog(&alice));
    w.bye(&mut callee);
    w.ok(&alice, Method::Bye);
    w.pass(ms(200));
    let mut second = second;
    w.ack(&mut second);
    assert_eq!(w.heard(SECOND), ["BYE"]);
    w.ok(&second, Method::Bye);
    w.finish_all();
    assert!(w.ends().iter().all(|cdr| cdr.end_cause == Some(EndCause::NormalClearing)));
}

#[test]
fn who_gives_up_while_it_takes_over_has_not_taken_over() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.journal.answer = Verdict::Durable(ms(200));
    let second = take_over(&mut w, "alice", SECOND, OFFER, &dialog(&alice));
    w.cancel(&second);
    w.pass(ms(200));
    w.inbox(second.at).retain(|message| super::far::name(message) == "487");
    w.refused(&second, 487);
    w.hang_up(&mut alice, &callee);
    w.finish_all();
}
