//! What a datagram can't do: carry a request that is too large, and be received where nobody listens.

use crate::scene::{ALICE, SECOND, alice, operator};
use crate::support::{
    gateway::{Gateway, GatewayBuilder},
    kamailio::{Kamailio, Outer},
    lane::Lane,
    sipp::Sipp,
    trace::TracedMessage,
    wait,
};
use std::{net::SocketAddr, time::Duration};

/// A switch that asks for a password in a realm whose name alone makes each proof larger than the 1,300 octets that a
/// datagram may carry (RFC 3261 §18.1.1).
fn asking(lane: &Lane) -> Sipp {
    operator(lane, "operator-asks-407").key("operator_realm", &"operator.".repeat(90))
}

/// A gateway whose trunk proves itself there.
fn proving<'a>(gateway: GatewayBuilder<'a>, proxy: SocketAddr) -> Gateway<'a> {
    let gateway = gateway.user("alice", ALICE).trunk_with("operator-a", proxy, |trunk| {
        trunk.set("auth", "digest").set("username", "gw").set("password", "trunk-secret");
    });
    gateway.start()
}

#[test]
fn a_request_too_large_for_a_datagram_goes_over_tcp() {
    let lane = Lane::take("udp-large");
    let switch = asking(&lane).start();
    let gateway = Gateway::on(&lane);
    let proxy = Kamailio::start(&lane, Outer::UdpAndTcp, switch.address(), gateway.udp(), None);
    let gateway = proving(gateway, proxy.outer());
    alice(&lane, &gateway, "user-calls").start().succeed();
    let switch = switch.succeed();
    let transports = |invite: &TracedMessage| {
        let vias = invite.headers("Via");
        vias.filter_map(|via| Some(via.strip_prefix("SIP/2.0/")?[..3].to_owned())).collect::<Vec<_>>()
    };
    // The proxy's own on top, the gateway's below: first as a datagram, with the proof over TCP.
    let ways: Vec<_> = switch.requests("INVITE").into_iter().map(transports).collect();
    assert_eq!(ways, [["UDP", "UDP"], ["UDP", "TCP"]]);
    // What the proxy's Record-Route says goes on from there.
    for method in ["ACK", "BYE"] {
        let line = format!("proxy: {method} ");
        wait::until(&format!("the {method} over TCP"), wait::SOON, || {
            proxy.log().lines().iter().any(|l| l.contains(&line) && l.contains("from tcp:")).then_some(())
        });
    }
    let sent = [("method", "INVITE"), ("transport", "tcp"), ("flow", "sent")];
    assert_eq!(gateway.metric("tandem_sip_requests_total", &sent), 1.0);
}

#[test]
fn a_large_request_goes_as_a_datagram_where_nobody_takes_tcp() {
    let lane = Lane::take("udp-large-refused");
    // This switch listens on UDP alone: its TCP port refuses connections.
    let switch = asking(&lane).calls(2).start();
    let gateway = proving(Gateway::on(&lane), switch.address());
    for _ in 0..2 {
        alice(&lane, &gateway, "user-calls").start().succeed();
    }
    let switch = switch.succeed();
    let invites = switch.requests("INVITE");
    assert_eq!(invites.len(), 4, "{switch}");
    for proven in invites.into_iter().filter(|invite| invite.header("Proxy-Authorization").is_some()) {
        assert!(proven.text.len() > 1_300, "{} octets prove nothing", proven.text.len());
        assert!(proven.header("Via").is_some_and(|via| via.starts_with("SIP/2.0/UDP ")), "{}", proven.text);
    }
}

#[test]
fn a_port_that_nobody_listens_at_is_left_at_once() {
    let lane = Lane::take("udp-unreachable");
    let nobody = lane.address();
    let other = operator(&lane, "operator-answers").start();
    // Silence would be waited out for longer than this test takes.
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", nobody, |trunk| {
        trunk.set("reply_timeout_ms", 30_000);
    });
    let gateway = gateway.trunk("operator-b", other.address()).start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    other.succeed();
    let cdr = gateway.wait_cdr();
    assert_eq!(cdr["egress_trunk"], "operator-b");
    let pdd = cdr["pdd_ms"].as_u64().expect("a set-up time");
    assert!(pdd < 2_000, "{pdd} ms");
    let failed = gateway.metric("tandem_trunk_failovers_total", &[("trunk", "operator-a")]);
    assert_eq!(failed, 1.0);
}

#[test]
fn a_trunk_whose_port_is_closed_is_down_with_the_first_probe() {
    let lane = Lane::take("udp-unreachable-probe");
    let nobody = lane.address();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", nobody, |trunk| {
        trunk.set("options_seconds", 600);
    });
    let gateway = gateway.start();
    // Without ICMP the probe would be repeated for 32 seconds.
    wait::until("the trunk to be down", Duration::from_secs(8), || {
        (gateway.list("/api/v1/trunks", "trunks")[0]["health"] == "down").then_some(())
    });
    alice(&lane, &gateway, "user-is-refused").pause(SECOND).code(503, "").start().succeed();
}
