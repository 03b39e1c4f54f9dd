//! Trunks that send a call on (3xx): only where the configuration lets them, and never to another number.

use super::far::Side;
use super::world::*;
use crate::config::Config;
use crate::routing::NumberFormat;
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

#[test]
fn the_same_number_is_the_same_however_it_is_written() {
    for contact in [
        "<sip:32470123456@203.0.113.2>",
        "<sip:0032470123456@203.0.113.2;user=phone>",
        "<sip:+32-470-12.34.56@203.0.113.2>",
        "<sip:0470123456@203.0.113.2>",
        "<sip:203.0.113.2>",
    ] {
        let mut w = World::with(|config| {
            to_a2(config);
            config.trunks[0].called_format = NumberFormat::National;
        });
        let alice = w.dial("alice", "0470123456");
        let first = w.invited(A);
        assert_eq!(first.invite.uri.user(), "0470123456");
        redirect(&mut w, &first, contact);
        let second = w.invited(A2);
        assert_eq!(second.invite.uri.user(), "0470123456", "in the trunk's own form");
        w.cancel(&alice);
        w.finish();
    }
}

#[test]
fn where_the_number_was_ported_to_goes_along_to_the_next_place_and_is_no_other_number() {
    let mut w = World::with(to_a2);
    let alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    assert_eq!(first.invite.uri.user(), "+32470123456");
    redirect(&mut w, &first, "<sip:+32470123456;rn=+3299000001;npdi@203.0.113.2;user=phone>");
    let second = w.invited(A2);
    assert_eq!(second.invite.uri.subscriber(), "+32470123456");
    assert!(
        second.invite.uri.user().contains(";npdi") && second.invite.uri.user().contains(";rn=+3299000001")
    );
    w.reply(&second, 486);
    w.refused(&alice, 486);
    let cdr = w.finish();
    assert_eq!(cdr.called.number.as_ref().unwrap().as_str(), "+32470123456", "what was dialled is paid for");
    // Whoever is only told to route by another number is not.
    let mut w = World::with(to_a2);
    let alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    redirect(&mut w, &first, "<sip:+3299000001;npdi@203.0.113.2>");
    w.refused(&alice, 502);
    w.finish();
}

#[test]
fn a_trunk_that_wants_to_know_hears_how_the_call_came_to_its_next_place() {
    for (wanted, trusted) in [(false, true), (true, false), (true, true)] {
        let mut w = World::with(|config| {
            to_a2(config);
            (config.trunks[0].diversion, config.trunks[0].trusted) = (wanted, trusted);
        });
        let alice = w.dial("alice", "0470123456");
        let first = w.invited(A);
        assert_eq!(first.invite.headers.get(&HeaderName::HistoryInfo), None);
        let mut response = first.response(&first.invite, 302);
        response.headers.set(HeaderName::Contact, "<sip:+32470123456@203.0.113.2>");
        response.headers.push(HeaderName::Diversion, "<sip:+32470999999@203.0.113.1>;reason=time-of-day");
        w.send(first.at, response);
        let second = w.invited(A2);
        let told: Vec<&str> = second.invite.headers.list(&HeaderName::HistoryInfo).collect();
        let diverted: Vec<&str> = second.invite.headers.list(&HeaderName::Diversion).collect();
        let history = [
            "<sip:+32470123456@192.0.2.1?Reason=SIP%3Bcause%3D302>;index=1",
            "<sip:+32470123456@192.0.2.1>;index=1.1;rc=1",
        ];
        let diversion = ["<sip:+32470999999@192.0.2.1>;reason=time-of-day"];
        if wanted {
            // RFC 5806 §6: that it went on we have seen ourselves; who made it go is the word of a stranger.
            let diversion = if trusted { diversion.to_vec() } else { Vec::new() };
            assert_eq!((told, diverted), (history.to_vec(), diversion));
        } else {
            assert!(told.is_empty() && diverted.is_empty());
        }
        w.cancel(&alice);
        w.finish();
    }
}

#[test]
fn what_one_trunk_made_of_a_call_when_it_sent_it_on_the_next_trunk_never_hears() {
    let mut w = World::with(|config| {
        to_a2(config);
        for trunk in &mut config.trunks {
            (trunk.diversion, trunk.trusted, trunk.portability) = (true, true, true);
        }
    });
    let alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    let mut response = first.response(&first.invite, 302);
    response.headers.set(HeaderName::Contact, "<sip:+32470123456;rn=+3299000001;npdi@203.0.113.2>");
    response.headers.push(HeaderName::Diversion, "<sip:+32470999999@203.0.113.1>;reason=time-of-day");
    w.send(first.at, response);
    let second = w.invited(A2);
    assert!(
        second.invite.uri.user().contains("rn=") && second.invite.headers.contains(&HeaderName::Diversion)
    );
    w.reply(&second, 503);
    // The trunk's own address may come first.
    while w.inbox(B.parse().unwrap()).is_empty() {
        let again = w.invited(A);
        w.reply(&again, 503);
    }
    let other = w.invited(B);
    assert_eq!(other.invite.uri.user(), "+32470123456");
    for name in [HeaderName::Diversion, HeaderName::HistoryInfo] {
        assert_eq!(other.invite.headers.get(&name), None, "{name}");
    }
    w.cancel(&alice);
}

#[test]
fn who_hid_on_the_way_is_not_named_by_the_number_that_was_dialled() {
    let mut w = World::with(|config| {
        to_a2(config);
        let trunk = &mut config.trunks[0];
        (trunk.diversion, trunk.trusted, trunk.tell_withheld) = (true, true, Some(false));
    });
    let alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    let mut response = first.response(&first.invite, 302);
    response.headers.set(HeaderName::Contact, "<sip:+32470123456@203.0.113.2>");
    response.headers.push(HeaderName::Diversion, "<sip:+32470123456@203.0.113.1>;privacy=full");
    w.send(first.at, response);
    let second = w.invited(A2);
    for name in [HeaderName::Diversion, HeaderName::HistoryInfo] {
        let told: Vec<&str> = second.invite.headers.list(&name).collect();
        assert!(!told.is_empty() && told.iter().all(|told| !told.contains("470123456")), "{told:?}");
    }
    w.cancel(&alice);
}
