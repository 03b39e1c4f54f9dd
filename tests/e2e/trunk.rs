//! Trunks: how we prove ourselves, how theirs are recognised, their health, their limits, and what an operator does.

use crate::scene::{ALICE, MOBILE, SECOND, STRANGER, alice, gateway, operator};
use crate::support::{
    digest,
    gateway::Gateway,
    lane::Lane,
    sipp::{RunningSipp, Sipp},
    wait,
};
use std::time::{Duration, Instant};

const USER: &str = "gw";
const SECRET: &str = "trunk-secret";

/// A gateway whose trunk proves itself by digest.
fn with_digest<'a>(lane: &'a Lane, operator: &RunningSipp) -> Gateway<'a> {
    let gateway = Gateway::on(lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", operator.address(), |trunk| {
        trunk.set("auth", "digest").set("username", USER).set("password", SECRET);
    });
    gateway.start()
}

fn asking(lane: &Lane, scenario: &str) -> Sipp {
    let sipp = operator(lane, scenario).key("operator_realm", "operator.test");
    sipp.key("username", USER).key("password", SECRET).key("granted", "600")
}

#[test]
fn a_trunk_that_asks_with_401_gets_the_password() {
    let lane = Lane::take("trunk-401");
    let operator = asking(&lane, "operator-asks-401").start();
    let gateway = with_digest(&lane, &operator);
    alice(&lane, &gateway, "user-calls").start().succeed();
    let operator = operator.succeed();
    let proof = operator.requests("INVITE")[1].header("Authorization").expect("a proof");
    assert!(digest::proves(proof, "INVITE", SECRET), "{proof}");
}

#[test]
fn a_trunk_that_asks_with_407_gets_the_password() {
    let lane = Lane::take("trunk-407");
    let operator = asking(&lane, "operator-asks-407").start();
    let gateway = with_digest(&lane, &operator);
    alice(&lane, &gateway, "user-calls").start().succeed();
    let operator = operator.succeed();
    let invites = operator.requests("INVITE");
    let proof = invites[1].header("Proxy-Authorization").expect("a proof");
    assert!(digest::proves(proof, "INVITE", SECRET), "{proof}");
    assert_eq!(invites[0].header("Call-ID"), invites[1].header("Call-ID"));
    assert_ne!(invites[0].header("CSeq"), invites[1].header("CSeq"));
}

#[test]
fn a_trunk_that_never_believes_the_password_is_asked_twice_and_no_more() {
    let lane = Lane::take("trunk-asks-again");
    let operator = asking(&lane, "operator-asks-again").pause(2 * SECOND).start();
    let gateway = with_digest(&lane, &operator);
    alice(&lane, &gateway, "user-is-refused").code(502, "").start().succeed();
    assert_eq!(operator.succeed().requests("INVITE").len(), 2);
    gateway.wait_metric("tandem_call_attempts_total", &[("trunk", "operator-a")], 1.0);
}

#[test]
fn a_password_goes_only_to_the_realm_it_is_for() {
    let lane = Lane::take("trunk-realm");
    let mut switch = asking(&lane, "operator-asks-again").key("operator_realm", "elsewhere.test").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", switch.address(), |trunk| {
        trunk
            .set("auth", "digest")
            .set("username", USER)
            .set("password", SECRET)
            .set("realm", "operator.test");
    });
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-is-refused").code(502, "").start().succeed();
    let sent: Vec<_> =
        switch.messages().into_iter().filter(|m| !m.sent && m.method() == Some("INVITE")).collect();
    assert_eq!(sent.len(), 1, "an answer to a foreign realm");
    switch.kill();
}

#[test]
fn a_registration_at_a_trunk_is_proven_and_kept_alive() {
    let lane = Lane::take("trunk-register");
    // The registrar grants so little that the next one is due within the test.
    let registrar = asking(&lane, "operator-takes-registration").key("granted", "2").calls(1).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", registrar.address(), |trunk| {
        trunk
            .set("auth", "register")
            .set("username", USER)
            .set("password", SECRET)
            .set("register_seconds", 60);
    });
    let gateway = gateway.start();
    let at = registrar.address().port();
    let first = registrar.succeed();
    let asked = first.requests("REGISTER");
    assert_eq!(asked.len(), 2, "asked for the password once");
    assert!(digest::proves(asked[1].header("Authorization").expect("a proof"), "REGISTER", SECRET));
    assert!(
        asked[1].text.contains("Expires: 60") || asked[1].text.contains("expires=60"),
        "{}",
        asked[1].text
    );
    wait::until("the trunk to be registered", wait::SOON, || {
        let trunks = gateway.list("/api/v1/trunks", "trunks");
        (trunks[0]["registration"]["state"] == "registered").then_some(())
    });
    let again = asking(&lane, "operator-takes-registration").at_port(at).start();
    again.wait_request("REGISTER");
    again.succeed();
}

#[test]
fn a_trunk_that_answers_options_is_up_and_one_that_does_not_is_down() {
    let lane = Lane::take("trunk-options");
    let operator = operator(&lane, "operator-is-asked-for-health").code(200, "OK").calls(2).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).set("sip.t1_ms", 50);
    let gateway = gateway.trunk_with("operator-a", operator.address(), |trunk| {
        trunk.set("options_seconds", 1);
    });
    let gateway = gateway.start();
    gateway.wait_metric("tandem_trunk_up", &[("trunk", "operator-a")], 1.0);
    let played = operator.succeed();
    assert_eq!(played.requests("OPTIONS").len(), 2);
    let measured = gateway.metric("tandem_trunk_options_rtt_seconds_count", &[("trunk", "operator-a")]);
    assert!(measured >= 2.0, "{measured}");
    // Nobody is there any more.
    wait::until("the trunk to be down", Duration::from_secs(30), || {
        (gateway.metric("tandem_trunk_up", &[("trunk", "operator-a")]) == 0.0).then_some(())
    });
    let refused = alice(&lane, &gateway, "user-is-refused").code(503, "").start().succeed();
    assert!(refused.response(503).header("Reason").is_some_and(|reason| reason.contains("cause=27")));
}

#[test]
fn a_trunk_that_says_503_to_options_gets_no_calls() {
    let lane = Lane::take("trunk-options-503");
    let busy =
        operator(&lane, "operator-is-asked-for-health").code(503, "Service Unavailable").calls(50).start();
    let other = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", busy.address(), |trunk| {
        trunk.set("options_seconds", 1);
    });
    let gateway = gateway.trunk("operator-b", other.address()).start();
    wait::until("the trunk to be down", Duration::from_secs(30), || {
        let trunks = gateway.list("/api/v1/trunks", "trunks");
        (trunks[0]["health"] == "down").then_some(())
    });
    alice(&lane, &gateway, "user-calls").start().succeed();
    other.succeed();
    assert!(busy.messages().iter().all(|message| message.method() != Some("INVITE")));
}

#[test]
fn max_channels_holds_both_directions_and_the_next_trunk_takes_over() {
    let lane = Lane::take("trunk-channels");
    let full = operator(&lane, "operator-answers").start();
    let other = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", full.address(), |trunk| {
        trunk.set("max_channels", 1);
    });
    let gateway = gateway.trunk("operator-b", other.address()).start();
    let first = alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start();
    first.wait_status(200);
    alice(&lane, &gateway, "user-calls").start().succeed();
    other.succeed();
    first.succeed();
    full.succeed();
}

#[test]
fn a_full_trunk_alone_means_congestion() {
    let lane = Lane::take("trunk-congested");
    let full = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway.trunk_with("operator-a", full.address(), |trunk| {
        trunk.set("max_channels", 1);
    });
    let gateway = gateway.start();
    let first = alice(&lane, &gateway, "user-calls").pause(2 * SECOND).start();
    first.wait_status(200);
    let refused = alice(&lane, &gateway, "user-is-refused").code(503, "").start().succeed();
    assert!(refused.response(503).header("Reason").is_some_and(|reason| reason.contains("cause=34")));
    first.succeed();
    full.succeed();
}

#[test]
fn max_cps_holds_the_calls_of_a_second() {
    let lane = Lane::take("trunk-cps");
    let slow = operator(&lane, "operator-answers").calls(2).start();
    let other = operator(&lane, "operator-answers").calls(4).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).set("limits.max_calls_per_user", 20);
    let gateway = gateway.trunk_with("operator-a", slow.address(), |trunk| {
        trunk.set("max_cps", 2);
    });
    let gateway = gateway.trunk("operator-b", other.address()).start();
    // Six calls within a quarter of a second.
    alice(&lane, &gateway, "user-calls").calls(6).arg("-r").arg("24").start().succeed();
    assert_eq!(slow.succeed().requests("INVITE").len(), 2);
    assert_eq!(other.succeed().requests("INVITE").len(), 4);
}

#[test]
fn a_call_from_an_address_that_no_trunk_has_must_prove_itself() {
    let lane = Lane::take("trunk-stranger");
    let operator = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &operator);
    let stranger =
        Sipp::client(&lane, "operator-is-refused", gateway.udp()).number(ALICE).key("calling", STRANGER);
    stranger.code(401, "").start().succeed();
    assert!(gateway.calls().is_empty());
}

#[test]
fn the_host_that_is_called_tells_two_trunks_of_one_address_apart() {
    let lane = Lane::take("trunk-match-host");
    let switch = lane.address();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway
        .trunk_with("operator-a", switch, |trunk| {
            trunk.set("match_host", "a.test");
        })
        .trunk_with("operator-b", switch, |trunk| {
            trunk.set("match_host", "b.test");
        });
    let gateway = gateway.start();
    let call = |host: &str| {
        let caller = Sipp::client(&lane, "operator-is-refused", gateway.udp()).at_port(switch.port());
        let caller = caller.key("realm", host).key("calling", STRANGER).number(ALICE);
        caller.code(480, "").start().succeed();
    };
    call("a.test");
    call("b.test");
    call("b.test");
    let count = |trunk| {
        gateway.metric("tandem_call_attempts_total", &[("trunk", trunk), ("direction", "trunk_to_app")])
    };
    assert_eq!((count("operator-a"), count("operator-b")), (1.0, 2.0));
}

#[test]
fn numbers_go_out_in_the_form_the_trunk_wants() {
    for (format, called, calling) in [
        ("+e164", MOBILE, ALICE),
        ("e164", &MOBILE[1..], &ALICE[1..]),
        ("00e164", "0032470123456", "003225550001"),
        ("national", "0470123456", "025550001"),
    ] {
        let lane = Lane::take(&format!("trunk-format-{format}"));
        let operator = operator(&lane, "operator-answers").start();
        let gateway = Gateway::on(&lane).user("alice", ALICE);
        let gateway = gateway.trunk_with("operator-a", operator.address(), |trunk| {
            trunk.set("called_format", format).set("calling_format", format);
        });
        let gateway = gateway.start();
        alice(&lane, &gateway, "user-calls").pause(Duration::from_millis(200)).start().succeed();
        let operator = operator.succeed();
        let invite = operator.request("INVITE");
        assert!(
            invite.uri().is_some_and(|uri| uri.starts_with(&format!("sip:{called}@"))),
            "{:?}",
            invite.uri()
        );
        let from = invite.header("From").unwrap_or_default();
        assert!(from.contains(&format!("sip:{calling}@")), "{format}: {from}");
    }
}

#[test]
fn a_blocked_trunk_takes_no_call_until_it_is_unblocked() {
    let lane = Lane::take("trunk-block");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &switch);
    assert_eq!(gateway.ask("POST", "/api/v1/trunks/operator-a/block", None).status, 200);
    assert_eq!(gateway.metric("tandem_trunk_blocked", &[("trunk", "operator-a")]), 1.0);
    alice(&lane, &gateway, "user-is-refused").code(503, "").start().succeed();
    let trunk = gateway.list("/api/v1/trunks", "trunks").remove(0);
    assert_eq!(trunk["blocked"], true);
    assert_eq!(gateway.ask("POST", "/api/v1/trunks/operator-a/unblock", None).status, 200);
    alice(&lane, &gateway, "user-calls").start().succeed();
    switch.succeed();
}

#[test]
fn a_draining_trunk_keeps_its_calls_and_gets_no_new_one() {
    let lane = Lane::take("trunk-drain");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = gateway(&lane, &switch);
    let running = alice(&lane, &gateway, "user-calls").pause(3 * SECOND).start();
    running.wait_status(200);
    assert_eq!(gateway.ask("POST", "/api/v1/trunks/operator-a/drain", None).status, 200);
    assert_eq!(gateway.metric("tandem_trunk_draining", &[("trunk", "operator-a")]), 1.0);
    let begun = Instant::now();
    alice(&lane, &gateway, "user-is-refused").code(503, "").start().succeed();
    running.succeed();
    assert!(begun.elapsed() > Duration::from_secs(1), "the running call was cut");
    switch.succeed();
}

#[test]
fn a_trunk_over_tcp_carries_calls_both_ways() {
    let lane = Lane::take("trunk-tcp");
    // An address of its own: connections come from any port of it.
    let there = std::net::IpAddr::from([127, 0, 0, 3]);
    let switch = operator(&lane, "operator-answers").at(there).tcp().start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("transport", "tcp").set("peers", vec![toml::Value::from("127.0.0.3")]);
        });
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    let switch = switch.succeed();
    assert!(switch.request("INVITE").header("Via").is_some_and(|via| via.starts_with("SIP/2.0/TCP")));

    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-answers").at_port(device).start();
    let caller = Sipp::client(&lane, "operator-calls", gateway.tcp()).at(there).tcp();
    caller.number(ALICE).key("calling", STRANGER).pause(SECOND).start().succeed();
    phone.succeed();
}

#[test]
fn a_call_goes_on_when_the_operators_proxy_stays_in_the_way() {
    use crate::support::kamailio::{Kamailio, Outer};
    let lane = Lane::take("trunk-proxy");
    let switch = operator(&lane, "operator-holds-and-resumes").pause(SECOND).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let proxy = Kamailio::start(&lane, Outer::Udp, switch.address(), gateway.udp(), None);
    let gateway = gateway.trunk("operator-a", proxy.outer()).start();
    alice(&lane, &gateway, "user-is-held-and-hung-up-on").start().succeed();
    let switch = switch.succeed();
    assert_eq!(switch.request("INVITE").headers("Record-Route").count(), 2);
    for method in ["INVITE", "ACK", "BYE"] {
        assert!(proxy.log().contains(&format!("proxy: {method} ")), "{method} passed the proxy by");
    }
}
