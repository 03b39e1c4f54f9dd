//! Requests that come to us again: for another number they are calls of their own, for the same one a circle.

use super::far::{Side, uri};
use super::world::*;
use crate::sip::message::{HeaderName, Message, Method, Request, Response};
use std::net::SocketAddr;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The operator's proxy sends a request on to us for another number.
fn sent_on(w: &mut World, request: &Request, number: &str) -> Side {
    let mut invite = request.clone();
    invite.uri = uri(&format!("sip:{number}@192.0.2.1"));
    let via = format!("SIP/2.0/UDP {A};branch=z9hG4bKproxy{}", w.number());
    invite.headers.push_front(HeaderName::Via, via);
    let mut side = w.side(at(A), "proxy", "sip:192.0.2.1");
    side.invite = invite.clone();
    w.send(at(A), &invite);
    side
}

/// The next message at the operator is this answer, which it acknowledges where it is a refusal.
fn answered(w: &mut World, side: &Side, status: u16) -> Response {
    let answer = w.response(side.at, status);
    let ack = side.ack_failure(&answer);
    w.send(side.at, &ack);
    answer
}

#[test]
fn an_operator_that_tries_one_number_after_the_other_rings_the_second_one() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("carol", CAROL);
    let first = w.call_in(A, "+3225550002");
    let bob = w.invited(BOB);
    w.reply(&bob, 486);
    w.refused(&first, 486);
    // The same request, with another branch and another Request-URI.
    let mut second = w.side(at(A), "+33123456789", "sip:+3225550003@192.0.2.1");
    second.invite = first.invite.clone();
    second.invite.uri = uri("sip:+3225550003@192.0.2.1");
    second.invite.headers.set(HeaderName::Via, format!("SIP/2.0/UDP {A};branch=z9hG4bKsecond"));
    let invite = second.invite.clone();
    w.send(at(A), &invite);
    let carol = w.invited(CAROL);
    w.reply(&carol, 603);
    answered(&mut w, &second, 603);
    w.finish_all();
    assert_eq!(w.ends().len(), 2);
}

#[test]
fn our_own_call_comes_back_for_another_number_of_ours() {
    let mut w = World::new();
    w.register("bob", BOB);
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    let proxy = sent_on(&mut w, &callee.invite, "+3225550002");
    let bob = w.invited(BOB);
    w.reply(&bob, 180);
    assert_eq!(w.response(at(A), 180).status, 180);
    w.reply(&bob, 486);
    let mut refusal = answered(&mut w, &proxy, 486);
    // The proxy passes it on without its own Via.
    let via = callee.invite.headers.get(&HeaderName::Via).unwrap().to_owned();
    refusal.headers.remove(&HeaderName::Via);
    refusal.headers.push_front(HeaderName::Via, via);
    w.send(at(A), refusal);
    w.refused(&alice, 486);
    w.finish_all();
    assert_eq!(w.ends().len(), 2);
}

#[test]
fn both_calls_of_a_spiral_are_answered_and_end() {
    let mut w = World::new();
    w.register("bob", BOB);
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    let proxy = sent_on(&mut w, &callee.invite, "+3225550002");
    let bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    let mut answer = w.response(at(A), 200);
    let via = callee.invite.headers.get(&HeaderName::Via).unwrap().to_owned();
    answer.headers.remove(&HeaderName::Via);
    answer.headers.push_front(HeaderName::Via, via);
    // It stays in the way.
    answer.headers.push(HeaderName::RecordRoute, format!("<sip:{A};lr>"));
    w.send(at(A), answer);
    w.ack(&mut alice);
    let pass = |w: &mut World, method: Method| {
        let mut request = w.request(at(A), method);
        let via = format!("SIP/2.0/UDP {A};branch=z9hG4bKon{}", w.number());
        request.headers.push_front(HeaderName::Via, via);
        w.send(at(A), Message::Request(request));
    };
    pass(&mut w, Method::Ack);
    assert_eq!(w.exchange.calls().count(), 2);
    w.heard(BOB);
    w.bye(&mut alice);
    pass(&mut w, Method::Bye);
    assert_eq!(w.heard(BOB), ["BYE"]);
    w.ok(&bob, Method::Bye);
    assert_eq!(w.heard(A), ["200 BYE"]);
    let bye = w.last_request(at(A), &Method::Bye);
    w.send(at(A), proxy.response(&bye, 200));
    w.finish_all();
    assert_eq!(w.ends().len(), 2);
}

#[test]
fn a_circle_through_a_phone_that_sends_its_calls_on_is_closed_once() {
    let mut w = World::new();
    w.register("bob", BOB);
    let caller = w.call_in(B, "+3225550002");
    let bob = w.invited(BOB);
    let mut sends_on = bob.response(&bob.invite, 302);
    sends_on.headers.set(HeaderName::Contact, "<sip:0499123456@example.org>");
    w.send(bob.at, sends_on);
    let callee = w.invited(A);
    sent_on(&mut w, &callee.invite, "+3225550002");
    w.inbox(at(A)).retain(|message| matches!(message, Message::Response(answer) if answer.status >= 200));
    assert_eq!(w.heard(A), ["482"]);
    w.heard(BOB);
    assert!(w.heard(BOB).is_empty(), "it rings no second time");
    w.cancel(&caller);
    w.finish_all();
}

#[test]
fn a_circle_of_several_calls_is_closed_once() {
    let mut w = World::new();
    let caller = w.call_in(A, "+31201234567");
    let first = w.invited(B);
    sent_on(&mut w, &first.invite, "+31207654321");
    let second = w.invited(B);
    assert_ne!(first.call_id, second.call_id);
    for number in ["+31207654321", "+31201234567"] {
        sent_on(&mut w, &second.invite, number);
        w.inbox(at(A)).retain(|message| matches!(message, Message::Response(answer) if answer.status >= 200));
        assert_eq!(w.heard(A), ["482"], "{number}");
        assert!(w.heard(B).is_empty());
    }
    w.cancel(&caller);
    w.finish_all();
}
