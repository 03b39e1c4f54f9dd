//! A new configuration: running calls keep what they have.

use super::world::*;
use crate::call::Settings;
use crate::call::event::Event;
use crate::config::{Config, TrunkAuth};
use crate::sip::message::{Method, Response};
use crate::types::Secret;
use std::sync::Arc;

fn reload(w: &mut World, change: impl FnOnce(&mut Config)) {
    let mut config = w.exchange.settings().config.clone();
    change(&mut config);
    let (directory, dialplan) = (directory(&config), dialplan(&config));
    w.exchange.reload(w.now, Arc::new(Settings::new(config)), directory, dialplan);
    w.resolve();
}

#[test]
fn running_calls_go_on_and_end_as_they_began() {
    let mut w = World::with(|config| config.trunks[0].max_duration = Some(secs(500)));
    let (mut alice, callee) = w.talking();
    reload(&mut w, |config| {
        config.users.remove(0);
        config.trunks[0].max_duration = Some(secs(10));
        config.trunks[0].max_channels = Some(1);
    });
    w.pass(secs(60));
    assert!(w.call().is_live());
    // Its channel still counts against the new limit.
    let carol = w.dial("carol", "0499123456");
    w.refused(&carol, 503);
    w.hang_up(&mut alice, &callee);
    w.finish_all();
}

#[test]
fn a_user_that_is_gone_loses_its_registration_and_can_not_call() {
    let mut w = World::new();
    w.register("bob", BOB);
    reload(&mut w, |config| {
        config.users.remove(1);
    });
    assert!(w.exchange.registrar().is_empty());
    assert!(w.bindings.is_empty());
    let caller = w.call_in(A, "+3225550002");
    w.refused(&caller, 604);
    w.finish();
}

#[test]
fn an_answer_that_was_on_its_way_finds_its_trunk_though_it_moved() {
    let mut w = World::with(|config| {
        for trunk in &mut config.trunks {
            trunk.options = Some(secs(30));
        }
    });
    w.pass(ms(25));
    let to_a = w.request(A.parse().unwrap(), Method::Options);
    reload(&mut w, |config| config.trunks.reverse());
    w.send(A.parse().unwrap(), Response::to_request(&to_a, 200).with_tag("op"));
    let up: Vec<_> = w
        .events
        .iter()
        .filter_map(|event| match event {
            Event::TrunkHealth { trunk, up: true } => Some(trunk.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(up, ["a"]);
}

#[test]
fn an_account_that_changed_registers_anew_and_the_old_answer_is_nobodys() {
    let account = |config: &mut Config, user: &str| {
        let trunk = &mut config.trunks[0];
        trunk.auth = TrunkAuth::Register;
        trunk.username = user.into();
        trunk.password = Secret::new("x");
    };
    let mut w = World::with(|config| account(config, "one"));
    w.pass(ms(1));
    let old = w.request(A.parse().unwrap(), Method::Register);
    reload(&mut w, |config| account(config, "two"));
    w.pass(ms(1));
    let new = w.request(A.parse().unwrap(), Method::Register);
    let registered =
        |w: &World| w.events.iter().filter(|event| matches!(event, Event::TrunkRegistered { .. })).count();
    w.send(A.parse().unwrap(), Response::to_request(&old, 403).with_tag("op"));
    assert_eq!(registered(&w), 0);
    w.send(A.parse().unwrap(), Response::to_request(&new, 200).with_tag("op"));
    assert_eq!(registered(&w), 1);
}

#[test]
fn a_trunk_that_is_gone_keeps_its_calls_until_they_end() {
    let mut w = World::new();
    let (mut alice, callee) = w.talking();
    reload(&mut w, |config| {
        config.trunks.remove(0);
        // The dialplan of these tests names both trunks.
        let mut other = config.trunks[0].clone();
        other.name = "a".into();
        other.proxy = vec![crate::types::HostPort { host: "203.0.113.77".into(), port: Some(5060) }];
        config.trunks.insert(0, other);
    });
    w.pass(secs(5));
    w.hang_up(&mut alice, &callee);
    w.finish();
}
