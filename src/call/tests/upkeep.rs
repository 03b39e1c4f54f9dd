//! Trunks are asked how they are, and we stay registered there.

use super::world::*;
use crate::call::event::Event;
use crate::call::trunks::OwnRegistration;
use crate::config::{Config, TrunkAuth};
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};
use crate::types::Secret;
use std::net::SocketAddr;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn health(w: &World) -> Vec<bool> {
    w.events
        .iter()
        .filter_map(|event| if let Event::TrunkHealth { up, .. } = event { Some(*up) } else { None })
        .collect()
}

fn registered(w: &World) -> Vec<bool> {
    w.events
        .iter()
        .filter_map(|event| match event {
            Event::TrunkRegistered { registered, .. } => Some(*registered),
            _ => None,
        })
        .collect()
}

fn answer(w: &mut World, to: &Request, status: u16) {
    w.send(at(A), Response::to_request(to, status).with_tag("op"));
}

fn asked(config: &mut Config) {
    config.trunks[0].options = Some(secs(30));
}

fn registering(config: &mut Config) {
    let trunk = &mut config.trunks[0];
    trunk.auth = TrunkAuth::Register;
    trunk.username = "gw".into();
    trunk.password = Secret::new("gw-secret");
    trunk.register = secs(600);
    trunk.domain = Some("operator.example".into());
}

#[test]
fn an_answered_options_brings_a_trunk_up_and_silence_brings_it_down() {
    let mut w = World::with(asked);
    w.pass(ms(10));
    let options = w.request(at(A), Method::Options);
    assert_eq!(options.uri.host.host, "203.0.113.1");
    w.pass(ms(30));
    answer(&mut w, &options, 200);
    assert_eq!(health(&w), [true]);
    let round_trips: Vec<_> = w
        .events
        .iter()
        .filter_map(|event| match event {
            Event::TrunkOptions { round_trip, .. } => Some(*round_trip),
            _ => None,
        })
        .collect();
    assert_eq!(round_trips, [ms(40)]);

    w.pass(secs(60));
    assert_eq!(health(&w), [true, false]);
    // Calls go another way now, without a try.
    let start = w.now.instant;
    let alice = w.dial("alice", "0470123456");
    assert!(w.sent_times(A, "INVITE", start).is_empty());
    w.invited(B);
    w.cancel(&alice);

    // Two answers in a row bring it back.
    w.heard(A);
    for wait in [secs(6), ms(1_001)] {
        w.pass(wait);
        let options = w.last_request(at(A), &Method::Options);
        answer(&mut w, &options, 200);
    }
    assert_eq!(health(&w), [true, false, true]);
}

#[test]
fn any_answer_but_a_server_error_proves_life() {
    for (status, up) in [(404, true), (405, true), (483, true), (503, false), (500, false)] {
        let mut w = World::with(asked);
        for _ in 0..4 {
            w.pass(secs(2));
            while let Some(crate::sip::message::Message::Request(options)) = w.next(at(A)) {
                answer(&mut w, &options, status);
            }
        }
        assert_eq!(health(&w).first(), Some(&up), "{status}");
    }
}

#[test]
fn an_account_is_registered_renewed_and_challenged() {
    let mut w = World::with(registering);
    w.pass(ms(1));
    let first = w.request(at(A), Method::Register);
    assert_eq!(first.uri.to_string(), "sip:operator.example");
    assert_eq!(first.to().unwrap().uri.to_string(), "sip:gw@operator.example");
    assert_eq!(first.expires(), Some(600));
    let challenge = Response::to_request(&first, 401).with_tag("op").with_header(
        HeaderName::WwwAuthenticate,
        "Digest realm=\"operator.example\",nonce=\"abc\",qop=\"auth\",algorithm=MD5",
    );
    w.send(at(A), challenge);
    let second = w.request(at(A), Method::Register);
    assert!(second.headers.contains(&HeaderName::Authorization));
    assert_eq!(second.call_id(), first.call_id());
    assert_eq!(second.cseq().unwrap().number, first.cseq().unwrap().number + 1);
    let contact = second.headers.get(&HeaderName::Contact).unwrap().to_owned();
    let ok = Response::to_request(&second, 200)
        .with_tag("op")
        .with_header(HeaderName::Contact, format!("{contact};expires=100"));
    w.send(at(A), ok);
    assert_eq!(registered(&w), [true]);
    w.pass(secs(79));
    assert!(w.heard(A).is_empty());
    w.pass(secs(1));
    let renewal = w.request(at(A), Method::Register);
    assert_eq!(renewal.call_id(), first.call_id());
    // The nonce is known: no second round trip.
    assert!(renewal.headers.contains(&HeaderName::Authorization));
    answer(&mut w, &renewal, 200);
    assert_eq!(registered(&w), [true, true]);
}

#[test]
fn a_failed_registration_is_tried_again_with_growing_pauses() {
    let mut w = World::with(registering);
    let start = w.now.instant;
    w.pass(ms(1));
    let first = w.request(at(A), Method::Register);
    answer(&mut w, &first, 403);
    let mut tried = 1;
    while tried < 6 {
        w.pass(secs(1));
        while let Some(crate::sip::message::Message::Request(register)) = w.next(at(A)) {
            answer(&mut w, &register, 403);
            tried += 1;
        }
    }
    let times = w.sent_times(A, "REGISTER", start);
    let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).collect();
    assert_eq!(pauses, [2, 4, 8, 16, 32]);
    assert!(registered(&w).iter().all(|registered| !registered));
    let side = w.exchange.trunks().side(0).unwrap();
    assert!(matches!(&side.registration, OwnRegistration::Failed { why } if why.contains("403")));
}

#[test]
fn a_registrar_that_says_when_to_come_back_is_obeyed_within_reason() {
    for (said, wait) in [("40", 40), ("0", 2), ("4294967295", 3_600)] {
        let mut w = World::with(registering);
        w.pass(ms(1));
        let first = w.request(at(A), Method::Register);
        let busy = Response::to_request(&first, 503).with_tag("op").with_header(HeaderName::RetryAfter, said);
        w.send(at(A), busy);
        w.pass(secs(wait) - ms(1));
        assert!(w.heard(A).is_empty(), "{said}");
        w.pass(ms(1));
        assert_eq!(w.heard(A), ["REGISTER"], "{said}");
    }
}

#[test]
fn while_a_registrar_wants_to_be_left_alone_another_one_of_the_trunk_keeps_us() {
    let mut w = World::with(|config| {
        registering(config);
        config.trunks[0].proxy = [A, A2].map(|place| at(place).into()).to_vec();
    });
    let busy = |w: &mut World, place: &str, seconds: &str| {
        let register = w.request(at(place), Method::Register);
        let busy = Response::to_request(&register, 503).with_tag("op");
        w.send(at(place), busy.with_header(HeaderName::RetryAfter, seconds));
    };
    w.pass(ms(1));
    busy(&mut w, A, "1800");
    let second = w.request(at(A2), Method::Register);
    w.send(at(A2), Response::to_request(&second, 200).with_tag("op"));
    assert_eq!(registered(&w), [false, true], "without a pause");
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A2);
    w.reply(&callee, 486);
    w.refused(&alice, 486);
    assert!(w.heard(A).is_empty(), "nor are calls sent there");
    assert_eq!(w.heard(A2), ["ACK"]);
    // It is renewed there, until that one is busy too.
    w.pass(secs(480));
    busy(&mut w, A2, "60");
    assert!(w.heard(A).is_empty());
    w.pass(secs(59));
    assert!(w.heard(A2).is_empty() && w.heard(A).is_empty());
    w.pass(secs(1));
    assert_eq!((w.heard(A2), w.heard(A)), (vec!["REGISTER".to_owned()], vec![]));
}

#[test]
fn a_registrar_whose_registrations_alone_fail_still_gets_calls_and_the_others_are_asked_once_each() {
    let mut w = World::with(|config| {
        registering(config);
        config.trunks[0].proxy = [A, A2].map(|place| at(place).into()).to_vec();
    });
    let broken = |w: &mut World, place: &str| {
        let register = w.request(at(place), Method::Register);
        let broken = Response::to_request(&register, 500).with_tag("op");
        w.send(at(place), broken.with_header(HeaderName::RetryAfter, "1800"));
    };
    w.pass(ms(1));
    broken(&mut w, A);
    broken(&mut w, A2);
    assert!(w.heard(A).is_empty() && w.heard(A2).is_empty(), "no circle");
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 486);
    w.refused(&alice, 486);
    assert_eq!(w.heard(A), ["ACK"]);
    w.pass(secs(1799));
    assert!(w.heard(A).is_empty() && w.heard(A2).is_empty());
    w.pass(secs(1));
    broken(&mut w, A);
    assert_eq!(w.heard(A2), ["REGISTER"]);
}

#[test]
fn a_registrar_that_wants_a_longer_time_gets_it() {
    let mut w = World::with(registering);
    w.pass(ms(1));
    let first = w.request(at(A), Method::Register);
    let brief = Response::to_request(&first, 423).with_tag("op").with_header(HeaderName::MinExpires, "1800");
    w.send(at(A), brief);
    let second = w.request(at(A), Method::Register);
    assert_eq!(second.expires(), Some(1_800));
    answer(&mut w, &second, 200);
    assert_eq!(registered(&w), [true]);
}

#[test]
fn wrong_credentials_end_the_round_and_not_the_tries() {
    let mut w = World::with(registering);
    w.pass(ms(1));
    let challenge = |to: &Request| {
        Response::to_request(to, 401).with_tag("op").with_header(
            HeaderName::WwwAuthenticate,
            "Digest realm=\"operator.example\",nonce=\"abc\",qop=\"auth\"",
        )
    };
    for _ in 0..2 {
        let register = w.request(at(A), Method::Register);
        w.send(at(A), challenge(&register));
    }
    assert!(w.heard(A).is_empty());
    assert_eq!(registered(&w), [false]);
    w.pass(secs(2));
    assert_eq!(w.heard(A), ["REGISTER"]);
}

#[test]
fn silence_of_a_registrar_is_a_failure_too() {
    let mut w = World::with(registering);
    w.pass(secs(33));
    assert_eq!(registered(&w), [false]);
}
