//! Sessions that are kept alive by either side, and the end of those that nobody keeps alive (RFC 4028).

use super::far::Side;
use super::transfer::refer;
use super::world::*;
use crate::config::{Config, TrunkAuth};
use crate::sip::message::{HeaderName, Message, Method, Request, Typed};
use crate::types::{EndCause, ReleasedBy, Secret};

const EXPIRES: HeaderName = HeaderName::SessionExpires;
const ALLOW: (HeaderName, &str) = (HeaderName::Allow, "INVITE, ACK, BYE, CANCEL, UPDATE");

fn timed(config: &mut Config) {
    config.trunks[0].session_timer = Some(secs(1800));
    config.media.timeout = None;
}

/// alice talks over trunk `a`, whose 200 says this.
fn talking(w: &mut World, fields: &[(HeaderName, &str)]) -> (Side, Side) {
    let mut alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    w.reply_saying(&callee, 200, ANSWER, fields);
    assert_eq!(w.heard(A), ["ACK"]);
    w.ack(&mut alice);
    (alice, callee)
}

fn expires(request: &Request) -> Option<&str> {
    request.headers.get(&EXPIRES)
}

/// Both sides are told to hang up.
fn ended(w: &mut World, alice: &Side, callee: &Side) -> EndCause {
    w.ok(alice, Method::Bye);
    w.ok(callee, Method::Bye);
    let cdr = w.finish();
    assert_eq!(cdr.released_by, Some(ReleasedBy::Gateway));
    cdr.end_cause.unwrap()
}

#[test]
fn a_trunk_with_a_timer_is_asked_for_it_and_one_without_is_not() {
    let mut w = World::with(timed);
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    assert_eq!(expires(&callee.invite), Some("1800"));
    assert!(callee.invite.supports("timer"));
    w.cancel(&alice);
    w.finish();
    let mut w = World::new();
    let alice = w.dial("alice", "0470123456");
    let callee = w.invited(A);
    assert_eq!((expires(&callee.invite), callee.invite.supports("timer")), (None, false));
    w.cancel(&alice);
    w.finish();
}

#[test]
fn we_refresh_at_half_time_by_a_reinvite_that_changes_nothing() {
    let mut w = World::with(timed);
    let (mut alice, callee) = talking(&mut w, &[(EXPIRES, "1800;refresher=uac")]);
    w.pass(secs(899));
    assert!(w.heard(A).is_empty());
    for _ in 0..3 {
        w.pass(secs(1));
        let refresh = w.request(callee.at, Method::Invite);
        assert_eq!(refresh.body, callee.invite.body, "the same description, its version too");
        assert_eq!(expires(&refresh), Some("1800;refresher=uac"));
        let answer = callee.response(&refresh, 200).with_body("application/sdp", ANSWER);
        w.send(callee.at, answer.with_header(EXPIRES, "1800;refresher=uac"));
        assert_eq!(w.heard(A), ["ACK"]);
        w.pass(secs(899));
    }
    assert_eq!(w.leg(1).configured, 1, "nothing is changed at the media path");
    assert!(w.heard(ALICE).is_empty());
    w.inbox(callee.at).clear();
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn where_the_far_end_takes_update_the_refresh_has_no_offer() {
    let mut w = World::with(timed);
    let (mut alice, callee) = talking(&mut w, &[(EXPIRES, "600;refresher=uac"), ALLOW]);
    w.pass(secs(300));
    let refresh = w.request(callee.at, Method::Update);
    assert!(refresh.body.is_empty());
    assert_eq!(expires(&refresh), Some("600;refresher=uac"));
    w.send(callee.at, callee.response(&refresh, 200).with_header(EXPIRES, "600;refresher=uac"));
    w.pass(secs(299));
    assert!(w.heard(A).is_empty());
    w.pass(secs(1));
    w.request(callee.at, Method::Update);
    w.ok(&callee, Method::Update);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_far_end_that_promised_to_refresh_and_does_not_is_hung_up_on_in_time() {
    let mut w = World::with(timed);
    let (alice, callee) = talking(&mut w, &[(EXPIRES, "1800;refresher=uas")]);
    w.pass(secs(1_767));
    assert!(w.heard(A).is_empty() && w.heard(ALICE).is_empty());
    w.pass(secs(1));
    let bye = w.request(callee.at, Method::Bye);
    assert_eq!(bye.headers.get(&HeaderName::Reason), Some("Q.850;cause=102;text=\"Session timer expired\""));
    assert_eq!(ended(&mut w, &alice, &callee), EndCause::SessionExpired);
}

#[test]
fn a_far_end_that_refreshes_keeps_the_call() {
    for by_update in [true, false] {
        let mut w = World::with(timed);
        let (mut alice, mut callee) = talking(&mut w, &[(EXPIRES, "1800;refresher=uas")]);
        for _ in 0..3 {
            w.pass(secs(1_700));
            let timer = |request: Request| {
                request.with_header(HeaderName::Supported, "timer").with_header(EXPIRES, "1800;refresher=uac")
            };
            let request =
                if by_update { timer(callee.request(Method::Update)) } else { timer(callee.invite(ANSWER)) };
            w.send(callee.at, &request);
            let answer = w.response(callee.at, 200);
            assert_eq!(answer.headers.get(&EXPIRES), Some("1800;refresher=uac"));
            assert!(answer.requires("timer"));
            if !by_update {
                let ack = callee.ack(&answer);
                w.send(callee.at, &ack);
            }
        }
        assert!(w.call().is_live() && w.heard(ALICE).is_empty());
        w.hang_up(&mut alice, &callee);
        w.finish();
    }
}

#[test]
fn a_far_end_without_timers_is_asked_for_a_sign_of_life_by_us() {
    let mut w = World::with(timed);
    let (alice, callee) = talking(&mut w, &[]);
    w.pass(secs(900));
    assert_eq!(w.heard(A), ["INVITE"]);
    // It died: 64 × T1 without an answer, and both sides are hung up on.
    w.pass(secs(32));
    assert!(w.heard(A).contains(&"BYE".to_owned()));
    assert_eq!(ended(&mut w, &alice, &callee), EndCause::SessionExpired);
}

#[test]
fn an_update_that_is_never_answered_ends_the_call() {
    let mut w = World::with(timed);
    let (alice, callee) = talking(&mut w, &[(EXPIRES, "1800;refresher=uac"), ALLOW]);
    w.pass(secs(932));
    assert!(w.heard(A).contains(&"BYE".to_owned()));
    assert_eq!(ended(&mut w, &alice, &callee), EndCause::SessionExpired);
}

#[test]
fn a_refresh_that_is_refused_for_now_is_tried_again_and_a_lost_dialog_is_lost() {
    let mut w = World::with(timed);
    let (alice, callee) = talking(&mut w, &[(EXPIRES, "1800;refresher=uac"), ALLOW]);
    w.pass(secs(900));
    let refresh = w.request(callee.at, Method::Update);
    w.send(callee.at, callee.response(&refresh, 500));
    w.pass(secs(10));
    let refresh = w.request(callee.at, Method::Update);
    w.send(callee.at, callee.response(&refresh, 481));
    assert!(w.heard(A).is_empty(), "no BYE into a dialog that is gone");
    w.ok(&alice, Method::Bye);
    assert_eq!(w.finish().end_cause, Some(EndCause::DialogLost));
}

#[test]
fn a_refresh_that_does_not_get_out_is_tried_again_while_there_is_time() {
    let says = [(EXPIRES, "1800;refresher=uac"), ALLOW];
    // UPDATE, and re-INVITE where the far end takes no UPDATE.
    for (fields, method) in [(&says[..], Method::Update), (&says[..1], Method::Invite)] {
        let mut w = World::with(timed);
        let (mut alice, callee) = talking(&mut w, fields);
        w.unreachable.push(callee.at);
        w.pass(secs(915));
        assert!(w.call().is_live(), "{method}: its switch changes over, and both hear each other");
        w.unreachable.clear();
        w.pass(secs(5));
        let refresh = w.request(callee.at, method.clone());
        let answer = callee.response(&refresh, 200).with_header(EXPIRES, "1800;refresher=uac");
        w.send(callee.at, answer.with_body("application/sdp", ANSWER));
        w.heard(A);
        w.pass(secs(860));
        assert!(w.call().is_live(), "{method}: the session was refreshed");
        w.inbox(callee.at).clear();
        w.hang_up(&mut alice, &callee);
        w.finish();

        let mut w = World::with(timed);
        let (alice, callee) = talking(&mut w, fields);
        w.unreachable.push(callee.at);
        w.pass(secs(1_767));
        assert!(w.call().is_live());
        w.pass(secs(1));
        w.ok(&alice, Method::Bye);
        assert_eq!(w.finish().end_cause, Some(EndCause::SessionExpired), "{method}");
    }
}

#[test]
fn a_far_end_that_takes_no_update_after_all_gets_a_reinvite_at_once() {
    let mut w = World::with(timed);
    let (mut alice, callee) = talking(&mut w, &[(EXPIRES, "1800;refresher=uac"), ALLOW]);
    w.pass(secs(900));
    let refresh = w.request(callee.at, Method::Update);
    w.send(callee.at, callee.response(&refresh, 405));
    let refresh = w.request(callee.at, Method::Invite);
    let answer = callee.response(&refresh, 200).with_body("application/sdp", ANSWER);
    w.send(callee.at, answer);
    assert_eq!(w.heard(A), ["ACK"]);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_refresh_repeats_what_was_agreed_and_not_a_hold_that_was_refused() {
    let mut w = World::with(timed);
    let (mut alice, callee) = talking(&mut w, &[(EXPIRES, "600;refresher=uac")]);
    let hold = alice.invite(&directed(OFFER, "sendonly"));
    w.send(alice.at, &hold);
    w.ack(&mut alice);
    let told = w.request(callee.at, Method::Invite);
    assert_ne!(told.body, callee.invite.body);
    w.send(callee.at, callee.response(&told, 488));
    assert_eq!(w.heard(A), ["ACK"]);
    w.pass(secs(300));
    let refresh = w.request(callee.at, Method::Invite);
    assert_eq!(refresh.body, callee.invite.body);
    w.send(callee.at, callee.response(&refresh, 200).with_body("application/sdp", ANSWER));
    assert_eq!(w.heard(A), ["ACK"], "and nobody is told again what was refused");
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn an_interval_that_is_too_small_for_the_trunk_is_asked_again_with_its_least() {
    let mut w = World::with(|config| {
        timed(config);
        config.trunks[0].session_timer = Some(secs(90));
    });
    let mut alice = w.dial("alice", "0499123456");
    let first = w.invited(A);
    w.reply_saying(&first, 422, "", &[(HeaderName::MinSe, "600")]);
    assert_eq!(w.heard(A), ["ACK", "INVITE"]);
    let again = w.last_request(first.at, &Method::Invite);
    assert_eq!((expires(&again), again.headers.get(&HeaderName::MinSe)), (Some("600"), Some("600")));
    assert_eq!(again.cseq().unwrap().number, first.invite.cseq().unwrap().number + 1);
    assert_eq!(again.call_id(), first.invite.call_id());
    let callee = Side::called(first.at, again, "second", "UDP");
    w.reply_saying(&callee, 200, ANSWER, &[(EXPIRES, "600;refresher=uac")]);
    w.ack(&mut alice);
    w.heard(A);
    w.pass(secs(300));
    let refresh = w.request(callee.at, Method::Invite);
    assert_eq!(refresh.headers.get(&HeaderName::MinSe), Some("600"));
    w.send(callee.at, callee.response(&refresh, 200).with_body("application/sdp", ANSWER));
    w.heard(A);
    w.hang_up(&mut alice, &callee);
    w.finish();
}

#[test]
fn a_422_that_asks_for_nothing_new_is_a_refusal() {
    for least in ["90", "100000", "soon"] {
        let mut w = World::with(timed);
        let alice = w.dial("alice", "0499123456");
        let callee = w.invited(A);
        w.reply_saying(&callee, 422, "", &[(HeaderName::MinSe, least)]);
        assert_eq!(w.heard(A), ["ACK"]);
        w.refused(&alice, EndCause::from_sip(422).sip_code());
        w.finish();
    }
}

#[test]
fn a_caller_that_asks_for_too_small_an_interval_is_told_the_least() {
    let mut w = World::with(timed);
    w.register("bob", BOB);
    let ask = |seconds: &'static str| {
        move |invite: &mut Request| {
            invite.headers.push(HeaderName::Supported, "timer");
            invite.headers.push(EXPIRES, seconds);
        }
    };
    let caller = w.call_in_with(A, "+3225550002", OFFER, ask("60"));
    let refusal = w.refused(&caller, 422);
    assert_eq!(refusal.headers.get(&HeaderName::MinSe), Some("90"));
    assert!(w.heard(BOB).iter().all(|name| name != "INVITE"));
    let mut caller = w.call_in_with(A, "+3225550002", OFFER, ask("600;refresher=uas"));
    let bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    let answer = w.ack(&mut caller);
    assert_eq!(answer.headers.get(&EXPIRES), Some("600;refresher=uas"));
    w.pass(secs(300));
    // The caller's INVITE had no Allow: nobody knows whether it takes UPDATE.
    let refresh = w.request(caller.at, Method::Invite);
    assert_eq!(expires(&refresh), Some("600;refresher=uac"), "now we are the one that asks");
    assert_eq!(refresh.body, answer.body);
    w.send(caller.at, caller.response(&refresh, 200).with_body("application/sdp", OFFER));
    assert_eq!(w.heard(A), ["ACK"]);
    w.heard(BOB);
    w.hang_up(&mut caller, &bob);
    w.finish_all();
}

#[test]
fn an_app_that_asks_gets_its_timer_and_its_silence_ends_the_call() {
    let mut w = World::new();
    let mut alice = w.dial_with("alice", "0470123456", OFFER, |invite| {
        invite.headers.push(HeaderName::Supported, "timer");
        invite.headers.push(EXPIRES, "90");
    });
    let callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    w.heard(A);
    let answer = w.ack(&mut alice);
    assert_eq!(answer.headers.get(&EXPIRES), Some("90;refresher=uac"));
    w.pass(secs(60));
    assert_eq!(w.heard(A), ["BYE"]);
    assert_eq!(ended(&mut w, &alice, &callee), EndCause::SessionExpired);
}

#[test]
fn a_trunk_whose_timer_is_off_gets_none_though_it_asks() {
    let mut w = World::new();
    w.register("bob", BOB);
    let mut caller = w.call_in_with(A, "+3225550002", OFFER, |invite| {
        invite.headers.push(HeaderName::Supported, "timer");
        invite.headers.push(EXPIRES, "600;refresher=uas");
    });
    let bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    assert_eq!(w.ack(&mut caller).headers.get(&EXPIRES), None);
    w.heard(BOB);
    w.pass(secs(600));
    assert!(w.heard(A).is_empty());
    w.hang_up(&mut caller, &bob);
    w.finish();
    let mut w = World::new();
    let caller = w.call_in_with(A, "+3225550002", OFFER, |invite| {
        invite.headers.push(HeaderName::Require, "timer");
    });
    let refusal = w.refused(&caller, 420);
    assert_eq!(refusal.headers.get(&HeaderName::Unsupported), Some("timer"));
    w.finish_all();
}

/// The far end refuses each request of this kind with an interval that grows, until none comes any more: how many came.
fn refuse_growing(w: &mut World, far: &Side, method: Method, from: u32) -> u32 {
    let mut asked = 0;
    while let Some(Message::Request(request)) = w.next(far.at) {
        assert_eq!(request.method, method);
        asked += 1;
        assert!(asked <= 5, "it is asked for without end");
        let least = (from + asked).to_string();
        w.send(far.at, far.response(&request, 422).with_header(HeaderName::MinSe, least));
        if method == Method::Invite {
            w.request(far.at, Method::Ack);
        }
    }
    asked
}

#[test]
fn an_interval_that_grows_with_each_answer_is_asked_for_five_times_in_all() {
    let mut w = World::with(timed);
    let alice = w.dial("alice", "0499123456");
    let callee = w.invited(A);
    w.reply_saying(&callee, 422, "", &[(HeaderName::MinSe, "1801")]);
    w.request(callee.at, Method::Ack);
    assert_eq!(refuse_growing(&mut w, &callee, Method::Invite, 1_801), 4);
    w.refused(&alice, EndCause::from_sip(422).sip_code());
    w.finish();
}

#[test]
fn credentials_and_intervals_are_asked_for_five_times_together() {
    let mut w = World::with(|config| {
        timed(config);
        config.trunks[0].auth = TrunkAuth::Digest;
        config.trunks[0].username = "gw".into();
        config.trunks[0].password = Secret::new("gw-secret");
    });
    let alice = w.dial("alice", "0499123456");
    let callee = w.invited(A);
    let challenge = "Digest realm=\"operator\",nonce=\"n\",qop=\"auth\"";
    w.reply_saying(&callee, 407, "", &[(HeaderName::ProxyAuthenticate, challenge)]);
    w.request(callee.at, Method::Ack);
    assert_eq!(refuse_growing(&mut w, &callee, Method::Invite, 1_800), 4);
    w.refused(&alice, EndCause::from_sip(422).sip_code());
    w.finish();
}

#[test]
fn a_refresh_whose_interval_is_never_enough_is_put_off_and_the_call_goes_on() {
    for updates in [true, false] {
        let mut w = World::with(timed);
        let granted = [(EXPIRES, "600;refresher=uac"), ALLOW];
        let (mut alice, callee) = talking(&mut w, if updates { &granted[..] } else { &granted[..1] });
        let method = if updates { Method::Update } else { Method::Invite };
        w.pass(secs(300));
        assert_eq!(refuse_growing(&mut w, &callee, method.clone(), 600), 5);
        w.pass(secs(10));
        let refresh = w.request(callee.at, method);
        let answer = callee.response(&refresh, 200).with_header(EXPIRES, "700;refresher=uac");
        w.send(callee.at, if updates { answer } else { answer.with_body("application/sdp", ANSWER) });
        w.heard(A);
        assert!(w.call().is_live());
        w.pass(secs(340));
        assert!(w.heard(A).is_empty(), "it is refreshed");
        w.hang_up(&mut alice, &callee);
        w.finish();
    }
}

#[test]
fn a_refresh_that_is_never_answered_by_who_moved_the_call_away_ends_it_for_nobody() {
    for updates in [true, false] {
        let mut w = World::new();
        w.register("carol", CAROL);
        let mut alice = w.dial_with("alice", "0470123456", OFFER, |invite| {
            invite.headers.push(HeaderName::Supported, "timer");
            invite.headers.push(EXPIRES, "90;refresher=uas");
            if updates {
                invite.headers.push(ALLOW.0, ALLOW.1);
            }
        });
        let mut callee = w.invited(A);
        w.reply_with(&callee, 200, ANSWER);
        w.heard(A);
        w.ack(&mut alice);
        w.pass(secs(45));
        w.request(alice.at, if updates { Method::Update } else { Method::Invite });
        assert_eq!(refer(&mut w, &mut alice, "<sip:carol@example.org>"), 202);
        let carol = w.invited(CAROL);
        w.reply_with(&carol, 200, OPUS_ANSWER);
        w.heard(CAROL);
        w.ok(&alice, Method::Bye);
        w.pass(secs(40));
        assert!(w.heard(A).is_empty() && w.heard(CAROL).is_empty(), "they talk");
        w.bye(&mut callee);
        w.ok(&carol, Method::Bye);
        w.finish_all();
    }
}
