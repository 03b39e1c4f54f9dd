//! What an operator's calls meet beyond the core of a checklist, over every transport: causes, numbers, header rules,
//! transfers, and other operators behind the gateway (RFC 3326, RFC 3398, RFC 3515, RFC 4694).

use crate::header_rules::rules;
use crate::scene::{ALICE, BLINK, BOB, MOBILE, SECOND, STRANGER, operator};
use crate::support::{
    gateway::Section,
    lane::Lane,
    sipp::{Over, Played, RunningSipp, Sipp},
    tls::Authority,
    trace::TracedMessage,
};
use crate::transfer::reports_and_end;
use crate::transports::{Flow, at_once, authority, flow, from_trunk, known_by_address, timer, trunk_at};
use std::net::SocketAddr;
use toml::Value as Toml;

/// Says this with the BYE or CANCEL that ends the call.
fn ending(field: &'static str) -> impl Fn(Sipp) -> Sipp + Sync + 'static {
    move |sipp| sipp.fill("ending", field)
}

#[track_caller]
fn says(message: &TracedMessage, name: &str, start: &str) {
    let value = message.header(name).unwrap_or_default();
    assert!(value.starts_with(start), "{name} of {}: {value}", message.start_line());
}

/// Flows from the trunk to an app user.
fn to_a_user(over: Over<'_>) -> Vec<Flow> {
    let reports = reports_and_end(over, &[100, 180, 200]);
    vec![
        flow("operator-calls", "user-answers")
            .with_caller(ending("Reason: Q.850;cause=41;text=\"mgw3 down\""))
            .check(|_, phone| {
                let bye = phone.request("BYE");
                says(bye, "Reason", "Q.850;cause=41;text=\"Temporary failure\"");
            }),
        flow("operator-calls-and-is-hung-up-on", "user-answers-and-hangs-up")
            .with_callee(ending("Reason: Q.850;cause=31"))
            .check(|switch, _| says(switch.request("BYE"), "Reason", "Q.850;cause=31;")),
        flow("operator-gives-up", "user-rings-until-cancelled")
            .with_caller(ending("Reason: SIP;cause=200;text=\"Call completed elsewhere\""))
            .check(|_, phone| says(phone.request("CANCEL"), "Reason", "SIP;cause=200")),
        flow("operator-gives-up", "user-rings-until-cancelled")
            .with_caller(ending("Reason: Q.850;cause=102"))
            .check(|_, phone| says(phone.request("CANCEL"), "Reason", "Q.850;cause=102;")),
        // RFC 3262 §3: who has to hear of progress and can not is not let in; who can is.
        flow("operator-answers-in-its-prack", "user-answers").trunk(|trunk, _| {
            trunk.set("prack", "required");
        }),
        // RFC 4028 §9: the operator leaves the refreshes to us.
        flow("operator-calls", "user-answers")
            .with_caller(|sipp| {
                sipp.fill("more", "Supported: timer\n      Session-Expires: 1800;refresher=uas")
            })
            .trunk(timer)
            .check(|switch, _| {
                let answer = switch.response(200);
                says(answer, "Session-Expires", "1800;refresher=uas");
            }),
        flow("operator-calls-and-holds", "user-is-called-and-held").with_caller(|sipp| {
            sipp.fill("hold", "a=sendrecv")
                .fill("hold_at", "c=IN IP4 0.0.0.0")
                .fill("held", "a=")
                .pause(BLINK)
        }),
        // The first of alice's devices is gone and has told nobody.
        flow("operator-calls", "user-answers").beside(|lane, gateway| {
            Sipp::register(lane, gateway.udp(), "alice", lane.port());
            Vec::new()
        }),
        flow("operator-calls", "user-answers")
            .with_caller(|sipp| sipp.number("25550001").key("calling", "470123456"))
            .trunk(national)
            .check(|_, phone| is_called_by(phone, MOBILE)),
        flow("operator-calls", "user-answers")
            .with_caller(|sipp| sipp.number("003225550001").key("calling", "0033140205050"))
            .trunk(national)
            .check(|_, phone| is_called_by(phone, STRANGER)),
        flow("operator-calls", "user-answers")
            .with_caller(|sipp| sipp.number("3225550001").key("calling", "33140205050"))
            .check(|_, phone| is_called_by(phone, STRANGER)),
        // RFC 4694: how a number came to be ours is nothing for a phone.
        flow("operator-calls", "user-answers")
            .with_caller(|sipp| sipp.number(&format!("{ALICE};npdi;rn=+3299000001")))
            .check(|_, phone| {
                is_called_by(phone, STRANGER);
                let invite = phone.request("INVITE");
                assert!(!invite.text.contains("rn="), "{}", invite.text);
            }),
        flow("operator-calls", "user-answers")
            .with_caller(|sipp| {
                let said = ["X-Class: hidden", "Subject: secret word", "X-Path: 10.0.0.7"];
                sipp.fill("more", &said.join("\n      ")).fill("ending", "X-Charge: 17")
            })
            .with_callee(|sipp| sipp.fill("more", "X-Handset: desk"))
            .trunk(|trunk, _| {
                trunk.set("header", rules(RULES));
            })
            .check(|switch, phone| {
                let (invite, bye) = (phone.request("INVITE"), phone.request("BYE"));
                says(invite, "From", "\"Anonymous\" <sip:anonymous@anonymous.invalid>");
                says(invite, "Subject", "word");
                assert_eq!((invite.header("X-Path"), invite.header("X-Charge")), (None, None));
                says(bye, "X-Charge", "17");
                let (ringing, answer) = (switch.response(180), switch.response(200));
                assert_eq!(ringing.header("X-Trunk"), None);
                assert_eq!(answer.header("X-Trunk"), Some("operator-a"));
                assert_eq!(answer.header("X-Device"), Some("desk"));
            }),
        flow("operator-calls-and-transfers", "user-answers-and-hangs-up")
            .with_caller(move |sipp| {
                let to = format!("sip:{BOB}@[realm]");
                sipp.fill("refer_to", &to).fill("reports", &reports).pause(BLINK)
            })
            .with_callee(|sipp| sipp.pause(3 * SECOND))
            .trunk(|trunk, _| {
                trunk.set("transfer", "users");
            })
            .beside(|lane, gateway| {
                let device = lane.port();
                Sipp::register(lane, gateway.udp(), "bob", device);
                vec![operator(lane, "user-answers").at_port(device).start()]
            })
            .check(|_, phone| assert_eq!(phone.requests("INVITE").len(), 1)),
    ]
}

fn national(trunk: &mut Section, _: SocketAddr) {
    trunk.set("called_format", "national").set("calling_format", "national");
}

fn is_called_by(phone: &Played, number: &str) {
    let invite = phone.request("INVITE");
    assert!(invite.header("From").is_some_and(|from| from.contains(number)), "{}", invite.text);
}

/// Of what comes, and of what is answered: each action once.
const RULES: &str = r#"
[[header]]
action = "add"
header = "Privacy"
value = "id"
direction = "from"
when = { header = "X-Class", pattern = "^hidden$" }
[[header]]
action = "replace"
header = "Subject"
direction = "from"
pattern = "secret (\\w+)"
replace = "$1"
[[header]]
action = "copy"
header = "Subject"
direction = "from"
[[header]]
action = "remove"
header = "X-Path"
direction = "from"
when = { header = "X-Path", pattern = "^10\\." }
[[header]]
action = "copy"
header = "X-Path"
direction = "from"
[[header]]
action = "copy"
header = "X-Charge"
direction = "from"
methods = ["BYE"]
[[header]]
action = "add"
header = "X-Trunk"
value = "{trunk}"
responses = ["200"]
[[header]]
action = "copy"
header = "X-Device"
from = "X-Handset"
responses = ["200"]
"#;

/// A call that somebody refuses, and what the operator hears of it.
struct Refusal {
    number: &'static str,
    /// What the device says; nothing rings where the gateway itself refuses.
    device: Option<(u16, &'static str)>,
    status: u16,
    q850: u8,
    /// A field of the answer, and how it begins.
    hint: Option<(&'static str, &'static str)>,
}

/// alice's device refuses.
fn device(said: (u16, &'static str), heard: (u16, u8)) -> Refusal {
    Refusal { number: ALICE, device: Some(said), status: heard.0, q850: heard.1, hint: None }
}

/// The gateway refuses.
fn ours(number: &'static str, heard: (u16, u8)) -> Refusal {
    Refusal { number, device: None, status: heard.0, q850: heard.1, hint: None }
}

impl Refusal {
    fn hint(self, name: &'static str, start: &'static str) -> Refusal {
        Refusal { hint: Some((name, start)), ..self }
    }
}

/// What is told of each is what RFC 3398 §8.2.6.1 makes of a status, and a cause before that (RFC 3326 §2).
fn refusals() -> Vec<Refusal> {
    const NOTHING: &str = "Server: phone";
    vec![
        device((486, NOTHING), (486, 17)),
        device((486, "Retry-After: 90"), (486, 17)).hint("Retry-After", "90"),
        device((603, NOTHING), (603, 21)),
        device((480, NOTHING), (480, 18)),
        device((480, "Reason: Q.850;cause=19"), (480, 19)),
        device((404, NOTHING), (404, 1)),
        device((410, NOTHING), (410, 22)),
        device((484, NOTHING), (484, 28)),
        // What is broken at a phone is for an operator a failure behind us; what it can not bear is our want of room.
        device((500, NOTHING), (502, 41)),
        device((500, "Reason: Q.850;cause=17"), (486, 17)),
        device((503, "Retry-After: 90"), (503, 41)),
        device((488, "Warning: 304 10.0.0.7 \"Media type not available\""), (488, 88))
            .hint("Warning", "304 tandem \"Media type not available\""),
        device((606, NOTHING), (606, 88)).hint("Warning", "399 tandem "),
        ours("00", (484, 28)),
        ours("+3225559999", (604, 1)),
        ours("+4915112345678", (404, 3)),
        ours(BOB, (480, 20)),
    ]
}

/// Each refusal of these in turn, and what the gateway says where no codec fits and while it drains.
fn refuse(name: &str, refusals: &[Refusal], over: Over<'_>, authority: &Authority) {
    let lane = Lane::take(name);
    let there = SocketAddr::new(lane.own_ip(), lane.port());
    let gateway = trunk_at(&lane, authority, over, there, |_, _| ()).start();
    let hears = |number: &str, status: u16, with: &dyn Fn(Sipp) -> Sipp| {
        let caller = Sipp::client(&lane, "operator-is-refused", gateway.at(over)).at(lane.own_ip());
        let caller = with(caller.number(number).key("calling", STRANGER).code(status, ""));
        caller.over(over).start().succeed().response(status).clone()
    };
    let phone_at = lane.port();
    if refusals.iter().any(|refusal| refusal.device.is_some()) {
        Sipp::register(&lane, gateway.udp(), "alice", phone_at);
    }
    for refusal in refusals {
        let phone = refusal.device.map(|(status, extra)| {
            let phone = operator(&lane, "user-refuses").code(status, "Whatever").fill("extra", extra);
            phone.at_port(phone_at).start()
        });
        let heard = hears(refusal.number, refusal.status, &|caller| caller);
        phone.map(RunningSipp::succeed);
        says(&heard, "Reason", &format!("Q.850;cause={};", refusal.q850));
        match refusal.hint {
            Some((name, start)) => says(&heard, name, start),
            None => assert_eq!((heard.header("Retry-After"), heard.header("Warning")), (None, None)),
        }
    }
    let heard = hears(ALICE, 488, &|caller| caller.fill("payload", "18").fill("encoding", "G729"));
    says(&heard, "Warning", "305 tandem ");
    assert_eq!(gateway.ask("POST", "/api/v1/drain", None).status, 200);
    let heard = hears(ALICE, 503, &|caller| caller);
    says(&heard, "Reason", "Q.850;cause=42;");
    says(&heard, "Retry-After", "30");
    gateway.wait_idle();
}

/// A call of an operator that goes on to others, each at an address of its own.
struct Transit {
    number: &'static str,
    caller: &'static str,
    status: u16,
    /// The operators that the dialplan names, in its order.
    switches: &'static [&'static str],
    /// Where the last one of them may be sent on to is none of the dialplan's.
    listed: bool,
    trunk: fn(&mut Section, SocketAddr),
    check: fn(&[Played]),
}

const TRANSIT: Transit = Transit {
    number: MOBILE,
    caller: "operator-calls",
    status: 200,
    switches: &["operator-answers"],
    listed: false,
    trunk: |_, _| (),
    check: |_| (),
};

/// Where nobody listens.
const NOWHERE: u16 = 9;

fn transits() -> Vec<Transit> {
    vec![
        // A short number goes as it is, and a national one in the next trunk's form.
        Transit { number: "1207", check: |switches| calls(&switches[0], "sip:1207@"), ..TRANSIT },
        Transit {
            number: "0470123456",
            trunk: |trunk, _| {
                trunk.set("called_format", "00e164");
            },
            check: |switches| calls(&switches[0], "sip:0032470123456@"),
            ..TRANSIT
        },
        Transit {
            number: "+32470123456;npdi;rn=+3299000001",
            trunk: |trunk, _| {
                trunk.set("portability", "pass");
            },
            check: |switches| calls(&switches[0], "sip:+32470123456;npdi;rn=+3299000001@"),
            ..TRANSIT
        },
        // RFC 3263 §4.3: nobody is at the first address of the trunk.
        Transit {
            trunk: |trunk, there| {
                let proxies = [SocketAddr::new(there.ip(), NOWHERE), there].map(|at| at.to_string());
                trunk.set("proxy", proxies.map(Toml::from).to_vec());
            },
            ..TRANSIT
        },
        // The first trunk has no room, or says who is not there: that only another one could not change.
        Transit { switches: &["operator-refuses-at-once", "operator-answers"], ..TRANSIT },
        Transit {
            switches: &["operator-refuses"],
            caller: "operator-is-refused",
            status: 486,
            check: |switches| assert_eq!(switches[0].requests("ACK").len(), 1),
            ..TRANSIT
        },
        // RFC 3261 §21.3: nothing is followed that nobody listed.
        Transit { switches: &["operator-sends-on"], caller: "operator-is-refused", status: 502, ..TRANSIT },
        Transit { switches: &["operator-sends-on", "operator-answers"], listed: true, ..TRANSIT },
    ]
}

#[track_caller]
fn calls(switch: &Played, start: &str) {
    let invite = switch.request("INVITE");
    assert!(invite.uri().is_some_and(|uri| uri.starts_with(start)), "{}", invite.start_line());
}

fn pass_through(name: &str, transit: &Transit, over: Over<'_>, authority: &Authority) {
    let lane = Lane::take(name);
    let hosts: Vec<SocketAddr> = (0..transit.switches.len())
        .map(|index| SocketAddr::new(lane.ip(2 + index as u8), lane.port()))
        .collect();
    let last = hosts.last().expect("somebody to call").to_string();
    let start = |index: usize, scenario: &str| {
        let switch =
            operator(&lane, scenario).code(if scenario == "operator-refuses" { 486 } else { 503 }, "No");
        let switch = switch.fill("place", &last).fill("number", MOBILE);
        switch.at(hosts[index].ip()).at_port(hosts[index].port()).over(over).start()
    };
    let switches: Vec<RunningSipp> =
        transit.switches.iter().enumerate().map(|(index, scenario)| start(index, scenario)).collect();
    let mut gateway =
        trunk_at(&lane, authority, over, SocketAddr::new(lane.own_ip(), lane.port()), |_, _| ());
    let mut named = Vec::new();
    for (index, there) in hosts.iter().enumerate() {
        let known = format!("operator-{index}");
        gateway = gateway.trunk_with(&known, *there, |trunk| {
            known_by_address(trunk, over, *there);
            (transit.trunk)(trunk, *there);
            if transit.listed {
                trunk.set("redirect_to", vec![Toml::from(last.clone())]);
            }
        });
        named.push(format!("\"{known}\""));
    }
    if transit.listed {
        named.pop();
    }
    let rule = |what: &str| {
        format!(
            "[[rule]]\nname = \"{what}\"\nfrom = \"trunk:operator-a\"\nmatch = \"{what}\"\ntrunks = [{}]\n",
            named.join(", ")
        )
    };
    let dialplan = format!("country_code = \"32\"\n{}{}", rule("1207"), rule("+32"));
    let gateway = gateway.dialplan(&dialplan).start();
    let caller = Sipp::client(&lane, transit.caller, gateway.at(over)).at(lane.own_ip());
    let caller = caller.number(transit.number).key("calling", STRANGER).code(transit.status, "").pause(BLINK);
    caller.over(over).start().succeed();
    let played: Vec<Played> = switches.into_iter().map(RunningSipp::succeed).collect();
    assert!(played.iter().all(|switch| switch.requests("INVITE").len() == 1), "each is asked once");
    (transit.check)(&played);
    gateway.wait_idle();
}

/// All of it over one transport.
fn over(over: Over<'_>, authority: &Authority) {
    let speaks = over.as_str();
    from_trunk("inbound", &to_a_user(over), over, authority);
    let refusals = refusals();
    let some: Vec<&[Refusal]> = refusals.chunks(4).collect();
    let first = |some: &&[Refusal]| some.first().map_or(0, |refusal| refusal.status).to_string();
    at_once(&some, first, |number, some| {
        refuse(&format!("inbound-refused-{speaks}-{number}"), some, over, authority);
    });
    at_once(
        &transits(),
        |transit| transit.switches.join(", "),
        |number, transit| {
            pass_through(&format!("inbound-transit-{speaks}-{number}"), transit, over, authority);
        },
    );
}

#[test]
fn what_an_operators_call_brings_and_meets_crosses_over_udp() {
    over(Over::Udp, &authority());
}

#[test]
fn what_an_operators_call_brings_and_meets_crosses_over_tcp() {
    over(Over::Tcp, &authority());
}

#[test]
fn what_an_operators_call_brings_and_meets_crosses_over_tls() {
    let authority = authority();
    over(Over::Tls(&authority), &authority);
}
