//! What calls show of a trunk: when it is believed dead, and when alive.

use super::world::*;
use crate::call::event::Event;
use crate::config::{Config, TrunkAuth};
use crate::sip::message::{HeaderName, Message, Method, Response};
use crate::types::Secret;

/// What a trunk that nobody asks by OPTIONS has become, as the outside was told.
fn health(w: &World) -> Vec<bool> {
    w.events
        .iter()
        .filter_map(|event| if let Event::TrunkHealth { up, .. } = event { Some(*up) } else { None })
        .collect()
}

/// A call that the first trunk answers so, after it has rung where that is wanted; false where it was not asked. A
/// status of 0: its caller gives up.
fn call(w: &mut World, rings: bool, status: u16) -> bool {
    let alice = w.dial("alice", "0470123456");
    let asked = !w.inbox(A.parse().unwrap()).is_empty();
    let side = asked.then(|| w.invited(A));
    if let Some(side) = &side {
        if rings {
            w.reply(side, 180);
        }
        if status != 0 {
            w.reply(side, status);
        }
    }
    w.cancel(&alice);
    if let Some(side) = side.filter(|_| status == 0) {
        w.ok(&side, Method::Cancel);
        w.reply(&side, 487);
    }
    for far in [A, B, ALICE] {
        w.heard(far);
    }
    asked
}

#[test]
fn a_trunk_whose_calls_ring_or_are_decided_is_not_brought_down_by_failures_between_them() {
    for (rings, status) in [(true, 0), (true, 486), (false, 486), (false, 404), (false, 480), (false, 302)] {
        let mut w = World::new();
        for _ in 0..3 {
            assert!(call(&mut w, false, 503) && call(&mut w, false, 503), "{status}");
            assert!(call(&mut w, rings, status), "{status}");
        }
        assert_eq!(health(&w), [true], "{status}");
        w.finish_all();
    }
}

#[test]
fn two_trial_calls_that_somebody_declines_bring_a_trunk_up_again() {
    let mut w = World::new();
    for _ in 0..3 {
        assert!(call(&mut w, false, 503));
    }
    assert_eq!(health(&w), [false]);
    assert!(!call(&mut w, false, 486));
    w.pass(secs(1));
    // Ringing and its end are one call.
    assert!(call(&mut w, true, 486));
    assert_eq!(health(&w), [false]);
    assert!(call(&mut w, true, 603));
    assert_eq!(health(&w), [false, true]);
    w.finish_all();
}

#[test]
fn what_a_trunk_can_not_reach_does_not_make_it_dead() {
    for status in [404, 500, 502, 504, 603] {
        let mut w = World::with(|config| {
            for failure in ["404", "603"] {
                config.trunks[0].failover.set(failure.parse().unwrap(), "next".parse().unwrap());
            }
        });
        for _ in 0..10 {
            assert!(call(&mut w, false, status), "{status}");
        }
        assert!(!health(&w).contains(&false), "{status}");
        w.finish_all();
    }
}

#[test]
fn a_trunk_that_refuses_our_password_is_asked_again() {
    let mut w = World::with(|config: &mut Config| {
        config.trunks[0].auth = TrunkAuth::Digest;
        config.trunks[0].username = "gw".into();
        config.trunks[0].password = Secret::new("gw-secret");
    });
    for _ in 0..5 {
        let alice = w.dial("alice", "0470123456");
        for _ in 0..2 {
            let side = w.invited(A);
            let value = "Digest realm=\"a\",nonce=\"n\"";
            let answer = side.response(&side.invite, 401).with_header(HeaderName::WwwAuthenticate, value);
            w.send(side.at, answer);
            w.request(side.at, Method::Ack);
        }
        w.invited(B);
        w.cancel(&alice);
    }
    assert!(health(&w).is_empty());
    w.finish_all();
}

#[test]
fn a_trunk_that_calls_do_not_reach_is_brought_down_even_where_its_table_ends_them() {
    for table in ["next", "final"] {
        let mut w = World::with(|config| {
            config.trunks[0].failover.set("transport".parse().unwrap(), table.parse().unwrap());
        });
        w.unreachable.push(A.parse().unwrap());
        for _ in 0..3 {
            let alice = w.dial("alice", "0470123456");
            w.cancel(&alice);
        }
        assert_eq!(health(&w), [false], "{table}");
        w.finish_all();
    }
}

#[test]
fn a_503_that_the_table_takes_for_a_decision_is_none_of_the_trunks() {
    let mut w = World::with(|config| {
        config.trunks[0].failover.set("503".parse().unwrap(), "final".parse().unwrap());
    });
    for _ in 0..5 {
        assert!(call(&mut w, false, 503));
    }
    assert!(health(&w).is_empty());
    w.finish_all();
}

#[test]
fn a_sign_of_life_after_the_call_was_given_to_another_trunk_comes_too_late() {
    let mut w = World::new();
    for _ in 0..3 {
        let alice = w.dial("alice", "0470123456");
        let slow = w.invited(A);
        w.pass(ms(3_500));
        w.reply(&slow, 180);
        w.ok(&slow, Method::Cancel);
        w.reply(&slow, 487);
        w.cancel(&alice);
        w.heard(A);
    }
    assert_eq!(health(&w), [false]);
    w.finish_all();
}

#[test]
fn of_a_trunk_that_is_asked_the_answer_counts_and_not_what_becomes_of_calls_to_one_number() {
    let mut w = World::with(|config| config.trunks[0].options = Some(secs(30)));
    let at = A.parse().unwrap();
    w.pass(ms(10));
    let options = w.request(at, Method::Options);
    w.send(at, Response::to_request(&options, 200).with_tag("op"));
    w.pass(secs(2));
    for _ in 0..5 {
        let alice = w.dial("alice", "0470123456");
        let side = w.invited(A);
        w.reply(&side, 503);
        w.cancel(&alice);
        w.request(at, Method::Ack);
        // It is asked at once, whatever its turn is.
        while let Some(Message::Request(request)) = w.next(at) {
            assert_eq!(request.method, Method::Options);
            w.send(at, Response::to_request(&request, 200).with_tag("op"));
        }
        w.heard(B);
    }
    assert_eq!(health(&w), [true]);
    let asked = w.sent_times(A, "OPTIONS", w.start).len();
    assert_eq!(asked, 2, "a failure is a reason to ask, five within a second are one");
}
