//! Trunks that send a call on (3xx): only where the configuration lets them, and never to another number.

use super::far::Side;
use super::world::*;
use crate::config::Config;
use crate::sip::message::{HeaderName, Method};
use crate::types::{EndCause, HostPort};

fn to_a2(config: &mut Config) {
    config.trunks[0].redirect_to = vec![HostPort { host: "203.0.113.2".into(), port: None }];
}

fn send_on(w: &mut World, callee: &Side, contact: &str) {
    w.reply_saying(callee, 302, "", &[(HeaderName::Contact, contact)]);
}

/// A side's response has a Contact of its own; a redirection has only the new one.
fn redirect(w: &mut World, callee: &Side, contact: &str) {
    let mut response = callee.response(&callee.invite, 302);
    response.headers.set(HeaderName::Contact, contact);
    w.send(callee.at, response);
}

#[test]
fn a_listed_place_gets_the_call_with_the_same_number() {
    let mut w = World::with(to_a2);
    let mut alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    redirect(&mut w, &first, "<sip:+32470123456@203.0.113.2;user=phone>");
    assert_eq!(w.heard(A), ["ACK"]);
    let second = w.invited(A2);
    assert_eq!(second.invite.uri.user(), "+32470123456");
    w.reply_with(&second, 200, ANSWER);
    w.ack(&mut alice);
    w.heard(A2);
    w.hang_up(&mut alice, &second);
    let cdr = w.finish();
    let told: Vec<_> = cdr.legs.iter().map(|leg| (leg.sip_code, leg.end_cause)).collect();
    assert_eq!(told[0], (Some(302), Some(EndCause::Redirected)));
    assert!(cdr.legs[1].chosen);
    // Its other addresses may be tried before the configuration's list of contacts; nothing else was.
    assert!(w.heard(B).is_empty());
}

#[test]
fn another_place_another_number_and_no_place_are_failures() {
    for contact in [
        "<sip:+32499123456@203.0.113.66>",
        "<sip:+32499123456@203.0.113.2:5080>",
        "<sip:+32900123456@203.0.113.2>",
        "<tel:+32499123456>",
    ] {
        let mut w = World::with(to_a2);
        let alice = w.dial("alice", "0499123456");
        let callee = w.invited(A);
        redirect(&mut w, &callee, contact);
        assert_eq!(w.heard(A), ["ACK"], "{contact}");
        assert!(w.heard(A2).is_empty(), "{contact}");
        w.refused(&alice, 502);
        w.finish();
    }
    // A list with one good place among others is enough.
    let mut w = World::with(to_a2);
    let alice = w.dial("alice", "0499123456");
    let callee = w.invited(A);
    send_on(&mut w, &callee, "<sip:x@nowhere.example>, <sip:+32499123456@203.0.113.2>");
    w.invited(A2);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn by_default_a_trunk_sends_a_call_nowhere() {
    let mut w = World::new();
    let alice = w.dial("alice", "0499123456");
    let callee = w.invited(A);
    redirect(&mut w, &callee, "<sip:+32499123456@203.0.113.2>");
    w.refused(&alice, 502);
    w.finish();
}

#[test]
fn a_circle_ends() {
    let mut w = World::with(|config| {
        config.trunks[0].redirect_to = vec![HostPort { host: "203.0.113.1".into(), port: None }];
    });
    let alice = w.dial("alice", "0499123456");
    for _ in 0..4 {
        let callee = w.invited(A);
        redirect(&mut w, &callee, "<sip:+32499123456@203.0.113.1>");
        w.request(callee.at, Method::Ack);
    }
    w.refused(&alice, 502);
    assert_eq!(w.finish().legs.len(), 4);
}
