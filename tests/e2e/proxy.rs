//! Kamailio in front as an operator's proxy: it stays in the way of whole calls, both ways, whatever it speaks.

use crate::scene::{ALICE, MOBILE, SECOND, STRANGER, operator};
use crate::support::{
    gateway::{Gateway, GatewayBuilder},
    kamailio::{Kamailio, Outer},
    lane::Lane,
    sipp::{Played, Sipp},
    tls::Authority,
};

/// A gateway with alice, whose trunk is the proxy. Users stand at an address of their own: the proxy's connections come
/// from any port of its.
fn behind<'a>(gateway: GatewayBuilder<'a>, proxy: &Kamailio, transport: &str) -> Gateway<'a> {
    let gateway = gateway.user("alice", ALICE).trunk_with("operator-a", proxy.outer(), |trunk| {
        trunk.set("transport", transport).set("peers", vec![toml::Value::from("127.0.0.1")]);
    });
    gateway.start()
}

/// What the proxy speaks, and as what it is started.
#[derive(Clone, Copy)]
enum Kind {
    Loose(Outer, &'static str),
    Strict,
}

impl Kind {
    const ALL: [Kind; 4] = [
        Kind::Loose(Outer::Udp, "udp"),
        Kind::Loose(Outer::Tcp, "tcp"),
        Kind::Loose(Outer::Tls, "tls"),
        Kind::Strict,
    ];

    fn name(self) -> &'static str {
        match self {
            Kind::Loose(_, transport) => transport,
            Kind::Strict => "strict",
        }
    }

    fn start<'a>(self, lane: &'a Lane, switch: std::net::SocketAddr) -> (Kamailio, Gateway<'a>) {
        let authority = Authority::new("Tandem tests");
        let gateway = Gateway::on(lane).tls(&authority);
        let (proxy, transport) = match self {
            Kind::Loose(outer, transport) => {
                let at = if outer == Outer::Tls { gateway.tls_address() } else { gateway.udp() };
                (Kamailio::start(lane, outer, switch, at, Some(&authority)), transport)
            }
            Kind::Strict => (Kamailio::start_strict(lane, switch, gateway.udp()), "udp"),
        };
        let gateway = behind(gateway, &proxy, transport);
        (proxy, gateway)
    }

    /// All requests of a call have passed the proxy, in the way it has written itself in.
    fn check(self, proxy: &Kamailio, methods: &[&str]) {
        for method in methods {
            assert!(proxy.log().contains(&format!("proxy: {method} ")), "{method} passed the proxy by");
        }
    }
}

/// alice calls through the proxy.
fn out(kind: Kind, caller: &str, callee: &str) -> (Kamailio, Played) {
    let lane = Lane::take(&format!("proxy-{}-{caller}", kind.name()));
    let switch = operator(&lane, callee).pause(SECOND).start();
    let (proxy, gateway) = kind.start(&lane, switch.address());
    let caller = Sipp::client(&lane, caller, gateway.udp()).at(lane.own_ip()).user("alice").number(MOBILE);
    caller.pause(SECOND).start().succeed();
    let switch = switch.succeed();
    gateway.wait_idle();
    (proxy, switch)
}

/// Somebody calls alice through the proxy.
fn back(kind: Kind, caller: &str, callee: &str) -> Kamailio {
    let lane = Lane::take(&format!("proxy-{}-{caller}", kind.name()));
    let switch = lane.address();
    let (proxy, gateway) = kind.start(&lane, switch);
    let device = lane.port();
    let register = Sipp::registration(&lane, gateway.udp(), "user-registers", "alice", device);
    register.at(lane.own_ip()).start().succeed();
    let phone = operator(&lane, callee).at(lane.own_ip()).at_port(device).start();
    let caller = Sipp::client(&lane, caller, proxy.inner()).at_port(switch.port()).number(ALICE);
    caller.key("calling", STRANGER).pause(SECOND).start().succeed();
    phone.succeed();
    gateway.wait_idle();
    proxy
}

#[test]
fn the_users_requests_follow_the_proxys_routes() {
    for kind in Kind::ALL {
        let (proxy, switch) = out(kind, "user-holds-and-resumes", "operator-is-held-and-taken-back");
        kind.check(&proxy, &["INVITE", "ACK", "BYE"]);
        assert_eq!(switch.requests("INVITE").len(), 3, "{switch}");
        let strict = format!("proxy: BYE sip:{}", proxy.outer());
        // RFC 3261 §12.2.1.1: a strict router gets its own address as Request-URI, a loose one the far end's.
        assert_eq!(proxy.log().contains(&strict), matches!(kind, Kind::Strict));
    }
}

#[test]
fn the_operators_requests_come_back_through_the_proxy() {
    for kind in Kind::ALL {
        let (proxy, _) = out(kind, "user-is-held-and-hung-up-on", "operator-holds-and-resumes");
        kind.check(&proxy, &["INVITE", "ACK", "BYE"]);
    }
}

#[test]
fn a_call_of_the_operator_is_hung_up_on_through_the_proxy() {
    for kind in Kind::ALL {
        let proxy = back(kind, "operator-calls-and-is-hung-up-on", "user-answers-and-hangs-up");
        kind.check(&proxy, &["INVITE", "ACK", "BYE"]);
    }
}

#[test]
fn a_call_of_the_operator_ends_by_its_own_bye_through_the_proxy() {
    for kind in Kind::ALL {
        let proxy = back(kind, "operator-calls", "user-answers");
        kind.check(&proxy, &["INVITE", "ACK", "BYE"]);
    }
}

#[test]
fn a_call_runs_through_two_proxies() {
    let lane = Lane::take("proxy-two");
    let switch = operator(&lane, "operator-holds-and-resumes").pause(SECOND).start();
    let gateway = Gateway::on(&lane);
    // What begins behind the second one finds its way by the routes, never by this address.
    let far = Kamailio::start(&lane, Outer::Udp, switch.address(), lane.address(), None);
    let near = Kamailio::start(&lane, Outer::Udp, far.outer(), gateway.udp(), None);
    let gateway = behind(gateway, &near, "udp");
    let caller = Sipp::client(&lane, "user-is-held-and-hung-up-on", gateway.udp()).at(lane.own_ip());
    caller.user("alice").number(MOBILE).pause(SECOND).start().succeed();
    let switch = switch.succeed();
    assert_eq!(switch.request("INVITE").headers("Record-Route").count(), 4);
    for proxy in [near, far] {
        Kind::Loose(Outer::Udp, "udp").check(&proxy, &["INVITE", "ACK", "BYE"]);
    }
    gateway.wait_idle();
}
