//! Addresses, families and marks: IPv6, several networks, what is advertised, DSCP.

use crate::scene::{ALICE, BLINK, MOBILE, SECOND, alice, builder, operator};
use crate::support::{
    gateway::{Gateway, PASSWORD},
    lane::Lane,
    sipp::Sipp,
};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

#[test]
fn a_call_runs_over_ipv6_on_both_sides() {
    let lane = Lane::take("network-ipv6");
    let here = IpAddr::from(Ipv6Addr::LOCALHOST);
    let switch = operator(&lane, "operator-answers").at(here).start();
    let port = lane.port();
    let gateway = Gateway::on(&lane).set("sip.listen", vec![toml::Value::from(format!("udp:[::1]:{port}"))]);
    let gateway = gateway.set("network.bind", vec![toml::Value::from("::1")]);
    let gateway = gateway.user("alice", ALICE).trunk("operator-a", switch.address()).start();
    let caller = Sipp::client(&lane, "user-calls", SocketAddr::new(here, port)).at(here);
    let caller = caller.user("alice").number(MOBILE).pause(SECOND).start().succeed();
    let switch = switch.succeed();
    assert_eq!(switch.request("INVITE").sdp("c=").next(), Some("IN IP6 ::1"));
    assert_eq!(caller.response(200).sdp("c=").next(), Some("IN IP6 ::1"));
    gateway.wait_idle();
}

#[test]
fn a_call_crosses_from_ipv4_to_ipv6() {
    let lane = Lane::take("network-families");
    let switch = operator(&lane, "operator-answers").at(Ipv6Addr::LOCALHOST.into()).start();
    let (four, six) = (lane.port(), lane.port());
    let listen =
        [format!("udp:127.0.0.1:{four}"), format!("udp:[::1]:{six}")].map(toml::Value::from).to_vec();
    let bind = ["127.0.0.1", "::1"].map(toml::Value::from).to_vec();
    let gateway = Gateway::on(&lane).set("sip.listen", listen).set("network.bind", bind);
    let gateway = gateway.user("alice", ALICE).trunk("operator-a", switch.address()).start();
    let to = SocketAddr::from(([127, 0, 0, 1], four));
    let caller =
        Sipp::client(&lane, "user-calls", to).user("alice").number(MOBILE).pause(SECOND).start().succeed();
    assert_eq!(switch.succeed().request("INVITE").sdp("c=").next(), Some("IN IP6 ::1"));
    assert_eq!(caller.response(200).sdp("c=").next(), Some("IN IP4 127.0.0.1"));
    gateway.wait_idle();
}

#[test]
fn the_public_address_is_what_both_sides_are_told() {
    let lane = Lane::take("network-public");
    let switch = operator(&lane, "operator-answers").start();
    let gateway =
        builder(&lane, &switch).set("network.public_address", "127.0.0.9").set("sip.t1_ms", 50).start();
    // The operator's ACK and BYE go to the public address, which leads nowhere here: only what was said is judged.
    let caller = alice(&lane, &gateway, "user-calls").start();
    let offer = switch.wait_request("INVITE");
    assert_eq!(offer.sdp("c=").next(), Some("IN IP4 127.0.0.9"));
    assert!(offer.header("Contact").is_some_and(|contact| contact.contains("127.0.0.9")), "{}", offer.text);
    let answer = caller.wait_status(200);
    assert_eq!(answer.sdp("c=").next(), Some("IN IP4 127.0.0.9"));
}

#[test]
fn a_trunk_lives_in_its_own_network() {
    let lane = Lane::take("network-second");
    let other = IpAddr::from([127, 0, 0, 4]);
    let switch = operator(&lane, "operator-answers").at(IpAddr::from([127, 0, 0, 5])).start();
    let gateway = Gateway::on(&lane);
    let (sip, inner) = (gateway.udp().port(), lane.port());
    let listen =
        [format!("udp:127.0.0.1:{sip}"), format!("udp:{other}:{inner}@ipx")].map(toml::Value::from).to_vec();
    let first = lane.even_ports(8);
    let gateway = gateway.set("sip.listen", listen).section("network", |network| {
        network.set("name", "ipx").set("bind", vec![toml::Value::from(other.to_string())]);
        network.set("media_ports", format!("{first}-{}", first + 7));
    });
    let gateway = gateway.user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
        trunk.set("network", "ipx");
    });
    let gateway = gateway.start();
    let caller = alice(&lane, &gateway, "user-calls").start().succeed();
    let switch = switch.succeed();
    let offer = switch.request("INVITE");
    assert!(
        offer.header("Via").is_some_and(|via| via.contains(&format!("{other}:{inner}"))),
        "{}",
        offer.text
    );
    assert_eq!(offer.sdp("c=").next(), Some(format!("IN IP4 {other}").as_str()));
    let port: u16 =
        offer.sdp("m=audio ").next().and_then(|m| m.split(' ').next()?.parse().ok()).expect("a port");
    assert!((first..first + 8).contains(&port), "{port}");
    assert_eq!(caller.response(200).sdp("c=").next(), Some("IN IP4 127.0.0.1"));
}

#[test]
fn secrets_come_from_files_and_from_the_environment() {
    let lane = Lane::take("network-secrets");
    let switch = operator(&lane, "operator-answers").start();
    let file = lane.path("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("a secret file");
    let gateway = Gateway::on(&lane).env("OPERATORS_TOKEN", "from-the-environment");
    let gateway =
        gateway.set("admin.operate_token", "env:OPERATORS_TOKEN").user_with("alice", ALICE, |user| {
            user.set("password", format!("file:{}", file.display()));
        });
    let gateway = gateway.trunk("operator-a", switch.address()).start();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    switch.succeed();
    let ask = |token| {
        crate::support::http::request(gateway.admin(), "GET", "/api/v1/calls", Some(token), &[], None)
            .expect("an answer")
    };
    assert_eq!(ask("from-the-environment").status, 200);
    assert_eq!(ask("something-else").status, 401);
}

#[test]
fn without_a_user_agent_the_gateway_does_not_say_what_it_is() {
    let lane = Lane::take("network-user-agent");
    for (name, shown) in [("", None), ("Bob's exchange", Some("Bob's exchange"))] {
        let switch = operator(&lane, "operator-answers").start();
        let lane = Lane::take("network-user-agent-gateway");
        let gateway = builder(&lane, &switch).set("sip.user_agent", name).start();
        let caller = alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
        assert_eq!(switch.succeed().request("INVITE").header("User-Agent"), shown);
        assert_eq!(caller.response(200).header("Server"), shown);
    }
}
