//! Trunks that bring more calls than anybody wants to know of: fifty refused ones of a second are recorded.

use super::transfer::{refer, report};
use super::trunk_transfer::may;
use super::world::*;
use crate::call::event::{Event, RefusedFor};
use crate::config::{CalledFrom, parse_dialplan};
use crate::routing::AdminState;
use crate::sip::message::{HeaderName, Request};
use std::path::Path;
use std::sync::Arc;

/// What a trunk is refused for that no limit holds.
type Hopeless = (u16, &'static str, fn(&mut World), fn(&mut Request));

/// A number that goes on to trunk `b`.
const TRANSIT: &str = "+31201234567";

const NOTHING: fn(&mut World) = |_| {};
const AS_IT_IS: fn(&mut Request) = |_| {};

fn blocked(w: &mut World) {
    assert!(w.exchange.set_trunk(w.now, "a", AdminState::Blocked));
}

fn onward_blocked(w: &mut World) {
    assert!(w.exchange.set_trunk(w.now, "b", AdminState::Blocked));
}

fn shed(w: &World) -> usize {
    let shed = |event: &&Event| matches!(event, Event::Refused { why: RefusedFor::Overload, .. });
    w.events.iter().filter(shed).count()
}

/// The trunk sends so many calls; each is refused with this status.
fn flood(w: &mut World, times: usize, (status, number, _, shape): Hopeless) {
    for _ in 0..times {
        let caller = w.call_in_with(A, number, OFFER, shape);
        let answer = w.refused(&caller, status);
        // That it may come back in a second is all that a trunk hears which a limit would refuse anyway.
        let told = answer.headers.contains(&HeaderName::Reason) || status == 503;
        assert!(told, "recorded or not: {answer:?}");
        assert_eq!(answer.headers.contains(&HeaderName::Warning), status == 488);
        assert_eq!(answer.headers.contains(&HeaderName::RetryAfter), status == 503);
    }
}

#[test]
fn whatever_a_trunks_calls_are_refused_for_fifty_of_a_second_are_recorded() {
    let kinds: [Hopeless; 6] = [
        (604, "+3225559999", NOTHING, AS_IT_IS),
        (480, "+3225550003", NOTHING, AS_IT_IS),
        (488, "+3225550002", NOTHING, |invite| {
            let g729 = String::from_utf8_lossy(&invite.body).replace("111 8 101", "18");
            invite.body = g729.into_bytes().into();
        }),
        (503, "+3225550002", |w| w.exchange.set_draining(true), AS_IT_IS),
        (503, "+3225550002", blocked, AS_IT_IS),
        (503, TRANSIT, onward_blocked, AS_IT_IS),
    ];
    for kind in kinds {
        let mut w = World::new();
        w.register("bob", BOB);
        kind.2(&mut w);
        flood(&mut w, 200, kind);
        assert_eq!((w.ends().len(), shed(&w)), (50, 150), "{}", kind.0);
        w.pass(secs(1));
        flood(&mut w, 1, kind);
        assert_eq!(w.ends().len(), 51, "the next second has records again");
        w.finish_all();
    }
}

#[test]
fn what_would_be_taken_is_taken_of_a_trunk_whose_other_calls_lead_nowhere() {
    let mut w = World::new();
    w.register("bob", BOB);
    flood(&mut w, 200, (604, "+3225559999", NOTHING, AS_IT_IS));
    let caller = w.call_in(A, "+3225550002");
    w.invited(BOB);
    w.cancel(&caller);
    w.pass(ms(10));
    // What another trunk brings has its record.
    let other = w.call_in(B, "+3225559999");
    w.refused(&other, 604);
    w.finish_all();
    assert_eq!(w.ends().len(), 52);
}

#[test]
fn a_call_to_another_trunk_is_refused_without_a_record_only_while_that_one_takes_none() {
    for why in ["order", "channels", "calls a second"] {
        let mut w = World::with(|config| match why {
            "channels" => config.trunks[1].max_channels = Some(1),
            "calls a second" => config.trunks[1].max_cps = Some(1),
            _ => {}
        });
        let mut caller = w.call_in(A, TRANSIT);
        let mut callee = w.invited(B);
        w.reply_with(&callee, 200, ANSWER);
        w.ack(&mut caller);
        w.heard(B);
        if why == "order" {
            onward_blocked(&mut w);
        }
        flood(&mut w, 200, (503, TRANSIT, NOTHING, AS_IT_IS));
        assert_eq!((w.ends().len(), shed(&w)), (50, 150), "{why}");
        let channels = w.exchange.trunks().iter().next().unwrap().1.channels_in_use;
        assert_eq!(channels, 1, "that of the call that goes on: {why}");
        match why {
            "order" => assert!(w.exchange.set_trunk(w.now, "b", AdminState::Open)),
            "channels" => w.hang_up(&mut callee, &caller),
            _ => w.pass(secs(1)),
        }
        w.heard(A);
        let next = w.call_in(A, TRANSIT);
        w.invited(B);
        w.cancel(&next);
        w.heard(A);
        if why != "channels" {
            w.hang_up(&mut caller, &callee);
        }
        w.finish_all();
    }
}

#[test]
fn a_trunk_that_moves_its_call_to_nobody_again_and_again_has_fifty_of_a_second_recorded() {
    let mut w = World::with(may);
    let (mut alice, mut callee) = w.talking();
    let mut told = Vec::new();
    for _ in 0..60 {
        let status = refer(&mut w, &mut callee, "<sip:+3225559999@192.0.2.1>");
        told.push(status);
        if status == 202 {
            report(&mut w, &callee);
            assert!(report(&mut w, &callee).1);
        }
    }
    assert_eq!(told.iter().filter(|status| **status == 202).count(), 50);
    assert!(told[50..].iter().all(|status| *status == 503), "{told:?}");
    assert_eq!(w.ends().len(), 50);
    w.hang_up(&mut alice, &callee);
    w.finish_all();
}

#[test]
fn a_call_for_help_passes_the_flood_of_its_own_trunk_wherever_that_names_the_called_number() {
    let places = [
        (CalledFrom::Uri, HeaderName::To),
        (CalledFrom::To, HeaderName::To),
        (CalledFrom::CalledParty, HeaderName::PCalledPartyId),
    ];
    for (called_from, field) in places {
        let mut w = World::with(|config| {
            config.trunks[0].called_from = called_from;
            config.trunks[0].max_channels = Some(1);
        });
        let text = "country_code = \"32\"\n[[rule]]\nname = \"help\"\nfrom = \"trunk:a\"\nemergency = true\n\
                    match = \"112\"\ntrunks = [\"b\"]\n\
                    [[rule]]\nname = \"ours\"\nfrom = \"any\"\nmatch = \"+322555\"\nto = \"users\"\n\
                    [[rule]]\nname = \"Belgium\"\nmatch = \"+32\"\ntrunks = [\"a\"]\n";
        let settings = w.exchange.settings().clone();
        let config = config();
        let plan = parse_dialplan(Path::new("d.toml"), text, config.trunk_forms());
        let plan = Arc::new(plan.unwrap_or_else(|problems| panic!("{problems:?}")).dialplan);
        w.exchange.reload(w.now, settings, directory(&config), plan);
        w.resolve();
        w.register("bob", BOB);
        let (mut alice, callee) = w.talking();
        for _ in 0..100 {
            let caller = w.call_in(A, "+3225550002");
            w.refused(&caller, 503);
        }
        let number = if called_from == CalledFrom::Uri { "112" } else { "registered" };
        let help = w.call_in_with(A, number, OFFER, |invite| {
            if called_from != CalledFrom::Uri {
                invite.headers.set(field.clone(), "<sip:112@192.0.2.1>");
            }
        });
        w.invited(B);
        w.cancel(&help);
        w.hang_up(&mut alice, &callee);
        w.pass(secs(300));
    }
}
