//! Calls for help: what does not hold them, how long they are tried, what they tell, and who may call back.

use super::far::Side;
use super::transfer::refer;
use super::world::*;
use crate::call::event::Event;
use crate::config::{Config, IdentityHeader};
use crate::routing::{AdminState, EmergencyFormat, Screening, ScreeningAction};
use crate::sip::message::{HeaderName, Method, Request, Typed, Uri};
use crate::types::{Emergency, EndCause};

fn field(request: &Request, name: HeaderName) -> &str {
    request.headers.get(&name).unwrap_or_default()
}

/// The next INVITE at a trunk, of which no repetition counts.
fn asked(w: &mut World, at: &str) -> Side {
    let side = w.invited(at);
    w.heard(at);
    side
}

/// The trunk's answer ends the call well.
fn helped(w: &mut World, mut caller: Side, helper: &Side) {
    w.reply_with(helper, 200, ANSWER);
    w.ack(&mut caller);
    w.hang_up(&mut caller, helper);
    for at in [A, B] {
        w.heard(at);
    }
}

fn civic(config: &mut Config) {
    let place = &mut config.users[0].place;
    place.add("country", "BE").unwrap();
    place.add("RD", "Rue <du> \"Bois\" & Cie").unwrap();
    place.set_point("50.8503, 4.3517".parse().unwrap());
}

fn body_of(request: &Request) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

#[test]
fn no_limit_stands_in_the_way_of_a_call_for_help() {
    let mut w = World::with(|config| {
        config.limits.max_calls = Some(1);
        config.users[0].max_calls = Some(1);
        config.trunks[0].max_channels = Some(1);
        config.trunks[0].max_cps = Some(1);
    });
    let (mut alice, callee) = w.talking();
    w.dial("alice", "0470123456");
    assert_eq!(w.heard(ALICE), ["503"], "the limits hold");
    w.exchange.set_media_busy(true);
    w.exchange.set_draining(true);
    let caller = w.dial("alice", "112");
    let helper = asked(&mut w, A);
    assert_eq!(helper.invite.uri.user(), "112");
    assert_eq!(
        (field(&helper.invite, HeaderName::Priority), field(&helper.invite, HeaderName::ResourcePriority)),
        ("emergency", "esnet.0")
    );
    helped(&mut w, caller, &helper);
    w.exchange.set_draining(false);
    w.hang_up(&mut alice, &callee);
    w.finish_all();
    let kinds: Vec<_> = w.ends().iter().map(|cdr| cdr.emergency).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == Some(Emergency::Call)).count(), 1, "{kinds:?}");
}

#[test]
fn a_trunk_that_is_blocked_or_asked_for_a_pause_is_tried_last_rather_than_never() {
    let mut w = World::new();
    w.exchange.set_trunk(w.now, "a", AdminState::Blocked);
    let caller = w.dial("alice", "112");
    let second = asked(&mut w, B);
    let busy = second.response(&second.invite, 503).with_header(HeaderName::RetryAfter, "60");
    w.send(second.at, busy);
    let first = asked(&mut w, A);
    helped(&mut w, caller, &first);
    w.exchange.set_trunk(w.now, "b", AdminState::Draining);
    w.exchange.set_trunk(w.now, "a", AdminState::Draining);
    let caller = w.dial("alice", "112");
    let any = asked(&mut w, A);
    helped(&mut w, caller, &any);
    w.finish_all();
}

#[test]
fn whatever_a_trunk_says_the_next_one_is_asked() {
    for status in [302, 403, 404, 480, 484, 486, 488, 500, 503, 600, 603, 604, 607] {
        let mut w = World::new();
        let caller = w.dial("alice", "112");
        let first = asked(&mut w, A);
        w.reply(&first, 180);
        w.reply(&first, status);
        let second = w.invited(B);
        helped(&mut w, caller, &second);
        assert_eq!(w.finish().legs.len(), 2, "{status}");
    }
}

#[test]
fn a_black_hole_is_left_in_under_four_seconds_and_one_that_only_tries_in_twenty() {
    let mut w = World::new();
    let start = w.now.instant;
    let caller = w.dial("alice", "112");
    assert_eq!(w.heard(ALICE), ["180"], "it rings, though nobody has answered anything");
    w.pass(ms(3_900));
    let second = asked(&mut w, B);
    assert!(w.sent_times(B, "INVITE", start)[0] < 4_000);
    w.reply(&second, 486);
    // The second round.
    w.heard(A);
    w.pass(secs(2));
    let first = asked(&mut w, A);
    w.reply(&first, 100);
    w.heard(B);
    w.pass(secs(18));
    assert!(w.heard(B).iter().all(|name| name != "INVITE"));
    w.pass(secs(3));
    let second = w.last_request(B.parse().unwrap(), &Method::Invite);
    let second = Side::called(B.parse().unwrap(), second, "again", "UDP");
    helped(&mut w, caller, &second);
    w.finish();
}

#[test]
fn all_trunks_are_tried_again_and_again_and_the_caller_hears_ringing_until_the_truth() {
    let mut w = World::with(|config| config.limits.ring = secs(30));
    let caller = w.dial("alice", "112");
    let mut attempts = 0;
    for _ in 0..400 {
        for at in [A, B] {
            while let Some(message) = w.next(at.parse().unwrap()) {
                if let crate::sip::message::Message::Request(request) = message
                    && request.method == Method::Invite
                {
                    attempts += 1;
                    let side = Side::called(at.parse().unwrap(), request, &format!("n{attempts}"), "UDP");
                    w.reply(&side, 486);
                }
            }
        }
        w.pass(ms(100));
    }
    // Rounds at 0, 1, 3, 7, 15 and 23 seconds.
    assert_eq!(attempts, 12);
    let said = w.heard(ALICE);
    assert!(said.iter().filter(|name| *name == "180").count() >= 5, "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("486"));
    let answer = w.last_response(ALICE, 486);
    assert!(field_of(&answer).starts_with("Q.850;cause=17"), "{}", field_of(&answer));
    let ack = caller.ack_failure(&answer);
    w.send(caller.at, &ack);
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.legs.len()), (Some(EndCause::Busy), 12));
    let ended = w.events.iter().any(|event| {
        matches!(event, Event::CallEnded { emergency: Some(Emergency::Call), cause: EndCause::Busy, .. })
    });
    assert!(ended);
}

fn field_of(response: &crate::sip::message::Response) -> String {
    response.headers.get(&HeaderName::Reason).unwrap_or_default().to_owned()
}

#[test]
fn a_caller_that_gives_up_between_two_rounds_is_let_go() {
    let mut w = World::new();
    let caller = w.dial("alice", "112");
    for at in [A, B] {
        let side = asked(&mut w, at);
        w.reply(&side, 480);
        w.heard(at);
    }
    w.pass(ms(500));
    w.cancel(&caller);
    w.heard(ALICE);
    assert_eq!(w.finish().end_cause, Some(EndCause::CallerCancelled));
    assert!(w.heard(A).is_empty(), "nobody is asked any more");
}

#[test]
fn a_line_that_rings_without_end_is_left_for_another_one_only_where_there_is_one() {
    let mut w = World::new();
    let caller = w.dial("alice", "112");
    let first = asked(&mut w, A);
    w.reply(&first, 180);
    w.pass(secs(119));
    assert!(w.heard(B).is_empty());
    w.pass(secs(2));
    assert_eq!(w.heard(A)[0], "CANCEL");
    w.ok(&first, Method::Cancel);
    w.reply(&first, 487);
    let second = asked(&mut w, B);
    w.reply(&second, 180);
    w.pass(secs(121));
    w.refused(&caller, 480);
    w.ok(&second, Method::Cancel);
    w.reply(&second, 487);
    assert_eq!(w.finish().end_cause, Some(EndCause::NoAnswer));
}

#[test]
fn who_is_to_help_hears_who_calls_though_the_number_is_withheld() {
    let mut w = World::with(|config| config.trunks[0].identity = IdentityHeader::Asserted);
    w.dial_with("alice", "112", OFFER, |invite| invite.headers.push(HeaderName::Privacy, "id"));
    let invite = w.invited(A).invite;
    assert_eq!(invite.from().unwrap().uri.user(), "+3225550001");
    assert!(field(&invite, HeaderName::PAssertedIdentity).contains("+3225550001"));
    assert!(!invite.headers.contains(&HeaderName::Privacy));
}

#[test]
fn a_service_reaches_each_trunk_in_the_form_it_reads() {
    let mut w = World::with(|config| config.trunks[1].emergency_format = EmergencyFormat::Urn);
    let caller = w.dial_with("alice", "112", OFFER, |invite| {
        invite.uri = Uri::parse("urn:service:sos.fire").unwrap();
    });
    let first = asked(&mut w, A);
    assert_eq!(first.invite.uri.user(), "112");
    w.reply(&first, 500);
    let second = w.invited(B);
    assert_eq!(second.invite.uri.to_string(), "urn:service:sos.fire");
    assert_eq!(second.invite.to().unwrap().uri.to_string(), "urn:service:sos.fire");
    helped(&mut w, caller, &second);
    let cdr = w.finish();
    assert_eq!(
        (cdr.called.dialled.as_str(), cdr.legs[1].target.as_str()),
        ("urn:service:sos.fire", "urn:service:sos.fire")
    );
}

#[test]
fn the_users_address_goes_along_where_the_trunk_takes_it_and_only_then() {
    let mut w = World::with(|config| {
        civic(config);
        config.trunks[1].location = false;
    });
    let caller = w.dial("alice", "112");
    let first = asked(&mut w, A);
    let body = body_of(&first.invite);
    assert!(first.invite.sdp().is_some_and(|sdp| sdp.starts_with(b"v=0")));
    assert!(
        body.contains("<cl:country>BE</cl:country><cl:RD>Rue &lt;du&gt; &quot;Bois&quot; &amp; Cie</cl:RD>"),
        "{body}"
    );
    assert!(
        body.contains("<gml:pos>50.8503 4.3517</gml:pos>")
            && body.contains("entity=\"pres:alice@example.org\"")
    );
    assert!(body.contains("<timestamp>2026-01-05T12:00:00Z</timestamp>"), "{body}");
    let cid = field(&first.invite, HeaderName::Geolocation);
    let id = cid.strip_prefix("<cid:").and_then(|rest| rest.strip_suffix('>')).unwrap();
    assert!(body.contains(&format!("Content-ID: <{id}>\r\n")), "{cid} in {body}");
    assert_eq!(field(&first.invite, HeaderName::GeolocationRouting), "yes");
    w.reply(&first, 500);
    let second = w.invited(B);
    assert_eq!(second.invite.content_type(), Some("application/sdp"));
    assert!(!second.invite.headers.contains(&HeaderName::Geolocation));
    helped(&mut w, caller, &second);
    // Nobody else hears of it.
    w.pass(secs(40));
    w.dial("alice", "0470123456");
    let ordinary = w.invited(A).invite;
    assert!(!ordinary.headers.contains(&HeaderName::Geolocation) && !body_of(&ordinary).contains("presence"));
}

#[test]
fn what_the_device_says_of_its_place_goes_before_what_is_written_down() {
    let mut w = World::with(civic);
    let document = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\"><x>Pole 7</x></presence>";
    let caller = w.dial_with("alice", "112", OFFER, |invite| {
        let body = format!(
            "--b\r\nContent-Type: application/sdp\r\n\r\n{OFFER}\r\n--b\r\nContent-Type: application/pidf+xml\r\n\
             Content-ID: <dev@phone>\r\n\r\n{document}\r\n--b--\r\n"
        );
        *invite = invite.clone().with_body("multipart/mixed;boundary=b", body);
        invite.headers.push(HeaderName::Geolocation, "<cid:dev@phone>, <https://lis.example/7>");
        invite.headers.push(HeaderName::GeolocationRouting, "no");
    });
    let helper = asked(&mut w, A);
    assert_eq!(helper.invite.location().unwrap(), document);
    assert!(!body_of(&helper.invite).contains("Bois"));
    let said = field(&helper.invite, HeaderName::Geolocation);
    assert!(
        said.starts_with("<cid:") && said.ends_with(", <https://lis.example/7>") && !said.contains("phone"),
        "{said}"
    );
    assert_eq!(field(&helper.invite, HeaderName::GeolocationRouting), "no");
    helped(&mut w, caller, &helper);
    w.finish();
}

#[test]
fn a_location_that_a_trunk_can_not_take_keeps_nobody_from_help() {
    for status in [415, 424] {
        let mut w = World::with(civic);
        let caller = w.dial("alice", "112");
        let first = asked(&mut w, A);
        w.reply(&first, status);
        w.request(first.at, Method::Ack);
        let again = asked(&mut w, A);
        assert!(
            !again.invite.headers.contains(&HeaderName::Geolocation) && again.invite.location().is_none()
        );
        assert_eq!(field(&again.invite, HeaderName::Priority), "emergency");
        helped(&mut w, caller, &again);
        w.finish();
    }
}

#[test]
fn help_does_not_wait_for_a_disk() {
    // No room, a record that can't be written, a disk that never answers.
    for (has_room, answer) in [(false, Verdict::Fails), (true, Verdict::Fails), (true, Verdict::Hangs)] {
        let mut w = World::new();
        w.journal.has_room = has_room;
        (w.journal.answer, w.journal.end) = (answer, answer);
        let mut caller = w.dial("alice", "112");
        let helper = asked(&mut w, A);
        w.reply_with(&helper, 200, ANSWER);
        w.pass(ms(600));
        w.ack(&mut caller);
        w.exchange.hang_up_all(w.now, EndCause::JournalFailed);
        w.pass(secs(10));
        w.bye(&mut caller);
        w.request(helper.at, Method::Ack);
        w.ok(&helper, Method::Bye);
        w.pass(secs(1));
        w.response(caller.at, 200);
        w.pass(secs(200));
        assert_eq!(w.exchange.held(), 0);
        assert_eq!(w.cause(), EndCause::NormalClearing);
    }
}

#[test]
fn a_call_for_help_waits_a_moment_for_media_ports() {
    let mut w = World::new();
    w.media.free = 0;
    let caller = w.dial("alice", "112");
    w.pass(secs(2));
    assert!(w.heard(A).is_empty());
    w.media.free = 2;
    w.pass(secs(1));
    let helper = asked(&mut w, A);
    helped(&mut w, caller, &helper);
    w.media.free = 0;
    let caller = w.dial("alice", "112");
    w.pass(secs(30));
    w.refused(&caller, 503);
    w.finish_all();
}

fn full_house(config: &mut Config) {
    config.limits.max_calls = Some(1);
    for trunk in &mut config.trunks {
        trunk.max_channels = Some(1);
        trunk.screening =
            Screening { ranges: vec!["+3299".into()], default: None, action: ScreeningAction::Reject };
    }
}

/// Whether a call from trunk `b` to alice gets through while bob's call takes all there is.
fn reaches_alice(w: &mut World, shape: impl Fn(&mut Request)) -> bool {
    let caller = w.call_in_with(B, "+3225550001", OFFER, shape);
    let device = w.heard(ALICE);
    let through = device.contains(&"INVITE".to_owned());
    if through {
        let invite = w.last_request(ALICE.parse().unwrap(), &Method::Invite);
        assert_eq!(field(&invite, HeaderName::Priority), "psap-callback");
        w.cancel(&caller);
        let device = Side::called(ALICE.parse().unwrap(), invite, "dev", "UDP");
        w.reply(&device, 487);
    }
    w.pass(secs(40));
    w.heard(ALICE);
    w.heard(B);
    through
}

#[test]
fn a_call_back_gets_through_the_flood_of_its_own_trunk() {
    let mut w = World::with(full_house);
    w.register("alice", ALICE);
    w.register("bob", BOB);
    let caller = w.dial("alice", "112");
    let helper = asked(&mut w, A);
    helped(&mut w, caller, &helper);
    let running = w.dial("bob", "0470123456");
    for _ in 0..100 {
        w.call_in(B, "+3225550002");
    }
    w.heard(B);
    assert!(reaches_alice(&mut w, |_| {}));
    w.cancel(&running);
    w.finish_all();
}

#[test]
fn who_called_for_help_can_be_called_back_for_a_while_whatever_the_limits_say() {
    let mut w = World::with(full_house);
    w.register("alice", ALICE);
    w.exchange.set_draining(true);
    assert!(!reaches_alice(&mut w, |_| {}), "nobody expects it");
    let caller = w.dial("alice", "112");
    let helper = asked(&mut w, A);
    helped(&mut w, caller, &helper);
    w.exchange.set_trunk(w.now, "b", AdminState::Blocked);
    w.pass(secs(1_700));
    w.register("alice", ALICE);
    assert!(reaches_alice(&mut w, |_| {}));
    w.pass(secs(200));
    assert!(!reaches_alice(&mut w, |_| {}), "after half an hour it is a call like any other");
    w.finish_all();
    let backs = w.ends().iter().filter(|cdr| cdr.emergency == Some(Emergency::Callback)).count();
    assert_eq!(backs, 1);
}

#[test]
fn a_second_call_for_help_that_ends_shortens_nothing_for_the_first() {
    let mut w = World::with(full_house);
    w.register("alice", ALICE);
    let mut first = w.dial("alice", "112");
    let helper = asked(&mut w, A);
    w.reply_with(&helper, 200, ANSWER);
    w.ack(&mut first);
    w.request(helper.at, Method::Ack);
    let second = w.dial("alice", "112");
    let other = asked(&mut w, A);
    helped(&mut w, second, &other);
    w.pass(secs(1_900));
    w.register("alice", ALICE);
    assert!(reaches_alice(&mut w, |_| {}), "she still talks to somebody who may call another device of hers");
    w.hang_up(&mut first, &helper);
    w.finish_all();
}

#[test]
fn a_call_that_says_that_it_is_one_back_is_believed_from_where_help_comes() {
    let says = |invite: &mut Request| invite.headers.push(HeaderName::Priority, "psap-callback");
    let mut w = World::with(full_house);
    w.register("alice", ALICE);
    w.exchange.set_draining(true);
    assert!(!reaches_alice(&mut w, says), "whoever calls may have written it");
    let trusted = |config: &mut Config| {
        full_house(config);
        config.trunks[1].trusted = true;
    };
    let mut w = World::with(trusted);
    w.register("alice", ALICE);
    w.exchange.set_draining(true);
    assert!(reaches_alice(&mut w, says));
    let mut w = World::with(|config| {
        trusted(config);
        config.limits.emergency_callback = std::time::Duration::ZERO;
    });
    w.register("alice", ALICE);
    w.exchange.set_draining(true);
    let caller = w.dial("alice", "112");
    let helper = asked(&mut w, A);
    helped(&mut w, caller, &helper);
    assert!(!reaches_alice(&mut w, |_| {}), "the time is none");
    assert!(reaches_alice(&mut w, says));
}

#[test]
fn who_hides_its_number_tells_it_to_those_who_help_and_to_nobody_it_moves_them_to() {
    for hides in [true, false] {
        let mut w = World::new();
        w.register("carol", CAROL);
        let mut alice = w.dial_with("alice", "112", OFFER, |invite| {
            if hides {
                invite.headers.push(HeaderName::Privacy, "id");
            }
        });
        let names_alice = |request: &Request| {
            let text = String::from_utf8_lossy(&request.to_bytes()).into_owned();
            [text.contains("3225550001"), text.contains("sip:alice@")]
        };
        let helper = asked(&mut w, A);
        assert_eq!(names_alice(&helper.invite), [true, false]);
        w.reply_with(&helper, 200, ANSWER);
        w.heard(A);
        w.ack(&mut alice);
        for (to, at) in [("<sip:carol@example.org>", CAROL), ("<sip:0499123456@example.org>", A)] {
            assert_eq!(refer(&mut w, &mut alice, to), 202);
            let target = w.invited(at);
            let told = [!hides, !hides && at == CAROL];
            assert_eq!(names_alice(&target.invite), told, "{to}, Referred-By for users alone");
            w.reply(&target, 486);
            w.heard(at);
            w.heard(ALICE);
        }
        w.hang_up(&mut alice, &helper);
        w.finish_all();
    }
}

#[test]
fn a_call_for_help_is_no_way_to_try_passwords_of_users_who_are_elsewhere() {
    let mut w = World::with(|config| {
        config.guard.requests_per_second = 1_000;
        config.guard.burst = 1_000;
    });
    w.register("alice", ALICE);
    for password in ["wrong"; 40].into_iter().chain(["bob-secret"]) {
        let mut guess =
            w.side(ALICE.parse().unwrap(), "bob", "sip:112@example.org").with_password("bob", password);
        let invite = guess.invite(OFFER);
        w.send(guess.at, &invite);
        let Some(crate::sip::message::Message::Response(challenge)) = w.next(guess.at) else { panic!() };
        let again = guess.with_credentials(&invite, &challenge);
        w.send(guess.at, &again);
        assert_eq!(w.heard(ALICE), ["401"], "{password}");
    }
}

#[test]
fn neither_a_flood_nor_wrong_passwords_from_its_address_keep_a_registered_user_from_help() {
    let mut w = World::with(|config| {
        config.guard.requests_per_second = 1;
        config.guard.burst = 12;
    });
    w.register("alice", ALICE);
    // Somebody behind the same address guesses until the guard has enough, and floods.
    for _ in 0..40 {
        let mut guess = w
            .side(ALICE.parse().unwrap(), "alice", "sip:0470123456@example.org")
            .with_password("alice", "wrong");
        let invite = guess.invite(OFFER);
        w.send(guess.at, &invite);
        let Some(crate::sip::message::Message::Response(challenge)) = w.next(guess.at) else { continue };
        if challenge.status == 401 {
            let again = guess.with_credentials(&invite, &challenge);
            w.send(guess.at, &again);
        }
        w.heard(ALICE);
    }
    w.heard(ALICE);
    let caller = w.dial("alice", "112");
    let helper = asked(&mut w, A);
    helped(&mut w, caller, &helper);
}
