//! Calls for help over every transport: who and where, fail-over, past limits, and back (RFC 5031, RFC 6442, RFC 7090).

use super::says;
use crate::emergency;
use crate::scene::{ALICE, BLINK, MOBILE, STRANGER, operator};
use crate::support::{
    gateway::{Gateway, GatewayBuilder, Section},
    lane::Lane,
    sipp::{Over, Played, RunningSipp, Sipp},
    tls::Authority,
    trace::TracedMessage,
};
use crate::transports::{at_once, authority, known_by_address};
use serde_json::{Value, json};

/// A caller for help and those who help, each at an address of its own.
struct Emergency<'a> {
    lane: &'a Lane,
    over: Over<'a>,
    authority: &'a Authority,
}

impl<'a> Emergency<'a> {
    fn helper(&self, host: u8, scenario: &str) -> Sipp {
        operator(self.lane, scenario).at(self.lane.ip(host)).code(486, "Busy Here").over(self.over)
    }

    /// Trunks to these helpers are tried in their order.
    fn gateway(&self, helpers: &[&RunningSipp], more: impl Fn(&mut Section)) -> GatewayBuilder<'a> {
        let names: Vec<String> = (0..helpers.len()).map(|index| format!("helper-{index}")).collect();
        let listed: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let mut gateway = emergency::gateway(self.lane, &listed.join(", ")).tls(self.authority);
        gateway = gateway.set("app.srtp", "off");
        for (name, helper) in names.iter().zip(helpers) {
            gateway = gateway.trunk_with(name, helper.address(), |trunk| {
                known_by_address(trunk, self.over, helper.address());
                more(trunk);
            });
        }
        gateway
    }

    /// alice calls the emergency number.
    fn calls(&self, gateway: &Gateway<'_>, scenario: &str) -> Sipp {
        let sipp = Sipp::client(self.lane, scenario, gateway.at(self.over)).user("alice").number("112");
        sipp.pause(BLINK).over(self.over)
    }

    /// What whoever helps was asked, and what an independent reader finds in it.
    fn asked(&self, helper: &Played) -> (TracedMessage, Value) {
        let invite = helper.request("INVITE");
        let via = format!("SIP/2.0/{} ", self.over.as_str().to_uppercase());
        says(invite, "Via", &via);
        says(invite, "Priority", "emergency");
        says(invite, "Resource-Priority", "esnet.0");
        (invite.clone(), emergency::location(self.lane, invite))
    }
}

fn help_knows_who_calls_and_where(scene: &Emergency<'_>) {
    let helper = scene.helper(2, "helper-answers").start();
    let gateway = scene.gateway(&[&helper], |trunk| {
        trunk.set("identity", "pai");
    });
    let gateway = gateway.start();
    scene.calls(&gateway, "user-calls").fill("more", "Privacy: id").start().succeed();
    let (invite, told) = scene.asked(&helper.succeed());
    assert!(invite.uri().is_some_and(|uri| uri.starts_with("sip:112@")), "{}", invite.start_line());
    assert_eq!(invite.header("Privacy"), None);
    assert!(invite.header("P-Asserted-Identity").is_some_and(|value| value.contains(ALICE)));
    assert_eq!(
        (&told["country"], &told["HNO"], &told["routing"]),
        (&json!("BE"), &json!("16"), &json!("yes"))
    );
    assert_eq!(gateway.wait_cdr()["emergency"], "call");
    gateway.wait_idle();
}

fn a_device_says_where_it_is_in_an_urn(scene: &Emergency<'_>) {
    let helper = scene.helper(2, "helper-answers").start();
    let gateway = scene.gateway(&[&helper], |trunk| {
        trunk.set("emergency_format", "urn");
    });
    let gateway = gateway.start();
    scene.calls(&gateway, "user-calls-with-location").start().succeed();
    let (invite, told) = scene.asked(&helper.succeed());
    assert_eq!(invite.uri(), Some("urn:service:sos"));
    assert_eq!((&told["ROOM"], &told["entity"]), (&json!("Cellar 7"), &json!("pres:alice@device")));
    gateway.wait_idle();
}

fn a_busy_trunk_is_passed_over(scene: &Emergency<'_>) {
    let busy = scene.helper(2, "helper-refuses").start();
    let helper = scene.helper(3, "helper-answers").start();
    let gateway = scene.gateway(&[&busy, &helper], |_| ()).start();
    scene.calls(&gateway, "user-calls").start().succeed();
    scene.asked(&busy.succeed());
    let (_, told) = scene.asked(&helper.succeed());
    assert_eq!(told["RD"], "Rue \"Royale\" & Cie");
    let cdr = gateway.wait_cdr();
    assert_eq!(cdr["legs"].as_array().map(Vec::len), Some(2), "{cdr:#}");
    gateway.wait_idle();
}

fn the_truth_is_told_in_the_end(scene: &Emergency<'_>) {
    let busy = scene.helper(2, "helper-refuses").calls(2).start();
    let gateway = scene.gateway(&[&busy], |_| ()).set("limits.ring_seconds", 2).start();
    let caller = scene.calls(&gateway, "user-is-refused").code(486, "").start().succeed();
    says(caller.response(486), "Reason", "Q.850;cause=17");
    assert_eq!(busy.succeed().requests("INVITE").len(), 2, "tried again");
    gateway.wait_idle();
}

fn a_full_and_draining_gateway_helps_and_is_called_back(scene: &Emergency<'_>) {
    let device = scene.lane.port();
    let helper = scene.helper(2, "helper-answers").start();
    let gateway = scene.gateway(&[&helper], |trunk| {
        trunk.set("max_channels", 1);
    });
    let gateway = gateway.set("limits.max_calls", 1).start();
    Sipp::register(scene.lane, gateway.udp(), "alice", device);
    assert_eq!(gateway.ask("POST", "/api/v1/drain", None).status, 200);
    let other = Sipp::client(scene.lane, "user-is-refused", gateway.at(scene.over)).user("alice");
    other.number(MOBILE).code(503, "").over(scene.over).start().succeed();
    scene.calls(&gateway, "user-calls").start().succeed();
    let there = helper.address().ip();
    scene.asked(&helper.succeed());
    let phone = operator(scene.lane, "user-answers").at_port(device).start();
    let back = Sipp::client(scene.lane, "operator-calls", gateway.at(scene.over)).at(there);
    let back = back.number(ALICE).key("calling", STRANGER).pause(BLINK);
    back.over(scene.over).start().succeed();
    says(phone.succeed().request("INVITE"), "Priority", "psap-callback");
    let cdrs = gateway.wait_cdrs(3);
    let kinds: Vec<_> = cdrs.iter().filter_map(|cdr| cdr["emergency"].as_str()).collect();
    assert_eq!(kinds, ["call", "callback"]);
    gateway.wait_idle();
}

fn call_for_help_over(over: Over<'_>, authority: &Authority) {
    type Row = (&'static str, fn(&Emergency<'_>));
    let rows: [Row; 5] = [
        ("who and where", help_knows_who_calls_and_where),
        ("the device's own word", a_device_says_where_it_is_in_an_urn),
        ("fail-over", a_busy_trunk_is_passed_over),
        ("nobody helps", the_truth_is_told_in_the_end),
        ("past limits, and back", a_full_and_draining_gateway_helps_and_is_called_back),
    ];
    at_once(
        &rows,
        |(name, _)| (*name).to_owned(),
        |number, (_, play)| {
            let lane = Lane::take(&format!("services-help-{}-{number}", over.as_str()));
            play(&Emergency { lane: &lane, over, authority });
        },
    );
}

#[test]
fn calls_for_help_reach_those_who_help_over_udp() {
    call_for_help_over(Over::Udp, &authority());
}

#[test]
fn calls_for_help_reach_those_who_help_over_tcp() {
    call_for_help_over(Over::Tcp, &authority());
}

#[test]
fn calls_for_help_reach_those_who_help_over_tls() {
    let authority = authority();
    call_for_help_over(Over::Tls(&authority), &authority);
}
