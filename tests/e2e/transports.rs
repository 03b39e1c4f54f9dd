//! The core of an interconnect's checklist over every transport: the same flows over UDP, TCP and TLS, both ways.

use crate::scene::{ALICE, MOBILE, SECOND, STRANGER, operator};
use crate::support::{
    gateway::{Gateway, Section},
    lane::Lane,
    sipp::{Over, Sipp},
    tls::Authority,
};

/// A flow: who plays what, and what the trunk is set to.
struct Flow {
    caller: &'static str,
    callee: &'static str,
    with_caller: fn(Sipp) -> Sipp,
    with_callee: fn(Sipp) -> Sipp,
    trunk: fn(&mut Section),
}

fn flow(caller: &'static str, callee: &'static str) -> Flow {
    Flow { caller, callee, with_caller: |sipp| sipp, with_callee: |sipp| sipp, trunk: |_| () }
}

impl Flow {
    fn with_caller(self, with_caller: fn(Sipp) -> Sipp) -> Flow {
        Flow { with_caller, ..self }
    }

    fn with_callee(self, with_callee: fn(Sipp) -> Sipp) -> Flow {
        Flow { with_callee, ..self }
    }

    fn trunk(self, trunk: fn(&mut Section)) -> Flow {
        Flow { trunk, ..self }
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
            .trunk(|trunk| {
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
    ]
}

fn busy(sipp: Sipp) -> Sipp {
    sipp.code(486, "Busy Here")
}

fn timer(trunk: &mut Section) {
    trunk.set("session_timer_seconds", 1800);
}

fn prack(trunk: &mut Section) {
    trunk.set("prack", "supported");
}

/// Flows that play at the same time: they wait more than they work.
const AT_ONCE: usize = 4;

fn each(flows: &[Flow], play: impl Fn(usize, &Flow) + Sync) {
    let numbered: Vec<(usize, &Flow)> = flows.iter().enumerate().collect();
    for some in numbered.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let played: Vec<_> =
                some.iter().map(|(number, flow)| (flow, scope.spawn(|| play(*number, flow)))).collect();
            for (flow, played) in played {
                assert!(played.join().is_ok(), "{} to {}", flow.caller, flow.callee);
            }
        });
    }
}

/// The operator stands at an address of its own, since connections come from any port of it.
fn trunk_at<'a>(
    lane: &'a Lane,
    authority: &Authority,
    over: Over<'_>,
    port: u16,
    flow: &Flow,
) -> Gateway<'a> {
    let there = lane.own_ip();
    // The scenarios are of one session description, whatever carries them: their media is plain.
    let gateway = Gateway::on(lane).tls(authority).user("alice", ALICE).set("app.srtp", "off");
    gateway
        .trunk_with("operator-a", (there, port).into(), |trunk| {
            trunk.set("transport", over.as_str()).set("peers", vec![toml::Value::from(there.to_string())]);
            (flow.trunk)(trunk);
        })
        .start()
}

/// An app user calls, both legs over this transport.
fn from_user(over: Over<'_>, authority: &Authority) {
    each(&out(), |number, flow| {
        let lane = Lane::take(&format!("transports-out-{}-{number}", over.as_str()));
        let switch = operator(&lane, flow.callee).at(lane.own_ip());
        let switch = (flow.with_callee)(switch).over(over).start();
        let gateway = trunk_at(&lane, authority, over, switch.address().port(), flow);
        let caller = Sipp::client(&lane, flow.caller, gateway.at(over)).user("alice").number(MOBILE);
        let caller = (flow.with_caller)(caller.pause(SECOND)).over(over).start();
        caller.succeed();
        let via = format!("SIP/2.0/{} ", over.as_str().to_uppercase());
        let switch = switch.succeed();
        assert!(
            switch
                .requests("INVITE")
                .iter()
                .all(|invite| { invite.header("Via").is_some_and(|value| value.starts_with(&via)) })
        );
        gateway.wait_idle();
    });
}

/// The operator calls over this transport; the user's device is reached where it registered, over UDP.
fn from_trunk(over: Over<'_>, authority: &Authority) {
    each(&back(), |number, flow| {
        let lane = Lane::take(&format!("transports-in-{}-{number}", over.as_str()));
        let port = lane.port();
        let gateway = trunk_at(&lane, authority, over, port, flow);
        let device = lane.port();
        Sipp::register(&lane, gateway.udp(), "alice", device);
        let phone = (flow.with_callee)(operator(&lane, flow.callee)).at_port(device).start();
        let caller = Sipp::client(&lane, flow.caller, gateway.at(over)).at(lane.own_ip()).at_port(port);
        let caller = caller.number(ALICE).key("calling", STRANGER).pause(SECOND);
        (flow.with_caller)(caller).over(over).start().succeed();
        phone.succeed();
        gateway.wait_idle();
    });
}

fn authority() -> Authority {
    Authority::new("Tandem tests")
}

#[test]
fn a_user_and_a_trunk_over_udp() {
    from_user(Over::Udp, &authority());
}

#[test]
fn a_user_and_a_trunk_over_tcp() {
    from_user(Over::Tcp, &authority());
}

#[test]
fn a_user_and_a_trunk_over_tls() {
    let authority = authority();
    from_user(Over::Tls(&authority), &authority);
}

#[test]
fn a_trunk_calls_over_udp() {
    from_trunk(Over::Udp, &authority());
}

#[test]
fn a_trunk_calls_over_tcp() {
    from_trunk(Over::Tcp, &authority());
}

#[test]
fn a_trunk_calls_over_tls() {
    let authority = authority();
    from_trunk(Over::Tls(&authority), &authority);
}
