//! What a registration brings with it: the way of our calls, and how the operator names whom it calls.

use super::far::uri;
use super::world::*;
use crate::call::Settings;
use crate::config::{CalledFrom, Config, TrunkAuth};
use crate::sip::message::{HeaderName, Method, NameAddr, Request, Response, Typed};
use crate::types::{HostPort, Secret};
use std::net::SocketAddr;
use std::sync::Arc;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn registering(config: &mut Config) {
    let trunk = &mut config.trunks[0];
    trunk.auth = TrunkAuth::Register;
    trunk.username = "gw".into();
    trunk.password = Secret::new("gw-secret");
    trunk.register = secs(600);
    trunk.domain = Some("operator.example".into());
}

/// Registers at an address of the first trunk; the registrar gives this way.
fn registered_at(w: &mut World, place: &str, service_route: &[&str]) -> Request {
    let register = w.request(at(place), Method::Register);
    let mut ok = Response::to_request(&register, 200).with_tag("op").with_header(HeaderName::Expires, "600");
    for route in service_route {
        ok.headers.push(HeaderName::ServiceRoute, *route);
    }
    w.send(at(place), ok);
    register
}

fn routes(request: &Request) -> Vec<&str> {
    request.headers.all(&HeaderName::Route).collect()
}

const EDGE: &str = "<sip:203.0.113.1;lr>";
const CORE: &str = "<sip:orig@core.operator.example;lr>";

#[test]
fn calls_take_the_way_the_registrar_gave_for_as_long_as_the_registration_lasts() {
    let mut w = World::with(registering);
    w.pass(ms(1));
    registered_at(&mut w, A, &[EDGE, CORE]);
    let mut alice = w.dial("alice", "0470123456");
    let a = w.invited(A);
    assert_eq!(routes(&a.invite), [EDGE, CORE]);
    // What belongs to the INVITE goes its way; what is inside the dialog goes the dialog's (RFC 3261 §12.2.1.1).
    w.reply_with(&a, 200, ANSWER);
    let ack = w.request(a.at, Method::Ack);
    assert_eq!(routes(&ack), [] as [&str; 0]);
    w.ack(&mut alice);
    w.hang_up(&mut alice, &a);
    w.heard(A);
    let alice = w.dial("alice", "0470123456");
    let a = w.invited(A);
    w.reply(&a, 180);
    w.cancel(&alice);
    assert_eq!(routes(&w.request(a.at, Method::Cancel)), [EDGE, CORE], "RFC 3261 §9.1");
    w.reply(&a, 487);
    w.heard(A);
}

#[test]
fn a_way_ends_with_the_registration_it_came_with() {
    let mut w = World::with(registering);
    w.pass(ms(1));
    registered_at(&mut w, A, &[CORE]);
    w.pass(secs(480));
    let renewal = w.request(at(A), Method::Register);
    w.send(at(A), Response::to_request(&renewal, 403).with_tag("op"));
    let alice = w.dial("alice", "0470123456");
    let a = w.invited(A);
    assert_eq!(routes(&a.invite), [] as [&str; 0]);
    w.cancel(&alice);
}

#[test]
fn a_way_that_would_lead_astray_is_not_taken() {
    let long: Vec<String> = (0..9).map(|n| format!("<sip:p{n}.example;lr>")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    for service_route in [&["<sip:203.0.113.66>"] as &[&str], &["<tel:+3225550001>"], &["nonsense <"], &long]
    {
        let mut w = World::with(registering);
        w.pass(ms(1));
        registered_at(&mut w, A, service_route);
        let alice = w.dial("alice", "0470123456");
        let a = w.invited(A);
        assert_eq!(routes(&a.invite), [] as [&str; 0], "{service_route:?}");
        w.cancel(&alice);
    }
}

#[test]
fn a_call_goes_to_where_we_are_registered_whatever_the_way_names_and_elsewhere_without_it() {
    let mut w = World::with(|config| {
        registering(config);
        config.trunks[0].proxy = vec![
            HostPort { host: "203.0.113.1".into(), port: None },
            HostPort { host: "203.0.113.2".into(), port: None },
        ];
    });
    // The first address is silent: the registration is kept at the second.
    while w.inbox(at(A2)).is_empty() {
        w.pass(ms(100));
    }
    w.heard(A);
    registered_at(&mut w, A2, &["<sip:198.51.100.66;lr>"]);
    let alice = w.dial("alice", "0470123456");
    let second = w.invited(A2);
    assert_eq!(routes(&second.invite), ["<sip:198.51.100.66;lr>"]);
    assert!(w.inbox(at(STRANGER)).is_empty() && w.heard(A).is_empty());
    w.reply(&second, 503);
    let first = w.invited(A);
    assert_eq!(routes(&first.invite), [] as [&str; 0], "it did not give that way");
    w.cancel(&alice);
}

fn two_places(config: &mut Config) {
    registering(config);
    let place = |host: &str| HostPort { host: host.into(), port: None };
    config.trunks[0].proxy = vec![place("203.0.113.1"), place("203.0.113.2")];
}

#[test]
fn a_call_for_help_goes_to_where_we_are_registered() {
    let mut w = World::with(two_places);
    while w.inbox(at(A2)).is_empty() {
        w.pass(ms(100));
    }
    w.heard(A);
    registered_at(&mut w, A2, &[CORE]);
    let alice = w.dial("alice", "112");
    let second = w.invited(A2);
    assert_eq!(routes(&second.invite), [CORE]);
    assert!(w.heard(A).is_empty());
    w.cancel(&alice);
}

#[test]
fn we_are_registered_where_that_was_accepted_not_where_it_was_asked_for() {
    let mut w = World::with(two_places);
    w.pass(ms(1));
    registered_at(&mut w, A, &[CORE]);
    w.pass(ms(479_500));
    let alice = w.dial("alice", "0470123456");
    let a = w.invited(A);
    w.reply(&a, 503);
    let second = w.invited(A2);
    w.reply(&second, 486);
    w.refused(&alice, 486);
    w.heard(A2);
    // While the first place rests the renewal is asked for at the second one, which says nothing yet.
    w.pass(secs(1));
    w.request(at(A2), Method::Register);
    w.pass(secs(30));
    w.heard(A);
    let alice = w.dial("alice", "0470123456");
    let a = w.invited(A);
    assert_eq!(routes(&a.invite), [CORE]);
    w.cancel(&alice);
}

#[test]
fn a_reload_that_leaves_the_account_alone_leaves_its_way_alone() {
    type Change = fn(&mut Config);
    let changes: [(Change, bool); 2] = [
        (|config| config.trunks[0].max_channels = Some(7), true),
        (|config| config.trunks[0].domain = Some("other.example".into()), false),
    ];
    for (change, stays) in changes {
        let mut w = World::with(two_places);
        w.pass(ms(1));
        registered_at(&mut w, A, &[CORE]);
        let mut config = w.exchange.settings().config.clone();
        change(&mut config);
        let (directory, dialplan) = (directory(&config), dialplan(&config));
        w.exchange.reload(w.now, Arc::new(Settings::new(config)), directory, dialplan);
        w.resolve();
        w.pass(ms(1));
        w.heard(A);
        let alice = w.dial("alice", "0470123456");
        let a = w.invited(A);
        assert_eq!(!routes(&a.invite).is_empty(), stays);
        w.cancel(&alice);
    }
}

#[test]
fn all_numbers_are_registered_at_once_where_the_operator_wants_that() {
    let mut w = World::with(|config| {
        registering(config);
        config.trunks[0].register_bulk = true;
    });
    w.pass(ms(1));
    let register = registered_at(&mut w, A, &[EDGE]);
    assert_eq!(register.headers.get(&HeaderName::Contact), Some("<sip:192.0.2.1:5060;bnc>"));
    for name in [HeaderName::Require, HeaderName::ProxyRequire] {
        assert_eq!(register.headers.get(&name), Some("gin"), "{name}");
    }
    assert!(register.supports("path"), "RFC 6140 §5.1");
    // RFC 6140 §5.3: the number stands before the address.
    w.register("bob", BOB);
    let caller = w.call_in(A, "+3225550002");
    w.invited(BOB);
    w.cancel(&caller);
    w.finish();

    let mut w = World::with(registering);
    w.pass(ms(1));
    let register = registered_at(&mut w, A, &[]);
    assert_eq!(register.headers.get(&HeaderName::Contact), Some("<sip:gw@192.0.2.1:5060>"));
    assert!(!register.headers.contains(&HeaderName::Require));
}

#[test]
fn whom_an_operator_calls_may_stand_beside_our_contact() {
    let to = |request: &mut Request, number: &str| {
        let to = NameAddr::new(uri(number)).to_string();
        request.headers.set(HeaderName::To, to);
    };
    let cases: [(CalledFrom, &str, Option<&str>, bool); 8] = [
        (CalledFrom::To, "sip:+3225550002@operator.example", None, true),
        (CalledFrom::To, "tel:+32-2-555-0002", None, true),
        (
            CalledFrom::CalledParty,
            "sip:gw@operator.example",
            Some("<sip:+3225550002@operator.example>"),
            true,
        ),
        (CalledFrom::CalledParty, "sip:gw@operator.example", Some("<tel:+3225550002>"), true),
        // Whom several mean, or what is no number's address, nobody can tell.
        (
            CalledFrom::CalledParty,
            "sip:gw@operator.example",
            Some("<sip:+3225550002@operator.example>, <tel:+3225550001>"),
            false,
        ),
        (CalledFrom::CalledParty, "sip:gw@operator.example", Some("<mailto:+3225550002@x>"), false),
        // What is not there, or not asked for, leaves the account, which is nobody's number.
        (CalledFrom::CalledParty, "sip:+3225550002@operator.example", None, false),
        (CalledFrom::Uri, "sip:+3225550002@operator.example", Some("<tel:+3225550002>"), false),
    ];
    for (from, named, party, reaches) in cases {
        let mut w = World::with(|config| config.trunks[0].called_from = from);
        w.register("bob", BOB);
        let caller = w.call_in_with(A, "gw", OFFER, |request| {
            to(request, named);
            if let Some(party) = party {
                request.headers.push(HeaderName::PCalledPartyId, party);
            }
        });
        if reaches {
            w.invited(BOB);
            w.cancel(&caller);
            let cdr = w.finish();
            assert_eq!(cdr.called.dialled, "+3225550002", "{named} {party:?}");
        } else {
            w.refused(&caller, 484);
            w.finish();
        }
    }
}
