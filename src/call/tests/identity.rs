//! Who calls: what trunks and devices are told of it, and what is kept from them.

use super::transfer::{refer, refer_saying, report};
use super::world::*;
use crate::config::{Config, IdentityHeader, Transfer};
use crate::routing::{NumberFormat, Screening, ScreeningAction};
use crate::sip::message::{HeaderName, Method, Request, Typed};
use crate::types::EndCause;

fn field<'a>(request: &'a Request, name: &HeaderName) -> Option<&'a str> {
    request.headers.get(name)
}

fn asserting(config: &mut Config) {
    config.trunks[0].identity = IdentityHeader::Asserted;
}

fn withheld(invite: &mut Request) {
    invite.headers.push(HeaderName::Privacy, "id");
}

#[test]
fn each_trunk_hears_of_the_callers_number_in_the_field_it_reads() {
    for (header, name, ending) in [
        (IdentityHeader::Asserted, HeaderName::PAssertedIdentity, ""),
        (IdentityHeader::Preferred, HeaderName::PPreferredIdentity, ""),
        (IdentityHeader::RemoteParty, HeaderName::RemotePartyId, ";party=calling;screen=yes;privacy=off"),
    ] {
        let mut w = World::with(|config| config.trunks[0].identity = header);
        w.dial("alice", "0470123456");
        let invite = w.invited(A).invite;
        let value = field(&invite, &name).unwrap_or_else(|| panic!("{name:?} in {invite:?}"));
        assert!(value.starts_with("<sip:+3225550001@") && value.ends_with(ending), "{value}");
    }
    let mut w = World::new();
    w.dial("alice", "0470123456");
    let invite = w.invited(A).invite;
    assert!(field(&invite, &HeaderName::PAssertedIdentity).is_none(), "off by default");
}

#[test]
fn the_number_shown_and_the_callers_own_are_told_apart() {
    let mut w = World::with(|config| {
        asserting(config);
        config.users[0].caller_ids.push("+3225559999".parse().unwrap());
    });
    w.dial_with("alice", "0470123456", OFFER, |invite| {
        let from = field(invite, &HeaderName::From).unwrap().replace("sip:alice@", "sip:+3225559999@");
        invite.headers.set(HeaderName::From, from);
    });
    let invite = w.invited(A).invite;
    assert_eq!(invite.from().unwrap().uri.user(), "+3225559999");
    assert!(field(&invite, &HeaderName::PAssertedIdentity).unwrap().contains("+3225550001@"));
}

#[test]
fn a_withheld_number_shows_nowhere_but_to_a_trunk_that_is_trusted() {
    for trusted in [false, true] {
        let mut w = World::with(|config| {
            asserting(config);
            config.trunks[0].trusted = trusted;
        });
        w.dial_with("alice", "0470123456", OFFER, withheld);
        let invite = w.invited(A).invite;
        let from = invite.from().unwrap();
        assert_eq!((from.uri.user(), from.uri.host.host.as_str()), ("anonymous", "anonymous.invalid"));
        assert_eq!(field(&invite, &HeaderName::Privacy), Some("id"));
        let asserted = field(&invite, &HeaderName::PAssertedIdentity).is_some();
        assert_eq!(asserted, trusted);
        let text = String::from_utf8_lossy(&invite.to_bytes()).into_owned();
        assert_eq!(text.contains("3225550001"), trusted, "{text}");
    }
}

#[test]
fn a_trunk_may_be_told_what_is_withheld_without_being_believed_and_the_other_way_round() {
    for (tell, identity, knows) in [
        (Some(true), IdentityHeader::Asserted, true),
        (Some(false), IdentityHeader::Asserted, false),
        (Some(false), IdentityHeader::RemoteParty, false),
        // Who gets P-Preferred-Identity is asked to assert it (RFC 3325 §9.2).
        (None, IdentityHeader::Preferred, true),
        (Some(false), IdentityHeader::Preferred, false),
    ] {
        let mut w = World::with(|config| {
            config.trunks[0].identity = identity;
            config.trunks[0].trusted = tell == Some(false);
            config.trunks[0].tell_withheld = tell;
        });
        w.dial_with("alice", "0470123456", OFFER, withheld);
        let invite = w.invited(A).invite;
        let text = String::from_utf8_lossy(&invite.to_bytes()).into_owned();
        assert_eq!(text.contains("3225550001"), knows, "{text}");
        assert_eq!(invite.from().unwrap().uri.user(), "anonymous");
        assert_eq!(field(&invite, &HeaderName::Privacy), Some("id"));
    }
}

#[test]
fn a_hidden_call_to_an_apps_network_keeps_the_host_it_agreed_on() {
    let mut w = World::with(|config| {
        config.trunks.iter_mut().for_each(|trunk| trunk.app_side = true);
        config.trunks[1].domain = Some("gw.example".into());
    });
    w.call_in_with(A, "+31201234567", OFFER, withheld);
    let from = w.invited(B).invite.from().unwrap();
    assert_eq!((from.uri.user(), from.uri.host.host.as_str()), ("anonymous", "gw.example"));
}

#[test]
fn a_user_is_not_shown_a_number_that_its_caller_withholds_and_the_record_has_it() {
    let mut w = World::new();
    w.register("bob", BOB);
    let caller = w.call_in_with(A, "+3225550002", OFFER, withheld);
    let bob = w.invited(BOB);
    let text = String::from_utf8_lossy(&bob.invite.to_bytes()).into_owned();
    assert!(!text.contains("33123456789"), "{text}");
    assert_eq!(bob.invite.from().unwrap().uri.user(), "anonymous");
    w.reply(&bob, 486);
    w.request(bob.at, Method::Ack);
    w.refused(&caller, 486);
    assert_eq!(w.finish().caller.number.as_ref().unwrap().as_str(), "+33123456789");
}

#[test]
fn what_a_trunk_asserts_is_believed_where_it_is_trusted() {
    for trusted in [false, true] {
        let mut w = World::with(|config| {
            config.trunks[0].trusted = trusted;
            config.trunks[1].identity = IdentityHeader::Asserted;
        });
        w.call_in_with(A, "+31201234567", OFFER, |invite| {
            invite.headers.push(HeaderName::PAssertedIdentity, "<sip:+33140205050@a.example>");
        });
        let invite = w.invited(B).invite;
        let asserted = field(&invite, &HeaderName::PAssertedIdentity).unwrap();
        let expected = if trusted { "+33140205050@" } else { "+33123456789@" };
        assert!(asserted.contains(expected), "{asserted}");
        assert_eq!(invite.from().unwrap().uri.user(), "+33123456789", "the number shown stays");
    }
}

#[test]
fn who_sent_the_call_on_is_told_where_the_trunk_wants_it() {
    for wanted in [false, true] {
        let mut w = World::with(|config| {
            config.trunks[0].trusted = true;
            config.trunks[1].diversion = wanted;
        });
        w.call_in_with(A, "+31201234567", OFFER, |invite| {
            invite.headers.push(HeaderName::Diversion, "<sip:+33140205051@a>;reason=unconditional");
            invite.headers.push(HeaderName::HistoryInfo, "<sip:+33140205051@a>;index=1");
        });
        let invite = w.invited(B).invite;
        assert_eq!(field(&invite, &HeaderName::Diversion).is_some(), wanted);
        assert_eq!(field(&invite, &HeaderName::HistoryInfo).is_some(), wanted);
    }
}

#[test]
fn a_trunk_calls_with_its_own_numbers_only_where_that_is_wanted() {
    let screened = |action| {
        move |config: &mut Config| {
            config.trunks[0].screening = Screening {
                ranges: vec!["+3120".into()],
                default: Some("+31201110000".parse().unwrap()),
                action,
            };
        }
    };
    let mut w = World::with(screened(ScreeningAction::Replace));
    w.call_in(A, "+31201234567");
    assert_eq!(w.invited(B).invite.from().unwrap().uri.user(), "+31201110000");

    let mut w = World::with(screened(ScreeningAction::Pass));
    w.call_in(A, "+31201234567");
    assert_eq!(w.invited(B).invite.from().unwrap().uri.user(), "+33123456789");

    let mut w = World::with(screened(ScreeningAction::Reject));
    let caller = w.call_in(A, "+31201234567");
    w.refused(&caller, 403);
    assert_eq!(w.finish().end_cause, Some(EndCause::Blocked));
}

#[test]
fn a_call_of_an_apps_network_reaches_users_and_other_apps() {
    let mut w = World::with(|config| config.trunks.iter_mut().for_each(|trunk| trunk.app_side = true));
    w.register("bob", BOB);
    w.call_in(A, "+3225550002");
    w.invited(BOB);
    w.call_in(A, "+31201234567");
    w.invited(B);
}

#[test]
fn of_who_sent_a_call_on_only_the_number_goes_along_in_the_trunks_form() {
    let mut w = World::with(|config| {
        config.trunks[0].trusted = true;
        config.trunks[1].diversion = true;
        config.trunks[1].calling_format = NumberFormat::ZeroZeroE164;
    });
    w.call_in_with(A, "+31201234567", OFFER, |invite| {
        invite.headers.push(
            HeaderName::Diversion,
            "\"The Desk\" <sip:+33140205051@10.0.0.5;x=y>;reason=user-busy;counter=2;who=desk",
        );
        invite.headers.push(HeaderName::Diversion, "<sip:desk@10.0.0.5>;reason=no-answer");
        invite.headers.push(
            HeaderName::HistoryInfo,
            "<sip:+33140205051@10.0.0.5;user=phone;cause=302?Reason=SIP%3Bcause%3D486%3Btext%3D%22at%20desk%22>;index=1.1;rc=1",
        );
    });
    let invite = w.invited(B).invite;
    let diversions: Vec<&str> = invite.headers.all(&HeaderName::Diversion).collect();
    assert_eq!(
        diversions,
        [
            "<sip:0033140205051@192.0.2.1>;reason=user-busy;counter=2",
            "<sip:anonymous@anonymous.invalid>;reason=no-answer",
        ]
    );
    let history = field(&invite, &HeaderName::HistoryInfo);
    let expected = "<sip:0033140205051@192.0.2.1;cause=302?Reason=SIP%3Bcause%3D486>;index=1.1;rc=1";
    assert_eq!(history, Some(expected));
}

#[test]
fn whoever_sent_a_call_on_and_wants_not_to_be_named_is_not() {
    for (diversion, history, privacy) in [
        ("<sip:+33140205051@10.0.0.5>;privacy=full", "<sip:+33140205051@10.0.0.5>;index=1", ""),
        ("<sip:+33140205051@10.0.0.5>", "<sip:+33140205051@10.0.0.5?Privacy=history>;index=1", ""),
        ("<sip:+33140205051@10.0.0.5>", "<sip:+33140205051@10.0.0.5>;index=1", "history"),
        ("<sip:+33140205051@10.0.0.5>", "<sip:+33140205051@10.0.0.5>;index=1", "header;critical"),
    ] {
        // P-Preferred-Identity is about the caller's own number and nobody else's.
        for (knows, tell, identity) in [
            (false, Some(false), IdentityHeader::Off),
            (false, None, IdentityHeader::Preferred),
            (true, Some(true), IdentityHeader::Off),
        ] {
            let mut w = World::with(|config| {
                config.trunks[0].trusted = true;
                (config.trunks[1].diversion, config.trunks[1].tell_withheld) = (true, tell);
                config.trunks[1].identity = identity;
            });
            w.call_in_with(A, "+31201234567", OFFER, |invite| {
                invite.headers.push(HeaderName::Diversion, diversion);
                invite.headers.push(HeaderName::HistoryInfo, history);
                if !privacy.is_empty() {
                    invite.headers.push(HeaderName::Privacy, privacy);
                }
            });
            let invite = w.invited(B).invite;
            let text = String::from_utf8_lossy(&invite.to_bytes()).into_owned();
            assert_eq!(text.contains("33140205051"), knows, "{text}");
            assert!(!text.contains("10.0.0.5"), "{text}");
            let wishes = field(&invite, &HeaderName::Diversion).unwrap().contains("privacy=full")
                && (!knows || field(&invite, &HeaderName::HistoryInfo).unwrap().contains("?Privacy=history"));
            assert!(wishes, "whoever may know it is asked to keep it: {text}");
        }
    }
}

#[test]
fn a_user_chooses_by_its_preferred_identity_which_of_its_own_numbers_is_asserted() {
    for (preferred, told) in [
        ("<sip:+3225559999@example.org>", "+3225559999@"),
        ("<tel:+3225559999>", "+3225559999@"),
        ("<sip:+32900123456@example.org>", "+3225550001@"),
    ] {
        let mut w = World::with(|config| {
            asserting(config);
            config.users[0].caller_ids.push("+3225559999".parse().unwrap());
        });
        w.dial_with("alice", "0470123456", OFFER, |invite| {
            invite.headers.push(HeaderName::PPreferredIdentity, preferred);
        });
        let invite = w.invited(A).invite;
        assert!(field(&invite, &HeaderName::PAssertedIdentity).unwrap().contains(told), "{preferred}");
        assert_eq!(field(&invite, &HeaderName::PPreferredIdentity), None);
        // From names no number of alice's, so that the one that is asserted is shown too.
        assert!(told.starts_with(invite.from().unwrap().uri.user()), "{preferred}");
    }
}

/// The INVITE that a REFER of alice's brings to a far end, which refuses the call.
fn brought(w: &mut World, at: &str) -> Request {
    let target = w.invited(at);
    w.reply(&target, 486);
    w.request(target.at, Method::Ack);
    target.invite
}

#[test]
fn who_hides_its_number_hides_it_from_whom_it_moves_its_call_to() {
    // It hides it in its call, in the REFER, or not at all.
    for (in_call, in_refer) in [(true, false), (false, true), (true, true), (false, false)] {
        let hides = in_call || in_refer;
        let mut w = World::with(asserting);
        w.register("carol", CAROL);
        let shape = |invite: &mut Request| {
            if in_call {
                withheld(invite)
            }
        };
        let mut alice = w.dial_with("alice", "0470123456", OFFER, shape);
        let callee = w.invited(A);
        w.reply_with(&callee, 200, ANSWER);
        w.heard(A);
        w.ack(&mut alice);
        let fields = [(HeaderName::Privacy, "id")];
        let fields = if in_refer { &fields[..] } else { &[] };
        for (to, at) in [("<sip:carol@example.org>", CAROL), ("<sip:0499123456@example.org>", A)] {
            assert_eq!(refer_saying(&mut w, &mut alice, to, fields), 202);
            report(&mut w, &alice);
            let invite = brought(&mut w, at);
            assert!(report(&mut w, &alice).1);
            let text = String::from_utf8_lossy(&invite.to_bytes()).into_owned();
            let told = text.contains("3225550001") || text.contains("alice");
            assert_eq!(told, !hides, "{in_call} {in_refer}: {text}");
            assert_eq!(invite.from().unwrap().uri.user() == "anonymous", hides, "{text}");
            let asks = field(&invite, &HeaderName::Privacy);
            assert_eq!(asks, (hides && at == A).then_some("id"), "{text}");
        }
        w.hang_up(&mut alice, &callee);
        w.finish_all();
    }
}

#[test]
fn the_number_that_a_caller_chose_goes_along_where_it_moves_its_call_to() {
    let mut w = World::with(|config| {
        asserting(config);
        config.users[0].caller_ids.push("+3225559999".parse().unwrap());
    });
    let mut alice = w.dial_with("alice", "0470123456", OFFER, |invite| {
        invite.headers.push(HeaderName::PPreferredIdentity, "<sip:+3225559999@example.org>");
    });
    let callee = w.invited(A);
    w.reply_with(&callee, 200, ANSWER);
    w.heard(A);
    w.ack(&mut alice);
    assert_eq!(refer(&mut w, &mut alice, "<sip:0499123456@example.org>"), 202);
    report(&mut w, &alice);
    let invite = brought(&mut w, A);
    report(&mut w, &alice);
    assert!(field(&invite, &HeaderName::PAssertedIdentity).unwrap().contains("+3225559999@"), "{invite:?}");
    w.hang_up(&mut alice, &callee);
    w.finish_all();
}

#[test]
fn a_hidden_caller_of_a_trunk_is_not_shown_to_the_user_it_is_moved_to() {
    let mut w = World::with(|config| {
        (config.trunks[0].trusted, config.trunks[0].transfer) = (true, Transfer::Users);
    });
    w.register("bob", BOB);
    w.register("carol", CAROL);
    let mut caller = w.call_in_with(A, "+3225550002", OFFER, withheld);
    let mut bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    w.heard(BOB);
    w.ack(&mut caller);
    assert_eq!(refer(&mut w, &mut caller, "<sip:+3225550003@192.0.2.1>"), 202);
    report(&mut w, &caller);
    let invite = brought(&mut w, CAROL);
    report(&mut w, &caller);
    let text = String::from_utf8_lossy(&invite.to_bytes()).into_owned();
    assert!(!text.contains("33123456789"), "{text}");
    assert_eq!(invite.from().unwrap().uri.user(), "anonymous");
    w.hang_up(&mut bob, &caller);
    w.finish_all();
}
