//! Names of callers, numbers of who answers, and what both operators bill a call under.

use super::far::Side;
use super::world::*;
use crate::config::{Config, IdentityHeader};
use crate::sip::message::{HeaderName, Method, Request, Response, Typed};

fn named(invite: &mut Request) {
    let from = invite.headers.get(&HeaderName::From).unwrap().to_owned();
    invite.headers.set(HeaderName::From, format!("\"Alice B.\" {from}"));
}

fn shown(invite: &Request) -> Option<String> {
    invite.from().unwrap().display
}

#[test]
fn a_trunk_reads_a_callers_name_where_it_is_told_names_and_never_one_that_is_withheld() {
    for told in [false, true] {
        let mut w = World::with(|config| {
            config.trunks[0].calling_name = told;
            config.trunks[0].identity = IdentityHeader::Asserted;
        });
        w.dial_with("alice", "0470123456", OFFER, named);
        let invite = w.invited(A).invite;
        let name = told.then(|| "Alice B.".to_owned());
        assert_eq!(shown(&invite), name);
        let asserted = invite.addresses(&HeaderName::PAssertedIdentity).unwrap().remove(0);
        assert_eq!(asserted.display, None, "nobody vouches for what a phone calls itself");

        let mut w = World::with(|config| config.trunks[0].calling_name = told);
        w.dial_with("alice", "0470123456", OFFER, |invite| {
            named(invite);
            invite.headers.push(HeaderName::Privacy, "id");
        });
        let invite = w.invited(A).invite;
        assert_eq!(shown(&invite).as_deref(), Some("Anonymous"));
        assert!(!String::from_utf8_lossy(&invite.to_bytes()).contains("Alice"));
    }
}

#[test]
fn a_phone_shows_the_name_that_another_user_gave_and_a_trunks_only_where_its_names_are_believed() {
    let mut w = World::new();
    w.register("bob", BOB);
    w.dial_with("alice", "bob", OFFER, named);
    assert_eq!(shown(&w.invited(BOB).invite).as_deref(), Some("Alice B."));

    for (believed, from, expected) in [
        (true, "\"Company\"", Some("Company")),
        (true, "", None),
        // Only the number once more, or more than a phone shows.
        (true, "\"+33123456789\"", None),
        // Another number, which the phone would show as the caller's.
        (true, "\"+1 (202) 456-1111\"", None),
        (true, "\"0032 2 501.02.11\"", None),
        (true, "\"Desk 112\"", Some("Desk 112")),
        (true, &format!("\"{}\"", "x".repeat(65)), None),
        (false, "\"Your Bank\"", None),
    ] {
        let mut w = World::with(|config| config.trunks[0].calling_name = believed);
        w.register("bob", BOB);
        w.call_in_with(A, "+3225550002", OFFER, |invite| {
            let plain = invite.headers.get(&HeaderName::From).unwrap().to_owned();
            invite.headers.set(HeaderName::From, format!("{from} {plain}"));
        });
        assert_eq!(shown(&w.invited(BOB).invite).as_deref(), expected, "{from}");
    }
}

/// The first trunk calls a number that the second one has.
fn in_transit(change: impl FnOnce(&mut Config)) -> (World, Side, Side) {
    transit_with(change, |_| {})
}

fn transit_with(change: impl FnOnce(&mut Config), shape: impl Fn(&mut Request)) -> (World, Side, Side) {
    let mut w = World::with(change);
    let caller = w.call_in_with(A, "+31201234567", OFFER, shape);
    let callee = w.invited(B);
    (w, caller, callee)
}

fn asserted(response: &Response) -> Option<&str> {
    response.headers.get(&HeaderName::PAssertedIdentity)
}

const REACHED: &[(HeaderName, &str)] =
    &[(HeaderName::PAssertedIdentity, "\"Reception\" <sip:desk@b.example>, <tel:+31201110000>")];
#[test]
fn a_name_is_asserted_where_a_network_that_counts_asserts_it() {
    for (trusted, asserted) in [(true, "\"Company\" "), (true, ""), (false, "\"Company\" ")] {
        let (_, _, callee) = transit_with(
            |config| {
                (config.trunks[0].trusted, config.trunks[0].calling_name) = (trusted, true);
                (config.trunks[1].identity, config.trunks[1].calling_name) = (IdentityHeader::Asserted, true);
            },
            |invite| {
                named(invite);
                let value = format!("{asserted}<sip:+33140205050@a.example>");
                invite.headers.push(HeaderName::PAssertedIdentity, value);
            },
        );
        let vouched = trusted && !asserted.is_empty();
        let told = callee.invite.addresses(&HeaderName::PAssertedIdentity).unwrap().remove(0);
        assert_eq!(told.display.as_deref(), vouched.then_some("Company"), "{trusted} {asserted}");
        let from = if vouched { "Company" } else { "Alice B." };
        assert_eq!(shown(&callee.invite).as_deref(), Some(from));
    }
}

fn tells_all(config: &mut Config) {
    for trunk in &mut config.trunks {
        (trunk.connected_number, trunk.trusted) = (true, true);
    }
}

#[test]
fn who_failed_is_not_the_one_who_is_connected() {
    let mut w = World::with(tells_all);
    let mut alice = w.dial("alice", "0470123456");
    let a = w.invited(A);
    w.reply_saying(&a, 180, "", REACHED);
    assert_eq!(asserted(&w.response(alice.at, 180)), Some("<sip:+31201110000@192.0.2.1>"));
    w.reply(&a, 503);
    let b = w.invited(B);
    w.reply(&b, 180);
    w.reply_with(&b, 200, ANSWER);
    w.request(b.at, Method::Ack);
    assert_eq!(asserted(&w.ack(&mut alice)), None);
    w.hang_up(&mut alice, &b);
}

#[test]
fn of_several_phones_behind_a_number_only_the_one_that_answers_is_named() {
    let mut w = World::with(tells_all);
    let mut alice = w.dial("alice", "0470123456");
    let rings = w.invited(A);
    w.reply_saying(&rings, 183, "", REACHED);
    let answers = Side::called(rings.at, rings.invite.clone(), "another", "UDP");
    w.reply_with(&answers, 200, ANSWER);
    w.request(answers.at, Method::Ack);
    assert_eq!(asserted(&w.ack(&mut alice)), None);
    w.hang_up(&mut alice, &answers);
    w.finish();
}

#[test]
fn who_asks_only_with_the_answer_not_to_be_named_is_not_named_there() {
    let (mut w, mut caller, callee) = in_transit(|config| {
        tells_all(config);
        config.trunks[0].trusted = false;
    });
    w.reply_saying(&callee, 180, "", REACHED);
    assert!(asserted(&w.response(caller.at, 180)).is_some());
    w.reply_saying(&callee, 200, ANSWER, &[(HeaderName::Privacy, "id")]);
    w.request(callee.at, Method::Ack);
    assert_eq!(asserted(&w.ack(&mut caller)), None);
    w.hang_up(&mut caller, &callee);
}

#[test]
fn the_number_that_answers_is_read_and_written_in_each_trunks_form() {
    use crate::routing::NumberFormat;
    for (said, told) in [
        ("<sip:0470999999@b.example;user=phone>", Some("<sip:0032470999999@192.0.2.1>")),
        ("<tel:+31201110000>", Some("<sip:0031201110000@192.0.2.1>")),
        // What is no number of the plan is nobody's at our host.
        ("<sip:desk@b.example>", None),
        ("<sip:1234@b.example>", None),
    ] {
        let (mut w, mut caller, callee) = in_transit(|config| {
            tells_all(config);
            config.trunks[0].calling_format = NumberFormat::ZeroZeroE164;
            config.trunks[1].calling_format = NumberFormat::National;
        });
        w.reply_saying(&callee, 200, ANSWER, &[(HeaderName::PAssertedIdentity, said)]);
        w.request(callee.at, Method::Ack);
        assert_eq!(asserted(&w.ack(&mut caller)), told, "{said}");
        w.hang_up(&mut caller, &callee);
    }
}

#[test]
fn a_trunk_that_gets_the_callers_preferred_identity_does_not_learn_who_hides_at_the_other_end() {
    for (tell, expected) in [(None, false), (Some(true), true)] {
        let (mut w, mut caller, callee) = in_transit(|config| {
            tells_all(config);
            config.trunks[0].trusted = false;
            config.trunks[0].identity = IdentityHeader::Preferred;
            config.trunks[0].tell_withheld = tell;
        });
        w.reply_saying(&callee, 200, ANSWER, REACHED_IN_SECRET);
        w.request(callee.at, Method::Ack);
        assert_eq!(asserted(&w.ack(&mut caller)).is_some(), expected);
        w.hang_up(&mut caller, &callee);
    }
}

const REACHED_IN_SECRET: &[(HeaderName, &str)] =
    &[(HeaderName::PAssertedIdentity, "<sip:+31201110000@b.example>"), (HeaderName::Privacy, "id")];

#[test]
fn whom_a_call_has_reached_is_passed_on_between_trunks_that_tell_each_other() {
    for (says, hears, trusted, expected) in [
        (true, true, true, true),
        (true, false, true, false),
        (false, true, true, false),
        // RFC 3325 §5: the word of a stranger does not count.
        (true, true, false, false),
    ] {
        let (mut w, mut caller, callee) = in_transit(|config| {
            config.trunks[0].connected_number = hears;
            config.trunks[1].connected_number = says;
            config.trunks[1].trusted = trusted;
        });
        w.reply_saying(&callee, 180, "", REACHED);
        let ringing = w.response(caller.at, 180);
        w.reply_saying(&callee, 200, ANSWER, REACHED);
        w.request(callee.at, Method::Ack);
        let answer = w.ack(&mut caller);
        for response in [&ringing, &answer] {
            let told = asserted(response);
            assert_eq!(told.is_some(), expected, "{told:?}");
            // The number, not the name beside it, and nothing of the other operator's network.
            assert!(told.is_none_or(|told| told == "<sip:+31201110000@192.0.2.1>"), "{told:?}");
        }
        w.hang_up(&mut caller, &callee);
        w.finish();
    }
}

#[test]
fn who_does_not_want_to_be_known_as_the_one_who_answers_is_named_inside_the_trust_domain_alone() {
    for trusted in [false, true] {
        let (mut w, mut caller, callee) = in_transit(|config| {
            config.trunks[0].connected_number = true;
            config.trunks[0].trusted = trusted;
            config.trunks[1].connected_number = true;
            config.trunks[1].trusted = true;
        });
        w.reply_saying(&callee, 200, ANSWER, REACHED_IN_SECRET);
        w.request(callee.at, Method::Ack);
        let answer = w.ack(&mut caller);
        assert_eq!(asserted(&answer).is_some(), trusted);
        assert_eq!(answer.headers.get(&HeaderName::Privacy), trusted.then_some("id"));
        w.hang_up(&mut caller, &callee);
    }
}

#[test]
fn a_phone_and_a_trunk_learn_who_answers_where_that_is_told() {
    for told in [false, true] {
        // The phone of a user hears whom the trunk says that it has reached.
        let mut w = World::with(|config| {
            config.trunks[0].connected_number = told;
            config.trunks[0].trusted = true;
        });
        let mut alice = w.dial("alice", "0470123456");
        let a = w.invited(A);
        w.reply_saying(&a, 200, ANSWER, REACHED);
        w.request(a.at, Method::Ack);
        assert_eq!(asserted(&w.ack(&mut alice)).is_some(), told);
        w.hang_up(&mut alice, &a);

        // A user that answers is known by the number that rings it.
        let mut w = World::with(|config| config.trunks[0].connected_number = told);
        w.register("bob", BOB);
        let mut caller = w.call_in(A, "+3225550002");
        let bob = w.invited(BOB);
        w.reply_with(&bob, 200, OPUS_ANSWER);
        w.request(bob.at, Method::Ack);
        let answer = w.ack(&mut caller);
        assert_eq!(asserted(&answer), told.then_some("<sip:+3225550002@192.0.2.1>"));
        w.hang_up(&mut caller, &bob);
    }
}

#[test]
fn of_several_identities_that_a_network_asserts_the_number_counts() {
    for value in [
        "\"A\" <sip:desk@a.example>, <tel:+33140205050>",
        "<tel:+33140205050>, \"A\" <sip:desk@a.example>",
        "<sip:+33140205050@a.example>, <tel:+33140205050>",
    ] {
        let (_, _, callee) = transit_with(
            |config| {
                config.trunks[0].trusted = true;
                config.trunks[1].identity = IdentityHeader::Asserted;
            },
            |invite| invite.headers.push(HeaderName::PAssertedIdentity, value),
        );
        let told = callee.invite.headers.get(&HeaderName::PAssertedIdentity).unwrap();
        assert!(told.contains("+33140205050@") && !told.contains("desk"), "{value}: {told}");
    }
}

fn vector(headers: &crate::sip::message::Headers) -> Option<&str> {
    headers.get(&HeaderName::PChargingVector)
}

fn charged(config: &mut Config) {
    for trunk in &mut config.trunks {
        trunk.charging_vector = true;
        trunk.trusted = true;
    }
}

#[test]
fn a_call_has_one_identifier_for_billing_on_its_whole_way() {
    const THEIRS: &str = "icid-value=\"a.1-b\";icid-generated-at=203.0.113.1;orig-ioi=a.example";
    let (mut w, mut caller, callee) =
        transit_with(charged, |invite| invite.headers.push(HeaderName::PChargingVector, THEIRS));
    let passed_on = "icid-value=\"a.1-b\";orig-ioi=a.example";
    assert_eq!(vector(&callee.invite.headers), Some(passed_on), "without the other network's address");
    w.reply(&callee, 180);
    let answered = format!("{passed_on};term-ioi=192.0.2.1");
    assert_eq!(vector(&w.response(caller.at, 180).headers), Some(answered.as_str()));
    w.reply_with(&callee, 200, ANSWER);
    w.request(callee.at, Method::Ack);
    assert_eq!(vector(&w.ack(&mut caller).headers), Some(answered.as_str()));
    w.hang_up(&mut caller, &callee);

    // One of our own for a call of a user: the call's number, the same at the next trunk.
    let mut w = World::with(charged);
    w.dial("alice", "0470123456");
    let first = w.invited(A);
    let id = w.call().id.to_string();
    let own = format!("icid-value=\"{id}\";icid-generated-at=192.0.2.1;orig-ioi=192.0.2.1");
    assert_eq!(vector(&first.invite.headers), Some(own.as_str()));
    w.reply(&first, 503);
    assert_eq!(vector(&w.invited(B).invite.headers), Some(own.as_str()));
}

#[test]
fn an_identifier_for_billing_stays_inside_the_trust_domain_and_is_no_way_in() {
    let theirs = "icid-value=\"abc\"";
    let (_, _, callee) = transit_with(
        |config| {
            charged(config);
            config.trunks[1].charging_vector = false;
        },
        |invite| invite.headers.push(HeaderName::PChargingVector, theirs),
    );
    assert_eq!(vector(&callee.invite.headers), None);
    for bad in ["icid-value=\"a b\"", "icid-value=", "nothing", "icid-value=\"<sip:x>\""] {
        let (_, _, callee) =
            transit_with(charged, |invite| invite.headers.push(HeaderName::PChargingVector, bad));
        let own = vector(&callee.invite.headers).unwrap();
        assert!(own.contains("icid-generated-at=192.0.2.1"), "{bad}: {own}");
    }
}
