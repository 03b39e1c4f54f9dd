//! Trunks that leave two of their calls to each other: app users only, so that it costs nobody anything.

use super::far::Side;
use super::transfer::{refer, replacing, report};
use super::world::*;
use crate::billing::{Cdr, Price, RateRow, RateTable, Rated, Side as BilledSide};
use crate::config::{Config, Transfer};
use crate::sip::message::{HeaderName, Message, Method, Typed};
use crate::types::{Currency, Rate};

pub(super) fn may(config: &mut Config) {
    config.trunks.iter_mut().for_each(|trunk| trunk.transfer = Transfer::Users);
}

/// Trunk `a` calls this user, whose phone answers.
fn calls(w: &mut World, number: &str, phone: &str) -> (Side, Side) {
    let mut caller = w.call_in(A, number);
    let callee = w.invited(phone);
    w.reply_with(&callee, 200, OPUS_ANSWER);
    w.heard(phone);
    w.ack(&mut caller);
    (caller, callee)
}

/// Answers the BYEs that end these dialogs of a trunk.
fn let_go(w: &mut World, sides: &[&Side]) {
    let at = sides[0].at;
    let mut ended = 0;
    while let Some(message) = w.next(at) {
        let Message::Request(bye) = message else { continue };
        assert_eq!(bye.method, Method::Bye);
        let side = sides.iter().find(|side| side.call_id == bye.call_id().unwrap()).unwrap();
        w.send(at, side.response(&bye, 200));
        ended += 1;
    }
    assert_eq!(ended, sides.len());
}

#[test]
fn a_trunk_that_may_leaves_two_users_to_each_other() {
    let mut w = World::with(may);
    w.register("bob", BOB);
    w.register("carol", CAROL);
    let (mut first, mut bob) = calls(&mut w, "+3225550002", BOB);
    let (second, carol) = calls(&mut w, "+3225550003", CAROL);
    assert_eq!(refer(&mut w, &mut first, &replacing(&second, false)), 202);
    report(&mut w, &first);
    assert_eq!(report(&mut w, &first), ("SIP/2.0 200 OK".into(), true));
    let_go(&mut w, &[&first, &second]);
    w.pass(secs(30));
    assert_eq!(w.exchange.live_calls(), 2);
    w.bye(&mut bob);
    w.ok(&carol, Method::Bye);
    w.finish_all();
    assert!(w.heard(B).is_empty());
}

/// A far end's dialog, as Replaces names it.
fn dialog(side: &Side) -> String {
    let (to, from) = (side.other.tag().unwrap(), side.own.tag().unwrap());
    format!("{};to-tag={to};from-tag={from}", side.call_id)
}

/// What both sides of a record are charged for, in milliseconds.
fn billable(cdr: &Cdr) -> [Option<u64>; 2] {
    let row = |side| RateRow {
        side,
        trunk: None,
        prefix: "+".into(),
        price: Price::per_minute(Rate { per_minute_e8: 1_000_000, currency: Currency::EUR }),
    };
    let mut cdr = cdr.clone();
    RateTable::new([row(BilledSide::Sell), row(BilledSide::Buy)]).unwrap().rate(&mut cdr);
    [cdr.sell, cdr.buy].map(|rated| match rated {
        Some(Rated::Charge(charge)) => Some(charge.billable_ms),
        Some(Rated::NotRated(_)) | None => None,
    })
}

/// Channels that trunk `a` has in use.
fn channels(w: &World) -> u32 {
    let mut trunks = w.exchange.trunks().iter();
    trunks.find(|(side, _)| &*side.settings.name == "a").unwrap().1.channels_in_use
}

#[test]
fn who_called_a_trunk_pays_until_the_trunk_leaves_it_to_another_user_and_no_longer() {
    for hangs_up in ["caller", "other"] {
        let mut w = World::with(may);
        w.register("carol", CAROL);
        let (mut alice, mut first) = w.talking();
        w.pass(secs(10));
        let (second, mut carol) = calls(&mut w, "+3225550003", CAROL);
        w.pass(secs(20));
        assert_eq!(channels(&w), 2);
        assert_eq!(refer(&mut w, &mut first, &replacing(&second, false)), 202);
        report(&mut w, &first);
        assert_eq!(report(&mut w, &first), ("SIP/2.0 200 OK".into(), true));
        let_go(&mut w, &[&first, &second]);
        w.pass(secs(60));
        assert_eq!(w.exchange.live_calls(), 2, "they talk");
        if hangs_up == "caller" {
            w.bye(&mut alice);
            w.ok(&carol, Method::Bye);
        } else {
            w.bye(&mut carol);
            w.ok(&alice, Method::Bye);
        }
        w.finish_all();
        let ends = w.ends();
        let sold = ends.iter().find(|cdr| cdr.transfer_of.is_none()).unwrap();
        let other = ends.iter().find(|cdr| cdr.transfer_of == Some(sold.id)).unwrap();
        assert_eq!(sold.caller.account.as_deref(), Some("alice"));
        assert_eq!((sold.duration_ms, other.duration_ms), (90_000, 80_000), "each talked so long");
        assert_eq!(billable(sold), [Some(30_000); 2], "the trunk had its part so long");
        assert_eq!(billable(other), [None; 2]);
        let leg = &sold.legs[0];
        assert_eq!(leg.ended_at.unwrap() - leg.answered_at.unwrap(), 30_000);
    }
}

#[test]
fn who_moves_a_trunks_call_on_pays_for_it_until_that_hangs_up() {
    let mut w = World::new();
    w.register("carol", CAROL);
    let (mut alice, mut callee) = w.talking();
    w.pass(secs(10));
    assert_eq!(refer(&mut w, &mut alice, "<sip:carol@example.org>"), 202);
    let carol = w.invited(CAROL);
    w.reply_with(&carol, 200, OPUS_ANSWER);
    w.ok(&alice, Method::Bye);
    w.pass(secs(50));
    assert_eq!(channels(&w), 1);
    w.bye(&mut callee);
    w.ok(&carol, Method::Bye);
    w.finish_all();
    let ends = w.ends();
    let sold = ends.iter().find(|cdr| cdr.transfer_of.is_none()).unwrap();
    assert_eq!(billable(sold), [Some(60_000); 2]);
}

#[test]
fn a_trunk_leaves_a_user_to_one_that_still_rings() {
    let mut w = World::with(may);
    w.register("bob", BOB);
    w.register("carol", CAROL);
    let (mut first, mut bob) = calls(&mut w, "+3225550002", BOB);
    let mut second = w.call_in(A, "+3225550003");
    let carol = w.invited(CAROL);
    w.reply(&carol, 180);
    let ringing = w.response(second.at, 180);
    second.learn(&ringing);
    assert_eq!(refer(&mut w, &mut first, &replacing(&second, false)), 202);
    report(&mut w, &first);
    w.refused(&second, 487);
    assert_eq!(report(&mut w, &first), ("SIP/2.0 180 Ringing".into(), false));
    w.reply_with(&carol, 200, OPUS_ANSWER);
    w.heard(CAROL);
    assert_eq!(report(&mut w, &first), ("SIP/2.0 200 OK".into(), true));
    w.ok(&first, Method::Bye);
    w.pass(secs(5));
    w.bye(&mut bob);
    w.ok(&carol, Method::Bye);
    w.finish_all();
}

#[test]
fn a_trunk_goes_on_itself_with_the_user_of_a_call_that_it_takes_over() {
    let mut w = World::with(may);
    w.register("bob", BOB);
    let (first, bob) = calls(&mut w, "+3225550002", BOB);
    let dialog = dialog(&first);
    let mut second = w.call_in_with(A, "whoever", OFFER, |invite| {
        invite.headers.push(HeaderName::Replaces, dialog.clone());
        invite.headers.push(HeaderName::Require, "replaces");
    });
    w.ack(&mut second);
    w.ok(&first, Method::Bye);
    assert!(w.heard(BOB).is_empty());
    w.bye(&mut second);
    w.ok(&bob, Method::Bye);
    w.finish_all();
}

#[test]
fn a_trunk_that_takes_its_own_call_over_is_paid_for_until_the_end_and_in_one_record() {
    for hangs_up in ["caller", "trunk"] {
        let mut w = World::with(may);
        let (mut alice, first) = w.talking();
        w.pass(secs(10));
        let dialog = dialog(&first);
        let mut second = w.call_in_with(A, "whoever", OFFER, |invite| {
            invite.headers.push(HeaderName::Replaces, dialog.clone());
            invite.headers.push(HeaderName::Require, "replaces");
        });
        w.ack(&mut second);
        w.ok(&first, Method::Bye);
        assert!(w.heard(ALICE).is_empty(), "its user talks to it as before");
        assert_eq!(channels(&w), 1);
        w.pass(secs(50));
        if hangs_up == "caller" {
            w.bye(&mut alice);
            w.ok(&second, Method::Bye);
        } else {
            w.bye(&mut second);
            w.ok(&alice, Method::Bye);
        }
        w.finish_all();
        let ends = w.ends();
        assert_eq!(ends.len(), 2);
        let sold = ends.iter().find(|cdr| cdr.transfer_of.is_none()).unwrap();
        let again = ends.iter().find(|cdr| cdr.transfer_of == Some(sold.id)).unwrap();
        assert_eq!(sold.caller.account.as_deref(), Some("alice"));
        assert_eq!((sold.duration_ms, billable(sold)), (60_000, [Some(60_000); 2]), "{hangs_up}");
        assert_eq!((again.duration_ms, billable(again)), (50_000, [None; 2]), "{hangs_up}");
        let leg = &sold.legs[0];
        assert_eq!(leg.ended_at.unwrap() - leg.answered_at.unwrap(), 10_000, "its first dialog");
    }
}

#[test]
fn a_trunk_joins_nobody_whom_somebody_pays_for_and_no_call_of_another_trunk() {
    // A call that goes through to another trunk: who remains is that one.
    let mut w = World::with(may);
    w.register("bob", BOB);
    let (mut first, mut bob) = calls(&mut w, "+3225550002", BOB);
    let mut through = w.call_in(A, "+31201234567");
    let other = w.invited(B);
    w.reply_with(&other, 200, ANSWER);
    w.heard(B);
    w.ack(&mut through);
    assert_eq!(refer(&mut w, &mut first, &replacing(&through, false)), 403, "the target is a trunk");
    assert_eq!(refer(&mut w, &mut through, &replacing(&first, false)), 403, "who stays is a trunk");
    let mut other = other;
    assert_eq!(refer(&mut w, &mut other, &replacing(&first, false)), 403, "not its call");
    for (at, side) in [(A, &through), (B, &first)] {
        let replaces = dialog(side);
        let caller = w.call_in_with(at, "whoever", OFFER, |invite| {
            invite.headers.push(HeaderName::Replaces, replaces.clone());
        });
        w.refused(&caller, 403);
    }
    let to_bob = "<sip:+3225550002@192.0.2.1>";
    assert_eq!(refer(&mut w, &mut through, to_bob), 403, "who stays is a trunk, without a second call too");
    assert_eq!(refer(&mut w, &mut other, to_bob), 403);
    // One that still rings at another trunk.
    let mut rings = w.call_in(A, "+31201234568");
    let rung = w.invited(B);
    w.reply(&rung, 180);
    let ringing = w.response(rings.at, 180);
    rings.learn(&ringing);
    assert_eq!(refer(&mut w, &mut first, &replacing(&rings, false)), 403);
    w.cancel(&rings);
    w.request(rung.at, Method::Cancel);
    w.reply(&rung, 487);
    w.bye(&mut through);
    w.ok(&other, Method::Bye);
    w.bye(&mut bob);
    w.ok(&first, Method::Bye);
    w.finish_all();

    let mut w = World::new();
    w.register("bob", BOB);
    w.register("carol", CAROL);
    let (mut first, mut bob) = calls(&mut w, "+3225550002", BOB);
    let (second, mut carol) = calls(&mut w, "+3225550003", CAROL);
    assert_eq!(refer(&mut w, &mut first, &replacing(&second, false)), 403, "off by default");
    for (user, trunk) in [(&mut bob, &first), (&mut carol, &second)] {
        w.bye(user);
        w.ok(trunk, Method::Bye);
    }
    w.finish_all();
}

#[test]
fn a_call_costs_its_user_nothing_once_the_trunk_it_went_to_has_moved_it_to_a_user_and_left() {
    // It leaves when the other user has answered, or at once.
    for at_once in [false, true] {
        let mut w = World::with(may);
        w.register("carol", CAROL);
        let (mut alice, mut callee) = w.talking();
        w.pass(secs(10));
        assert_eq!(refer(&mut w, &mut callee, "<sip:+3225550003@192.0.2.1>"), 202);
        report(&mut w, &callee);
        let carol = w.invited(CAROL);
        assert_eq!(channels(&w), 2, "that of the call, and that of who moves it");
        if at_once {
            w.bye(&mut callee);
            w.response(callee.at, 200);
            assert_eq!(channels(&w), 1);
        }
        let before = w.record_names().iter().filter(|name| **name == "interim").count();
        w.pass(secs(5));
        w.reply_with(&carol, 200, OPUS_ANSWER);
        w.heard(CAROL);
        if !at_once {
            assert_eq!(w.record_names().iter().filter(|name| **name == "interim").count(), before + 1);
            report(&mut w, &callee);
            w.ok(&callee, Method::Bye);
        }
        assert_eq!(channels(&w), 0, "it carries nothing any more");
        w.pass(secs(20));
        w.bye(&mut alice);
        w.ok(&carol, Method::Bye);
        w.finish_all();
        let first = w.ends().into_iter().find(|cdr| cdr.transfer_of.is_none()).unwrap();
        let left_after = if at_once { 10_000 } else { 15_000 };
        assert_eq!((first.duration_ms, billable(first)), (35_000, [Some(left_after); 2]), "{at_once}");
    }
}

#[test]
fn a_trunk_has_its_channels_back_once_it_has_left_two_users_to_each_other() {
    let mut w = World::with(|config| {
        may(config);
        config.trunks[0].max_channels = Some(2);
    });
    w.register("bob", BOB);
    w.register("carol", CAROL);
    let (mut first, mut bob) = calls(&mut w, "+3225550002", BOB);
    let (second, carol) = calls(&mut w, "+3225550003", CAROL);
    assert_eq!(channels(&w), 2);
    assert_eq!(refer(&mut w, &mut first, &replacing(&second, false)), 202);
    report(&mut w, &first);
    report(&mut w, &first);
    let_go(&mut w, &[&first, &second]);
    assert_eq!((w.exchange.live_calls(), channels(&w)), (2, 0));
    w.bye(&mut bob);
    w.ok(&carol, Method::Bye);
    w.finish_all();
}

#[test]
fn a_call_that_takes_another_over_takes_a_channel_of_its_trunk_whatever_number_it_names() {
    for most in [1, 2] {
        let mut w = World::with(|config| {
            may(config);
            config.trunks[0].max_channels = Some(most);
        });
        w.register("bob", BOB);
        let (first, mut bob) = calls(&mut w, "+3225550002", BOB);
        let dialog = dialog(&first);
        let mut second = w.call_in_with(A, "whoever", OFFER, |invite| {
            invite.headers.push(HeaderName::Replaces, dialog.clone());
        });
        if most == 1 {
            w.refused(&second, 503);
            w.bye(&mut bob);
            w.ok(&first, Method::Bye);
        } else {
            w.ack(&mut second);
            w.ok(&first, Method::Bye);
            assert_eq!(channels(&w), 1, "its own; the one of the call it took over is free");
            w.bye(&mut bob);
            w.ok(&second, Method::Bye);
        }
        w.finish_all();
    }
}
