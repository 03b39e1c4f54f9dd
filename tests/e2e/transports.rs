//! The core of an interconnect's checklist over every transport: the same flows over UDP, TCP and TLS, both ways.

use crate::scene::{ALICE, BLINK, BOB, MOBILE, SECOND, STRANGER, operator};
use crate::support::{
    baresip::Baresip,
    gateway::{Gateway, GatewayBuilder, Section},
    lane::Lane,
    sipp::{Over, Played, RunningSipp, Sipp},
    speech::Voice,
    tls::Authority,
    wait,
};
use std::net::SocketAddr;

/// A flow: who plays what, what the trunk is set to, and what both have to have heard.
pub struct Flow {
    caller: &'static str,
    callee: &'static str,
    with_caller: Box<dyn Fn(Sipp) -> Sipp + Sync>,
    with_callee: Box<dyn Fn(Sipp) -> Sipp + Sync>,
    trunk: fn(&mut Section, SocketAddr),
    beside: fn(&Lane, &Gateway<'_>) -> Vec<RunningSipp>,
    check: fn(&Played, &Played),
}

pub fn flow(caller: &'static str, callee: &'static str) -> Flow {
    Flow {
        caller,
        callee,
        with_caller: Box::new(|sipp| sipp),
        with_callee: Box::new(|sipp| sipp),
        trunk: |_, _| (),
        beside: |_, _| Vec::new(),
        check: |_, _| (),
    }
}

impl Flow {
    pub fn with_caller(self, with_caller: impl Fn(Sipp) -> Sipp + Sync + 'static) -> Flow {
        Flow { with_caller: Box::new(with_caller), ..self }
    }

    pub fn with_callee(self, with_callee: impl Fn(Sipp) -> Sipp + Sync + 'static) -> Flow {
        Flow { with_callee: Box::new(with_callee), ..self }
    }

    pub fn trunk(self, trunk: fn(&mut Section, SocketAddr)) -> Flow {
        Flow { trunk, ..self }
    }

    /// Who else is there before the operator calls.
    pub fn beside(self, beside: fn(&Lane, &Gateway<'_>) -> Vec<RunningSipp>) -> Flow {
        Flow { beside, ..self }
    }

    /// Of what the caller heard, and the callee.
    pub fn check(self, check: fn(&Played, &Played)) -> Flow {
        Flow { check, ..self }
    }
}

/// Flows from an app user to the trunk.
fn out() -> Vec<Flow> {
    vec![
        flow("user-calls", "operator-answers"),
        flow("user-calls-and-is-hung-up-on", "operator-answers-and-hangs-up"),
        flow("user-calls", "operator-rings-after-183"),
        flow("user-is-refused", "operator-refuses").with_caller(busy).with_callee(busy),
        flow("user-gives-up", "operator-rings-until-cancelled"),
        flow("user-gives-up-at-once", "operator-only-tries"),
        flow("user-gives-up", "operator-answers-when-cancelled"),
        flow("user-cancels-too-late", "operator-answers"),
        flow("user-calls", "operator-asks-407")
            .with_callee(|sipp| {
                let sipp = sipp.key("operator_realm", "operator.test").key("granted", "600");
                sipp.key("username", "gw").key("password", "trunk-secret")
            })
            .trunk(|trunk, _| {
                trunk.set("auth", "digest").set("username", "gw").set("password", "trunk-secret");
            }),
        flow("user-holds-and-resumes", "operator-is-held-and-taken-back"),
        flow("user-is-held-and-hung-up-on", "operator-holds-and-resumes"),
        flow("user-calls", "operator-refreshes").trunk(timer),
        flow("user-calls", "operator-wants-updates").with_caller(|sipp| sipp.pause(3 * SECOND)).trunk(timer),
        flow("user-calls", "operator-rings-reliably")
            .with_callee(|sipp| sipp.fill("header", "Supported"))
            .trunk(prack),
        flow("user-is-held-and-hung-up-on", "operator-updates").trunk(prack),
        flow("user-calls", "operator-forks"),
        flow("user-calls-without-offer", "operator-answers"),
        flow("user-calls-and-is-hung-up-on", "operator-asks-for-an-offer"),
        flow("user-calls", "operator-wants-longer-sessions").trunk(|trunk, _| {
            trunk.set("session_timer_seconds", 90);
        }),
        flow("user-holds-and-is-hung-up-on", "operator-crosses-an-offer"),
        flow("user-crosses-an-offer", "operator-holds-and-is-hung-up-on"),
        flow("user-calls", "operator-moves-to-fax").with_caller(|sipp| sipp.pause(2 * SECOND)),
        flow("user-calls", "operator-asks-to-transfer").with_callee(|sipp| sipp.fill("target", MOBILE)),
        // RFC 3261 §21.3: nothing is followed that nobody listed.
        flow("user-is-refused", "operator-sends-on")
            .with_caller(|sipp| sipp.code(502, "Bad Gateway"))
            .with_callee(|sipp| sipp.fill("place", "192.0.2.8").fill("number", MOBILE)),
        flow("user-calls-and-is-hung-up-on", "operator-answers-and-hangs-up")
            .with_callee(|sipp| sipp.fill("extra", "Reason: Q.850;cause=41"))
            .check(|caller, _| {
                let reason = caller.request("BYE").header("Reason").unwrap_or_default();
                assert!(reason.starts_with("Q.850;cause=41"), "{reason}");
            }),
        flow("user-is-refused", "operator-refuses-at-once")
            .with_caller(|sipp| sipp.code(503, "Service Unavailable"))
            .with_callee(|sipp| sipp.code(503, "Service Unavailable").fill("extra", "Retry-After: 60")),
        flow("user-is-refused", "operator-refuses-at-once")
            .with_caller(|sipp| sipp.code(488, "Not Acceptable Here"))
            .with_callee(|sipp| {
                let sipp = sipp.code(488, "Not Acceptable Here");
                sipp.fill("extra", "Warning: 305 operator.example \"Incompatible media format\"")
            })
            .check(|caller, _| {
                let warning = caller.response(488).header("Warning").unwrap_or_default();
                assert!(warning.starts_with("305 "), "{warning}");
            }),
        flow("user-calls", "operator-answers")
            .with_caller(|sipp| sipp.fill("more", "Privacy: id"))
            .trunk(|trunk, _| {
                trunk.set("identity", "pai");
            })
            .check(|_, switch| {
                let invite = switch.request("INVITE");
                assert_eq!(invite.header("Privacy"), Some("id"));
                assert!(!invite.text.contains(ALICE.trim_start_matches('+')), "{}", invite.text);
            }),
        flow("user-calls", "operator-answers")
            .trunk(|trunk, _| {
                trunk.set("trunk_group", "TG-1").set("trunk_context", "example.com").set("identity", "pai");
                let rule = [("action", "add"), ("header", "X-Customer"), ("value", "{user}")];
                let rule: toml::Table =
                    rule.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
                trunk.set("header", vec![toml::Value::Table(rule)]);
            })
            .check(|_, switch| {
                let invite = switch.request("INVITE");
                assert!(invite.uri().is_some_and(|uri| uri.contains(";tgrp=TG-1;trunk-context=example.com")));
                assert_eq!(invite.header("X-Customer"), Some("alice"));
                assert!(invite.header("P-Asserted-Identity").is_some_and(|told| told.contains(ALICE)));
            }),
        // Nobody listens at the first of its addresses.
        flow("user-calls", "operator-answers").trunk(|trunk, there| {
            let proxies = [format!("{}:9", there.ip()), there.to_string()];
            trunk.set("proxy", proxies.map(toml::Value::from).to_vec());
        }),
    ]
}

/// Flows from the trunk to an app user.
fn back() -> Vec<Flow> {
    vec![
        flow("operator-calls", "user-answers"),
        flow("operator-calls-without-offer", "user-answers"),
        flow("operator-calls-and-is-hung-up-on", "user-answers-and-hangs-up"),
        flow("operator-gives-up", "user-rings-until-cancelled"),
        flow("operator-is-refused", "user-refuses").with_caller(busy).with_callee(busy),
        flow("operator-calls-with-a-timer", "user-answers").trunk(timer),
        flow("operator-calls-with-prack", "user-answers")
            .with_caller(Sipp::deaf_in_pauses)
            .with_callee(|sipp| sipp.pause(4 * SECOND))
            .trunk(prack),
        // RFC 3262 §5: our offer in a reliable 18x, the answer in its PRACK.
        flow("operator-answers-in-its-prack", "user-answers").trunk(prack),
        flow("operator-calls-and-holds", "user-is-called-and-held"),
        flow("operator-calls-and-is-held", "user-is-called-and-holds"),
        flow("operator-calls-and-updates", "user-is-called-and-held"),
        flow("operator-calls-and-asks-for-an-offer", "user-answers"),
        flow("operator-calls-and-moves-to-fax", "user-answers").with_caller(|sipp| sipp.pause(BLINK)),
        flow("operator-calls-holds-and-is-hung-up-on", "user-is-called-and-crosses-an-offer"),
        flow("operator-calls-and-crosses-an-offer", "user-is-called-holds-and-is-hung-up-on"),
        flow("operator-calls-and-asks-to-transfer", "user-answers-and-hangs-up")
            .with_caller(|sipp| sipp.fill("target", MOBILE)),
        flow("operator-calls", "user-answers")
            .with_caller(|sipp| {
                let more = format!("P-Asserted-Identity: <tel:{MOBILE}>\nPrivacy: id");
                sipp.fill("more", &more)
            })
            .trunk(|trunk, _| {
                trunk.set("trusted", true);
            })
            .check(|_, phone| {
                let invite = phone.request("INVITE");
                assert!(invite.header("From").is_some_and(|from| from.contains("anonymous.invalid")));
                assert!(!invite.text.contains(STRANGER.trim_start_matches('+')), "{}", invite.text);
            }),
    ]
}

fn busy(sipp: Sipp) -> Sipp {
    sipp.code(486, "Busy Here")
}

pub fn timer(trunk: &mut Section, _: SocketAddr) {
    trunk.set("session_timer_seconds", 1800);
}

fn prack(trunk: &mut Section, _: SocketAddr) {
    trunk.set("prack", "supported");
}

/// Flows that play at the same time: they wait more than they work.
const AT_ONCE: usize = 4;

fn each(flows: &[Flow], play: impl Fn(usize, &Flow) + Sync) {
    at_once(flows, |flow| format!("{} to {}", flow.caller, flow.callee), play);
}

/// Plays some of these at a time, and says of which one it was that did not go well.
pub fn at_once<T: Sync>(all: &[T], named: impl Fn(&T) -> String, play: impl Fn(usize, &T) + Sync) {
    let numbered: Vec<(usize, &T)> = all.iter().enumerate().collect();
    for some in numbered.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let played: Vec<_> =
                some.iter().map(|(number, one)| (one, scope.spawn(|| play(*number, one)))).collect();
            for (one, played) in played {
                assert!(played.join().is_ok(), "{}", named(one));
            }
        });
    }
}

/// A gateway with alice, bob and a trunk to `there`, an address of its own: connections come from any port of it.
pub fn trunk_at<'a>(
    lane: &'a Lane,
    authority: &Authority,
    over: Over<'_>,
    there: SocketAddr,
    more: impl FnOnce(&mut Section, SocketAddr),
) -> GatewayBuilder<'a> {
    // The scenarios are of one session description, whatever carries them: their media is plain.
    let gateway = Gateway::on(lane).tls(authority).set("app.srtp", "off").set("app.transfer", "users");
    let gateway = gateway.user("alice", ALICE).user("bob", BOB);
    gateway.trunk_with("operator-a", there, |trunk| {
        known_by_address(trunk, over, there);
        more(trunk, there);
    })
}

/// A trunk that is known by its address alone.
pub fn known_by_address(trunk: &mut Section, over: Over<'_>, there: SocketAddr) {
    let peers = vec![toml::Value::from(there.ip().to_string())];
    trunk.set("transport", over.as_str()).set("peers", peers);
}

/// An app user calls, both legs over this transport.
pub fn from_user(name: &str, flows: &[Flow], over: Over<'_>, authority: &Authority) {
    each(flows, |number, flow| {
        let lane = Lane::take(&format!("{name}-out-{}-{number}", over.as_str()));
        let switch = operator(&lane, flow.callee).at(lane.own_ip());
        let switch = (flow.with_callee)(switch).over(over).start();
        let gateway = trunk_at(&lane, authority, over, switch.address(), flow.trunk).start();
        let caller = Sipp::client(&lane, flow.caller, gateway.at(over)).user("alice").number(MOBILE);
        let caller = (flow.with_caller)(caller.pause(SECOND)).over(over).start();
        let caller = caller.succeed();
        let via = format!("SIP/2.0/{} ", over.as_str().to_uppercase());
        let switch = switch.succeed();
        assert!(
            switch
                .requests("INVITE")
                .iter()
                .all(|invite| { invite.header("Via").is_some_and(|value| value.starts_with(&via)) })
        );
        (flow.check)(&caller, &switch);
        gateway.wait_idle();
    });
}

/// The operator calls over this transport; the user's device is reached where it registered, over UDP.
pub fn from_trunk(name: &str, flows: &[Flow], over: Over<'_>, authority: &Authority) {
    each(flows, |number, flow| {
        let lane = Lane::take(&format!("{name}-in-{}-{number}", over.as_str()));
        let port = lane.port();
        let there = (lane.own_ip(), port).into();
        let gateway = trunk_at(&lane, authority, over, there, flow.trunk).start();
        let beside = (flow.beside)(&lane, &gateway);
        let device = lane.port();
        Sipp::register(&lane, gateway.udp(), "alice", device);
        let phone = (flow.with_callee)(operator(&lane, flow.callee)).at_port(device).start();
        let caller = Sipp::client(&lane, flow.caller, gateway.at(over)).at(lane.own_ip()).at_port(port);
        let caller = caller.number(ALICE).key("calling", STRANGER).pause(SECOND);
        let caller = (flow.with_caller)(caller).over(over).start().succeed();
        (flow.check)(&caller, &phone.succeed());
        beside.into_iter().for_each(|phone| drop(phone.succeed()));
        gateway.wait_idle();
    });
}

pub fn authority() -> Authority {
    Authority::new("Tandem tests")
}

#[test]
fn a_user_and_a_trunk_over_udp() {
    from_user("transports", &out(), Over::Udp, &authority());
}

#[test]
fn a_user_and_a_trunk_over_tcp() {
    from_user("transports", &out(), Over::Tcp, &authority());
}

#[test]
fn a_user_and_a_trunk_over_tls() {
    let authority = authority();
    from_user("transports", &out(), Over::Tls(&authority), &authority);
}

#[test]
fn a_trunk_calls_over_udp() {
    from_trunk("transports", &back(), Over::Udp, &authority());
}

#[test]
fn a_trunk_calls_over_tcp() {
    from_trunk("transports", &back(), Over::Tcp, &authority());
}

#[test]
fn a_trunk_calls_over_tls() {
    let authority = authority();
    from_trunk("transports", &back(), Over::Tls(&authority), &authority);
}

/// baresip registers over a stream, and is reached by that stream alone (RFC 5626 §5.3).
#[test]
fn a_device_over_tcp_or_tls_is_rung_held_and_hung_up_on() {
    for transport in ["tcp", "tls"] {
        let lane = Lane::take(&format!("transports-device-{transport}"));
        let authority = authority();
        let from = lane.port();
        let gateway =
            Gateway::on(&lane).set("sip.digest", vec![toml::Value::from("MD5")]).user("alice", ALICE);
        let gateway = gateway.tls(&authority).trunk("operator-a", ([127, 0, 0, 1], from).into()).start();
        let at = if transport == "tls" { gateway.tls() } else { gateway.tcp() };
        let phone = Baresip::on(&lane, "alice").voice(Voice::Callee).tls(&authority);
        // Keys in the description where the signalling is secret (RFC 4568 §9).
        let phone = if transport == "tls" { phone.srtp() } else { phone };
        let mut phone = phone.registers(at, transport).start();
        for (call, scenario) in ["operator-calls", "operator-calls-and-holds"].into_iter().enumerate() {
            let caller = Sipp::client(&lane, scenario, gateway.udp()).at_port(from).number(ALICE);
            caller.key("calling", STRANGER).pause(SECOND).start().succeed();
            wait::until("the end of the call", wait::SOON, || {
                (phone.count_events("CALL_CLOSED") > call).then_some(())
            });
        }
        // The other way round: the phone hangs up, by the same stream.
        let caller = Sipp::client(&lane, "operator-calls-and-is-hung-up-on", gateway.udp()).at_port(from);
        let caller = caller.number(ALICE).key("calling", STRANGER).start();
        caller.wait_status(200);
        wait::until("the call to be there", wait::SOON, || {
            (phone.count_events("CALL_ESTABLISHED") > 2).then_some(())
        });
        phone.hang_up();
        caller.succeed();
        gateway.wait_idle();
    }
}
