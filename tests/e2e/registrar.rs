//! Trunks by registration, as SIPconnect has them: Kamailio and SIPp as an operator that is registered at, says which way
//! calls go, and rings the registered Contact.

use crate::scene::{ALICE, MOBILE, SECOND, STRANGER, operator};
use crate::support::{
    gateway::{Gateway, GatewayBuilder},
    kamailio::Kamailio,
    lane::Lane,
    sipp::Sipp,
    wait,
};
use std::net::SocketAddr;

const USER: &str = "gw";
const SECRET: &str = "trunk-secret";

fn registering<'a>(
    lane: &'a Lane,
    registrar: SocketAddr,
    settings: &[(&str, toml::Value)],
) -> GatewayBuilder<'a> {
    Gateway::on(lane).user("alice", ALICE).trunk_with("operator-a", registrar, |trunk| {
        trunk.set("auth", "register").set("username", USER).set("password", SECRET);
        trunk.set("domain", "operator.test").set("options_seconds", 0);
        for (key, value) in settings {
            trunk.set(key, value.clone());
        }
    })
}

fn wait_registered(gateway: &Gateway) {
    wait::until("the trunk to be registered", wait::SOON, || {
        let trunks = gateway.list("/api/v1/trunks", "trunks");
        (trunks[0]["registration"]["state"] == "registered").then_some(())
    });
}

/// alice's device at an address of its own, for a call of the operator.
fn phone(lane: &Lane, gateway: &Gateway) -> crate::support::sipp::RunningSipp {
    let device = lane.port();
    let register = Sipp::registration(lane, gateway.udp(), "user-registers", "alice", device);
    register.at(lane.own_ip()).start().succeed();
    operator(lane, "user-answers").at(lane.own_ip()).at_port(device).start()
}

#[test]
fn kamailio_gives_the_way_of_our_calls_with_the_registration_and_rings_our_contact() {
    for called_from in ["to", "p-called-party-id"] {
        let lane = Lane::take(&format!("registrar-{called_from}"));
        let switch = operator(&lane, "operator-answers").start();
        let port = switch.address().port();
        let registrar = Kamailio::operators_registrar(&lane, switch.address(), USER, SECRET);
        let gateway = registering(&lane, registrar.outer(), &[("called_from", called_from.into())]).start();
        wait_registered(&gateway);

        let caller = Sipp::client(&lane, "user-calls", gateway.udp()).at(lane.own_ip());
        caller.user("alice").number(MOBILE).pause(SECOND).start().succeed();
        let invite = switch.succeed().request("INVITE").clone();
        assert_eq!(invite.header("Route"), None, "the proxy has taken its own");
        let way = format!("way: <sip:orig@{};lr>", registrar.outer());
        assert!(registrar.log().contains(&way), "no {way}");

        let phone = phone(&lane, &gateway);
        let caller = Sipp::client(&lane, "operator-calls", registrar.outer()).at_port(port).number(ALICE);
        caller.key("calling", STRANGER).pause(SECOND).start().succeed();
        phone.succeed();
        assert!(registrar.log().contains(&format!("proxy: INVITE sip:{ALICE}@")));
        gateway.wait_idle();
    }
}

#[test]
fn all_numbers_are_registered_at_once_and_rung_at_our_address() {
    let lane = Lane::take("registrar-bulk");
    let registrar = operator(&lane, "operator-takes-registration").key("granted", "600");
    let registrar = registrar.key("operator_realm", "operator.test").start();
    let port = registrar.address().port();
    let gateway = registering(&lane, registrar.address(), &[("register_bulk", true.into())]).start();
    wait_registered(&gateway);
    let registrar = registrar.succeed();
    for register in registrar.requests("REGISTER") {
        let contact = register.header("Contact").unwrap_or_default();
        assert_eq!(contact, format!("<sip:{};bnc>", gateway.udp()));
        assert_eq!(
            (register.header("Require"), register.header("Proxy-Require")),
            (Some("gin"), Some("gin"))
        );
    }
    // RFC 6140 §5.3: the registrar puts the number before the address.
    let phone = phone(&lane, &gateway);
    let caller = Sipp::client(&lane, "operator-calls", gateway.udp()).at_port(port).number(ALICE);
    let caller = caller.key("realm", &gateway.udp().to_string()).key("calling", STRANGER);
    caller.pause(SECOND).start().succeed();
    phone.succeed();
    gateway.wait_idle();
}
