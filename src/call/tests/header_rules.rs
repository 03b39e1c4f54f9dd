//! Header rules on whole calls: what a trunk gets, what its messages become, and what crosses.

use super::world::*;
use crate::config::Config;
use crate::sip::header_rules::{Action, Condition, Pattern, Rule, Scope, Side, Status};
use crate::sip::message::{HeaderName, Method, Request};

fn name(text: &str) -> HeaderName {
    HeaderName::new(text)
}

fn on(side: Side, scope: Scope, header: &str, action: Action) -> Rule {
    Rule { side, scope, name: name(header), action, when: None }
}

fn requests(methods: &[Method]) -> Scope {
    Scope::Requests(methods.to_vec())
}

fn responses(texts: &[&str]) -> Scope {
    Scope::Responses(texts.iter().map(|text| text.parse::<Status>().unwrap()).collect())
}

fn add(value: &str) -> Action {
    Action::Add(value.parse().unwrap())
}

fn copy(from: &str) -> Action {
    Action::Copy { from: name(from) }
}

fn invite() -> Scope {
    requests(&[Method::Invite])
}

fn ruled(config: &mut Config, trunk: usize, rules: Vec<Rule>) {
    config.trunks[trunk].header_rules.0.extend(rules);
}

fn saying(field: &'static str, value: &'static str) -> impl Fn(&mut Request) {
    move |invite| invite.headers.push(name(field), value)
}

#[test]
fn a_trunk_gets_what_its_rules_say_and_its_challenge_changes_nothing() {
    let mut w = World::with(|config| {
        ruled(
            config,
            0,
            vec![
                on(Side::To, invite(), "X-Customer", add("{user}/{account}/{trunk}/{called}/{calling}")),
                on(Side::To, invite(), "X-Tenant", copy("X-Tenant")),
                on(Side::To, requests(&[Method::Bye]), "X-Bye", add("1")),
            ],
        );
    });
    let mut alice = w.dial_with("alice", "0470123456", OFFER, saying("x-tenant", "blue"));
    let callee = w.invited(A);
    let said = |header: &str| callee.invite.headers.all(&name(header)).collect::<Vec<_>>().join(",");
    assert_eq!(said("X-Customer"), "alice/alice/a/+32470123456/+3225550001");
    assert_eq!(said("X-Tenant"), "blue");
    assert_eq!(said("X-Bye"), "");
    w.reply_with(&callee, 200, ANSWER);
    w.ack(&mut alice);
    w.heard(A);
    w.bye(&mut alice);
    let bye = w.request(callee.at, Method::Bye);
    assert_eq!(bye.headers.get(&name("X-Bye")), Some("1"));
    assert_eq!(bye.headers.get(&name("X-Tenant")), None);
    w.ok(&callee, Method::Bye);
    w.response(alice.at, 200);
    w.finish();
}

#[test]
fn what_no_rule_names_stays_on_its_side() {
    let mut w = World::with(|config| {
        ruled(config, 0, vec![on(Side::To, invite(), "X-Tenant", copy("X-Tenant"))]);
    });
    w.dial_with("alice", "0470123456", OFFER, |invite| {
        for (field, value) in [("X-Inner", "10.0.0.7"), ("P-Charging-Vector", "icid=1"), ("X-Tenant", "a")] {
            invite.headers.push(name(field), value);
        }
    });
    let text = String::from_utf8_lossy(&w.invited(A).invite.to_bytes()).into_owned();
    assert!(text.contains("X-Tenant: a") && !text.contains("10.0.0.7") && !text.contains("icid"), "{text}");
}

#[test]
fn what_a_trunk_says_is_changed_before_anything_reads_it_and_crosses_by_name() {
    let mut w = World::with(|config| {
        let private = Rule {
            when: Some(Condition { name: name("X-Private"), pattern: Pattern::new("^yes$").unwrap() }),
            ..on(Side::From, invite(), "Privacy", add("id"))
        };
        ruled(config, 0, vec![private, on(Side::From, invite(), "X-Caller-Name", copy("X-Name"))]);
    });
    w.register("bob", BOB);
    w.call_in_with(A, "+3225550002", OFFER, |invite| {
        invite.headers.push(name("X-Private"), "yes");
        invite.headers.push(name("X-Name"), "Ann\tExample");
        invite.headers.push(name("X-Route"), "10.0.0.7");
    });
    let bob = w.invited(BOB);
    assert_eq!(bob.invite.headers.get(&name("X-Caller-Name")), Some("Ann Example"));
    let text = String::from_utf8_lossy(&bob.invite.to_bytes()).into_owned();
    assert!(text.contains("anonymous.invalid") && !text.contains("33123456789"), "{text}");
    assert!(!text.contains("10.0.0.7") && !text.contains("X-Private"), "{text}");
}

#[test]
fn responses_cross_by_the_rules_of_either_trunk() {
    for (status, wanted) in [(180, "ring"), (200, "answer"), (486, "busy")] {
        let mut w = World::with(|config| {
            ruled(
                config,
                1,
                vec![on(Side::From, responses(&["1xx", "2xx", "486"]), "X-Far", copy("X-Said"))],
            );
            ruled(
                config,
                0,
                vec![
                    on(Side::To, responses(&["2xx"]), "X-Answer", add("{trunk}")),
                    on(Side::To, responses(&["1xx", "200", "4xx"]), "X-Taken", copy("X-Said")),
                ],
            );
        });
        let caller = w.call_in(A, "+31201234567");
        let callee = w.invited(B);
        let sdp = if status == 200 { ANSWER } else { "" };
        w.reply_saying(&callee, status, sdp, &[(name("X-Said"), wanted), (name("X-Inner"), "10.0.0.7")]);
        let told = w.response(caller.at, status);
        assert_eq!(told.headers.get(&name("X-Far")), Some(wanted), "{status}");
        assert_eq!(told.headers.get(&name("X-Taken")), Some(wanted), "{status}");
        assert_eq!(told.headers.get(&name("X-Answer")), (status == 200).then_some("a"), "{status}");
        assert!(!String::from_utf8_lossy(&told.to_bytes()).contains("10.0.0.7"));
        assert_eq!(w.heard(&caller.at.to_string()), Vec::<String>::new());
    }
}

#[test]
fn what_was_said_with_the_ringing_is_not_said_with_the_end() {
    let mut w = World::with(|config| {
        ruled(config, 0, vec![on(Side::To, responses(&["1xx", "4xx"]), "X-Taken", copy("X-Said"))]);
    });
    w.register("bob", BOB);
    let caller = w.call_in(A, "+3225550002");
    let bob = w.invited(BOB);
    w.reply_saying(&bob, 180, "", &[(name("X-Said"), "ring")]);
    assert_eq!(w.response(caller.at, 180).headers.get(&name("X-Taken")), Some("ring"));
    w.pass(secs(600));
    let end = w.any_response(caller.at);
    assert!((400..500).contains(&end.status), "{}", end.status);
    assert_eq!(end.headers.get(&name("X-Taken")), None);
}

#[test]
fn an_answer_that_is_repeated_is_the_same_word_for_word() {
    let mut w = World::with(|config| {
        ruled(config, 0, vec![on(Side::To, responses(&["2xx"]), "X-Answer", add("1"))]);
    });
    w.register("bob", BOB);
    let caller = w.call_in(A, "+3225550002");
    let bob = w.invited(BOB);
    w.reply_with(&bob, 200, OPUS_ANSWER);
    let first = w.response(caller.at, 200);
    w.pass(ms(600));
    let again = w.response(caller.at, 200);
    assert_eq!(first.to_bytes(), again.to_bytes());
    assert_eq!(again.headers.all(&name("X-Answer")).count(), 1);
}

#[test]
fn a_bye_takes_along_what_a_rule_names() {
    let mut w = World::with(|config| {
        ruled(config, 0, vec![on(Side::To, requests(&[Method::Bye]), "X-Why", copy("X-Why"))]);
    });
    let (mut alice, callee) = w.talking();
    let bye = alice.request(Method::Bye).with_header(name("X-Why"), "done").with_header(name("X-Other"), "2");
    w.send(alice.at, &bye);
    let told = w.request(callee.at, Method::Bye);
    assert_eq!(told.headers.get(&name("X-Why")), Some("done"));
    assert_eq!(told.headers.get(&name("X-Other")), None);
    w.ok(&callee, Method::Bye);
    w.finish();
}

#[test]
fn a_number_that_is_withheld_is_no_variables_value() {
    for trusted in [false, true] {
        let mut w = World::with(|config| {
            config.trunks[0].trusted = trusted;
            ruled(config, 0, vec![on(Side::To, invite(), "X-Calling", add("{calling}"))]);
        });
        w.dial_with("alice", "0470123456", OFFER, saying("Privacy", "id"));
        let invite = w.invited(A).invite;
        let wanted = if trusted { "+3225550001" } else { "anonymous" };
        assert_eq!(invite.headers.get(&name("X-Calling")), Some(wanted));
    }
}

#[test]
fn each_trunk_that_is_tried_has_its_own_rules() {
    let mut w = World::with(|config| {
        ruled(config, 0, vec![on(Side::To, invite(), "X-Via", add("{trunk}"))]);
        ruled(config, 1, vec![on(Side::To, invite(), "X-Other", add("{trunk}"))]);
    });
    w.dial("alice", "0470123456");
    let first = w.invited(A);
    assert_eq!(first.invite.headers.get(&name("X-Via")), Some("a"));
    w.reply(&first, 503);
    let second = w.invited(B).invite;
    assert_eq!(second.headers.get(&name("X-Via")), None);
    assert_eq!(second.headers.get(&name("X-Other")), Some("b"));
}

#[test]
fn what_is_asked_outside_calls_passes_the_rules_too() {
    let mut w = World::with(|config| {
        config.trunks[0].options = Some(secs(30));
        ruled(
            config,
            0,
            vec![on(Side::To, requests(&[Method::Options, Method::Register]), "X-Site", add("{trunk}"))],
        );
    });
    w.pass(ms(25));
    let options = w.request(A.parse().unwrap(), Method::Options);
    assert_eq!(options.headers.get(&name("X-Site")), Some("a"));
}
