//! The end of an answered call: who may end it, and that nobody hears of it before it is on disk.

use super::far::Side;
use super::world::*;
use crate::sip::message::{HeaderName, Method, Typed};
use crate::types::{EndCause, ReleasedBy};

#[test]
fn a_bye_is_answered_once_the_end_is_on_disk_and_the_voices_stop_at_once() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.journal.end = Verdict::Durable(ms(300));
    w.pass(secs(5));
    w.bye(&mut alice);
    assert!(w.leg(0).closed && w.leg(1).closed);
    assert_eq!(w.heard(A), ["BYE"]);
    w.ok(&callee, Method::Bye);
    w.pass(ms(299));
    assert!(w.heard(ALICE).is_empty());
    w.pass(ms(1));
    assert_eq!(w.heard(ALICE), ["200 BYE"]);
    assert_eq!(w.finish().duration_ms, 5_000);
}

#[test]
fn a_callees_bye_waits_for_the_disk_as_well() {
    let mut w = World::new();
    let (alice, mut callee) = w.talking();
    w.journal.end = Verdict::Durable(ms(300));
    w.bye(&mut callee);
    assert_eq!(w.heard(ALICE), ["BYE"]);
    assert!(w.heard(A).is_empty());
    w.pass(ms(300));
    assert_eq!(w.heard(A), ["200 BYE"]);
    w.ok(&alice, Method::Bye);
    assert_eq!(w.finish().released_by, Some(ReleasedBy::Callee));
}

#[test]
fn a_repeated_bye_is_absorbed_while_it_waits() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.journal.end = Verdict::Durable(secs(2));
    let bye = alice.request(Method::Bye);
    w.send(alice.at, &bye);
    w.pass(ms(500));
    w.send(alice.at, &bye);
    w.pass(secs(2));
    w.send(alice.at, &bye);
    assert_eq!(w.heard(ALICE), ["200 BYE", "200 BYE"], "once, and once more for the repetition after it");
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn both_ends_may_hang_up_at_once() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    w.bye(&mut alice);
    w.bye(&mut callee);
    assert_eq!(w.heard(ALICE), ["200 BYE"]);
    assert_eq!(w.heard(A), ["BYE", "200 BYE"]);
    w.ok(&callee, Method::Bye);
    assert_eq!(w.finish().released_by, Some(ReleasedBy::Caller));
}

#[test]
fn a_far_end_that_never_answers_our_bye_is_forgotten_after_64_t1() {
    let mut w = World::new();
    let (mut alice, _) = w.talking();
    w.bye(&mut alice);
    let since = w.now.instant;
    w.pass(secs(31));
    assert!(w.exchange.calls().next().is_some());
    w.pass(secs(1));
    assert!(w.exchange.calls().next().is_none());
    assert_eq!(w.sent_times(A, "BYE", since)[..4], [0, 500, 1_500, 3_500]);
    w.finish();
}

#[test]
fn the_reason_travels_with_the_bye() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.bye(&mut alice);
    let bye = w.request(callee.at, Method::Bye);
    assert_eq!(bye.headers.get(&HeaderName::Reason), Some("Q.850;cause=16;text=\"Normal call clearing\""));
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn a_caller_may_end_an_early_dialog_with_bye() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    let ringing = w.response(alice.at, 180);
    alice.learn(&ringing);
    w.bye(&mut alice);
    assert_eq!(w.heard(ALICE), ["200 BYE", "487"]);
    assert_eq!(w.heard(A), ["CANCEL"]);
    w.reply(&callee, 487);
    assert_eq!(w.finish().end_cause, Some(EndCause::CallerCancelled));
}

#[test]
fn a_callee_that_has_not_answered_has_nothing_to_hang_up() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let mut callee = w.invited(A);
    w.reply(&callee, 180);
    w.bye(&mut callee);
    assert_eq!(w.heard(A), ["481 BYE"]);
    assert_eq!(w.heard(ALICE), ["180"], "it still rings");
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_callee_that_tires_of_waiting_for_its_ack_ends_the_call() {
    let mut w = World::new();
    w.journal.answer = Verdict::Hangs;
    let alice = w.dial("alice", "0470123456");
    let mut callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    w.pass(secs(32));
    w.bye(&mut callee);
    assert_eq!(w.heard(A), ["200 BYE"]);
    w.refused(&alice, 480);
    w.finish();
}

#[test]
fn a_stranger_can_not_hang_up_though_it_knows_the_tags() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let bye = alice.request(Method::Bye);
    w.send(STRANGER.parse().unwrap(), &bye);
    assert_eq!(w.heard(STRANGER), ["403 BYE"]);
    assert!(w.call().is_live());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_wrong_tag_names_no_dialog() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    let mut guess = alice.request(Method::Bye);
    let from = alice.own.clone().with_tag("other");
    guess.headers.set(HeaderName::From, from.to_string());
    w.send(alice.at, &guess);
    assert_eq!(w.heard(ALICE), ["481 BYE"]);
    let mut guess = alice.request(Method::Bye);
    guess.headers.set(HeaderName::CallId, "another");
    w.send(alice.at, &guess);
    assert_eq!(w.heard(ALICE), ["481 BYE"]);
    assert!(w.call().is_live());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_old_number_is_out_of_order() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    alice.cseq = 0;
    w.bye(&mut alice);
    assert_eq!(w.heard(ALICE), ["500 BYE"]);
    alice.cseq = 10;
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn another_address_of_the_same_trunk_may_hang_up() {
    let mut w = World::with(|config| {
        config.trunks[0].peers = vec![crate::routing::PeerMatch::Cidr("203.0.113.0/29".parse().unwrap())];
        config.trunks[0].match_host = Some("gw.example".into());
    });
    let (alice, mut callee) = w.talking();
    let bye = callee.request(Method::Bye);
    w.send(A2.parse().unwrap(), &bye);
    assert_eq!(w.heard(A2), ["200 BYE"]);
    assert_eq!(w.heard(ALICE), ["BYE"]);
    w.ok(&alice, Method::Bye);
    w.finish();
}

#[test]
fn a_device_that_moved_is_believed_once_it_has_registered_there() {
    let mut w = World::new();
    let (mut caller, mut bob) = w.talking_in();
    let moved = "198.51.100.99:5060";
    let bye = bob.request(Method::Bye);
    w.send(moved.parse().unwrap(), &bye);
    assert_eq!(w.heard(moved), ["403 BYE"]);
    w.register("bob", moved);
    let bye = bob.request(Method::Bye);
    w.send(moved.parse().unwrap(), &bye);
    assert_eq!(w.heard(moved), ["200 BYE"]);
    w.request(caller.at, Method::Bye);
    w.ok(&caller, Method::Bye);
    caller.cseq += 1;
    w.finish();
}

#[test]
fn counts_that_come_late_do_not_hold_the_record_back() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    w.media.closes_after = Some(secs(3));
    w.bye(&mut alice);
    w.ok(&callee, Method::Bye);
    w.pass(ms(499));
    assert!(w.heard(ALICE).is_empty());
    w.pass(ms(1));
    assert_eq!(w.heard(ALICE), ["200 BYE"]);
    w.finish();
}

#[test]
fn the_gateways_operator_hangs_up_on_both() {
    let mut w = World::new();
    let (alice, callee) = w.talking();
    let id = w.call().id;
    assert!(w.exchange.hang_up(w.now, id, EndCause::AdminHangup));
    w.settle();
    assert_eq!(w.heard(ALICE), ["BYE"]);
    assert_eq!(w.heard(A), ["BYE"]);
    w.ok(&alice, Method::Bye);
    w.ok(&callee, Method::Bye);
    assert!(!w.exchange.hang_up(w.now, id, EndCause::AdminHangup));
    let cdr = w.finish();
    assert_eq!((cdr.end_cause, cdr.released_by), (Some(EndCause::AdminHangup), Some(ReleasedBy::Gateway)));
}

#[test]
fn the_gateways_operator_ends_a_call_that_rings() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply(&callee, 180);
    w.exchange.hang_up_all(w.now, EndCause::Drained);
    w.settle();
    assert_eq!(w.heard(A), ["CANCEL"]);
    w.refused(&alice, 503);
    w.finish();
}

#[test]
fn requests_inside_a_call_that_are_not_served_say_so() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    for (method, name) in
        [(Method::Subscribe, "405 SUBSCRIBE"), (Method::Options, "200 OPTIONS"), (Method::Info, "200 INFO")]
    {
        let request = alice.request(method);
        w.send(alice.at, &request);
        assert_eq!(w.heard(ALICE), [name]);
    }
    let info = alice.request(Method::Info).with_body("application/dtmf-relay", "Signal=1\r\n");
    w.send(alice.at, &info);
    assert_eq!(w.heard(ALICE), ["415 INFO"]);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn who_keeps_a_call_alive_by_options_learns_that_it_is_gone() {
    let mut w = World::new();
    let (mut alice, mut callee) = w.talking();
    for side in [&mut alice, &mut callee] {
        let options = side.request(Method::Options);
        w.send(side.at, &options);
    }
    assert_eq!((w.heard(ALICE), w.heard(A)), (vec!["200 OPTIONS".into()], vec!["200 OPTIONS".into()]));
    w.hang_up(&mut alice, &callee);
    w.finish();
    // The second gateway is the first one after a restart.
    for mut gateway in [w, World::new()] {
        for side in [&mut alice, &mut callee] {
            gateway.inbox(side.at).clear();
            let options = side.request(Method::Options);
            gateway.send(side.at, &options);
            assert_eq!(gateway.any_response(side.at).status, 481);
        }
    }
}

#[test]
fn a_lost_connection_does_not_end_the_call() {
    let mut w = World::new();
    let connection = w.over_tcp(ALICE);
    let (alice, mut callee): (Side, Side) = w.talking();
    w.input(crate::call::Input::ConnectionClosed { connection });
    w.pass(secs(60));
    assert!(w.call().is_live());
    w.bye(&mut callee);
    w.ok(&alice, Method::Bye);
    assert_eq!(w.last_request(alice.at, &Method::Bye).method.as_str(), "BYE");
    let _ = alice.invite.call_id();
    w.finish();
}
