//! Trunks that ask for credentials: answered where they may be, and never in a loop.

use super::far::Side;
use super::transfer::refer;
use super::trunk_transfer::may;
use super::world::*;
use crate::config::{Config, Prack, TrunkAuth};
use crate::sip::message::{HeaderName, Method, Request, Typed};
use crate::types::{EndCause, Secret};

fn digest(config: &mut Config) {
    config.trunks[0].auth = TrunkAuth::Digest;
    config.trunks[0].username = "gw".into();
    config.trunks[0].password = Secret::new("gw-secret");
}

fn challenge(w: &mut World, side: &Side, request: &Request, status: u16, extra: &str) {
    let field = if status == 407 { HeaderName::ProxyAuthenticate } else { HeaderName::WwwAuthenticate };
    let value = format!("Digest realm=\"operator\",nonce=\"n{}\",qop=\"auth\"{extra}", w.number());
    let answer = side.response(request, status).with_header(field, value);
    w.send(side.at, answer);
}

#[test]
fn a_challenge_is_answered_in_the_same_dialog() {
    for (status, field) in [(401, HeaderName::Authorization), (407, HeaderName::ProxyAuthorization)] {
        let mut w = World::with(digest);
        let mut alice = w.dial("alice", "0470123456");
        let first = w.invited(A);
        assert!(!first.invite.headers.contains(&field));
        challenge(&mut w, &first, &first.invite, status, "");
        w.request(first.at, Method::Ack);
        let second = w.invited(A);
        assert_eq!(second.call_id, first.call_id);
        assert_eq!(second.invite.from_tag(), first.invite.from_tag());
        assert_eq!(second.invite.cseq().unwrap().number, first.invite.cseq().unwrap().number + 1);
        let credentials = second.invite.headers.get(&field).unwrap().to_owned();
        assert!(credentials.contains("username=\"gw\""));
        w.reply_with(&second, 200, ANSWER);
        let ack = w.request(second.at, Method::Ack);
        // RFC 3261 §13.2.2.4: the ACK carries what its INVITE was let in by.
        assert_eq!(ack.headers.get(&field), Some(credentials.as_str()));
        w.ack(&mut alice);
        w.hang_up(&mut alice, &second);
        assert_eq!(w.finish().legs.len(), 1, "a challenge is no attempt of its own");
    }
}

#[test]
fn credentials_that_are_refused_are_not_sent_again() {
    let mut w = World::with(digest);
    let alice = w.dial("alice", "0470123456");
    for _ in 0..2 {
        let side = w.invited(A);
        challenge(&mut w, &side, &side.invite, 401, "");
        w.request(side.at, Method::Ack);
    }
    assert!(w.heard(A).is_empty(), "two tries and no third");
    w.invited(B);
    w.cancel(&alice);
    assert_eq!(w.finish().legs[0].end_cause, Some(EndCause::TrunkAuthFailed));
}

#[test]
fn a_stale_nonce_is_replaced_once() {
    let mut w = World::with(digest);
    let alice = w.dial("alice", "0499123456");
    for extra in ["", ",stale=true", ",stale=true"] {
        let side = w.invited(A);
        challenge(&mut w, &side, &side.invite, 401, extra);
        w.request(side.at, Method::Ack);
    }
    assert!(w.heard(A).is_empty());
    w.refused(&alice, 502);
    w.finish();
}

#[test]
fn a_trunk_by_address_or_with_another_realm_gets_no_credentials() {
    let mut w = World::new();
    let alice = w.dial("alice", "0499123456");
    let side = w.invited(A);
    challenge(&mut w, &side, &side.invite, 401, "");
    assert_eq!(w.heard(A), ["ACK"]);
    w.refused(&alice, 502);
    w.finish();

    let mut w = World::with(|config| {
        digest(config);
        config.trunks[0].realm = Some("other".into());
    });
    let alice = w.dial("alice", "0499123456");
    let side = w.invited(A);
    challenge(&mut w, &side, &side.invite, 401, "");
    assert_eq!(w.heard(A), ["ACK"]);
    w.refused(&alice, 502);
    w.finish();
}

#[test]
fn a_trunk_that_challenges_and_falls_silent_is_left_as_a_black_hole_is() {
    let mut w = World::with(digest);
    let alice = w.dial("alice", "0470123456");
    let side = w.invited(A);
    challenge(&mut w, &side, &side.invite, 407, "");
    w.request(side.at, Method::Ack);
    w.invited(A);
    w.pass(ms(3_500));
    w.invited(B);
    w.cancel(&alice);
    w.finish();
}

#[test]
fn a_challenged_bye_is_sent_again_with_credentials() {
    let mut w = World::with(digest);
    let (mut alice, callee) = w.talking();
    w.bye(&mut alice);
    let bye = w.request(callee.at, Method::Bye);
    challenge(&mut w, &callee, &bye, 407, "");
    let again = w.request(callee.at, Method::Bye);
    assert!(again.headers.contains(&HeaderName::ProxyAuthorization));
    assert_eq!(again.cseq().unwrap().number, bye.cseq().unwrap().number + 1);
    w.ok(&callee, Method::Bye);
    assert!(w.exchange.calls().next().is_none());
    w.finish();
}

#[test]
fn a_bye_is_not_challenged_for_ever() {
    let mut w = World::with(digest);
    let (mut alice, callee) = w.talking();
    w.bye(&mut alice);
    let mut byes = 0;
    while let Some(crate::sip::message::Message::Request(bye)) = w.next(callee.at) {
        byes += 1;
        challenge(&mut w, &callee, &bye, 401, ",stale=true");
    }
    assert!(byes <= 3, "{byes}");
    w.finish();
}

#[test]
fn a_challenged_reinvite_is_sent_again_with_credentials() {
    let mut w = World::with(digest);
    let (mut alice, callee) = w.talking();
    let hold = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &hold);
    w.ack(&mut alice);
    let reinvite = w.request(callee.at, Method::Invite);
    challenge(&mut w, &callee, &reinvite, 401, "");
    w.request(callee.at, Method::Ack);
    let again = w.request(callee.at, Method::Invite);
    assert!(again.headers.contains(&HeaderName::Authorization));
    assert!(String::from_utf8_lossy(&again.body).contains("a=sendonly"));
    let answer = callee.response(&again, 200).with_body("application/sdp", directed(ANSWER, "recvonly"));
    w.send(callee.at, answer);
    let ack = w.request(callee.at, Method::Ack);
    assert!(ack.headers.contains(&HeaderName::Authorization));
    w.hang_up(&mut alice, &callee);
    w.finish();
}

const STALE: &str = ",stale=true";

/// The operator's nonce has expired: it asks for the request once more, and gets it.
fn expired(w: &mut World, side: &Side, method: Method) -> Request {
    let first = w.request(side.at, method.clone());
    challenge(w, side, &first, 407, STALE);
    if method == Method::Invite {
        w.request(side.at, Method::Ack);
    }
    let again = w.request(side.at, method);
    let nonce = |request: &Request| {
        let value = request.headers.get(&HeaderName::ProxyAuthorization)?;
        value.split(',').find(|part| part.starts_with("nonce=")).map(str::to_owned)
    };
    assert!(nonce(&again).is_some() && nonce(&again) != nonce(&first), "another nonce");
    again
}

/// The operator takes what a re-INVITE says.
fn take(w: &mut World, side: &Side, reinvite: &Request) {
    let held = String::from_utf8_lossy(&reinvite.body).contains("a=sendonly");
    let sdp = directed(ANSWER, if held { "recvonly" } else { "sendrecv" });
    w.send(side.at, side.response(reinvite, 200).with_body("application/sdp", sdp));
    w.request(side.at, Method::Ack);
}

/// A call over a trunk that challenges each INVITE.
fn talking_after_a_challenge(w: &mut World) -> (Side, Side) {
    let mut alice = w.dial("alice", "0470123456");
    let first = w.invited(A);
    challenge(w, &first, &first.invite, 407, "");
    w.request(first.at, Method::Ack);
    let callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    w.request(callee.at, Method::Ack);
    w.ack(&mut alice);
    (alice, callee)
}

fn hold_and_resume(w: &mut World, alice: &mut Side, mut told: impl FnMut(&mut World)) {
    for way in ["sendonly", "sendrecv"] {
        let change = alice.invite(&directed(OFFER, way));
        w.send(alice.at, &change);
        w.ack(alice);
        told(w);
    }
}

#[test]
fn an_operator_whose_nonces_serve_a_single_request_hears_each_hold_and_the_end() {
    let mut w = World::with(digest);
    let (mut alice, callee) = talking_after_a_challenge(&mut w);
    for _ in 0..3 {
        hold_and_resume(&mut w, &mut alice, |w| {
            let again = expired(w, &callee, Method::Invite);
            take(w, &callee, &again);
        });
    }
    w.bye(&mut alice);
    expired(&mut w, &callee, Method::Bye);
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn a_hold_that_is_challenged_and_then_crosses_an_offer_is_told_in_the_end() {
    let mut w = World::with(digest);
    let (mut alice, callee) = talking_after_a_challenge(&mut w);
    let hold = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &hold);
    w.ack(&mut alice);
    let again = expired(&mut w, &callee, Method::Invite);
    w.send(callee.at, callee.response(&again, 491));
    w.request(callee.at, Method::Ack);
    w.pass(secs(4));
    let last = w.request(callee.at, Method::Invite);
    w.inbox(callee.at).clear();
    assert!(String::from_utf8_lossy(&last.body).contains("a=sendonly"));
    take(&mut w, &callee, &last);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn the_end_is_proven_though_the_nonce_that_served_the_whole_call_has_expired() {
    let mut w = World::with(digest);
    let (mut alice, callee) = talking_after_a_challenge(&mut w);
    hold_and_resume(&mut w, &mut alice, |w| {
        let change = w.request(callee.at, Method::Invite);
        assert!(change.headers.contains(&HeaderName::ProxyAuthorization));
        take(w, &callee, &change);
    });
    w.bye(&mut alice);
    expired(&mut w, &callee, Method::Bye);
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn an_operator_that_refused_a_hold_and_its_credentials_hears_the_end() {
    let mut w = World::with(digest);
    let (mut alice, callee) = talking_after_a_challenge(&mut w);
    let hold = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &hold);
    w.ack(&mut alice);
    for _ in 0..2 {
        let change = w.request(callee.at, Method::Invite);
        challenge(&mut w, &callee, &change, 407, "");
        w.request(callee.at, Method::Ack);
    }
    assert!(w.heard(A).is_empty(), "the credentials are not sent a third time");
    w.bye(&mut alice);
    expired(&mut w, &callee, Method::Bye);
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn who_challenges_only_after_many_requests_is_answered() {
    let mut w = World::with(digest);
    let (mut alice, callee) = w.talking();
    for _ in 0..4 {
        hold_and_resume(&mut w, &mut alice, |w| {
            let change = w.request(callee.at, Method::Invite);
            take(w, &callee, &change);
        });
    }
    w.bye(&mut alice);
    expired(&mut w, &callee, Method::Bye);
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn each_refresh_of_a_session_may_be_challenged() {
    const GRANTED: &[(HeaderName, &str)] = &[
        (HeaderName::SessionExpires, "600;refresher=uac"),
        (HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, UPDATE"),
    ];
    let mut w = World::with(|config| {
        digest(config);
        config.trunks[0].session_timer = Some(secs(600));
        config.media.timeout = None;
    });
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_saying(&callee, 200, ANSWER, GRANTED);
    w.request(callee.at, Method::Ack);
    w.ack(&mut alice);
    for _ in 0..5 {
        w.pass(secs(300));
        let again = expired(&mut w, &callee, Method::Update);
        let mut answer = callee.response(&again, 200);
        GRANTED.iter().for_each(|(name, value)| answer.headers.push(name.clone(), *value));
        w.send(callee.at, answer);
    }
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn each_acknowledgement_of_progress_may_be_challenged() {
    let mut w = World::with(|config| {
        digest(config);
        config.trunks[0].prack = Prack::Supported;
    });
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    for (rseq, status) in [("1", 180), ("2", 181), ("3", 182), ("4", 183)] {
        let said = [(HeaderName::Require, "100rel"), (HeaderName::RSeq, rseq)];
        w.reply_saying(&callee, status, "", &said);
        let again = expired(&mut w, &callee, Method::Prack);
        assert_eq!(again.rack().unwrap().rseq.to_string(), rseq);
        w.send(callee.at, callee.response(&again, 200));
    }
    w.reply_with(&callee, 200, ANSWER);
    w.request(callee.at, Method::Ack);
    w.ack(&mut alice);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn the_end_of_a_fork_that_nobody_wanted_is_proven() {
    let mut w = World::with(digest);
    let (mut alice, callee) = talking_after_a_challenge(&mut w);
    let fork = Side::called(callee.at, callee.invite.clone(), "fork2", "UDP");
    // It repeats its answer until the ACK reaches it.
    for _ in 0..2 {
        w.reply_with(&fork, 200, ANSWER);
        let ack = w.request(fork.at, Method::Ack);
        let again = expired(&mut w, &fork, Method::Bye);
        assert_eq!([ack.to_tag(), again.to_tag()], [Some("fork2"); 2]);
        assert!(ack.headers.contains(&HeaderName::ProxyAuthorization), "RFC 3261 §13.2.2.4");
        assert_eq!(again.cseq().unwrap().number, ack.cseq().unwrap().number + 2);
        // Once more is no longer a nonce that has expired.
        challenge(&mut w, &fork, &again, 407, "");
        assert!(w.heard(A).is_empty());
    }
    assert!(w.call().is_live(), "the call goes on");
    w.bye(&mut alice);
    expired(&mut w, &callee, Method::Bye);
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn each_report_of_a_transfer_may_be_challenged_also_when_several_are_under_way() {
    let mut w = World::with(|config| {
        digest(config);
        may(config);
    });
    w.register("carol", CAROL);
    let (alice, mut callee) = talking_after_a_challenge(&mut w);
    assert_eq!(refer(&mut w, &mut callee, "<sip:+3225550003@192.0.2.1>"), 202);
    let trying = expired(&mut w, &callee, Method::Notify);
    assert_eq!(String::from_utf8_lossy(&trying.body).trim_end(), "SIP/2.0 100 Trying");
    w.send(callee.at, callee.response(&trying, 200));
    let mut carol = w.invited(CAROL);
    w.reply(&carol, 180);
    let ringing = w.request(callee.at, Method::Notify);
    w.reply_with(&carol, 200, OPUS_ANSWER);
    w.heard(CAROL);
    let answered = w.request(callee.at, Method::Notify);
    let bye = w.request(callee.at, Method::Bye);
    let (mut highest, mut last) = (bye.cseq().unwrap().number, None);
    for (report, says) in [(&ringing, "180 Ringing"), (&answered, "200 OK")] {
        challenge(&mut w, &callee, report, 407, "");
        let again = w.request(callee.at, Method::Notify);
        assert_eq!(String::from_utf8_lossy(&again.body).trim_end(), format!("SIP/2.0 {says}"));
        for name in [HeaderName::Event, HeaderName::SubscriptionState, HeaderName::Contact] {
            assert_eq!(again.headers.get(&name), report.headers.get(&name));
        }
        assert!(again.cseq().unwrap().number > highest, "a number of its own");
        highest = again.cseq().unwrap().number;
        last = Some(again);
    }
    challenge(&mut w, &callee, &bye, 407, STALE);
    w.request(callee.at, Method::Bye);
    w.ok(&callee, Method::Bye);
    challenge(&mut w, &callee, &last.unwrap(), 407, STALE);
    assert!(w.heard(A).is_empty(), "the dialog is over");
    w.bye(&mut carol);
    w.ok(&alice, Method::Bye);
    w.finish_all();
}

#[test]
fn who_called_us_is_told_the_end_with_the_credentials_it_asks_for() {
    let mut w = World::with(digest);
    let (caller, mut bob) = w.talking_in();
    w.bye(&mut bob);
    let again = expired(&mut w, &caller, Method::Bye);
    assert!(again.headers.get(&HeaderName::ProxyAuthorization).unwrap().contains("username=\"gw\""));
    w.ok(&caller, Method::Bye);
    w.finish();
}

#[test]
fn credentials_do_not_follow_a_caller_to_another_address() {
    let mut w = World::with(digest);
    w.register("bob", BOB);
    let mut caller = w.call_in_with(A, "+3225550002", OFFER, |invite| {
        invite.headers.set(HeaderName::Contact, format!("<sip:{STRANGER}>"));
    });
    let mut bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    w.request(bob.at, Method::Ack);
    w.ack(&mut caller);
    w.bye(&mut bob);
    let stranger = STRANGER.parse().unwrap();
    let bye = w.request(stranger, Method::Bye);
    let value = "Digest realm=\"operator\",nonce=\"chosen\",qop=\"auth\"";
    w.send(stranger, caller.response(&bye, 407).with_header(HeaderName::ProxyAuthenticate, value));
    assert!(w.heard(STRANGER).is_empty());
    w.finish();
}

#[test]
fn an_account_speaks_in_its_domain() {
    let mut w = World::with(|config| {
        digest(config);
        config.trunks[0].domain = Some("operator.example".into());
    });
    let alice = w.dial("alice", "0470123456");
    let side = w.invited(A);
    assert_eq!(side.invite.from().unwrap().uri.host.host, "operator.example");
    assert_eq!(side.invite.to().unwrap().uri.host.host, "operator.example");
    assert_eq!(side.invite.uri.host.host, "203.0.113.1");
    w.cancel(&alice);
    w.finish();
}
