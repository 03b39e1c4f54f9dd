//! Progress that has to arrive, on both sides (RFC 3262), and forks that each have a dialog of their own.

use super::far::Side;
use super::world::*;
use crate::config::{Config, Prack};
use crate::sip::message::{HeaderName, Method, RAck, Request, Typed};
use crate::types::{AudioCodec, EndCause, ReleasedBy};

fn supported(config: &mut Config) {
    config.trunks[0].prack = Prack::Supported;
    config.trunks[1].prack = Prack::Supported;
}

fn knows(invite: &mut Request) {
    invite.headers.push(HeaderName::Supported, "100rel");
}

/// A callee's reliable response.
fn reliably(w: &mut World, callee: &Side, status: u16, sdp: &str, rseq: &str) {
    w.reply_saying(callee, status, sdp, &[(HeaderName::Require, "100rel"), (HeaderName::RSeq, rseq)]);
}

/// The PRACK a caller sends; the status it gets.
fn prack(w: &mut World, caller: &mut Side, rseq: u32, sdp: &str) -> u16 {
    let request = caller.prack(rseq, sdp);
    w.send(caller.at, &request);
    w.any_response(caller.at).status
}

#[test]
fn a_trunks_reliable_progress_is_acknowledged_once_and_its_description_is_the_answer() {
    let mut w = World::with(supported);
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    assert!(callee.invite.supports("100rel") && !callee.invite.requires("100rel"));
    reliably(&mut w, &callee, 183, ANSWER, "41");
    let prack = w.request(callee.at, Method::Prack);
    assert_eq!(prack.rack(), Some(RAck { rseq: 41, cseq: 1, method: Method::Invite }));
    assert_eq!((prack.cseq().unwrap().number, prack.to_tag()), (2, callee.own.tag()));
    // Repeated before the PRACK came: the PRACK's own transaction repeats that.
    reliably(&mut w, &callee, 183, ANSWER, "41");
    assert!(w.heard(A).is_empty());
    w.send(callee.at, callee.response(&prack, 200));
    assert!(!w.response(alice.at, 183).body.is_empty());
    w.reply(&callee, 200);
    assert_eq!(w.heard(A), ["ACK"]);
    w.ack(&mut alice);
    assert_eq!(w.leg(1).config.as_ref().unwrap().codec, AudioCodec::Pcma);
    w.bye(&mut alice);
    let bye = w.request(callee.at, Method::Bye);
    assert_eq!(bye.cseq().unwrap().number, 3, "the early dialog's numbers go on");
    w.send(callee.at, callee.response(&bye, 200));
    w.finish();
}

#[test]
fn progress_out_of_order_is_not_acknowledged() {
    let mut w = World::with(supported);
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    reliably(&mut w, &callee, 180, "", "7");
    w.request(callee.at, Method::Prack);
    w.ok(&callee, Method::Prack);
    reliably(&mut w, &callee, 183, ANSWER, "9");
    assert!(w.heard(A).is_empty());
    reliably(&mut w, &callee, 181, "", "8");
    let prack = w.request(callee.at, Method::Prack);
    assert_eq!((prack.rack().unwrap().rseq, prack.cseq().unwrap().number), (8, 3));
    w.ok(&callee, Method::Prack);
    reliably(&mut w, &callee, 183, ANSWER, "9");
    w.request(callee.at, Method::Prack);
    w.ok(&callee, Method::Prack);
    assert_eq!(w.heard(ALICE), ["180", "181", "183"]);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_trunk_that_must_have_it_is_required_and_a_call_of_its_without_is_refused() {
    let required = |config: &mut Config| config.trunks[0].prack = Prack::Required;
    let mut w = World::with(required);
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    assert!(callee.invite.requires("100rel"));
    w.cancel(&alice);
    let caller = w.call_in(A, "+3225550002");
    let refusal = w.refused(&caller, 421);
    assert!(refusal.requires("100rel"));
    w.finish_all();
}

#[test]
fn where_it_is_off_nobody_is_offered_it_and_who_needs_it_is_refused() {
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    assert!(!callee.invite.supports("100rel"));
    reliably(&mut w, &callee, 183, ANSWER, "1");
    assert!(w.heard(A).is_empty());
    w.cancel(&alice);
    w.heard(A);
    let caller = w.call_in_with(A, "+3225550002", OFFER, |invite| {
        invite.headers.push(HeaderName::Require, "100rel");
    });
    let refusal = w.refused(&caller, 420);
    assert_eq!(refusal.headers.get(&HeaderName::Unsupported), Some("100rel"));
    w.register("bob", BOB);
    let caller = w.call_in_with(A, "+3225550002", OFFER, knows);
    let bob = w.invited(BOB);
    w.reply(&bob, 180);
    assert_eq!(w.response(caller.at, 180).rseq(), None);
    w.cancel(&caller);
    w.finish_all();
}

#[test]
fn progress_is_repeated_until_its_prack_comes() {
    let mut w = World::with(supported);
    w.register("bob", BOB);
    let mut caller = w.call_in_with(A, "+3225550002", OFFER, knows);
    let bob = w.invited(BOB);
    w.pass(ms(1));
    let since = w.now.instant;
    w.reply(&bob, 180);
    let ringing = w.response(caller.at, 180);
    assert!(ringing.requires("100rel"));
    w.pass(secs(4));
    assert_eq!(w.sent_times(A, "180", since), [0, 500, 1_500, 3_500]);
    w.inbox(caller.at).clear();
    caller.learn(&ringing);
    let rseq = ringing.rseq().unwrap();
    assert_eq!(prack(&mut w, &mut caller, rseq + 1, ""), 481);
    assert_eq!(prack(&mut w, &mut caller, rseq, ""), 200);
    w.pass(secs(40));
    assert!(w.heard(A).is_empty());
    w.reply_with(&bob, 200, OPUS_ANSWER);
    w.ack(&mut caller);
    w.heard(BOB);
    w.hang_up(&mut caller, &bob);
    w.finish();
}

#[test]
fn a_prack_without_rack_is_a_bad_request() {
    let mut w = World::with(supported);
    let mut caller = w.call_in_with(A, "+31201234567", OFFER, knows);
    let callee = w.invited(B);
    w.reply(&callee, 180);
    let ringing = w.response(caller.at, 180);
    caller.learn(&ringing);
    let bare = caller.request(Method::Prack);
    w.send(caller.at, &bare);
    assert_eq!(w.heard(A), ["400 PRACK"]);
    w.cancel(&caller);
    w.finish();
}

#[test]
fn one_response_at_a_time_is_on_its_way_and_the_newest_follows() {
    let mut w = World::with(supported);
    let mut caller = w.call_in_with(A, "+31201234567", OFFER, knows);
    let callee = w.invited(B);
    w.reply(&callee, 180);
    let first = w.response(caller.at, 180);
    w.reply(&callee, 181);
    w.reply_with(&callee, 183, ANSWER);
    assert!(w.heard(A).is_empty());
    caller.learn(&first);
    assert_eq!(prack(&mut w, &mut caller, first.rseq().unwrap(), ""), 200);
    let second = w.response(caller.at, 183);
    assert_eq!(second.rseq(), first.rseq().map(|rseq| rseq + 1));
    assert!(!second.body.is_empty());
    w.cancel(&caller);
    w.finish();
}

#[test]
fn an_answer_waits_for_the_prack_of_the_description_and_does_not_repeat_it() {
    let mut w = World::with(supported);
    let mut caller = w.call_in_with(A, "+31201234567", OFFER, knows);
    let callee = w.invited(B);
    w.reply_with(&callee, 183, ANSWER);
    let progress = w.response(caller.at, 183);
    assert!(!progress.body.is_empty());
    w.reply_with(&callee, 200, ANSWER);
    assert_eq!(w.heard(B), ["ACK"]);
    assert!(w.heard(A).is_empty(), "RFC 3262 §3: no 2xx before that PRACK");
    caller.learn(&progress);
    assert_eq!(prack(&mut w, &mut caller, progress.rseq().unwrap(), ""), 200);
    let answer = w.ack(&mut caller);
    assert!(answer.body.is_empty(), "there is one answer to an offer");
    assert_eq!(w.media.bridges, 1);
    w.hang_up(&mut caller, &callee);
    w.finish();
}

#[test]
fn an_answer_does_not_wait_for_the_prack_of_bare_ringing() {
    let mut w = World::with(supported);
    let mut caller = w.call_in_with(A, "+31201234567", OFFER, knows);
    let callee = w.invited(B);
    w.reply(&callee, 180);
    let ringing = w.response(caller.at, 180);
    w.reply_with(&callee, 200, ANSWER);
    let answer = w.ack(&mut caller);
    assert!(!answer.body.is_empty());
    assert_eq!(prack(&mut w, &mut caller, ringing.rseq().unwrap(), ""), 200, "late, and still understood");
    w.heard(B);
    w.hang_up(&mut caller, &callee);
    w.finish();
}

#[test]
fn progress_that_never_arrives_ends_the_attempt() {
    let mut w = World::with(supported);
    let caller = w.call_in_with(A, "+31201234567", OFFER, knows);
    let callee = w.invited(B);
    w.reply(&callee, 180);
    w.pass(secs(32));
    assert_eq!(w.heard(B), ["CANCEL"]);
    w.ok(&callee, Method::Cancel);
    w.reply(&callee, 487);
    w.refused(&caller, 504);
    assert_eq!(w.finish().end_cause, Some(EndCause::NoPrack));
}

#[test]
fn a_caller_that_gives_up_while_its_answer_waits_hears_that_it_did() {
    let mut w = World::with(supported);
    let caller = w.call_in_with(A, "+31201234567", OFFER, knows);
    let callee = w.invited(B);
    w.reply_with(&callee, 183, ANSWER);
    w.reply_with(&callee, 200, ANSWER);
    w.cancel(&caller);
    assert_eq!(w.heard(B), ["ACK", "BYE"]);
    w.ok(&callee, Method::Bye);
    w.inbox(caller.at).retain(|message| super::far::name(message) == "487");
    w.refused(&caller, 487);
    let cdr = w.finish();
    assert_eq!(cdr.end_cause, Some(EndCause::NormalClearing));
    assert_eq!(cdr.released_by, Some(ReleasedBy::Caller));
}

#[test]
fn without_an_offer_ours_stands_in_the_first_reliable_response_and_the_prack_brings_the_answer() {
    let mut w = World::with(supported);
    let mut caller = w.call_in_with(A, "+31201234567", "", knows);
    let callee = w.invited(B);
    w.reply_with(&callee, 183, ANSWER);
    let progress = w.response(caller.at, 180);
    assert!(String::from_utf8_lossy(&progress.body).contains("PCMA"));
    caller.learn(&progress);
    assert_eq!(prack(&mut w, &mut caller, progress.rseq().unwrap(), ANSWER), 200);
    assert_eq!(w.leg(0).config.as_ref().unwrap().remote_rtp.port(), 6000);
    assert_eq!(w.media.bridges, 1, "its early media is heard");
    w.reply_with(&callee, 200, ANSWER);
    let answer = w.ack(&mut caller);
    assert!(answer.body.is_empty());
    w.heard(B);
    w.hang_up(&mut caller, &callee);
    w.finish();
}

#[test]
fn a_prack_without_the_answer_it_owes_ends_the_call() {
    let mut w = World::with(supported);
    let mut caller = w.call_in_with(A, "+31201234567", "", knows);
    let callee = w.invited(B);
    w.reply(&callee, 180);
    let progress = w.response(caller.at, 180);
    caller.learn(&progress);
    assert_eq!(prack(&mut w, &mut caller, progress.rseq().unwrap(), ""), 200);
    w.refused(&caller, 488);
    assert_eq!(w.heard(B), ["CANCEL"]);
    assert_eq!(w.finish().end_cause, Some(EndCause::NotAcceptable));
}

#[test]
fn a_prack_may_bring_another_offer() {
    let mut w = World::with(supported);
    let mut caller = w.call_in_with(A, "+31201234567", OFFER, knows);
    let callee = w.invited(B);
    w.reply_with(&callee, 183, ANSWER);
    let progress = w.response(caller.at, 183);
    caller.learn(&progress);
    let moved = OFFER.replace("4000", "4004");
    assert_eq!(prack(&mut w, &mut caller, progress.rseq().unwrap(), &moved), 200);
    assert_eq!(w.leg(0).config.as_ref().unwrap().remote_rtp.port(), 4004);
    w.cancel(&caller);
    w.finish();
}

#[test]
fn an_app_gets_reliable_progress_where_it_insists() {
    let mut w = World::new();
    let mut alice = w.dial_with("alice", "0470123456", OFFER, |invite| {
        invite.headers.push(HeaderName::Require, "100rel");
    });
    let callee = w.invited(A);
    w.reply(&callee, 180);
    let ringing = w.response(alice.at, 180);
    alice.learn(&ringing);
    assert_eq!(prack(&mut w, &mut alice, ringing.rseq().unwrap(), ""), 200);
    w.reply_with(&callee, 200, ANSWER);
    w.ack(&mut alice);
    w.heard(A);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

/// A second fork of the INVITE that came to a side.
fn fork(callee: &Side, tag: &str) -> Side {
    Side::called(callee.at, callee.invite.clone(), tag, "UDP")
}

#[test]
fn each_fork_is_acknowledged_in_its_own_dialog_and_the_last_description_is_heard() {
    let mut w = World::with(supported);
    let mut alice = w.dial("alice", "0470123456");
    let one = w.invited(A);
    let two = fork(&one, "other");
    reliably(&mut w, &one, 183, ANSWER, "10");
    reliably(&mut w, &two, 183, &ANSWER.replace("6000", "6100"), "900");
    for (side, rseq) in [(&one, 10), (&two, 900)] {
        let prack = w.request(side.at, Method::Prack);
        assert_eq!((prack.rack().unwrap().rseq, prack.to_tag()), (rseq, side.own.tag()));
        assert_eq!(prack.cseq().unwrap().number, 2);
        w.send(side.at, side.response(&prack, 200));
    }
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6100);
    // The first one answers, and needs no description for that: its own was reliable.
    w.reply(&one, 200);
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6000);
    assert_eq!(w.heard(A), ["ACK"]);
    w.ack(&mut alice);
    // The other one answers too: acknowledged and hung up, with a number above its PRACK's.
    w.reply(&two, 200);
    let ack = w.request(two.at, Method::Ack);
    let bye = w.request(two.at, Method::Bye);
    assert_eq!((ack.to_tag(), bye.to_tag()), (Some("other"), Some("other")));
    assert_eq!(bye.cseq().unwrap().number, 3);
    w.send(two.at, two.response(&bye, 200));
    assert!(w.call().is_live());
    w.hang_up(&mut alice, &one);
    w.finish();
}

#[test]
fn forks_without_reliability_behave_alike() {
    let mut w = World::new();
    let mut alice = w.dial("alice", "0470123456");
    let one = w.invited(A);
    let two = fork(&one, "other");
    w.reply_with(&one, 183, ANSWER);
    w.reply(&two, 180);
    w.reply_with(&two, 183, &ANSWER.replace("6000", "6100"));
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6100);
    w.reply(&one, 200);
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6000, "who answers decides");
    w.ack(&mut alice);
    w.heard(A);
    w.reply_with(&two, 200, &ANSWER.replace("6000", "6100"));
    assert_eq!(w.heard(A), ["ACK", "BYE"]);
    assert_eq!(w.leg(1).config.as_ref().unwrap().remote_rtp.port(), 6000);
    w.hang_up(&mut alice, &one);
    w.finish();
}

fn port(w: &World) -> u16 {
    w.leg(1).config.as_ref().unwrap().remote_rtp.port()
}

#[test]
fn what_a_fork_has_changed_by_update_counts_when_it_answers_though_another_one_was_heard_meanwhile() {
    for said in ["", ANSWER] {
        let mut w = World::with(supported);
        let mut alice = w.dial("alice", "0470123456");
        let mut one = w.invited(A);
        let two = fork(&one, "other");
        reliably(&mut w, &one, 183, ANSWER, "10");
        w.ok(&one, Method::Prack);
        w.heard(A);
        let moved = ANSWER.replace("6000", "6002");
        let update = one.request(Method::Update).with_body("application/sdp", moved);
        w.send(one.at, &update);
        w.response(one.at, 200);
        assert_eq!(port(&w), 6002);
        w.reply_with(&two, 183, &ANSWER.replace("6000", "6100"));
        assert_eq!(port(&w), 6100);
        w.reply_saying(&one, 200, said, &[]);
        assert_eq!(port(&w), 6002);
        assert_eq!(w.heard(A), ["ACK"]);
        w.ack(&mut alice);
        w.hang_up(&mut alice, &one);
        w.finish();
    }
}

#[test]
fn after_a_reliable_answer_no_other_description_of_its_fork_counts() {
    let mut w = World::with(supported);
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    reliably(&mut w, &callee, 183, ANSWER, "10");
    w.ok(&callee, Method::Prack);
    w.heard(A);
    for (status, other) in [(180, "6004"), (200, "6006")] {
        w.reply_with(&callee, status, &ANSWER.replace("6000", other));
        assert_eq!((port(&w), w.leg(1).configured), (6000, 1));
    }
    w.ack(&mut alice);
    w.heard(A);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn who_settled_its_description_and_might_not_be_heard_is_heard_once_it_answers() {
    let mut w = World::with(|config| {
        supported(config);
        config.trunks[0].early_media = false;
    });
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    reliably(&mut w, &callee, 183, ANSWER, "10");
    w.ok(&callee, Method::Prack);
    w.heard(A);
    assert!(w.leg(1).config.is_none());
    w.reply(&callee, 200);
    assert_eq!(port(&w), 6000);
    w.ack(&mut alice);
    w.heard(A);
    w.hang_up(&mut alice, &callee);
    w.finish();
}
