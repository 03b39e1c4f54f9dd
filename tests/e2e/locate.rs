//! Where trunks are, by names in a real DNS (RFC 3263): SRV, NAPTR, changes, failures.

use crate::scene::{ALICE, BLINK, SECOND, alice, operator};
use crate::support::{
    dns::{Dns, RunningDns},
    gateway::{Gateway, Section},
    lane::Lane,
    sipp::RunningSipp,
    wait,
};
use std::collections::BTreeSet;
use toml::Value as Toml;

const NAME: &str = "operator.test";
const HOST: &str = "sbc.operator.test";

/// A gateway whose trunk is known by name alone.
fn gateway<'a>(
    lane: &'a Lane,
    dns: &RunningDns,
    peer: &RunningSipp,
    more: impl FnOnce(&mut Section),
) -> Gateway<'a> {
    let gateway = Gateway::on(lane).user("alice", ALICE);
    let gateway = gateway.set("dns.servers", vec![Toml::from(dns.server().to_string())]);
    let gateway = gateway.trunk_with("operator-a", peer.address(), |trunk| {
        trunk.set("proxy", vec![Toml::from(NAME)]);
        more(trunk);
    });
    let gateway = gateway.start();
    wait_port(&gateway, peer.address().port());
    gateway
}

fn ports(gateway: &Gateway<'_>) -> Vec<u16> {
    let trunks = gateway.list("/api/v1/trunks", "trunks");
    let targets = trunks[0]["targets"].as_array().cloned().unwrap_or_default();
    let port = |target: &serde_json::Value| target["address"].as_str()?.rsplit(':').next()?.parse().ok();
    targets.iter().filter_map(port).collect()
}

#[track_caller]
fn wait_port(gateway: &Gateway<'_>, port: u16) {
    wait::until(&format!("the trunk to be at {port}"), wait::SOON, || {
        ports(gateway).contains(&port).then_some(())
    });
}

fn call_ids(operator: &RunningSipp) -> BTreeSet<String> {
    let messages = operator.messages();
    let invites = messages.iter().filter(|message| !message.sent && message.method() == Some("INVITE"));
    invites.filter_map(|invite| invite.header("Call-ID").map(str::to_owned)).collect()
}

#[test]
fn a_trunk_is_found_by_its_srv_records_and_priority_decides() {
    let lane = Lane::take("locate-srv");
    let first = operator(&lane, "operator-answers").start();
    let second = operator(&lane, "operator-answers").start();
    let dns = Dns::on(&lane)
        .address(HOST, "127.0.0.1", 60)
        .srv("_sip._udp.operator.test", HOST, second.address().port(), 20, 100)
        .srv("_sip._udp.operator.test", HOST, first.address().port(), 10, 0)
        .start();
    let gateway = gateway(&lane, &dns, &first, |_| {});
    assert_eq!(ports(&gateway), [first.address().port(), second.address().port()], "in their order");
    alice(&lane, &gateway, "user-calls").start().succeed();
    let invite = first.succeed();
    let uri = invite.request("INVITE").start_line().to_owned();
    assert!(uri.contains("@operator.test"), "the name stays in the Request-URI: {uri}");
    assert!(second.messages().is_empty(), "the second one was asked");
}

/// RFC 2782: of equal priority, by weight.
#[test]
fn equals_share_the_calls_by_the_weight_of_their_srv_records() {
    let lane = Lane::take("locate-weight");
    let much = operator(&lane, "operator-answers").calls(60).start();
    let little = operator(&lane, "operator-answers").calls(60).start();
    let last = operator(&lane, "operator-answers").calls(60).start();
    let dns = Dns::on(&lane)
        .address(HOST, "127.0.0.1", 60)
        .srv("_sip._udp.operator.test", HOST, little.address().port(), 10, 20)
        .srv("_sip._udp.operator.test", HOST, last.address().port(), 20, 100)
        .srv("_sip._udp.operator.test", HOST, much.address().port(), 10, 80)
        .start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).set("limits.max_calls_per_user", 100);
    let gateway = gateway.set("dns.servers", vec![Toml::from(dns.server().to_string())]);
    let gateway = gateway.trunk_with("operator-a", much.address(), |trunk| {
        trunk.set("proxy", vec![Toml::from(NAME)]);
    });
    let gateway = gateway.start();
    wait_port(&gateway, much.address().port());
    alice(&lane, &gateway, "user-calls").pause(BLINK).calls(60).arg("-r").arg("20").start().succeed();
    let shares = [&much, &little, &last].map(|operator| call_ids(operator).len());
    // Forty-eight and twelve are meant; neither to get none nor half of them happens once in a million times.
    assert_eq!((shares[0] + shares[1], shares[2]), (60, 0), "{shares:?}");
    assert!(shares[1] > 0 && shares[0] > shares[1], "{shares:?}");
}

#[test]
fn a_silent_address_costs_one_call_and_not_the_next() {
    let lane = Lane::take("locate-silent");
    let silent = operator(&lane, "operator-says-nothing").pause(30 * SECOND).start();
    let second = operator(&lane, "operator-answers").calls(2).start();
    let dns = Dns::on(&lane)
        .address(HOST, "127.0.0.1", 60)
        .srv("_sip._udp.operator.test", HOST, silent.address().port(), 10, 0)
        .srv("_sip._udp.operator.test", HOST, second.address().port(), 20, 0)
        .start();
    let gateway = gateway(&lane, &dns, &second, |trunk| {
        trunk.set("reply_timeout_ms", 600);
    });
    alice(&lane, &gateway, "user-calls").start().succeed();
    assert_eq!(call_ids(&silent).len(), 1, "the first call tried it");
    alice(&lane, &gateway, "user-calls").start().succeed();
    assert_eq!(call_ids(&silent).len(), 1, "the second call went by it");
    assert_eq!(second.succeed().requests("INVITE").len(), 2);
    let trunks = gateway.list("/api/v1/trunks", "trunks");
    assert_eq!(trunks[0]["targets"][0]["health"], "down", "{trunks:#?}");
    assert_ne!(trunks[0]["health"], "down", "one address is not the trunk");
}

#[test]
fn options_find_a_silent_address_before_any_call_does() {
    let lane = Lane::take("locate-options");
    let silent = operator(&lane, "operator-says-nothing").pause(30 * SECOND).start();
    let switch = operator(&lane, "operator-is-asked-for-health").code(200, "OK").calls(50).start();
    let dns = Dns::on(&lane)
        .address(HOST, "127.0.0.1", 60)
        .srv("_sip._udp.operator.test", HOST, silent.address().port(), 10, 0)
        .srv("_sip._udp.operator.test", HOST, switch.address().port(), 20, 0)
        .start();
    let gateway = gateway(&lane, &dns, &switch, |trunk| {
        trunk.set("options_seconds", 1);
    });
    let target =
        |place: usize| gateway.list("/api/v1/trunks", "trunks")[0]["targets"][place]["health"].clone();
    wait::until("the silent address to be known as such", wait::SOON, || (target(0) == "down").then_some(()));
    wait::until("the other one to be known as up", wait::SOON, || (target(1) == "up").then_some(()));
    gateway.wait_metric("tandem_trunk_up", &[("trunk", "operator-a")], 1.0);
}

#[test]
fn a_dead_dns_is_survived_and_a_new_address_followed() {
    let lane = Lane::take("locate-change");
    let first = operator(&lane, "operator-answers").start();
    let second = operator(&lane, "operator-answers").start();
    let dns = Dns::on(&lane)
        .address(HOST, "127.0.0.1", 1)
        .srv("_sip._udp.operator.test", HOST, first.address().port(), 10, 0)
        .start();
    let gateway = gateway(&lane, &dns, &first, |trunk| {
        trunk.set("peers", vec![Toml::from("127.0.0.9")]);
    });
    let port = dns.end();
    // Its records have expired by now, and nobody can be asked.
    wait::talk(2 * SECOND);
    alice(&lane, &gateway, "user-calls").start().succeed();
    first.succeed();
    let _dns = Dns::at_port(port)
        .address(HOST, "127.0.0.1", 1)
        .srv("_sip._udp.operator.test", HOST, second.address().port(), 10, 0)
        .start();
    wait::until("the new address", wait::START, || {
        (ports(&gateway) == [second.address().port()]).then_some(())
    });
    alice(&lane, &gateway, "user-calls").start().succeed();
    second.succeed();
}

/// RFC 3263 §4.2: a name's own address is its SIP server's only where it has no SRV records.
#[test]
fn services_that_the_dns_fails_to_tell_are_not_looked_for_where_the_web_server_is() {
    let lane = Lane::take("locate-silent-srv");
    let first = operator(&lane, "operator-answers").start();
    let dns = Dns::on(&lane)
        .address(HOST, "127.0.0.1", 1)
        .srv("_sip._udp.operator.test", HOST, first.address().port(), 10, 0)
        .start();
    let gateway = gateway(&lane, &dns, &first, |_| {});
    let port = dns.end();
    let dns = Dns::at_port(port)
        .address(HOST, "127.0.0.1", 1)
        .address(NAME, "127.0.0.1", 60)
        .silent("_sip._udp.operator.test")
        .start();
    dns.wait_asked("SRV", "_sip._udp.operator.test");
    let moved = || ports(&gateway) != [first.address().port()];
    // Longer than the question is repeated.
    assert!(wait::never(6 * SECOND, moved), "{:?}", ports(&gateway));
    alice(&lane, &gateway, "user-calls").start().succeed();
    first.succeed();
}

#[test]
fn naptr_records_choose_the_transport_where_they_may() {
    let lane = Lane::take("locate-naptr");
    let switch = operator(&lane, "operator-answers").tcp().start();
    let dns = Dns::on(&lane)
        .address(HOST, "127.0.0.1", 60)
        .naptr(NAME, 10, "SIP+D2T", "_sip._tcp.operator.test")
        .naptr(NAME, 20, "SIP+D2U", "_sip._udp.operator.test")
        .srv("_sip._tcp.operator.test", HOST, switch.address().port(), 10, 0)
        .start();
    let gateway = gateway(&lane, &dns, &switch, |trunk| {
        trunk.set("transport", "udp").set("naptr", true);
    });
    alice(&lane, &gateway, "user-calls").start().succeed();
    let switch = switch.succeed();
    assert!(switch.request("INVITE").header("Via").is_some_and(|via| via.starts_with("SIP/2.0/TCP")));
}
