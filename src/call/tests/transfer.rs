//! Calls that are moved on: by whom, to whom, at whose cost (RFC 3515, RFC 3891, RFC 5589).

use super::far::Side;
use super::world::*;
use crate::billing::Cdr;
use crate::call::event::Event;
use crate::config::Transfer;
use crate::sip::message::{HeaderName, Message, Method, Request, Typed};
use crate::types::{Direction, EndCause, ReleasedBy};

/// A user's phone sends a REFER and proves itself; the final status.
pub(super) fn refer(w: &mut World, side: &mut Side, to: &str) -> u16 {
    refer_saying(w, side, to, &[])
}

/// The same with more fields.
pub(super) fn refer_saying(w: &mut World, side: &mut Side, to: &str, fields: &[(HeaderName, &str)]) -> u16 {
    let mut request = side.request(Method::Refer).with_header(HeaderName::ReferTo, to);
    fields.iter().for_each(|(name, value)| request.headers.push(name.clone(), *value));
    w.send(side.at, &request);
    let answer = w.any_response(side.at);
    if answer.status != 401 {
        return answer.status;
    }
    let again = side.with_credentials(&request, &answer);
    w.send(side.at, &again);
    w.any_response(side.at).status
}

/// The next report a transferor gets, answered: its fragment and whether it is the last.
pub(super) fn report(w: &mut World, side: &Side) -> (String, bool) {
    let notify = w.request(side.at, Method::Notify);
    w.send(side.at, side.response(&notify, 200));
    assert!(notify.headers.get(&HeaderName::Event).is_some_and(|event| event.starts_with("refer")));
    assert_eq!(notify.content_type(), Some("message/sipfrag"));
    let over = notify.headers.get(&HeaderName::SubscriptionState).unwrap().starts_with("terminated");
    (String::from_utf8(notify.body.to_vec()).unwrap().trim_end().to_owned(), over)
}

fn cdr(w: &World, wanted: impl Fn(&Cdr) -> bool) -> Cdr {
    let found: Vec<_> = w.ends().into_iter().filter(|cdr| wanted(cdr)).cloned().collect();
    assert_eq!(found.len(), 1, "one such record");
    found[0].clone()
}

/// The re-INVITE that tells a side of the one it talks to now, answered; its direction.
fn retold(w: &mut World, side: &Side, sdp: &str) -> String {
    let request = w.request(side.at, Method::Invite);
    w.send(side.at, side.response(&request, 200).with_body("application/sdp", sdp.to_owned()));
    w.request(side.at, Method::Ack);
    let text = String::from_utf8(request.body.to_vec()).unwrap();
    let names = ["sendrecv", "sendonly", "recvonly", "inactive"];
    names.into_iter().find(|name| text.contains(&format!("a={name}"))).unwrap().to_owned()
}

#[test]
fn a_user_moves_its_call_to_another_user_and_both_calls_have_their_record() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (alice, callee) = w.talking();
    let mut alice = alice;
    w.pass(secs(10));
    assert_eq!(refer(&mut w, &mut alice, "<sip:carol@example.org>"), 202);
    assert_eq!(report(&mut w, &alice), ("SIP/2.0 100 Trying".into(), false));
    let carol = w.invited(CAROL);
    assert_eq!(carol.invite.headers.get(&HeaderName::ReferredBy), Some("<sip:alice@example.org>"));
    w.reply(&carol, 180);
    assert_eq!(report(&mut w, &alice), ("SIP/2.0 180 Ringing".into(), false));
    assert!(w.heard(A).is_empty(), "who is moved notices nothing yet");
    w.reply_with(&carol, 200, OPUS_ANSWER);
    assert_eq!(w.heard(CAROL), ["ACK"]);
    assert_eq!(report(&mut w, &alice), ("SIP/2.0 200 OK".into(), true));
    w.ok(&alice, Method::Bye);
    let remaining = w.media.legs.iter().find(|(_, media)| !media.closed && media.bridged_to.is_some());
    let (leg, media) = remaining.unwrap();
    assert_ne!(leg.call, media.bridged_to.unwrap().call, "the voices of two calls are joined");
    w.pass(secs(20));
    let mut callee = callee;
    w.bye(&mut callee);
    assert_eq!(w.heard(A), ["200 BYE"]);
    w.ok(&carol, Method::Bye);
    w.finish_all();
    let first = cdr(&w, |cdr| cdr.transfer_of.is_none());
    let second = cdr(&w, |cdr| cdr.transfer_of == Some(first.id));
    assert_eq!((first.duration_ms, second.duration_ms), (30_000, 20_000));
    assert_eq!((first.direction, second.direction), (Direction::AppToTrunk, Direction::AppToApp));
    assert_eq!((first.released_by, second.released_by), (Some(ReleasedBy::Callee), Some(ReleasedBy::Caller)));
    for cdr in [first, second] {
        assert_eq!(cdr.end_cause, Some(EndCause::NormalClearing));
        assert_eq!(
            (cdr.caller.user.as_deref(), cdr.caller.account.as_deref()),
            (Some("alice"), Some("alice"))
        );
    }
}

#[test]
fn a_call_that_was_held_for_the_transfer_is_taken_back() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (mut alice, callee) = w.talking();
    let hold = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &hold);
    w.ack(&mut alice);
    assert_eq!(retold(&mut w, &callee, &directed(ANSWER, "recvonly")), "sendonly");
    assert_eq!(refer(&mut w, &mut alice, "<sip:carol@example.org>"), 202);
    let carol = w.invited(CAROL);
    w.reply_with(&carol, 200, OPUS_ANSWER);
    w.heard(CAROL);
    assert_eq!(retold(&mut w, &callee, ANSWER), "sendrecv");
    w.ok(&alice, Method::Bye);
    // Who talks now is watched, though the one that has left held to its end.
    let talking: Vec<_> = w.media.legs.values().filter(|leg| !leg.closed).collect();
    assert_eq!(talking.len(), 2);
    assert!(talking.iter().all(|leg| leg.conversing && leg.timeout == Some(secs(30))));
    // A hold of the target is told through both calls.
    let mut carol = carol;
    let hold = carol.invite(&directed(OPUS_ANSWER, "sendonly"));
    w.send(carol.at, &hold);
    w.ack(&mut carol);
    assert_eq!(retold(&mut w, &callee, &directed(ANSWER, "recvonly")), "sendonly");
    w.bye(&mut carol);
    w.ok(&callee, Method::Bye);
    w.finish_all();
}

#[test]
fn a_target_that_does_not_answer_leaves_the_call_as_it_was() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (mut alice, callee) = w.talking();
    assert_eq!(refer(&mut w, &mut alice, "<sip:carol@example.org>"), 202);
    report(&mut w, &alice);
    let carol = w.invited(CAROL);
    w.reply(&carol, 486);
    assert_eq!(report(&mut w, &alice), ("SIP/2.0 486 Busy Here".into(), true));
    assert!(w.call().is_live(), "there is one call, and it goes on");
    // The next try is told apart by its number (RFC 3515 §2.4.6).
    assert_eq!(refer(&mut w, &mut alice, "<sip:nobody@example.org>"), 202);
    let notify = w.last_request(alice.at, &Method::Notify);
    assert!(notify.headers.get(&HeaderName::Event).unwrap().starts_with("refer;id="));
    w.inbox(alice.at).clear();
    w.hang_up(&mut alice, &callee);
    w.finish_all();
    assert_eq!(w.ends().len(), 3);
}

#[test]
fn a_transferor_may_hang_up_at_once() {
    for answers in [true, false] {
        let mut w = World::new();
        w.register("carol", CAROL);
        let (mut alice, callee) = w.talking();
        assert_eq!(refer(&mut w, &mut alice, "<sip:carol@example.org>"), 202);
        w.inbox(alice.at).clear();
        w.bye(&mut alice);
        assert_eq!(w.heard(ALICE), ["200 BYE"]);
        assert!(w.heard(A).is_empty());
        let mut carol = w.invited(CAROL);
        if answers {
            w.reply_with(&carol, 200, OPUS_ANSWER);
            w.heard(CAROL);
            w.bye(&mut carol);
        } else {
            w.reply(&carol, 603);
        }
        w.ok(&callee, Method::Bye);
        w.finish_all();
        assert_eq!(w.ends().len(), 2);
    }
}

#[test]
fn who_is_to_be_moved_may_hang_up_meanwhile() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (mut alice, mut callee) = w.talking();
    assert_eq!(refer(&mut w, &mut alice, "<sip:carol@example.org>"), 202);
    let carol = w.invited(CAROL);
    w.reply(&carol, 180);
    w.bye(&mut callee);
    assert_eq!(w.heard(CAROL), ["CANCEL"]);
    w.reply(&carol, 487);
    w.ok(&alice, Method::Bye);
    w.finish_all();
    assert_eq!(w.ends().len(), 2);
}

#[test]
fn a_transfer_to_a_phone_number_is_charged_to_the_one_who_asked() {
    let mut w = World::new();
    let (mut caller, mut bob) = w.talking_in();
    bob = bob.with_password("bob", "bob-secret");
    w.pass(secs(5));
    assert_eq!(refer(&mut w, &mut bob, "<sip:0499123456@example.org>"), 202);
    let callee = w.invited(A);
    assert_eq!(callee.invite.uri.user(), "+32499123456");
    assert_eq!(callee.invite.headers.get(&HeaderName::ReferredBy), None);
    w.reply_with(&callee, 200, ANSWER);
    w.heard(A);
    w.ok(&bob, Method::Bye);
    w.pass(secs(5));
    w.bye(&mut caller);
    w.ok(&callee, Method::Bye);
    w.finish_all();
    let second = cdr(&w, |cdr| cdr.transfer_of.is_some());
    assert_eq!(second.direction, Direction::AppToTrunk);
    assert_eq!(second.caller.account.as_deref(), Some("bob"));
    assert_eq!(second.duration_ms, 5_000);
    let first = cdr(&w, |cdr| cdr.transfer_of.is_none());
    assert_eq!((first.direction, first.duration_ms), (Direction::TrunkToApp, 10_000));
}

#[test]
fn what_the_dialplan_and_the_limits_refuse_is_refused_to_a_transfer_too() {
    let mut w = World::with(|config| config.limits.max_calls_per_user = 1);
    let (mut alice, callee) = w.talking();
    assert_eq!(refer(&mut w, &mut alice, "<sip:090012345@example.org>"), 202);
    report(&mut w, &alice);
    assert_eq!(report(&mut w, &alice), ("SIP/2.0 403 Forbidden".into(), true));
    assert_eq!(refer(&mut w, &mut alice, "<sip:0499123456@example.org>"), 202);
    report(&mut w, &alice);
    assert_eq!(report(&mut w, &alice), ("SIP/2.0 403 Forbidden".into(), true));
    assert!(w.heard(A).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish_all();
    let causes: Vec<_> = w.ends().iter().filter_map(|cdr| cdr.end_cause).collect();
    assert_eq!(causes, [EndCause::Blocked, EndCause::UserLimit, EndCause::NormalClearing]);
}

#[test]
fn who_does_not_know_the_password_moves_nothing() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (mut alice, callee) = w.talking();
    // The address is right, the tags are right.
    let request =
        alice.request(Method::Refer).with_header(HeaderName::ReferTo, "<sip:0499123456@example.org>");
    w.send(alice.at, &request);
    assert_eq!(w.heard(ALICE), ["401 REFER"]);
    // Another user's password is no better.
    let mut forger =
        Side::called(alice.at, alice.invite.clone(), "x", "UDP").with_password("carol", "carol-secret");
    forger.cseq = alice.cseq;
    let request =
        alice.request(Method::Refer).with_header(HeaderName::ReferTo, "<sip:0499123456@example.org>");
    w.send(alice.at, &request);
    let challenge = w.response(alice.at, 401);
    let again = forger.with_credentials(&request, &challenge);
    let mut again = Request { method: Method::Refer, ..again };
    again.headers.set(HeaderName::From, alice.own.to_string());
    again.headers.set(HeaderName::To, alice.other.to_string());
    w.send(alice.at, &again);
    assert_eq!(w.heard(ALICE), ["403 REFER"]);
    // And a stranger is not even asked.
    let request =
        alice.request(Method::Refer).with_header(HeaderName::ReferTo, "<sip:0499123456@example.org>");
    w.send(STRANGER.parse().unwrap(), &request);
    assert_eq!(w.heard(STRANGER), ["403 REFER"]);
    assert!(w.heard(A).is_empty());
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_trunk_moves_nothing_unless_it_may_and_then_only_to_users() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (mut alice, mut callee) = w.talking();
    assert_eq!(refer(&mut w, &mut callee, "<sip:+3225550003@192.0.2.1>"), 403);
    w.hang_up(&mut alice, &callee);
    w.finish();

    let mut w = World::with(|config| config.trunks[0].transfer = Transfer::Users);
    w.register("carol", CAROL);
    let (alice, mut callee) = w.talking();
    // A number that the dialplan would let a call of this trunk reach through another one.
    assert_eq!(refer(&mut w, &mut callee, "<sip:+31201234567@192.0.2.1>"), 202);
    report(&mut w, &callee);
    assert_eq!(report(&mut w, &callee), ("SIP/2.0 403 Forbidden".into(), true));
    assert!(w.heard(B).is_empty());
    assert_eq!(refer(&mut w, &mut callee, "<sip:+3225550003@192.0.2.1>"), 202);
    report(&mut w, &callee);
    let carol = w.invited(CAROL);
    w.reply_with(&carol, 200, OPUS_ANSWER);
    w.heard(CAROL);
    report(&mut w, &callee);
    w.ok(&callee, Method::Bye);
    let mut alice = alice;
    w.bye(&mut alice);
    w.ok(&carol, Method::Bye);
    w.finish_all();
}

#[test]
fn transfers_may_be_switched_off_or_held_to_users() {
    let mut w = World::with(|config| config.app.transfer = Transfer::Off);
    let (mut alice, callee) = w.talking();
    assert_eq!(refer(&mut w, &mut alice, "<sip:0499123456@example.org>"), 403);
    w.hang_up(&mut alice, &callee);
    w.finish();
    let mut w = World::with(|config| config.app.transfer = Transfer::Users);
    let (mut alice, callee) = w.talking();
    assert_eq!(refer(&mut w, &mut alice, "<sip:0499123456@example.org>"), 202);
    report(&mut w, &alice);
    assert_eq!(report(&mut w, &alice), ("SIP/2.0 403 Forbidden".into(), true));
    w.hang_up(&mut alice, &callee);
    w.finish_all();
}

#[test]
fn a_refer_that_can_not_be_read_or_comes_at_the_wrong_time_changes_nothing() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (mut alice, mut callee) = w.talking();
    assert_eq!(refer(&mut w, &mut alice, "<sip:a@h>, <sip:b@h>"), 400);
    assert_eq!(refer(&mut w, &mut alice, "<sip:carol@example.org>"), 202);
    report(&mut w, &alice);
    w.invited(CAROL);
    assert_eq!(refer(&mut w, &mut alice, "<sip:bob@example.org>"), 491, "one at a time");
    let alone = alice.request(Method::Refer).with_header(HeaderName::ReferTo, "<sip:carol@example.org>");
    let mut alone = alone;
    alone.headers.set(HeaderName::To, "<sip:gw@192.0.2.1>");
    w.send(callee.at, &alone);
    assert_eq!(w.heard(A), ["403 REFER"], "outside any call");
    w.bye(&mut callee);
    w.ok(&alice, Method::Bye);
    w.finish_all();
}

/// alice talks over trunk `a`, and then to carol: both calls, both far ends.
fn consulting(w: &mut World) -> (Side, Side, Side, Side) {
    w.register("carol", CAROL);
    let (alice, callee) = w.talking();
    let mut second = w.dial("alice", "carol");
    let carol = w.invited(CAROL);
    w.reply_with(&carol, 200, OPUS_ANSWER);
    w.heard(CAROL);
    w.ack(&mut second);
    (alice, callee, second, carol)
}

/// What stands for a dialog of a phone in Refer-To.
pub(super) fn replacing(side: &Side, swapped: bool) -> String {
    let (to, from) = (side.other.tag().unwrap(), side.own.tag().unwrap());
    let (to, from) = if swapped { (from, to) } else { (to, from) };
    format!("<sip:carol@example.org?Replaces={}%3Bto-tag%3D{to}%3Bfrom-tag%3D{from}>", side.call_id)
}

#[test]
fn a_user_with_two_calls_leaves_them_to_each_other() {
    for swapped in [false, true] {
        let mut w = World::new();
        let (mut alice, mut callee, second, carol) = consulting(&mut w);
        let to = replacing(&second, swapped);
        assert_eq!(refer(&mut w, &mut alice, &to), 202);
        report(&mut w, &alice);
        assert_eq!(report(&mut w, &alice), ("SIP/2.0 200 OK".into(), true));
        // Both of its dialogs end.
        let byes: Vec<Request> = std::iter::from_fn(|| w.next(alice.at))
            .filter_map(|message| match message {
                Message::Request(request) => Some(request),
                Message::Response(_) => None,
            })
            .collect();
        assert_eq!(byes.iter().map(|bye| bye.method.clone()).collect::<Vec<_>>(), [Method::Bye, Method::Bye]);
        for bye in &byes {
            let side = if bye.call_id().unwrap() == alice.call_id { &alice } else { &second };
            w.send(alice.at, side.response(bye, 200));
        }
        w.pass(secs(60));
        assert_eq!(w.exchange.live_calls(), 2);
        w.bye(&mut callee);
        w.ok(&carol, Method::Bye);
        w.finish_all();
        let first = cdr(&w, |cdr| cdr.transfer_of.is_none());
        cdr(&w, |cdr| cdr.transfer_of == Some(first.id));
    }
}

#[test]
fn nobody_joins_calls_of_others() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.register("carol", CAROL);
    let (mut alice, callee) = w.talking();
    let mut other = w.dial("bob", "carol");
    let carol = w.invited(CAROL);
    w.reply_with(&carol, 200, OPUS_ANSWER);
    w.heard(CAROL);
    w.ack(&mut other);
    assert_eq!(refer(&mut w, &mut alice, &replacing(&other, false)), 403);
    let lost = "<sip:carol@example.org?Replaces=none%3Bto-tag%3D1%3Bfrom-tag%3D2>";
    assert_eq!(refer(&mut w, &mut alice, lost), 481);
    assert_eq!(w.media.bridges, 2);
    w.hang_up(&mut alice, &callee);
    w.bye(&mut other);
    w.ok(&carol, Method::Bye);
    w.finish_all();
}

#[test]
fn a_voice_on_another_thread_is_brought_to_the_one_it_is_to_be_heard_with() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (mut alice, mut callee) = w.talking();
    w.media.worker = 1;
    let mut second = w.dial("alice", "carol");
    let carol = w.invited(CAROL);
    w.reply_with(&carol, 200, OPUS_ANSWER);
    w.heard(CAROL);
    w.ack(&mut second);
    assert_eq!(refer(&mut w, &mut alice, &replacing(&second, false)), 202);
    let joined: Vec<_> = w.media.legs.values().filter(|leg| !leg.closed).map(|leg| leg.worker).collect();
    assert_eq!(joined, [0, 0]);
    w.bye(&mut callee);
    w.ok(&carol, Method::Bye);
    w.finish_all();
}

/// alice talks over trunk `a` and has carol's phone ringing beside.
fn ringing(w: &mut World) -> (Side, Side, Side, Side) {
    w.register("carol", CAROL);
    let (alice, callee) = w.talking();
    w.media.worker = 1;
    let mut second = w.dial("alice", "carol");
    let carol = w.invited(CAROL);
    w.reply(&carol, 180);
    let ringing = w.response(second.at, 180);
    second.learn(&ringing);
    (alice, callee, second, carol)
}

#[test]
fn who_still_rings_is_left_to_the_other_call() {
    for answers in [true, false] {
        let mut w = World::new();
        let (mut alice, mut callee, second, carol) = ringing(&mut w);
        let request =
            alice.request(Method::Refer).with_header(HeaderName::ReferTo, replacing(&second, false));
        w.send(alice.at, &request);
        let challenge = w.response(alice.at, 401);
        w.send(alice.at, alice.with_credentials(&request, &challenge));
        w.response(alice.at, 202);
        assert_eq!(report(&mut w, &alice), ("SIP/2.0 100 Trying".into(), false));
        // Its own INVITE is over, so that a CANCEL behind it stops nobody's phone.
        w.refused(&second, 487);
        assert_eq!(report(&mut w, &alice), ("SIP/2.0 180 Ringing".into(), false));
        w.send(second.at, second.cancel());
        w.response(second.at, 200);
        assert!(w.heard(CAROL).is_empty() && w.heard(A).is_empty());
        w.pass(secs(5));
        if answers {
            w.reply_with(&carol, 200, OPUS_ANSWER);
            assert_eq!(w.heard(CAROL), ["ACK"]);
            assert_eq!(report(&mut w, &alice), ("SIP/2.0 200 OK".into(), true));
            w.ok(&alice, Method::Bye);
            w.pass(secs(20));
            w.bye(&mut callee);
            w.ok(&carol, Method::Bye);
        } else {
            w.reply(&carol, 603);
            assert_eq!(report(&mut w, &alice), ("SIP/2.0 603 Decline".into(), true));
            assert!(w.call().is_live(), "the first call goes on");
            w.hang_up(&mut alice, &callee);
        }
        w.finish_all();
        let first = cdr(&w, |cdr| cdr.transfer_of.is_none());
        let second = cdr(&w, |cdr| cdr.transfer_of == Some(first.id));
        assert_eq!(second.caller.user.as_deref(), Some("alice"));
        assert_eq!(second.duration_ms, if answers { 20_000 } else { 0 });
        let cause = if answers { EndCause::NormalClearing } else { EndCause::Declined };
        assert_eq!(second.end_cause, Some(cause));
    }
}

#[test]
fn who_leaves_while_it_rings_is_not_missed_by_the_one_that_answers() {
    let mut w = World::new();
    let (mut alice, mut callee, second, carol) = ringing(&mut w);
    // A phone that hears it ring sends nothing.
    w.media.report.packets_received = 0;
    assert_eq!(refer(&mut w, &mut alice, &replacing(&second, false)), 202);
    w.media.report.packets_received = 500;
    w.reply_with(&carol, 200, OPUS_ANSWER);
    w.ok(&alice, Method::Bye);
    w.pass(secs(20));
    w.bye(&mut callee);
    w.ok(&carol, Method::Bye);
    w.finish_all();
    assert_eq!(w.ends().len(), 2);
    assert!(!w.events.iter().any(|event| matches!(event, Event::AudioFault { .. })));
}

#[test]
fn who_is_left_to_a_ringing_phone_may_hang_up_meanwhile() {
    let mut w = World::new();
    let (mut alice, mut callee, second, carol) = ringing(&mut w);
    assert_eq!(refer(&mut w, &mut alice, &replacing(&second, true)), 202);
    w.bye(&mut callee);
    assert_eq!(w.heard(CAROL), ["CANCEL"]);
    w.reply(&carol, 487);
    w.ok(&alice, Method::Bye);
    w.finish_all();
    assert_eq!(w.ends().len(), 2);
}

#[test]
fn an_apps_network_meets_no_phone_network_by_a_transfer() {
    // bob answers a call of the app's network, and calls a phone number beside: ringing first, then answered.
    for answered in [false, true] {
        let mut w = World::with(|config| {
            let mut app = config.trunks[1].clone();
            (app.name, app.app_side) = ("app".into(), true);
            app.proxy = vec![STRANGER.parse::<std::net::SocketAddr>().unwrap().into()];
            config.trunks.push(app);
        });
        w.register("bob", BOB);
        let mut caller = w.call_in_with(STRANGER, "+3225550002", OFFER, |_| {});
        let mut bob = w.invited(BOB).with_password("bob", "bob-secret");
        w.reply_with(&bob, 200, OPUS_ANSWER);
        w.heard(BOB);
        w.ack(&mut caller);
        let mut second = w.dial("bob", "0499123456");
        let callee = w.invited(A);
        w.reply(&callee, 180);
        let progress = w.response(second.at, 180);
        second.learn(&progress);
        if answered {
            w.reply_with(&callee, 200, ANSWER);
            w.heard(A);
            w.ack(&mut second);
        }
        assert_eq!(refer(&mut w, &mut bob, &replacing(&second, false)), 403);
        // Nor by one without a consultation.
        assert_eq!(refer(&mut w, &mut bob, "<sip:0499123456@example.org>"), 202);
        report(&mut w, &bob);
        assert_eq!(report(&mut w, &bob), ("SIP/2.0 403 Forbidden".into(), true));
        if answered {
            w.bye(&mut second);
            w.ok(&callee, Method::Bye);
        } else {
            w.cancel(&second);
            w.reply(&callee, 487);
        }
        w.bye(&mut caller);
        w.ok(&bob, Method::Bye);
        w.finish_all();
    }
}

#[test]
fn an_operator_that_hangs_up_one_call_ends_both_halves() {
    let mut w = World::new();
    let (mut alice, callee, second, carol) = consulting(&mut w);
    assert_eq!(refer(&mut w, &mut alice, &replacing(&second, false)), 202);
    let first = w.exchange.calls().map(|call| call.id).min().unwrap();
    w.exchange.hang_up(w.now, first, EndCause::AdminHangup);
    w.settle();
    w.ok(&callee, Method::Bye);
    w.ok(&carol, Method::Bye);
    w.finish_all();
    assert!(w.ends().iter().all(|cdr| cdr.end_cause == Some(EndCause::AdminHangup)));
    assert_eq!(w.ends().len(), 2);
}

#[test]
fn calls_of_one_person_share_a_thread_and_those_of_a_busy_one_do_not() {
    let mut w = World::with(|config| config.limits.max_calls_per_user = 50);
    let calls: Vec<_> = (0..7)
        .map(|_| {
            let alice = w.dial("alice", "0470123456");
            w.invited(A);
            alice
        })
        .collect();
    let mut beside: Vec<_> = w
        .media
        .legs
        .iter()
        .filter(|(leg, _)| leg.index == 0)
        .map(|(leg, media)| (leg.call, media.beside))
        .collect();
    beside.sort();
    let first = beside.iter().find_map(|(_, beside)| *beside).unwrap();
    assert_eq!(beside.iter().filter(|(_, beside)| *beside == Some(first)).count(), 4);
    assert_eq!(
        beside.iter().filter(|(_, beside)| beside.is_none()).count(),
        3,
        "the first, and those beyond five"
    );
    calls.iter().for_each(|alice| w.cancel(alice));
    w.finish_all();
}
