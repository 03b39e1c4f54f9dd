//! What never becomes a call, and how many calls there may be.

use super::world::*;
use crate::call::event::{Event, RefusedFor};
use crate::routing::AdminState;
use crate::sip::message::{HeaderName, Message, Method, Request, Typed};
use crate::types::{EndCause, Outcome};
use std::net::SocketAddr;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn refused_for(w: &World) -> Vec<RefusedFor> {
    w.events
        .iter()
        .filter_map(|event| if let Event::Refused { why, .. } = event { Some(*why) } else { None })
        .collect()
}

/// Sends a request of its own from somewhere and gives what comes back.
fn ask(w: &mut World, at: &str, method: Method, shape: impl Fn(&mut Request)) -> Vec<String> {
    let mut side = w.side(address(at), "someone", "sip:0470123456@example.org");
    let mut request = if method == Method::Invite { side.invite(OFFER) } else { side.request(method) };
    shape(&mut request);
    w.send(address(at), &request);
    w.heard(at)
}

#[test]
fn requests_without_hops_left_are_refused() {
    let mut w = World::new();
    let out =
        ask(&mut w, STRANGER, Method::Invite, |request| request.headers.set(HeaderName::MaxForwards, "0"));
    assert_eq!(out, ["483"]);
    assert_eq!(refused_for(&w), [RefusedFor::Loop]);
    w.finish_all();
    assert!(w.journal.written.is_empty(), "no record before the source is proven");
}

#[test]
fn whatever_a_proven_trunk_is_refused_for_is_recorded() {
    type Shape = (u16, EndCause, fn(&mut Request));
    let shapes: [Shape; 3] = [
        (483, EndCause::TooManyHops, |request| request.headers.set(HeaderName::MaxForwards, "0")),
        (420, EndCause::UnknownExtension, |request| request.headers.push(HeaderName::Require, "frob")),
        (400, EndCause::Malformed, |request| {
            request.headers.remove(&HeaderName::Contact);
        }),
    ];
    for (status, cause, shape) in shapes {
        let mut w = World::new();
        assert_eq!(ask(&mut w, A, Method::Invite, shape), [status.to_string()]);
        assert!(w.last_response(A, status).headers.get(&HeaderName::Reason).is_some());
        let cdr = w.finish();
        assert_eq!((cdr.end_cause, cdr.sip_code), (Some(cause), Some(status)));
        assert_eq!(cdr.ingress_trunk.as_deref(), Some("a"));
        assert!(refused_for(&w).is_empty(), "a record, not a counter");
    }
}

#[test]
fn a_user_is_proven_before_its_refusal_is_recorded() {
    let mut w = World::new();
    let shape = |invite: &mut Request| invite.headers.push(HeaderName::Require, "frob");
    // The first INVITE carries no password: nobody is proven, and nobody is asked.
    let mut side =
        w.side(address(ALICE), "alice", "sip:0470123456@example.org").with_password("alice", "alice-secret");
    let mut invite = side.invite(OFFER);
    shape(&mut invite);
    w.send(side.at, &invite);
    assert_eq!(w.heard(ALICE), ["420"]);
    assert!(w.journal.written.is_empty());
    // One that does proves who asks.
    let plain = side.invite(OFFER);
    w.send(side.at, &plain);
    let challenge = w.response(side.at, 401);
    let mut proven = side.with_credentials(&plain, &challenge);
    shape(&mut proven);
    w.send(side.at, &proven);
    assert_eq!(w.last_response(ALICE, 420).headers.get(&HeaderName::Unsupported), Some("frob"));
    let cdr = w.finish();
    assert_eq!((cdr.caller.user.as_deref(), cdr.sip_code), (Some("alice"), Some(420)));
}

#[test]
fn a_trunk_that_may_not_call_hears_so_whomever_it_calls() {
    for admin in [AdminState::Blocked, AdminState::Draining] {
        // A user without a device, a number nobody has, and a number the dialplan refuses.
        for number in ["+3225550002", "+3225559999", "+31201234567"] {
            let mut w = World::new();
            assert!(w.exchange.set_trunk(w.now, "a", admin));
            let caller = w.call_in(A, number);
            let answer = w.refused(&caller, 503);
            assert_eq!(answer.headers.get(&HeaderName::RetryAfter), Some("30"));
            let cdr = w.finish();
            assert_eq!((cdr.end_cause, cdr.sip_code), (Some(EndCause::TrunkUnavailable), Some(503)));
        }
    }
}

#[test]
fn our_own_invite_that_comes_back_is_a_loop() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    let mut looped = callee.invite.clone();
    looped.headers.push_front(HeaderName::Via, format!("SIP/2.0/UDP {A};branch=z9hG4bKproxy"));
    w.send(address(A), &looped);
    assert_eq!(w.heard(A), ["482"]);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_caller_may_use_its_call_id_for_a_second_call() {
    let mut w = World::new();
    let first = w.call_in(A, "+31201234567");
    w.invited(B);
    let mut second = w.side(address(A), "+33123456789", "sip:+31201234568@192.0.2.1");
    second.call_id = first.call_id.clone();
    let invite = second.invite(OFFER);
    w.send(address(A), &invite);
    w.invited(B);
    w.cancel(&first);
    w.cancel(&second);
    w.finish_all();
    assert_eq!(w.ends().len(), 2);
}

#[test]
fn copies_of_one_invite_that_took_different_ways_are_one() {
    let mut w = World::new();
    let side = w.call_in(A, "+31201234567");
    w.invited(B);
    let mut copy = side.invite.clone();
    copy.headers.set(HeaderName::Via, format!("SIP/2.0/UDP {A};branch=z9hG4bKother"));
    w.send(address(A), &copy);
    assert_eq!(w.heard(A), ["482"]);
    assert!(w.heard(B).is_empty());
    w.cancel(&side);
    w.finish();
}

#[test]
fn extensions_that_are_required_and_unknown_are_all_named() {
    let mut w = World::new();
    let out = ask(&mut w, A, Method::Invite, |request| {
        request.headers.push(HeaderName::Require, "telepathy, timer, precondition");
        // It is known here, and not used with this trunk.
    });
    assert_eq!(out, ["420"]);
    let answer = w.last_response(A, 420);
    assert_eq!(answer.headers.get(&HeaderName::Unsupported), Some("telepathy, precondition, timer"));
    w.finish_all();
}

#[test]
fn an_invite_without_a_contact_is_malformed() {
    let mut w = World::new();
    let out = ask(&mut w, A, Method::Invite, |request| {
        request.headers.remove(&HeaderName::Contact);
    });
    assert_eq!(out, ["400"]);
    w.finish_all();
}

#[test]
fn methods_that_are_not_served_say_which_are() {
    let mut w = World::new();
    for (method, out) in [
        (Method::Subscribe, "405 SUBSCRIBE"),
        (Method::Message, "405 MESSAGE"),
        (Method::Bye, "481 BYE"),
        (Method::Other("FROB".into()), "501 FROB"),
    ] {
        assert_eq!(ask(&mut w, A, method, |_| {}), [out]);
    }
    assert!(w.last_response(A, 501).headers.get(&HeaderName::Allow).unwrap().contains("INVITE"));
    w.finish_all();
}

#[test]
fn requests_into_dialogs_nobody_has_are_refused() {
    let mut w = World::new();
    for method in [Method::Bye, Method::Invite, Method::Info, Method::Update] {
        let out = ask(&mut w, A, method.clone(), |request| {
            let to = format!("{};tag=gone", request.headers.get(&HeaderName::To).unwrap());
            request.headers.set(HeaderName::To, to);
        });
        let name = if method == Method::Invite { "481".to_owned() } else { format!("481 {method}") };
        assert_eq!(out, [name]);
    }
    w.finish_all();
}

#[test]
fn what_proves_nothing_is_answered_and_forgotten() {
    let mut w = World::new();
    for _ in 0..50 {
        ask(&mut w, STRANGER, Method::Invite, |_| {});
        ask(&mut w, STRANGER, Method::Bye, |_| {});
        ask(&mut w, STRANGER, Method::Options, |_| {});
        ask(&mut w, STRANGER, Method::Invite, |request| request.headers.set(HeaderName::MaxForwards, "0"));
    }
    assert_eq!(w.exchange.core.sip.active(), 0);
    assert_eq!(w.exchange.held(), 0);
}

#[test]
fn a_flood_is_held_off_without_harm_to_trunks_and_running_calls() {
    let mut w = World::with(|config| {
        config.guard.requests_per_second = 5;
        config.guard.burst = 10;
    });
    let (mut alice, callee) = w.talking();
    w.pass(secs(30));
    let mut answered = 0;
    for _ in 0..200 {
        answered += ask(&mut w, STRANGER, Method::Options, |_| {}).len();
    }
    assert!(answered <= 11, "{answered}");
    assert_eq!(w.last_response(STRANGER, 503).headers.get(&HeaderName::RetryAfter), Some("2"));
    // The same from a trunk's address is a trunk's business, and inside a call too.
    for _ in 0..50 {
        assert_eq!(ask(&mut w, A, Method::Options, |_| {}), ["200 OPTIONS"]);
        let options = alice.request(Method::Options);
        w.send(alice.at, &options);
    }
    assert!(w.heard(ALICE).iter().all(|name| name == "200 OPTIONS"));
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_stranger_that_keeps_flooding_is_muted_and_whoever_somebody_is_registered_with_is_not() {
    let mut w = World::with(|config| {
        config.guard.requests_per_second = 1;
        config.guard.burst = 4;
    });
    w.register("alice", ALICE);
    let stranger = "198.51.100.9:5060";
    for at in [stranger, ALICE] {
        for _ in 0..8 {
            let mut side = w.side(address(at), "mallory", "sip:0470123456@example.org");
            let invite = side.invite(OFFER);
            w.send(side.at, &invite);
            w.heard(at);
        }
    }
    assert!(!w.muted.is_empty());
    assert!(w.muted.iter().all(|muted| *muted == address(stranger).ip()), "{:?}", w.muted);
}

#[test]
fn a_trunk_is_told_everything_however_short_its_question_is() {
    let mut w = World::new();
    let brief = |request: &mut Request| {
        for name in [HeaderName::Contact, HeaderName::Allow, HeaderName::Supported] {
            request.headers.remove(&name);
        }
    };
    ask(&mut w, A, Method::Options, brief);
    ask(&mut w, STRANGER, Method::Options, brief);
    let (known, stranger) = (w.last_response(A, 200), w.last_response(STRANGER, 200));
    for name in [HeaderName::Allow, HeaderName::Accept, HeaderName::AcceptEncoding] {
        assert!(known.headers.contains(&name), "{name}");
    }
    assert!(!stranger.headers.contains(&HeaderName::AcceptEncoding), "nobody is made an amplifier of");
}

#[test]
fn a_flood_by_a_stream_is_answered_to_the_last_and_mutes_nobody() {
    let mut w = World::with(|config| {
        config.guard.requests_per_second = 1;
        config.guard.burst = 4;
    });
    let stranger = "198.51.100.9:5060";
    w.over_tcp(stranger);
    for count in 0..20 {
        let answers = ask(&mut w, stranger, Method::Register, |_| {});
        assert_eq!(answers.len(), 1, "nobody repeats what came by a stream");
        assert!(count < 4 || answers[0].starts_with("503"), "{answers:?}");
    }
    assert!(w.last_response(stranger, 503).headers.get(&HeaderName::RetryAfter).is_some());
    assert!(w.muted.is_empty());
}

#[test]
fn datagrams_in_the_name_of_a_phone_on_a_stream_spend_nothing_of_what_it_may_ask() {
    let mut w = World::with(|config| {
        config.guard.requests_per_second = 1;
        config.guard.burst = 4;
    });
    let (phone, forged) = ("198.51.100.9:5061", "198.51.100.9:5060");
    w.over_tcp(phone);
    let answered = (0..50).map(|_| ask(&mut w, forged, Method::Register, |_| {}).len()).sum::<usize>();
    assert_eq!(answered, 5, "a burst and one refusal");
    for _ in 0..4 {
        assert_eq!(ask(&mut w, phone, Method::Register, |_| {}), ["401 REGISTER"]);
    }
    assert_eq!(
        ask(&mut w, phone, Method::Register, |_| {}),
        ["503 REGISTER"],
        "and it has no more than its own"
    );
}

#[test]
fn passwords_tried_in_the_name_of_a_phone_on_a_stream_pause_only_datagrams() {
    let mut w = World::with(|config| {
        config.guard.requests_per_second = 1_000;
        config.guard.burst = 1_000;
    });
    let (phone, forged) = ("198.51.100.9:5061", "198.51.100.9:5060");
    w.over_tcp(phone);
    let mut call = |at: &str, password: &str| {
        let side = w.side(address(at), "alice", "sip:0470123456@example.org");
        let mut side = side.with_password("alice", password);
        let invite = side.invite(OFFER);
        w.send(side.at, &invite);
        let Some(Message::Response(challenge)) = w.next(side.at) else { panic!("no challenge") };
        let again = side.with_credentials(&invite, &challenge);
        w.send(side.at, &again);
        w.heard(at)
    };
    for _ in 0..20 {
        assert_eq!(call(forged, "wrong"), ["401"]);
    }
    assert_eq!(call(forged, "alice-secret"), ["401"], "not looked at any more");
    assert_ne!(call(phone, "alice-secret"), ["401"]);
    assert_eq!(w.exchange.live_calls(), 1);
}

#[test]
fn options_say_what_the_gateway_takes() {
    let mut w = World::new();
    assert_eq!(ask(&mut w, A, Method::Options, |_| {}), ["200 OPTIONS"]);
    let answer = w.last_response(A, 200);
    assert!(answer.headers.get(&HeaderName::Allow).unwrap().contains("INVITE"));
    assert_eq!(answer.headers.get(&HeaderName::Accept), Some("application/sdp"));
    w.exchange.set_draining(true);
    assert_eq!(ask(&mut w, A, Method::Options, |_| {}), ["503 OPTIONS"]);
    w.finish_all();
}

#[test]
fn a_draining_gateway_takes_no_new_call_and_serves_those_that_run() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.exchange.set_draining(true);
    assert_eq!(ask(&mut w, B, Method::Invite, |_| {}), ["503"]);
    let refusal = w.last_response(B, 503);
    assert_eq!(refusal.headers.get(&HeaderName::RetryAfter), Some("30"));
    assert!(refusal.headers.get(&HeaderName::Reason).is_some_and(|reason| reason.contains("draining")));
    // A stranger is asked who it is, as ever, and leaves no record.
    assert_eq!(ask(&mut w, STRANGER, Method::Invite, |_| {}), ["401"]);
    w.pass(secs(10));
    w.hang_up(&mut alice, &callee);
    w.finish_all();
    let ends = w.ends();
    assert_eq!(ends.len(), 2);
    assert_eq!((ends[0].end_cause, ends[0].sip_code), (Some(EndCause::Draining), Some(503)));
    assert_eq!((ends[0].ingress_trunk.as_deref(), ends[0].duration_ms), (Some("b"), 0));
    assert_eq!(ends[1].duration_ms, 10_000);
}

#[test]
fn a_trunks_channels_are_taken_and_given_back() {
    let mut w = World::with(|config| config.trunks[0].max_channels = Some(1));
    let (mut alice, callee) = w.talking();
    let carol = w.dial("carol", "0499123456");
    let answer = w.refused(&carol, 503);
    assert_eq!(answer.headers.get(&HeaderName::RetryAfter), Some("5"));
    // Both directions share them.
    w.register("bob", BOB);
    let incoming = w.call_in(A, "+3225550002");
    w.refused(&incoming, 503);
    w.hang_up(&mut alice, &callee);
    w.heard(A);
    let again = w.dial("alice", "0499123456");
    w.invited(A);
    w.cancel(&again);
    w.finish_all();
}

#[test]
fn a_trunk_that_floods_beyond_its_channels_is_refused_without_a_record_until_it_slows_down() {
    let mut w = World::with(|config| config.trunks[0].max_channels = Some(1));
    let (mut alice, callee) = w.talking();
    w.register("bob", BOB);
    let before = w.exchange.core.sip.active_servers();
    for nth in 0..200 {
        let incoming = w.call_in(A, "+3225550002");
        let answer = w.response(A.parse().unwrap(), 503);
        assert!(answer.headers.get(&HeaderName::RetryAfter).is_some());
        if nth % 2 == 0 {
            w.send(incoming.at, incoming.ack_failure(&answer));
        }
    }
    // Fifty were refused with a record; nobody waits for what becomes of the rest.
    assert_eq!(w.exchange.core.sip.active_servers() - before, 50);
    let overload = |event: &&Event| matches!(event, Event::Refused { why: RefusedFor::Overload, .. });
    assert_eq!(w.events.iter().filter(overload).count(), 150);
    // Those that were not acknowledged are repeated, and no others (RFC 3261 §17.2.1).
    w.pass(ms(600));
    assert_eq!(w.heard(A).len(), 25);
    w.pass(secs(1));
    w.heard(A);
    let incoming = w.call_in(A, "+3225550002");
    w.refused(&incoming, 503);
    w.hang_up(&mut alice, &callee);
    let incoming = w.call_in(A, "+3225550002");
    w.invited(BOB);
    w.cancel(&incoming);
    w.finish_all();
    assert_eq!(w.ends().len(), 53);
}

#[test]
fn a_full_trunk_gives_way_to_the_next() {
    let mut w = World::with(|config| config.trunks[0].max_channels = Some(1));
    let (mut alice, callee) = w.talking();
    let carol = w.dial("carol", "0470123456");
    w.invited(B);
    w.cancel(&carol);
    w.hang_up(&mut alice, &callee);
    w.finish_all();
}

#[test]
fn calls_a_second_are_limited() {
    let mut w = World::with(|config| {
        config.trunks[0].max_cps = Some(2);
        config.limits.max_calls_per_user = 100;
    });
    let mut refused = 0;
    let mut sides = Vec::new();
    for _ in 0..4 {
        sides.push(w.dial("alice", "0499123456"));
        refused += w.heard(ALICE).iter().filter(|name| *name == "503").count();
    }
    assert_eq!((refused, w.heard(A).len()), (2, 2));
    w.pass(secs(1));
    sides.push(w.dial("alice", "0499123456"));
    assert!(w.heard(A).contains(&"INVITE".to_owned()));
    for side in &sides {
        w.cancel(side);
    }
    w.finish_all();
}

#[test]
fn a_user_has_so_many_calls_at_once() {
    let mut w = World::with(|config| {
        config.limits.max_calls_per_user = 2;
        config.users[2].max_calls = Some(1);
    });
    let first = w.dial("alice", "0470123456");
    let second = w.dial("alice", "0470123457");
    let third = w.dial("alice", "0470123458");
    w.refused(&third, 403);
    assert_eq!(w.cause(), EndCause::UserLimit);
    let own = w.dial("carol", "0470123456");
    let over = w.dial("carol", "0470123456");
    w.refused(&over, 403);
    // A call that ended makes room, though its far end is still to answer the CANCEL.
    w.cancel(&first);
    let fourth = w.dial("alice", "0470123459");
    assert!(w.heard(ALICE).is_empty());
    for side in [&second, &fourth, &own] {
        w.cancel(side);
    }
    w.finish_all();
}

#[test]
fn the_gateway_has_so_many_calls_at_once() {
    let mut w = World::with(|config| config.limits.max_calls = Some(1));
    let first = w.dial("alice", "0470123456");
    let second = w.dial("carol", "0470123456");
    w.refused(&second, 503);
    w.cancel(&first);
    w.finish_all();
}

#[test]
fn while_media_has_no_room_calls_are_refused_with_a_time_to_come_back() {
    let mut w = World::new();
    let running = w.dial("alice", "0470123456");
    w.exchange.set_media_busy(true);
    let refused = w.dial("carol", "0470123456");
    let answer = w.refused(&refused, 503);
    assert_eq!(answer.headers.get(&HeaderName::RetryAfter), Some("5"));
    w.exchange.set_media_busy(false);
    let taken = w.dial("carol", "0470123456");
    w.cancel(&taken);
    w.cancel(&running);
    w.finish_all();
}

#[test]
fn a_user_that_nobody_knows_or_that_lies_gets_no_call() {
    let mut w = World::new();
    let mut side = w.side(address(ALICE), "mallory", "sip:0470123456@example.org");
    side = side.with_password("mallory", "x");
    let invite = side.invite(OFFER);
    w.send(side.at, &invite);
    let challenge = w.response(side.at, 401);
    let again = side.with_credentials(&invite, &challenge);
    w.send(side.at, &again);
    w.response(side.at, 401);
    assert!(w.heard(A).is_empty());

    let mut side =
        w.side(address(ALICE), "alice", "sip:0470123456@example.org").with_password("alice", "wrong");
    let invite = side.invite(OFFER);
    w.send(side.at, &invite);
    let challenge = w.response(side.at, 401);
    let again = side.with_credentials(&invite, &challenge);
    w.send(side.at, &again);
    assert!(!String::from_utf8_lossy(&w.response(side.at, 401).to_bytes()).contains("stale=true"));
    assert!(w.heard(A).is_empty());
    w.finish_all();
    assert!(w.journal.written.is_empty(), "no record before the source is proven");
}

#[test]
fn a_user_presents_only_numbers_of_its_own() {
    let mut w = World::new();
    let alice = w.dial_with("alice", "0470123456", OFFER, |invite| {
        let from = invite.from().unwrap();
        let mut other = from.clone();
        other.uri.user = Some("+3225550002".into());
        invite.headers.set(HeaderName::From, other.to_string());
    });
    let callee = w.invited(A);
    assert_eq!(callee.invite.from().unwrap().uri.user(), "+3225550001");
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_withheld_number_goes_out_as_anonymous() {
    let mut w = World::new();
    w.register("bob", BOB);
    let caller = w.call_in_with(A, "+3225550002", OFFER, |invite| {
        invite.headers.set(HeaderName::From, "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=x1");
    });
    let bob = w.invited(BOB);
    let from = bob.invite.from().unwrap();
    assert_eq!((from.uri.user(), from.uri.host.host.as_str()), ("anonymous", "anonymous.invalid"));
    w.cancel(&caller);
    w.pass(secs(60));
}

#[test]
fn every_attempt_is_counted_to_its_end() {
    let mut w = World::new();
    let first = w.dial("alice", "0900123456");
    w.refused(&first, 403);
    let second = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 503);
    let last = w.invited(B);
    w.reply(&last, 486);
    w.refused(&second, 486);
    let outcomes: Vec<_> = w
        .events
        .iter()
        .filter_map(|event| match event {
            Event::AttemptEnded { trunk, outcome, failed_over, .. } => {
                Some((trunk.as_deref().map(str::to_owned), *outcome, *failed_over))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            (None, Outcome::Blocked, false),
            (Some("a".to_owned()), Outcome::Congestion, true),
            (Some("b".to_owned()), Outcome::Busy, false),
        ]
    );
    w.finish_all();
}
