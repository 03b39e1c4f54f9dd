//! App users' devices: registered, renewed, gone.

use super::world::*;
use crate::call::Input;
use crate::call::event::Event;
use crate::sip::message::{HeaderName, Method, Typed};

#[test]
fn a_device_proves_itself_and_is_rung_where_it_registered() {
    let mut w = World::new();
    let mut side = w.registering("bob", BOB);
    let first = side.request(Method::Register);
    w.send(side.at, &first);
    let challenge = w.any_response(side.at);
    assert_eq!(challenge.status, 401);
    let offered: Vec<_> = challenge.headers.all(&HeaderName::WwwAuthenticate).collect();
    assert!(
        offered.iter().any(|text| text.contains("SHA-256"))
            && offered.iter().any(|text| text.contains("MD5"))
    );
    let answer = w.register_as(&mut side, "bob", 600);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers.get(&HeaderName::Contact),
        Some(format!("<sip:bob@{BOB}>;expires=600").as_str())
    );
    let caller = w.call_in(A, "+3225550002");
    w.invited(BOB);
    w.cancel(&caller);
    w.finish();
    assert!(w.events.iter().any(|event| matches!(event, Event::Registrations { active: 1 })));
}

#[test]
fn a_registration_that_is_too_short_is_told_the_least() {
    let mut w = World::new();
    let mut side = w.registering("bob", BOB);
    let answer = w.register_as(&mut side, "bob", 10);
    assert_eq!((answer.status, answer.min_expires()), (423, Some(60)));
    assert_eq!(w.register_as(&mut side, "bob", 60).status, 200);
}

#[test]
fn a_registration_ends_by_time_or_by_the_devices_wish() {
    let mut w = World::new();
    let mut side = w.registering("bob", BOB);
    w.register_as(&mut side, "bob", 60);
    assert_eq!(w.bindings, [format!("sip:bob@{BOB}")]);
    w.pass(secs(59));
    assert_eq!(w.exchange.registrar().len(), 1);
    w.pass(secs(1));
    assert_eq!(w.exchange.registrar().len(), 0);
    assert!(w.bindings.is_empty());
    w.register_as(&mut side, "bob", 60);
    assert_eq!(w.register_as(&mut side, "bob", 0).status, 200);
    assert!(w.exchange.registrar().is_empty() && w.bindings.is_empty());
    w.finish_all();
}

#[test]
fn a_device_asks_for_all_of_its_users_bindings() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("bob", BOB2);
    let mut side = w.registering("bob", BOB);
    let mut query = side.request(Method::Register);
    query.headers.remove(&HeaderName::Contact);
    w.send(side.at, &query);
    let challenge = w.any_response(side.at);
    let again = side.with_credentials(&query, &challenge);
    w.send(side.at, &again);
    let answer = w.any_response(side.at);
    assert_eq!(answer.headers.all(&HeaderName::Contact).count(), 2);

    let mut all = side.request(Method::Register);
    all.headers.set(HeaderName::Contact, "*");
    all.headers.set(HeaderName::Expires, "0");
    w.send(side.at, &all);
    let challenge = w.any_response(side.at);
    let again = side.with_credentials(&all, &challenge);
    w.send(side.at, &again);
    assert_eq!(w.any_response(side.at).status, 200);
    assert!(w.exchange.registrar().is_empty());
}

#[test]
fn a_user_has_so_many_devices() {
    let mut w = World::with(|config| config.registrar.max_bindings = 2);
    w.register("bob", BOB);
    w.register("bob", BOB2);
    assert_eq!(w.register("bob", BOB3).status, 403);
    // A user of another name can't add one in bob's.
    let mut side = w.registering("carol", CAROL);
    side.other = crate::sip::message::NameAddr::new(super::far::uri("sip:bob@example.org"));
    assert_eq!(w.register_as(&mut side, "carol", 600).status, 403);
}

#[test]
fn a_device_whose_connection_is_gone_is_not_rung_until_it_is_back() {
    let mut w = World::new();
    let connection = w.over_tcp(BOB);
    w.register("bob", BOB);
    w.input(Input::ConnectionClosed { connection });
    let caller = w.call_in(A, "+3225550002");
    w.refused(&caller, 480);
    assert_eq!(w.exchange.registrar().len(), 1, "it keeps its time");
    w.over_tcp(BOB);
    w.register("bob", BOB);
    let caller = w.call_in(A, "+3225550002");
    let bob = w.invited(BOB);
    assert_eq!(bob.invite.contact().unwrap().unwrap().uri.transport(), Some("tcp"));
    w.cancel(&caller);
    w.finish_all();
}

#[test]
fn an_expired_nonce_is_stale_and_a_counter_serves_once() {
    let mut w = World::new();
    let mut side = w.registering("bob", BOB);
    w.register_as(&mut side, "bob", 600);
    let last = w.trace.iter().rev().find(|line| !line.sent).unwrap().message.clone();
    // The same credentials in another transaction.
    let crate::sip::message::Message::Request(mut replay) = last else { panic!("a REGISTER") };
    replay.headers.set(HeaderName::Via, format!("SIP/2.0/UDP {BOB};branch=z9hG4bKreplay;rport"));
    w.send(side.at, &replay);
    let answer = w.any_response(side.at);
    assert_eq!(answer.status, 401);
    assert!(answer.headers.get(&HeaderName::WwwAuthenticate).unwrap().contains("stale=true"));
}

#[test]
fn a_repeated_register_is_answered_from_memory() {
    let mut w = World::new();
    let mut side = w.registering("bob", BOB);
    w.register_as(&mut side, "bob", 600);
    let last = w.trace.iter().rev().find(|line| !line.sent).unwrap().message.clone();
    w.send(side.at, last);
    assert_eq!(w.any_response(side.at).status, 200);
}
